"""The options of `r21d bench`."""

from pathlib import Path

from benchmarks.tables import BENCHES, redraw_readme
from r21d_core.cli.options import DEVICE
from r21d_core.study.experiments import as_list


def add_options(parser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    which = f"{', '.join(BENCHES)}, or all; tables: draw the tables of benchmarks/README.md from its records"
    add("benches", nargs="+", choices=[*BENCHES, "all", "tables"], metavar="BENCH", help=which)
    add("--device", **DEVICE)
    networks = ["R(2+1)D", "R3D", "MC3"]
    names = f"networks, such as f-R2D,R3D; default {','.join(networks)}"
    add("--variants", type=as_list, default=networks, help=names)
    add("--depth", type=int, default=18, help="layers: 10, 18 or 34; default 18")
    add("--frames", type=int, default=16, help="clip length L; default 16")
    add("--batch-size", type=int, help="clips per batch; default 32 to train and 64 to classify, on a CPU 2")
    add("--seconds", type=float, default=5.0, help="measuring time of each implementation of a network; default 5")
    add("--no-compile-peers", action="store_true", help="skip torchvision's networks in torch.compile")
    add("--manifest", type=Path, help="checked CSV file to decode; default the built-in videos")
    add("--out", type=Path, metavar="FILE.json", help="write the record to this file")


def run(options) -> None:
    """Run the benchmarks, or redraw the tables of the README."""
    if "tables" in options.benches:
        print(f"written: {redraw_readme(Path(__file__).parent)}")
        return
    from benchmarks.run import benchmark

    benchmark(options)
