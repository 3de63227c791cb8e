"""The rows of a manifest's CSV file and of those beside it, read and written."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path

from r21d_core import R21DError
from r21d_core.runs.files import write_atomically
from r21d_core.study.recipes import VAL_SUFFIX

INDEXED = ("frames", "fps", "width", "height")  # filled in by `verify_videos`


def read_rows(path: Path, required: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the line number and the cells of each row of a CSV file, without blank lines.
    The cells are those of `required` and INDEXED, in that order; one of INDEXED may have no column and then is empty.
    Raises R21DError, with the line, for a missing column of `required`, an unknown column and a missing cell.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:  # spreadsheets write a byte-order mark
            reader = csv.reader(file, strict=True)
            rows = (cells for cells in reader if any(map(str.strip, cells)))
            columns = _columns(path, [cell.strip() for cell in next(rows, [])], required)
            width = len(columns)
            pick = itemgetter(*(columns.index(n) if n in columns else width for n in required + INDEXED))
            for cells in rows:
                if len(cells) != width:
                    raise R21DError(f"{path}, line {reader.line_num}: {len(cells)} cells, expected {width}")
                yield reader.line_num, pick([*cells, ""])
    except FileNotFoundError:
        command = "` writes one from a folder of videos"
        if path.stem.endswith(VAL_SUFFIX):
            command = f" validation {path.with_stem(path.stem.removesuffix(VAL_SUFFIX))}` writes it"
        # The absolute path, as notebooks and commands run in different folders.
        raise R21DError(f"{os.path.abspath(path)}: no such file; `r21d manifest{command}") from None
    except IsADirectoryError:
        raise R21DError(f"{path}: is a folder, expected a manifest; `r21d manifest folder {path}` makes one") from None
    except csv.Error as error:
        raise R21DError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise R21DError(f"{path}: expected a CSV file in UTF-8 ({error})") from None


def write_rows(path: Path, columns: tuple[str, ...], rows: Iterable[Iterable]) -> None:
    """Write a CSV file of `rows`, the cells of `columns`, atomically; None becomes an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def _columns(path: Path, columns: list[str], required: tuple[str, ...]) -> list[str]:
    if not columns:
        raise R21DError(f"{path}: the file is empty; expected columns {', '.join(required)}")
    if missing := [name for name in required if name not in columns]:
        raise R21DError(f"{path}, line 1: no column {missing[0]!r}; expected {', '.join(required)}")
    known = required + INDEXED
    if wrong := [name for name in columns if name not in known or columns.count(name) > 1]:
        advice = "keep other columns in another file, as `r21d check` would not write them again"
        what = f"column {wrong[0]!r} is unknown or duplicated; known: {', '.join(known)}"
        raise R21DError(f"{path}, line 1: {what}; {advice}")
    return columns
