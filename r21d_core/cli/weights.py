"""`r21d weights`: list and download published weights."""

from r21d_core import R21DError
from r21d_core.cli.options import CACHE_DIR


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser("weights", help="list the published weights of these networks, or download some")
    add = parser.add_argument
    add("name", nargs="?", help="weights to describe or download, such as r2plus1d_18")
    add("--download", action="store_true", help="download the named weights")
    add("--cache-dir", **CACHE_DIR)


def run(options) -> None:
    from r21d_core.models.zoo import describe_published, download, format_published

    if options.download:
        if not options.name:
            raise R21DError("weights --download: name which, such as r2plus1d_18; `r21d weights` lists them")
        download(options.name, options.cache_dir)
    print(describe_published(options.name, options.cache_dir) if options.name else format_published(options.cache_dir))
