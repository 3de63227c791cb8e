"""The runs that the explorer offers, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, astuple

import pandas as pd

from r21d_analysis.artifacts.catalog import iter_runs, parse_folders
from r21d_analysis.interpret.source_videos import VideoLocator
from r21d_core import R21DError
from r21d_core.runs.run import SUMMARY, Run
from r21d_core.study.spec import Spec

IDENTITY = ("variant", "modality", "data", "task", "frames")  # fields of a Spec that name the run of its weights


def finished_runs(folders: Sequence[str] | str) -> tuple[list[Run], list[str]]:
    """Return the finished runs of `folders`, and messages of runs that cannot be read and of the unfinished ones.

    `folders` is a list or a text with commas. A run that is in several folders counts once, by its first folder.
    Demonstrations come last.
    """
    runs: dict[Spec, Run] = {}
    messages, begun = [], {}
    for folder in parse_folders(folders):
        for run in iter_runs(folder):
            if not isinstance(run, Run):
                messages.append(f"{run}: cannot be read; move it away")
            elif run.is_complete:
                runs.setdefault(run.spec, run)
            else:
                begun.setdefault(run.spec, run.folder)
    if unfinished := [folder for spec, folder in begun.items() if spec not in runs]:
        messages.append(f"unfinished runs: {len(unfinished)}, such as {unfinished[0]}; run this cell again later")
    return sorted(runs.values(), key=_order), messages


def _order(run: Run) -> tuple:
    return run.spec.profile == "demo", data_label(run.spec), run.spec.modality == "flow", astuple(run.spec)


def data_label(spec: Spec) -> str:
    """Return the data and task of a run; runs with equal labels were evaluated on the same items."""
    return f"{spec.data}, {spec.task}" + (" (demonstration)" if spec.profile == "demo" else "")


def protocol_label(spec: Spec) -> str:
    """Return how a run was evaluated, without its data."""
    flow = " of optical flow" if spec.modality == "flow" else ""
    stride = f"frame stride {spec.frame_stride}"
    return f"{spec.eval_clips} clips of {spec.frames} frames{flow}, {stride}, crop {spec.crop}×{spec.crop}"


def name_runs(specs: Sequence[Spec]) -> list[str]:
    """Return a unique name for each Spec: network and depth, then the fields in which runs of equal names differ."""
    names = pd.Series([spec.network for spec in specs])
    values = pd.DataFrame([asdict(spec) for spec in specs]).astype(str).replace("", "none")
    origins = pd.Series([_origin(spec) for spec in specs])
    for field in sorted(values, key=lambda name: name == "seed"):  # the seed comes last
        differ = values[field].groupby(names).transform("nunique") > 1
        if field == "init_from":
            names = names.mask(differ, names + ", " + origins)
            differ = values[field].groupby(names).transform("nunique") > 1  # origins that this does not tell apart
        names = names.mask(differ, names + f", {field} " + values[field])
    return names.tolist()


def _origin(spec: Spec) -> str:
    """Return from what a run started, with the fields of IDENTITY in which that run differs: "finetuned from speed"."""
    if not spec.init_from:
        return "from scratch"
    start = spec.init_file
    if parent := spec.parent_spec:
        differ = {field: getattr(parent, field) for field in IDENTITY if getattr(parent, field) != getattr(spec, field)}
        start = " ".join(f"{value} frames" if field == "frames" else str(value) for field, value in differ.items())
    return ("finetuned" if spec.epochs else "tested") + f" from {start}" * bool(start)


def run_options(runs: Sequence[Run]) -> list[tuple[str, tuple[Run, ...]]]:
    """Return (name, runs) of each run, and before the first of several seeds those of their mean."""
    groups: dict[Spec, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.spec.replace(seed=0), []).append(run)
    names = dict(zip(runs, name_runs([run.spec for run in runs]), strict=True))
    options: list[tuple[str, tuple[Run, ...]]] = []
    for seeds in groups.values():
        if len(seeds) > 1:
            name = names[seeds[0]].rsplit(", seed ", 1)[0]
            options.append((f"{name}, mean of {len(seeds)} seeds", tuple(seeds)))
        options += [(names[run], (run,)) for run in seeds]
    return options


def find_option(parameter: str, text: str, options: Sequence[str]) -> str:
    """Return the option that a notebook's parameter names, in full or up to its first comma; "" for "".

    Raises R21DError if there is no such option.
    """
    names = {name: option for option in reversed(options) for name in (option.split(",")[0], option)} | {"": ""}
    if text not in names:
        raise R21DError(f"parameter {parameter} = {text!r}: expected one of {', '.join(map(repr, options))}")
    return names[text]


def newest_usable(runs: Sequence[Run], locator: VideoLocator) -> Run | None:
    """Return the newest run whose checkpoint and videos exist."""
    trained = [run for run in runs if run.has_checkpoint]
    trained.sort(key=lambda run: (run.folder / SUMMARY).stat().st_mtime, reverse=True)
    return next((run for run in trained if locator.has_videos(run.spec.data)), None)
