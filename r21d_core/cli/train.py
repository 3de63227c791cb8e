"""`r21d train`: train and evaluate the runs of an experiment."""

import os
import sys
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from r21d_core import R21DError, count_noun
from r21d_core.cli.options import DEVICE, SEEDS, WORKERS, add_command, format_table, parse_ints
from r21d_core.study.experiments import EXPERIMENTS, as_list
from r21d_core.study.overrides import IgnoredOverrideError
from r21d_core.study.recipes import RECIPES
from r21d_core.study.spec import CHOICES, FIELD_OPTIONS, Spec, parse_settings
from r21d_core.study.variants import is_imported


def add_parser(subparsers) -> None:
    lines = [f"  {name}: {str(function.__doc__).splitlines()[0]}" for name, function in EXPERIMENTS.items()]
    parser = add_command(
        subparsers, "train", "train and evaluate the runs of an experiment that are not complete",
        epilog="\n".join(["experiments:", *lines]), formatter_class=RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("experiment", choices=[*EXPERIMENTS, "all"], metavar="EXPERIMENT", help="one of those below, or all of them")
    add("--profile", choices=RECIPES, default="demo", help="recipe and network size, see the glossary; default demo")
    add("--manifest", type=Path, help="CSV file of `r21d manifest` and `r21d check`; default: the built-in videos")
    add("--task", choices=CHOICES["task"], help="labels: class, playback rate or direction; default: the experiment's")
    add("--variants", type=as_list, help="networks, such as f-R2D,R3D or my_nets:build; default: the experiment's")
    add("--seeds", **SEEDS)
    several = "set a field of the Spec, such as lr=0.02; may be repeated"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=several)
    add("--runs", type=Path, default=Path("runs"), help="folder of the run folders; default runs")
    add("--device", **DEVICE)
    caches = ("auto", "device", "host", "stream")
    place = "keep decoded frames on the GPU (device), in memory (host) or nowhere (stream); default auto"
    add("--cache", choices=caches, default="auto", help=place)
    add("--workers", **WORKERS)
    add("--gpus", type=int, default=1, help="GPUs of this host per run; default 1; several hosts: docs/clusters.md")
    add("--log", choices=("tensorboard",), default="", help="also write the history for TensorBoard")
    add("--list", action="store_true", help="list the runs with their index and state, and exit")
    add("--index", type=parse_ints, metavar="I,J", help="train only the runs with these indices of --list")
    add("--dry-run", action="store_true", help="print the runs and their estimated time, and exit")


def run(options) -> None:
    from r21d_core.engine.plan import check_builtin, plan

    specs = collect_specs(options)
    indices = range(len(specs)) if options.index is None else options.index
    if beyond := [index for index in indices if not 0 <= index < len(specs)]:
        raise R21DError(f"--index {beyond[0]}: expected 0 to {len(specs) - 1}; --list has them")
    if options.list:
        if not options.manifest:
            check_builtin(specs)
        _print_list(specs, indices, options.runs)
        return
    specs = [specs[index] for index in indices]
    if any(is_imported(spec.variant) for spec in specs):
        sys.path.append(os.getcwd())  # as `python -m` and notebooks have it

    if options.dry_run:
        print(plan(specs, options.manifest, options.runs, options.device, options.gpus))
        return

    from r21d_core.data.parallel import is_first_process
    from r21d_core.engine.runner import run_experiment
    from r21d_core.runs.metrics import video_at

    runs = run_experiment(
        specs, options.manifest, options.runs,
        device=options.device, cache=options.cache, workers=options.workers, gpus=options.gpus,
        log=options.log,
    )  # fmt: skip
    if not is_first_process():
        return
    print(f"{count_noun(len(runs), 'run is', 'runs are')} finished; records in {options.runs}:")
    name_width, seed_width = (
        max((len(str(getattr(run.spec, key))) for run in runs), default=0) for key in ("network", "seed")
    )
    for run in runs:
        accuracy, count = video_at(run.scores, 1), len(set(run.scores.groups))
        name = f"{run.spec.network:<{name_width}} seed {run.spec.seed:>{seed_width}}"
        print(f"  {name}  video@1 {accuracy:6.1%} on {count} test recordings  {run.folder}")


def collect_specs(options) -> list[Spec]:
    """The Specs of the experiment, or of all experiments with the runs they share listed once.

    With `all`, experiments that do not take an option or whose data are missing are skipped with a message.
    """
    settings: dict = parse_settings(options.set)
    for key, option in (FIELD_OPTIONS | {option: option for option in FIELD_OPTIONS.values()}).items():
        if key in settings:
            raise R21DError(f"--set {key}: use the option --{option} instead")
    settings |= {key: value for key in ("task", "variants") if (value := getattr(options, key))}
    data = options.manifest.stem if options.manifest else "builtin"
    if options.experiment != "all":
        return EXPERIMENTS[options.experiment](options.profile, data, seeds=options.seeds, **settings)
    selected: list[Spec] = []
    for name, experiment in EXPERIMENTS.items():
        try:
            specs = experiment(options.profile, data, seeds=options.seeds, **settings)
        except IgnoredOverrideError as error:
            print(f"skipped: {error}")
            continue
        files = dict.fromkeys(f"{spec.data}.csv" for spec in specs if options.manifest)
        if missing := [file for file in files if not options.manifest.with_name(file).exists()]:
            print(f"skipped: {name} needs {', '.join(missing)} beside {options.manifest}")
        else:
            selected += specs
    return list(dict.fromkeys(selected))


def _print_list(specs: Sequence[Spec], indices: Sequence[int], folder: Path) -> None:
    from r21d_core.runs.run import find_run

    rows = []
    for index in indices:
        run = find_run(folder, spec := specs[index])
        init = f", from {spec.init_from}" if spec.init_from else ""
        if spec.parent_spec in specs:
            init = f", after {specs.index(spec.parent_spec)}"
        name = f"{spec.network}, {count_noun(spec.frames, 'frame')}, {spec.modality}, {spec.data}, seed {spec.seed}"
        rows.append((str(index), run.state, name + init, str(run.folder)))
    print(format_table(("index", "state", "run", "folder"), rows, right=["index"]))
