"""The paper's own numbers, Tables 2 to 6, as they are printed there."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from r21d_core import R21DError


def paper(table: int, row: str, column: str) -> float:
    """The value that a table of the paper prints, accuracies in per cent; raises R21DError if it prints none there.

    Rows and columns carry the paper's names: of Table 2, on Kinetics' validation set, the columns `parameters (M)` and
    `clip@1`, `video@1` with `8f` or `16f`; of Table 3 the rows `8`, `8 tested at 32`, `32` and `8 finetuned at 32`; in
    Tables 5 and 6 a row's name ends with what it was pretrained on, such as `R(2+1)D-RGB (Sports-1M)`.
    """
    try:
        return _values()[table, row, column]
    except KeyError:
        raise R21DError(f"the paper's Table {table} has no {column!r} of {row!r}") from None


def paper_table(table: int) -> dict[str, dict[str, float]]:
    """The rows of a table in the paper's order, a dict of columns each; empty cells are left out."""
    rows: dict[str, dict[str, float]] = {}
    for (number, row, column), value in _values().items():
        if number == table:
            rows.setdefault(row, {})[column] = value
    return rows


@cache
def _values() -> dict[tuple[int, str, str], float]:
    lines = csv.DictReader(files(__package__).joinpath("paper.csv").read_text().splitlines())
    return {(int(line["table"]), line["row"], line["column"]): float(line["value"]) for line in lines}
