"""The command line `r21d …`, or `python -m r21d_core …`: one module a command.

A command module defines `add_parser(subparsers)` and `run(options)`. It imports torch and pandas inside `run` only, so
that `--help` and the commands that need neither start at once.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType

from r21d_core import R21DError, __version__

COMMANDS = (
    "variants", "manifest", "check", "prepare", "flow", "train", "runs", "weights", "classify", "export", "bench",
)  # fmt: skip
ANALYSIS_COMMANDS = ("insight", "pack", "report", "notebooks")  # modules of r21d_analysis.cli, found by name only

LOG_SECONDS = 30  # between lines of a progress bar in a file


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 with the error on standard error, or 128 + a signal."""
    if arguments is None and not sys.stderr.isatty():  # tqdm, imported below, adds a line instead of redrawing one
        for name in ("TQDM_MININTERVAL", "TQDM_MAXINTERVAL"):
            os.environ.setdefault(name, str(LOG_SECONDS))
    modules = load_commands()
    options = build_parser(modules).parse_args((sys.argv[1:] if arguments is None else arguments) or ["--help"])
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # of characters that the terminal's encoding lacks
    try:
        status = modules[options.command].run(options) or 0
        sys.stdout.flush()
        return status
    except R21DError as error:
        from r21d_core.data.parallel import is_first_process

        if is_first_process():  # under torchrun every process raises the same error
            print(f"r21d: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of the output, such as `head`, has ended; nor can the exit flush the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        print("r21d: interrupted; run the same command again to resume", file=sys.stderr)
        return 130


def load_commands() -> dict[str, ModuleType]:
    """The module of each command by the command's name."""
    packages = dict.fromkeys(COMMANDS, "r21d_core.cli") | dict.fromkeys(ANALYSIS_COMMANDS, "r21d_analysis.cli")
    return {name: import_module(f"{package}.{name}") for name, package in packages.items()}


def build_parser(modules: dict[str, ModuleType] | None = None) -> argparse.ArgumentParser:
    """The argument parser of all commands; the parsed options hold the command's name as `command`."""
    parser = argparse.ArgumentParser("r21d", description="Reproduce, inspect and extend the R(2+1)D study.")
    parser.add_argument("--version", action="version", version=f"r21d {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (modules or load_commands()).values():
        module.add_parser(subparsers)
    return parser
