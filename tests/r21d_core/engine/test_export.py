"""An exported file computes the network's logits for any batch, and tells how to feed it."""

import contextlib
import io
import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from r21d_core import R21DError, load
from r21d_core.cli import main
from r21d_core.data.transforms import FLOW_MEAN, MEAN, STD, center_crop
from r21d_core.engine import classify
from r21d_core.engine import export as module
from r21d_core.engine.export import export
from r21d_core.engine.train import train
from r21d_core.models.zoo import Published
from tests.bad_videos import blocks, write_video
from tests.r21d_core.engine.test_train import SPEC
from tests.r21d_core.models.test_load import small

# What a program without this package does with a .pt2 file.
FRESH = """
import sys, torch
files = {"metadata.json": ""}
network = torch.export.load(sys.argv[1], extra_files=files).module()
clips, logits = torch.load(sys.argv[2])
torch.testing.assert_close(network(clips), logits, rtol=1e-4, atol=1e-5)
assert not any(name.startswith("r21d") for name in sys.modules)
print(files["metadata.json"])
"""


HOWTO = Path(__file__).parents[3] / "docs" / "howto.md"


# By PyTorch 2.11's own exporter, and its reading of a .pt2 file.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:The given buffer is not writable")


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory):
    spec = SPEC.replace(epochs=1, eval_clips=3, frame_height=19, frame_stride=2)
    return train(spec, tiny, tmp_path_factory.mktemp("runs"), device="cpu", cache="host")


@pytest.fixture(scope="module")
def onnx_file(run, tmp_path_factory):
    """The file that the command writes, and what it says."""
    pytest.importorskip("onnxruntime")
    folder, said = tmp_path_factory.mktemp("onnx"), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(said):
        assert main(["export", str(run.folder), "--format", "onnx"]) == 0
    return folder / "exports" / f"{run.folder.name}.onnx", said.getvalue()


@pytest.fixture(scope="module")
def pt2_file(run):
    """Of the folder by its name from inside."""
    with contextlib.chdir(run.folder):
        assert main(["export", ".", "--format", "pt2"]) == 0
    return run.folder / "exports" / f"{run.folder.name}.pt2"


def clips_and_logits(run, count):
    spec = run.spec
    clips = torch.randn(count, 3, spec.frames, spec.crop, spec.crop, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return clips, load(run, device="cpu").model(clips)


def test_onnx_runtime_computes_the_logits(run, onnx_file):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, said = onnx_file
    assert f"exports/{path.name}: {run.spec.variant}-" in said
    assert float(said.split("logits ")[1].split(",")[0]) < 1e-4
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [value.shape[0] for value in (*session.get_inputs(), *session.get_outputs())] == ["batch"] * 2
    for count in (1, 5):
        clips, logits = clips_and_logits(run, count)
        (result,) = session.run(None, {"clips": clips.numpy()})
        torch.testing.assert_close(torch.from_numpy(result), logits, rtol=1e-4, atol=1e-5)
    values = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert values["classes"] == list(run.scores.classes) and values["mean"] == list(MEAN) and values["std"] == list(STD)
    assert [values[key] for key in ("frames", "frame_stride", "crop")] == [run.spec.frames, 2, run.spec.crop]


@pytest.mark.parametrize("clips", [1, 3])
def test_sampler_of_the_howto_computes_the_logits_of_predict(clips, run, onnx_file, tmp_path, monkeypatch):
    """Of videos that are scaled, also to an odd height, have the size already, or are shorter than a clip."""
    onnx = pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exports").mkdir()
    exported = onnx.load(onnx_file[0])
    (eval_clips,) = [prop for prop in exported.metadata_props if prop.key == "eval_clips"]
    eval_clips.value = str(clips)
    onnx.save(exported, "exports/RUN.onnx")
    section = HOWTO.read_text().split("\n## Use a trained network")[1].split("\n## ")[0]
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", section, re.S) if "onnxruntime" in code]
    model = load(run, device="cpu")
    for count, height, width in (21, 48, 64), (30, 90, 120), (9, 19, 24), (5, 48, 64):
        pix_fmt = "yuv444p" if height % 2 else "yuv420p"
        write_video(tmp_path / "video.mp4", blocks(count, height, width), pix_fmt=pix_fmt)
        names: dict = {}
        exec(code, names)
        prediction, logits = model.predict("video.mp4", clips=clips), torch.from_numpy(names["logits"])
        order = [run.scores.classes.index(name) for name, _ in prediction.top]
        np.testing.assert_allclose(logits.softmax(1)[:, order], prediction.clip_probs, rtol=1e-4)
        decoded = classify._decode("video.mp4", model.weights, {"eval_clips": clips})
        with torch.inference_mode():
            expected = model.model(center_crop(torch.from_numpy(decoded.pixels), run.spec))
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_both_formats_tell_how_clips_are_cut(run, onnx_file, pt2_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    props = onnx.load(onnx_file[0]).metadata_props
    files = {module.METADATA: ""}
    torch.export.load(pt2_file, extra_files=files)
    values = json.loads(files[module.METADATA])
    assert {prop.key: json.loads(prop.value) for prop in props} == values
    assert values["eval_clips"] == run.spec.eval_clips and values["frame_rate"] is None
    told = [values[key] for key in ("frame", "clips", "center_crop", "averaging")]
    assert all(word in text for word, text in zip(("bilinear", "room", "row", "softmax"), told, strict=True))
    assert "gbrp" in values["frame"]
    renamed = shutil.copy(pt2_file, tmp_path / "renamed.pth")
    for path, opens in (onnx_file[0], "onnxruntime.InferenceSession"), (renamed, "torch.export.load"):
        with pytest.raises(R21DError, match=rf"{path.name}: an exported network, which {opens} opens"):
            load(path)


def test_published_weights_tell_their_frame_rate(tmp_path, monkeypatch):
    torch.save(small("R3D", num_classes=400).state_dict(), tmp_path / "r3d.pth")
    loaded = module.read_weights(tmp_path / "r3d.pth")
    row = Published("r3d", f"http://nowhere.example/r3d-{loaded.sha256[:8]}.pth", "R3D", 10, 12, 400, "", "", 15)
    monkeypatch.setattr(classify, "PUBLISHED", (row,))
    assert module.metadata(loaded)["frame_rate"] == 15


def test_pt2_file_loads_in_a_fresh_process(run, pt2_file, tmp_path):
    torch.save(clips_and_logits(run, 5), tmp_path / "clips.pt")
    command = [sys.executable, "-c", FRESH, str(pt2_file), str(tmp_path / "clips.pt")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["classes"] == list(run.scores.classes)


def test_full_disk_is_an_error_that_names_the_file(run, tmp_path, capsys):
    """Where PyTorch writes the file, such as a temporary one, it aborts the process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        code = main(["export", str(run.folder), "--format", "pt2", "--out", str(tmp_path / "net.pt2")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and "net.pt2: could not be written (File too large)" in capsys.readouterr().err
    assert not [*tmp_path.glob("net*")]


def test_folder_is_named_from_inside_too(pt2_file):
    assert pt2_file.exists()


def test_different_logits_are_refused(tmp_path, monkeypatch):
    torch.save(small("R3D", num_classes=3).state_dict(), tmp_path / "r3d.pth")
    other, save = small("R3D", num_classes=3).eval(), module._save_pt2
    monkeypatch.setattr(module, "_save_pt2", lambda *arguments: (save(*arguments)[0], other))
    says = r"net\.pt2: not written, as its output differs from the network's: largest difference"
    with pytest.raises(R21DError, match=says):
        export(tmp_path / "r3d.pth", "pt2", tmp_path / "net.pt2")
    assert not (tmp_path / "net.pt2").exists()


def test_weights_for_flow_state_their_normalization(tmp_path):
    torch.save(small("R3D", in_channels=2).state_dict(), tmp_path / "flow.pth")
    values = module.metadata(module.read_weights(tmp_path / "flow.pth"))
    assert values["mean"] == list(FLOW_MEAN) and "optical flow" in values["input"]
    assert "Farneback's flow over 1 frame at 128×171" in values["frame"] and "bilinear" not in values["frame"]
    assert values["classes"][0] == "output 0"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["gone", "--format", "pt2"], "gone: neither an existing file"),
        (["gone", "--format", "pt2", "--out", "net.onnx"], "net.onnx: expected a name that ends in .pt2"),
        (["gone", "--format", "onnx"], "ONNX needs onnxscript, not installed here: pip install onnx onnxscript onnxru"),
    ],
)
def test_impossible_exports_are_one_line(arguments, says, capsys, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: name != "onnxscript")
    assert main(["export", *arguments]) == 1
    said = capsys.readouterr().err
    assert says in said and len(said.splitlines()) == 1
