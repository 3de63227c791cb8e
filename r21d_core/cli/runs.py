"""`r21d runs`: list the runs in folders and packs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from r21d_core import R21DError
from r21d_core.cli.options import format_table
from r21d_core.study.recipes import get_recipe
from r21d_core.study.spec import FIELD_OPTIONS, Spec, format_settings
from r21d_core.study.variants import VARIANTS

COLUMNS = ("data", "profile", "task", "network", "seed", "state", "video@1", "folder", "settings")


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser("runs", help="list the runs in folders, with their settings, states and results")
    add = parser.add_argument
    add("folders", nargs="*", type=Path, default=[Path("runs")], help="folders of runs, or packs; default runs")
    add("--data", metavar="NAME", help="list only the runs of this data set")
    add("--json", action="store_true", help="print JSON instead of a table")


def run(options) -> int:
    rows, failed = [], False
    for folder in options.folders:
        found, errors = list_runs(folder, options.data)
        rows += found
        for error in errors:
            print(f"r21d: {error}", file=sys.stderr)
        failed |= bool(errors)
    if options.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        print(format_table(COLUMNS, [_format_row(row) for row in rows], right=("seed", "video@1")))
        print("settings: those that differ from the recipe of the profile, task and data set, as --set takes them")
    else:
        print(f"no runs{f' of {options.data}' * bool(options.data)} in {', '.join(map(str, options.folders))}")
    return int(failed)


def list_runs(folder: Path, data: str = "") -> tuple[list[dict], list[R21DError]]:
    """A dict for each run in `folder`, sorted by data, settings, network and seed; and the errors of damaged runs.

    `settings` are those that differ from the recipe; `epoch` is the last finished one; `video@1` is a fraction, and
    None before the run is finished.
    """
    from r21d_core.runs.run import Run, read_spec, spec_files

    rows, errors = [], []
    for path in spec_files(folder):
        try:
            spec = read_spec(path)
            if not data or spec.data == data:
                rows.append(_describe(Run(spec, path.parent)))
        except R21DError as error:
            errors.append(error)
    return sorted(rows, key=_order), errors


def changed_settings(spec: Spec) -> dict:
    """The fields in which `spec` differs from the recipe of its profile, task and data, but those with an option."""
    changes = spec.changes_from(get_recipe(spec.profile, spec.task, spec.data))
    changes = {key: value for key, value in changes.items() if key not in FIELD_OPTIONS}
    return changes | ({"init_from": spec.parent_spec.folder} if spec.parent_spec else {})


def _describe(run) -> dict:
    from r21d_core.runs.metrics import video_at

    spec = run.spec
    row = {"data": spec.data, "profile": spec.profile, "task": spec.task, "network": spec.variant, "depth": spec.depth}
    row |= {
        "seed": spec.seed,
        "state": run.state,
        "settings": changed_settings(spec),
        "folder": str(run.folder).rstrip("/"),
    }
    row |= {"epoch": len(run.history), "epochs": spec.epochs}
    exact = run.summary.get("accuracies_before_quantization") if run.is_complete else None  # of a pack
    return row | {"video@1": (exact or {"video@1": video_at(run.scores, 1)})["video@1"] if run.is_complete else None}


def _order(row: dict) -> tuple:
    networks = list(VARIANTS)
    place = networks.index(row["network"]) if row["network"] in networks else len(networks)
    return row["data"], row["profile"], row["task"], format_settings(row["settings"]), place, row["depth"], row["seed"]


def _format_row(row: dict) -> Sequence[str]:
    epochs = "" if row["state"] == "finished" else f" {row['epoch']}/{row['epochs']}"
    values = row | {"network": f"{row['network']}-{row['depth']}", "state": row["state"] + epochs}
    values["video@1"] = "" if row["video@1"] is None else f"{row['video@1']:.1%}"
    values["settings"] = format_settings(row["settings"])
    return [str(values[column]) for column in COLUMNS]
