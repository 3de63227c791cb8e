"""`r21d runs`: list the runs in folders and packs."""

import json
import sys
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from textwrap import fill

from r21d_core import R21DError, count_noun
from r21d_core.cli.options import add_command, format_table
from r21d_core.study.recipes import get_recipe
from r21d_core.study.spec import FIELD_OPTIONS, format_settings
from r21d_core.study.variants import NEIGHBORS, NETWORKS, absent_fields

COLUMNS, ACCURACY = ("network", "seed", "state", "folder"), "video@1"


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "runs", "list the runs in folders, with their settings and states")
    add = parser.add_argument
    add("folders", nargs="*", type=Path, default=[Path("runs")], help="folders of runs, or packs; default runs")
    add("--data", metavar="NAME", help="list only the runs of this data set")
    add("--accuracy", action="store_true", help="also read and print video@1 on the test videos")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(options) -> int:
    from r21d_core.runs.run import Run, read_spec, spec_files

    rows, failed = [], False
    paths: list[Path] = []
    for folder in options.folders:
        try:
            paths += spec_files(folder)
            if folder != Path("runs") and not folder.exists():
                raise R21DError(f"{folder}: no such folder or pack")
        except R21DError as error:
            failed = True
            print(f"r21d: {error}", file=sys.stderr)
    for path in paths:
        try:
            spec = read_spec(path)
            if spec.data == (options.data or spec.data):
                rows.append(describe(Run(spec, path.parent), options.accuracy))
        except R21DError as error:
            failed = True
            print(f"r21d: {error}", file=sys.stderr)
    places = {variant: place for place, variant in enumerate((*NETWORKS, *NEIGHBORS))}
    rows.sort(key=lambda row: (places.get(row["variant"], len(places)), row["depth"], row["seed"]))
    rows.sort(key=lambda row: (row["data"], row["profile"], row["task"], format_settings(_settings(row))))
    if options.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        print(format_runs(rows))
    elif not failed:
        print(f"no runs{f' of {options.data}' if options.data else ''} in {', '.join(map(str, options.folders))}")
    return int(failed)


def describe(run, accuracy: bool = False) -> dict:
    """What is listed of a run: `epoch` is the last finished one, and with `accuracy` the result on the test videos.

    That is a fraction, or None of an unfinished run. It is read only if asked for: who lists runs may be in the middle
    of a study whose test results nobody should see yet. `spec_folder` is the name of the folder in which `train` looks
    for the run. `settings` are the fields that differ from the recipe, without those that have an option of their own
    and those that the network does not have.
    """
    spec = run.spec
    changes = spec.changes_from(get_recipe(spec.profile, spec.task, spec.data))
    without = {*FIELD_OPTIONS, *absent_fields(spec.variant)}
    settings = {key: value for key, value in changes.items() if key not in without}
    settings |= {"init_from": spec.parent_spec.folder} if spec.parent_spec else {}
    return {
        "data": spec.data, "profile": spec.profile, "task": spec.task, "network": spec.network, "variant": spec.variant,
        "depth": spec.depth, "seed": spec.seed, "state": run.state, "epoch": len(run.history), "epochs": spec.epochs,
        "settings": settings, "folder": str(run.folder).rstrip("/"), "spec_folder": spec.folder,
    } | ({ACCURACY: _video_at_1(run)} if accuracy else {})  # fmt: skip


def _video_at_1(run) -> float | None:
    from r21d_core.runs.metrics import video_at

    if not run.is_complete:
        return None
    accuracies = run.summary.get("accuracies_before_quantization")  # in a pack, where they are faster to read
    return accuracies[ACCURACY] if accuracies else video_at(run.scores, 1)


def format_runs(rows: Sequence[dict]) -> str:
    """Sorted rows of `describe` as text for a terminal of 120 columns, in groups of equal settings.

    What all runs share stands once above them, and above each group what differs.
    """
    columns = (*COLUMNS[:-1], ACCURACY, COLUMNS[-1]) if ACCURACY in rows[0] else COLUMNS
    cells = [[texts[column] for column in columns] for texts in map(_format, rows)]
    header, *lines = format_table(columns, cells, right=("seed", ACCURACY)).splitlines()
    settings = [_settings(row) for row in rows]
    shared = {key: value for key, value in settings[0].items() if all(own.get(key) == value for own in settings)}
    title = f"{count_noun(len(rows), 'run')}{' with ' * bool(shared)}{format_settings(shared)}"
    shown = [fill(title, 120, subsequent_indent="  "), header]
    for own, members in groupby(zip(settings, lines, strict=True), key=itemgetter(0)):
        if heading := format_settings({key: value for key, value in own.items() if key not in shared}):
            shown += ["", fill(heading, 120, subsequent_indent="  ")]
        shown += [line for _, line in members]
    what = "printed are the settings that differ from the recipe of the profile, task and data set, as --set takes them"
    return "\n".join([*shown, "", what])


def _settings(row: dict) -> dict:
    """The data, profile, task and settings of a row, without `init_from`, which each seed has of its own."""
    own = {key: row[key] for key in ("data", "profile", "task")} | row["settings"]
    return {key: value for key, value in own.items() if key != "init_from"}


def _format(row: dict) -> dict[str, str]:
    source, folder = row["settings"].get("init_from"), row["folder"]
    if row["spec_folder"] != folder.rpartition("/")[2]:  # as of a run by letters that have a name now
        folder += f", which train expects as {row['spec_folder']}"
    texts = {
        "state": row["state"] if row["state"] == "finished" else f"{row['state']} {row['epoch']}/{row['epochs']}",
        ACCURACY: "" if row.get(ACCURACY) is None else f"{row[ACCURACY]:.1%}",
        "folder": f"{folder} from {source}" if source else folder,
    }
    return {column: str(value) for column, value in (row | texts).items()}
