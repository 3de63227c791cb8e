"""Without a finished run every table and figure is a note that says so."""

from functools import partial

import pytest

from r21d_analysis.artifacts import (
    clip_count,
    clip_length,
    curves,
    figures,
    folds,
    pretraining,
    recipe,
    streams,
    tables,
    temporal_probe,
)
from r21d_core.runs.run import find_runs
from r21d_core.study.experiments import transfer

NOTES = {
    "No run is finished": (
        tables.show_variant_table, curves.error_table, clip_length.show_length_table, clip_count.clip_count_table,
        temporal_probe.probe_table, pretraining.show_rate_table, recipe.show_recipe_table,
        partial(streams.show_stream_table, table=6),
    ),
    "no run is finished": (
        figures.accuracy_against_cost, figures.family_bars, curves.error_curves, clip_length.length_figure,
        clip_count.clip_count_curve, temporal_probe.probe_figure, folds.reasons_figure, streams.class_figure,
    ),
    "Nothing to draw": (partial(streams.stream_figure, table=5), streams.split_figure),
    "needs R(2+1)D and another network": (tables.comparison_table,),
    "No finished run of R(2+1)D": (folds.show_fold_table,),
    "none can be chosen": (recipe.chosen_line,),
    "needs two streams": (streams.stream_gain,),
    "needs a pretrained network and one from scratch": (streams.pretraining_gain,),
    "No finetuned run": (pretraining.init_table,),
}  # fmt: skip


@pytest.mark.parametrize(("show", "text"), [(show, text) for text, functions in NOTES.items() for show in functions])
def test_without_runs_a_note_says_so(show, text, tmp_path):
    assert text in show(find_runs(transfer("small", "set-split1"), tmp_path)).data
