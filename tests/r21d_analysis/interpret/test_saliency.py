"""The explorer computes saliency maps of the clips that were scored, or reports why it cannot."""

import asyncio
import html
import shutil
import subprocess
import sys
from dataclasses import replace

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.special import softmax

from r21d_analysis.explorer import maps as module
from r21d_analysis.explorer import widget as explorer_module
from r21d_analysis.explorer.classify_widget import ClassifyWidget
from r21d_analysis.explorer.widget import Explorer
from r21d_analysis.interpret.attributions import attribute, for_attribution
from r21d_analysis.interpret.checkpoints import open_network, read_clip
from r21d_analysis.interpret.inspect_run import analyze_video
from r21d_core import R21DError
from r21d_core.data.manifest import load_manifest
from r21d_core.data.transforms import center_crop
from r21d_core.engine.train import train
from r21d_core.runs.run import find_run
from tests.networks import TINY
from tests.r21d_analysis.explorer.test_widget import select_item, text_of
from tests.r21d_core.models.test_load import small
from tests.runs import NASTY, finish

SPECS = (TINY, TINY.replace(variant="R3D", frames=6), TINY.replace(task="arrow"))


@pytest.fixture(scope="module")
def trained(tiny_manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for spec in SPECS:
        train(spec, load_manifest(tiny_manifest), folder, device="cpu")
    return folder


@pytest.fixture
def folder(trained, tmp_path):
    """A copy of the runs that tests may change."""
    return shutil.copytree(trained, tmp_path / "runs")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """No picture of the explorer's other figures, on which nothing here depends."""
    monkeypatch.setattr(explorer_module, "figure_html", lambda figure, alt: html.escape(alt))


@pytest.fixture
def records(monkeypatch):
    """The records that were drawn, a list for each call."""
    found, draw = [], module.overlay_figure
    monkeypatch.setattr(module, "overlay_figure", lambda drawn, *a, **b: found.append(drawn) or draw(drawn, *a, **b))
    return found


@pytest.fixture
def sketched(monkeypatch):
    """The records that were drawn, as `records`, each as a small picture of the sum of its maps."""
    found = []

    def sketch(drawn, *_, **__):
        found.append(drawn)
        figure = Figure(figsize=(1, 1))
        figure.text(0, 0.5, " ".join(str(record["maps"].sum(dtype=float)) for record in drawn))
        return figure

    monkeypatch.setattr(module, "overlay_figure", sketch)
    return found


def click(box, name):
    """Click the button with this description in `box`."""
    if isinstance(box, widgets.Button) and box.description == name:
        box.click()
    for member in getattr(box, "children", ()):
        click(member, name)


def explorer_on(folder, tiny_manifest, data="tiny, action (demonstration)"):
    shown = Explorer(str(folder), str(tiny_manifest.parent), "R(2+1)D, R3D")
    shown.data.value = "tiny, arrow (demonstration)"  # so that A and B are chosen anew
    shown.data.value = data
    shown.protocol.index = 0
    shown.tabs.selected_index, shown.items.value = 2, "all"
    return shown, shown.tabs.children[2]


def test_maps_are_of_the_scored_clips(folder, tiny_manifest, records):
    shown, tab = explorer_on(folder, tiny_manifest)
    assert shown.a.value[0].spec == SPECS[0] and shown.comparison.b.runs[0].spec == SPECS[1]
    select_item(shown, row := 1)
    click(tab, "Attributions")
    assert 'src="data:image/png' in shown.saliency.value and text_of(shown.status).strip() == ""
    video = load_manifest(tiny_manifest).split("test")[row]
    for one, scored in zip(records[0], (shown.comparison.a, shown.comparison.b), strict=True):
        middle, label = softmax(scored.scores.logits[row, 2]), scored.scores.labels[row]  # of 5 clips
        assert one["probability"][0] == pytest.approx(middle[label], rel=1e-4) and one["target"][0] == video.label
        spec = scored.runs[0].spec
        network = for_attribution(open_network(scored.runs[0], torch.device("cpu")))
        clip = center_crop(read_clip(video.path, spec), spec)
        for method, number in (("Grad-CAM", 0), ("integrated gradients", 1)):
            whole = attribute(network, clip, torch.tensor([label]), method, steps=8)[0]
            expected = whole / whole.abs().max().clamp(min=1e-12)
            stored = (expected * 255).round() / 255  # half a step below a tie may be rounded to either side
            assert (np.abs(one["maps"][0, number] - expected.numpy()) <= 1 / 510 + 2**-11).all()
            assert np.mean(np.abs(one["maps"][0, number] - stored.numpy()) < 1e-3) > 0.99
    select_item(shown, 2)
    assert shown.saliency.value == "", "another video has no maps yet"


def test_reversed_clip_has_reversed_maps(folder, tiny_manifest, sketched):
    shown, tab = explorer_on(folder, tiny_manifest, "tiny, arrow (demonstration)")
    for row in (0, 1):
        select_item(shown, row)
        click(tab, "Attributions")
        middle = softmax(shown.comparison.a.scores.logits[row, 2])
        assert sketched[row][0]["probability"][0] == pytest.approx(middle[row], rel=1e-4)
    (forward,), (reversed_,) = sketched
    assert (forward["target"][0], reversed_["target"][0]) == ("forward", "reversed")
    np.testing.assert_array_equal(forward["frames"], reversed_["frames"][:, ::-1])


def test_maps_are_computed_once(folder, tiny_manifest, sketched):
    """By quick clicks, and when the reader comes back to a video."""
    shown, tab = explorer_on(folder, tiny_manifest)
    states = []
    shown.attributions.observe(lambda change: states.append(change.new), "disabled")
    for _ in range(3):
        click(tab, "Attributions")
    assert len(sketched) == 1 and states == [True, False]
    maps, first = shown.saliency.value, shown.row
    select_item(shown, other := int(shown.rows[1]))
    assert shown.saliency.value == ""
    click(tab, "Attributions")
    assert len(sketched) == 2 and shown.saliency.value not in ("", maps)
    for item in (first, other, first):
        select_item(shown, item)
    assert shown.saliency.value == maps
    shown.b.value = None
    assert shown.saliency.value == "", "those of A and B"
    shown.classifier.path.value = str(load_manifest(tiny_manifest).split("test")[0].path.parent)
    asyncio.run(shown.classifier.classify())
    for number in (0, 0, 1, 0):
        shown.classifier.videos.selected_rows = [number]
        click(shown.classifier.box, "Attributions")
    assert len(sketched) == 4 and "<img" in shown.classifier.saliency.value
    asyncio.run(shown.classifier.classify())
    assert shown.classifier.saliency.value == "", "the same number may be another video, or of other weights"
    click(shown.classifier.box, "Attributions")
    assert len(sketched) == 5


def test_missing_files_are_reported(folder, tiny_manifest, tmp_path, sketched):
    """Below the button, where a reader who pressed it looks."""
    shown, tab = explorer_on(folder, tiny_manifest)
    video = load_manifest(tiny_manifest).split("test")[shown.row]
    click(tab, "Attributions")
    (shown.comparison.b.runs[0].folder / "checkpoint.pt").unlink()
    click(tab, "Attributions")
    assert "<img" in shown.saliency.value and "B is omitted" in text_of(shown.saliency)
    shutil.move(video.path, tmp_path / "gone.mp4")
    shown.maps.clear()
    try:
        click(tab, "Attributions")
        assert "no such file" in text_of(shown.saliency) and "<img" not in shown.saliency.value
    finally:
        shutil.move(tmp_path / "gone.mp4", video.path)
    (shown.comparison.a.runs[0].folder / "checkpoint.pt").write_bytes(b"no")
    click(tab, "Attributions")
    assert "not a complete file of PyTorch weights" in text_of(shown.saliency)
    shutil.copy(find_run(folder, SPECS[2]).folder / "checkpoint.pt", shown.comparison.a.runs[0].folder)
    click(tab, "Attributions")
    assert "a checkpoint of another spec" in text_of(shown.saliency)
    (shown.comparison.a.runs[0].folder / "checkpoint.pt").unlink()
    click(tab, "Attributions")
    assert "need a run's checkpoint, and there is none in" in text_of(shown.saliency)
    assert 'role="alert"' in shown.saliency.value and text_of(shown.status).strip() == ""
    shown.true.value, shown.pred.value, shown.items.value = 0, 1, "A correct"
    click(tab, "Attributions")
    assert "select a video in the list first" in text_of(shown.saliency)


def test_missing_manifest_is_reported(folder):
    shown = Explorer(str(folder))
    shown.tabs.selected_index = 2
    click(shown.tabs.children[2], "Attributions")
    assert "no manifest lists" in text_of(shown.saliency)


def test_static_display_has_maps(folder, tiny_manifest, monkeypatch):
    displayed = []
    monkeypatch.setattr(explorer_module, "display", lambda *objects: displayed.extend(objects))
    Explorer(str(folder), str(tiny_manifest.parent))._ipython_display_()
    assert 'alt="Saliency maps for' in displayed[-2].data
    for path in folder.glob("*/checkpoint.pt"):
        path.unlink()
    Explorer(str(folder), str(tiny_manifest.parent))._ipython_display_()
    assert "need a run&#x27;s checkpoint" in displayed[-2].data and "<img" not in displayed[-2].data


def test_explorer_without_checkpoints_needs_no_torch(folder):
    for path in folder.glob("*/checkpoint.pt"):
        path.unlink()
    program = f"""import sys
import r21d_analysis.artifacts.figures
assert "av" not in sys.modules
from r21d_analysis.explorer.widget import Explorer
shown = Explorer({str(folder)!r})
shown._ipython_display_()
assert "checkpoint" in shown.saliency.value, shown.saliency.value
assert not {{"torch", "captum"}} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_own_video_with_hostile_names(folder, tiny_manifest, tmp_path, records):
    run = find_run(folder, SPECS[0])
    finish(run, replace(run.scores, classes=(NASTY, f"$ and $ {NASTY}")))
    video = shutil.copy(load_manifest(tiny_manifest).split("test")[0].path, tmp_path / "<script>$^$.mp4")
    own = ClassifyWidget([run])
    click(own.box, "Attributions")
    assert "classify a video and select it first" in text_of(own.saliency)
    own.path.value, own.clips.value = str(video), 5
    asyncio.run(own.classify())
    own.weights.value = "something typed since"
    click(own.box, "Attributions")
    likeliest = own.results[0][1].top[0][0]
    assert "<img" in own.saliency.value and "<script" not in own.saliency.value
    assert NASTY not in own.saliency.value and html.escape(likeliest) in own.saliency.value
    assert records[0][0]["target"][0] == likeliest and NASTY in likeliest
    (run.folder / "checkpoint.pt").unlink()
    own.maps.clear()
    click(own.box, "Attributions")
    assert "checkpoint.pt: no such file" in text_of(own.saliency) and "<img" not in own.saliency.value


def test_foreign_weights_are_labeled_by_file_name(tiny_manifest, tmp_path):
    torch.save(small("R3D", num_classes=7).state_dict(), tmp_path / "theirs.pth")
    video = load_manifest(tiny_manifest).split("test")[0].path
    one = analyze_video(video, tmp_path / "theirs.pth", "output 3", None, tmp_path)
    assert one.metadata["name"] == "theirs" and one.metadata["spec"]["variant"] == "R3D" and one["maps"].any()
    with pytest.raises(R21DError, match=r"theirs\.pth: has no class clap"):
        analyze_video(video, tmp_path / "theirs.pth", "clap", None, tmp_path)
