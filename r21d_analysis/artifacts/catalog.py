"""The map of the suite: the paper's artefacts, the notebook and the command of each, and the runs that are there."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from pandas.io.formats.style import Styler

from r21d_core import R21DError
from r21d_core.runs.run import Run
from r21d_core.study.experiments import EXPERIMENTS
from r21d_core.study.spec import CHOICES, Spec


class Artefact(NamedTuple):
    """A row of the map; where `experiment` is none of EXPERIMENTS yet, its command is to come."""

    artefact: str
    notebook: str
    experiment: str  # "" where nothing is trained
    takes: str
    command: str = ""  # of one that trains nothing
    tasks: tuple[str, ...] = CHOICES["task"]


ARTEFACTS = (
    Artefact("Table 1, Figures 1 and 2", "architectures", "", "nothing: arithmetic, seconds", "r21d variants"),
    Artefact("Table 2, Figure 4", "variant_comparison", "variant_comparison", "twelve networks of 18 layers"),
    Artefact("Figure 3", "optimization_curves", "optimization_curves", "R3D and R(2+1)D at two depths"),
    Artefact(
        "Figure 5a, Table 3", "clip_length", "clip_length", "R(2+1)D for each clip length; one tested and finetuned"
    ),
    Artefact("Figure 5b", "clip_count", "clip_count", "one network, its test videos scored once with many clips"),
    Artefact("Table 4", "sports1m", "sports1m", "Sports-1M; R(2+1)D-34 on frames and on flow"),
    Artefact(
        "Table 5", "kinetics", "kinetics", "Kinetics; R(2+1)D-34 on frames and on flow, from scratch and pretrained"
    ),
    Artefact("Table 6", "transfer", "transfer", "UCF101 and HMDB51, three splits each; pretrained R(2+1)D-34"),
    Artefact(
        "the paper's question: does it take motion?",
        "temporal_probe",
        "temporal_probe",
        "any videos: playback rate or direction are the labels",
        tasks=("speed", "arrow"),
    ),
    Artefact(
        "which recipe the real videos get",
        "recipe",
        "recipe_trials",
        "a set's validation cut, by `r21d manifest validation`",
        tasks=("action",),
    ),
    Artefact("what filters have learned", "filters", "", "runs of the others, with checkpoints", "r21d insight RUN"),
    Artefact("where networks look", "attributions", "", "runs of the others, with checkpoints", "r21d insight RUN"),
    Artefact(
        "look inside: class by class, video by video",
        "explorer",
        "",
        "the records of the others",
        "none: it reads them",
    ),
    Artefact("every claim of the paper", "claims", "", "the records of the others", "none: it reads them"),
)


def artefacts() -> pd.DataFrame:
    """The map as data: artefact, notebook, command and what it takes, in the paper's order."""
    rows = [(one.artefact, one.notebook, _command(one), one.takes) for one in ARTEFACTS]
    return pd.DataFrame(rows, columns=["artefact", "notebook", "command", "what it takes"])


def show_map(runs_folders: str, notebooks: Path | str = ".") -> Styler:
    """`artefacts` with links to the notebooks in the folder `notebooks` and what is there of each one's runs.

    `runs_folders` are folders of runs, separated by commas; a run in several of them counts once, and one without its
    summary as begun. Of each profile, data set and task: how many of the runs that the experiment asks for with its
    defaults, for the seeds that are there.
    """
    found: dict[Spec, bool] = {}
    for folder in folders_in(runs_folders):
        for run in runs_under(folder):
            if isinstance(run, Run):
                found[run.spec] = run.is_complete or found.get(run.spec, False)
    table = artefacts()
    table["notebook"] = [_link(Path(notebooks), name) for name in table["notebook"]]
    table["runs that are there"] = ["<br>".join(map(html.escape, _state(one, found))) for one in ARTEFACTS]
    escaped = ["artefact", "command", "what it takes"]
    return _styled(table.style.format(escape="html", subset=escaped))


def show_folders(runs_folders: str) -> Styler:
    """For each of the folders, separated by commas, and each profile: how many runs are done, begun, and unreadable."""
    rows = []
    for folder in folders_in(runs_folders):
        runs = list(runs_under(folder))
        damaged = [run.name for run in runs if not isinstance(run, Run)]
        for profile in CHOICES["profile"]:
            of = [run for run in runs if isinstance(run, Run) and run.spec.profile == profile]
            if of:
                done = sum(run.is_complete for run in of)
                rows.append((str(folder), profile, done, len(of) - done, ""))
        if damaged:
            rows.append((str(folder), "?", 0, 0, f"cannot be read: {', '.join(damaged)}; move them away"))
        if not runs:
            rows.append((str(folder), "", 0, 0, "no run yet" if folder.is_dir() else "no such folder yet"))
    table = pd.DataFrame(rows, columns=["folder", "profile", "done", "begun", "remark"])
    return _styled(table.style.format(escape="html"))


def _command(one: Artefact) -> str:
    if one.experiment:
        return f"r21d train {one.experiment}" if one.experiment in EXPERIMENTS else "to come"
    return one.command


def _link(folder: Path, name: str) -> str:
    path = folder / f"{name}.ipynb"
    if not path.exists():
        return f"{html.escape(name)} (to come)"
    return f'<a href="{html.escape(path.as_posix())}">{html.escape(name)}</a>'


def folders_in(text: str) -> list[Path]:
    """The folders named in `text`, separated by commas."""
    return [Path(name.strip()) for name in text.split(",") if name.strip()]


def runs_under(folder: Path) -> Iterator[Run | Path]:
    """The runs under `folder`, and the folders whose spec.json cannot be read: a map has to show both."""
    for path in sorted(folder.glob("*/spec.json")):
        try:
            yield Run(Spec.from_json(path.read_text()), path.parent)
        except (json.JSONDecodeError, UnicodeDecodeError, TypeError, OSError, R21DError):
            yield path.parent


def _state(one: Artefact, found: dict[Spec, bool]) -> list[str]:
    if one.experiment not in EXPERIMENTS:
        return ["" if one.experiment else "none of its own"]
    lines = []
    for profile, data, task in dict.fromkeys((spec.profile, spec.data, spec.task) for spec in found):
        if task not in one.tasks:
            continue
        seeds = sorted({spec.seed for spec in found if (spec.profile, spec.data, spec.task) == (profile, data, task)})
        try:
            asked = EXPERIMENTS[one.experiment](profile, data, task=task, seeds=seeds)
        except R21DError:  # an experiment that is not for this profile or task
            continue
        there = {spec.seed for spec in asked if spec in found}
        asked = {spec for spec in asked if spec.seed in there}
        done, begun = (sum(found.get(spec) is state for spec in asked) for state in (True, False))
        if asked:
            count = f"{done} of {len(asked)} done" + f", {begun} begun" * (begun > 0)
            lines.append(f"{profile}, {data}, {task}: {count}")
    return lines or ["none yet"]


def _styled(style: Styler) -> Styler:
    left = {"text-align": "left", "vertical-align": "top"}
    heads = {"selector": "th", "props": "text-align: left"}
    return style.hide(axis="index").set_properties(**left).set_table_styles([heads])
