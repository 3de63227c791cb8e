"""Networks against R(2+1)D over folds, by hand; what each network is composed of; pretraining on the rate."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy import stats
from torch import nn

from r21d_analysis.artifacts.curves import error_curves
from r21d_analysis.artifacts.figures import accuracy_against_cost
from r21d_analysis.artifacts.folds import COMPOSITIONS, composition_table, fold_table, reasons_figure, show_fold_table
from r21d_analysis.artifacts.measures import measure, pool_splits
from r21d_analysis.artifacts.networks import collect_networks, difference
from r21d_analysis.artifacts.pretraining import GAP, rate_table, show_rate_table
from r21d_analysis.statistics.power import detectable_difference
from r21d_core import R21DError
from r21d_core.models.architecture import PAIRS
from r21d_core.models.network import VideoResNet
from r21d_core.runs.metrics import video_at
from r21d_core.runs.scores import take_items
from r21d_core.study.experiments import REASONS, rate_pretraining, variant_comparison, why_2plus1d
from r21d_core.study.variants import LETTERS
from tests.runs import finish, make_runs, unfinish

# Training errors in per cent of seeds 0 and 1, in fold 1 and fold 2.
ERRORS = {"R(2+1)D": ((20, 21), (22, 24)), "R3D": ((24, 26), (27, 27)), "P3D-B": ((18, 19), (20, 20))}


@pytest.fixture(params=["action", "speed"])
def runs(request, tmp_path):
    options = {"task": request.param, "variants": tuple(ERRORS), "seeds": (0, 1), "splits": "1,2"}
    runs = make_runs(why_2plus1d("small", "set-split1", **options), tmp_path)
    for run in runs:
        error = ERRORS[run.spec.variant][int(run.spec.data[-1]) - 1][run.spec.seed] / 100
        errors = enumerate([(1.0, 1.0), (error, 0.5)], 1)
        finish(run, history=[{"epoch": e, "train_error": train, "test_error": test} for e, (train, test) in errors])
    return runs


def test_training_error_is_that_of_the_last_epoch_seed_by_seed(runs):
    """R3D less R(2+1)D: 4.5 points in fold 1, 4 in fold 2. The seeds' means over folds are 21 and 22.5 of R(2+1)D, 25.5
    and 26.5 of R3D, 19 and 19.5 of P3D-B, whose variance is pooled.
    """
    row = fold_table(runs).set_index("network").loc["R3D"]
    assert row["training error"] == pytest.approx(26) and row["training gap"] == pytest.approx(4.25)
    half = stats.t.ppf(0.975, 3) * np.sqrt((1.5**2 + 1 + 0.5**2) / 2 / 3)
    assert [row["training low"], row["training high"]] == pytest.approx([4.25 - half, 4.25 + half])


def test_one_seed_has_runs_on_folds_alone(runs):
    """R3D less R(2+1)D, seed 0: 4 points of training error in fold 1, 5 in fold 2; one fold has one run, so no test."""
    runs = [run for run in runs if run.spec.seed == 0]
    row = fold_table(runs).set_index("network").loc["R3D"]
    low, high = stats.ttest_1samp([4, 5], 0).confidence_interval()
    assert [row["training low"], row["training high"]] == pytest.approx([low, high]) and row["p, Holm"] <= 1
    alone = fold_table([run for run in runs if run.spec.data.endswith("1")]).set_index("network").loc["R3D"]
    assert np.isnan([alone["p, Holm"], alone["training low"]]).all() and alone["gap low"] < alone["gap high"]


def test_measure_has_a_row_for_each_split(runs):
    table = measure(runs)
    assert not table[["network", "data"]].duplicated().any()
    assert set(table["data"]) == {run.spec.data for run in runs} and table["network"].duplicated().any()


def test_networks_of_other_videos_are_told(runs):
    """The rows of one seed have the variance of folds, which is that of the networks on the same videos."""
    runs = [run for run in runs if run.spec.seed == 0]
    (odd,) = (run for run in runs if run.spec.variant == "P3D-B" and run.spec.data.endswith("1"))
    finish(odd, take_items(odd.scores, slice(1, None)))
    with pytest.raises(R21DError, match="evaluated on different videos"):
        fold_table(runs)
    assert measure(runs).set_index("network")["video@1"].notna().all()


def test_curves_are_means_over_folds_and_seeds(runs):
    panels = {axes.get_title(): axes for axes in error_curves(runs, by="network").axes if axes.lines}
    assert set(panels) == set(ERRORS)
    for name, axes in panels.items():
        assert axes.lines[0].get_ydata()[1] == pytest.approx(np.mean(ERRORS[name]))


def test_lowest_panel_of_each_column_has_the_epochs(tmp_path):
    """Six networks stand in rows of four and two."""
    runs = make_runs(why_2plus1d("small", "set-split1", variants=REASONS[:6]), tmp_path)
    figure = error_curves(runs, by="network")
    figure.draw_without_rendering()
    labelled = [any(label.get_visible() for label in axes.get_xticklabels()) for axes in figure.axes if axes.lines]
    assert labelled == [False, False, True, True, True, True]


def test_notebook_of_table_2_pools_splits(tmp_path, execute):
    """The means over both splits, first with cost and the paper's numbers, then with their differences."""
    options = {"variants": ("R3D", "R(2+1)D"), "splits": "1,2"}
    for run in (runs := make_runs(variant_comparison("small", "set-split1", **options), tmp_path)):
        finish(run, replace(run.scores, protocol=run.scores.protocol | {"data": run.spec.data}))
    parameters = options | {"variants": "R3D, R(2+1)D", "runs": str(tmp_path), "train": False}
    outputs, _ = execute("variant_comparison", profile="small", manifest="set-split1.csv", **parameters)
    html = [output["text/html"] for output in outputs if "text/html" in output]
    means = [f">{value:.1f}<" for value in fold_table(runs).sort_values("network")["video@1"]]
    assert "data=set" not in html[0] and all(mean in html[0] for mean in means)
    assert "Means over 2 folds" in html[1] and f">{fold_table(runs)['video@1'][0]:.1f}<" in html[1]
    ours = accuracy_against_cost(runs).axes[1]
    assert ours.get_title() == "here: set, 2 splits, classes, 16 frames" and len(ours.containers) == 2


@pytest.mark.parametrize(
    ("data", "task", "noun"),
    [("miracl-vc1-split1", "action", "speech"), ("ucf101-14-split1", "action", "actions"),
     ("ucf101-14-split1", "speed", "playback rate")],
)  # fmt: skip
def test_figure_4_names_what_its_runs_recognize(data, task, noun, tmp_path):
    runs = make_runs(variant_comparison("small", data, task=task, variants=("R3D",)), tmp_path)
    for run in runs:
        finish(run, replace(run.scores, protocol=run.scores.protocol | {"data": data, "task": task}))
    assert accuracy_against_cost(runs).axes[-1].get_title() == f"here: {data}, {noun}, {runs[0].spec.frames} frames"


def test_pooled_splits_are_those_of_the_networks(runs):
    """Means and intervals as in `fold_table`; a network that lacks a split has its cost alone."""
    unfinish(*(run for run in runs if run.spec.variant == "P3D-B" and run.spec.data.endswith("1")))
    unfinish(*(run for run in runs if (run.spec.variant, run.spec.data[-1], run.spec.seed) == ("R3D", "2", 1)))
    pooled, folds = pool_splits(measure(runs)).set_index("network"), fold_table(runs).set_index("network")
    whole = folds.index.drop("P3D-B")
    for column in ("clip@1", "video@1", "low", "high", "training error"):
        assert pooled.loc[whole, column].tolist() == pytest.approx(folds.loc[whole, column].tolist())
    assert {*pooled.loc[whole, "data"]} == {"set"} and pooled.loc["R3D", "seeds"] == "1 seed of 2"
    assert pooled.loc["R3D", "videos"] == measure(runs)["videos"][:2].sum()
    lacking = pooled.loc["P3D-B"]
    assert lacking["seeds"] == "1 of 2 splits" and lacking[["video@1", "low", "videos"]].isna().all()
    assert lacking["GMAC/clip"] == measure(runs).groupby("network")["GMAC/clip"].mean()["P3D-B"] > 0


def test_speeds_are_those_of_the_splits_on_one_device(runs):
    """What another device measured is in no mean."""
    first, others = ([run for run in runs if run.spec.data.endswith(split)] for split in "12")
    for run in others:
        finish(run, device="ZGPU", inference_clips_per_second=1.0)
    pooled, expected = (pool_splits(measure(some))["inference clips/s"].tolist() for some in (runs, first))
    assert pooled == pytest.approx(expected)


def test_network_that_lacks_a_fold_is_compared_on_the_others(runs):
    some = [run for run in runs if run.spec.variant != "P3D-B" or run.spec.data.endswith("1")]
    for run in some:  # each fold has its own recordings
        finish(run, replace(run.scores, groups=np.char.add(run.scores.groups, run.spec.data)))
    last = fold_table(some).iloc[-1]
    assert (last["network"], last["folds"], last["training gap"]) == ("P3D-B", 1, pytest.approx(18.5 - 20.5))
    table = show_fold_table(some)
    assert table.data["folds"].tolist() == [2, 2, 1] and "networks with fewer are below" in table.caption
    assert "by group, 48 groups" in table.caption


def test_networks_on_flow_are_compared(tmp_path):
    options = {"variants": ("R(2+1)D", "R3D"), "splits": "1,2", "modality": "flow"}
    runs = make_runs(why_2plus1d("small", "set-split1", **options), tmp_path)
    table = fold_table(runs).set_index("network")
    best, other = ([video_at(run.scores, 1) for run in runs if run.spec.variant == name] for name in table.index)
    assert table["video@1"].tolist() == pytest.approx([100 * np.mean(best), 100 * np.mean(other)])
    assert isinstance(reasons_figure(runs), Figure)


def test_two_networks_of_one_name_are_not_mixed(tmp_path):
    """Their differences would stand in each other's rows."""
    options = {"variants": ("R(2+1)D", "R3D"), "splits": "1,2"}
    specs = [*why_2plus1d("small", "set-split1", **options), *why_2plus1d("small", "set-split1", lr=0.5, **options)]
    with pytest.raises(R21DError, match=r"R\S+: runs of it differ in more than seed and split"):
        fold_table(make_runs(specs, tmp_path))


def differences(runs, names):
    """The estimates of the networks `names` minus R(2+1)D."""
    networks = {network.spec.variant: network for network in collect_networks(runs)[0]}
    return [difference(networks[name], networks["R(2+1)D"]) for name in names]


def test_caption_says_how_many_tests_there_are(runs):
    """A network of one run has none, beside others of two seeds; nor has any network if all have one run."""
    first = [run for run in runs if run.spec.data.endswith("1")]
    some = [run for run in first if run.spec.variant != "P3D-B" or run.spec.seed == 0]
    caption = show_fold_table(some).caption
    assert "; 1 test, one family, Holm, none for a network of one run, " in caption and "Means over" not in caption
    (estimate,) = differences(some, ["R3D"])
    found = fold_table(some).set_index("network")["detectable"].dropna()
    assert found.to_dict() == {"R3D": pytest.approx(detectable_difference(estimate, 1))}, "one test"
    alone = show_fold_table([run for run in first if run.spec.seed == 0]).caption
    assert "; no tests; " in alone and "power" not in alone


def test_table_and_figure_have_every_network(runs):
    table = show_fold_table(runs)
    assert set(table.data["network"]) == set(ERRORS) and set(table.data["seeds"]) == {2}
    points = sorted(f"{detectable_difference(gap, 2):.1f}" for gap in differences(runs, ["R3D", "P3D-B"]))
    assert len(points) == 2 and f"2 tests, one family, Holm, {' to '.join(points)} points at 80 %" in table.caption
    assert "Means over 2 folds" in table.caption
    figure = reasons_figure(runs)
    assert isinstance(figure, Figure)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert sorted(names) == ["P3D-B", "R3D"]
    expected = fold_table(runs).set_index("network").loc[names]
    columns = ("training gap", "training low", "training high"), ("minus R(2+1)D", "gap low", "gap high")
    for axes, (value, *ends) in zip(figure.axes, columns, strict=True):
        points = [container[0].get_xydata()[0] for container in axes.containers]
        np.testing.assert_allclose(points, [*zip(expected[value], range(len(names)), strict=True)])
        bars = [container[2][0].get_segments()[0][:, 0] for container in axes.containers]
        np.testing.assert_allclose(bars, expected[ends])


def test_without_r2plus1d_a_note_says_so(runs):
    others = [run for run in runs if run.spec.variant != "R(2+1)D"]
    for show in (show_fold_table, reasons_figure):
        assert "R(2+1)D" in show(others).data
    assert "no network is compared" in reasons_figure([run for run in runs if run not in others]).data


def test_compositions_have_the_relus_of_the_networks():
    table = composition_table(why_2plus1d("small", "a-split1")).data
    assert list(table["network"]) == list(REASONS)
    for name, relus in zip(table["network"], table["ReLUs"], strict=True):
        with torch.device("meta"):
            assert relus == sum(isinstance(module, nn.ReLU) for module in VideoResNet(name).modules()), name
    where = "a letter is in LETTERS of variants.py, and in PAIRS of architecture.py or in COMPOSITIONS of folds.py"
    assert set(LETTERS) == {*COMPOSITIONS, *PAIRS}, where
    texts = table.set_index("network")["a convolution is"]
    assert texts["R(2+1)D"] == "1×3×3 to M, BN, ReLU, 3×1×1" and texts["R(2+1)D-noBN-noReLU"] == "1×3×3 to M, 3×1×1"
    assert texts["R(2+1)D-0.5M"].startswith("1×3×3 to 0.5M, BN") and texts["R3D+ReLU"].startswith("3×3×3 to M, BN")


def test_network_of_another_paper_has_its_cost_alone():
    table = composition_table(why_2plus1d("small", "a-split1", variants=("R(2+1)D", "C3D"))).data.set_index("network")
    row = table.loc["C3D"]
    assert row["a convolution is"] == "–" and row["parameters (M)"] > table["parameters (M)"]["R(2+1)D"]
    assert row[["ReLUs", "M of 64 → 64"]].isna().all()
    alone = composition_table(why_2plus1d("small", "a-split1", variants=("s3d", "C3D")))
    assert list(alone.data) == ["network", "parameters (M)", "GMAC/clip"] and "BN" not in alone.caption
    without_m = composition_table(why_2plus1d("small", "a-split1", variants=("R3D", "C3D"))).data
    assert list(without_m) == ["network", "a convolution is", "ReLUs", "parameters (M)", "GMAC/clip"]


def test_finetuned_network_is_compared_with_its_own_scratch(tmp_path):
    specs = rate_pretraining("small", "set-split1", variants=("R3D", "R(2+1)D"), seeds=(0, 1))
    for place, spec in enumerate(specs):  # or the clips of both trainings would be as many
        if spec.init_from:
            specs[place] = spec.replace(epochs=9, init_from=json.dumps(json.loads(spec.init_from) | {"epochs": 18}))
    runs = make_runs(specs, tmp_path)
    table = rate_table(runs).set_index(["network", "clips of the playback rate"])
    assert len(table) == 4 and set(table["seeds"]) == {2}
    assert set(table["clips of the actions"]) == {18 * 1272, 9 * 636}
    for name in ("R3D", "R(2+1)D"):
        accuracy = table["video@1"][name]
        assert table[GAP][name][18 * 636] == pytest.approx(accuracy[18 * 636] - accuracy[0])
    assert table["p, Holm"].notna().sum() == 2
    actions = collect_networks([run for run in runs if run.spec.task == "action"])[0]
    members = {(network.spec.variant, network.source): network for network in actions}
    pairs = [(network, members[name, ""]) for (name, source), network in members.items() if source]
    found = sorted(f"{detectable_difference(difference(*pair), 2):.1f}" for pair in pairs)
    caption = show_rate_table(runs).caption
    assert len(found) == 2
    assert "trained from scratch" in caption and f"; {' to '.join(found)} points at 80 % power" in caption
    finetuned = [run for run in runs if run.spec.init_from]
    scratch = [
        run.spec.replace(data="set-split2") for run in runs if run.spec.task == "action" and run not in finetuned
    ]
    with pytest.raises(R21DError, match=r"R3D: its runs are on set-split1, the others on set-split2; compare the same"):
        show_rate_table(finetuned + make_runs(scratch, tmp_path))
    alone = rate_table([run for run in runs if run.spec.seed == 0])
    assert alone["p, Holm"].isna().all() and alone["its interval"].notna().sum() == 2, "one run is no test"
    assert alone["detectable"].isna().all()
