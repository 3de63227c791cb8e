"""`r21d weights`: list and download published weights."""

from pathlib import Path

from r21d_core import R21DError
from r21d_core.cli.options import CACHE_DIR, add_command, format_table


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "weights", "list the published weights of these networks, or download some")
    add = parser.add_argument
    add("name", nargs="?", help="weights to describe or download, such as r2plus1d_18; or a file or run folder")
    add("--download", action="store_true", help="download the named weights")
    add("--cache-dir", **CACHE_DIR)


def run(options) -> None:
    from r21d_core.models.zoo import PUBLISHED, describe_published, download, resolve_weights

    if options.name and Path(options.name).exists() and options.name not in [row.name for row in PUBLISHED]:
        from r21d_core.models.load import describe_weights  # imports torch

        print(describe_weights(resolve_weights(options.name)))
        return
    if options.download:
        if not options.name:
            raise R21DError("weights --download: name which, such as r2plus1d_18; `r21d weights` lists them")
        download(options.name, options.cache_dir)
    if options.name:
        print(describe_published(options.name, options.cache_dir))
        return
    files = [options.cache_dir / row.file for row in PUBLISHED]
    cells = [
        (row.name, f"{row.variant}-{row.depth}", str(row.frames), str(row.num_classes), row.trained_on,
         str(file) if file.exists() else "none")
        for row, file in zip(PUBLISHED, files, strict=True)
    ]  # fmt: skip
    columns = ("name", "network", "frames", "classes", "trained on", "local file")
    print(format_table(columns, cells, right=("frames", "classes")))
    print("`r21d weights NAME` describes one, and with --download downloads it")
