"""The origin of a finetuned network's weights, and whether they were trained on the videos they are tested on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.style import align_left, note, style_table
from r21d_core import R21DError
from r21d_core.runs.run import Run

NAMES_IN_CELL = 4
NO_FINETUNED = "no finetuned run is finished"


def init_table(runs: Sequence[Run]) -> Styler | Markdown:
    """Which tensors each finished finetuned run loaded and which it initialized, for a notebook."""
    return _show([_describe_run(run) | {"weights": _loaded(run)} for run in _finetuned(runs)])


def leak_table(runs: Sequence[Run], folder: Path | str) -> Styler | Markdown:
    """For each finished finetuned run: the groups its weights were trained on, before and during finetuning, those of
    its test videos, and how many are in both. A run refuses to start if there are any.

    Groups of test videos come from the manifests in `folder`, those trained on from the run folders. Where one of them
    is missing the cell says so.
    """
    rows = []
    for run in _finetuned(runs):
        trained, tested, problems = set(), set(), []
        try:
            trained = run.trained_on
        except R21DError:
            problems.append("no record of what it was trained on")
        try:
            tested = _test_groups(run, Path(folder))
        except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
            problems.append(f"no groups of the test videos in {run.spec.data}.csv ({type(error).__name__})")
        parent = run.spec.parent_spec
        rows.append(
            _describe_run(run)
            | {
                "pretrained on": parent.data if parent else run.spec.init_file,
                "groups trained on": _abbreviate(trained),
                "groups tested": _abbreviate(tested),
                "videos tested": f"{len(set(run.scores.videos)):,}",
                "groups in both": "; ".join(problems) or str(len(trained & tested)),
            }
        )
    return _show(rows)


def _finetuned(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.is_complete and run.spec.init_from]


def _describe_run(run: Run) -> dict[str, str]:
    spec = run.spec
    return {"network": spec.variant, "input": spec.modality, "data": spec.data, "seed": str(spec.seed)}


def _loaded(run: Run) -> str:
    try:
        return run.environment.get("init_from", "") or "not recorded"
    except R21DError:
        return "not recorded"


def _test_groups(run: Run, folder: Path) -> set[str]:
    """The groups of the videos that `run` was evaluated on, by its manifest; raises KeyError for one not listed."""
    with (folder / f"{run.spec.data}.csv").open(encoding="utf-8", newline="") as file:
        group = {row["video"]: row["group"] for row in csv.DictReader(file)}
    return {group[video] for video in run.scores.videos.tolist()}


def _abbreviate(groups: set[str]) -> str:
    names = sorted(groups)
    listed = ", ".join(names[:NAMES_IN_CELL]) + (", …" if len(names) > NAMES_IN_CELL else "")
    return f"{len(names):,}: {listed}" if names else "–"


def _show(rows: list[dict[str, str]]) -> Styler | Markdown:
    return align_left(style_table(pd.DataFrame(rows))) if rows else note(NO_FINETUNED)
