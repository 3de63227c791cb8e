"""Without a finished run every table and figure is a note that says so."""

from functools import partial

import pytest

from r21d_analysis.artifacts import curves, figures, folds, pretraining, recipe, streams, tables
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import transfer


@pytest.mark.parametrize(
    ("show", "text"),
    [
        (tables.show_variant_table, "No run is finished"),
        (tables.comparison_table, "needs R(2+1)D and another network"),
        (figures.accuracy_against_cost, "no run is finished"),
        (figures.family_bars, "no run is finished"),
        (curves.error_curves, "no run is finished"),
        (curves.error_table, "No run is finished"),
        (curves.show_length_table, "No run is finished"),
        (curves.length_figure, "no run is finished"),
        (curves.clip_count_curve, "no run is finished"),
        (curves.clip_count_table, "No run is finished"),
        (curves.probe_figure, "no run is finished"),
        (curves.probe_table, "No run is finished"),
        (pretraining.show_rate_table, "No run is finished"),
        (folds.show_fold_table, "No finished run of R(2+1)D"),
        (folds.reasons_figure, "no run is finished"),
        (recipe.show_recipe_table, "No run is finished"),
        (recipe.chosen_line, "none can be chosen"),
        (partial(streams.show_stream_table, table=6), "No run is finished"),
        (partial(streams.stream_figure, table=5), "Nothing to draw"),
        (streams.split_figure, "Nothing to draw"),
        (streams.class_figure, "no run is finished"),
        (streams.stream_gain, "needs two streams"),
        (streams.pretraining_gain, "needs a pretrained network and one from scratch"),
        (pretraining.init_table, "No finetuned run"),
    ],
)
def test_without_runs_a_note_says_so(show, text, tmp_path):
    assert text in show([find_run(tmp_path, spec) for spec in transfer("small", "set-split1")]).data
