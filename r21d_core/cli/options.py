"""Argument types and options that several commands share."""

import argparse
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from r21d_core.study.experiments import as_list


def add_command(subparsers, name: str, text: str, **options) -> argparse.ArgumentParser:
    """Add a command and return its parser; `text` is its line in the list of commands, and begins its own help."""
    return subparsers.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.", **options)


def parse_ints(text: str) -> list[int]:
    """The whole numbers of a comma-separated list."""
    try:
        return [int(number) for number in as_list(text)]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected whole numbers such as 0,1,2") from None


def parse_fraction(text: str) -> Fraction:
    """A decimal number or a ratio of two whole numbers; FFmpeg takes no longer ones, and 29.97002997 is 30000/1001."""
    try:
        return Fraction(text).limit_denominator(1_000_000)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(f"{text!r}, expected a number such as 15 or 30000/1001") from None


def printable(text: str) -> str:
    """`text` with an escape for each byte of a file name that is not UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def format_table(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str] = ()) -> str:
    """Rows of text below the names of their columns; the columns named in `right` are aligned to the right."""
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    signs = [">" if column in right else "<" for column in columns]
    lines = [map("{:{}{}}".format, row, signs, widths) for row in (columns, *rows)]
    return "\n".join("  ".join(line).rstrip() for line in lines)


# Options that several commands have: keyword arguments of `add_argument`.
DEVICE: dict[str, Any] = {"default": "auto", "help": "cpu or cuda; default auto: the GPU if there is one"}
WORKERS = {"type": int, "help": "processes that decode videos; default: one per CPU core"}
CACHE_DIR = {"type": Path, "default": Path("weights"), "help": "folder of published weights; default weights"}
SEEDS = {"type": parse_ints, "default": [0], "help": "seeds of the runs, separated by commas, such as 0,1,2; default 0"}
CHECKED_MANIFEST = {"type": Path, "help": "checked CSV file of `r21d manifest`"}
