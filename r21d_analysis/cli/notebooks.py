"""`r21d notebooks`: copy the notebooks to a folder of one's own."""

from pathlib import Path

from r21d_core import R21DError, package_folder
from r21d_core.cli.options import add_command
from r21d_core.runs.files import make_folder, write_atomically


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "notebooks", "copy the notebooks that come with the package to a folder")
    add = parser.add_argument
    add("--out", type=Path, default=Path("notebooks"), metavar="DIR", help="folder to copy them to; default notebooks")


def run(options) -> None:
    sources = sorted(package_folder("r21d_analysis", "notebooks").glob("*.ipynb"))
    make_folder(options.out)
    if existing := [source.name for source in sources if (options.out / source.name).exists()]:
        raise R21DError(f"{options.out / existing[0]}: exists; name another folder with --out")
    for source in sources:
        write_atomically(options.out / source.name, source.read_bytes())
    print(f"{len(sources)} notebooks in {options.out}; next: jupyter lab {options.out}")
