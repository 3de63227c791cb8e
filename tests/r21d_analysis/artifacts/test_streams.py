"""Tables 4 to 6 against hand counts, complete and with runs missing; runs that must not be fused."""

import html
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy.special import softmax
from statsmodels.stats.multitest import multipletests

from r21d_analysis.artifacts import clip_figures, networks, pretraining, streams
from r21d_analysis.artifacts.networks import FLOW, FUSED, RGB
from r21d_analysis.claims.rows import kinetics_over_sports
from r21d_analysis.statistics.aggregate import accuracy_difference
from r21d_analysis.statistics.inference import (
    estimate_difference,
    estimate_mean,
    fold_variance,
    format_interval,
    seed_variance,
)
from r21d_analysis.study import missing_line
from r21d_core import R21DError
from r21d_core.runs.metrics import clip_at_1, video_at, video_probabilities
from r21d_core.runs.run import find_run, find_runs, write_json
from r21d_core.study.experiments import kinetics, sports1m, transfer
from r21d_core.study.spec import Spec
from tests.runs import NASTY, finish, protocol_of, random_scores, unfinish

VIDEOS = {"1": 20, "2": 26, "3": 32, "": 24}  # tested in each split, unequal on purpose
CLASSES = tuple("abcdefg")


def make(specs, folder, classes=CLASSES):
    """Finished runs of `specs`; pretrained ones are somewhat better, and streams do not err on the same videos."""
    for number, spec in enumerate(dict.fromkeys(specs)):
        split = networks.split_of(spec)
        videos = [f"v{split}-{n:02d}" for n in range(VIDEOS[split])]
        groups, share = [f"g{n // 2}" for n in range(len(videos))], 0.75 if spec.init_from else 0.55
        protocol = protocol_of(spec, len(videos))
        scores = random_scores(number, videos, classes, protocol, groups=groups, share=share, gain=3)
        run = find_run(folder, spec)
        if spec.init_from:
            write_json(run, "environment.json", {"init_from": f"{run.folder.name} starts from another: 126 tensors"})
        finish(run, scores, device="TestGPU")
    return find_runs(specs, folder)


@pytest.fixture
def table_4_runs(tmp_path):
    return make(sports1m("small", "set", seeds=(0, 1)), tmp_path)


@pytest.fixture
def table_6_runs(tmp_path):
    return make(transfer("small", "set-split1", source="large-split1", seeds=(0, 1)), tmp_path)


FIVE = "C3D", "s3d", "swin3d_t", "mvit_v2_s", "R(2+1)D"


@pytest.fixture
def five_networks(tmp_path):
    """Table 6 with one seed, of other papers' networks on RGB and R(2+1)D on both streams."""
    return make(transfer("small", "set-split1", source="large-split1", variants=FIVE), tmp_path)


def count_correct(*runs, k=1):
    """Which videos are right by the plain mean, over runs and clips, of softmax, (videos,)."""
    mean = sum(softmax(run.scores.logits.astype(float), axis=2).mean(axis=1) for run in runs)
    best = np.argsort(-mean, axis=1)[:, :k]
    return (best == runs[0].scores.labels[:, None]).any(axis=1)


def pick(runs, **settings):
    return [run for run in runs if all(getattr(run.spec, key) == value for key, value in settings.items())]


def test_table_4_matches_a_hand_count(table_4_runs):
    table = streams.stream_table(table_4_runs, 4)
    assert table["", "network"].tolist() == ["R3D-18"] + 3 * ["R(2+1)D-18"]
    assert table["", "input"].tolist() == [RGB, RGB, FLOW, FUSED]
    rgb, flow = (pick(table_4_runs, variant="R(2+1)D", modality=modality) for modality in ("rgb", "flow"))
    by_row = {1: [(run,) for run in rgb], 2: [(run,) for run in flow], 3: list(zip(rgb, flow, strict=True))}
    for row, seeds in by_row.items():
        ours = table.loc[row, "here"]
        assert ours["video@1"] == pytest.approx(100 * np.mean([count_correct(*runs).mean() for runs in seeds]))
        assert ours["video@5"] == pytest.approx(100 * np.mean([count_correct(*runs, k=5).mean() for runs in seeds]))
        clips = [sum(softmax(run.scores.logits.astype(float), axis=2) for run in runs) for runs in seeds]
        correct = [(network.argmax(axis=2) == rgb[0].scores.labels[:, None]).mean() for network in clips]
        assert ours["clip@1"] == pytest.approx(100 * np.mean(correct))
        low, high = map(float, ours["95 % interval"].split(" to "))
        assert low < ours["video@1"] < high and ours["videos"] == "24 of 25" and ours["seeds"].startswith("2 (")
    assert table.loc[3, ("here", "video@1")] > table.loc[1, ("here", "video@1")]


def test_papers_numbers_are_beside_its_own_rows(table_4_runs, table_6_runs, tmp_path):
    side = streams.stream_table(table_4_runs, 4)["paper, Sports-1M"]
    assert side["video@1"].fillna(0).tolist() == [0, 72.0, 65.5, 72.2] and side["frames"].tolist() == ["8"] * 4
    assert side["clip@1"].fillna(0).tolist() == [53.8, 56.1, 44.5, 0] and side["video@5"].fillna(0)[3] == 91.4
    long = make(sports1m("paper", "sports1m", frames=32), tmp_path / "long")
    assert streams.stream_table(long, 4)["paper, Sports-1M"]["video@1"].fillna(0).tolist() == [0, 73.0, 68.4, 73.3]
    five = make(kinetics("small", "set-split1", source="large-split1"), tmp_path / "five", CLASSES[:5])
    assert streams.stream_table(five, 5)["here", "video@5"].isna().all(), "of five classes all are among the first five"
    side = streams.stream_table(five, 5)["paper, Kinetics-400"]
    assert side["video@1"].tolist() == [72.0, 67.5, 73.9, 74.3, 68.5, 75.4] and side["video@5"].tolist()[-1] == 91.9
    table = streams.stream_table(table_6_runs, 6)
    means = table[table["", "split"] == "mean of 1, 2, 3"]
    assert means["paper, from Kinetics", "UCF101"].fillna(0).tolist() == [0, 0, 0, 96.8, 95.5, 97.3]
    assert means["paper, from Sports-1M", "HMDB51"].fillna(0).tolist() == [0, 0, 0, 66.6, 70.1, 72.7]
    assert table.drop(means.index)["paper, from Kinetics"].isna().all(axis=None), "its numbers are averages"


def test_quoted_tables_have_every_row_of_the_paper():
    four, five, six = (streams.quoted_table(table) for table in (4, 5, 6))
    assert [len(table.data) for table in (four, five, six)] == [12, 10, 17]
    by_row = four.data.set_index("in the paper")
    assert by_row.loc["P3D"].tolist() == [47.9, 66.4, 87.4] and np.isnan(by_row.loc["Conv pooling", "clip@1"])
    assert five.data.loc[2].tolist() == ["I3D-Flow (ImageNet)", 65.3, 86.2]
    assert ([*five.data][1:], [*six.data][1:]) == (["video@1", "video@5"], ["UCF101", "HMDB51"])
    text = six.to_string(delimiter="|")
    assert "Temp. Segm. Net (ImageNet)|94.2|69.4" in text and "Conv Pooling (Sports-1M)|88.6|–" in text


def test_table_6_matches_a_hand_count(table_6_runs):
    table = streams.stream_table(table_6_runs, 6)
    assert len(table) == 2 * 3 * 4 and "large" not in set(table["", "network"])
    for start, how in ((False, "from scratch"), (True, "pretrained on large")):
        each = []
        for split in "123":
            runs = [run for run in pick(table_6_runs, data=f"set-split{split}") if bool(run.spec.init_from) is start]
            rgb, flow = (pick(runs, modality=modality) for modality in ("rgb", "flow"))
            each.append(100 * np.mean([count_correct(*pair).mean() for pair in zip(rgb, flow, strict=True)]))
        rows = table[(table["", "weights"] == how) & (table["", "input"] == FUSED)]
        assert rows["here", "video@1"].tolist() == pytest.approx([*each, np.mean(each)])
        assert rows["here", "videos"].tolist() == ["20 of 21", "26 of 27", "32 of 33", "78 of 81"]
        assert rows["", "split"].tolist() == ["1", "2", "3", "mean of 1, 2, 3"]
        assert rows["here", "seeds"].tolist()[-1] == "2"


def test_source_evaluated_with_other_clips_is_paired(tmp_path):
    five = make(kinetics("paper", "kinetics-400"), tmp_path / "five")
    assert len(streams.pretraining_gain(five).data) == 3
    sources = ["kinetics-400", "sports1m"]
    specs = [spec for name in sources for spec in transfer("paper", "ucf101-split1", source=name, splits=1)]
    ((pair,),) = kinetics_over_sports(networks.collect_networks(make(specs, tmp_path))[0])
    assert [network.source for network in pair] == sources


def test_pretraining_gain_matches_a_hand_count(table_6_runs):
    table = streams.pretraining_gain(table_6_runs).data
    of_rgb = table[table["", "of"].str.endswith(RGB)]
    assert of_rgb["", "comparison"].unique().tolist() == ["pretrained on large minus from scratch"]
    each, videos = [], []
    for split in "123":
        runs = pick(table_6_runs, data=f"set-split{split}", modality="rgb")
        starts = ([run for run in runs if bool(run.spec.init_from) is start] for start in (True, False))
        two = [np.mean([count_correct(run) for run in seeds], axis=0) for seeds in starts]
        each.append(100 * (two[0] - two[1]).mean())
        videos.append(len(two[0]))
    cells = of_rgb["here", "video@1 (points)"].tolist()
    assert cells == [f"{value:+.1f}" for value in (*each, np.mean(each))] and sum(videos) == 78
    assert of_rgb["here", "videos"].tolist() == ["20", "26", "32", "78"]


def test_fused_and_single_stream_share_seeds(table_4_runs):
    """The luck of a seed is in both, so that a bad seed of RGB is not taken for a gain by flow."""
    rows = {(network.spec.variant, network.stream): network for network in networks.collect_networks(table_4_runs)[0]}
    fused, rgb = rows["R(2+1)D", FUSED], rows["R(2+1)D", RGB]
    outcomes = [row.splits[""].outcomes for row in (fused, rgb)]
    assert networks.difference(fused, rgb) == estimate_mean([outcomes[0] - outcomes[1]])
    assert networks.difference(fused, rgb).value == pytest.approx(fused.video_at(1) - rgb.video_at(1))


def test_only_seeds_with_both_streams_are_fused(table_4_runs):
    flow = pick(table_4_runs, modality="flow")
    unfinish(flow[1])
    fused = networks.collect_networks(table_4_runs)[0][-1]
    assert fused.stream == FUSED and [run.spec.seed for run in fused.splits[""].runs] == [0]
    rgb = pick(table_4_runs, variant="R(2+1)D", modality="rgb")
    assert fused.video_at(1) == pytest.approx(100 * count_correct(rgb[0], flow[0]).mean())
    assert networks.difference(fused, networks.collect_networks(table_4_runs)[0][1]).items == 24
    assert streams.stream_table(table_4_runs, 4)["here", "seeds"].tolist()[-1] == "1 seed"
    assert networks.collect_networks(table_4_runs)[1] == ["R(2+1)D, from scratch: RGB has seed 0, 1, Flow has seed 0"]
    unfinish(flow[0], rgb[1])
    assert len(networks.collect_networks(table_4_runs)[0]) == 2


def test_caption_names_what_is_not_fused(table_6_runs, table_4_runs):
    unfinish(*pick(table_6_runs, modality="flow"))
    table = streams.stream_table(table_6_runs, 6)
    assert set(table["", "input"]) == {RGB} and len(table) == 8
    caption = streams.show_stream_table(table_6_runs, 6).caption
    assert "not fused: R(2+1)D, from scratch, split 1: RGB has seed 0, 1, Flow has no finished run" in caption
    assert "needs two streams" in streams.stream_gain(table_6_runs).data
    assert len(streams.pretraining_gain(table_6_runs).data) == 4
    assert "needs a network on RGB and on flow" in streams.class_figure(table_6_runs).data
    assert isinstance(streams.split_figure(table_6_runs), Figure)
    line = missing_line(table_6_runs, "r21d train transfer")
    assert "18 of 36 runs are finished" in line and "flow, set-split2, finetuned)" in line
    assert "not fused" not in streams.show_stream_table(table_4_runs, 4).caption, "nobody asked for R3D on flow"


def test_split_missing_in_one_stream_is_not_averaged(table_6_runs):
    unfinish(*pick(table_6_runs, modality="flow", data="set-split2"))
    table = streams.stream_table(table_6_runs, 6)
    assert {"mean of 1, 2, 3", "mean of 1, 3"} < set(table["", "split"])
    gained = streams.stream_gain(table_6_runs).data
    assert set(gained["", "split"]) == {"mean of 1, 3"} and set(gained["here", "videos"]) == {"52"}


def test_one_seed_on_splits_has_the_variance_of_the_folds(table_6_runs):
    """Of both streams minus one too, over the networks less the same stream: here the pretrained and the other."""
    single = [run for run in table_6_runs if run.spec.seed == 0]
    gained = streams.stream_gain(single).data.set_index([("", "of"), ("", "comparison")])["here"]
    assert not gained["p, Holm"].isna().any()
    rows = {(network.training, network.stream): network for network in networks.collect_networks(single)[0]}
    trainings = {training for training, _ in rows}
    for stream in (RGB, FLOW):
        pairs = [(rows[training, FUSED], rows[training, stream]) for training in sorted(trainings)]
        differences = [networks.stream_differences(*pair) for pair in pairs]
        variance = fold_variance(differences)
        assert variance.df == 2
        for (a, _), own in zip(pairs, differences, strict=True):
            estimate = estimate_mean(own, variance)
            row = gained.loc[f"R(2+1)D, {a.training}", f"{FUSED} minus {stream}"]
            assert row["95 % interval"] == format_interval(estimate.low, estimate.high, "+.1f")


def test_networks_without_a_split_leave_the_variance_of_all(table_6_runs):
    single = [run for run in pick(table_6_runs, seed=0) if run.spec.data.startswith("set")]
    single = [run for run in single if not (run.spec.init_from and run.spec.data == "set-split3")]
    rows = {(network.source, network.stream): network for network in networks.collect_networks(single)[0]}
    pairs = {source: (rows[source, FUSED], rows[source, RGB]) for source, stream in rows if stream == FUSED}
    found = {len(a.splits): networks.fusion_variance(a, b, [*pairs.values()]).df for a, b in pairs.values()}
    assert found == {3: 0, 2: 1}, "of two splits both networks have both"


def test_fusions_of_other_papers_have_a_variance_of_their_own(tmp_path):
    """And have no part in that of the others."""
    specs = sports1m("small", "set", variants=("R(2+1)D",), seeds=(0, 1))
    runs = make([*specs, *(spec.replace(variant=name) for name in ("R3D", "C3D") for spec in specs)], tmp_path)
    rows = {(network.spec.variant, network.stream): network for network in networks.collect_networks(runs)[0]}
    names = "R(2+1)D", "R3D", "C3D"
    pairs = {name: (rows[name, FUSED], rows[name, RGB]) for name in names}
    own = {name: networks.stream_differences(*pair) for name, pair in pairs.items()}
    ours, found = seed_variance([*own["R(2+1)D"], *own["R3D"]]), [*pairs.values()]
    variances = [networks.fusion_variance(*pair, found) for pair in found]
    assert variances == [ours, ours, seed_variance(own["C3D"])]
    assert seed_variance(split for name in names for split in own[name]) != ours != variances[2]


@pytest.mark.parametrize("missing", [{1}, {0, 1}])
def test_fusion_is_compared_on_the_seeds_of_both_streams(missing, tmp_path):
    """RGB has three seeds; its other seeds have no part in the difference of the fusion."""
    runs = make(sports1m("small", "set", variants=("R(2+1)D",), seeds=(0, 1, 2)), tmp_path)
    runs = [run for run in runs if run.spec.modality == "rgb" or run.spec.seed not in missing]
    rows = {network.stream: network for network in networks.collect_networks(runs)[0]}
    estimate = networks.difference(rows[FUSED], rows[RGB])
    pairs = [(*pick(runs, modality="rgb", seed=seed), *pick(runs, modality="flow", seed=seed)) for seed in (0, 1, 2)]
    pairs = [pair for pair in pairs if len(pair) == 2]
    gains = [count_correct(*pair).mean() - count_correct(pair[0]).mean() for pair in pairs]
    every = np.mean([count_correct(run).mean() for run in pick(runs, modality="rgb")])
    assert np.mean(gains) != np.mean([count_correct(*pair).mean() for pair in pairs]) - every
    assert estimate.value == pytest.approx(100 * np.mean(gains)) and estimate.seeds == len(pairs)


def test_flow_minus_rgb_has_the_variance_of_its_own_seeds(tmp_path):
    """Not that of each stream pooled with R3D's."""
    specs = sports1m("small", "set", variants=("R(2+1)D",), seeds=(0, 1, 2))
    runs = make([*specs, *(spec.replace(variant="R3D") for spec in specs)], tmp_path)
    rows = {(network.spec.variant, network.stream): network for network in networks.collect_networks(runs)[0]}
    flow, rgb = (rows["R(2+1)D", stream].splits[""] for stream in (FLOW, RGB))
    estimate = accuracy_difference([flow], [rgb], seed_variance([flow.outcomes, rgb.outcomes]))
    text, pooled = (format_interval(e.low, e.high, "+.1f") for e in (estimate, accuracy_difference([flow], [rgb])))
    gained = streams.stream_gain(runs).data.set_index([("", "of"), ("", "comparison")])["here"]
    (row,) = (row for (of, name), row in gained.iterrows() if "R(2+1)D" in of and name == f"{FLOW} minus {RGB}")
    assert row["95 % interval"] == text != pooled


def test_differences_to_both_streams_are_not_counted_twice(tmp_path):
    """Both streams minus one, and minus the other, are of the same runs."""
    specs = sports1m("small", "set", variants=("R(2+1)D",), seeds=(0, 1, 2))
    runs = make([*specs, *(spec.replace(variant="R3D") for spec in specs)], tmp_path)
    rows = {(network.spec.variant, network.stream): network for network in networks.collect_networks(runs)[0]}
    pairs = [(rows[name, FUSED], rows[name, stream]) for name in ("R(2+1)D", "R3D") for stream in (RGB, FLOW)]
    (own,) = {networks.fusion_variance(*pair, pairs) for pair in pairs}
    plain = seed_variance(split for pair in pairs for split in networks.stream_differences(*pair))
    assert plain.df == 8 and replace(own, df=8) == plain
    means = [networks.stream_differences(*pair)[0].values.mean(axis=1) for pair in pairs]
    gaps = np.reshape(means, (2, 2, 3))  # networks, streams, seeds
    covariance = np.mean([np.cov(network) for network in gaps], axis=0)
    assert own.df == pytest.approx(4 * np.trace(covariance) ** 2 / np.trace(covariance @ covariance)) and own.df < 8


def test_caption_names_the_variance_only_of_tests(table_4_runs):
    said = "variance of the two networks alone"
    captions = [streams.stream_gain(runs).caption for runs in (table_4_runs, pick(table_4_runs, seed=0))]
    assert [(said in caption, "hence no test" in caption) for caption in captions] == [(True, False), (False, True)]


def test_runs_that_cannot_be_fused_are_named(table_4_runs):
    for run in pick(table_4_runs, modality="flow"):
        finish(run, replace(run.scores, videos=np.char.add(run.scores.videos, "x")))
    assert "the evaluated videos of the runs differ" in streams.show_stream_table(table_4_runs, 4).caption
    gained = streams.stream_gain(table_4_runs)
    assert gained.data["", "comparison"].tolist() == ["R3D minus R(2+1)D"]
    assert "two runs were evaluated on different videos" in gained.caption and len(gained.data) == 1
    rgb = networks.collect_networks(pick(table_4_runs, variant="R(2+1)D", modality="rgb"))[0][0].splits[""]
    with pytest.raises(R21DError, match="no seed has both"):
        networks.fuse_streams(rgb, networks.SeedGroup(rgb.spec, (), ()), [])


def test_tables_and_figures_without_target_runs_say_so(table_6_runs):
    unfinish(*[run for run in table_6_runs if run.spec.data.startswith("set")])
    assert "No run is finished" in streams.show_stream_table(table_6_runs, 6).data
    for draw in (streams.split_figure, partial(streams.stream_figure, table=5), streams.class_figure):
        assert "Nothing to draw" in draw(table_6_runs).data
    assert "needs" in streams.pretraining_gain(table_6_runs).data
    assert "No finetuned run" in pretraining.init_table(table_6_runs).data


def test_stream_tables_escape_names(tmp_path):
    names = (NASTY, "$x", *CLASSES[2:])
    runs = make(transfer("small", f"{NASTY}-split1", source=f"{NASTY}$b-split1"), tmp_path, names)
    write_json(runs[2], "environment.json", {"init_from": NASTY})
    finish(runs[2])
    gains = streams.stream_gain(runs), streams.pretraining_gain(runs)
    for table in (streams.show_stream_table(runs, 6), *gains, pretraining.init_table(runs)):
        assert "<script>" not in table.to_html() and "&lt;script&gt;" in table.to_html()
    for figure in (streams.class_figure(runs), streams.stream_figure(runs, table=5)):
        figure.canvas.draw()  # a $ begins no formula


@pytest.mark.parametrize("left_out", [None, ("set-split3", 1)])
def test_class_accuracy_counts_a_video_once_whatever_its_seeds(table_6_runs, left_out):
    """A split whose second seed is missing counts as much as those that have two."""
    found = [run for run in table_6_runs if (run.spec.data, run.spec.seed) != left_out]
    rows = {(network.training, network.stream): network for network in networks.collect_networks(found)[0]}
    table = streams.class_accuracy(rows["from scratch", RGB], rows["from scratch", FLOW])
    for number, name in enumerate(CLASSES):
        for stream, modality in ((RGB, "rgb"), (FLOW, "flow")):
            shares = []
            for split in (1, 2, 3):
                seeds = pick(found, modality=modality, init_from="", data=f"set-split{split}")
                mean = np.mean([count_correct(run) for run in seeds], axis=0)
                shares += mean[seeds[0].scores.labels == number].tolist()
            assert table.loc[name, stream] == pytest.approx(100 * np.mean(shares))
            assert table.loc[name, "videos"] == len(shares)
    assert table["difference"].is_monotonic_decreasing


def test_stream_figures_match_the_tables(table_6_runs, table_4_runs):
    figure = streams.stream_figure(table_4_runs, table=4)
    drawn = [float(bar[0].get_xdata()[0]) for bar in figure.axes[1].containers]
    assert drawn == pytest.approx(streams.stream_table(table_4_runs, 4)["here", "video@1"].tolist())
    printed = [line.get_xdata()[0] for line in figure.axes[0].lines]
    assert np.nan_to_num(printed).tolist() == [0, 72.0, 65.5, 72.2]
    table, figure = streams.stream_table(table_6_runs, 6), streams.split_figure(table_6_runs)
    for axes, stream in zip(figure.axes, (RGB, FLOW, FUSED), strict=True):
        here = table[table["", "input"] == stream]["here"]
        drawn = [float(bar[0].get_ydata()[0]) for bar in axes.containers]
        assert drawn == pytest.approx(here["video@1"].tolist())
        bars = [format_interval(*bar[2][0].get_segments()[0][:, 1]) for bar in axes.containers]
        assert bars == here["95 % interval"].tolist()
        assert [text.get_text() for text in axes.get_xticklabels()] == ["split 1", "split 2", "split 3", "mean"]


def test_means_of_a_figure_are_of_the_splits_that_both_have(table_6_runs):
    """The pretrained network lacks split 2, and split 3 has one seed of the other."""
    unfinish(*(run for run in pick(table_6_runs, data="set-split2") if run.spec.init_from))
    unfinish(pick(table_6_runs, data="set-split3", modality="rgb", init_from="", seed=1)[0])
    seeds = streams.stream_table(table_6_runs, 6).set_index([("", "weights"), ("", "split")])["here", "seeds"]
    assert seeds["from scratch", "mean of 1, 2, 3"].tolist()[0] == "1 to 2"
    panels, scratch = streams.split_figure(table_6_runs).axes, networks.collect_networks(table_6_runs)[0][0]
    (text,), point = panels[0].texts, panels[0].containers[len(scratch.splits)][0]
    assert text.get_text() == "of 1, 3" and scratch.training == "from scratch"
    assert point.get_ydata()[0] == pytest.approx(np.mean([scratch.splits[name].video_at(1) for name in "13"]))


def test_of_many_classes_those_at_both_ends_are_drawn(table_6_runs, monkeypatch):
    monkeypatch.setattr(streams, "MAX_CLASSES", 4)
    rows = networks.collect_networks(pick(table_6_runs, init_from="", data="set-split1"))[0]
    order = streams.class_accuracy(*rows[:2]).index
    (axes,) = streams.class_figure(pick(table_6_runs, init_from="", data="set-split1")).axes
    assert [text.get_text()[0] for text in axes.get_yticklabels()] == [*order[:2], *order[-2:]]


def test_networks_of_other_papers_have_what_table_4_prints(tmp_path):
    variants = ("C3D", "s3d", "R3D", "R(2+1)D")
    runs = make(sports1m("small", "set", variants=variants), tmp_path)
    table = streams.stream_table(runs, 4)
    printed = table.loc[table["", "network"] == "C3D", "paper, Sports-1M"]
    assert printed.to_numpy().tolist() == [["–", 46.1, 61.1, 85.2]]
    (papers, _), seen = streams.stream_figure(runs, table=4).axes, {}
    for text in papers.texts:
        seen[papers.get_yticklabels()[round(text.xy[1])].get_text()] = text.get_text()
    assert seen == {"s3d": "not in the paper's Table 4", "R3D": "no video@1 printed"}
    assert papers.lines[0].get_xdata()[0] == 61.1
    flow = make(sports1m("small", "set", variants=("R3D", "C3D")), tmp_path)
    table = streams.stream_table(flow, 4)
    assert table.loc[table["", "input"] == FLOW, "paper, Sports-1M"].drop(columns="frames").isna().all(axis=None)


def test_table_6_has_networks_of_other_papers_on_rgb(five_networks):
    table = streams.stream_table(five_networks, 6)
    means = table[table["", "split"] == "mean of 1, 2, 3"]
    inputs = {name: rows["", "input"].tolist() for name, rows in means.groupby(("", "network"), sort=False)}
    assert inputs == dict.fromkeys(FIVE[:4], [RGB] * 2) | {"R(2+1)D-18": [RGB, FLOW, FUSED] * 2}
    others = table[table["", "network"] != "R(2+1)D-18"]
    assert others.filter(like="paper").isna().all(axis=None)
    caption = streams.show_stream_table(five_networks, 6).caption
    assert "not fused" not in caption and "those of other papers each by itself (not in rows of one split" in caption


def test_networks_of_other_papers_have_their_own_folds(five_networks):
    """One seed on three splits: network × fold of the two networks of a difference; Holm over the whole table."""
    by_spec = {(n.spec.variant, bool(n.source), n.stream): n for n in networks.collect_networks(five_networks)[0]}
    gains = [(by_spec[name, True, RGB], by_spec[name, False, RGB]) for name in FIVE]
    gains += [(by_spec["R(2+1)D", True, stream], by_spec["R(2+1)D", False, stream]) for stream in (FLOW, FUSED)]
    gaps = [(by_spec[name, start, RGB], by_spec["R(2+1)D", start, RGB]) for name in FIVE[:4] for start in (False, True)]
    tables, p = [streams.pretraining_gain(five_networks), streams.stream_gain(five_networks)], []
    for table, pairs in zip(tables, (gains, gaps), strict=True):
        rows = table.data[table.data["", "split"] == "mean of 1, 2, 3"]["here"].iloc[: len(pairs)]
        for (a, b), (_, row) in zip(pairs, rows.iterrows(), strict=True):
            sides = [[group.outcomes for group in n.splits.values()] for n in (a, b)]
            own = estimate_difference(*sides, fold_variance(sides))
            estimate = own if a.spec.variant in FIVE[:4] else networks.difference(a, b)
            assert row["95 % interval"] == format_interval(estimate.low, estimate.high, "+.1f")
            p += [estimate.p] if pairs is gains else []
        caption = html.unescape(table.caption)
        assert "differences of networks of other papers with the seeds' variance of the two networks alone" in caption
        assert "p by recording and run, whose variance is estimated from the splits; with" in caption
    means = tables[0].data["", "split"].str.startswith("mean")
    assert tables[0].data[means]["here", "p, Holm"].tolist() == pytest.approx(multipletests(p, method="holm")[1])
    assert tables[0].data[~means]["here", "p, Holm"].isna().all(), "one run of each"
    assert [table.data["here", "p, Holm"].count() for table in tables] == [7, 4 * 2 + 3 * 2]


@pytest.mark.parametrize("settings", [{}, {"lr": 0.02}])
def test_a_divided_learning_rate_is_compared(settings, tmp_path):
    """Whether the recipe divides it or all networks have the one that is set."""
    runs = make(sports1m("small", "set", variants=("mvit_v2_s", "R(2+1)D"), **settings), tmp_path)
    assert "mvit_v2_s minus R(2+1)D" in streams.stream_gain(runs).data["", "comparison"].tolist()


def test_missing_networks_of_other_papers_leave_the_rest(five_networks):
    unfinish(*pick(five_networks, variant="C3D"))
    unfinish(*(run for run in pick(five_networks, variant="mvit_v2_s") if run.spec.init_from))
    unfinish(*pick(five_networks, variant="s3d", data="set-split2"))
    table = streams.stream_table(five_networks, 6)
    assert table["", "network"].unique().tolist() == ["s3d", "swin3d_t", "mvit_v2_s", "R(2+1)D-18"]
    of_s3d = table[table["", "network"] == "s3d"]
    assert of_s3d["", "split"].unique().tolist() == ["1", "3", "mean of 1, 3"]
    gains = streams.pretraining_gain(five_networks).data["", "of"]
    assert gains.unique().tolist() == [*(f"{name}, RGB" for name in ("s3d", "swin3d_t")),
                                       *(f"R(2+1)D, {stream}" for stream in (RGB, FLOW, FUSED))]  # fmt: skip
    compared = streams.stream_gain(five_networks).data.set_index([("", "of"), ("", "comparison")])["", "split"]
    assert compared["from scratch, RGB", "s3d minus R(2+1)D"] == "mean of 1, 3"
    assert pretraining.init_table(five_networks).data["network"].value_counts().to_dict() == {
        "s3d": 2, "swin3d_t": 3, "R(2+1)D": 6,
    }  # fmt: skip
    titles = [axes.get_title() for axes in streams.split_figure(five_networks).axes if axes.axison]
    assert titles == [*(f"{name}, RGB" for name in ("s3d", "swin3d_t", "mvit_v2_s")),
                      *(f"R(2+1)D, {stream}" for stream in (RGB, FLOW, FUSED))]  # fmt: skip


def test_figures_of_five_networks_have_a_place_for_each(five_networks):
    rows = networks.collect_networks(five_networks)[0]
    panels = [axes for axes in streams.split_figure(five_networks).axes if axes.axison]
    assert len(panels) == 7 and all(axes.containers for axes in panels), "none is empty"
    one_split = [run for run in five_networks if run.spec.data.endswith("split1")]
    papers, ours = streams.stream_figure(one_split, table=5).axes
    places = {float(bar[0].get_ydata()[0]) for bar in ours.containers}
    assert len(places) == len(rows) == len(ours.containers), "no point lies on another"
    assert {*range(8)} < places, "one stream alone stands beside its name"
    assert [text.get_text() for text in papers.texts] == ["not in the paper's Table 5"] * 8
    assert len(streams.class_figure(five_networks).axes) == 2, "R(2+1)D alone has both streams"


def test_depth_in_a_title_is_that_of_networks_with_one(tmp_path):
    runs = make(kinetics("paper", "kinetics-400", variants=("C3D", "R(2+1)D")), tmp_path)
    assert streams.stream_figure(runs, table=5).axes[1].get_title() == "here: kinetics-400, ResNets of 34 layers"
    of_c3d = pick(runs, variant="C3D")
    assert streams.stream_figure(of_c3d, table=5).axes[1].get_title() == "here: kinetics-400"


def test_caption_has_no_seeds_variance_without_a_test(tmp_path):
    runs = make(kinetics("small", "set", source="large", variants=("C3D", "R(2+1)D")), tmp_path)
    caption = streams.stream_gain(runs).caption
    assert "hence no test" in caption and "variance" not in caption


def test_flow_figure_has_colors_by_direction():
    flow = np.zeros((8, 20, 30, 2))
    flow[:, :, 15:] = (0, 2)
    figure = clip_figures.flow_figure(np.zeros((8, 20, 30, 3), np.uint8), flow)
    figure.canvas.draw()
    assert len([axes for axes in figure.axes if axes.images]) == 2 * 6 + 1
    assert "2 pixels" in figure.axes[-1].get_title()
    table = figure.axes[7].images[0].get_array()  # the lower left panel
    assert np.allclose(table[:, :15], 1), "what does not move is white"
    assert np.allclose(table[:, 15:], clip_figures.flow_to_rgb(np.array([[[0, 5.0]]]), 1))
    correct, left = (clip_figures.flow_to_rgb(np.array([[[x, 0.0]]]), 1)[0, 0] for x in (1, -1))
    assert np.allclose(correct, (1, 0, 0)) and np.allclose(left, (0, 1, 1))
    still = clip_figures.flow_figure(np.zeros((2, 20, 30, 3), np.uint8), np.zeros((2, 20, 30, 2)))
    still.canvas.draw()


def test_init_table_counts_the_groups_in_both(table_6_runs):
    later = [run for run in table_6_runs if run.spec.init_from]
    videos = later[0].scores.videos
    finish(later[0], replace(later[0].scores, videos=np.repeat(videos[::2], 2)))
    for run in later:
        run.write("trained_on.txt", "h\ng1\ng3\n" if run is later[0] else "h\nk\n")
        finish(run)
    (later[-1].folder / "trained_on.txt").unlink()
    table = pretraining.init_table(table_6_runs).data
    assert len(table) == len(later) == 12
    cells = table["groups in both"].tolist()
    assert table["videos tested"].tolist()[:2] == ["10", "20"], "an item is a video under one of its labels"
    assert cells[0] == "2" and cells[1] == "0" and cells[-1] == "no record of what it was trained on"
    assert table["groups tested"][0].startswith("10: g0, g1, g2, g3, …") and table["groups trained on"][1] == "2: h, k"
    assert set(table["pretrained on"]) == {"large-split1", "large-split2", "large-split3"}
    assert "126 tensors" in table["weights"][0]


def stream_scores(seed, modality):
    videos = [f"v{n:02d}" for n in range(12)]
    return random_scores(seed, videos, "abcd", protocol_of(Spec(modality=modality, frames=8), data="set"), gain=0)


@given(st.integers(0, 1000))
def test_fused_is_the_mean_of_softmax(seed):
    a, b = stream_scores(seed, "rgb"), stream_scores(seed + 5000, "flow")
    fused = networks.fuse(a, b)
    by_clip = (softmax(a.logits, 2) + softmax(b.logits, 2)) / 2
    assert np.allclose(video_probabilities(fused), by_clip.mean(axis=1), atol=1e-6)
    assert clip_at_1(fused) == (by_clip.argmax(axis=2) == a.labels[:, None]).mean()
    assert video_at(fused, 1) == (by_clip.mean(axis=1).argmax(axis=1) == a.labels).mean()
    assert fused.protocol["modality"] == "rgb + flow" and fused.protocol["clips"] == 3


OTHER = stream_scores(2, "flow")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"protocol": OTHER.protocol | {"clips": 10}}, "clips is 3 in the first run and 10"),
        ({"protocol": OTHER.protocol | {"crop": "center crop 8×8"}}, "crop is 'center crop 112×112 of 128×171'"),
        ({"protocol": OTHER.protocol | {"averaging": "mean"}}, "averaging is 'mean of softmax'"),
        ({"protocol": OTHER.protocol | {"data": "other"}}, "data is 'set'"),
        ({"classes": tuple("abce")}, "classes of the runs differ, first 'd'"),
        ({"classes": tuple("abdc")}, "classes of the runs differ, first 'their order'"),
        ({"videos": np.array([*OTHER.videos[:-1], "v99"])}, "videos of the runs differ, first 'v11'"),
        ({name: getattr(OTHER, name)[:-1] for name in ("videos", "labels", "logits")}, "runs differ, first 'v11'"),
        ({"labels": np.roll(OTHER.labels, 1)}, "the label of 'v00' differs"),
    ],
)
def test_different_runs_are_not_fused(change, says):
    with pytest.raises(R21DError, match=says):
        networks.fuse(stream_scores(1, "rgb"), replace(OTHER, **change))
