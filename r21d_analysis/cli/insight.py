"""`r21d insight`: compute the filter statistics and attributions of trained networks."""

from pathlib import Path

from r21d_core import R21DError
from r21d_core.cli.options import DEVICE, add_command
from r21d_core.study.experiments import as_list


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "insight", "compute filter statistics and attributions of trained networks")
    add = parser.add_argument
    add("run", nargs="+", type=Path, help="run folder with its checkpoint")
    add("--manifest", type=Path, help="CSV file of the runs' videos; default: data/NAME.csv or the built-in videos")
    add("--videos", type=as_list, default=[], help="videos to draw maps of: test videos of the manifest, or files")
    add("--per-class", type=int, default=5, help="test clips of each class for the measurement of evidence; default 5")
    add("--steps", type=int, default=32, help="steps of integrated gradients; default 32")
    less = "leave out the clips that are optimized for filters, most of the time on a CPU"
    add("--no-optimize", dest="optimize", action="store_false", help=less)
    add("--device", **DEVICE)


def run(options) -> int:
    print("loading PyTorch and Captum …", flush=True)
    from r21d_analysis.interpret.inspect_run import ATTRIBUTIONS, FILTERS, load_or_compute
    from r21d_core.runs.run import Run, load_runs, read_spec, spec_files

    runs = []
    for folder in options.run:
        if folder.is_file():
            raise R21DError(
                f"{folder}: a file, expected a run folder; for weights, `r21d train variant_comparison --set epochs=0 "
                f"--set init_from={folder}` with their --variants and --manifest makes one, which is evaluated only"
            )
        path = folder.resolve()
        matches = [Run(read_spec(spec), path) for spec in spec_files(path.parent) if spec.parent.name == path.name]
        if not matches:
            inside = load_runs(folder)
            hint = f"; it is a folder of runs: name some, such as {inside[0].folder}" if inside else ""
            raise R21DError(f"{folder}: not a run folder, as it has no spec.json{hint}")
        runs += matches
    records = load_or_compute(FILTERS, runs, options.manifest, device=options.device, optimize=options.optimize)
    settings = {"videos": options.videos, "per_class": options.per_class, "steps": options.steps}
    records += load_or_compute(ATTRIBUTIONS, runs, options.manifest, device=options.device, **settings)
    n_expected = 2 * len(runs)
    print(f"{len(records)} of {n_expected} records exist: filters.npz and attributions.npz in each run's folder")
    if options.videos:
        print(
            "attributions.npz has the maps of these videos: overlay_figure([load_record(PATH)], VIDEO) of "
            "r21d_analysis.interpret draws them (docs/howto.md, 'See what a class rests on'); the notebook "
            "attributions, with the same videos, per_class and steps, draws the tests of them too"
        )
    return int(len(records) < n_expected)
