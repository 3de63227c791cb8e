"""Clip length: the runs it takes, its table and its figures."""

import pytest

from r21d_analysis.artifacts import curves
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_core.study.experiments import clip_length
from r21d_core.study.recipes import CLIP_LENGTHS
from r21d_core.study.spec import run_labels
from tests.runs import finish, make_runs, unfinish


@pytest.fixture
def runs(tmp_path):
    """Two seeds of Table 3's runs; finetuned networks trained for a tenth of the time."""
    runs = make_runs(clip_length("small", "set", seeds=(0, 1)), tmp_path)
    return [finish(run, seconds={0: 0, 18: 3600, 5: 360}[run.spec.epochs]) for run in runs]


@pytest.mark.parametrize("profile", CLIP_LENGTHS)
def test_experiment_has_its_runs(profile):
    specs = clip_length(profile, "set", seeds=(0, 1))
    lengths_of, (short, long) = CLIP_LENGTHS[profile]
    assert {spec.frames for spec in specs if not spec.init_from} == set(lengths_of) >= {short, long}
    assert all(spec.frame_stride == 1 for spec in specs)
    later = [spec for spec in specs if spec.init_from]
    assert len(later) == 4 and all(spec.frames == long for spec in later)
    for spec in later:
        assert spec.parent_spec in specs and spec.parent_spec.frames == short
        assert specs.index(spec.parent_spec) < specs.index(spec), "what it starts from is trained before it"
    assert sorted(spec.epochs > 0 for spec in later) == [False, False, True, True]


def test_runs_have_distinct_labels():
    labels = run_labels(clip_length())
    assert len(set(labels)) == len(labels) and labels[-2:] == [
        f"R(2+1)D-10 (seed 0, 12 frames, 3 clips, {training})" for training in ("tested", "finetuned")
    ]


def test_hours_include_those_of_the_parent(runs, tmp_path):
    hours = {curves.training(group.spec): curves.hours(group) for group in group_by_seed(runs)}
    assert hours == pytest.approx({"from scratch": 1, "tested longer": 1, "finetuned": 1.1})
    later = [run for run in runs if run.spec.init_from]
    unfinish(*[run for run in runs if not run.spec.init_from and run.spec.frames == 8])
    assert all(hour != hour for hour in map(curves.hours, group_by_seed(later))), "unknown without the start's record"


def test_length_table_has_the_papers_rows(runs):
    table = curves.length_table(runs).set_index(("", "clip length"))
    assert table.index.tolist() == ["8", "16", "24", "32", "40", "48", "8 tested at 32", "8 finetuned at 32"]
    printed = table["paper, Kinetics-400"]
    assert printed["video@1"].tolist()[0] == 64.8
    assert printed["hours, 64 GPUs"].dropna().tolist() == [11.8, 59.8, 11.8, 20.5]
    assert printed["clip@1"].isna().tolist() == [False, True, True, False, True, True, False, False]
    assert "8 finetuned at 32" in curves.show_length_table(runs).to_html()


@pytest.mark.parametrize("x", ["frames", "hours"])
def test_length_figures_have_every_network(runs, x):
    axes = curves.length_figure(runs, x=x).axes[0]
    assert sum(len(points[0].get_xdata()) for points in axes.containers) == 8
    labels = " ".join(axes.get_legend_handles_labels()[1])
    assert "tested longer" in labels and "finetuned" in labels and "clip@1" in labels


def test_lengths_that_were_not_run_have_rows(runs):
    unfinish(*[run for run in runs if run.spec.frames == 24 or (run.spec.frames, run.spec.seed) == (40, 1)])
    table = curves.length_table(runs).set_index(("", "clip length"))
    assert table.index.tolist()[:3] == ["8", "16", "24"] and table.loc["24", ("here", "seeds")] == "not run"
    assert table.loc["24", "here"][["hours", "clip@1", "video@1", "95 % interval"]].isna().all()
    assert table.loc["24", ("here", "GMAC/clip")] == pytest.approx(62.24, abs=0.01)
    assert table.loc["40", ("here", "seeds")] == "1 seed of 2" and table.loc["8", ("here", "seeds")] == "2"
    shown = curves.show_length_table(runs).to_html()
    assert "not run" in shown and "nan" not in shown.lower()
    axes = curves.length_figure(runs).axes[0]
    assert sum(len(points[0].get_xdata()) for points in axes.containers) == 7
