"""`r21d check`: decode every video of a manifest once."""

import signal
import sys
from pathlib import Path
from typing import NoReturn

from r21d_core.cli.options import WORKERS, add_command


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "check", "decode every video of a manifest once; exclude those that fail")
    parser.add_argument("manifest", type=Path, help="CSV file of `r21d manifest`")
    parser.add_argument("--workers", **WORKERS)


def run(options) -> None:
    from r21d_core.data.verify import verify_videos

    signal.signal(signal.SIGTERM, _exit)
    print(verify_videos(options.manifest, workers=options.workers))


def _exit(number: int, _) -> NoReturn:
    """End by way of what saves the progress, which a second signal, as of `timeout`, would interrupt."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)
