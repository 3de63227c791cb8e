"""Open a study from a notebook's parameters: the specs of an experiment, their runs, and what is missing."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shlex
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from r21d_analysis.artifacts.catalog import iter_runs
from r21d_core import R21DError
from r21d_core.runs.run import Run, find_run
from r21d_core.study.experiments import EXPERIMENTS, TABLE_2, as_list
from r21d_core.study.overrides import IgnoredOverrideError
from r21d_core.study.spec import FIELD_OPTIONS, Spec, format_settings, parse_settings, run_labels

MOST_LISTED = 5  # alternatives to the parameters of a study
INJECTED = "# Parameters\n"  # the first line of the cell that papermill adds to a notebook


@dataclass(frozen=True)
class Study:
    """The specs of an experiment, of the networks that are shown, and their runs in `folder`, in the same order."""

    experiment: str
    specs: list[Spec]
    runs: list[Run]
    folder: Path
    manifest: Path | None  # None: the built-in videos
    builtin: Path
    device: str

    def manifest_path(self) -> Path:
        """Return the manifest file; the built-in videos are made on first use."""
        from r21d_core.data.synthetic import make_builtin

        return self.manifest or make_builtin(self.builtin)

    def plan(self) -> str:
        """Return the missing runs with their estimated cost on the device, as text; nothing is trained.

        Where none is missing, it is the cost of all, as if they had not been run.
        """
        from r21d_core.engine.plan import plan

        anew = all(run.is_complete for run in self.runs)
        return plan(self.specs, self.manifest, self.folder, self.device, builtin=self.builtin, anew=anew)


def open_study(
    experiment: str,
    *,
    profile: str = "demo",  # "demo" (built-in videos, CPU, minutes), "small" (real videos, one GPU) or "paper"
    manifest: Path | str | None = None,  # CSV file of `r21d manifest` and `r21d check`; empty: the built-in videos
    source: str = "",  # data set for pretraining in `kinetics` and `transfer`
    splits: Sequence[int] | int | str = "",  # official splits; of variant_comparison, why_2plus1d, transfer
    task: str = "",  # "action", "speed" (playback rate) or "arrow" (direction)
    variants: Sequence[str] | str = "",  # names of networks, or "all" for the twelve of Table 2
    seeds: Sequence[int] | int | str = 0,
    settings: Mapping[str, object] | str = "",  # Spec fields: a dict, JSON or YAML text, or "lr=0.02, epochs=3"
    runs: Path | str = "../runs",  # folder of the runs
    train: bool | str = False,  # train the missing runs; otherwise read the runs that exist
    device: str = "auto",  # "auto", "cpu" or "cuda"
    cache: str = "auto",  # where decoded frames are held: "auto", "device", "host" or "stream"
    gpus: int | str = 1,  # GPUs of this host that share each run
    max_hours: float | str = 12.0,  # train nothing if the estimate exceeds this
    builtin: Path | str = "../data",  # folder of the built-in videos
) -> Study:
    """Return the study of `experiment`, a name in EXPERIMENTS, and print which of its runs are missing.

    Without `train`, networks that have no finished run are left out and named, with the command that trains them,
    unless none has one. Paths are relative to the working directory, which is `notebooks/` for a notebook. Lists may be
    lists, a single value or text such as "0, 1, 2"; empty text stands for the experiment's default. Raises R21DError
    for a value that cannot be read.
    """
    if experiment not in EXPERIMENTS:
        raise R21DError(f"experiment {experiment!r}: expected one of {', '.join(EXPERIMENTS)}")
    limits = {"gpus": _to_number("gpus", gpus, int), "max_hours": _to_number("max_hours", max_hours, float)}
    fields = read_settings(settings)
    variants = list(TABLE_2) if variants == "all" else as_list(variants) if variants else []
    options = {"source": source, "splits": splits, "task": task, "variants": variants}
    options = {name: value for name, value in options.items() if value not in ("", None, [], ())}
    build_specs = partial(EXPERIMENTS[experiment], data=Path(manifest).stem if manifest else "builtin")
    specs, train = build_specs(profile, seeds=as_list(seeds), **options, **fields), _to_bool("train", train)
    finished = [spec for spec in specs if find_run(runs, spec).is_complete]
    if train:
        # With nothing left to train, only a manifest and the GPUs are to check, and PyTorch takes seconds to import.
        if manifest or limits["gpus"] < 1 or finished != specs:
            from r21d_core.engine.runner import run_experiment

            run_experiment(specs, manifest or None, runs, device=device, cache=cache, builtin=builtin, **limits)
    elif not finished:
        given = {name: value for name, value in options.items() if name in ("source", "splits")}
        names = {spec.data for spec in specs}
        alternatives = find_alternatives(partial(build_specs, **given), runs, names)
        print(describe_alternatives(alternatives, runs, names), end="")
        same = [text for (name, kind, text) in alternatives if (name, kind) == (profile, specs[0].task)]
        if len(same) == 1 and not fields:
            others = build_specs(profile, seeds=as_list(seeds), **options, **read_settings(same[0]))
            if finished := [spec for spec in others if find_run(runs, spec).is_complete]:
                print(f'These settings are the only ones of this profile and task, so they are used: "{same[0]}"')
                specs, fields = others, read_settings(same[0])
    parameters, names = {"seeds": as_list(seeds)} | options | fields, dict.fromkeys(spec.variant for spec in specs)
    shown = [name for name in names if name in {spec.variant for spec in finished}]
    without = [name for name in names if name not in shown]
    if shown and without and not train:
        build = partial(build_specs, profile, seeds=as_list(seeds), **fields)
        of_others, parameters = (parameters | _name_networks(build, options, specs, n) for n in (without, shown))
        command = _training_command(experiment, profile, manifest, of_others)
        print(f"Not shown, since no run of theirs is finished: {', '.join(without)}.")
        print(command_line(find_run(runs, specs[0]).folder.parent, command))
        specs = [spec for spec in specs if spec.variant in shown]
    study = Study(
        experiment, specs, [find_run(runs, spec) for spec in specs], Path(runs), Path(manifest) if manifest else None,
        Path(builtin), device,
    )  # fmt: skip
    print(missing_line(study.runs, _training_command(experiment, profile, manifest, parameters)))
    return study


def _name_networks(
    build_specs: Callable[..., list[Spec]], options: Mapping[str, object], specs: Sequence[Spec], names: list[str]
) -> dict[str, list[str]]:
    """Return the parameter `variants` that stands for the networks `names` alone, none if `specs` need all networks.

    Table 4 has flow of its last network, and a setting may have no effect in the other papers' networks.
    """
    alone: list[Spec] = []
    with suppress(IgnoredOverrideError):
        alone = build_specs(**dict(options) | {"variants": names})
    return {"variants": names} if {*alone} == {spec for spec in specs if spec.variant in names} else {}


def _training_command(
    experiment: str, profile: str, manifest: Path | str | None, parameters: Mapping[str, object]
) -> str:
    """Return the command that trains a study's runs, for the folder above the working directory."""
    command = ["r21d", "train", experiment, "--profile", profile]
    if manifest:
        path = manifest if Path(manifest).is_absolute() else os.path.relpath(manifest, "..")
        command += ["--manifest", str(path)]
    for name, value in parameters.items():
        has_option = name in ("task", "variants", "seeds")
        command += [f"--{name}", _to_text(value)] if has_option else ["--set", f"{name}={_to_text(value)}"]
    return shlex.join(command)


def missing_line(runs: Sequence[Run], command: str) -> str:
    """How many of `runs` are finished, and in a second line the command that makes the others, by `command_line`."""
    missing = [run for run in runs if not run.is_complete]
    if not missing:
        return f"{len(runs)} of {len(runs)} runs are finished."
    labels = zip(runs, run_labels([run.spec for run in runs]), strict=True)
    names = ", ".join(label for run, label in labels if not run.is_complete)
    named = f"; missing: {names}" if len(missing) < len(runs) else ""
    count = f"{len(runs) - len(missing)} of {len(runs)} runs are finished{named}"
    return f"{count}\n{command_line(missing[0].folder.parent, command)}"


def command_line(folder: Path | zipfile.Path, command: str) -> str:
    """A line with the `command` that makes runs in `folder`.

    It is for the folder above notebooks/, from which the notebooks see `folder` one level up.
    """
    if isinstance(folder, Path):  # a pack is read only
        path = str(folder if folder.is_absolute() else os.path.relpath(folder, ".."))
        command += f" --runs {shlex.quote(path)}" if path != "runs" else ""
    return f"to make them: {command}"


def find_alternatives(
    build_specs: Callable[..., list[Spec]], runs: Path | str, data: Collection[str]
) -> dict[tuple[str, str, str], list[Run]]:
    """Return the finished runs of the data sets `data` in the folder `runs`, by the parameters that open them.

    These are the profile, the task, and `settings` as text; the ones with the most runs come first. `build_specs` is
    an experiment of these data.
    """
    alternatives = defaultdict(list)
    for run in iter_runs(Path(runs)):
        if not isinstance(run, Run) or not run.is_complete or run.spec.data not in data or run.spec.parent_spec:
            continue
        spec = run.spec
        parameters = {"profile": spec.profile, "task": spec.task, "variants": [spec.variant], "seeds": [spec.seed]}
        try:
            changes = min((spec.changes_from(default) for default in build_specs(**parameters)), key=len)
            if not changes.keys() & FIELD_OPTIONS.keys() and spec in build_specs(**parameters, **changes):
                alternatives[spec.profile, spec.task, format_settings(changes)].append(run)
        except R21DError:  # a profile, task or setting that the experiment does not have
            continue
    return dict(sorted(alternatives.items(), key=lambda item: -len(item[1])))


def describe_alternatives(
    alternatives: Mapping[tuple[str, str, str], Sequence[Run]], runs: Path | str, data: Collection[str]
) -> str:
    """Return lines with the parameters and networks of at most MOST_LISTED alternatives, or else the other data.

    Without a finished run in the folder `runs`, a line with its absolute path: a relative one may be another folder
    than meant, as it depends on the working directory. Empty text where all that are finished are of the same data.
    """
    if not alternatives:
        finished = {run.spec.data for run in iter_runs(Path(runs)) if isinstance(run, Run) and run.is_complete}
        if not finished:
            has = "has no finished run" if Path(runs).exists() else "does not exist"
            return f"The parameter `runs` is {Path(runs).resolve()}, which {has}.\n"
        if not (others := ", ".join(sorted(finished.difference(data)))):
            return ""
        return f"In {runs} other data have finished runs: {others}. The parameter `manifest` chooses them.\n"
    lines = [f"No run with these parameters is finished. In {runs} the same data have finished runs with:"]
    for (profile, task, settings), found in list(alternatives.items())[:MOST_LISTED]:
        variants = ", ".join(dict.fromkeys(run.spec.variant for run in found))
        seeds = ", ".join(map(str, sorted({run.spec.seed for run in found})))
        parameters = f'profile = "{profile}", task = "{task}", seeds = "{seeds}", settings = "{settings}"'
        lines.append(f"  {parameters}: {variants}")
    if len(alternatives) > MOST_LISTED:
        lines.append(f"  and {len(alternatives) - MOST_LISTED} more; `r21d runs` lists all runs of a folder")
    return "\n".join(lines) + "\n"


def read_parameters(namespace: Mapping[str, Any]) -> dict[str, object]:
    """Return the parameters of `open_study` that are variables in `namespace`, after `check_parameters`."""
    names = list(inspect.signature(open_study).parameters)[1:]
    check_parameters(namespace, names)
    return {name: namespace[name] for name in names if name in namespace}


def check_parameters(namespace: Mapping[str, Any], known: Collection[str] = ()) -> None:
    """Raise R21DError if papermill set a variable that is neither in `known` nor assigned by an earlier cell.

    `namespace` is a notebook's `globals()`, where IPython keeps the executed cells as `In`. Papermill only warns about
    unknown names; it sets the given ones in a cell behind the notebook's own cell of parameters.
    """
    declared = set(known)
    for cell in namespace.get("In", ()):
        names = _assigned_names(cell)
        if cell.startswith(INJECTED) and (unknown := sorted(names - declared)):
            close = get_close_matches(unknown[0], declared, 1)
            hint = f"did you mean {close[0]}?" if close else f"the parameters are {', '.join(sorted(declared))}"
            raise R21DError(f"parameter {unknown[0]!r}: this notebook has no such parameter; {hint}")
        declared |= names


def read_settings(settings: Mapping[str, object] | str | None) -> dict[str, object]:
    """Return fields of a Spec from a dict, from JSON or YAML text, or from text such as "lr=0.02, frames=8,16"."""
    wanted = 'parameter settings = {!r}: expected a dict, JSON or YAML text, or "key=value, key=value"'
    fields = settings or {}
    if isinstance(fields, str):
        if re.match(r"\s*\w+\s*=", fields):
            fields = parse_settings(re.split(r"\s*,\s*(?=\w+\s*=)", re.sub(r"\s*=\s*", "=", fields.strip())))
        else:
            try:
                fields = yaml.safe_load(fields) or {}
            except yaml.YAMLError as error:
                raise R21DError(wanted.format(settings)) from error
    if not isinstance(fields, Mapping) or not all(isinstance(key, str) for key in fields):
        raise R21DError(wanted.format(settings))
    for key in fields.keys() & FIELD_OPTIONS.keys():
        raise R21DError(f"parameter settings: {key} has a parameter of its own, {FIELD_OPTIONS[key]}")
    return dict(fields)


def _assigned_names(cell: str) -> set[str]:
    try:
        body = ast.parse(cell).body
    except SyntaxError:
        return set()
    targets = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}


def _to_bool(name: str, value: bool | str) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise R21DError(f"parameter {name} = {value!r}: expected True or False")
    return str(value).lower() == "true"


def _to_number(name: str, value: float | str, kind: type):
    try:
        if kind(value) == float(value):  # 1.5 is no whole number, and nan no number
            return kind(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise R21DError(f"parameter {name} = {value!r}: expected {'a whole number' if kind is int else 'a number'}")


def _to_text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
