"""The explorer's counts equal the metrics; its intervals equal scipy, enumeration and the bootstrap."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import stats
from scipy.special import softmax

from r21d_analysis.artifacts.confirmatory import PLANNED, confirmatory_table, family_specs
from r21d_analysis.explorer import figures, predictions, run_menu
from r21d_analysis.explorer.comparison import Comparison
from r21d_analysis.explorer.figures import (
    DARK_CELLS,
    MATRIX_COLORS,
    class_figure,
    confusion_figure,
    matrix_cell,
    time_figure,
)
from r21d_analysis.interpret.html import figure_png
from r21d_analysis.statistics.clips import exact_counts, with_clips
from r21d_analysis.statistics.inference import Outcomes, estimate_mean
from r21d_core.runs import metrics
from r21d_core.runs.run import find_run, load_runs
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import variant_comparison
from r21d_core.study.spec import Spec
from tests.runs import make_runs, random_scores

RESULTS = Path(__file__).parents[3] / "results"
ODD = ('<script>alert("1")</script>', "cost in $ and $", "Überraschung ∂é", "_private", "=1+1", "手话" * 20)


def scores(seed=0, items=60, clips=7, classes=6, videos=None, low=0, high=4):
    """Integer logits of few values, so that ties are common."""
    random = np.random.default_rng(seed)
    logits = random.integers(low, high, (items, clips, classes)).astype(np.float32)
    labels = random.integers(0, classes, items)
    names = np.array([f"v{number:03d}" for number in range(items)]) if videos is None else videos
    return Scores(logits, labels, names, names, ODD[:classes], {"clips": clips, "task": "action", "families": {}})


def score(scores: Scores, monkeypatch, at_once=100):
    """Score a run in many small chunks."""
    monkeypatch.setattr(predictions, "CHUNK_LOGITS", at_once)
    return score_seeds([scores])


def score_seeds(seeds, **fields):
    """Score several runs of one network, whose Spec has these fields."""
    specs = [Spec(**fields | {"seed": number}) for number in range(len(seeds))]
    members = [{"scores": scores, "spec": spec} for scores, spec in zip(seeds, specs, strict=True)]
    return predictions.score_runs(tuple(type("Run", (), fields)() for fields in members))


def confusion(scores):
    """The predictions for the items of each class, (classes, classes)."""
    counts = np.zeros((len(scores.classes),) * 2, int)
    for label, pred in zip(scores.labels, metrics.video_probabilities(scores).argmax(axis=1), strict=True):
        counts[label, pred] += 1
    return counts


def accuracy_by_class(scores):
    """video@1 of each class."""
    return confusion(scores).diagonal() / confusion(scores).sum(axis=1)


@pytest.fixture
def pair(monkeypatch):
    """Two scored runs on the same items."""
    return [score(replace(scores(seed), labels=scores(0).labels), monkeypatch) for seed in (0, 1)]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.sampled_from([1, 2, 3, 5, 7, 10]), at_once=st.sampled_from([1, 97, 10**6]))
def test_every_clip_count_matches_the_metrics(seed, clips, at_once):
    with pytest.MonkeyPatch.context() as patch:
        one = scores(seed, clips=clips)
        found = score(one, patch, at_once)
    assert list(found.predictions) == exact_counts(clips)
    for count, predicted in found.predictions.items():
        fewer = with_clips(one, count)
        assert (predicted.pred[0] == metrics.video_probabilities(fewer).argmax(axis=1)).all()
        for k in (1, 2, 5):
            assert ((predicted.label_rank[0] < k) == metrics.video_correct(fewer, k)).all()
        assert predicted.clip_accuracy.mean() == pytest.approx(metrics.clip_at_1(fewer))
        table, whole = predictions.class_table(found, None, count), confusion(fewer)
        np.testing.assert_allclose(table["A recall"] / 100, accuracy_by_class(fewer))
        with np.errstate(invalid="ignore"):
            precision, recall = (whole.diagonal() / whole.sum(axis=axis) for axis in (0, 1))
            f1 = np.nan_to_num(2 * precision * recall / (precision + recall))[table.index]
        np.testing.assert_allclose(table["A precision"] / 100, precision[table.index])
        np.testing.assert_allclose(table["A F1"] / 100, f1)
        counts = predictions.confusion_matrix(found, count)
        assert (counts == whole).all() and (predictions.matrix_classes(counts) == np.arange(6)).all()


def test_several_seeds_have_the_mean_of_their_precision_and_f1():
    seeds = [replace(scores(seed), labels=scores(0).labels) for seed in range(3)]
    seeds[2].logits[..., 1] = -1  # a seed that never predicts class 1
    table = predictions.class_table(score_seeds(seeds), None, 7)
    whole = np.array([confusion(one) for one in seeds])
    right, n_pred = whole.diagonal(axis1=1, axis2=2), whole.sum(axis=1)
    n_seeds = (n_pred > 0).sum(axis=0)
    assert n_seeds.tolist() == [3, 2, 3, 3, 3, 3]
    precision = (right / np.maximum(n_pred, 1)).sum(axis=0) / n_seeds
    np.testing.assert_allclose(table["A precision"] / 100, precision)
    np.testing.assert_allclose(table["A F1"] / 100, (2 * right / (n_pred + whole.sum(axis=2))).mean(axis=0))


def test_class_differences_match_scipy(pair):
    one, other = pair
    table = predictions.class_table(one, other, 7)
    a, b = (100.0 * metrics.video_correct(found.scores) for found in (one, other))
    columns = {("low", "A − B", "high"): (a - b, -100), ("A low", "A recall", "A high"): (a, 0)}
    for number, row in table.iterrows():
        for names, (values, least) in columns.items():
            values = values[one.scores.labels == number]
            interval = stats.ttest_1samp(values, 0).confidence_interval()  # a video, a recording
            low, high = np.clip(interval, least, 100) if np.ptp(values) else (np.nan, np.nan)
            assert row[[*names]].tolist() == pytest.approx([low, values.mean(), high], nan_ok=True)


def test_classes_without_items_are_omitted(monkeypatch):
    one = scores()
    one = score(replace(one, labels=np.minimum(one.labels, 3)), monkeypatch)
    table = predictions.class_table(one, one, 7)
    assert table["class"].tolist() == list(ODD[:4])


def test_items_of_a_recording_are_one_unit(monkeypatch):
    groups = np.array([f"g{number // 4}" for number in range(60)])
    one, other = (score(replace(scores(seed), labels=scores(0).labels, groups=groups), monkeypatch) for seed in (0, 1))
    a, b = (100.0 * metrics.video_correct(run.scores) for run in (one, other))
    summary = Comparison(one, other, "a", "b", 7).summary_table()
    interval = stats.ttest_1samp(a.reshape(15, 4).mean(axis=1), 0).confidence_interval()
    assert f"{interval.low:.1f} to {interval.high:.1f}" in summary
    interval = stats.ttest_1samp((a - b).reshape(15, 4).mean(axis=1), 0).confidence_interval()
    texts = f"{interval.low:+.1f} to {interval.high:+.1f}", f"{(a - b).mean():+.1f}"
    assert interval.low < 0 and all(text.replace("-", "−") in summary for text in texts)


def test_caption_says_whose_seeds_the_variance_has():
    """Tables pool it over more networks; the default pair, the primary contrast, has the interval of its table."""
    runs = load_runs(RESULTS / "actions.zip")
    members = {run.spec: run for run in runs}
    sides = []
    for variant in ("R3D", "R(2+1)D"):
        specs = sorted((s for s in family_specs(PLANNED[0]) if s.variant == variant), key=lambda s: (s.seed, s.data))
        sides.append(predictions.score_runs(tuple(members[spec] for spec in specs)))
    shown = Comparison(*sides, "a", "b", 10)
    row = confirmatory_table(runs, PLANNED[:1]).iloc[0]
    interval = f"{row['low']:+.1f} to {row['high']:+.1f}".replace("-", "−")
    assert interval in shown.summary_table() and "of the networks shown alone" in shown.caption()
    assert "actions: 1,489 videos" in shown.caption() and "by recording, of which there are 294" in shown.caption()
    spoken = score_seeds([scores()], data="miracl-vc1-split1")
    caption = Comparison(spoken, None, "a", "", 7).caption()
    assert "speech: 60 videos" in caption and "Intervals are by speaker" in caption
    assert caption.endswith("and do not include the variance over seeds.")


def test_video_of_a_pack_has_rounded_probabilities(monkeypatch):
    for protocol, rounded in (({}, False), ({"quantization": {}}, True)):
        written = scores()
        written = replace(written, protocol=written.protocol | protocol)
        shown = Comparison(score(written, monkeypatch), None, "a", "", 7)
        caption = shown.video_view(0, shown.items_view(np.arange(2)), None).caption
        assert ("rounds most clips' probabilities to multiples of 5 %" in caption) == rounded


def test_first_five_of_a_pack_are_those_of_all_clips(monkeypatch):
    written = scores()
    packed = replace(written, protocol=written.protocol | {"quantization": {}})
    for of, count, dash in ((written, 4, False), (packed, 7, False), (packed, 4, True)):
        summary = Comparison(score(of, monkeypatch), None, "a", "", count).summary_table()
        assert ("<td>–</td>" in summary) == dash


def test_item_filters_match_brute_force(pair):
    one, other = pair
    a, b = ([*map(np.ravel, run.predictions[4])] for run in (one, other))
    a, b = predictions.ItemPredictions(*a), predictions.ItemPredictions(*b)
    says = {
        "all": lambda i: True,
        "A correct": lambda i: a.label_rank[i] == 0,
        "A wrong": lambda i: a.label_rank[i] > 0,
        "B correct": lambda i: b.label_rank[i] == 0,
        "B wrong": lambda i: b.label_rank[i] > 0,
        "only A correct": lambda i: a.label_rank[i] == 0 < b.label_rank[i],
        "only B correct": lambda i: b.label_rank[i] == 0 < a.label_rank[i],
        "both wrong": lambda i: a.label_rank[i] > 0 < b.label_rank[i],
        "A and B disagree": lambda i: a.pred[i] != b.pred[i],
    }
    assert says.keys() == predictions.ITEM_FILTERS.keys()
    for show, keep in says.items():
        for of, predicted in (("A", a), ("B", b)):
            rows = predictions.select_items(one, other, 4, show=show, side=of)
            assert set(rows) == {i for i in range(60) if keep(i)}
            assert (np.diff(predicted.confidence[rows]) <= 0).all()
            rows = predictions.select_items(one, other, 4, show=show, side=of, true=2, pred=(1, 3))
            is_cell = (one.scores.labels == 2) & np.isin(predicted.pred, (1, 3))
            assert set(rows) == {i for i in range(60) if keep(i) and is_cell[i]}
            rows = predictions.select_items(one, other, 4, show=show, side=of, search=" V01 ", confidence=(20, 40))
            assert set(rows) == {i for i in range(10, 20) if keep(i) and 20 <= 100 * predicted.confidence[i] <= 40}
    name = ODD[2].upper()
    assert set(predictions.select_items(one, other, 4, search=name)) == set(np.flatnonzero(one.scores.labels == 2))
    table = Comparison(one, other, "a", "b", 4).items_view(np.array([5, 3])).table
    assert table["video"].tolist() == ["v005", "v003"]
    assert table["A rank"].tolist() == (a.label_rank[[5, 3]] + 1).tolist()


def test_large_matrix_has_frequent_confusions(monkeypatch):
    many = scores(items=400, classes=6)
    many = replace(many, classes=tuple(f"c{number}" for number in range(30)))
    random = np.random.default_rng(0)
    logits = random.normal(size=(400, 7, 30)).astype(np.float32)
    one = score(replace(many, logits=logits, labels=random.integers(0, 30, 400)), monkeypatch, 10**6)
    whole = confusion(one.scores)
    members = predictions.matrix_classes(whole)
    counts = predictions.take_classes(whole, members)
    assert len(members) == 20 and counts.shape == (20, 21) and (np.diff(members) > 0).all()
    assert (counts[:, :20] == whole[np.ix_(members, members)]).all()
    assert (counts.sum(axis=1) == whole[members].sum(axis=1)).all()
    pairs, wrong = predictions.confused_pairs(whole), whole[~np.eye(30, dtype=bool)]
    assert whole[*pairs.T].tolist() == sorted(wrong[wrong > 0], reverse=True)
    assert set(pairs[0]) <= set(members)
    for chosen in range(30):
        n_confused = np.maximum(whole[chosen], whole[:, chosen])
        n_confused[chosen] = whole.max() + 1
        members = predictions.matrix_classes(whole, [chosen])
        counts = predictions.take_classes(whole, members)
        omitted = np.setdiff1d(np.arange(30), members)
        assert chosen in members and len(members) == min((n_confused > 0).sum(), 20)
        assert n_confused[members].min() >= n_confused[omitted].max() and (np.diff(members) > 0).all()
        assert (counts[:, :-1] == whole[np.ix_(members, members)]).all()


def test_other_predictions_of_several_seeds_differ_by_zero():
    """Of sums of thirds that are equal: else the cell would have a color."""
    a, b = np.array([[0, 0, 0, 0, 1, 5], [0, 0, 4, 1, 1, 0]]) / 3
    difference = np.vstack([a - b, np.zeros((5, 6))])
    assert (a - b).sum() != 0 and predictions.take_classes(difference, np.array([0, 1]))[0].tolist() == [0, 0, 0]


def test_clip_probabilities_are_softmax(monkeypatch):
    one = score(scores(), monkeypatch)
    for row in range(20):
        best, ranks, means, each = predictions.clip_probabilities(one, row, 4, top=3)
        by_hand = softmax(one.scores.logits[row, [0, 2, 4, 6]], axis=1)
        label, rank = one.scores.labels[row], one.predictions[4].label_rank[0, row] + 1
        assert ranks.tolist() == [1, 2, 3, *[rank] * int(rank > 3)] and ranks[best.tolist().index(label)] == rank
        np.testing.assert_allclose(each, by_hand[:, best], rtol=1e-6)
        np.testing.assert_allclose(means, np.sort(by_hand.mean(axis=0))[::-1][ranks - 1], rtol=1e-6)


def test_finished_runs_are_unique_and_labeled(tmp_path):
    specs = variant_comparison("small", "set", variants=("R3D", "f-R2D"), seeds=(0, 1))
    make_runs(specs, tmp_path / "a")
    make_runs(specs[:1], tmp_path / "b")
    make_runs(variant_comparison("demo", variants=("R3D",)), tmp_path / "b")
    (tmp_path / "b" / "torn").mkdir()
    (tmp_path / "b" / "torn" / "spec.json").write_text("{")
    for spec in (specs[0], specs[-1]):  # the first is finished in another folder
        (unfinished := find_run(tmp_path / "a", spec).folder / "summary.json").unlink()
    runs, messages = run_menu.finished_runs(f"{tmp_path}/b, {tmp_path}/a, {tmp_path}/none")
    assert len({run.spec for run in runs}) == len(runs) == 4
    assert [run.spec.profile for run in runs] == ["small"] * (len(runs) - 1) + ["demo"]
    assert messages == [
        f"{tmp_path}/b/torn: cannot be read; move it away",
        f"unfinished runs: 1, such as {unfinished.parent}; run this cell again later",
    ]
    changes = {"modality": "flow"}, {"variant": "f-R2D"}
    flow, frames = (replace(runs[0], spec=runs[0].spec.replace(**change)) for change in changes)
    assert run_menu._order(flow) > run_menu._order(frames), "frames come first"
    is_demo = ["demonstration" in run_menu.data_label(run.spec) for run in (runs[0], runs[-1])]
    assert is_demo == [False, True]


def test_names_have_the_fields_that_differ():
    spec = variant_comparison("small", "set", variants=("R3D",), frames=8, lr=0.02)[0]
    changes = {}, {"frames": 4}, {"lr": 0.5}, {"lr": 0.5, "seed": 1}, {"variant": "R2D"}
    assert run_menu.name_runs([spec.replace(**change) for change in changes]) == [
        "R3D-18, frames 8, lr 0.02", "R3D-18, frames 4", "R3D-18, frames 8, lr 0.5, seed 0",
        "R3D-18, frames 8, lr 0.5, seed 1", "R2D-18",
    ]  # fmt: skip
    finetuned = spec.replace(data="other").finetune_spec(data="set")
    assert run_menu.name_runs([spec, finetuned]) == ["R3D-18, from scratch", "R3D-18, finetuned from other"]
    starts = [spec.replace(task=task, frames=4).finetune_spec(task="action", frames=8) for task in ("speed", "arrow")]
    names = run_menu.name_runs([*starts, spec.replace(init_from="r3d_18")])
    assert names == [f"R3D-18, finetuned from {start}" for start in ("speed 4 frames", "arrow 4 frames", "r3d_18")]
    tested = run_menu.name_runs([spec, spec.replace(frames=4).finetune_spec(frames=8, epochs=0)])
    assert tested == ["R3D-18, from scratch", "R3D-18, tested from 4 frames"]
    long, short = (spec.replace(epochs=n).finetune_spec(epochs=1) for n in (5, 9))
    names = run_menu.name_runs([long, short])
    assert names == [f'R3D-18, finetuned, init_from {{"epochs": {n}}}' for n in (5, 9)], "else they were equal"


# --- Figures


def texts(figure):
    return [text.get_text() for artist in (figure, *figure.axes) for text in artist.texts]


def test_figures_show_names_literally(pair):
    one, other = pair
    figure = class_figure(predictions.class_table(one, other, 7), ["$a$", "b"], "demonstration")
    assert {"cost in $ and $", "demonstration"} <= {text.rsplit("  ", 1)[0] for text in texts(figure)}
    assert "A: $a$" in texts(figure)
    long = "R(2+1)D-18, from scratch, epochs 18, mean of 3 seeds"
    figure = class_figure(predictions.class_table(one, other, 7), [long, long])
    assert {f"A: {long}", f"B: {long}"} <= {text.replace("\n", " ") for text in texts(figure)}
    longer = "R(2+1)D-18, frames 8, frame_stride_max 0, from scratch, mean of 3 seeds"
    labels = texts(class_figure(predictions.class_table(one, other, 7), [longer, longer]))
    assert [text.count("\n") for text in labels if text.startswith(("A: ", "B: "))] == [1, 1], "it leaves the figure"
    counts = predictions.confusion_matrix(one, 7)
    matrix = confusion_figure(ODD, counts, counts.sum(axis=1), note="demonstration")
    assert {"cost in $ and $", "_private", "手话手话手话手话手话手话手话…话手话手话手话手话"} <= set(texts(matrix))
    alike = [f"Pretending to {verb} something without actually {verb}ing it" for verb in ("open", "push")]
    labels = {text for text in texts(confusion_figure(alike, np.eye(2, dtype=int), np.ones(2))) if "…" in text}
    assert labels == {"Pretending to …pening it", "Pretending to …ushing it"}, "their ends tell them apart"
    panels = [
        ("A: $x", ODD[:5], range(1, 6), np.full(5, 0.2), np.full((3, 5), 0.2)),
        ("B", ODD[1:], range(2, 7), np.full(5, 0.2), np.eye(3, 5)),
    ]
    over = time_figure(panels, true=ODD[1])
    assert (100.0, 0.0, 0.0) in {tuple(line.get_ydata()) for axes in over.axes for line in axes.lines}
    bold = [text.get_text() for text in over.texts if text.get_weight() == "bold"]
    assert bold == ["2.   20.0%  cost in $ and $"] * 2
    for drawn in (figure, matrix, over):
        assert figure_png(drawn).startswith(b"\x89PNG")


def test_class_has_one_style_in_all_panels():
    panels = [(side, names, (1, 2), np.ones(2), np.ones((3, 2))) for side, names in (("A", "xy"), ("B", "yz"))]
    left, right = time_figure(panels).axes
    looks = [[(line.get_color(), line.get_marker()) for line in axes.lines] for axes in (left, right)]
    assert looks[0][1] == looks[1][0] and len({*looks[0], *looks[1]}) == 3


def test_pixels_belong_to_their_cells():
    """Compare the color of pixels in the image with that of the cell; numbers are legible on it, and have signs if some
    are negative.
    """
    counts = np.zeros((3, 4), int)
    counts[0, 0] = counts[2, 3] = 1
    figure = confusion_figure("abc", counts, np.ones(3))
    picture = imread(io.BytesIO(figure_png(figure)))[..., :3]
    height, width, _ = picture.shape
    blue = np.argwhere(picture[..., 2] - picture[..., 0] > 0.2)  # y, x of the pixels of two cells
    cells = [matrix_cell(figure, x + 0.5, y + 0.5) for y, x in blue]
    assert cells.count(0) > 300 and cells.count(11) > 300 and set(cells) == {0, 11}
    assert [matrix_cell(figure, *corner) for corner in ((0, 0), (width, height), (-5, 50))] == [None] * 3
    counts[2, 3] = -1
    picture = imread(io.BytesIO(figure_png(confusion_figure("abc", counts, np.ones(3)))))[..., :3]
    orange = np.argwhere(picture[..., 0] - picture[..., 2] > 0.2)
    assert {matrix_cell(figure, x + 0.5, y + 0.5) for y, x in orange} == {11}
    for value in np.linspace(-1, 1, 999):
        rgb = np.array(MATRIX_COLORS((value + 1) / 2)[:3])
        luminance = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)
        is_dark = value < DARK_CELLS[0] or value > DARK_CELLS[1]
        assert (1.05 / (luminance + 0.05) if is_dark else (luminance + 0.05) / 0.05) >= 4.5, value


@pytest.mark.parametrize(("percent", "numbers"), [(False, ["+1.5", "−3"]), (True, ["+38", "−75"])])
def test_differences_have_signs(percent, numbers, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "_number_outline", lambda number, _: drawn.append(number) or figures.Path([[0, 0]]))
    confusion_figure("ab", np.array([[1.5, 0], [0, -3]]), np.array([4, 4]), percent)
    assert drawn == numbers
    confusion_figure("ab", np.array([[1.5, 0], [0, 3]]), np.array([4, 4]), percent)
    assert drawn[2:] == [number[1:] for number in numbers]


def test_mean_over_splits_counts_them_alike():
    scores = random_scores(0, [*"abcd"], ("x", "y"), {})
    scored = predictions.ScoredRuns((), scores, np.arange(4), np.array([0, 0, 0, 1]), {})
    assert scored.mean(np.array([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]])) == 0.75


def test_class_intervals_are_those_of_the_mean():
    random = np.random.default_rng(0)
    labels, groups = random.integers(0, 5, 200), random.integers(0, 30, 200)
    values = 100.0 * (random.random(200) < 0.6)
    values[labels == 3] = 100
    low, high = predictions.estimate_by_class(values, labels, groups, 7)
    for label in range(3):
        rows = labels == label
        estimate = estimate_mean([Outcomes(values[None, rows], groups[rows])])
        np.testing.assert_allclose((low[label], high[label]), (estimate.low, estimate.high))
    assert np.isnan(low[[3, 5, 6]]).all() and np.isnan(high[[3, 5, 6]]).all()
