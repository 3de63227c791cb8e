"""`r21d export`: a network as a file for other software."""

from pathlib import Path

from r21d_core.cli.options import CACHE_DIR, add_command


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "export", "write a network as ONNX or as a .pt2 file of PyTorch")
    add = parser.add_argument
    add("weights", metavar="RUN", help="run folder, file of weights or published weights")
    add("--format", choices=("onnx", "pt2"), required=True, help="ONNX, or PyTorch's file for torch.export.load")
    add("--out", type=Path, help="file to write; default exports/NAME.FORMAT")
    add("--cache-dir", **CACHE_DIR)


def run(options) -> None:
    from r21d_core.engine.export import export

    print(export(options.weights, options.format, options.out, options.cache_dir))
