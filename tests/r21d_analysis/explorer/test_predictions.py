"""What the explorer counts is what the metrics count; its intervals against scipy, enumeration and the bootstrap."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax

from r21d_analysis.artifacts.curves import exact_counts, with_clips
from r21d_analysis.explorer import predictions
from r21d_analysis.explorer.figures import cells_of, class_figure, confusion_figure, pdf_of, png_of, time_figure
from r21d_analysis.statistics.inference import bootstrap_ci, per_video
from r21d_core import R21DError
from r21d_core.runs import metrics
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.artifacts.test_tables_and_figures import make

ODD = ('<script>alert("1")</script>', "cost in $ and $", "Überraschung ∂é", "_private", "=1+1", "手话" * 20)


def scores(seed=0, items=60, clips=7, classes=6, videos=None, low=0, high=4):
    """Logits of few whole values, so that ties are common."""
    random = np.random.default_rng(seed)
    logits = random.integers(low, high, (items, clips, classes)).astype(np.float32)
    labels = random.integers(0, classes, items)
    names = np.array([f"v{number:03d}" for number in range(items)]) if videos is None else videos
    return Scores(logits, labels, names, ODD[:classes], {"clips": clips, "task": "action", "families": {}})


def judged(one: Scores, monkeypatch, at_once=100):
    """Judged in many small parts."""
    monkeypatch.setattr(predictions, "AT_ONCE", at_once)
    return predictions.score_run(type("Run", (), {"scores": one})())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), clips=st.sampled_from([1, 2, 3, 5, 7, 10]), at_once=st.sampled_from([1, 97, 10**6]))
def test_every_number_of_clips_is_judged_as_the_metrics_do(seed, clips, at_once):
    with pytest.MonkeyPatch.context() as patch:
        one = scores(seed, clips=clips)
        found = judged(one, patch, at_once)
    assert list(found.verdicts) == exact_counts(clips)
    for count, verdict in found.verdicts.items():
        fewer = with_clips(one, count)
        assert (verdict.guess == metrics.video_probabilities(fewer).argmax(axis=1)).all()
        for k in (1, 2, 5):
            assert ((verdict.rank < k) == metrics.video_correct(fewer, k)).all()
        shown = predictions.accuracies(found, count)
        assert shown["clip@1"] == pytest.approx(100 * metrics.clip_at_1(fewer))
        assert shown["video@1"] == pytest.approx(100 * metrics.video_at(fewer, 1))
        assert shown["video@5"] == pytest.approx(100 * metrics.video_at(fewer, 5))
        table = predictions.class_table(found, None, count)
        np.testing.assert_allclose(table["A"] / 100, metrics.per_class(fewer)["video@1"])
        members, counts = predictions.confusion_part(found, count)
        assert (counts == metrics.confusion(fewer)).all() and (members == np.arange(6)).all()


def test_two_runs_by_class(monkeypatch):
    one, other = (judged(replace(scores(seed), labels=scores(0).labels), monkeypatch) for seed in (0, 1))
    table = predictions.class_table(one, other, 7)
    right = [metrics.video_correct(found.scores) for found in (one, other)]
    for number, row in table.iterrows():
        here = one.scores.labels == number
        assert row["difference"] == pytest.approx(100 * (right[0][here].mean() - right[1][here].mean()))
        assert row["low"] < row["difference"] < row["high"]
        better = int((right[0] & ~right[1])[here].sum())
        differ = int((right[0] != right[1])[here].sum())
        alone = stats.binomtest(better, differ).pvalue if differ else 1.0
        assert alone - 1e-12 <= row["p"] <= min(1, 6 * alone) + 1e-12
    less = predictions.difference(one, other, 7)
    assert less["difference"] == pytest.approx(100 * (right[0].mean() - right[1].mean()))
    for order, (column, ascending) in predictions.SORTS.items():
        values = predictions.sorted_classes(table, order)[column].tolist()
        assert values == sorted(values, reverse=not ascending)


def test_classes_without_items_are_no_bars(monkeypatch):
    one = scores()
    one = judged(replace(one, labels=np.minimum(one.labels, 3)), monkeypatch)
    table = predictions.class_table(one, one, 7)
    assert table["A"].isna().tolist() == [False] * 4 + [True] * 2 == table["p"].isna().tolist()
    assert len(predictions.sorted_classes(table, "class name")) == 4


def test_wilson_is_scipys():
    right, n = np.array([0, 3, 7, 20, 1]), np.array([5, 7, 7, 50, 1])
    low, high = predictions.wilson(right, n)
    for number in range(5):
        expected = stats.binomtest(int(right[number]), int(n[number])).proportion_ci(method="wilson")
        assert (low[number], high[number]) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("up, down", [(0.1, 0.1), (0.3, 0.05), (0.02, 0.02), (0.5, 0.4), (0.6, 0.0)])
@pytest.mark.parametrize("n", [10, 40])
def test_paired_intervals_hold_the_truth_nineteen_times_in_twenty(up, down, n):
    """Over all outcomes of n videos, each with its probability."""
    better, worse = np.indices((n + 1, n + 1)).reshape(2, -1)
    possible = better + worse <= n
    better, worse = better[possible], worse[possible]
    chance = stats.multinomial.pmf(np.column_stack([better, worse, n - better - worse]), n, [up, down, 1 - up - down])
    low, high = predictions.paired(better, worse, np.full(len(better), n))
    assert chance[(low <= up - down) & (up - down <= high)].sum() > 0.935


def test_interval_is_the_bootstrap_of_the_tables():
    random = np.random.default_rng(0)
    values = random.choice([0, 0.25, 0.5, 1], 300)
    np.testing.assert_allclose(predictions.interval_of_mean(values), bootstrap_ci(values[None]), atol=0.004)
    assert np.isnan(predictions.interval_of_mean(np.ones(1))).all()


def test_items_of_one_video_are_one_witness(monkeypatch):
    videos = np.array([f"v{number // 4}" for number in range(60)])
    one = scores(videos=videos)
    right = metrics.video_correct(one)
    low, high = predictions.interval_of_mean(per_video(right, videos))
    shown = predictions.accuracies(judged(one, monkeypatch), 7)
    assert (shown["low"], shown["high"]) == pytest.approx((100 * low, 100 * high))


def test_items_by_brute_force(monkeypatch):
    one, other = (judged(replace(scores(seed), labels=scores(0).labels), monkeypatch) for seed in (0, 1))
    a, b = one.verdicts[4], other.verdicts[4]
    says = {
        "all": lambda i: True,
        "A right": lambda i: a.rank[i] == 0,
        "A wrong": lambda i: a.rank[i] > 0,
        "B right": lambda i: b.rank[i] == 0,
        "B wrong": lambda i: b.rank[i] > 0,
        "only A right": lambda i: a.rank[i] == 0 < b.rank[i],
        "only B right": lambda i: b.rank[i] == 0 < a.rank[i],
        "both wrong": lambda i: a.rank[i] > 0 < b.rank[i],
        "A and B disagree": lambda i: a.guess[i] != b.guess[i],
    }
    assert says.keys() == predictions.FILTERS.keys()
    for show, keep in says.items():
        for of, verdict in (("A", a), ("B", b)):
            rows = predictions.items(one, other, 4, show=show, of=of)
            assert set(rows) == {i for i in range(60) if keep(i)}
            assert (np.diff(verdict.sure[rows]) <= 0).all()
            rows = predictions.items(one, other, 4, show=show, of=of, true=2, guess=(1, 3))
            assert set(rows) == {
                i for i in range(60) if keep(i) and one.scores.labels[i] == 2 and verdict.guess[i] in (1, 3)
            }
    table = predictions.item_table(one, other, 4, np.array([5, 3]))
    assert table["video"].tolist() == ["v005", "v003"] and table["A rank of class"].tolist() == [*a.rank[[5, 3]] + 1]


def test_many_classes_are_shown_in_part_and_counted_whole(monkeypatch):
    many = scores(items=400, classes=6)
    many = replace(many, classes=tuple(f"c{number}" for number in range(30)))
    random = np.random.default_rng(0)
    logits = random.normal(size=(400, 7, 30)).astype(np.float32)
    one = judged(replace(many, logits=logits, labels=random.integers(0, 30, 400)), monkeypatch, 10**6)
    members, counts = predictions.confusion_part(one, 7)
    whole = metrics.confusion(one.scores)
    assert len(members) == 20 and counts.shape == (20, 21) and (np.diff(members) > 0).all()
    assert (counts[:, :20] == whole[np.ix_(members, members)]).all()
    assert (counts.sum(axis=1) == whole[members].sum(axis=1)).all()
    pairs = predictions.confused_pairs(one, 7)
    assert pairs["n"].tolist() == sorted(whole[~np.eye(30, dtype=bool)][whole[~np.eye(30, dtype=bool)] > 0])[::-1]
    assert all(whole[row.true, row.guess] == row.n for row in pairs.itertuples())
    assert {pairs["true"][0], pairs["guess"][0]} <= set(members)


def test_over_time_by_hand(monkeypatch):
    one = judged(scores(), monkeypatch)
    best, means, each = predictions.over_time(one, 9, 4)
    by_hand = softmax(one.scores.logits[9, [0, 2, 4, 6]], axis=1)
    assert each.shape == (4, 5) and len(best) == 5
    np.testing.assert_allclose(each, by_hand[:, best], rtol=1e-6)
    np.testing.assert_allclose(means, np.sort(by_hand.mean(axis=0))[::-1][:5], rtol=1e-6)


def test_counts_that_two_runs_share_and_runs_that_share_no_videos(monkeypatch):
    seven, four = judged(scores(clips=7), monkeypatch), judged(replace(scores(clips=4)), monkeypatch)
    four = replace(four, scores=replace(four.scores, labels=seven.scores.labels))
    assert predictions.common_counts(seven, None) == [1, 2, 3, 4, 7]
    assert predictions.common_counts(seven, four) == [2, 4]
    stranger = judged(scores(seed=3), monkeypatch)
    with pytest.raises(R21DError, match="different videos"):
        predictions.common_counts(seven, stranger)


def test_runs_are_found_once_named_apart_and_demonstrations_come_last(tmp_path):
    specs = variant_comparison("small", "set", variants=("R3D", "f-R2D"), seeds=(0, 1))
    make(specs, tmp_path / "a")
    make(specs[:1], tmp_path / "b")
    make(variant_comparison("demo", variants=("R3D",)), tmp_path / "b")
    (tmp_path / "b" / "torn").mkdir()
    (tmp_path / "b" / "torn" / "spec.json").write_text("{")
    (next((tmp_path / "a").iterdir()) / "summary.json").unlink()
    runs, remarks = predictions.finished_runs(f"{tmp_path}/b, {tmp_path}/a, {tmp_path}/none")
    assert len({run.spec for run in runs}) == len(runs) in (4, 5)
    assert [run.spec.profile for run in runs] == ["small"] * (len(runs) - 1) + ["demo"]
    assert remarks == [f"{tmp_path}/b/torn: cannot be read; move it away"]
    other = replace(runs[0], spec=runs[0].spec.replace(frames=4))
    again = replace(runs[0], spec=runs[0].spec.replace(lr=0.5))
    names = predictions.name_runs([runs[0], other, again])
    assert len(set(names)) == 3 and all(name.startswith(runs[0].spec.variant) for name in names)
    flow = replace(runs[0], spec=runs[0].spec.replace(modality="flow"))
    assert predictions.name_runs([runs[0], flow]) == [
        names[0].split(", seed")[0] + ", seed 0" + end for end in ("", ", flow")
    ]
    assert predictions._order(flow.spec) > predictions._order(runs[0].spec.replace(variant="f-R2D")), (
        "frames come first"
    )
    assert "demonstration" in predictions.data_of(runs[-1].spec) and "demonstration" not in predictions.data_of(
        runs[0].spec
    )


# --- Figures


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
    return found


def test_figures_show_names_as_they_are(monkeypatch):
    one, other = (judged(replace(scores(seed), labels=scores(0).labels), monkeypatch) for seed in (0, 1))
    figure = class_figure(predictions.class_table(one, other, 7), ["$a$", "b"], "demonstration")
    assert {"cost in $ and $", "demonstration"} <= {text.rsplit("  ", 1)[0] for text in texts(figure)}
    assert "● A: $a$" in texts(figure)
    _, counts = predictions.confusion_part(one, 7)
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
        assert png_of(drawn).startswith(b"\x89PNG") and pdf_of(drawn).startswith(b"%PDF")


def test_a_class_has_one_look_in_both_panels():
    panels = [(side, names, np.ones(2), np.ones((3, 2))) for side, names in (("A", "xy"), ("B", "yz"))]
    left, right = time_figure(panels).axes
    looks = [[(line.get_color(), line.get_marker()) for line in axes.lines] for axes in (left, right)]
    assert looks[0][1] == looks[1][0] and len({*looks[0], *looks[1]}) == 3


def test_cells_lie_where_the_matrix_is():
    """The four corner cells, by their colour in the picture."""
    from io import BytesIO

    from matplotlib.image import imread

    counts = np.zeros((3, 4), int)
    counts[0, 0] = counts[2, 3] = 1
    figure = confusion_figure("abc", counts)
    left, top, width, height = cells_of(figure)
    picture = imread(BytesIO(png_of(figure)))[..., :3]

    def colour(row, column):
        return picture[top + int((row + 0.2) * height / 3), left + int((column + 0.2) * width / 4)]

    for row in range(3):
        for column in range(4):
            assert (colour(row, column)[0] < 0.2) == bool(counts[row, column]), (row, column)
