"""The numbers of the paper's Tables 2 to 6, as printed."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from r21d_core import R21DError


def paper(table: int, row: str, column: str) -> float:
    """One printed value of a table of the paper, accuracies in per cent; raises R21DError for an empty cell.

    Rows and columns have the paper's names. Table 2 (Kinetics validation set) has the columns `parameters (M)` and
    `clip@1`, `video@1` with `8f` or `16f`; Table 3 has the rows `8`, `8 tested at 32`, `32` and `8 finetuned at 32`;
    the rows of Tables 5 and 6 end with the data set of the pretraining, such as `R(2+1)D-RGB (Sports-1M)`.
    """
    try:
        return _values()[table, row, column]
    except KeyError:
        raise R21DError(f"the paper's Table {table} has no {column!r} of {row!r}") from None


def paper_table(table: int) -> dict[str, dict[str, float]]:
    """The rows of a table in the paper's order, each a dict of its columns without empty cells."""
    rows: dict[str, dict[str, float]] = {}
    for (number, row, column), value in _values().items():
        if number == table:
            rows.setdefault(row, {})[column] = value
    return rows


@cache
def _values() -> dict[tuple[int, str, str], float]:
    lines = csv.DictReader(files("r21d_core.study").joinpath("paper.csv").read_text().splitlines())
    return {(int(line["table"]), line["row"], line["column"]): float(line["value"]) for line in lines}
