"""Tables of what `r21d bench` measured, drawn from its records alone.

A record is a dict: `machine`, `date`, `command`, and `rows`, each a flat dict with `bench` (what was measured), `what`
(the form) and what came out. Rows of one bench at the same setting are compared with the first of them, or with the
one that says `reference`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from r21d_core import R21DError
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
    "variant": "{}",
    "depth": "{} layers",
    "data": "{}",
    "frames": "{} frames",
    "batch": "batch {}",
    "height": "{} high",
    "width": "{} wide",
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
    """The rows as text, a table for each bench and setting, a line a row, columns aligned.

    `ratio` is of clips a second to the reference's; `of matrix` and `of bandwidth` are the shares of what the
    machine was measured to do.
    """
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["bench"], *(row.get(key) for key in SETTING)), []).append(row)
    return "\n\n".join(_table(compared(machine, group)) for group in groups.values())


def compared(machine: dict, group: Sequence[dict]) -> list[dict]:
    """The rows of one setting with what follows from the others and the machine: `ratio` and the two shares."""
    measured = [row for row in group if row.get("clips_per_second")]
    reference = next((row for row in measured if row.get("reference")), measured[0] if measured else None)
    found = []
    for row in group:
        row = dict(row)
        if reference and row.get("clips_per_second"):
            row["ratio"] = row["clips_per_second"] / reference["clips_per_second"]
        if row.get("tflops") and row["precision"] in machine["matrix_tflops"]:
            row["of_matrix_rate"] = row["tflops"] / machine["matrix_tflops"][row["precision"]]
        if row.get("tb_per_s"):
            row["of_bandwidth"] = row["tb_per_s"] / machine["copy_tb_per_s"]
        found.append(row)
    return found


def _table(group: Sequence[dict]) -> str:
    bench = group[0]["bench"]
    setting = [form.format(group[0][key]) for key, form in SETTING.items() if group[0].get(key) is not None]
    others = dict.fromkeys(key for row in group for key in row if key not in HIDDEN and key not in HEADERS)
    keys = [*HEADERS, *others]
    lines = [[HEADERS.get(key, key.replace("_", " ")) for key in keys]]
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
        return f"{_digits(row['slowest'])}–{_digits(row['fastest'])}" if "slowest" in row else ""
    value = row.get(key)
    if value is None:
        return ""
    if isinstance(value, float) and (key.startswith("of_") or row["bench"].endswith(" time")):
        return f"{value:.1%}"
    return _digits(value) if isinstance(value, float) else str(value)


def _digits(value: float) -> str:
    """Three digits that say something, and all before the point."""
    if not value or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def text_of(record: dict) -> str:
    """All of a record: the machine, what it was measured to do at most, the command, and the tables."""
    machine, packages = record["machine"], record["machine"]["packages"]
    cuda = f", CUDA {machine['cuda']}" if machine["cuda"] else ""
    products = ", ".join(f"{name} products {_digits(rate)} TFLOP/s" for name, rate in machine["matrix_tflops"].items())
    head = [
        f"{machine['device']}, {machine['cores']} cores, PyTorch {packages['torch']}{cuda}, {record['date']}",
        f"measured at most: {products}, copies {_digits(machine['copy_tb_per_s'])} TB/s read and written",
        record["command"],
    ]
    return "\n\n".join(filter(None, ["\n".join(head), tables(machine, record["rows"])]))


def load(path: Path) -> dict:
    """The record at `path`; raises R21DError if it is none."""
    try:
        record = json.loads(path.read_text())
        missing = {"machine", "date", "command", "rows"} - set(record)
    except (OSError, ValueError, TypeError) as error:
        raise R21DError(f"{path}: not a record of `r21d bench --out` ({error})") from error
    if missing:
        raise R21DError(f"{path}: not a record of `r21d bench --out`; {', '.join(sorted(missing))} missing")
    return record


def drawn(text: str, folder: Path) -> str:
    """`text` with what stands between <!-- NAME.json --> and <!-- end --> drawn anew from that record in `folder`.

    Raises R21DError if a record of `folder` has no such place or a place no record.
    """
    places, records = {name for _, name, _ in BLOCK.findall(text)}, {path.name for path in folder.glob("*.json")}
    if places != records:
        one = min(places ^ records)
        lines = f"the two lines <!-- {one} --> and <!-- end -->"
        wanted = f"no record {folder / one} for its place" if one in places else f"no place for it; add {lines}"
        raise R21DError(f"{folder / 'README.md'}: {one}: {wanted}")
    return BLOCK.sub(lambda found: f"{found[1]}```text\n{text_of(load(folder / found[2]))}\n```\n{found[3]}", text)


def redraw(folder: Path) -> Path:
    """The README.md of `folder`, its tables drawn anew from the records beside it."""
    path = folder / "README.md"
    if not path.exists():
        raise R21DError(f"{path}: no such file; run this where benchmarks/ is")
    write_atomically(path, drawn(path.read_text(), folder))
    return path
