"""The runs that the explorer offers, and their names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from r21d_analysis.artifacts.catalog import iter_runs, parse_folders
from r21d_analysis.artifacts.confirmatory import PLANNED, family_specs
from r21d_analysis.interpret.source_videos import VideoLocator
from r21d_analysis.statistics.aggregate import without_split
from r21d_core import R21DError, count_noun
from r21d_core.runs.run import SUMMARY, Run
from r21d_core.study.experiments import SPLIT
from r21d_core.study.spec import Spec

Runs = tuple[Run, ...]  # of one network: a run for each seed and split
Pair = tuple[Runs, Runs | None]
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
    return run.spec.profile == "demo", data_label(run.spec), run.spec.modality == "flow", tuple(vars(run.spec).values())


def data_label(spec: Spec, data: str = "") -> str:
    """Return the data, by default the Spec's, and the task of a run."""
    return f"{data or spec.data}, {spec.task}" + (" (demonstration)" if spec.profile == "demo" else "")


def data_sets(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs by the label of their data; those of one label were evaluated on the same items.

    The splits of a data set have a label each, and come first as one, with the seeds of networks that have them all.
    """
    sets: dict[str, list[Run]] = defaultdict(list)
    networks: dict[tuple, list[Run]] = defaultdict(list)
    splits: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        sets[data_label(run.spec)].append(run)
        networks[without_split(run.spec), run.spec.seed].append(run)
        splits[data_label(run.spec, SPLIT.sub("", run.spec.data))].add(run.spec.data)
    pooled: dict[str, list[Run]] = defaultdict(list)
    for members in networks.values():
        data, (spec, *_) = {run.spec.data for run in members}, (run.spec for run in members)
        name = SPLIT.sub("", spec.data)
        if len(data) > 1 and len(members) == len(data) == len(splits[data_label(spec, name)]):
            pooled[data_label(spec, f"{name}, {len(data)} splits")] += members
    return pooled | sets


def protocol_label(spec: Spec) -> str:
    """Return how a run was evaluated, without its data."""
    frames = count_noun(spec.frames, "frame") + " of optical flow" * (spec.modality == "flow")
    clips = f"{count_noun(spec.eval_clips, 'clip')} of {frames}"
    return f"{clips}, frame stride {spec.frame_stride}, crop {spec.crop}×{spec.crop}"


def name_runs(specs: Sequence[Spec]) -> list[str]:
    """Return a unique name for each Spec: network and depth, then the fields in which runs of equal names differ."""
    names = pd.Series([spec.network for spec in specs])
    values = pd.DataFrame([vars(spec) for spec in specs]).astype(str).replace("", "none")
    values = values.loc[:, values.nunique() > 1]
    origins = pd.Series([_origin(spec) for spec in specs])
    order = {"init_from": 0, "epochs": 1, "seed": 3}  # the most telling first
    for field in sorted(values, key=lambda name: order.get(str(name), 2)):
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
        start = " ".join(count_noun(value, "frame") if key == "frames" else str(value) for key, value in differ.items())
    return ("finetuned" if spec.epochs else "tested") + f" from {start}" * bool(start)


def run_options(runs: Sequence[Run]) -> list[tuple[str, tuple[Run, ...]]]:
    """Return (name, runs) of each seed, and before the first of several those of their mean.

    `runs` are those of an entry of `data_sets`; of several splits a seed has a run each.
    """
    several = len({run.spec.data for run in runs}) > 1
    groups: dict[Spec, dict[int, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        network = without_split(run.spec) if several else run.spec.replace(seed=0)
        groups[network][run.spec.seed].append(run)
    firsts = [of_splits[0] for seeds in groups.values() for of_splits in seeds.values()]
    names = dict(zip(firsts, name_runs([run.spec for run in firsts]), strict=True))
    options: list[tuple[str, tuple[Run, ...]]] = []
    for seeds in groups.values():
        of_seeds = [tuple(of_splits) for of_splits in seeds.values()]
        if len(seeds) > 1:
            name = names[of_seeds[0][0]].rsplit(", seed ", 1)[0]
            options.append((f"{name}, mean of {len(seeds)} seeds", sum(of_seeds, ())))
        options += [(names[of_splits[0]], of_splits) for of_splits in of_seeds]
    return options


def choose_pair(values: Sequence[Runs], networks: Sequence[str], previous: tuple[Runs | None, Runs | None]) -> Pair:
    """Return A and B among `values`: the `previous` ones if they are offered, else two of different networks.

    They are the first of `networks` that have runs, those with a checkpoint before others, and of these the two whose
    Specs differ least: a network beside itself by another recipe answers no question. B is None if A is alone.
    """

    def order(value: Runs) -> tuple:
        variant = value[0].spec.variant
        return networks.index(variant) if variant in networks else len(networks), variant, not value[0].has_checkpoint

    def first(values: Sequence[Runs]) -> list[Runs]:
        return [value for value in values if order(value) == min(map(order, values))]

    kept_a, kept_b = ([value for value in values if value == chosen] for chosen in previous)
    choices_a = kept_a or first(values)
    rivals = [value for value in values if value[0].spec.variant != choices_a[0][0].spec.variant]
    choices_b = kept_b if kept_b != kept_a else []
    pairs = [(a, b) for a in choices_a for b in choices_b or first(rivals or values) if a != b]
    return min(pairs, key=lambda pair: len(pair[0][0].spec.changes_from(pair[1][0].spec)), default=(choices_a[0], None))


def find_option(parameter: str, text: str, options: Sequence[str]) -> str:
    """Return the option that a notebook's parameter names, in full or up to its first comma; "" for "".

    Raises R21DError if there is no such option.
    """
    names = {name: option for option in reversed(options) for name in (option.split(",")[0], option)} | {"": ""}
    if text not in names:
        raise R21DError(f"parameter {parameter} = {text!r}: expected one of {', '.join(map(repr, options))}")
    return names[text]


def first_choice(sets: Mapping[str, Sequence[Run]], locator: VideoLocator) -> tuple[str, Spec]:
    """Return the label of `sets`, of `data_sets`, that opens, and a Spec whose protocol does.

    They are those of the newest run whose checkpoint and videos exist, if any; else of the study's primary contrast, of
    all splits if their runs are there; else of the data with most networks. Demonstrations come after these.
    """
    primary = {*family_specs(PLANNED[0])}
    of_study = {label: [run.spec for run in runs if run.spec in primary] for label, runs in sets.items()}

    def rank(label: str) -> tuple[bool, int]:
        runs = sets[label]
        return runs[0].spec.profile != "demo", len({run.spec.variant for run in runs})

    label = max(sets, key=lambda label: (len(of_study[label]), *rank(label)))
    trained = [(label, run) for label, runs in sets.items() for run in runs if run.has_checkpoint]
    trained.sort(key=lambda pair: (pair[1].folder / SUMMARY).stat().st_mtime, reverse=True)
    trained.sort(key=lambda pair: rank(pair[0]) if pair[1].spec.profile == "demo" else (True,), reverse=True)
    for own, run in trained:
        if run.spec.profile == "demo" and of_study[label]:
            break
        if locator.has_videos(run.spec.data):
            return own, run.spec
    return label, (of_study[label] or [run.spec for run in sets[label]])[0]
