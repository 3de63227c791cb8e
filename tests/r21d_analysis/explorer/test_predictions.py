"""The explorer's counts equal the metrics; its intervals equal scipy, enumeration and the bootstrap."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax

from r21d_analysis.explorer import predictions
from r21d_analysis.explorer.figures import class_figure, confusion_figure, matrix_box, time_figure
from r21d_analysis.interpret.html import figure_pdf, figure_png
from r21d_analysis.statistics.clips import exact_counts, with_clips
from r21d_analysis.statistics.metrics import confusion, per_class
from r21d_core import R21DError
from r21d_core.runs import metrics
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.artifacts.test_tables_and_figures import make

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
    return predictions.score_run(type("Run", (), {"scores": scores})())


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
        assert (predicted.pred == metrics.video_probabilities(fewer).argmax(axis=1)).all()
        for k in (1, 2, 5):
            assert ((predicted.label_rank < k) == metrics.video_correct(fewer, k)).all()
        shown = predictions.compute_accuracies(found, count)
        assert shown["clip@1"] == pytest.approx(100 * metrics.clip_at_1(fewer))
        assert shown["video@1"] == pytest.approx(100 * metrics.video_at(fewer, 1))
        assert shown["video@5"] == pytest.approx(100 * metrics.video_at(fewer, 5))
        table = predictions.class_table(found, None, count)
        np.testing.assert_allclose(table["A"] / 100, per_class(fewer)["video@1"])
        members, counts = predictions.confusion_matrix(found, count)
        assert (counts == confusion(fewer)).all() and (members == np.arange(6)).all()


def test_class_differences_match_scipy(pair):
    one, other = pair
    table = predictions.class_table(one, other, 7)
    right = [metrics.video_correct(found.scores) for found in (one, other)]
    for number, row in table.iterrows():
        here = one.scores.labels == number
        for column, low, high, values in (
            ("difference", "low", "high", 100.0 * right[0] - 100.0 * right[1]),
            ("A", "A low", "A high", 100.0 * right[0]),
        ):
            interval = stats.ttest_1samp(values[here], 0).confidence_interval()  # a video, a recording
            ends = np.clip(interval, 0, 100) if column == "A" else interval
            ends = ends if np.ptp(values[here]) else (np.nan, np.nan)
            assert (row[low], row[column], row[high]) == pytest.approx(
                (ends[0], values[here].mean(), ends[1]), nan_ok=True
            )
    less = predictions.compute_difference(one, other, 7)
    assert less["difference"] == pytest.approx(100 * (right[0].mean() - right[1].mean()))
    for order, (column, ascending) in predictions.CLASS_ORDERS.items():
        values = predictions.sort_classes(table, order)[column].tolist()
        assert values == sorted(values, reverse=not ascending)


def test_classes_without_items_are_nan(monkeypatch):
    one = scores()
    one = score(replace(one, labels=np.minimum(one.labels, 3)), monkeypatch)
    table = predictions.class_table(one, one, 7)
    assert table["A"].isna().tolist() == [False] * 4 + [True] * 2 and table["A low"][4:].isna().all()
    assert len(predictions.sort_classes(table, "class name")) == 4


def test_items_of_a_recording_are_one_unit(monkeypatch):
    groups = np.array([f"g{number // 4}" for number in range(60)])
    one, other = (score(replace(scores(seed), labels=scores(0).labels, groups=groups), monkeypatch) for seed in (0, 1))
    a, b = (100.0 * metrics.video_correct(run.scores) for run in (one, other))
    interval = stats.ttest_1samp(a.reshape(15, 4).mean(axis=1), 0).confidence_interval()
    shown = predictions.compute_accuracies(one, 7)
    assert (shown["low"], shown["high"]) == pytest.approx((interval.low, interval.high))
    interval = stats.ttest_1samp((a - b).reshape(15, 4).mean(axis=1), 0).confidence_interval()
    shown = predictions.compute_difference(one, other, 7)
    assert (shown["low"], shown["high"]) == pytest.approx((interval.low, interval.high))


def test_item_filters_match_brute_force(pair):
    one, other = pair
    a, b = one.predictions[4], other.predictions[4]
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
            assert set(rows) == {
                i for i in range(60) if keep(i) and one.scores.labels[i] == 2 and predicted.pred[i] in (1, 3)
            }
    table = predictions.item_table(one, other, 4, np.array([5, 3]))
    assert table["video"].tolist() == ["v005", "v003"]
    assert table["A rank of class"].tolist() == (a.label_rank[[5, 3]] + 1).tolist()


def test_large_matrix_has_frequent_confusions(monkeypatch):
    many = scores(items=400, classes=6)
    many = replace(many, classes=tuple(f"c{number}" for number in range(30)))
    random = np.random.default_rng(0)
    logits = random.normal(size=(400, 7, 30)).astype(np.float32)
    one = score(replace(many, logits=logits, labels=random.integers(0, 30, 400)), monkeypatch, 10**6)
    members, counts = predictions.confusion_matrix(one, 7)
    whole = confusion(one.scores)
    assert len(members) == 20 and counts.shape == (20, 21) and (np.diff(members) > 0).all()
    assert (counts[:, :20] == whole[np.ix_(members, members)]).all()
    assert (counts.sum(axis=1) == whole[members].sum(axis=1)).all()
    pairs = predictions.confused_pairs(one, 7)
    assert pairs["n"].tolist() == sorted(whole[~np.eye(30, dtype=bool)][whole[~np.eye(30, dtype=bool)] > 0])[::-1]
    assert all(whole[row.true, row.pred] == row.n for row in pairs.itertuples())
    assert {pairs["true"][0], pairs["pred"][0]} <= set(members)


def test_clip_probabilities_are_softmax(monkeypatch):
    one = score(scores(), monkeypatch)
    best, means, each = predictions.clip_probabilities(one, 9, 4)
    by_hand = softmax(one.scores.logits[9, [0, 2, 4, 6]], axis=1)
    assert each.shape == (4, 5) and len(best) == 5
    np.testing.assert_allclose(each, by_hand[:, best], rtol=1e-6)
    np.testing.assert_allclose(means, np.sort(by_hand.mean(axis=0))[::-1][:5], rtol=1e-6)


def test_common_clip_counts_need_equal_videos(monkeypatch):
    seven, four = score(scores(clips=7), monkeypatch), score(replace(scores(clips=4)), monkeypatch)
    four = replace(four, scores=replace(four.scores, labels=seven.scores.labels))
    assert predictions.common_clip_counts(seven, None) == [1, 2, 3, 4, 7]
    assert predictions.common_clip_counts(seven, four) == [2, 4]
    stranger = score(scores(seed=3), monkeypatch)
    with pytest.raises(R21DError, match="different videos"):
        predictions.common_clip_counts(seven, stranger)


def test_finished_runs_are_unique_and_labeled(tmp_path):
    specs = variant_comparison("small", "set", variants=("R3D", "f-R2D"), seeds=(0, 1))
    make(specs, tmp_path / "a")
    make(specs[:1], tmp_path / "b")
    make(variant_comparison("demo", variants=("R3D",)), tmp_path / "b")
    (tmp_path / "b" / "torn").mkdir()
    (tmp_path / "b" / "torn" / "spec.json").write_text("{")
    (next((tmp_path / "a").iterdir()) / "summary.json").unlink()
    runs, messages = predictions.finished_runs(f"{tmp_path}/b, {tmp_path}/a, {tmp_path}/none")
    assert len({run.spec for run in runs}) == len(runs) in (4, 5)
    assert [run.spec.profile for run in runs] == ["small"] * (len(runs) - 1) + ["demo"]
    assert messages == [f"{tmp_path}/b/torn: cannot be read; move it away"]
    other = replace(runs[0], spec=runs[0].spec.replace(frames=4))
    again = replace(runs[0], spec=runs[0].spec.replace(lr=0.5))
    names = predictions.short_run_labels([runs[0], other, again])
    assert len(set(names)) == 3 and all(name.startswith(runs[0].spec.variant) for name in names)
    flow = replace(runs[0], spec=runs[0].spec.replace(modality="flow"))
    label = names[0].split(", seed")[0] + ", seed 0"
    assert predictions.short_run_labels([runs[0], flow]) == [label, f"{label}, flow"]
    rgb_key = predictions._sort_key(runs[0].spec.replace(variant="f-R2D"))
    assert predictions._sort_key(flow.spec) > rgb_key, "frames come first"
    is_demo = ["demonstration" in predictions.data_label(run.spec) for run in (runs[0], runs[-1])]
    assert is_demo == [False, True]


# --- Figures


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
    return found


def test_figures_show_names_literally(pair):
    one, other = pair
    figure = class_figure(predictions.class_table(one, other, 7), ["$a$", "b"], "demonstration")
    assert {"cost in $ and $", "demonstration"} <= {text.rsplit("  ", 1)[0] for text in texts(figure)}
    assert "● A: $a$" in texts(figure)
    _, counts = predictions.confusion_matrix(one, 7)
    matrix = confusion_figure(ODD, counts, "demonstration")
    assert {"cost in $ and $", "_private", ("手话" * 20)[:23] + "…"} <= set(texts(matrix))
    panels = [("A: $x", ODD[:5], np.full(5, 0.2), np.full((3, 5), 0.2)), ("B", ODD[1:], np.full(5, 0.2), np.eye(3, 5))]
    over = time_figure(panels, true=ODD[1])
    lines = {
        tuple(line.get_ydata()): line.get_color() for axes in over.axes for line in axes.lines if len(line.get_ydata())
    }
    assert (100.0, 0.0, 0.0) in lines
    bold = [text.get_text() for text in over.texts if text.get_weight() == "bold"]
    assert bold == [" 20.0%  cost in $ and $"] * 2
    for drawn in (figure, matrix, over):
        assert figure_png(drawn).startswith(b"\x89PNG") and figure_pdf(drawn).startswith(b"%PDF")


def test_class_has_one_style_in_all_panels():
    panels = [(side, names, np.ones(2), np.ones((3, 2))) for side, names in (("A", "xy"), ("B", "yz"))]
    left, right = time_figure(panels).axes
    looks = [[(line.get_color(), line.get_marker()) for line in axes.lines] for axes in (left, right)]
    assert looks[0][1] == looks[1][0] and len({*looks[0], *looks[1]}) == 3


def test_matrix_box_covers_the_cells():
    """Compare the color of each cell in the image."""
    from io import BytesIO

    from matplotlib.image import imread

    counts = np.zeros((3, 4), int)
    counts[0, 0] = counts[2, 3] = 1
    figure = confusion_figure("abc", counts)
    left, top, width, height = matrix_box(figure)
    picture = imread(BytesIO(figure_png(figure)))[..., :3]

    def colour(row, column):
        return picture[top + int((row + 0.2) * height / 3), left + int((column + 0.2) * width / 4)]

    for row in range(3):
        for column in range(4):
            assert (colour(row, column)[0] < 0.2) == bool(counts[row, column]), (row, column)
