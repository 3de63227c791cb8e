"""Where the weights of a finetuned network come from, and whether they had seen what they are tested on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_core import R21DError
from r21d_core.runs.run import Run

SHOWN = 4  # names of groups in a cell


def init_table(runs: Sequence[Run]) -> Styler | Markdown:
    """What each finished run took over from which other, and what was made anew, for a notebook."""
    rows = [_named(run) | _started(run) for run in runs if run.is_complete and run.spec.init_from]
    return _shown(rows, "*No finetuned run is finished, so nothing was taken over yet.*")


def leak_table(runs: Sequence[Run], folder: Path | str) -> Styler | Markdown:
    """For each finished finetuned run: the groups that its weights were trained on, before it and by it, the groups of
    the videos that it was evaluated on, and how many are in both, which a run refuses to begin with.

    The groups of the evaluated videos are looked up in the manifests in `folder`, those trained on in the run folders;
    where one is missing the cell says so, and nothing is said of an overlap.
    """
    rows = []
    for run in (run for run in runs if run.is_complete and run.spec.init_from):
        row = _named(run)
        seen, tested, said = set(), set(), []
        try:
            seen = run.trained_on
        except R21DError:
            said.append("what it was trained on was not kept")
        try:
            tested = _groups(run, Path(folder))
        except (OSError, KeyError, csv.Error, UnicodeDecodeError) as error:
            said.append(f"no group of its videos in {run.spec.data}.csv ({type(error).__name__})")
        before = run.spec.parent_spec
        row["trained before on"] = before.data if before else run.spec.init_file
        row["groups trained on"] = _some(seen)
        row["groups tested"] = _some(tested)
        row["videos tested"] = f"{len(set(run.scores.videos)):,}"
        row["groups in both"] = "; ".join(said) or str(len(seen & tested))
        rows.append(row)
    return _shown(rows, "*No finetuned run is finished, so there is nothing to guard yet.*")


def _named(run: Run) -> dict[str, str]:
    spec = run.spec
    return {"network": spec.variant, "input": spec.modality, "data": spec.data, "seed": str(spec.seed)}


def _started(run: Run) -> dict[str, str]:
    try:
        said = run.environment.get("init_from", "")
    except R21DError:
        said = ""
    return {"loaded, and made anew": said or "not kept"}


def _groups(run: Run, folder: Path) -> set[str]:
    """The groups of the videos that `run` was evaluated on, by its manifest; raises KeyError for one not listed."""
    with (folder / f"{run.spec.data}.csv").open(encoding="utf-8", newline="") as file:
        group = {row["video"]: row["group"] for row in csv.DictReader(file)}
    return {group[video] for video in run.scores.videos.tolist()}


def _some(groups: set[str]) -> str:
    names = sorted(groups)
    told = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names):,}: {told}" if names else "–"


def _shown(rows: list[dict[str, str]], none: str) -> Styler | Markdown:
    if not rows:
        return Markdown(none)
    left = {"selector": "th, td", "props": "text-align: left"}
    return pd.DataFrame(rows).style.format(escape="html").hide(axis="index").set_table_styles([left])
