"""`r21d pack`: put the finished runs of a folder into one small ZIP file."""

from pathlib import Path

from r21d_core import count_noun
from r21d_core.cli.options import add_command


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "pack", "write a folder's finished runs to one small file that is read like it")
    parser.add_argument("runs", type=Path, help="folder of runs")
    parser.add_argument("--out", type=Path, required=True, help="the ZIP file to write, such as results/small.zip")


def run(options) -> None:
    from r21d_analysis.pack import pack_runs

    runs, size = pack_runs(options.runs, options.out), options.out.stat().st_size / 1e6
    print(f"{options.out}: {count_noun(len(runs), 'run')}, {size:.1f} MB; scores are quantized")
