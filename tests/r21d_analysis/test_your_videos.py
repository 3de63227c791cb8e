"""A folder of videos becomes a checked manifest, a run that starts from any weights, and a list of its errors."""

import re
import shutil

import numpy as np
import pytest
import torch
from IPython.display import Markdown
from matplotlib.figure import Figure

from r21d_analysis import your_videos
from r21d_analysis.study import open_study
from r21d_analysis.style import GRAY
from r21d_core import R21DError
from r21d_core.data import synthetic
from r21d_core.data.manifest import load_manifest
from r21d_core.runs.metrics import video_probabilities
from r21d_core.study.recipes import TRANSFER
from tests.networks import TINY
from tests.r21d_core.models.test_load import as_theirs, small

SETTINGS = {key: getattr(TINY, key) for key in ("depth", "width", "frames", "frame_height", "frame_width", "crop")}
SETTINGS |= {"clips_per_epoch": 8, "batch_size": 4, "epochs": 1, "lr": 0.01}


@pytest.fixture
def folder(tiny_manifest, tmp_path):
    """The tiny data set as class folders, with a video that does not decode."""
    shutil.copytree(tiny_manifest.parent / "videos", tmp_path / "mine")
    (tmp_path / "mine" / "dark" / "broken.mp4").write_bytes(b"no video")
    return tmp_path / "mine"


@pytest.fixture
def manifest(folder, tmp_path):
    return your_videos.make_manifest(folder, tmp_path / "data" / "mine.csv", 0.34)


def test_folder_is_listed_and_checked_once(folder, tmp_path, capsys):
    manifest = your_videos.make_manifest(folder, tmp_path / "data" / "mine.csv", 0.34)
    assert "12 videos decode (8 train, 4 test)" in (said := capsys.readouterr().out) and "dark/broken.mp4: " in said
    assert "recordings: 8 train (4 or more of each class), 4 test (2 or more of each class)\nWarning: " in said
    assert all(video.frames for video in load_manifest(manifest).videos)
    before = manifest.read_bytes()
    shutil.copy(folder / "dark" / "v_g00.mp4", folder / "dark" / "new.mp4")
    assert your_videos.make_manifest(folder, manifest) == manifest and manifest.read_bytes() == before
    said = capsys.readouterr().out
    assert "Warning: with 4 test recordings" in said
    assert "checked earlier, 12 videos; 1 more, set aside, with the reasons, in" in said and "mine.quarantine" in said
    assert f"not in {manifest}: 1 of the folder (dark/new.mp4)" in said
    with pytest.raises(R21DError, match="lists the videos of"):
        your_videos.make_manifest(folder.rename(folder.with_name("other")), manifest)


def test_unchecked_manifest_is_checked(folder, manifest, capsys):
    lines = manifest.read_text().splitlines()
    manifest.write_text("".join(",".join(line.split(",")[:4]) + "\n" for line in lines))  # as listed, without frames
    your_videos.make_manifest(folder, manifest)
    assert "videos decode" in capsys.readouterr().out
    assert all(video.frames for video in load_manifest(manifest).videos)


def test_example_has_a_folder_for_each_class(tmp_path, monkeypatch):
    folder = synthetic.make_example(tmp_path, ("star", "fall"), scenes=2)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.mp4"))
    assert names == ["fall/s00.mp4", "fall/s01.mp4", "star/s00.mp4", "star/s01.mp4"]
    monkeypatch.setattr(synthetic, "_write_videos", None)
    assert synthetic.make_example(tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name], "no draft is left"


def test_errors_of_a_finetuned_run_are_its_scores(manifest, tmp_path):
    """Train, finetune from the run folder, and compare the tables with the logits."""
    options = {"profile": "demo", "manifest": manifest, "runs": tmp_path / "runs", "train": True}
    scratch = open_study("variant_comparison", variants="R3D", settings=SETTINGS, **options).runs[0]
    start = your_videos.starting_point(scratch.folder, manifest, "demo", "MC3", {"epochs": 1, "clips_per_epoch": 8})
    run = open_study("variant_comparison", **options | start).runs[0]
    assert run.is_complete and run.environment["init_from"].startswith(str(scratch.folder))
    same = ("variant", "depth", "width", "frames", "frame_height", "crop", "eps")
    assert [getattr(run.spec, key) for key in same] == [getattr(scratch.spec, key) for key in same]
    assert (run.spec.epochs, run.spec.lr) == (1, TRANSFER["demo"]["lr"])

    probabilities, labels = video_probabilities(run.scores), run.scores.labels
    wrong = np.flatnonzero(probabilities.argmax(1) != labels)
    expected = run.scores.videos[wrong[np.argsort(-probabilities.max(1)[wrong], kind="stable")]].tolist()
    assert expected, "two clips of training are too few to be right"
    assert f"{len(wrong)} of 4 test videos are classified wrongly" in (text := your_videos.worst_videos(run).to_html())
    assert re.findall(r"\w+/v_g\d+\.mp4", text) == expected
    assert your_videos.worst_video(run, manifest).resolve() == load_manifest(manifest).root / expected[0]
    figure = your_videos.worst_frames(run, manifest)
    assert {axes.title.get_color() for axes in figure.axes} == {GRAY}, "black on a dark page"
    titles = [axes.get_title().split("\n")[0] for axes in figure.axes]
    assert titles[: len(expected)] == [name.split("/")[0] for name in expected]
    other = tmp_path / "other.csv"
    other.write_bytes(b"".join(x for x in manifest.read_bytes().splitlines(True) if expected[0].encode() not in x))
    shutil.copy(manifest.with_suffix(".json"), other.with_suffix(".json"))
    with pytest.raises(R21DError, match=rf"other\.csv: does not list {expected[0]}"):
        your_videos.worst_frames(run, other)
    figure = your_videos.confusion(run)
    assert isinstance(figure, Figure) and f"video@1 {25 * (4 - len(wrong)):.1f} %" in figure.texts[-1].get_text()


def test_published_weights_determine_network_and_clips(manifest, tmp_path, monkeypatch):
    """Weights in torchvision's layout take 16 frames of full size, at the stride of their training's frame rate."""
    monkeypatch.chdir(tmp_path)
    torch.save(as_theirs(small("R3D", num_classes=400)), tmp_path / "r3d.pth")
    start = your_videos.starting_point("r3d.pth", manifest, "small", "MC3", "epochs=2, frames=8")
    assert start["variants"] == "R3D"
    expected = {"depth": 10, "width": 4, "frames": "8", "crop": 112, "frame_height": 128, "eps": 1e-5, "epochs": "2"}
    assert expected.items() <= start["settings"].items()
    assert start["settings"]["init_from"] == str(tmp_path / "r3d.pth")
    mistaken = your_videos.starting_point("r3d.pth", manifest, "smal", "MC3", "")
    with pytest.raises(R21DError, match="profile 'smal': expected one of"):
        open_study("variant_comparison", profile="smal", manifest=manifest, **mistaken)
    none = your_videos.starting_point("", manifest, "demo", "MC3", {"lr": 1})
    assert none == {"variants": "MC3", "settings": {"lr": 1}}


def test_run_that_is_not_finished_has_notes(manifest, tmp_path):
    run = open_study("variant_comparison", manifest=manifest, runs=tmp_path, variants="R3D").runs[0]
    for shown in (your_videos.confusion(run), your_videos.worst_videos(run), your_videos.worst_frames(run, manifest)):
        assert isinstance(shown, Markdown) and "no run is finished" in shown.data


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # by PyTorch 2.11's own exporter
def test_notebook_writes_to_the_folders_of_its_parameters(manifest, tmp_path, execute):
    folders = {name: str(tmp_path / name) for name in ("runs", "exports")}
    parameters = {"folder": str(tmp_path / "mine"), "manifest": str(manifest), "settings": SETTINGS, "device": "cpu"}
    _, printed = execute("your_videos", **parameters, **folders)
    (run,) = (tmp_path / "runs").iterdir()
    assert [path.name for path in (tmp_path / "exports").iterdir()] == [f"{run.name}.pt2"]
    assert f"{tmp_path}/exports/{run.name}.pt2: R(2+1)D-" in printed
