"""`r21d bench`: the benchmarks of a checkout; the wheel does not hold them."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from r21d_core import R21DError
from r21d_core.cli.options import add_command

CHECKOUT = Path(__file__).parents[2]


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "bench", "measure training, inference and decoding speed on this machine")
    if command := _load():
        command.add_options(parser)
    else:
        parser.add_argument("arguments", nargs=argparse.REMAINDER, help="not available: needs a checkout")


def run(options) -> None:
    if not (command := _load()):
        raise R21DError("bench: the benchmarks come with a checkout of the repository, not with the installed package")
    command.run(options)


def _load():
    if not (CHECKOUT / "benchmarks" / "command.py").is_file():
        return None
    if str(CHECKOUT) not in sys.path:  # an editable install maps the packages alone
        sys.path.append(str(CHECKOUT))
    return import_module("benchmarks.command")
