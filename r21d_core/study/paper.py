"""The paper's own numbers, as they are printed there."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

from r21d_core import R21DError


def paper(table: int, row: str, column: str) -> float:
    """The value that a table of the paper prints, accuracies in per cent; raises R21DError if it prints none there.

    Table 2's columns are `parameters (M)` and `clip@1`, `video@1` with `8f` or `16f`: on Kinetics' validation set.
    """
    try:
        return _values()[table, row, column]
    except KeyError:
        raise R21DError(f"the paper's Table {table} has no {column!r} of {row!r}") from None


@cache
def _values() -> dict[tuple[int, str, str], float]:
    lines = csv.DictReader(files(__package__).joinpath("paper.csv").read_text().splitlines())
    return {(int(line["table"]), line["row"], line["column"]): float(line["value"]) for line in lines}
