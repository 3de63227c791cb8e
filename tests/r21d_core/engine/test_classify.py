"""Classifying one video gives what the evaluation of a run gives for it."""

import csv
import inspect
import json
import subprocess
import sys
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from r21d_core import R21DError, load, package_folder
from r21d_core.cli import main
from r21d_core.data import parallel
from r21d_core.data.decode import read_all
from r21d_core.data.parallel import MIN_ITEMS
from r21d_core.data.transforms import center_crop
from r21d_core.engine import classify as module
from r21d_core.models.network import VideoResNet
from r21d_core.models.zoo import Published, kinetics400
from r21d_core.runs.run import load_runs
from r21d_core.study.spec import Spec
from tests.bad_videos import write_video
from tests.r21d_core.engine.test_train import SPEC
from tests.r21d_core.models.test_load import as_theirs, small


@pytest.fixture
def noise(tmp_path):
    return write_video(tmp_path / "noise.mp4", np.random.default_rng(0).integers(0, 256, (21, 48, 64, 3), np.uint8))


@pytest.fixture
def file(tmp_path):
    """Random weights of a small R3D for 400 classes under torchvision's names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(as_theirs(small("R3D", num_classes=400)), tmp_path / "r3d.pth")
    return tmp_path / "r3d.pth"


@pytest.mark.parametrize("task", ["action", "speed"])
def test_prediction_equals_the_evaluation_of_the_run(task, tiny, fit):
    run = fit(SPEC.replace(task=task, epochs=1, eval_clips=5), cache="host")
    scores, labels = run.scores, 1 if task == "action" else 4
    for number, video in enumerate(tiny.split("test")):
        # for speed each video has one item per rate, the first of which is its own
        expected = softmax(scores.logits[number * labels].astype(np.float64), axis=-1).mean(0)
        for weights in (run, run.folder, run.folder / "checkpoint.pt"):
            prediction = load(weights, device="cpu").predict(video.path, clips=5)
        assert [name for name, _ in prediction.top] == [scores.classes[index] for index in np.argsort(-expected)]
        np.testing.assert_allclose([share for _, share in prediction.top], -np.sort(-expected), rtol=1e-4)
        assert "classes of the run" in prediction.protocol
        assert f"from {video.frames} at 25 frames" in prediction.protocol


def test_top_five_equal_a_numpy_implementation(noise, file):
    """Compare with numpy and one forward pass, written from the definition of the protocol."""
    prediction = load(file, device="cpu").predict(noise, clips=3, frames=8)
    pixels = read_all(noise, (128, 171))
    cropped = pixels[:, 8:120, 29:141]
    scaled = (cropped / 255 - [0.43216, 0.394666, 0.37645]) / [0.22803, 0.22145, 0.216989]
    clips = np.stack([scaled[start : start + 8] for start in (0, 6, 13)]).transpose(0, 4, 1, 2, 3)
    network = VideoResNet("R3D", 10, 4, num_classes=400, eps=1e-5).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.load_state_dict(small("R3D", num_classes=400).state_dict())
    with torch.no_grad():
        expected = network(torch.from_numpy(clips).float()).softmax(1).mean(0)
    best = expected.argsort(descending=True)[:5]
    assert [name for name, _ in prediction.top] == [kinetics400()[index] for index in best]
    np.testing.assert_allclose([share for _, share in prediction.top], expected[best], rtol=1e-4)
    np.testing.assert_allclose(prediction.clip_probs.mean(0), expected[best], rtol=1e-4)
    assert prediction.center_frames.tolist() == [4, 10, 17]
    assert np.array_equal(prediction.frames, cropped[[4, 10, 17]])
    assert "R3D-10 (torchvision); 3 clips of 8 frames, stride 1, from 21 at 25 frames a second" in prediction.protocol


def test_published_weights_set_clip_length_and_stride(noise, file, monkeypatch):
    sha = module.read_weights(file).sha256[:8]
    row = Published("r3d", f"http://nowhere.example/r3d-{sha}.pth", "R3D", 10, 12, 400, "", "", 15)
    assert "3 clips of 16 frames, stride 1," in load(file, device="cpu").predict(noise, clips=3).protocol
    monkeypatch.setattr(module, "PUBLISHED", (row,))
    for options, expected in ({}, "12 frames, stride 2,"), ({"frames": 4, "frame_stride": 3}, "4 frames, stride 3,"):
        assert f"3 clips of {expected}" in load(file, device="cpu").predict(noise, clips=3, **options).protocol
    weights = module.read_weights(file)
    rates = {None: 1, 5: 1, 15: 1, 24: 2, 29.97: 2, 60: 4}
    assert {fps: module.spec_for_video(weights, fps).frame_stride for fps in rates} == rates


def test_predictor_says_what_it_is(file):
    assert repr(load(file, device="cpu")) == f"<Predictor of {file}: R3D-10 of 400 classes, on cpu>"


def test_features_are_the_mean_of_pooled_conv5_x(noise, file):
    predictor = load(file, device="cpu")
    pixels = torch.from_numpy(read_all(noise, (128, 171)))
    clips = torch.stack([pixels[start : start + 8] for start in (0, 6, 13)])
    with torch.inference_mode():
        expected = predictor.model.forward_features(center_crop(clips, Spec())).mean((0, 2, 3, 4))
    features = predictor.features(noise, clips=3, frames=8)
    assert features.shape == (8 * 4,)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-6)
    assert predictor.features([noise, noise], clips=3, frames=8).shape == (2, 8 * 4)


def test_features_of_a_folder_survive_a_broken_video(folder, noise, file, monkeypatch):
    predictor, frames = load(file, device="cpu"), []
    predict = predictor._prediction

    def watched(*arguments):
        assert sum(reference() is not None for reference in frames) <= 1, "more frames than the last video's"
        prediction = predict(*arguments)
        frames.append(weakref.ref(prediction.frames))
        return prediction

    monkeypatch.setattr(predictor, "_prediction", watched)
    with pytest.warns(UserWarning, match=r"(?s)1 of 4 videos could not be read; their rows are NaN:.*broken\.mp4: "):
        features = predictor.features([folder, noise], clips=1, frames=4)
    assert len(frames) == 3 and features.shape == (4, 8 * 4) and features.dtype == np.float32
    assert [bool(np.isnan(row).all()) for row in features] == [False, True, False, False]
    np.testing.assert_allclose(features[0], predictor.features(noise, clips=1, frames=4), rtol=1e-4, atol=1e-6)
    (folder / "broken.mp4").unlink()
    np.testing.assert_array_equal(predictor.features(str(folder), clips=1, frames=4), features[[0, 2]])
    assert predictor.features([]).shape == (0, 8 * 4)


def test_features_say_how_many_clips_they_take():
    assert inspect.signature(module.Predictor.features).parameters["clips"].default == 10
    with pytest.raises(TypeError, match="top"):
        module.Predictor.features(None, [], top=3)


@pytest.mark.parametrize(("clips", "workers"), [(1, 0), (3, 0), (5, 2)])
def test_several_videos_equal_each_alone(clips, workers, tiny, file, tmp_path):
    """Clips of several videos share a batch; a broken video changes nothing for the others."""
    predictor = load(file, device="cpu")
    videos = [video.path for video in tiny.videos[:5]]
    (tmp_path / "broken.mp4").write_bytes(videos[0].read_bytes()[:300])
    paths = [*videos[:2], tmp_path / "broken.mp4", *videos[2:]]
    several = list(predictor.iter_predictions(paths, clips=clips, frames=2, workers=workers))
    assert isinstance(several[2], R21DError) and "broken.mp4: " in str(several.pop(2))
    for video, prediction in zip(videos, several, strict=True):
        alone = predictor.predict(video, clips=clips, frames=2)
        assert alone.protocol == prediction.protocol
        assert [name for name, _ in alone.top] == [name for name, _ in prediction.top]
        np.testing.assert_allclose(prediction.clip_probs, alone.clip_probs, rtol=1e-5)
        np.testing.assert_allclose(prediction.features, alone.features, rtol=1e-4, atol=1e-6)
        assert np.array_equal(prediction.frames, alone.frames)
    with pytest.raises(R21DError, match=r"broken\.mp4"):
        predictor.predict(paths, clips=1, frames=2)


def test_many_videos_start_no_process_unless_asked(tiny, file, monkeypatch):
    """Processes would run a script again that has no guard."""
    monkeypatch.setattr(parallel, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("starts processes"))
    videos = [tiny.videos[0].path] * MIN_ITEMS
    assert len(load(file, device="cpu").predict(videos, clips=1, frames=2)) == MIN_ITEMS


def test_calls_of_the_network_keep_no_features(noise, file):
    predictor, pooled = load(file, device="cpu"), []
    predictor.predict(noise, clips=1, frames=4)
    predictor.model.fc.register_forward_pre_hook(lambda _, inputs: pooled.append(weakref.ref(inputs[0])))
    with torch.no_grad():
        predictor.model(torch.zeros(1, 3, 4, 112, 112))
    assert [features() for features in pooled] == [None]


def test_load_is_imported_without_torch():
    code = "import sys, r21d_core; assert r21d_core.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_unnamed_outputs_are_numbered(noise, tmp_path):
    torch.save(small("R3D", num_classes=7).state_dict(), tmp_path / "r3d.pth")
    prediction = load(tmp_path / "r3d.pth", device="cpu").predict(noise, clips=1, frames=4)
    assert len(prediction.top) == 5 and all(name.startswith("output ") for name, _ in prediction.top)
    assert "do not name their classes" in prediction.protocol


def test_outputs_of_a_run_without_scores_are_numbered(file):
    names, _ = module.class_names(replace(module.read_weights(file), spec=Spec()))
    assert names == tuple(f"output {number}" for number in range(400))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clips": 0}, "clips = 0, expected 1 or more"),
        ({"frames": 0}, "frames = 0"),
        ({"workers": -1}, "workers is -1"),
    ],
)
def test_impossible_options_are_refused(options, says, noise, file):
    with pytest.raises(R21DError, match=says):
        load(file, device="cpu").predict(noise, **options)
    with pytest.raises(R21DError, match="abacus"):
        load(file, device="abacus")


def test_weights_for_flow_are_refused(noise, tmp_path):
    torch.save(small("R3D", in_channels=2).state_dict(), tmp_path / "flow.pth")
    with pytest.raises(R21DError, match=r"flow\.pth: takes 2 channels"):
        load(tmp_path / "flow.pth")


def test_run_in_a_pack_has_no_weights():
    run = load_runs(package_folder("r21d_core", "results") / "demo.zip")[0]
    with pytest.raises(R21DError, match=r"demo\.zip/.*: a pack holds no weights"):
        load(run)


def test_command_prints_the_top_five(noise, file, tmp_path, capsys):
    command = ["classify", str(noise), "--weights", str(file), "--clips", "2", "--frames", "4", "--device", "cpu"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and "mean of softmax" in lines[5]
    shares = [float(line.split("%")[0]) for line in lines[:5]]
    assert shares == sorted(shares, reverse=True)
    assert all(line.split("%  ")[1] in kinetics400() for line in lines[:5])

    (tmp_path / "broken.mp4").write_bytes(noise.read_bytes()[:500])
    for video in ("broken.mp4", "gone.mp4"):
        assert main(["classify", str(tmp_path / video), *command[2:]]) == 1
        said = capsys.readouterr().err
        assert said.startswith("r21d: ") and video in said and len(said.splitlines()) == 1
    assert main(["classify", str(noise), "--weights", "r3d_18", "--cache-dir", str(tmp_path)]) == 1
    assert f"{tmp_path / 'r3d_18-b3b3357e.pth'}: no such file" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path, noise):
    """A folder with three videos, one of them broken, and files that are none."""
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    (tmp_path / "mine" / "-1+1.mp4").write_bytes(noise.read_bytes())
    (tmp_path / "mine" / "deep" / "b.mp4").write_bytes(noise.read_bytes())
    (tmp_path / "mine" / "broken.mp4").write_bytes(noise.read_bytes()[:500])
    (tmp_path / "mine" / "list.m3u8").write_text("#EXTM3U\nb.mp4\n")
    (tmp_path / "mine" / ".hidden.mp4").write_bytes(noise.read_bytes())
    return tmp_path / "mine"


@pytest.fixture
def seven(tmp_path):
    """Weights for seven classes that no file names."""
    torch.save(small("R3D", num_classes=7).state_dict(), tmp_path / "seven.pth")
    return ["--weights", str(tmp_path / "seven.pth"), "--clips", "1", "--frames", "4", "--device", "cpu"]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_folder_becomes_a_table_with_its_errors(kind, folder, seven, noise, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["classify", ".", str(noise), "b.gone.mp4", "--out", f"out.{kind}", *seven]) == 1
    printed = capsys.readouterr()
    assert f"out.{kind}: 3 of 5 videos" in printed.out
    assert printed.err.startswith("r21d: 2 of 5 videos could not be classified:\nbroken.mp4: ")
    assert "list.m3u8" not in printed.err and "b.gone.mp4: no such file" in printed.err
    text = (folder / f"out.{kind}").read_text()
    rows = json.loads(text) if kind == "json" else list(csv.DictReader(text.splitlines()))
    first = "-1+1.mp4" if kind == "json" else "'-1+1.mp4"
    assert [row["video"] for row in rows] == [first, "broken.mp4", "deep/b.mp4", str(noise), "b.gone.mp4"]
    assert [bool(row.get("error")) for row in rows] == [False, True, False, False, True]
    shares = [float(rows[0][f"probability_{rank}"]) for rank in range(1, 6)]
    assert shares == sorted(shares, reverse=True) and rows[0]["class_1"] == rows[2]["class_1"]
    assert "1 clip of 4 frames" in rows[0]["protocol"]


def test_features_of_a_folder_become_a_file(folder, seven, noise, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["classify", ".", "--features", "new/x.npz", "--out", "out.csv", *seven]) == 1
    printed = capsys.readouterr()
    assert "out.csv: 2 of 3 videos\nnew/x.npz: 2 of 3 videos\n" in printed.out and "broken.mp4: " in printed.err
    with np.load("new/x.npz") as arrays:
        assert arrays["videos"].tolist() == ["-1+1.mp4", "deep/b.mp4"]
        expected = load(tmp_path / "seven.pth", device="cpu").features([noise, noise], clips=1, frames=4)
        np.testing.assert_allclose(arrays["features"], expected, rtol=1e-4, atol=1e-6)
        assert all("1 clip of 4 frames" in protocol for protocol in arrays["protocols"])
    assert main(["classify", "broken.mp4", "--features", "none.npz", *seven]) == 1
    with np.load("none.npz") as arrays:
        assert arrays["features"].shape == (0, 8 * 4) and arrays["videos"].shape == (0,)


def test_videos_of_the_training_are_named(tiny, fit, tmp_path, capsys):
    named = tuple(replace(video, group=video.video.removesuffix(".mp4")) for video in tiny.videos)
    tiny = replace(tiny, videos=named)
    run = fit(SPEC.replace(epochs=1), manifest=tiny)
    videos = [video for split in ("train", "test") for video in tiny.split(split)[:2]]
    names = [str(video.path) for video in videos]
    out = tmp_path / "out.csv"
    command = ["classify", *names, "--weights", str(run.folder), "--clips", "1", "--device", "cpu"]
    assert main([*command, "--out", str(out)]) == 0
    text = "Warning: 2 of these 4 videos have the names of recordings of the run's training"
    assert f"{text}; the column trained_on has them" in capsys.readouterr().out
    cells = [row["trained_on"] for row in csv.DictReader(out.read_text().splitlines())]
    assert cells == [videos[0].group, videos[1].group, "", ""]
    assert main(command) == 0 and text in capsys.readouterr().out
    (run.folder / "trained_on.txt").unlink()
    assert main([*command, "--out", str(out)]) == 0 and "Warning" not in capsys.readouterr().out
    assert "trained_on" not in out.read_text(), "an empty column would say that no video was trained on"


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_name_that_is_not_utf8_loses_no_prediction(kind, folder, seven, noise, capsys):
    (folder / "c\udcff.mp4").write_bytes(noise.read_bytes())
    (folder / "d\udcff.mp4").write_bytes(b"nothing")
    assert main(["classify", str(folder), "--out", str(folder / f"out.{kind}"), *seven]) == 1
    printed = capsys.readouterr()
    assert f"out.{kind}: 3 of 5 videos" in printed.out and "d\\udcff.mp4: " in printed.err
    assert "c\\udcff.mp4" in (folder / f"out.{kind}").read_text().replace("\\\\", "\\")


def test_finished_predictions_survive_an_interruption(folder, seven, monkeypatch, capsys):
    probe = module.probe
    monkeypatch.setattr(module, "probe", lambda path: _interrupt() if path.name == "b.mp4" else probe(path))
    files = ["--out", str(folder / "out.csv"), "--features", str(folder / "x.npz")]
    assert main(["classify", str(folder), *files, *seven, "--clips", "4"]) == 130
    with np.load(folder / "x.npz") as arrays:
        assert arrays["videos"].tolist() == [str(folder / "-1+1.mp4")]
    rows = list(csv.DictReader((folder / "out.csv").read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False, True]
    assert "out.csv: 1 of 3 videos" in capsys.readouterr().out


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["empty"], "empty: no videos in this folder"),
        (["mine/list.m3u8"], "is a playlist"),
        (["noise.mp4", "--out", "table.xlsx"], "--out table.xlsx: expected a name that ends in .csv or .json"),
        (["noise.mp4", "--out", "noise.mp4/out.csv"], "could not be written"),
        (["noise.mp4", "--features", "x.csv"], "--features x.csv: expected a name that ends in .npz"),
    ],
)
def test_unusable_paths_are_one_line(arguments, says, folder, seven, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert main(["classify", *arguments, *seven]) == 1
    said = capsys.readouterr().err
    assert says in said and said.startswith("r21d: ") and len(said.splitlines()) == 1
