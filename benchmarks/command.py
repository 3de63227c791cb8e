"""The options of `r21d bench`."""

import shlex
import sys
from pathlib import Path

from benchmarks.tables import BENCHES
from r21d_core.cli.options import DEVICE, parse_names


def add_options(parser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add(
        "benches",
        nargs="+",
        choices=[*BENCHES, "all", "tables"],
        metavar="BENCH",
        help=f"{', '.join(BENCHES)}, or all; tables: draw the tables of benchmarks/README.md from its records",
    )
    add("--device", **DEVICE)
    add(
        "--variants",
        type=parse_names,
        default=["R(2+1)D", "R3D", "MC3"],
        help="networks, such as f-R2D,R3D; default R(2+1)D,R3D,MC3",
    )
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
        from benchmarks.tables import redraw_readme

        print(f"written: {redraw_readme(Path(__file__).parent)}")
        return
    from benchmarks.run import benchmark

    benchmark(
        BENCHES if "all" in options.benches else options.benches,
        command=shlex.join(["r21d", *sys.argv[1:]]),
        device=options.device,
        variants=options.variants,
        depth=options.depth,
        frames=options.frames,
        batch_size=options.batch_size,
        seconds=options.seconds,
        compiled=not options.no_compile_peers,
        manifest=options.manifest,
        out=options.out,
    )
