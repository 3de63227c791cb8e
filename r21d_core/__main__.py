"""The command line, `r21d …` or `python -m r21d_core …`: a thin front on the library.

Imports stand inside the commands, so that one that needs no torch answers at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from fractions import Fraction
from itertools import chain
from pathlib import Path

from benchmarks.tables import BENCHES
from r21d_core import R21DError
from r21d_core.study.experiments import EXPERIMENTS, RECIPES, IgnoredOverrideError
from r21d_core.study.spec import CHOICES, parse_settings

OWN_OPTION = {
    "data": "--manifest",
    "profile": "--profile",
    "seed": "--seeds",
    "task": "--task",
    "variant": "--variants",
}
DEVICE = "cpu or cuda; default auto, the GPU where there is one"
OFFICIAL = {  # what it is, its lists, whether it has three splits
    "ucf101": ("UCF101", "trainlist01.txt and its like", True),
    "hmdb51": ("HMDB51", "brush_hair_test_split1.txt and its like", True),
    "kinetics": ("Kinetics-400, 600 or 700", "train.csv and validate.csv", False),
    "sports1m": ("Sports-1M", "labels.txt and the two partitions", False),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if it worked, 1 with the reason on standard error if not."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options) or 0
    except R21DError as error:
        if os.environ.get("RANK", "0") == "0":  # of torchrun's processes, which have all met it
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
    one.add_argument("--test-fraction", type=float, default=0.25)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, help="CSV to write; default data/NAME.csv")
    one.set_defaults(command=manifest_folder)
    for name, (what, lists, splits) in OFFICIAL.items():
        one = kinds.add_parser(name, help=f"{what}, by its official lists")
        one.add_argument("directory", type=Path)
        if splits:
            one.add_argument("--split", type=_numbers, default=[1], help="1, 2 or 3, or several, such as 1,2,3")
        one.add_argument("--annotations", type=Path, help=f"where {lists} are; default in or beside the folder")
        one.add_argument("--subset", help="some classes: a name of the set's card, or a file with a class a line")
        one.add_argument("--out", type=Path, help="CSV to write; default data/NAME.csv")
        one.set_defaults(command=manifest_official, layout=name)
    one = kinds.add_parser("validation", help="some of a manifest's training groups to test, for choosing a recipe")
    one.add_argument("manifest", type=Path, help="NAME.csv; NAME-val.csv is written beside it")
    one.set_defaults(command=manifest_validation)

    one = commands.add_parser("check", help="open every video of a manifest once; set aside what does not decode")
    one.add_argument("manifest", type=Path)
    one.add_argument("--workers", type=int)
    one.set_defaults(command=check)

    one = commands.add_parser("prepare", help="code every video of a manifest anew, small and fast to take clips from")
    one.add_argument("manifest", type=Path)
    one.add_argument("--out", type=Path, metavar="DIR", help="for the new manifest and videos; default beside the old")
    one.add_argument("--height", type=int, default=128)
    one.add_argument("--width", type=int, default=172, help="even; frames are scaled to what a run asks for")
    one.add_argument("--fps", type=_fraction, help="frames a second, such as 15 or 30000/1001; default every frame")
    one.add_argument("--gop", type=int, default=12, help="frames from one place to begin decoding at to the next")
    one.add_argument("--crf", type=int, default=20, help="H.264's quality; less is better and larger")
    one.add_argument("--workers", type=int)
    one.set_defaults(command=prepare)

    one = commands.add_parser("flow", help="compute a manifest's optical flow; `train` does it too where it is missing")
    one.add_argument("manifest", type=Path)
    one.add_argument("--height", type=int, default=128, help="of the frames it is computed on")
    one.add_argument("--width", type=int, default=171)
    one.add_argument(
        "--frame-stride", type=int, default=1, help="frames from one to the one compared with; that of the clips"
    )
    one.add_argument("--workers", type=int)
    one.set_defaults(command=flow)

    one = commands.add_parser("train", help="train and evaluate the runs of an experiment that are not done yet")
    one.add_argument("experiment", choices=[*EXPERIMENTS, "all"], help="an artefact's, or all of them")
    one.add_argument("--profile", choices=RECIPES, default="demo", help="recipe and size; default demo")
    one.add_argument("--manifest", type=Path, help="checked CSV; without one, the built-in videos")
    one.add_argument("--task", choices=CHOICES["task"], help="default the experiment's own")
    one.add_argument("--variants", type=_names, help="such as f-R2D,R3D; default the experiment's own")
    one.add_argument("--seeds", type=_numbers, default=[0], help="such as 0,1,2")
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any field of the Spec")
    one.add_argument("--runs", type=Path, default=Path("runs"), help="folder for the run folders; default runs")
    one.add_argument("--device", default="auto", help=DEVICE)
    one.add_argument("--cache", choices=("auto", "device", "host", "stream"), default="auto", help="keep frames here")
    one.add_argument("--workers", type=int, help="decoding processes; default one a core")
    one.add_argument("--gpus", type=int, default=1, help="of this host, on each run; for several see docs/clusters.md")
    one.add_argument("--list", action="store_true", help="number the runs, say which are done, and leave")
    one.add_argument("--index", type=_numbers, metavar="I,J", help="these of the runs, by their numbers in --list")
    one.add_argument("--dry-run", action="store_true", help="say what it would do and cost, and leave")
    one.set_defaults(command=train)
    one = commands.add_parser(
        "weights", help="published weights for these networks: which there are, and fetching them"
    )
    one.add_argument("name", nargs="?", help="all about this one, such as r2plus1d_18")
    one.add_argument("--download", action="store_true", help="fetch it")
    one.add_argument("--cache-dir", type=Path, default=Path("weights"))
    one.set_defaults(command=weights)
    one = commands.add_parser("classify", help="the five likeliest classes of a video of your own")
    one.add_argument("video", type=Path)
    one.add_argument("--weights", required=True, metavar="NAME_OR_PATH", help="published, a file, or a run folder")
    one.add_argument("--clips", type=int, default=10)
    one.add_argument("--frames", type=int, help="clip length; default that of the weights' training")
    one.add_argument(
        "--frame-stride", type=int, help="distance of a clip's frames; default near the training's frame rate"
    )
    one.add_argument("--device", default="auto", help=DEVICE)
    one.add_argument("--cache-dir", type=Path, default=Path("weights"), help="where published weights lie")
    one.set_defaults(command=classify)

    one = commands.add_parser("bench", help="measure how fast all of this is here, beside what else there is")
    one.add_argument("what", nargs="+", choices=[*BENCHES, "all", "tables"],
                     help="all: each of these; tables: draw benchmarks/README.md anew from its records")  # fmt: skip
    one.add_argument("--device", default="auto", help=DEVICE)
    one.add_argument("--variants", type=_names, default=["R(2+1)D", "R3D", "MC3"], help="such as f-R2D,R3D")
    one.add_argument("--depth", type=int, default=18)
    one.add_argument("--frames", type=int, default=16, help="clip length L")
    one.add_argument("--batch-size", type=int, help="clips; default 32, to classify 64, on a CPU 2")
    one.add_argument("--seconds", type=float, default=5.0, help="of measuring each form of each network")
    one.add_argument("--no-compile-peers", action="store_true", help="leave torchvision with torch.compile out")
    one.add_argument("--manifest", type=Path, help="checked CSV for what reads files; else the built-in videos")
    one.add_argument("--out", type=Path, metavar="FILE.json", help="keep the record here")
    one.set_defaults(command=bench)

    one = commands.add_parser("insight", help="look into trained networks; keeps filters and attributions beside them")
    one.add_argument("run", nargs="+", type=Path, help="a run's folder, with its checkpoint")
    one.add_argument(
        "--manifest", type=Path, help="checked CSV of the runs' data; default data/NAME.csv or the built-in videos"
    )
    one.add_argument("--videos", type=_names, default=[], help="to draw maps of: test videos of the manifest, or files")
    one.add_argument("--per-class", type=int, default=5, help="test clips of a class whose evidence is weighed")
    one.add_argument("--device", default="auto", help=DEVICE)
    one.set_defaults(command=insight)

    one = commands.add_parser("report", help="execute the notebooks on the records of results/, all on one page")
    one.add_argument(
        "--out", type=Path, help="folder for notebooks and page; default reports, with --runs RUNS/reports"
    )
    one.add_argument(
        "--runs",
        type=Path,
        help="on these runs instead, training first what is missing, at the cost that `r21d train all --dry-run` says",
    )
    one.add_argument("--profile", choices=RECIPES, default="demo", help="of these runs")
    one.add_argument("--manifest", type=Path, help="their data; without one, the built-in videos")
    one.add_argument("--seeds", type=_numbers, default=[0], help="such as 0,1,2")
    one.set_defaults(command=report)
    return top


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in _names(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected whole numbers such as 0,1,2") from None


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number such as 15 or 30000/1001") from None


def variants(options) -> None:
    from r21d_core.models.cost import format_variants, variants_table

    rows = variants_table(options.depth, options.width, options.frames, options.classes, options.channels)
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        print(f"{options.depth} layers from width {options.width}, clips {options.channels}×{options.frames}×112×112, "
              f"{options.classes} classes")  # fmt: skip
        print(format_variants(rows))


def manifest_folder(options) -> None:
    from r21d_core.data.folder import from_folder

    _write(options.out, from_folder(options.directory, test_fraction=options.test_fraction, seed=options.seed))


def manifest_official(options) -> None:
    from r21d_core.data.hmdb51 import from_hmdb51
    from r21d_core.data.kinetics import from_kinetics
    from r21d_core.data.sports1m import from_sports1m
    from r21d_core.data.ucf101 import from_ucf101

    readers = {"ucf101": from_ucf101, "hmdb51": from_hmdb51, "kinetics": from_kinetics, "sports1m": from_sports1m}
    splits = [{"split": split} for split in options.split] if "split" in options else [{}]
    if options.out and len(splits) > 1:
        raise R21DError(f"--out {options.out}: is one file, and {len(splits)} splits are as many; leave it out")
    for which in splits:
        listing = readers[options.layout](
            options.directory, annotations=options.annotations, subset=options.subset, **which
        )
        print(listing)
        _write(options.out, listing)


def manifest_validation(options) -> None:
    from r21d_core.data.manifest import load_manifest
    from r21d_core.data.val_split import make_val_split

    cut = make_val_split(load_manifest(options.manifest))
    _write(cut.path, cut)


def _write(out: Path | None, listing) -> None:
    from r21d_core.data.manifest import write_manifest
    from r21d_core.data.official_splits import split_counts

    path = out or Path("data") / f"{listing.card.name}.csv"
    write_manifest(path, listing.card, listing.videos)
    sides = ", ".join(f"{count:,} {split}" for split, count in split_counts(listing.videos).items())
    checked = all(video.frames for video in listing.videos)
    print(f"{path}: {len(listing.videos):,} videos of {len(listing.card.classes)} classes ({sides})"
          f"{'' if checked else f'; next: r21d check {path}'}")  # fmt: skip


def check(options) -> None:
    from r21d_core.data.verify import verify_videos

    print(verify_videos(options.manifest, workers=options.workers))


def prepare(options) -> None:
    from r21d_core.data.transcode import EncodeOptions, prepare

    coding = EncodeOptions(options.height, options.width, options.fps, options.gop, options.crf)
    made = prepare(options.manifest, options.out, coding, workers=options.workers)
    print(f"{made}\ntrain on it with --manifest {made.path}; --set frame_width={coding.width} takes frames unscaled")


def flow(options) -> None:
    from r21d_core.data.flow import Farneback, compute_flow, measure_loss
    from r21d_core.data.manifest import load_manifest

    manifest, way = load_manifest(options.manifest), Farneback(options.height, options.width, options.frame_stride)
    made = compute_flow(manifest, way, workers=options.workers)
    size = sum(video.path.stat().st_size for video in made.videos)
    count = sum(video.frames for video in made.videos)
    print(f"{manifest.path.parent / way.folder}: {way}\n{len(made.videos):,} videos, {count:,} fields, "
          f"{size / 1e6:,.0f} MB, {size / count / 1e3:.1f} kB a frame"
          f"\n{measure_loss(manifest, made, way)}")  # fmt: skip


def train(options) -> None:
    settings = parse_settings(options.set)
    for key, option in OWN_OPTION.items():
        if key in settings:
            raise R21DError(f"--set {key}: this one has an option of its own, {option}")
    data = options.manifest.stem if options.manifest else "builtin"
    for key in ("task", "variants"):
        if getattr(options, key):
            settings[key] = getattr(options, key)
    names = EXPERIMENTS if options.experiment == "all" else [options.experiment]
    found = {}
    for name in names:
        try:
            found[name] = EXPERIMENTS[name](options.profile, data, seeds=options.seeds, **settings)
        except IgnoredOverrideError as error:
            if options.experiment != "all":
                raise
            print(f"left out: {error}")
    if options.experiment == "all" and options.manifest:
        for name in [name for name, specs in found.items() if _without_data(specs, options.manifest)]:
            missing = ", ".join(_without_data(found.pop(name), options.manifest))
            print(f"{name} is left out: there is no {missing} beside {options.manifest}")
    specs = list(dict.fromkeys(chain.from_iterable(found.values())))  # one run may serve several artefacts
    chosen = range(len(specs)) if options.index is None else options.index
    if beyond := [number for number in chosen if not 0 <= number < len(specs)]:
        raise R21DError(f"--index {beyond[0]}: there are {len(specs)} runs, from 0 on; --list numbers them")
    if options.list:
        _list(specs, chosen, options.runs)
        return
    specs = [specs[number] for number in chosen]

    from r21d_core.engine.runner import load_manifests, plan, run_experiment
    from r21d_core.runs.metrics import video_at

    if options.dry_run:
        print(plan(specs, load_manifests(specs, options.manifest), options.runs, options.device, options.gpus))
        return
    runs = run_experiment(
        specs, options.manifest, options.runs,
        device=options.device, cache=options.cache, workers=options.workers, gpus=options.gpus,
    )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":
        return
    print(f"{len(runs)} runs done; records in {options.runs}:")
    for run in runs:
        name, right = f"{run.spec.variant}-{run.spec.depth}", video_at(run.scores, 1)
        print(f"  {name:<11} seed {run.spec.seed}  video@1 {right:6.1%}  {run.folder}")


def _list(specs, chosen, folder: Path) -> None:
    from r21d_core.runs.run import find_run

    for number in chosen:
        run = find_run(folder, spec := specs[number])
        state = "done" if run.is_complete else "begun" if run.has_checkpoint else "new"
        start = spec.parent_spec
        after = (
            f", after {specs.index(start)}" if start in specs else f", from {spec.init_from}" if spec.init_from else ""
        )
        what = f"{spec.variant}-{spec.depth}, {spec.frames} frames, {spec.modality}, {spec.data}, seed {spec.seed}"
        print(f"{number:>4}  {state:<5}  {what}{after}  {run.folder}")


def _without_data(specs, manifest: Path) -> list[str]:
    files = dict.fromkeys(manifest.with_name(f"{spec.data}.csv") for spec in specs)
    return [file.name for file in files if not file.exists()]


def weights(options) -> None:
    from r21d_core.models.zoo import describe_published, download, format_published

    if options.download:
        if not options.name:
            raise R21DError("weights --download: name which, such as r2plus1d_18; `r21d weights` lists them")
        download(options.name, options.cache_dir)
    print(describe_published(options.name, options.cache_dir) if options.name else format_published(options.cache_dir))


def classify(options) -> None:
    from r21d_core.engine.classify import classify

    answer = classify(
        options.video, options.weights, clips=options.clips, frames=options.frames, frame_stride=options.frame_stride,
        device=options.device, folder=options.cache_dir,
    )  # fmt: skip
    for name, probability in answer.top:
        print(f"{probability:6.1%}  {name}")
    print(answer.protocol)


def bench(options) -> None:
    if "tables" in options.what:
        from benchmarks.tables import redraw

        print(f"drawn anew: {redraw(Path('benchmarks'))}")
        return
    from benchmarks.run import benchmark

    benchmark(
        BENCHES if "all" in options.what else options.what,
        command=shlex.join(["r21d", *sys.argv[1:]]),
        device=options.device,
        variants=options.variants,
        depth=options.depth,
        frames=options.frames,
        batch_size=options.batch_size,
        seconds=options.seconds,
        compile_peers=not options.no_compile_peers,
        manifest=options.manifest,
        out=options.out,
    )


def insight(options) -> int:
    from r21d_analysis.interpret.compute import load_or_compute_attributions, load_or_compute_filters
    from r21d_core.runs.run import load_runs

    found = []
    for folder in options.run:
        own = [run for run in load_runs(folder.resolve().parent) if run.folder.name == folder.resolve().name]
        if not own:
            inside = load_runs(folder)
            hint = f"; it is a folder of runs: name some, such as {inside[0].folder}" if inside else ""
            raise R21DError(f"{folder}: no run, as it has no spec.json{hint}")
        found += own
    where = {"device": options.device}
    kept = load_or_compute_filters(found, options.manifest, **where)
    kept += load_or_compute_attributions(
        found, options.manifest, videos=options.videos, per_class=options.per_class, **where
    )
    print(f"{len(kept)} of {2 * len(found)} records are there: filters.npz and attributions.npz in each run's folder")
    return int(len(kept) < 2 * len(found))


def report(options) -> None:
    from r21d_analysis.report import make_report, run_suite

    if options.runs:
        seeds = ",".join(map(str, options.seeds))
        out = options.out or options.runs / "reports"
        index = run_suite(out, options.runs, options.profile, options.manifest, seeds)
    else:
        index = make_report(options.out or "reports")
    print(f"everything is on {index}")


if __name__ == "__main__":
    sys.exit(main())
