"""The command line, `r21d …` or `python -m r21d_core …`: a thin front on the library.

Imports stand inside the commands, so that one that needs no torch answers at once.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import chain
from pathlib import Path

from r21d_core import R21DError
from r21d_core.study.experiments import EXPERIMENTS, RECIPES
from r21d_core.study.spec import CHOICES, parse_settings

OWN_OPTION = {
    "data": "--manifest",
    "profile": "--profile",
    "seed": "--seeds",
    "task": "--task",
    "variant": "--variants",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if it worked, 1 with the reason on standard error if not."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except R21DError as error:
        print(f"r21d: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("r21d: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser("r21d", description="Redo, look into and go past the R(2+1)D study.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("variants", help="parameters, multiply-adds and output size of the twelve networks")
    one.add_argument("--depth", type=int, default=18)
    one.add_argument("--width", type=int, default=64)
    one.add_argument("--frames", type=int, default=8, help="clip length L")
    one.add_argument("--classes", type=int, default=400)
    one.add_argument("--channels", type=int, default=3)
    one.add_argument("--json", action="store_true")
    one.set_defaults(command=variants)

    kinds = commands.add_parser("manifest", help="list a folder's videos with labels and splits").add_subparsers(
        required=True, metavar="LAYOUT"
    )
    one = kinds.add_parser("folder", help="a folder of class folders, or of train/ and test/ with class folders")
    one.add_argument("directory", type=Path)
    one.add_argument("--test-share", type=float, default=0.25)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, help="CSV to write; default data/NAME.csv")
    one.set_defaults(command=manifest_folder)
    one = kinds.add_parser("ucf101", help="UCF101, by its official lists or by its rule of groups")
    one.add_argument("directory", type=Path)
    one.add_argument("--split", type=int, default=1, help="1, 2 or 3")
    one.add_argument("--lists", type=Path, help="folder of trainlist01.txt and its like")
    one.add_argument("--out", type=Path, help="CSV to write; default data/NAME.csv")
    one.set_defaults(command=manifest_ucf101)

    one = commands.add_parser("check", help="open every video of a manifest once; set aside what does not decode")
    one.add_argument("manifest", type=Path)
    one.add_argument("--workers", type=int)
    one.set_defaults(command=check)

    one = commands.add_parser("train", help="train and evaluate the runs of an experiment that are not done yet")
    one.add_argument("experiment", choices=[*EXPERIMENTS, "all"], help="an artefact's, or all of them")
    one.add_argument("--profile", choices=RECIPES, default="demo")
    one.add_argument("--manifest", type=Path, help="checked CSV; without one, the built-in videos")
    one.add_argument("--task", choices=CHOICES["task"], help="default the experiment's own")
    one.add_argument("--variants", type=_names, help="such as f-R2D,R3D; default the experiment's own")
    one.add_argument("--seeds", type=_numbers, default=[0], help="such as 0,1,2")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any field of the Spec")
    one.add_argument("--runs", type=Path, default=Path("runs"))
    one.add_argument("--device", default="auto")
    one.add_argument("--where", choices=("auto", "device", "host", "stream"), default="auto", help="keep frames here")
    one.add_argument("--workers", type=int, help="decoding processes; default one a core")
    one.add_argument("--plan", action="store_true", help="say what it would do and cost, and leave")
    one.set_defaults(command=train)
    one = commands.add_parser("report", help="execute the notebooks on the records of results/, all on one page")
    one.add_argument("--out", type=Path, default=Path("reports"))
    one.set_defaults(command=report)
    return top


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in _names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected whole numbers such as 0,1,2") from None


def variants(options) -> None:
    from r21d_core.nets.cost import format_variants, variants_table

    rows = variants_table(options.depth, options.width, options.frames, options.classes, options.channels)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{options.depth} layers from width {options.width}, clips {options.channels}×{options.frames}×112×112, "
              f"{options.classes} classes")  # fmt: skip
        print(format_variants(rows))


def manifest_folder(options) -> None:
    from r21d_core.data.layouts import from_folder

    _write(options, *from_folder(options.directory, test_share=options.test_share, seed=options.seed))


def manifest_ucf101(options) -> None:
    from r21d_core.data.layouts import from_ucf101

    _write(options, *from_ucf101(options.directory, split=options.split, lists=options.lists))


def _write(options, card, videos) -> None:
    from r21d_core.data.manifest import write_manifest

    path = options.out or Path("data") / f"{card.name}.csv"
    write_manifest(path, card, videos)
    sides = ", ".join(f"{count} {split}" for split, count in card.expected.items())
    print(f"{path}: {len(videos)} videos of {len(card.classes)} classes ({sides}); next: r21d check {path}")


def check(options) -> None:
    from r21d_core.data.index import check

    print(check(options.manifest, workers=options.workers))


def train(options) -> None:
    from r21d_core.engine.launch import open_data, plan, run_all
    from r21d_core.results.metrics import video_at

    settings = parse_settings(options.set)
    for key, option in OWN_OPTION.items():
        if key in settings:
            raise R21DError(f"--set {key}: this one has an option of its own, {option}")
    data = options.manifest.stem if options.manifest else "builtin"
    for key in ("task", "variants"):
        if getattr(options, key):
            settings[key] = getattr(options, key)
    names = EXPERIMENTS if options.experiment == "all" else [options.experiment]
    found = (EXPERIMENTS[name](options.profile, data, seeds=options.seeds, **settings) for name in names)
    specs = list(dict.fromkeys(chain.from_iterable(found)))  # one run may serve several artefacts
    if options.plan:
        print(plan(specs, open_data(specs, options.manifest), options.runs, options.device))
        return
    runs = run_all(
        specs, options.manifest, options.runs, device=options.device, where=options.where, workers=options.workers
    )
    print(f"{len(runs)} runs done; records in {options.runs}:")
    for run in runs:
        name, right = f"{run.spec.variant}-{run.spec.depth}", video_at(run.scores, 1)
        print(f"  {name:<11} seed {run.spec.seed}  video@1 {right:6.1%}  {run.folder}")


def report(options) -> None:
    from r21d_core.report import make_report

    print(f"everything is on {make_report(options.out)}")


if __name__ == "__main__":
    sys.exit(main())
