"""Tables of the records of `r21d bench`.

A record is a dict with `machine`, `date`, `command` and `rows`. A row is a flat dict with `bench`, `what` (the
implementation) and the measured values. Rows of a bench in the same setting are compared with the one that has
`reference`, or else with the first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from r21d_core import R21DError, count_noun
from r21d_core.runs.files import write_atomically

BENCHES = ("train", "infer", "memory", "evaluate", "decode", "loader", "scaling", "explorer")
TITLES = {
    "train": "Training",
    "train time": "Where a training step's time goes",
    "infer": "Classifying",
    "infer time": "Where the time of classifying goes",
    "memory": "Training on clips from memory",
    "stream": "Training on clips from files",
    "evaluate": "Evaluating from files",
    "decode": "Decoding",
    "decode time": "Where the time of our decoding goes",
    "loader": "Loading",
    "scaling": "Training on several GPUs",
    "explorer": "The explorer's answers, drawing included",
}
SETTING = {
    "variant": str,
    "depth": "{} layers".format,
    "data": str,
    "frames": lambda frames: count_noun(frames, "frame"),
    "batch": "batch {}".format,
    "height": "{} high".format,
    "width": "{} wide".format,
}
HEADERS = {
    "what": "",
    "precision": "",
    "clips_per_second": "clips/s",
    "rounds": "of rounds",
    "ratio": "ratio",
    "gmac": "GMAC",
    "tflops": "TFLOP/s",
    "of_matrix_rate": "of matrix",
    "of_bandwidth": "of bandwidth",
    "peak_gib": "GiB",
    "first_step_s": "1st step",
}
HIDDEN = {"bench", "reference", "slowest", "fastest", "tb_per_s", "failed", *SETTING}
BLOCK = re.compile(r"(<!-- (\S+\.json) -->\n).*?(<!-- end -->)", re.S)


def tables(machine: dict, rows: Sequence[dict]) -> str:
    """Return the rows as text: a table with aligned columns for each bench and setting.

    `ratio` divides clips per second by the reference's. `of matrix` and `of bandwidth` are fractions of the machine's
    measured peak rates.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["bench"], *(row.get(key) for key in SETTING)), []).append(row)
    return "\n\n".join(_table(add_ratios(machine, group)) for group in groups.values())


def add_ratios(machine: dict, group: Sequence[dict]) -> list[dict]:
    """Return the rows of one setting with `ratio` and the fractions of the machine's peak rates."""
    measured = [row for row in group if row.get("clips_per_second")]
    reference = next((row for row in measured if row.get("reference")), measured[0] if measured else None)
    rows = []
    for row in group:
        row = dict(row)
        if reference and row.get("clips_per_second"):
            row["ratio"] = row["clips_per_second"] / reference["clips_per_second"]
        if row.get("tflops") and row["precision"] in machine["matrix_tflops"]:
            row["of_matrix_rate"] = row["tflops"] / machine["matrix_tflops"][row["precision"]]
        if row.get("tb_per_s"):
            row["of_bandwidth"] = row["tb_per_s"] / machine["copy_tb_per_s"]
        rows.append(row)
    return rows


def _table(group: Sequence[dict]) -> str:
    bench = group[0]["bench"]
    setting = [text_of(group[0][key]) for key, text_of in SETTING.items() if group[0].get(key) is not None]
    others = dict.fromkeys(key for row in group for key in row if key not in HIDDEN and key not in HEADERS)
    keys = [*HEADERS, *others]
    spelled = {"optimiser": "optimizer"}  # the records' spelling: the tables'
    lines = [[HEADERS.get(key, spelled.get(key, key.replace("_", " "))) for key in keys]]
    lines += [[_cell(key, row) for key in keys] for row in group]
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    text = [": ".join(filter(None, [TITLES.get(bench, bench), ", ".join(setting)]))]
    for what, *cells in zip(*columns, strict=True):
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        text.append("  ".join([what.ljust(widths[0]), *right]).rstrip())
    text += [f"{row['what']} did not run: {row['failed']}" for row in group if row.get("failed")]
    return "\n".join(text)


def _cell(key: str, row: dict) -> str:
    if key == "rounds":
        return f"{_format_number(row['slowest'])}–{_format_number(row['fastest'])}" if "slowest" in row else ""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, float) and (key.startswith("of_") or row["bench"].endswith(" time")):
        return f"{value:.1%}"
    return _format_number(value) if isinstance(value, float) else str(value)


def _format_number(value: float) -> str:
    """Return three significant digits, and all before the decimal point."""
    if not value or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def format_record(record: dict) -> str:
    """Return a record as text: the machine, its peak rates, the command and the tables."""
    machine, packages = record["machine"], record["machine"]["packages"]
    cuda = f", CUDA {machine['cuda']}" if machine["cuda"] else ""
    rates = machine["matrix_tflops"].items()
    products = ", ".join(f"{name} products {_format_number(rate)} TFLOP/s" for name, rate in rates)
    head = [
        f"{machine['device']}, {machine['cores']} cores, PyTorch {packages['torch']}{cuda}, {record['date']}",
        f"measured at most: {products}, copies {_format_number(machine['copy_tb_per_s'])} TB/s read and written",
        record["command"],
    ]
    return "\n\n".join(filter(None, ["\n".join(head), tables(machine, record["rows"])]))


def load(path: Path) -> dict:
    """Return the record at `path`; raises R21DError if it is not one."""
    try:
        record = json.loads(path.read_text())
        if missing := {"machine", "date", "command", "rows"} - set(record):
            raise ValueError(f"{', '.join(sorted(missing))} missing")
    except (OSError, ValueError, TypeError) as error:
        raise R21DError(f"{path}: not a record of `r21d bench --out` ({error})") from error
    return record


def draw_tables(text: str, folder: Path) -> str:
    """Return `text` with each block from <!-- NAME.json --> to <!-- end --> drawn again from that record in `folder`.

    Raises R21DError if a record has no block or a block has no record.
    """
    places, records = {name for _, name, _ in BLOCK.findall(text)}, {path.name for path in folder.glob("*.json")}
    if places != records:
        name = min(places ^ records)
        lines = f"the two lines <!-- {name} --> and <!-- end -->"
        problem = f"no record {folder / name}" if name in places else f"no place for it; add {lines}"
        raise R21DError(f"README.md: {name}: {problem}")
    return BLOCK.sub(lambda m: f"{m[1]}```text\n{format_record(load(folder / m[2]))}\n```\n{m[3]}", text)


def redraw_readme(folder: Path) -> Path:
    """Draw the tables of the README.md in `folder` again from the files in `folder`/records; return its path."""
    path = folder / "README.md"
    if not path.exists():
        raise R21DError(f"{path}: no such file; run this where benchmarks/ is")
    write_atomically(path, draw_tables(path.read_text(), folder / "records"))
    return path
