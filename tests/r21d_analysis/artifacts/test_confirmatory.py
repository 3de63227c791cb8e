"""The confirmatory families are those of docs/protocol.md, and a verdict needs all runs of a contrast."""

import itertools
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from r21d_analysis.artifacts import confirmatory, confirmatory_figures
from r21d_analysis.artifacts.confirmatory import (
    CHECK,
    FAMILIES,
    OTHER_SEVEN,
    PLANNED,
    RUNS,
    SPEECH,
    WHY,
    Family,
    confirmatory_table,
    decide_contrast,
    describe_seen,
    describe_verdicts,
    family_specs,
    planned_specs,
    training_commands,
    without_unfinished,
)
from r21d_analysis.artifacts.confirmatory_figures import (
    LATER,
    LONGER,
    WHILE,
    contrasts_figure,
    course_figure,
    length_gains,
    show_accuracies,
    show_confirmatory,
    show_length_gains,
    show_training_course,
    training_course,
)
from r21d_analysis.artifacts.folds import GAP, fold_table
from r21d_analysis.artifacts.tables import PAPER
from r21d_analysis.outcome import ROOT, find_speech
from r21d_analysis.statistics.aggregate import accuracy_difference, group_by_seed, pooled_seed_variance
from r21d_analysis.statistics.inference import Estimate, estimate_contrast, estimate_sum_of_means, holm
from r21d_analysis.statistics.power import detectable_difference
from r21d_analysis.style import PAPER_TICK, VARIANT_STYLE, P
from r21d_core import R21DError
from r21d_core.cli import main
from r21d_core.data.manifest import load_manifest
from r21d_core.runs.metrics import video_at
from r21d_core.runs.run import load_runs
from r21d_core.runs.scores import take_items
from tests.runs import finish, make_runs, unfinish

FIXED = Family("fixed", "set-split1", (("epochs", 3),), (1, 2), 2, (("R3D", 8), ("MC3", 8), ("R3D", 16)))
OPEN = FIXED._replace(name="open", seeds=0)
MISSING = "none: runs are missing"
STATUS = " ".join((ROOT / "docs" / "protocol.md").read_text().split("## Status")[1].split())


@pytest.fixture
def runs(tmp_path):
    return make_runs(family_specs(FIXED), tmp_path)


def answer(run, right):
    """Let `run` have the items `right` right and the others wrong, (items,) bool."""
    logits = np.zeros_like(run.scores.logits)
    logits[np.arange(len(right)), :, (run.scores.labels + ~right) % len(run.scores.classes)] = 1
    finish(run, replace(run.scores, logits=logits))


def is_of(run, variant, frames, **more):
    return (run.spec.variant, run.spec.frames) == (variant, frames) and all(
        getattr(run.spec, key) == value for key, value in more.items()
    )


def test_families_are_those_of_the_protocol():
    lines = re.findall(r"^\| ([^|]+) \| ([^|]+) \| (\d+) \|$", (ROOT / "docs" / "protocol.md").read_text(), re.M)
    assert [(name.split(",")[0], int(tests)) for name, _, tests in lines] == [
        (family.name.split(",")[0], len(family.contrasts)) for family in FAMILIES
    ]
    for at in (0, 1, 4):  # the others are named by their number
        (_, text, _), family = lines[at], FAMILIES[at]
        parts = [part for part in text.split("; ") if "frames" in part]
        parts = (part.rpartition(" at ") if " at " in part else part.rpartition(", ") for part in parts)
        named = {(name, int(frames.split()[0])) for names, _, frames in parts for name in names.split(", ")}
        assert named == set(family.contrasts)
    numbers = [len(family_specs(family)) for family in FAMILIES]
    assert numbers == [2 * 15, 9 * 15, 12 * 5, 10 * 5, 8 * 3], "networks × splits and seeds; of speech one seed"
    actions = {*family_specs(FAMILIES[0]), *family_specs(FAMILIES[1])}
    assert len(actions) == len(planned_specs()) == 75 + 75 and {spec.frame_stride for spec in actions} == {1}
    assert [family.seen for family in FAMILIES] == [(), (), (0, 1), (0, 1), (0,)]


def test_speech_has_the_numbers_of_its_table():
    runs = load_runs(ROOT / "results" / "miracl.zip")
    table = confirmatory_table(runs, [SPEECH]).set_index("network")
    complete = find_speech(FAMILIES[2])
    assert {run.spec.seed for run in complete} == {0, 2, 3, 4, 5} < {run.spec.seed for run in runs}
    assert len(complete) == 5 * 5 * 12 and table["verdict"].str.startswith("1 of 5 seeds seen before: ").all()
    expected = fold_table(complete).set_index("network")
    for ours, theirs in ((GAP, "minus R(2+1)D"), ("low", "gap low"), ("high", "gap high"), ("p, Holm", "p, Holm")):
        np.testing.assert_allclose(table[ours].astype(float), expected.loc[table.index, theirs].astype(float))


def test_missing_run_leaves_its_contrasts_without_a_verdict(runs):
    whole = confirmatory_table(runs, [FIXED])
    assert not whole["verdict"].str.startswith("none").any() and list(whole[RUNS]) == ["8 of 8"] * 3
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    part = confirmatory_table(runs, [FIXED])
    assert list(part[RUNS]) == ["8 of 8", "7 of 8", "8 of 8"] and part["verdict"][1] == MISSING
    assert np.isnan(part[GAP][1]) and part[GAP][0] == whole[GAP][0]
    unfinish(next(run for run in runs if is_of(run, "R(2+1)D", 8, seed=0)))
    assert list(confirmatory_table(runs, [FIXED])["verdict"][:2]) == [MISSING] * 2
    assert (
        describe_verdicts(confirmatory_table(runs, [FIXED]))
        == "contrasts with a verdict of runs made after the protocol: fixed 1 of 3"
    )


def test_incomplete_contrast_has_no_part_in_the_others(runs):
    """The seeds of MC3 differ greatly; as long as one of its runs is missing, R3D's interval does not know them."""
    random = np.random.default_rng(0)
    for run in runs:
        share = 0.9 * run.spec.seed if run.spec.variant == "MC3" else 0.5
        answer(run, random.random(len(run.scores.labels)) < share)
    numbers = [GAP, "low", "high"]
    alone = confirmatory_table(runs, [FIXED._replace(contrasts=(("R3D", 8), ("R3D", 16)))])
    whole = confirmatory_table(runs, [FIXED])
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    part = confirmatory_table(runs, [FIXED])
    np.testing.assert_array_equal(part.loc[[0, 2], numbers], alone[numbers])
    assert whole["low"][0] != alone["low"][0]


def test_unfinished_contrasts_are_left_out(runs):
    """MC3 lacks a run; runs that are in no contrast stay, and without R(2+1)D's no contrast is whole."""
    assert without_unfinished(runs, [FIXED]) == runs
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    kept = without_unfinished(runs, [FIXED])
    assert kept == [run for run in runs if run.spec.variant != "MC3"] and len(kept) == len(runs) - 4
    unfinish(next(run for run in runs if is_of(run, "R(2+1)D", 8, seed=0)))
    assert {run.spec.frames for run in without_unfinished(runs, [FIXED])} == {16}
    others = (FIXED._replace(contrasts=(("R3D", 8),)), OPEN)
    assert {run.spec.frames for run in without_unfinished(runs, others)} == {8, 16}
    assert {run.spec.variant for run in without_unfinished(runs, others) if run.spec.frames == 8} == {"MC3"}


def test_seed_counts_if_all_networks_have_it(runs):
    """Where the number of seeds is open; the second one is incomplete, then both."""
    assert set(confirmatory_table(runs, [OPEN])["seeds"]) == {2}
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    table = confirmatory_table(runs, [OPEN._replace(seen=(0,))])
    assert set(table["seeds"]) == {1} and set(table[RUNS]) == {"4 of 4"}
    assert table["verdict"].str.startswith("exploratory: ").all() and describe_verdicts(table).endswith("open 0 of 3")
    assert not confirmatory_table(runs, [OPEN])["verdict"].str.startswith("exploratory").any()
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=0)))
    table = confirmatory_table(runs, [OPEN])
    assert set(table["verdict"]) == {"none: no seed has all runs of the family"} and table[RUNS][1] == "3 of 4"


@pytest.mark.parametrize(
    ("seeds", "text"),
    [((0,), "exploratory"), ((0, 1), "exploratory"), ((0, 1, 2), "2 of 3 seeds seen before"),
     ((0, 2, 3), "1 of 3 seeds seen before"), ((2, 3), "")],
)  # fmt: skip
def test_seeds_seen_before_are_those_of_the_protocol(seeds, text):
    assert describe_seen(SPEECH, seeds) == describe_seen(WHY, {*seeds}) == text


def test_contrast_is_with_its_own_length_and_corrected(runs, monkeypatch):
    """Holm's method on 0.01, 0.03 and no test, which counts as 1: 0.03, 0.06 and none."""
    values = {("R3D", 8): (0.01, True), ("MC3", 8): (0.001, False), ("R3D", 16): (0.03, True)}
    estimate = Estimate(9, 1, 17, recording_variance=2.0, df=20)

    def measure(network, baseline):
        assert baseline.spec.variant == "R(2+1)D" and baseline.spec.frames == network.spec.frames
        p, tested = values[network.spec.variant, network.spec.frames]
        return replace(estimate, value=network.spec.frames, p=p, tested=tested)

    monkeypatch.setattr(confirmatory, "difference", measure)
    table = confirmatory_table(runs, [FIXED])
    assert list(table[GAP]) == [8, 8, 16]
    np.testing.assert_allclose(table["p, Holm"], [0.03, np.nan, 0.06])
    found = detectable_difference(estimate, 3)
    np.testing.assert_allclose(table["detectable"], [found, np.nan, found])
    caption = show_confirmatory(runs, [FIXED]).caption
    assert f"; at 80 % power the tests find {found:.1f} points (fixed); the same in all rows: " in caption
    undecided = f"undecided ({found:.1f} points would be found)"
    assert list(table["verdict"]) == [
        "more accurate than R(2+1)D", "none: the variance of a run is not known", undecided
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("share", "verdict"), [(1.0, "more accurate than R(2+1)D"), (0.0, "less accurate than R(2+1)D")]
)
def test_clear_difference_is_a_verdict(runs, share, verdict):
    random = np.random.default_rng(0)
    for run in runs:
        answer(run, random.random(len(run.scores.labels)) < (share if run.spec.variant == "R3D" else 0.5))
    assert confirmatory_table(runs, [FIXED])["verdict"][0] == verdict


@pytest.mark.parametrize(
    ("low", "high", "p", "tested", "verdict"),
    [
        (0.5, 4.5, 0.04, True, "more accurate than R(2+1)D"),
        (-4.5, -0.5, 0.04, True, "less accurate than R(2+1)D"),
        (-2.0, 2.9, 0.8, True, "less than 3 points apart"),
        (-2.0, 3.1, 0.8, True, "undecided"),
        (-3.1, 2.0, 0.8, True, "undecided"),
        (-2.0, 3.0, 0.8, True, "undecided"),
        (-3.0, 2.0, 0.8, True, "undecided"),
        (-2.0, 0.0, 0.06, True, "less than 3 points apart"),
        (0.0, 2.0, 0.06, True, "less than 3 points apart"),
        (0.5, 4.5, 0.05, True, "undecided"),
        (0.2, 2.5, 0.06, True, "undecided"),
        (np.nan, np.nan, 0.8, True, "none: the variance of a run is not known"),
        (0.5, 4.5, 0.04, False, "none: the variance of a run is not known"),
    ],
)
def test_verdict_is_the_rule_of_the_protocol(low, high, p, tested, verdict):
    estimate = Estimate(np.nan_to_num((low + high) / 2), low, high, p, recording_variance=1.0, df=20, tested=tested)
    assert decide_contrast(estimate, p, 3).startswith(verdict)
    if verdict == "undecided":
        points = f"{detectable_difference(estimate, 3):.1f} points"
        assert decide_contrast(estimate, p, 3).endswith(f" ({points} would be found)")


def test_check_is_the_contrast_without_the_videos_of_the_trials(runs, tmp_path):
    """As if the runs had been tested on the other videos alone, seeds included; p is not corrected."""
    random, family = np.random.default_rng(0), FIXED._replace(tried="set-split1-val")
    for run in runs:  # or the seeds' variance, which is pooled over the networks, would be zero
        answer(run, random.random(len(run.scores.labels)) < (0.3, 0.8)[run.spec.seed])
    trial, other = make_runs([runs[0].spec.replace(data=name) for name in (family.tried, "other-split1-val")], tmp_path)
    seen = trial.scores.videos[::3]
    finish(trial, take_items(trial.scores, slice(None, None, 3)))
    table = confirmatory_table([*runs, trial, other], [family])
    assert list(table["family"]) == ["fixed"] * 3 + ["fixed, without the videos of set-split1-val"] * 3
    pd.testing.assert_frame_equal(table[:3], confirmatory_table(runs, [FIXED]))
    for run in runs:
        finish(run, take_items(run.scores, ~np.isin(run.scores.videos, seen)))
    alone = confirmatory_table(runs, [FIXED])
    numbers = [GAP, "low", "high", "seeds", RUNS]
    pd.testing.assert_frame_equal(table[numbers][3:].reset_index(drop=True), alone[numbers])
    assert (table["detectable"].to_numpy()[3:] < alone["detectable"]).all(), "not corrected either"
    np.testing.assert_allclose(holm(list(table["p, Holm"][3:])), alone["p, Holm"].astype(float))
    assert table["p, Holm"][3:].max() < 1 == alone["p, Holm"].min(), "corrected, each would be 1"
    assert set(table["verdict"][3:]) == {confirmatory.CHECK}
    caption = show_confirmatory([*runs, trial, other], [family]).caption
    assert caption.count("points (fixed") == 1 and "without the videos" not in caption, "a check is no test"
    assert describe_verdicts(table) == "contrasts with a verdict of runs made after the protocol: fixed 3 of 3"


def test_check_needs_the_trials_and_all_runs(runs, tmp_path):
    family = FIXED._replace(tried="set-split1-val")
    assert list(confirmatory_table(runs, [family])["verdict"][3:]) == ["none: no run on set-split1-val"] * 3
    (trial,) = make_runs([runs[0].spec.replace(data=family.tried)], tmp_path)
    finish(trial, take_items(trial.scores, slice(None, None, 3)))
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    part = confirmatory_table([*runs, trial], [family])[3:]
    assert list(part["verdict"]) == [confirmatory.CHECK, MISSING, confirmatory.CHECK] and np.isnan(part[GAP][4])


def test_trials_share_the_videos_that_the_protocol_names():
    """71 of split 2 and 143 of split 3, none of split 1."""
    runs = load_runs(ROOT / "results" / "recipe.zip")
    tried = {video for run in runs if run.spec.data == FAMILIES[0].tried for video in run.scores.videos}
    tests = [load_manifest(ROOT / "data_manifests" / f"ucf101-14-split{n}.csv").split("test") for n in (1, 2, 3)]
    names = [{"/".join(Path(video.path).parts[-2:]) for video in videos} for videos in tests]
    assert [len(tried & of_split) for of_split in names] == [0, 71, 143]


def test_family_without_runs_is_shown_with_none():
    shown = show_confirmatory([])
    assert "power" not in shown.caption, "nothing is tested"
    verdicts = {verdict.partition(":")[0] for verdict in shown.data["verdict"]}
    assert verdicts == {"none"} and {"primary", "why (2+1)D"} < set(shown.data["family"])


def test_tables_and_figure_have_the_complete_contrasts(runs):
    """One of MC3's runs is missing; its accuracy and its difference are not shown."""
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    short, long = (table.data for table in show_accuracies(runs, [FIXED]))
    assert {*short["network"]} == {*long["network"]} == {"R3D", "R(2+1)D"} and {*short["splits"]} == {2}
    of_one = [run for run in runs if is_of(run, "R3D", 8)]
    expected = np.mean([100 * video_at(run.scores, 1) for run in of_one])
    assert short.set_index("network")["video@1"]["R3D"] == pytest.approx(expected) and len(of_one) == 4
    table = confirmatory_table(runs, [FIXED]).dropna(subset=GAP)
    (axes,) = contrasts_figure(runs, families=[FIXED]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["R3D, 8 frames", "R3D, 16 frames"]
    (alone,) = contrasts_figure(runs, families=[FIXED._replace(contrasts=(("R3D", 8),))]).axes
    assert alone.get_yticklabels()[0].get_text() == "R3D" and alone.get_title("left") == "fixed, 8 frames"
    drawn = [container.lines[0].get_xdata()[0] for container in axes.containers]
    np.testing.assert_allclose(drawn, table[GAP])
    assert "No contrast on actions" in show_accuracies([], [FIXED])[0].data


def test_gain_of_longer_clips_is_the_difference_of_lengths(runs):
    seeds = itertools.count()
    for run in runs:
        answer(run, np.random.default_rng(next(seeds)).random(len(run.scores.labels)) < 0.4 + 0.02 * run.spec.frames)
    table = length_gains(runs, [FIXED]).set_index("network")
    groups = group_by_seed([run for run in runs if run.spec.variant != "MC3" or run.spec.frames == 8])
    for name in ("R(2+1)D", "R3D"):
        long, short = ([g for g in groups if (g.spec.variant, g.spec.frames) == (name, n)] for n in (16, 8))
        estimate = accuracy_difference(long, short, pooled_seed_variance(groups))
        row = table.loc[name]
        assert [row[LONGER], row["low"], row["high"]] == pytest.approx([estimate.value, estimate.low, estimate.high])
    assert [*table.index] == ["R(2+1)D", "R3D"] and np.isnan(table[GAP]["R(2+1)D"]), "MC3 has no 16 frames"
    assert table[GAP]["R3D"] == pytest.approx(np.subtract(*table[LONGER][["R3D", "R(2+1)D"]]))
    by_split = {(g.spec.variant, g.spec.frames, g.spec.data): g.outcomes for g in groups}
    strata = [
        ([(sign, by_split[name, n, data].values) for sign, name, n in
          ((1, "R3D", 16), (-1, "R3D", 8), (-1, "R(2+1)D", 16), (1, "R(2+1)D", 8))], by_split["R3D", 16, data].groups)
        for data in sorted({g.spec.data for g in groups})
    ]  # fmt: skip
    estimate = estimate_contrast(strata, pooled_seed_variance(groups))
    assert [table[f"gap {end}"]["R3D"] for end in ("low", "high")] == pytest.approx([estimate.low, estimate.high])
    assert table[PAPER].round(1).tolist() == [3.2, 2.4]
    unfinish(next(run for run in runs if is_of(run, "R3D", 16)))
    assert length_gains(runs, [FIXED]).empty
    for run in (run for run in runs if run.spec.variant in ("R3D", "R(2+1)D") and run.spec.frames == 16):
        finish(run, replace(run.scores, videos=np.roll(run.scores.videos, 1)))
    with pytest.raises(R21DError, match="different videos"):
        length_gains(runs, [FIXED])
    assert "No network has all runs" in show_length_gains([]).data


def test_course_of_training_is_the_mean_over_epochs(runs, monkeypatch):
    """R3D's error is 3 points below R(2+1)D's in the first of three epochs, in split 2 with seed 1 it is 6 below; in
    the last, the only one after the warmup, it is 1 below, with seed 1 half a point.
    """
    for run in runs:
        less = 0.03 * (1 + (run.spec.data.endswith("2") and run.spec.seed == 1)) * (run.spec.variant == "R3D")
        last = 0.06 - 0.01 / (1 + run.spec.seed) * (run.spec.variant == "R3D")
        errors = enumerate((0.6 - less + 0.01 * run.spec.seed, 0.3, last), 1)
        finish(run, history=[{"epoch": epoch, "train_error": error, "test_error": 0.5} for epoch, error in errors])
    unfinish(next(run for run in runs if is_of(run, "MC3", 8, seed=1)))
    table = training_course(runs, [FIXED])
    assert [*zip(table["frames"], table["network"], strict=True)] == [
        (16, "R(2+1)D"), (16, "R3D"), (8, "R(2+1)D"), (8, "R3D")
    ]  # fmt: skip
    assert table[WHILE].tolist() == pytest.approx(2 * [(60.5 + 30 + 6) / 3, (60.5 - 3.75 + 30 + 6 - 0.75) / 3])
    base, other = [(60, 30, 6), (61, 30, 6)], [(57, 30, 5), (58, 30, 5.5)]  # the epochs of both seeds
    arms = [np.mean(splits, axis=0) for splits in ((base, base), (other, [(57, 30, 5), (55, 30, 5.5)]))]
    weights = (-1, 1)
    whole = estimate_sum_of_means([*zip(weights, [seeds.mean(axis=1) for seeds in arms], strict=True)])
    later = estimate_sum_of_means([*zip(weights, [seeds[:, 2] for seeds in arms], strict=True)])
    for row in (1, 3):
        assert table.loc[row, [GAP, "low", "high"]].tolist() == pytest.approx([whole.value, whole.low, whole.high])
        ends = [LATER, "later low", "later high"]
        assert table.loc[row, ends].tolist() == pytest.approx([later.value, later.low, later.high])
    assert (whole.value, later.value) == pytest.approx((-1.5, -0.75)) and set(table["warmup"]) == {2}
    assert table.loc[[0, 2], [GAP, LATER]].isna().all(axis=None)
    monkeypatch.setattr(confirmatory_figures, "training_course", lambda runs: table.copy())
    shown = show_training_course(runs)
    intervals = [f"{estimate.low:+.1f} to {estimate.high:+.1f}" for estimate in (whole, later)]
    assert shown.data.loc[1, ["95 % interval", "its interval"]].tolist() == intervals
    assert "for these training videos; warmup: the first 2 epochs" in shown.caption
    monkeypatch.undo()
    panels = course_figure(runs, families=[FIXED]).axes
    assert [axes.get_title() for axes in panels] == ["16 frames", "8 frames"]
    drawn = {line.get_label(): line.get_ydata() for line in panels[1].lines}
    np.testing.assert_allclose(drawn["R3D"], [1 - 3.75 / 60.5, 1, 1 - 0.75 / 6])
    assert [*drawn] == ["R(2+1)D", "R3D"], "R(2+1)D is the first; MC3 lacks a run"
    np.testing.assert_allclose(panels[1].lines[0].get_xdata(), [1, 2, 3])
    assert training_course([], [FIXED]).empty and "has all of its runs" in show_training_course([]).data
    assert "no contrast has all of its runs" in course_figure(runs, families=[]).data


def test_course_is_drawn_in_means_of_a_twentieth_of_epochs(runs):
    """Of 45 epochs a point for two, and one for the last."""
    for run in runs:
        rows = [{"epoch": epoch, "train_error": 0.5, "test_error": 0.5} for epoch in range(1, 46)]
        if run.spec.variant == "R3D":
            for epoch, error in ((1, 0.3), (10, 0.4), (45, 0.1)):
                rows[epoch - 1]["train_error"] = error
        finish(run, history=rows)
    lines = course_figure(runs, families=[FIXED]).axes[0].lines
    assert [line.get_label() for line in lines] == ["R(2+1)D", "R3D"]
    np.testing.assert_allclose(lines[1].get_xdata(), [*np.arange(1.5, 45, 2), 45])
    np.testing.assert_allclose(lines[1].get_ydata(), [0.8, 1, 1, 1, 0.9, *[1] * 17, 0.2])
    table = training_course(runs, [FIXED]).set_index(["frames", "network"])
    assert table.loc[(16, "R3D"), ["epoch 10", "epoch 20"]].tolist() == pytest.approx([40, 50])
    assert "epoch 50" not in table


def test_figure_has_intervals_a_band_and_the_papers_gaps():
    runs = [run for pack in ("actions", "recipe") for run in load_runs(ROOT / "results" / f"{pack}.zip")]
    families = (*PLANNED, OTHER_SEVEN)
    table = confirmatory_table(runs, families).dropna(subset=GAP)
    shown, panels = table[table["verdict"] != CHECK], contrasts_figure(runs, families=families).axes
    assert [len(axes.containers) for axes in panels] == [1, 7, 7]
    bars = [bar[2][0].get_segments()[0][:, 0] for axes in panels for bar in axes.containers]
    np.testing.assert_allclose(bars, shown[["low", "high"]])
    ticks = [line for axes in panels for line in axes.lines if line.get_markersize() == PAPER_TICK["ms"]]
    printed = {16: {"R3D": 64.2, "f-R2D": 60.5, "R2D": 58.9, "MC3": 64.7, "R(2+1)D": 68.0, "MC2": 64.2, "MC4": 65.1,
                    "MC5": 65.1, "rMC2": 64.9, "rMC3": 65.0, "rMC4": 65.1, "rMC5": 63.1},
               8: {"R3D": 61.8, "f-R2D": 59.4, "R2D": 59.5, "MC3": 62.9, "R(2+1)D": 64.8}}  # fmt: skip
    gaps = [printed[n][name] - printed[n]["R(2+1)D"] for name, n in zip(shown["network"], shown["frames"], strict=True)]
    assert [tick.get_xdata()[0] for tick in ticks] == pytest.approx(gaps)
    assert [(band.get_x(), band.get_width()) for axes in panels for band in axes.patches] == [(-3, 6)] * len(panels)


def p_of_three_models(family, runs):
    """p after Holm's correction by contrast: the model fixed before, the plain variance between seeds, two networks'
    seeds alone.
    """
    groups = group_by_seed(runs)
    plain = pooled_seed_variance(groups)
    plain = replace(plain, value=plain.mean_square)

    def correct(alone=False, seeds=None):
        p = []
        for name, frames in family.contrasts:
            pair = [run for run in runs if run.spec.frames == frames and run.spec.variant in (name, "R(2+1)D")]
            found = group_by_seed(pair) if alone else [group for group in groups if group.spec.frames == frames]
            sides = [[group for group in found if group.spec.variant == of] for of in (name, "R(2+1)D")]
            p.append(accuracy_difference(*sides, seeds).p)
        return dict(zip(family.contrasts, holm(p), strict=True))

    return correct(), correct(seeds=plain), correct(alone=True)


def test_protocol_has_the_p_values_of_three_models():
    family = FAMILIES[1]
    specs = family_specs(family)
    runs = [run for run in load_runs(ROOT / "results" / "actions.zip") if run.spec in specs]
    fixed, of_plain, own = p_of_three_models(family, runs)
    mc3, still = ("MC3", 16), ("f-R2D", 8)
    assert f"p {fixed[mc3]:.3f}; all *less accurate" in STATUS and f"p {fixed[still]:.3f}, *undecided*" in STATUS
    assert fixed["R2D", 16] < 0.001 and "(−5.7 to −1.9), p < 0.001" in STATUS
    assert f"its p is {of_plain[mc3]:.2f}, and with the seeds of MC3 and R(2+1)D alone {own[mc3]:.3f}." in STATUS
    assert f"f-R2D's p with 8 frames is then {of_plain[still]:.2f} and {own[still]:.3f}." in STATUS
    clear = [{key for key, p in model.items() if p < 0.05} for model in (fixed, of_plain, own)]
    assert clear[0] - {mc3} == clear[1] == clear[2] == {("f-R2D", 16), ("R2D", 16)}


def p_over_speakers(family, runs):
    """p of plain t-tests over the speakers' mean differences, after Holm's correction, by contrast."""
    outcomes, speakers, p = {}, {}, []
    for group in group_by_seed(runs):
        outcomes[group.spec.variant, group.spec.data] = group.outcomes.values.mean(axis=0)
        speakers[group.spec.data] = group.outcomes.groups
    for name, _ in family.contrasts:
        gaps = {data: outcomes[name, data] - outcomes["R(2+1)D", data] for data in speakers}
        means = [gaps[data][names == one].mean() for data, names in speakers.items() for one in np.unique(names)]
        assert len(means) == 15
        p.append(stats.ttest_1samp(means, 0).pvalue)
    return dict(zip(family.contrasts, holm(p), strict=True))


@pytest.mark.parametrize(
    ("family", "seeds", "needs_model"), [(SPEECH, (0, 2, 3, 4, 5), {"rMC3"}), (WHY, (0, 2, 3, 4, 5), set())],
    ids=["speech", "why"],
)  # fmt: skip
def test_protocol_has_the_p_values_of_four_models_on_speech(family, seeds, needs_model):
    """Of the network that is nearest to a significant difference, and whose verdicts are not the same by each."""
    specs = family_specs(family, seeds)
    runs = [run for run in load_runs(ROOT / "results" / "miracl.zip") if run.spec in specs]
    assert len(runs) == len(specs) and f" seeds, {len(specs)} runs" in STATUS
    fixed, plain, own = p_of_three_models(family, runs)
    models = {"fixed": fixed, "plain": plain, "own": own, "speakers": p_over_speakers(family, runs)}
    clear = [{name for (name, _), p in of.items() if p < 0.05} for of in models.values()]
    assert set.union(*clear) - set.intersection(*clear) == needs_model and not clear[0] & needs_model
    p = {name: [f"{of[name, 8]:.3f}" for of in models.values()] for name, _ in family.contrasts}
    nearest = min((name for name in p if name not in clear[0]), key=lambda name: fixed[name, 8])
    first, *others = p[nearest]
    if family is SPEECH:
        text = "its p is {}, with the seeds of rMC3 and R(2+1)D alone {}, by a plain t-test over the 15 speakers' mean "
        text = (text + "differences {}. R2D's is then {}, {} and {},").format(*others, *p["R2D"][1:])
        assert f"rMC3 +3.0 (+0.9 to +5.1), p {first}, R2D −3.9 (−6.9 to −0.9), p {p['R2D'][0]}, rMC2" in STATUS
    else:
        text = "R(2+1)D-noReLU's, {}, then {}, {} and {}.".format(first, *others)
    assert nearest in text and text in STATUS


def tables_after_each_seed(family, seeds):
    runs = load_runs(ROOT / "results" / "miracl.zip")
    for count in range(1, len(seeds) + 1):
        some = [run for run in runs if run.spec.seed in seeds[:count]]
        yield confirmatory_table(some, families=[family]).set_index("network")


def test_protocol_has_the_verdicts_on_speech_after_each_seed():
    tables = [*tables_after_each_seed(SPEECH, (0, 2, 3, 4, 5))]
    first, *others = [{*table.index[table["verdict"].str.contains("accurate")]} for table in tables]
    assert len(first) == 7
    assert others == [first, first, first - {"R2D"}, first - {"R2D", "rMC3"}]
    p = [f"{table[P]['R2D']:.3f}" for table in tables]
    assert f"with p {p[0]}, {p[1]} and {p[2]}, and is not since seed 4;" in STATUS
    assert f"each seed but the last, at the end with p {tables[3][P]['rMC3']:.3f}; the other five differed" in STATUS
    p = tables[-1][P].astype(float) * len(tables)
    assert {*p.index[p < 0.05]} == others[-1] and f"(MC4's p is then {p['MC4']:.3f})" in STATUS


def test_protocol_has_the_verdict_that_went_with_the_third_seed():
    before, third, *after = [table.loc["P3D-B"] for table in tables_after_each_seed(WHY, (0, 2, 3, 4, 5))][1:]
    assert "less accurate" in before["verdict"] and "undecided" in third["verdict"]
    assert all("less than 3 points apart" in row["verdict"] for row in after)
    text = f"was *less accurate*, {before[GAP]:.1f} ({before['low']:.1f} to {before['high']:.1f}), p {before[P]:.3f}"
    assert text.replace("-", "\u2212") in STATUS.replace("P3D\u2212B", "P3D-B")
    runs = [run for run in load_runs(ROOT / "results" / "miracl.zip") if run.spec in family_specs(WHY, (0, 2))]
    assert pooled_seed_variance(group_by_seed(runs)).value == 0 and "had been estimated at zero; with" in STATUS


def test_protocol_has_the_other_seven():
    runs = [run for run in load_runs(ROOT / "results" / "actions.zip") if run.spec.frames == 16]
    table = confirmatory_table(runs, [OTHER_SEVEN]).set_index("network")
    every = fold_table(runs).set_index("network")
    gaps, p = every["minus R(2+1)D"], every["p, Holm"]
    lines = [
        f"−6.8 points {describe(table.loc['MC2'])}, p 0.004; rMC5: −5.7 {describe(table.loc['rMC5'])}, p 0.016",
        ", ".join(f"{name} {table[GAP][name]:+.1f}" for name in ("MC4", "MC5", "rMC2", "rMC3", "rMC4")) + ", all",
        f"the tests find {table['detectable'].min():.1f} to {table['detectable'].max():.1f} points",
        f"MC2 has {gaps['MC2']:+.1f} {describe(every.loc['MC2'], 'gap ')}, p {p['MC2']:.3f}",
        f"rMC5 {gaps['rMC5']:+.1f} {describe(every.loc['rMC5'], 'gap ')}, p {p['rMC5']:.3f}",
    ]
    assert [line for line in lines if line.replace("-", "−") not in STATUS] == []
    assert table[GAP][["MC2", "rMC5"]].round(1).tolist() == [-6.8, -5.7]
    assert table["p, Holm"][["MC2", "rMC5"]].round(3).tolist() == [0.004, 0.016] and sum(table["p, Holm"] < 0.05) == 2
    others = ["MC4", "MC5", "rMC2", "rMC3", "rMC4"]
    ends = gaps[others].round(1).agg(["min", "max"]).tolist()
    assert (p[others] > 0.05).all() and ends == [-2.8, -0.6]


def describe(row, of=""):
    return f"({row[f'{of}low']:+.1f} to {row[f'{of}high']:+.1f})"


def test_a_hollow_marker_is_exploratory(runs):
    for seen, face in (((), VARIANT_STYLE["R3D"]["color"]), ((0,), "none"), ((0, 1), "none")):
        (axes,) = contrasts_figure(runs, families=[OPEN._replace(seen=seen)]).axes
        assert axes.containers[0].lines[0].get_markerfacecolor() == face
    assert "no contrast has all of its runs" in contrasts_figure(runs[:1], families=[FIXED]).data


def test_commands_train_the_runs_of_the_families(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data_manifests").symlink_to(ROOT / "data_manifests")
    commands = [shlex.split(line) for line in training_commands().splitlines()]
    for command in commands:
        assert command[0] == "r21d" and not main([*command[1:], "--list"])
    listed = re.findall(r"runs/(\S+)", capsys.readouterr().out)
    wanted = [spec for family in FAMILIES for spec in family_specs(family)]
    assert len(commands) == 6 and {*listed} == {spec.folder for spec in wanted}
