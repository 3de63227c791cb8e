"""Curves, clip counts and the probe against the records and brute force."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r21d_analysis.artifacts.clip_count import clip_count_curve, clip_count_table, clip_counts
from r21d_analysis.artifacts.clip_length import (
    describe_training,
    length_figure,
    length_table,
    show_length_table,
    training_hours,
)
from r21d_analysis.artifacts.curves import error_curves, error_table
from r21d_analysis.artifacts.tables import show_variant_table
from r21d_analysis.artifacts.temporal_probe import probe_figure, probe_results, probe_table, short_videos_line
from r21d_analysis.statistics.aggregate import group_by_seed
from r21d_analysis.statistics.clips import exact_counts, with_clips
from r21d_analysis.statistics.inference import (
    correct_by_seed,
    estimate_accuracy,
    estimate_mean,
    format_interval,
    seed_variance,
)
from r21d_analysis.style import VARIANT_STYLE
from r21d_core import R21DError
from r21d_core.cli import build_parser
from r21d_core.data.manifest import REQUIRED, Video, required_cells
from r21d_core.data.rows import write_rows
from r21d_core.data.sampling import evaluation_clips
from r21d_core.runs.metrics import video_at
from r21d_core.runs.run import find_runs, write_history
from r21d_core.runs.scores import Scores
from r21d_core.study.experiments import (
    EXPERIMENTS,
    clip_count,
    clip_length,
    optimization_curves,
    rate_pretraining,
    recipe_trials,
    temporal_probe,
    variant_comparison,
)
from r21d_core.study.recipes import CLIP_LENGTHS, STORED_CLIPS
from r21d_core.study.spec import Spec
from tests.runs import NASTY, finish, make_runs, unfinish

LENGTHS = (3, 8, 16, 20, 33, 97, 251, 1000)
VIDEOS = tuple(Video(f"v{n}", None, "ab"[n % 2], "test", "", n, 25.0, 9, 9) for n in LENGTHS)


def starts(spec: Spec, count: int) -> np.ndarray:
    """Where `count` clips of each item begin, (items, count)."""
    return evaluation_clips(spec, count, VIDEOS, ("a", "b")).frames[:, 0].reshape(-1, count)


@pytest.mark.parametrize("stored", [1, 2, 10, *sorted(set(STORED_CLIPS.values()))])
@pytest.mark.parametrize("task", ["action", "speed"])
def test_fewer_clips_are_those_of_an_evaluation(stored, task):
    spec = Spec(task=task)
    all_starts = starts(spec, stored)
    labels = np.zeros(len(all_starts), int)
    # The stored "logits" are the starts, so that what is chosen can be read off.
    scores = Scores(all_starts[:, :, None].astype(np.float32), labels, labels, labels, ("a",), {"clips": stored})
    for count in exact_counts(stored):
        fewer = with_clips(scores, count)
        np.testing.assert_array_equal(fewer.logits[:, :, 0], starts(spec, count))
        assert fewer.protocol["clips"] == count
    # and no count is left out: of the others, some video's clips are not among the stored ones
    for count in set(range(1, stored)) - set(exact_counts(stored)):
        pairs = zip(starts(spec, count), all_starts, strict=True)
        assert not all(set(expected) <= set(original) for expected, original in pairs), count


@pytest.mark.parametrize("count", [0, 5, 11])
def test_count_that_is_not_stored_raises(count):
    labels = np.zeros(2, int)
    with pytest.raises(R21DError, match="expected one of 2, 4, 10"):
        with_clips(Scores(np.zeros((2, 10, 2), np.float32), labels, labels, labels, ("a", "b"), {}), count)


def noisy(run, clips: int, seed: int, gain: float = 0.7) -> None:
    """Give `run` scores of so many clips, each barely better than guessing unless `gain` is large."""
    random, original = np.random.default_rng(seed), run.scores
    logits = random.normal(0, 1, (24, clips, 6)).astype(np.float32)
    logits[np.arange(24), :, original.labels] += gain
    finish(run, replace(original, logits=logits, protocol=original.protocol | {"clips": clips}))


def test_clip_counts_match_brute_force(tmp_path):
    runs = make_runs(clip_count("demo", seeds=(0, 1)), tmp_path)
    for seed, run in enumerate(run for run in runs if run.spec.eval_clips == 13):
        noisy(run, 13, seed)
    table = clip_counts(runs)
    assert table["clips"].tolist() == [1, 2, 3, 4, 5, 7, 13]  # of the one run with 13, not of the one with 3
    many = [run.scores for run in runs if run.spec.eval_clips == 13]
    by_hand = {1: [6], 3: [0, 6, 12], 4: [0, 4, 8, 12], 7: [0, 2, 4, 6, 8, 10, 12], 13: list(range(13))}
    whole = 100 * np.mean([video_at(scores, 1) for scores in many])
    for row in table.itertuples():
        if row.clips in by_hand:
            chosen = [replace(scores, logits=scores.logits[:, by_hand[row.clips]]) for scores in many]
            right = 100 * np.mean([video_at(scores, 1) for scores in chosen])
            assert table.loc[row.Index, "video@1"] == pytest.approx(right)
            loss = correct_by_seed(chosen) - correct_by_seed(many)
            estimate = estimate_mean([loss], seed_variance([loss]))
            assert table.loc[row.Index, "minus all clips (points)"] == pytest.approx(right - whole)
            interval = format_interval(estimate.low, estimate.high, "+.1f")
            assert table.loc[row.Index, "its 95 % interval"] == interval
    assert len(set(table["video@1"])) > 2
    # all clips against themselves, the same seeds on both sides: no difference, and surely so
    assert table.iloc[-1, 5:7].tolist() == [0, "+0.0 to +0.0"]

    figure = clip_count_curve(runs)
    drawn = figure.axes[0].containers[0][0]
    np.testing.assert_allclose(drawn.get_ydata(orig=False), table["video@1"])
    np.testing.assert_allclose(drawn.get_xdata(orig=False), table["clips"])
    assert figure.axes[0].get_xlabel() == "clips per video" and "demonstration" in figure.get_suptitle()
    assert "; 13 clips of 8 frames" in clip_count_table(runs).caption, "not those of the runs with fewer"
    longer = make_runs([runs[0].spec.replace(frames=12)], tmp_path)
    assert {*clip_counts(runs + longer)["frames"]} == {runs[0].spec.frames, 12}, "each length has its most clips"
    html = clip_count_table(runs).to_html()
    assert [cells(clip_count_table(runs), row)[5:7] == ["–", "–"] for row in (-2, -1)] == [False, True]
    assert "&lt;script&gt;" in html and NASTY not in html and "DEMONSTRATION" in html


def test_evaluations_of_the_same_weights_are_one_run(tmp_path):
    """The seeds of one network have its variance once, not once for each evaluation and number of clips."""
    runs = make_runs(clip_count("demo", seeds=(0, 1, 2)), tmp_path)
    for run in runs:
        noisy(run, run.spec.eval_clips, run.spec.seed, gain=run.spec.seed)
        finish(run, history=run.history if run.spec.epochs else [])
    (trained, many), table = group_by_seed(runs), clip_counts(runs).set_index("clips")
    for count in (1, 4, 13):
        outcomes = correct_by_seed([with_clips(scores, count) for scores in many.scores])
        alone = estimate_accuracy([outcomes], seed_variance([outcomes]))
        assert alone.seed_part > 0 and table["low"][count] == pytest.approx(alone.low)
    assert np.isnan([trained.train_errors, many.train_errors]).tolist() == [[False] * 3, [True] * 3]
    for group in (trained, many):
        assert group.accuracy == estimate_accuracy([group.outcomes], seed_variance([group.outcomes]))


def test_error_curves_show_the_history(tmp_path):
    runs = make_runs(optimization_curves("demo", seeds=(0, 1)), tmp_path)
    for seed, run in enumerate(runs):
        errors = enumerate(np.random.default_rng(seed).random((4, 2)), 1)
        finish(run, history=[{"epoch": e, "train_error": a, "test_error": b} for e, (a, b) in errors])
    figure = error_curves(runs)
    assert [axes.get_title() for axes in figure.axes] == ["10 layers", "18 layers"]
    for axes, members in zip(figure.axes, (runs[:4], runs[4:]), strict=True):
        pairs = [(members[at : at + 2], key) for at in (0, 2) for key in ("train_error", "test_error")]
        assert len(axes.lines) == len(axes.collections) == len(pairs)
        for line, band, (seeds, key) in zip(axes.lines, axes.collections, pairs, strict=True):
            errors = 100 * np.array([[epoch[key] for epoch in run.history] for run in seeds])
            np.testing.assert_allclose(line.get_ydata(), errors.mean(axis=0))
            assert line.get_xdata().tolist() == [1, 2, 3, 4]
            ends = band.get_paths()[0].vertices[:, 1]
            assert (ends.min(), ends.max()) == pytest.approx((errors.min(), errors.max()))
        assert axes.lines[0].get_linewidth() < axes.lines[1].get_linewidth()
    html = error_table(runs).to_html()
    last = [100 * np.mean([run.history[-1]["train_error"] for run in runs[at : at + 2]]) for at in (0, 2)]
    assert f"{last[0]:.1f} (" in html and f"{last[0] - last[1]:+.1f} (".replace("-", "−") in html, "R3D minus R(2+1)D"


def test_curves_of_unfinished_runs_end_at_their_last_epoch(tmp_path):
    runs = make_runs(variant_comparison("small", "set", variants=("R3D", "MC3"), seeds=(0, 1)), tmp_path)
    assert not error_curves(runs).get_suptitle()
    summary = runs[2].summary
    unfinish(*runs)
    write_history(runs[3], runs[3].history[:2])
    (axes,) = (figure := error_curves(runs)).axes
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 3, 2, 2]
    epochs = runs[0].spec.epochs
    assert figure.get_suptitle() == f"unfinished: R3D-18, 3 of {epochs} epochs; MC3-18, 2 of {epochs} epochs"
    finish(runs[2], **summary)
    (axes,) = (figure := error_curves(runs)).axes
    assert figure.get_suptitle() == f"unfinished: R3D-18, 3 of {epochs} epochs", "seeds that are finished stand alone"
    assert len(axes.lines[-1].get_xdata()) == 3
    for table in (error_table, show_variant_table):
        assert "1 seed of 2" in (html := table(runs).to_html()) and "not run" in html
    for run in runs:
        write_history(run, [])
    unfinish(runs[2])
    assert "no run is finished" in error_curves(runs).data


def test_figure_with_other_runs_is_a_demonstration_in_part(tmp_path):
    demo = make_runs(variant_comparison("demo", variants=("R3D",), depth=18), tmp_path)
    full = make_runs(variant_comparison("small", "set", variants=("R3D",)), tmp_path)
    titles = [error_curves(runs).get_suptitle() for runs in (demo, demo + full, full)]
    assert titles == ["demonstration: tiny networks", "in part a demonstration: tiny networks", ""]
    widths = [run.spec.width for run in demo + full]
    panels = [axes.get_title() for axes in error_curves(demo + full).axes]
    assert all(f"width {width}" in panel for width, panel in zip(widths, panels, strict=True))


def test_panels_are_named_by_what_differs(tmp_path):
    """In the demo the rate is predicted from three frames."""
    runs = make_runs(rate_pretraining("demo"), tmp_path)
    names = ["8 frames, class, from scratch", "3 frames, playback rate, from scratch", "8 frames, class, finetuned"]
    assert [axes.get_title() for axes in error_curves(runs).axes] == [f"10 layers, {name}" for name in names]


def test_one_seed_has_no_band_and_evaluation_no_curve(tmp_path):
    runs = make_runs(clip_count("demo", variants=("MC2", "MC3")), tmp_path)
    evaluations = [finish(run, history=[]) for run in runs if not run.spec.epochs]
    axes = error_curves(runs).axes
    assert len(axes) == 1 and len(axes[0].lines) == 4 and not axes[0].collections
    assert "Nothing to draw" in error_curves(evaluations).data


def test_probe_has_a_panel_for_each_setting(tmp_path):
    speed = make_runs(temporal_probe("demo", frames="2,3", frame_stride=1), tmp_path, classes=4)
    arrow = make_runs(temporal_probe("small", "set", task="arrow", frame_stride=(1, 2)), tmp_path, classes=2)
    results = probe_results(speed + arrow)
    assert results["chance"].tolist() == [25] * 6 + [50] * 6
    assert results["span"].tolist() == ["2 to 9"] * 3 + ["3 to 17"] * 3 + ["16"] * 3 + ["31"] * 3
    accuracies = [100 * video_at(run.scores, 1) for run in speed + arrow]
    np.testing.assert_allclose(results["video@1"], accuracies)
    figure = probe_figure(speed + arrow)
    for number, axes in enumerate(figure.axes):
        drawn = [float(bar[0].get_xdata()[0]) for bar in axes.containers]
        np.testing.assert_allclose(drawn, accuracies[3 * number : 3 * number + 3])
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        assert [line.get_xdata()[0] for line in dashed] == [25 if number < 2 else 50]
    assert "3 to 17 frames" in figure.axes[1].get_title()
    html = probe_table(speed + arrow).to_html()
    assert NASTY not in html and f"{accuracies[0] - 25:+.1f}" in html


def test_a_mean_over_frames_can_show_something_of_the_rate():
    """The notebook's example of what f-R2D can learn: sinusoids of 16 frames, above a threshold rate 1, else rate 2."""
    phases = np.linspace(0, 2 * np.pi, 1000, endpoint=False)[:, None]
    means = [np.sin(2 * np.pi * rate * np.arange(8) / 16 + phases).mean(axis=1) for rate in (1, 2, 4, 8)]
    above = [(mean > 1e-9).mean() for mean in means]
    assert 100 * (above[0] + 1 - above[1]) / 4 == pytest.approx(37.5, abs=0.1)


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=9), st.sampled_from(["speed", "arrow"]),
    st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True), st.integers(1, 4),
)  # fmt: skip
def test_short_videos_are_those_whose_clips_wrap(tmp_path_factory, lengths, task, frames, step):
    """Jumps are looked for in the frames of the clips that an evaluation takes."""
    videos = [Video(f"v{n}", None, "a", "test", "", count) for n, count in enumerate(lengths)]
    path = tmp_path_factory.mktemp("short") / "set.csv"
    listed = [*videos, replace(videos[0], split="train", frames=1)]
    write_rows(path, (*REQUIRED, "frames"), [(*required_cells(video), video.frames) for video in listed])
    specs = temporal_probe("small", "set", task=task, frames=frames, frame_stride=step)
    text = short_videos_line(specs, path)
    assert text.count("%") == len(frames) and f"of {len(lengths)}:" in text
    for spec in specs:
        clips = evaluation_clips(spec, 1, tuple(videos), ("a",))
        steps = step * np.array([1, 2, 4, 8] if task == "speed" else [1, -1])[clips.label]
        jumping = {clips.video[row] for row in np.flatnonzero((np.diff(clips.frames) != steps[:, None]).any(axis=1))}
        assert f" {100 * len(jumping) / len(lengths):.1f} % with {spec.frames} frames at stride {step} (" in text


@pytest.mark.parametrize("text", [None, "", "video,split\nv,test\n", "split,frames\ntest,\n", "split,frames\ntest\n"])
def test_manifest_without_lengths_is_named(tmp_path, text):
    path = tmp_path / "set.csv"
    if text is not None:
        path.write_text(text)
    assert "does not give the lengths" in short_videos_line(temporal_probe("small", "set"), path)


def cells(html, row):
    """The texts of a table's row."""
    return re.findall(r"<td[^>]*>(.*?)</td>", html.to_html().split("<tr>")[row])


def test_networks_that_were_not_run_have_rows(tmp_path):
    specs = optimization_curves("demo", seeds=(0, 1), variants=("R3D", "MC3", "R(2+1)D"))
    make_runs([spec for spec in specs if not (spec.depth == 10 and spec.variant == "R3D")][:6], tmp_path)
    errors = error_table(find_runs(specs, tmp_path))
    rows = [cells(errors, row) for row in range(-6, 0)]
    assert [row[:2] for row in rows] == [[f"{d} layers", v] for d in (10, 18) for v in ("R3D", "MC3", "R(2+1)D")]
    assert [row[-1] for row in rows] == ["not run", "2", "2", "2", "not run", "not run"]
    assert (
        rows[2][3] == rows[2][5] == "–"
        and rows[5][2:-1] == [*"––––"]
        and rows[3][3] == "–" != rows[3][2]
        and rows[0][2:-1] == [*"––––"]
    )
    assert "training error minus R(2+1)D" in errors.to_html() and rows[1][3] != "–"
    html = error_table([run for run in find_runs(specs, tmp_path) if run.spec.variant != "R(2+1)D"]).to_html()
    assert "training error minus R3D" in html, "the first, without R(2+1)D"

    specs = temporal_probe("small", "set", seeds=(0, 1))
    made = make_runs(specs[:3], tmp_path, classes=4)
    results = find_runs(specs, tmp_path)
    rows = [cells(probe_table(results), row) for row in range(-3, 0)]
    assert [row[0] for row in rows] == ["f-R2D", "R3D", "R(2+1)D"]
    assert [row[-1] for row in rows] == ["2", "1 seed of 2", "not run"]
    assert rows[2] == ["R(2+1)D", *"–––––", "not run"] and rows[0][-2] == "24"
    said = "the same in all rows: task speed, frames 8, stride 1, span 8 to 57"
    assert probe_table(results).caption.endswith(said)
    assert [len(probe_figure(some).axes[0].containers) for some in (results, made)] == [2, 2]

    specs = clip_count("demo", variants=("R3D", "R(2+1)D"))
    runs = make_runs(specs[:2], tmp_path / "counts")
    noisy(runs[1], 13, 0)
    results = find_runs(specs, tmp_path / "counts")
    assert cells(clip_count_table(results), -1) == ["R(2+1)D", "8", "13", *"–––––", "not run"]
    assert len(clip_count_curve(results).axes[0].containers) == 1


def test_demonstrations_share_runs():
    shared = variant_comparison("demo")
    assert all(spec in shared for spec in optimization_curves("demo")[:2])
    assert [spec.depth for spec in optimization_curves("demo")] == [10, 10, 18, 18]
    assert set(variant_comparison("demo", variants=("R(2+1)D",))) < set(clip_length("demo"))
    assert set(recipe_trials("demo")[:2]) <= set(shared)
    trained, counted = clip_count("demo")
    assert trained in shared and counted.parent_spec == trained and (counted.epochs, counted.eval_clips) == (0, 13)
    assert clip_count("small", eval_clips="21")[1].eval_clips == 21


def test_demonstration_of_the_probe_fits_its_videos():
    from r21d_core.data.synthetic import FRAMES

    assert all((spec.frames - 1) * 8 * spec.frame_stride < FRAMES for spec in temporal_probe("demo"))


def test_experiment_sets_default_variants_and_task():
    options = build_parser().parse_args(["train", "temporal_probe"])
    assert options.task is None and options.variants is None
    assert {spec.task for spec in EXPERIMENTS["temporal_probe"]()} == {"speed"}
    assert [spec.depth for spec in optimization_curves("small", "set", depth="34", variants=("MC2",))] == [34]


# --- Clip length


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


def test_hours_include_those_of_the_parent(runs, tmp_path):
    groups = group_by_seed(runs)
    hours = {describe_training(group.spec): training_hours(group, "TestGPU") for group in groups}
    assert hours == pytest.approx({"from scratch": 1, "tested longer": 1, "finetuned": 1.1})
    later = [run for run in runs if run.spec.init_from]
    unfinish(*[run for run in runs if not run.spec.init_from and run.spec.frames == 8])
    unknown = [training_hours(group, "TestGPU") for group in group_by_seed(later)]
    assert np.isnan(unknown).all(), "the start has no record"


def test_hours_are_those_of_one_device(runs):
    """A mean over devices is the time of none. Testing takes no training, wherever it is done."""
    for run in runs:
        if run.spec.frames == 16 or (run.spec.frames == 8 and run.spec.seed == 1) or not run.spec.epochs:
            finish(run, seconds=36 * run.summary["seconds"], device="CPU")
    table = length_table(runs).set_index(("", "clip length"))["here", "hours"]
    expected = dict.fromkeys(["8", "24", "32", "40", "48", "8 tested at 32"], 1) | {"8 finetuned at 32": 1.1}
    assert table.dropna().to_dict() == pytest.approx(expected)
    assert "; hours are those of the runs on TestGPU" in show_length_table(runs).caption
    axes = length_figure(runs, x="hours").axes[0]
    label = "training on TestGPU (hours per run)\nnot shown, as not measured there: 16"
    assert axes.get_xlabel() == label and sum(len(points[0].get_xdata()) for points in axes.containers) == 7
    by_length = length_figure(runs).axes[0]
    assert sum(len(points[0].get_xdata()) for points in by_length.containers) == 8
    assert by_length.get_xlabel() == "clip length (frames)"


def test_length_table_has_the_papers_rows(runs):
    table = length_table(runs).set_index(("", "clip length"))
    assert table.index.tolist() == ["8", "16", "24", "32", "40", "48", "8 tested at 32", "8 finetuned at 32"]
    printed = table["paper, Kinetics-400"]
    assert printed["video@1"].tolist()[0] == 64.8
    assert printed["hours, 64 GPUs"].dropna().tolist() == [11.8, 59.8, 11.8, 20.5]
    assert printed["clip@1"].isna().tolist() == [False, True, True, False, True, True, False, False]
    assert "8 finetuned at 32" in show_length_table(runs).to_html()


def test_papers_lengths_are_those_of_r2plus1d(tmp_path):
    runs = make_runs(clip_length("small", "set", variants=("R3D", "R(2+1)D")), tmp_path)
    table = length_table([finish(run, seconds=3600) for run in runs]).set_index(("", "network"))
    assert table.loc["R3D", "paper, Kinetics-400"].isna().all(axis=None)
    assert table.loc["R(2+1)D", "paper, Kinetics-400"]["video@1"].count() == 4


@pytest.mark.parametrize("x", ["frames", "hours"])
def test_length_figures_tell_networks_apart(tmp_path, x):
    variants = ("R3D", "R(2+1)D")
    runs = make_runs(clip_length("demo", variants=variants), tmp_path)
    axes = length_figure([finish(run, seconds=3600) for run in runs], x=x).axes[0]
    points = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    for kind in ("tested longer", "finetuned"):
        colors = {name: points[f"{name}, 4 frames, {kind}: video@1"][0].get_color() for name in variants}
        assert colors == {name: VARIANT_STYLE[name]["color"] for name in variants}


@pytest.mark.parametrize("x", ["frames", "hours"])
def test_length_figures_have_every_network(runs, x):
    axes = length_figure(runs, x=x).axes[0]
    assert sum(len(points[0].get_xdata()) for points in axes.containers) == 8
    labels = " ".join(axes.get_legend_handles_labels()[1])
    assert "tested longer" in labels and "finetuned" in labels and "clip@1" in labels


def test_training_below_an_hour_is_in_seconds(runs):
    assert "(hours per run)" in length_figure(runs, x="hours").axes[0].get_xlabel()
    for run in runs:
        finish(run, seconds=run.summary["seconds"] / 2, device=f"GPU {run.spec.seed}")
    axes = length_figure(runs, x="hours").axes[0]
    assert axes.get_xlabel() == "training on GPU 0 (seconds per run)"
    assert {round(x, 1) for points in axes.containers for x in points[0].get_xdata()} == {1800, 1980}
    table = show_length_table(runs).data
    assert table["here", "seconds"].tolist() == pytest.approx([1800] * 7 + [1980]) and ("here", "hours") not in table
    finish(runs[0], seconds=36000)
    assert "(hours per run)" in length_figure(runs, x="hours").axes[0].get_xlabel(), "one is long"


def test_lengths_that_were_not_run_have_rows(runs):
    unfinish(*[run for run in runs if run.spec.frames == 24 or (run.spec.frames, run.spec.seed) == (40, 1)])
    table = length_table(runs).set_index(("", "clip length"))
    assert table.index.tolist()[:3] == ["8", "16", "24"] and table.loc["24", ("here", "seeds")] == "not run"
    assert table.loc["24", "here"][["hours", "clip@1", "video@1", "95 % interval"]].isna().all()
    assert table.loc["24", ("here", "GMAC/clip")] == pytest.approx(62.24, abs=0.01)
    assert table.loc["40", ("here", "seeds")] == "1 seed of 2" and table.loc["8", ("here", "seeds")] == "2"
    shown = show_length_table(runs).to_html()
    assert "not run" in shown and "nan" not in shown.lower()
    axes = length_figure(runs).axes[0]
    assert sum(len(points[0].get_xdata()) for points in axes.containers) == 7
