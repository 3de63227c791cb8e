"""The origin of a finetuned network's weights, and whether they were trained on the videos they are tested on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.style import align_left, note, style_table
from r21d_core import R21DError
from r21d_core.runs.run import Run

NAMES_IN_CELL = 4


def init_table(runs: Sequence[Run]) -> Styler | Markdown:
    """For each finished finetuned run: which tensors it loaded and which it initialized; the groups its weights were
    trained on, before and during finetuning, those of its test videos, and how many are in both. A run refuses to
    start if there are any.
    """
    rows = []
    for run in runs:
        if not (run.is_complete and run.spec.init_from):
            continue
        spec, parent, tested = run.spec, run.spec.parent_spec, set(run.scores.groups.tolist())
        try:
            trained = run.trained_on
            both = str(len(trained & tested))
        except R21DError:
            trained, both = (), "no record of what it was trained on"
        rows.append(
            {
                "network": spec.variant,
                "input": spec.modality,
                "data": spec.data,
                "seed": str(spec.seed),
                "pretrained on": parent.data if parent else spec.init_file,
                "groups trained on": _abbreviate(trained),
                "groups tested": _abbreviate(tested),
                "videos tested": f"{len(set(run.scores.videos)):,}",
                "groups in both": both,
                "weights": run.environment.get("init_from") or "not recorded",
            }
        )
    return align_left(style_table(pd.DataFrame(rows))) if rows else note("no finetuned run is finished")


def _abbreviate(groups: Collection[str]) -> str:
    names = sorted(groups)
    listed = ", ".join(names[:NAMES_IN_CELL]) + (", …" if len(names) > NAMES_IN_CELL else "")
    return f"{len(names):,}: {listed}" if names else "–"
