"""The explorer's widgets show what the metrics compute; hostile or missing input does not break them."""

import html
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from IPython.display import Image

from benchmarks import explorer
from r21d_analysis.explorer import media, predictions
from r21d_analysis.explorer import widget as module
from r21d_analysis.explorer.layout import fill_table
from r21d_analysis.explorer.widget import Explorer
from r21d_analysis.interpret.html import is_interactive, text_html
from r21d_analysis.interpret.records import ATTRIBUTIONS, InsightRecord, save_record
from r21d_analysis.statistics.clips import with_clips
from r21d_analysis.style import isolate
from r21d_core import R21DError
from r21d_core.runs import metrics
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.explorer.test_predictions import ODD, confusion, texts
from tests.runs import NASTY, finish, protocol_of, random_scores

ROOT = Path(__file__).parents[3]
VIDEOS = [f"{NASTY} $ «{number}».mp4" for number in range(40)]
HTMLS = ("summary", "class_bars", "matrix", "matrix_value", "matrix_caption", "n_items", "player", "video", "status")


@pytest.fixture(autouse=True)
def sketched(request, monkeypatch):
    """What a figure shows, as text, in place of its picture, which takes longer than all the rest of a test.

    Not in tests with the fixture `drawn`.
    """
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(module, "figure_html", lambda figure, alt: html.escape(f"{alt}: {sketch(figure)}"))


@pytest.fixture
def drawn():
    """For tests of the pictures themselves."""


def sketch(figure):
    """The texts of a figure, the values of its lines and images, and the sum of the outlines of its numbers."""
    values = [line.get_xydata() for axes in figure.axes for line in axes.lines]
    values += [image.get_array() for axes in figure.axes for image in axes.images]
    outlines = [path.vertices for axes in figure.axes for part in axes.collections for path in part.get_paths()]
    return f"{texts(figure)} {[value.tolist() for value in values]} {sum(map(np.sum, outlines)):.6g}"


def write_run(spec, folder, seed=0, clips=5, classes=ODD, videos=VIDEOS, labels=None):
    """Write a finished run of `spec` with random scores."""
    protocol = protocol_of(spec, len(videos), clips=clips, crop=NASTY, data=NASTY)
    scores = random_scores(seed, videos, classes, protocol, labels, clips=clips, gain=1)
    return finish(find_run(folder, spec), scores, device="here")


@pytest.fixture
def folder(tmp_path):
    """Three runs on the same videos, with hostile names."""
    specs = variant_comparison("small", NASTY, variants=("R3D", "f-R2D", "R(2+1)D"), eval_clips=5)
    for number, spec in enumerate(specs):
        write_run(spec, tmp_path / "runs", number)
    return tmp_path / "runs"


@pytest.fixture
def shown(folder):
    return Explorer(str(folder))


@pytest.fixture
def many(folder):
    """An explorer of two runs with 30 classes."""
    classes = tuple(f"class {number:02d}" for number in range(30))
    for number, spec in enumerate(variant_comparison("small", "many", variants=("R3D", "MC3"), eval_clips=5)):
        write_run(spec, folder, number, classes=classes, videos=[f"{n}" for n in range(240)])
    return Explorer(str(folder), data="many")


@pytest.fixture
def displayed(monkeypatch):
    """All objects passed to `display`."""
    found = []
    monkeypatch.setattr(module, "display", lambda *objects: found.extend(objects))
    return found


def text_of(widget, where="value"):
    return html.unescape(re.sub(r"<[^>]*>", " ", getattr(widget, where)))


def select_item(shown, item):
    """Select the row of an item in the table of videos."""
    shown.videos.selected_rows = [shown.rows.tolist().index(item)]


def point(shown, cell, kind="click"):
    """Move the pointer to the middle of a cell, or click it."""
    figure = shown.views["Confusion"].figure
    (n_rows, n_columns), box = figure.axes[0].images[0].get_size(), figure.axes[0].get_window_extent()
    row, column = divmod(cell, n_columns)
    x = box.x0 + (column + 0.5) * box.width / n_columns
    y = figure.bbox.height - box.y1 + (row + 0.5) * box.height / n_rows
    shown.use_matrix({"event": kind, "relativeX": x, "relativeY": y})


def test_clip_slider_updates_every_number(drawn, shown):
    assert (shown.a.label, shown.b.label) == ("R3D-18", "R(2+1)D-18"), "the requested variants"
    assert shown.clips.options == (1, 2, 3, 5) and shown.clips.value == 5
    for tab, name in enumerate(("class_bars", "matrix", "video")):
        shown.tabs.selected_index = tab
        seen = set()
        for count in shown.clips.options:
            shown.clips.value = count
            for (run,) in (shown.a.value, shown.b.value):
                fewer = with_clips(run.scores, count)
                for value in (metrics.clip_at_1(fewer), metrics.video_at(fewer, 1), metrics.video_at(fewer, 5)):
                    assert f"<td>{100 * value:.1f}</td>" in shown.summary.value
            assert f"{count} of 5 clips per video" in text_of(shown.summary)
            seen.add(getattr(shown, name).value)
        assert len(seen) == 4, f"{name} does not change"


def test_selected_classes_are_drawn(many):
    shown = many
    shown.tabs.selected_index = 1
    others = shown.views["Confusion"].table.query("prediction == 'all others'")["items"]
    assert len(others) == 20
    point(shown, int(others.idxmax()))
    assert shown.pred.label == "all others" and len(shown.rows) == others.max() > 0
    shown.tabs.selected_index = 0
    assert shown.a.label == "R3D-18" and len(shown.class_table.df) == 30
    names = [text.split("  ")[0] for text in texts(shown.views["Classes"].figure) if text.startswith("class ")]
    order = shown.views["Classes"].table.sort_values("A − B", ascending=False, kind="stable")["class"].tolist()
    assert names == order[:10] + order[-10:] and "20 of 30 classes: those at both ends" in text_of(shown.class_bars)
    shown.class_table.selected_rows = [4, 9]
    names = {text.split("  ")[0] for text in texts(shown.views["Classes"].figure) if text.startswith("class ")}
    assert names == {"class 04", "class 09"} and shown.class_table.selected_rows == [4, 9]
    shown.tabs.selected_index = 1
    table = shown.views["Confusion"].table
    assert table["class"].tolist() == ["class 04"] * 3 + ["class 09"] * 3
    assert table["prediction"].tolist() == ["class 04", "class 09", "all others"] * 2
    assert table["items"].groupby(table["class"]).sum().tolist() == [8, 8]
    whole = confusion(shown.a.value[0].scores)
    np.fill_diagonal(whole, 0)
    assert shown.pairs.df["A items"].sum() == whole[[4, 9]].sum() + np.delete(whole[:, [4, 9]], [4, 9], axis=0).sum()
    assert shown.pairs.df[["class", "predicted as"]].isin(["class 04", "class 09"]).any(axis=1).all()
    top = "{} × {} → {}, ".format(*shown.pairs.df[["A items", "class", "predicted as"]].iloc[0])
    assert f"; of the selected classes most often {top}" in text_of(shown.matrix_caption)
    shown.clips.value = 1
    shown.tabs.selected_index = 0
    assert shown.class_table.selected_rows == [4, 9], "the choice outlives the number of clips"
    shown.class_table.selected_rows = [4]
    shown.tabs.selected_index = 1
    names = shown.views["Confusion"].table["class"].unique()
    assert "class 04" in names and len(names) > 2, "one row compares nothing"
    says = f"{len(names)} of 30 classes: class 04, selected in the tab Classes, and those most often confused with it"
    assert says in text_of(shown.matrix_caption)


def test_cell_and_pair_list_their_videos(shown):
    for side, run in (("A", shown.a.value[0]), ("B", shown.b.value[0])):
        whole = confusion(run.scores)
        shown.tabs.selected_index, shown.matrix_side.value = 1, side
        assert shown.views["Confusion"].table["items"].tolist() == whole.ravel().tolist()
        for row, column in ((0, 1), (2, 2), (3, 5)):
            point(shown, 6 * row + column, "mousemove")
            share = 100 * whole[row, column] / whole[row].sum()
            text = f"{ODD[row]}, predicted as {ODD[column]}: {whole[row, column]} items, {share:.1f} % of the class"
            assert text_of(shown.matrix_value).strip() == text
            point(shown, 6 * row + column)
            assert (shown.tabs.selected_index, shown.true.value, shown.pred.value) == (2, row, column)
            assert len(shown.videos.df) == whole[row, column]
            predicted = (shown.comparison.a if side == "A" else shown.comparison.b).predictions[5].pred[0]
            assert {(run.scores.labels[item], predicted[item]) for item in shown.rows} <= {(row, column)}
            shown.tabs.selected_index = 1
            assert shown.side.value == side
        others, other = confusion((shown.b if side == "A" else shown.a).value[0].scores), "BA"[side == "B"]
        pairs, index = shown.pairs.df, {name: number for number, name in enumerate(ODD)}
        cells = pairs["class"].map(index), pairs["predicted as"].map(index)
        assert pairs[f"{other} items"].tolist() == others[cells].tolist()
        before, shown.percent.value = shown.matrix.value, side == "A"
        assert shown.matrix.value != before and ("per cent of the row" in shown.matrix_caption.value) == (side == "A")
        shown.pairs.selected_rows = [0]
        assert len(shown.rows) == whole[~np.eye(6, dtype=bool)].max() and shown.tabs.selected_index == 2


def test_difference_of_the_matrices_lists_videos_of_one_network(shown):
    a, b = (confusion(run.scores) for (run,) in (shown.a.value, shown.b.value))
    shown.tabs.selected_index, shown.matrix_side.value = 1, "A − B"
    assert shown.views["Confusion"].table["items"].tolist() == (a - b).ravel().tolist()
    assert "Positive, blue: A has more; negative, orange: B has more" in text_of(shown.matrix_caption)
    wrong = a.sum() - a.trace(), b.sum() - b.trace()
    assert "{} by A and {} by B of 40 items are wrong; the largest".format(*wrong) in text_of(shown.matrix_caption)
    pairs, off = shown.pairs.df, (a - b)[~np.eye(6, dtype=bool)]
    assert pairs["A − B items"].abs().tolist() == sorted(np.abs(off[off != 0]), reverse=True)
    assert (pairs["A items"] - pairs["B items"]).tolist() == pairs["A − B items"].tolist()
    assert set(zip(pairs["A items"] > 0, pairs["B items"] > 0, strict=True)) >= {(True, False), (False, True)}
    labels, predicted = (
        shown.comparison.a.scores.labels,
        [s.predictions[5].pred[0] for _, s, _ in shown.comparison.sides()],
    )
    for row, n in enumerate(pairs["A − B items"]):
        shown.tabs.selected_index = 1
        shown.pairs.selected_rows = [row]
        more, less = predicted if n > 0 else predicted[::-1]
        cell = (labels == shown.true.value) & (more == shown.pred.value)
        assert set(shown.rows) == set(np.flatnonzero(cell & (less != shown.pred.value))) and len(shown.rows) >= abs(n)
    shown.tabs.selected_index = 1
    cell = int((a - b).ravel().argmin())
    point(shown, cell, "mousemove")
    share = (a - b).ravel()[cell] / a[cell // 6].sum()
    says = f"A − B {(a - b).min()} items, {100 * share:.1f} % of the class".replace("-", "−")
    assert says in text_of(shown.matrix_value)
    point(shown, cell)
    assert (shown.side.value, shown.items.value) == ("B", "A and B disagree")
    shown.b.value = shown.b.options[-1][1]
    assert shown.matrix_side.value == "A − B", "another run keeps it"
    shown.b.value = None
    assert shown.matrix_side.options == ("A",)


def test_matrices_of_both_networks_have_the_same_rows(many):
    shown, rows = many, set()
    shown.tabs.selected_index = 1
    for side in shown.matrix_side.options:
        shown.matrix_side.value = side
        rows.add(tuple(shown.views["Confusion"].table["class"].unique()))
        assert "20 of 30 classes: those most confused by A or B" in text_of(shown.matrix_caption)
    assert len(rows) == 1
    a, b = (confusion(run.scores) for (run,) in (shown.a.value, shown.b.value))
    n = np.maximum(a, b) * ~np.eye(30, dtype=bool)
    frequent = {f"class {number:02d}" for number in np.argwhere(n == n.max()).ravel()}
    assert len(frequent) < 20 and frequent <= set(*rows)


def test_filters_select_items_and_draw_a_video(shown):
    shown.tabs.selected_index = 2
    assert shown.items.value == "A and B disagree"
    sides = shown.comparison.a, shown.comparison.b
    for show in predictions.ITEM_FILTERS:
        shown.items.value = show
        assert len(shown.videos.df) == len(predictions.select_items(*sides, 5, show=show)), show
    shown.items.value = "all"
    item = int(shown.rows[7])
    before = shown.video.value
    select_item(shown, item)
    assert shown.video.value != before and html.escape(VIDEOS[item]) in shown.video.value
    for axes, scored in zip(shown.views["Videos"].figure.axes, sides, strict=True):
        *_, each = predictions.clip_probabilities(scored, item, 5)
        np.testing.assert_allclose(np.transpose([line.get_ydata() for line in axes.lines]), 100 * each, rtol=1e-6)
        rank = scored.predictions[5].label_rank[0, item] + 1
        assert f"its rank of the class is {rank}" in text_of(shown.video)
    shown.clips.value = 2
    assert shown.row == item, "the video stays selected while the slider moves"
    shown.search.value, shown.confidence.value = "«3", (30, 60)
    assert {VIDEOS[item].split("«")[1][0] for item in shown.rows} == {"3"}
    assert shown.videos.df["A %"].between(29.9, 60.1).all()
    shown.true.value, shown.items.value, shown.search.value, shown.confidence.value = 1, "A correct", "", (0, 100)
    shown.pred.value = 2
    assert len(shown.videos.df) == 0 and text_of(shown.video).strip() == "No such video."


def test_choices_do_not_outlive_their_data(many):
    shown = many
    shown.class_table.selected_rows, shown.tabs.selected_index = [1], 2
    shown.true.value, shown.search.value, shown.confidence.value = 3, "1", (10, 90)
    shown.tabs.selected_index = 0
    tables = [shown.class_table._dt_args["stateLoadCallback"]]
    shown.b.value = None
    assert (shown.true.value, shown.search.value, shown.chosen) == (3, "1", [1]), "another run keeps them"
    tables.append(shown.class_table._dt_args["stateLoadCallback"])
    shown.data.value = f"{NASTY}, action"
    tables.append(shown.class_table._dt_args["stateLoadCallback"])
    orders = [re.findall("data == ([0-9]+)", table) for table in tables]
    assert orders[0] == orders[1] != orders[2], "the order of a table is that of its data"
    shown.tabs.selected_index = 2
    assert (shown.true.value, shown.search.value, shown.confidence.value, shown.chosen) == (-1, "", (0, 100), [])
    assert shown.row == shown.rows[0] and shown.items.value == "A and B disagree"


def test_tables_have_no_negative_zero(shown):
    fill_table(shown.class_table, pd.DataFrame({"class": ["a", "b"], "A − B": [-0.04, -0.06], "items": [1, 2]}), [], 0)
    assert shown.class_table.df.to_csv(index=False).split() == ["class,A", "−", "B,items", "a,0.0,1", "b,-0.1,2"]


def test_mean_over_seeds_is_of_all_runs(tmp_path):
    specs = variant_comparison("small", "set", variants=("R3D", "MC3"), seeds=(0, 1, 2), eval_clips=5)
    runs = [write_run(spec, tmp_path, number) for number, spec in enumerate(specs)]
    shown = Explorer(str(tmp_path), networks="R3D")
    labels = [label for label, _ in shown.a.options]
    assert labels[:3] == ["MC3-18, mean of 3 seeds", "MC3-18, seed 0", "MC3-18, seed 1"]
    assert (shown.a.label, shown.b.label) == ("R3D-18, mean of 3 seeds", "MC3-18, mean of 3 seeds")
    means = [np.mean([metrics.video_at(r.scores, 1) for r in runs if r.spec.variant == v]) for v in ("R3D", "MC3")]
    for mean in means:
        assert f"<td>{100 * mean:.1f}</td>" in shown.summary.value
    assert "and include the variance over several seeds" in text_of(shown.summary)
    shown.tabs.selected_index = 1
    total = np.sum([confusion(r.scores) for r in runs if r.spec.variant == "R3D"], axis=0)
    np.testing.assert_allclose(shown.views["Confusion"].table["items"], total.ravel() / 3)
    shown.tabs.selected_index = 2
    assert "Predictions of A are those of seed 0. Predictions of B are those of seed 0." in text_of(shown.n_items)
    shown.a.value = (shown.runs[0],)
    assert "Predictions of A" not in text_of(shown.n_items), "A is one seed, as its name says"
    assert "Predictions of B are those of seed 0." in text_of(shown.n_items)


def test_opens_on_the_newest_runs_with_videos(tiny_manifest, tmp_path):
    options = {"variants": ("R3D", "R(2+1)D"), "eval_clips": 5}
    for data in ("tiny", "elsewhere"):
        for spec in variant_comparison("small", data, **options):
            (write_run(spec, tmp_path).folder / "checkpoint.pt").touch()
    write_run(variant_comparison("demo", "tiny", variants=("R3D",))[0], tmp_path)
    manifests = str(tiny_manifest.parent)
    shown = Explorer(str(tmp_path), manifests)
    assert shown.data.value == "tiny, action" and shown.classifier.weights.value == str(shown.a.value[0].folder)
    shown.a.value = shown.b.value
    assert shown.classifier.weights.value == str(shown.a.value[0].folder), "own videos use run A"
    assert Explorer(str(tmp_path)).data.value == "elsewhere, action", "without videos the first"
    assert Explorer(str(tmp_path), manifests, data="elsewhere, action").data.value == "elsewhere, action"
    (tmp_path / "elsewhere.csv").write_text("no manifest")
    assert Explorer(str(tmp_path), [manifests, str(tmp_path)]).data.value == "tiny, action", "a broken manifest"
    protocol = shown.protocol.value
    assert Explorer(str(tmp_path), data="tiny", protocol=protocol).protocol.value == protocol
    for wrong in ({"data": "gone"}, {"protocol": "gone"}):
        says = rf"parameter {next(iter(wrong))} = 'gone': expected one of '.*(tiny|clips)"
        with pytest.raises(R21DError, match=says):
            Explorer(str(tmp_path), manifests, **wrong)


def test_opens_on_the_numbers_of_the_readme(tiny_manifest, tmp_path, monkeypatch):
    """With the notebook's own parameters; a demonstration with checkpoint and videos is a menu away."""
    demo = write_run(variant_comparison("demo", "tiny", variants=("R3D",))[0], tmp_path)
    (demo.folder / "checkpoint.pt").touch()
    names = "runs", "manifests", "networks", "weights", "data", "protocol"
    notebook = nbformat.read(ROOT / "notebooks" / "explorer.ipynb", as_version=4)
    exec(next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())), values := {})
    monkeypatch.chdir(ROOT / "notebooks")
    runs = values["runs"].replace("../runs", str(tmp_path))
    shown = Explorer(runs, str(tiny_manifest.parent), *(values[name] for name in names[2:]))
    assert "tiny, action (demonstration)" in shown.data.options
    assert (shown.data.value, shown.a.label) == ("ucf101-14, 3 splits, action", "R3D-18, mean of 5 seeds")
    summary = " ".join(text_of(shown.summary).split())
    readme = (ROOT / "README.md").read_text()
    best, gap, interval = re.search(
        r"R\(2\+1\)D has ([\d.]+) % video@1; minus it R3D (\S+) points \((.*?)\)", readme
    ).groups()
    assert re.search(
        rf"B: R\(2\+1\)D-18, mean of 5 seeds \S+ {best} .* A − B \(points\) {gap} {re.escape(interval)} ", summary
    )
    assert "1,489 videos" in summary and "mean over splits. Seeds: 5 and 5." in summary


@pytest.mark.parametrize("trained", [True, False])
def test_demonstration_opens_on_the_data_with_most_networks(trained, tiny_manifest, tmp_path):
    """Not on the splits pooled, which come first in the menu, with one network."""
    specs = [variant_comparison("demo", f"set-split{split}", variants=("R(2+1)D",))[0] for split in (1, 2)]
    specs += variant_comparison("demo", "tiny", variants=("R3D", "R(2+1)D"))
    for spec in specs:
        run = write_run(spec, tmp_path)
        if trained:
            (run.folder / "checkpoint.pt").touch()
    shown = Explorer(str(tmp_path), str(tiny_manifest.parent))
    assert shown.data.options[0] == "set, 2 splits, action (demonstration)"
    assert (shown.data.value, shown.a.label, shown.b.label) == ("tiny, action (demonstration)", "R3D-10", "R(2+1)D-10")


def test_splits_of_a_data_set_are_one_entry(tmp_path):
    """Each split has its videos and counts alike; a network that lacks a split is compared on the other alone."""
    names = {1: VIDEOS[:10], 2: VIDEOS[10:]}
    for split, videos in names.items():
        specs = variant_comparison("small", f"set-split{split}", variants=("R3D", "MC3"), seeds=(0, 1), eval_clips=5)
        for number, spec in enumerate(specs):
            write_run(spec, tmp_path, 10 * split + number, videos=videos)
    write_run(variant_comparison("small", "set-split1", variants=("MC2",), eval_clips=5)[0], tmp_path, videos=names[1])
    shown = Explorer(str(tmp_path), data="set")
    assert shown.data.options == ("set, 2 splits, action", "set-split1, action", "set-split2, action")
    labels = [label for label, _ in shown.a.options]
    assert labels == [f"{n}-18, {of}" for n in ("MC3", "R3D") for of in ("mean of 2 seeds", "seed 0", "seed 1")]
    assert (shown.a.label, shown.b.label) == ("R3D-18, mean of 2 seeds", "MC3-18, mean of 2 seeds")
    mean = np.mean([metrics.video_at(run.scores, 1) for run in shown.a.value])
    assert f"<td>{100 * mean:.1f}</td>" in shown.summary.value and "40 videos" in text_of(shown.summary)
    assert "set, 2 splits," in text_of(shown.summary) or NASTY in html.unescape(shown.summary.value)
    a = shown.comparison.a
    assert a.run_of(9).spec.data == "set-split1" and a.run_of(10).spec.data == "set-split2"
    for seed, runs in enumerate((shown.a.value[:2], shown.a.value[2:])):
        correct = np.concatenate([metrics.video_correct(run.scores) for run in runs])
        np.testing.assert_array_equal(a.correct(5)[seed], 100.0 * correct)
    shown.a.value = next(value for label, value in shown.a.options if label == "R3D-18, seed 1")
    assert shown.comparison.a.seeds == [1] and len(shown.a.value) == 2
    shown.data.value = "set-split1, action"
    assert "MC2-18" in [label for label, _ in shown.a.options]


def test_a_and_b_are_of_one_recipe(tmp_path):
    """The first of A's recipes has no run of B's network."""
    for variant, clips in (("R3D", 636), ("R3D", 1272), ("MC3", 1272)):
        options = {"variants": (variant,), "clips_per_epoch": clips, "eval_clips": 5}
        write_run(variant_comparison("small", "set", **options)[0], tmp_path)
    shown = Explorer(str(tmp_path), networks="R3D, MC3")
    assert shown.a.options[0][1][0].spec.variant == "MC3" and shown.a.options[1][0] == "R3D-18, clips_per_epoch 636"
    assert (shown.a.label, shown.b.label) == ("R3D-18, clips_per_epoch 1272", "MC3-18")


def test_another_data_set_keeps_the_protocol_or_has_the_usual(folder):
    """The usual is that of most runs."""
    for frames, variants in ((4, ("R3D",)), (8, ("R3D", "MC3")), (16, ("R3D",))):
        for spec in variant_comparison("small", "other", variants=variants, frames=frames, eval_clips=5):
            write_run(spec, folder)
    shown = Explorer(str(folder), data=NASTY)
    here = shown.protocol.value
    shown.data.value = "other, action"
    assert shown.protocol.options[0] == "any" and len(shown.protocol.options) == 4
    assert shown.protocol.value == here and "of 16 frames, frame stride 2" in here
    shown.protocol.value = next(name for name in shown.protocol.options if "of 4 frames" in name)
    shown.data.value = shown.data.options[0]
    assert shown.protocol.value == here, "without clips of 4 frames"
    write_run(variant_comparison("small", "third", variants=("R3D",), frames=32, eval_clips=5)[0], folder)
    shown = Explorer(str(folder), data="third")
    shown.data.value = "other, action"
    assert "of 8 frames" in shown.protocol.value and len(shown.a.options) == 2


def save_map(run, video):
    """Write a record of `run` with a map of one video."""
    arrays = {"videos": [video], "methods": ["Grad-CAM"], "pred": ["a"], "target": ["b"], "probability": [0.4],
              "frames": np.zeros((1, 2, 8, 8, 3), np.uint8), "maps": np.ones((1, 1, 2, 8, 8), np.float16)}  # fmt: skip
    metadata = {"spec": json.loads(run.spec.to_json())}
    save_record(run.folder / ATTRIBUTIONS, InsightRecord(metadata, {name: np.array(arrays[name]) for name in arrays}))


def test_recorded_maps_are_shown_without_a_checkpoint(shown):
    """Of a video that the record of A has, B has none; of another video the message names those that have maps. Then B
    has a record too, of this other video at the playback rate that is its class.
    """
    shown.tabs.selected_index, run = 2, shown.a.value[0]
    video, other = (str(shown.comparison.a.scores.videos[row]) for row in shown.rows[:2])
    save_map(run, video)
    select_item(shown, shown.rows[0])
    shown.compute_saliency()
    assert 'src="data:image/png' in shown.saliency.value and "From the records" in text_of(shown.saliency)
    assert NASTY not in shown.saliency.value
    select_item(shown, shown.rows[1])
    shown.compute_saliency()
    assert "need a run's checkpoint" in text_of(shown.saliency) and "<img" not in shown.saliency.value
    assert f"recorded are maps of {video}" in text_of(shown.saliency) and other not in text_of(shown.saliency)
    class_name = shown.comparison.item_name(shown.rows[1])[1]
    save_map(shown.b.value[0], f"{other}, {class_name}")
    shown.compute_saliency()
    assert 'src="data:image/png' in shown.saliency.value and f"maps for {class_name}" in text_of(shown.saliency)


def test_recorded_maps_may_be_of_any_seed(tmp_path):
    """Of three seeds the second has a record; its maps are shown for the mean of all."""
    specs = variant_comparison("small", "set", variants=("R3D",), seeds=(0, 1, 2), eval_clips=5)
    first, second, _ = (write_run(spec, tmp_path, number) for number, spec in enumerate(specs))
    shown = Explorer(str(tmp_path))
    shown.tabs.selected_index, shown.a.value = 2, next(value for _, value in shown.a.options if len(value) == 3)
    save_map(second, str(first.scores.videos[shown.row]))
    shown.compute_saliency()
    assert 'src="data:image/png' in shown.saliency.value and "From the records" in text_of(shown.saliency)


def test_single_run_offers_no_comparison(tmp_path):
    write_run(variant_comparison("demo", variants=("R3D",))[0], tmp_path)
    shown = Explorer(str(tmp_path))
    assert shown.b.value is None and shown.comparison.b is None
    for tab in range(3):
        shown.tabs.selected_index = tab
    assert not [name for name in (*shown.items.options, *shown.class_table.df) if re.search("B|both", name)]
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


def test_incomparable_or_damaged_runs_are_reported(folder):
    write_run(variant_comparison("small", NASTY, variants=("MC2",), eval_clips=5)[0], folder, videos=VIDEOS[:-1])
    broken = write_run(variant_comparison("small", NASTY, variants=("MC4",), eval_clips=5)[0], folder)
    (broken.folder / "scores.npz").write_bytes(b"no")
    write_run(variant_comparison("small", NASTY, variants=("MC5",), eval_clips=4)[0], folder, clips=4)
    shown = Explorer(str(folder), protocol="any")
    runs = {value[0].spec.variant: value for _, value in shown.a.options}
    for variant, says in (("MC2", "evaluated on different videos"), ("MC4", "checksum")):
        shown.b.value = runs[variant]
        assert "only A is shown" in text_of(shown.status) and says in text_of(shown.status)
        assert shown.comparison.b is None and "B:" not in shown.summary.value and "A:" in shown.summary.value
    shown.b.value = shown.a.value
    assert text_of(shown.status).strip() == "only A is shown: A and B are the same run"
    shown.b.value = runs["MC5"]
    assert shown.clips.options == (2,) and "only A" not in text_of(shown.status)
    shown.a.value = runs["MC4"]
    assert "checksum" in text_of(shown.status) and shown.summary.value == ""
    assert [tab.layout.visibility for tab in shown.tabs.children] == ["hidden"] * 3 + [None], "the runs before"
    for tab in range(4):
        shown.tabs.selected_index = tab
    shown.a.value = runs["R3D"]
    assert "A:" in shown.summary.value and text_of(shown.status).strip() == ""
    assert shown.tabs.children[0].layout.visibility == "visible"


def test_runs_that_are_not_offered_are_reported(folder):
    (folder / "torn").mkdir()
    (folder / "torn" / "spec.json").write_text("{")
    (next(folder.glob("*r3d*")) / "summary.json").unlink()
    said = text_of((shown := Explorer(str(folder))).status)
    assert shown.comparison and "torn: cannot be read" in said and re.search("unfinished runs: 1, such as .*r3d", said)


def test_recent_runs_are_cached(folder, monkeypatch):
    opened, score_runs = [], predictions.score_runs
    monkeypatch.setattr(predictions, "score_runs", lambda runs: opened.append(runs) or score_runs(runs))
    shown = Explorer(str(folder))
    shown.b.value = other = next(value for _, value in shown.a.options if value[0].spec.variant == "f-R2D")
    shown.b.value = next(value for _, value in shown.a.options if value[0].spec.variant == "R(2+1)D")
    assert opened == [shown.a.value, shown.b.value, other], "a recent run is not read again"
    assert shown.load.cache_info().maxsize == 4, "memory stays bounded"


def test_hostile_names_are_escaped(drawn, shown, displayed):
    for tab in range(3):
        shown.tabs.selected_index = tab
    point(shown, 0, "mousemove")
    shown.report(NASTY)
    grid = media.thumbnails_html([(NASTY, media.Path("gone.mp4"), 0)])
    for text in (*(getattr(shown, name).value for name in HTMLS), grid, text_html(NASTY)):
        assert "<script" not in text and NASTY not in text and 'alert("' not in text
    assert html.escape(NASTY) in shown.summary.value and html.escape(NASTY) in shown.video.value
    shown._ipython_display_()
    for one in displayed:
        assert "<script" not in str(getattr(one, "data", "")[:20_000])


def test_names_from_the_right_leave_the_order_of_other_text(tmp_path):
    classes = ("ריצה", "مرحبا 3", "a \u202eb")  # the last turns the order by itself
    specs = variant_comparison("small", "set", variants=("R3D", "MC3"), eval_clips=5)
    for number, spec in enumerate(specs):
        write_run(spec, tmp_path, number, classes=classes)
    shown = Explorer(str(tmp_path))
    found = []
    for tab in range(3):
        shown.tabs.selected_index = tab
        view = list(shown.views.values())[-1]
        found += [view.caption, *texts(view.figure)]
    point(shown, 1, "mousemove")
    found.append(text_of(shown.matrix_value))
    for name in classes:
        assert sum(name in text for text in found) >= 5
        assert all(text.count(name) == text.count(f"\u2068{name}\u2069") for text in found)
    assert set(shown.class_table.df["class"]) == set(classes), "cells have one direction each"
    for letter in "א", "م", "٣", "\u202b", "\u202e", "\u2067":
        assert isolate(f"a{letter}") == f"\u2068a{letter}\u2069"
    assert isolate("é 3 →") == "é 3 →"


def test_table_keeps_its_page_while_its_rows_are_the_same(shown):
    """The first column tells; the page of other rows is the first."""
    pages = []
    for names, values in (("ab", (1, 2)), ("ab", (2, 1)), ("ba", (2, 1))):
        fill_table(shown.class_table, pd.DataFrame({"class": list(names), "items": values}), [], 0)
        pages.append(re.search(r"start: (\S+)}", shown.class_table._dt_args["stateLoadCallback"])[1])
    assert pages == ["0", "state.start", "0"]


def test_static_display_has_figures_and_captions(shown, displayed):
    assert not is_interactive()
    shown._ipython_display_()
    pictures = [one for one in displayed if isinstance(one, Image)]
    assert len(pictures) == 3 and all(one.data.startswith(b"\x89PNG") and one.alt for one in pictures)
    assert list(shown.static_views()) == ["By class", "Confusion matrix of A", "A video over time"]
    captions = [text_of(displayed[displayed.index(one) + 1], "data").strip() for one in pictures]
    assert "A − B excludes zero in 0 of 6 classes" in captions[0]
    wrong = confusion(shown.a.value[0].scores)
    np.fill_diagonal(wrong, 0)
    assert f"{wrong.sum()} of 40 items are wrong, most often {wrong.max()} × " in captions[1]
    best, _, means, _ = predictions.clip_probabilities(shown.comparison.a, shown.row, 5)
    text = f"{VIDEOS[shown.row]}, class {ODD[shown.row % 6]}. A predicts {ODD[best[0]]}, {100 * means[0]:.0f} %"
    assert text in captions[2]


def test_benchmark_times_every_widget(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer, "ROUNDS", 1)
    size = (40, 10, 3)
    explorer._write_runs(str(tmp_path), *size)
    *moved, opened = explorer._measure(str(tmp_path), *size)
    assert len(moved) == 14 and all(0 < row["ms_fastest"] <= row["ms"] <= row["ms_slowest"] for row in moved)
    assert opened["what"] == "opening both runs" and opened["gib"] > 0
