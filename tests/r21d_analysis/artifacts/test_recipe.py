"""Recipes: their trials, table and choice."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from r21d_analysis.artifacts import recipe
from r21d_analysis.artifacts.recipe import DIFFERENCE, MEAN
from r21d_core import R21DError
from r21d_core.runs.metrics import clip_at_1, video_at, video_correct
from r21d_core.runs.run import find_run, find_runs
from r21d_core.study.experiments import recipe_trials
from r21d_core.study.recipes import RECIPE_TRIALS, RECIPES
from tests.runs import NASTY, finish, make_runs

TWO = ("f-R2D", "R(2+1)D")


def make(specs, folder, share=0.6):
    runs = make_runs(specs, folder, share=share)
    for number, run in enumerate(runs):
        history = [line | {"train_loss": 0.1 + number} for line in run.history]
        history[-1]["train_error"] = 0.01 * number
        finish(run, history=history)
    return runs


@pytest.fixture
def runs(tmp_path):
    return make(recipe_trials("small", "set", seeds=(0, 1)), tmp_path)


@pytest.mark.parametrize("profile", RECIPES)
def test_trials_are_recipes_on_the_validation_cut(profile):
    specs = recipe_trials(profile, "set", seeds=(0, 1))
    assert len(specs) == len(set(specs)) == 4 * len(RECIPE_TRIALS[profile])
    assert {(spec.data, spec.frames, spec.frame_stride, spec.task) for spec in specs} == {("set-val", 8, 1, "action")}
    for trial in RECIPE_TRIALS[profile]:
        alike = [spec for spec in specs if all(getattr(spec, key) == value for key, value in trial.items())]
        assert {(spec.variant, spec.seed) for spec in alike} >= {(variant, seed) for variant in TWO for seed in (0, 1)}


def test_schedules_differ_in_length_and_augmentation():
    specs = recipe_trials("small", "set", variants=("R3D",), trials="schedules")
    assert [spec.epochs for spec in specs] == [30, 90, 200] * 2
    assert len({spec.replace(epochs=30, warmup_epochs=3) for spec in specs}) == 2


def test_settings_apply_to_all_trials_and_merge_equal_ones():
    specs = recipe_trials("small", "set-val", epochs=1, warmup_epochs=0, lr_decay_epochs=1, lr=0.1)
    assert {spec.epochs for spec in specs} == {1} and len(specs) == len(set(specs)) == 2 * 3


def test_small_trials_do_not_depend_on_the_recipe(monkeypatch):
    before = recipe_trials("small", "set")
    changed = {"epochs": 7, "warmup_epochs": 1, "lr_decay_epochs": 3, "lr": 1, "weight_decay": 1, "crop_area": 1}
    monkeypatch.setitem(RECIPES, "small", RECIPES["small"].replace(**changed))
    assert recipe_trials("small", "set") == before


def test_recipe_table_matches_the_records(runs):
    table = recipe.recipe_table(runs)
    keys = ["epochs", "warmup_epochs", "lr_decay_epochs", "lr", "weight_decay", "crop_area"]
    rates = [dict(text.split(" ") for text in texts.split(", ")) for texts in table["recipe", "settings"]]
    assert all(sorted(settings) == sorted(keys) for settings in rates)
    assert table["recipe", "training clips"].tolist() == [38160, *[22896] * 4]
    assert [settings["lr"] for settings in rates] == ["0.02", "0.02", "0.04", "0.02", "0.02"]
    assert table["", "runs"].tolist() == ["4 of 4"] * 5
    for row in range(5):
        of = {variant: [run for run in runs[4 * row : 4 * row + 4] if run.spec.variant == variant] for variant in TWO}
        for variant, members in of.items():
            seeds = [(run.history[-1], run.scores) for run in members]
            each = [(h["train_loss"] / 100, h["train_error"], clip_at_1(s), video_at(s, 1)) for h, s in seeds]
            np.testing.assert_allclose(table.loc[row, variant], 100 * np.mean(each, axis=0))
        mean, low, high = table.loc[row, MEAN]
        assert mean == pytest.approx(table.loc[row, [(variant, "video@1") for variant in TWO]].mean())
        assert low < mean < high
    best = table[MEAN, "video@1"].argmax()
    assert table.loc[best, DIFFERENCE].isna().all()
    rest = table.drop(index=best)
    np.testing.assert_allclose(rest[DIFFERENCE, "video@1"], rest[MEAN, "video@1"] - table.loc[best, (MEAN, "video@1")])


def test_recipe_differences_are_paired_over_recordings(runs):
    runs = [run for run in runs if run.spec.seed == 0]
    table = recipe.recipe_table(runs)
    correct = 100 * np.array([video_correct(run.scores) for run in runs]).reshape(5, 2, -1).mean(axis=1)
    best = correct.mean(axis=1).argmax()
    second = (best + 1) % 5
    interval = stats.ttest_1samp(correct[second] - correct[best], 0).confidence_interval()  # a video, a recording
    np.testing.assert_allclose(table.loc[second, DIFFERENCE].tolist()[1:], [interval.low, interval.high])
    shown = recipe.show_recipe_table(runs)
    assert "seeds of each network: 1; " in shown.caption
    assert shown.data.loc[second, (DIFFERENCE, "95 % interval")] == f"{interval.low:+.1f} to {interval.high:+.1f}"
    assert not {"95 % from", "to"} & {*shown.data.columns.get_level_values(1)}, "one column for both ends"


def test_schedule_figure_has_seeds_and_their_mean(runs):
    figure = recipe.accuracy_against_schedule(runs)
    panels = {axes.get_title().replace("\n", " "): axes for axes in figure.axes if axes.lines}
    trials = ((0.02, 0.001, 0.35), (0.04, 0.001, 0.35), (0.02, 0.005, 0.35), (0.02, 0.001, 0.2))
    assert set(panels) == {f"crop_area {area}, lr {lr}, weight_decay {decay}" for lr, decay, area in trials}
    line, points = panels["crop_area 0.35, lr 0.02, weight_decay 0.001"].lines[:2]
    assert line.get_xdata().tolist() == [18, 30]
    first = [100 * video_at(run.scores, 1) for run in runs if run.spec.variant == TWO[0] and run.spec.epochs == 30]
    assert line.get_ydata()[1] == pytest.approx(np.mean(first))
    assert sorted(y for x, y in points.get_xydata() if x == 30) == pytest.approx(sorted(first))
    assert points.get_markerfacecolor() == "none", "a point under another is seen"
    assert "the same number of epochs" in recipe.accuracy_against_schedule(runs[4:8]).data


def test_styled_recipe_table_has_the_best_in_bold(runs):
    html = recipe.show_recipe_table(runs).to_html()
    assert html.count("font-weight: bold") == 1 and "crop_area" in html and "0.005" in html
    assert NASTY not in html and "&lt;script&gt;" in html


def test_chosen_line_follows_the_records(tmp_path):
    specs = recipe_trials("small", "set")
    runs = make(specs[2:4], tmp_path, share=1) + make(specs[4:6], tmp_path, share=0) + make(specs[6:7], tmp_path)
    text = recipe.chosen_line([*runs, find_run(tmp_path, specs[7])]).data
    best = "The best mean of video@1 is 100.0 %, of **lr 0.02, weight_decay 0.001**."
    assert text.startswith(f"{best} The profile `small` uses it.")
    assert "not corrected for the number of recipes: lr 0.04, weight_decay 0.001." in text
    assert "No difference" not in text
    assert "Not finished: lr 0.02, weight_decay 0.005." in text


def test_evaluated_run_is_no_recipe(runs, tmp_path):
    tested = make([runs[0].spec.finetune_spec(epochs=0)], tmp_path, share=1)
    with pytest.raises(R21DError, match=r"-18: a run with epochs = 0 has no recipe; leave such runs out"):
        recipe.chosen_line([*runs, *tested])


def test_recipe_without_all_networks_has_no_mean(runs, tmp_path):
    some = runs[:6] + find_runs([run.spec for run in runs[6:]], tmp_path / "none")
    table = recipe.recipe_table(some)
    assert table[MEAN, "video@1"].notna().tolist() == [True] + [False] * 4
    assert table["", "runs"].tolist() == ["4 of 4", "2 of 4"] + ["0 of 4"] * 3
    assert "–" in recipe.show_recipe_table(some).to_html()
    assert "none can be chosen" in recipe.chosen_line(some[4:]).data


def test_recipes_on_other_videos_are_not_compared(runs, tmp_path):
    scores = runs[-1].scores
    finish(runs[-1], replace(scores, videos=np.char.add(scores.videos, "x")))
    with pytest.raises(R21DError, match="different videos"):
        recipe.recipe_table([*runs[:-2], runs[-1]])
