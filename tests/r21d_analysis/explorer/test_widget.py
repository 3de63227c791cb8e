"""The explorer's widgets show what the metrics compute; hostile or missing input does not break them."""

import html
import re
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from IPython.display import Image

from benchmarks import explorer
from r21d_analysis.explorer import predictions
from r21d_analysis.explorer import widget as module
from r21d_analysis.explorer.classify_widget import ClassifyWidget
from r21d_analysis.explorer.widget import Explorer
from r21d_analysis.interpret.html import is_interactive, text_html
from r21d_analysis.statistics.clips import with_clips
from r21d_analysis.statistics.metrics import confusion, per_class
from r21d_core.data.manifest import load_manifest
from r21d_core.runs import metrics
from r21d_core.runs.run import find_run, write_scores, write_summary
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.artifacts.test_tables_and_figures import NASTY
from tests.r21d_analysis.explorer.test_predictions import ODD, texts
from tests.r21d_core.models.test_load import small

VIDEOS = [f"{NASTY} $ «{number}».mp4" for number in range(40)]


def write_run(spec, folder, seed=0, clips=5, classes=ODD, videos=VIDEOS, labels=None):
    """Write a finished run of `spec` with random scores."""
    random, run = np.random.default_rng(seed), find_run(folder, spec)
    labels = np.arange(len(videos)) % len(classes) if labels is None else labels
    logits = random.normal(size=(len(videos), clips, len(classes))).astype(np.float32)
    logits[np.arange(len(videos)), :, labels] += 1
    protocol = {"clips": clips, "crop": NASTY, "averaging": "mean of softmax", "data": NASTY, "split": "test",
                "task": spec.task, "profile": spec.profile}  # fmt: skip
    run.folder.mkdir(parents=True)
    (run.folder / "spec.json").write_text(spec.to_json())
    write_scores(run, Scores(logits, labels, np.array(videos), np.array(videos), classes, protocol))
    write_summary(run, {"device": "here"})
    return run


@pytest.fixture
def folder(tmp_path):
    """Three runs on the same videos, with hostile names."""
    specs = variant_comparison("small", NASTY, variants=("R3D", "f-R2D", "R(2+1)D"), eval_clips=5)
    for number, spec in enumerate(specs):
        write_run(spec, tmp_path / "runs", number)
    return tmp_path / "runs"


@pytest.fixture
def shown(folder, tmp_path):
    return Explorer(str(folder), exports=tmp_path / "out")


@pytest.fixture
def displayed(monkeypatch):
    """All objects passed to `display`."""
    found = []
    monkeypatch.setattr(module, "display", lambda *objects: found.extend(objects))
    return found


def text_of(widget, where="value"):
    return html.unescape(re.sub(r"<[^>]*>", " ", getattr(widget, where)))


def every_html(explorer):
    """Return the HTML of all widgets that hold some."""
    names = ("summary", "class_bars", "matrix", "matrix_caption", "n_items", "video", "frames", "saliency", "status")
    own = [getattr(explorer.classifier, name).value for name in ("errors", "probabilities", "frames", "saliency")]
    return [getattr(explorer, name).value for name in names] + own


def test_default_runs_are_the_requested_variants(shown):
    assert (shown.a.value.spec.variant, shown.b.value.spec.variant) == ("R(2+1)D", "f-R2D")
    assert shown.clips.options == (1, 2, 3, 5) and shown.clips.value == 5
    labels = [label for label, _ in shown.b.options]
    assert labels == ["none", "R(2+1)D-18, seed 0", "R3D-18, seed 0", "f-R2D-18, seed 0"]


def test_clip_slider_updates_every_number(shown):
    tabs = {0: "class_bars", 1: "matrix", 2: "video"}
    for tab, name in tabs.items():
        shown.tabs.selected_index = tab
        seen = set()
        for count in shown.clips.options:
            shown.clips.value = count
            for run in (shown.a.value, shown.b.value):
                fewer = with_clips(run.scores, count)
                for value in (metrics.clip_at_1(fewer), metrics.video_at(fewer, 1), metrics.video_at(fewer, 5)):
                    assert f"<td>{100 * value:.1f}</td>" in shown.summary.value
            assert f"{count} of 5 clips per video" in text_of(shown.summary)
            seen.add(getattr(shown, name).value)
        assert len(seen) == 4, f"{name} does not change"


@pytest.fixture
def many(folder):
    """An explorer of two runs with 30 classes."""
    classes = tuple(f"class {number:02d}" for number in range(30))
    for number, spec in enumerate(variant_comparison("small", "many", variants=("R3D", "MC3"), eval_clips=5)):
        write_run(spec, folder, number, classes=classes, videos=[f"{n}" for n in range(240)])
    explorer = Explorer(str(folder))
    explorer.data.value = "many, action"
    return explorer


def test_classes_are_sorted_and_paged(many):
    shown, classes = many, many.comparison.classes
    assert (shown.a.value.spec.variant, shown.first.max) == ("MC3", 11) and shown.first.layout.display is None
    shown.order.value = "class name"
    before = shown.class_bars.value
    table, figure = shown.views["Classes"][:2]
    assert table["class"].tolist() == list(classes) and "class 00  8" in texts(figure)
    shown.first.value = 11
    assert shown.class_bars.value != before
    names = [text.split("  ")[0] for text in texts(shown.views["Classes"].figure) if text.startswith("class ")]
    assert names == list(classes[10:])
    assert "of 28 intervals exclude zero; 1.4 are expected by chance" in text_of(shown.class_bars)


def test_cell_and_pair_list_their_videos(shown):
    scored = shown.comparison.a
    whole = confusion(scored.scores)
    shown.tabs.selected_index = 1
    assert len(shown.cells.options) == 36
    for row, column in ((0, 1), (2, 2), (3, 5)):
        label = next(label for label, value in shown.cells.options if value == (row, column))
        assert label == f"{ODD[row]}, predicted as {ODD[column]}: {whole[row, column]}"
        shown.tabs.selected_index = 1
        shown.cells.value = (row, column)
        assert shown.tabs.selected_index == 2 and shown.cells.value is None
        assert len(shown.videos.options) == whole[row, column]
        assert text_of(shown.n_items).strip() == f"{whole[row, column]} of 40 items."
        for _, item in shown.videos.options:
            assert scored.scores.labels[item] == row and scored.predictions[5].pred[item] == column
    shown.tabs.selected_index = 1
    label, pair = shown.pairs.options[0]
    assert label == f"{whole[pair]} × {ODD[pair[0]]} → {ODD[pair[1]]}"
    assert whole[pair] == whole[~np.eye(6, dtype=bool)].max()
    shown.pairs.value = pair
    assert shown.tabs.selected_index == 1, "selecting a pair does not open its videos yet"
    shown._run(shown.select_pair)
    assert shown.tabs.selected_index == 2 and len(shown.videos.options) == whole[pair]
    shown.tabs.selected_index = 1  # and the matrix of B
    before = shown.matrix.value
    shown.side.value = "B"
    assert shown.matrix.value != before
    counts = confusion(shown.b.value.scores)
    assert [int(label.rsplit(" ", 1)[1]) for label, _ in shown.cells.options] == counts.reshape(-1).tolist()


def test_other_classes_column_lists_its_videos(many):
    shown = many
    shown.tabs.selected_index = 1
    cells = {label: value for label, value in shown.cells.options if "predicted as all others" in label}
    assert len(cells) == 20
    label, value = max(cells.items(), key=lambda cell: int(cell[0].rsplit(" ", 1)[1]))
    shown.cells.value = value
    assert shown.pred.label == "all others" and len(shown.videos.options) == int(label.rsplit(" ", 1)[1]) > 0


def test_filters_select_items_and_draw_a_video(shown):
    shown.tabs.selected_index = 2
    assert shown.items.value == "A and B disagree"
    sides = shown.comparison.a, shown.comparison.b
    for show in predictions.ITEM_FILTERS:
        shown.items.value = show
        assert len(shown.videos.options) == len(predictions.select_items(*sides, 5, show=show)), show
    shown.items.value = "all"
    item = shown.videos.options[7][1]
    before = shown.video.value
    shown.videos.value = item
    assert shown.video.value != before and html.escape(VIDEOS[item]) in shown.video.value
    left, right = shown.views["Videos"].figure.axes
    for axes, scored in ((left, sides[0]), (right, sides[1])):
        _, _, each = predictions.clip_probabilities(scored, item, 5)
        np.testing.assert_allclose(np.transpose([line.get_ydata() for line in axes.lines]), 100 * each, rtol=1e-6)
    shown.clips.value = 2
    assert shown.videos.value == item, "the video stays selected while the slider moves"
    shown.true.value, shown.items.value = 1, "A correct"
    shown.pred.value = 2
    assert shown.videos.options == () and text_of(shown.video).strip() == "No such video."


def test_single_run_offers_no_comparison(tmp_path):
    write_run(variant_comparison("demo", variants=("R3D",))[0], tmp_path)
    shown = Explorer(str(tmp_path))
    assert shown.b.value is None and shown.comparison.b is None
    for tab in range(3):
        shown.tabs.selected_index = tab
    assert not [name for name in (*shown.order.options, *shown.items.options) if re.search("B|both|difference", name)]
    for order in shown.order.options:
        shown.tabs.selected_index = 0
        shown.order.value = order
    assert "DEMONSTRATION" in text_of(shown.summary) and "B:" not in shown.summary.value
    assert all("demonstration: tiny networks" in texts(view.figure) for view in shown.views.values())


@pytest.mark.parametrize("live", [False, True])
def test_without_runs_the_command_is_shown(live, tmp_path, displayed, monkeypatch):
    monkeypatch.setattr(module, "is_interactive", lambda: live)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "spec.json").write_text("{")
    shown = Explorer(f"{tmp_path}, {tmp_path}/none")
    shown._ipython_display_()
    assert "r21d train variant_comparison" in displayed[0].data and str(tmp_path) in displayed[0].data
    assert "torn: cannot be read" in displayed[1].data
    assert displayed[2:3] == ([shown.classifier.box] if live else [])
    for tab in range(4):
        shown.tabs.selected_index = tab


def test_incomparable_or_damaged_runs_are_reported(folder, shown):
    strange = variant_comparison("small", NASTY, variants=("MC2",), eval_clips=5)[0]
    write_run(strange, folder, videos=VIDEOS[:-1])
    broken = write_run(variant_comparison("small", NASTY, variants=("MC4",), eval_clips=5)[0], folder)
    (broken.folder / "scores.npz").write_bytes(b"no")
    even = write_run(variant_comparison("small", NASTY, variants=("MC5",), eval_clips=4)[0], folder, clips=4)
    shown = Explorer(str(folder))
    runs = {run.spec.variant: run for _, run in shown.a.options} | {even.spec.variant: even}
    shown.protocol.value = "any" if len(shown.protocol.options) > 1 else shown.protocol.value
    for variant, says in (("MC2", "evaluated on different videos"), ("MC4", "as its checksum is not")):
        shown.b.value = runs[variant]
        assert "only A is shown" in text_of(shown.status) and says in text_of(shown.status)
        assert shown.comparison.b is None and "B:" not in shown.summary.value and "A:" in shown.summary.value
    shown.b.value = even
    assert shown.clips.options == (2,) and "only A" not in text_of(shown.status)
    shown.a.value = runs["MC4"]
    assert "as its checksum is not" in text_of(shown.status) and shown.summary.value == ""
    for tab in range(4):
        shown.tabs.selected_index = tab
    shown.a.value = runs["R3D"]
    assert "A:" in shown.summary.value and text_of(shown.status).strip() == ""


def test_recent_runs_are_cached(folder, monkeypatch):
    opened = []
    score_run = predictions.score_run
    monkeypatch.setattr(predictions, "score_run", lambda run: opened.append(run.spec.variant) or score_run(run))
    shown = Explorer(str(folder))
    assert opened == ["R(2+1)D", "f-R2D"]
    other = next(run for _, run in shown.a.options if run.spec.variant == "R3D")
    shown.b.value = other
    shown.b.value = shown.b.options[-1][1]
    assert opened == ["R(2+1)D", "f-R2D", "R3D"], "a recent run is not read again"
    assert shown.load.cache_info().maxsize == 4, "memory stays bounded"


def test_saved_files_hold_the_shown_numbers(shown, tmp_path):
    for tab, name in enumerate(("classes", "confusion", "videos")):
        shown.tabs.selected_index = tab
        paths = [shown.save(kind) for kind in ("csv", "pdf")]
        assert [path.suffix for path in paths] == [".csv", ".pdf"] and str(paths[1]) in text_of(shown.status)
        assert all(path.name.startswith(f"explorer-{name}-r21d") and "-5clips" in path.name for path in paths)
        assert paths[1].read_bytes().startswith(b"%PDF")
        table = pd.read_csv(paths[0])
        assert set(table["run A"]) == {shown.a.value.spec.folder} and set(table["clips"]) == {5}
        if name == "classes":
            expected = per_class(shown.a.value.scores).set_index("class")["video@1"].rename({"=1+1": "'=1+1"})
            assert (100 * expected).to_dict() == pytest.approx(table.set_index("class")["A"].to_dict())
        elif name == "confusion":
            assert table["items"].tolist() == confusion(shown.a.value.scores).reshape(-1).tolist()
        else:
            c = shown.comparison
            assert len(table) == len(predictions.select_items(c.a, c.b, 5, show="A and B disagree"))
    shown.tabs.selected_index = 3
    shown._run(lambda: shown.save("csv"))
    assert "no table to save" in text_of(shown.status) and 'role="alert"' in shown.status.value
    (tmp_path / "file").touch()
    shown.exports = tmp_path / "file" / "below"
    shown.tabs.selected_index = 0
    shown._run(lambda: shown.save("pdf"))
    assert "could not be written" in text_of(shown.status)


def test_each_video_has_its_own_figure_file(shown, tmp_path):
    shown.tabs.selected_index, shown.items.value = 2, "all"
    paths = []
    for item in (3, 14):
        shown.videos.value = item
        paths.append(shown.save("pdf"))
        assert f"«{item}»" not in paths[-1].name and paths[-1].stem.endswith(f"-{item}")
    assert paths[0] != paths[1] and all(path.exists() and path.parent == tmp_path / "out" for path in paths)
    assert shown.save("csv") == shown.save("csv"), "one table has all videos"
    shown.tabs.selected_index, shown.classifier.export = 3, (None, shown.views["Videos"].figure)
    shown.classifier.draw = lambda: None
    shown.classifier.results = [(Path(f"mine/{name}.mp4"), None) for name in ("one", "two")]
    shown.classifier.videos.options = (0, 1)
    for item, name in enumerate(("one", "two")):
        shown.classifier.videos.value = item
        assert shown.save("pdf").name == f"explorer-your-own-video-{name}.pdf"
    spec = variant_comparison("small", "rates", task="speed", variants=("R3D",), eval_clips=5)[0]
    write_run(spec, tmp_path / "runs", classes=("×1", "×2"), videos=["deep/a.mp4", "deep/a.mp4"])
    rates = Explorer(str(tmp_path / "runs"), exports=tmp_path / "out")
    rates.data.value = "rates, speed"
    rates.tabs.selected_index = 2
    names = []
    for item in (0, 1):
        rates.videos.value = item
        names.append(rates.save("pdf").stem.rsplit("-5clips-")[1])
    assert names == ["deep-a-1", "deep-a-2"], "a file for each label"


def test_hostile_names_are_escaped(shown, displayed):
    for tab in range(3):
        shown.tabs.selected_index = tab
    shown.classifier.path.value, shown.classifier.weights.value = NASTY, NASTY
    shown.classifier.classify()
    shown.report(NASTY)
    for text in every_html(shown):
        assert "<script" not in text and NASTY not in text
    assert html.escape(NASTY) in shown.summary.value and html.escape(NASTY) in shown.video.value
    assert "<script" not in text_html(NASTY) and 'alert("' not in text_html(NASTY)
    shown._ipython_display_()
    for one in displayed:
        assert "<script" not in str(getattr(one, "data", "")[:20_000])


def test_static_display_has_figures_and_captions(shown, displayed):
    assert not is_interactive()
    shown._ipython_display_()
    pictures = [one for one in displayed if isinstance(one, Image)]
    assert len(pictures) == 3 and all(one.data.startswith(b"\x89PNG") and one.alt for one in pictures)
    assert "R(2+1)D-18, seed 0" in displayed[0].data
    assert list(shown.static_views()) == ["By class", "Confusion matrix of A", "A video over time"]
    captions = [text_of(displayed[displayed.index(one) + 1], "data").strip() for one in pictures]
    assert "of 6 intervals exclude zero" in captions[0] and "Holm" not in captions[0]
    wrong = confusion(shown.a.value.scores)
    np.fill_diagonal(wrong, 0)
    assert f"{wrong.sum()} of 40 items are wrong, most often {wrong.max()} × " in captions[1]
    scored, row = shown.comparison.a, shown.videos.value
    best, means, _ = predictions.clip_probabilities(scored, row, 5)
    assert f"{VIDEOS[row]}, class {ODD[row % 6]}: A predicts {ODD[best[0]]}, {100 * means[0]:.0f} %" in captions[2]
    for words, live in zip(captions, (shown.class_bars, shown.matrix_caption, shown.video), strict=True):
        assert words in text_of(live), "the widget has the same caption"


def test_interactive_display_has_widgets(shown, displayed, monkeypatch):
    monkeypatch.setattr(module, "is_interactive", lambda: True)
    shown._ipython_display_()
    assert displayed[0] is shown.box and len(displayed) == 2


@pytest.fixture
def tiny(tiny_manifest, tmp_path):
    """An explorer of two runs on the videos of tiny_manifest, whose files are there; checkpoints are not."""
    manifest = load_manifest(tiny_manifest)
    videos = manifest.split("test")
    labels = np.array([manifest.label_index(video) for video in videos])
    options = {"variants": ("R3D", "R(2+1)D"), "eval_clips": 5, "frames": 4, "frame_stride": 1}
    for number, spec in enumerate(variant_comparison("small", "tiny", **options)):
        write_run(spec, tmp_path / "runs", number, classes=manifest.card.classes,
                  videos=[video.video for video in videos], labels=labels)  # fmt: skip
    return Explorer(str(tmp_path / "runs"), str(tiny_manifest.parent)), videos


def test_video_shows_its_times_and_frames(tiny):
    shown, videos = tiny
    shown.tabs.selected_index = 2
    shown.items.value = "all"
    shown.videos.value = 1
    middles = [i * (videos[1].frames - 4) // 4 + 2 for i in range(5)]
    np.testing.assert_allclose(shown.views["Videos"].figure.axes[0].lines[0].get_xdata(), np.array(middles) / 25)
    assert "Center frames" in shown.frames.value
    place = videos[1].path.rename(videos[1].path.with_suffix(".gone"))
    try:
        shown.clips.value = 3
        assert "No frames" in text_of(shown.frames) and "no such file" in text_of(shown.frames)
    finally:
        place.rename(videos[1].path)


# --- Classification of own videos


@pytest.fixture
def own(tmp_path):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(small("R3D", num_classes=7).state_dict(), tmp_path / "r3d.pth")
    widget = ClassifyWidget([])
    widget.weights.value, widget.clips.value = str(tmp_path / "r3d.pth"), 3
    return widget


def test_folder_is_classified_and_errors_listed(own, tiny_manifest, tmp_path):
    root = tmp_path / "mine"
    (root / "deep").mkdir(parents=True)
    good = sorted(Path(tiny_manifest.parent, "videos", "dark").glob("*.mp4"))[-1].read_bytes()
    (root / "deep" / f"{ODD[1]} <b>é.mp4").write_bytes(good)
    (root / "a.mp4").write_bytes(good)
    (root / "broken.mp4").write_bytes(good[:300])
    own.path.value = str(root)
    own.classify()
    assert len(own.results) == 2 and len(own.videos.options) == 2
    assert "broken.mp4" in text_of(own.errors) and own.errors.value.count("<p") == 1
    assert "<b>" not in own.probabilities.value
    assert own.progress.value == 3 and own.progress.layout.visibility == "hidden"
    table, figure = own.export
    assert len(table) == 10 and table["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    answer = own.results[0][1]
    np.testing.assert_allclose(np.transpose([one.get_ydata() for one in figure.axes[0].lines]), 100 * answer.clip_probs)
    np.testing.assert_allclose(answer.clip_probs.mean(axis=0), [share for _, share in answer.top], rtol=1e-5)
    frames = len(answer.clip_probs) and int(answer.protocol.split(" at ")[0].rsplit(" ", 1)[1])
    np.testing.assert_array_equal(answer.center_frames, [i * max(0, frames - 16) // 2 + 8 for i in range(3)])
    before = own.probabilities.value
    own.videos.value = 1
    assert own.probabilities.value != before


def test_uploads_stay_in_their_folder(own, tiny_manifest, tmp_path):
    good = next(Path(tiny_manifest.parent, "videos", "dark").glob("*.mp4")).read_bytes()
    names = ["../../../evil.mp4", "..\\also.mp4", "..", "same.mp4", "same.mp4"]
    file = {"type": "video/mp4", "size": len(good), "content": memoryview(good), "last_modified": datetime.now()}
    own.upload.value = tuple({"name": name, **file} for name in names)
    paths = own.input_paths()
    root = Path(own._uploads.name).resolve()
    assert all(root in path.resolve().parents and path.read_bytes() == good for path in paths) and len(set(paths)) == 5
    own.upload.value = ()
    own.path.value = "there"
    assert own.input_paths() == [Path("there")] and not root.exists()
    assert [path.name for path in paths] == ["evil.mp4", "also.mp4", "video", "same.mp4", "same.mp4"]


@pytest.mark.parametrize(("path", "weights", "says"), [
    ("", "w.pth", "no video: enter the path"), ("gone.mp4", "", "weights: none given"),
    ("empty", "w.pth", "no videos in this folder"), ("gone.mp4", "w.pth", "gone.mp4"), ("a\0b", "w.pth", ""),
])  # fmt: skip
def test_invalid_input_is_reported(own, tmp_path, path, weights, says, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    own.path.value, own.weights.value = path, weights and own.weights.value
    own.classify()
    assert says in text_of(own.errors) and 'role="alert"' in own.errors.value and not own.videos.options
    assert own.export == (None, None)


def test_benchmark_times_every_widget(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "ROUNDS", 1)
    size = (460, 230, 3)
    explorer._write_runs(str(tmp_path), *size)
    *moved, opened = explorer._measure(str(tmp_path), *size)
    assert len(moved) == 13 and all(0 < row["ms_fastest"] <= row["ms"] <= row["ms_slowest"] for row in moved)
    assert opened["what"] == "opening both runs" and opened["gib"] > 0
