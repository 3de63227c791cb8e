"""`r21d manifest`: write the list of a data set's videos with their labels and splits."""

from pathlib import Path

from r21d_core import R21DError, count_noun
from r21d_core.cli.options import add_command, parse_ints

# Layout: the data set, its annotation files, its number of splits.
OFFICIAL = {
    "ucf101": ("UCF101", "trainlist01.txt etc.", 3),
    "hmdb51": ("HMDB51", "brush_hair_test_split1.txt etc.", 3),
    "kinetics": ("Kinetics-400, 600 or 700", "train.csv and validate.csv", 0),
    "sports1m": ("Sports-1M", "labels.txt and the two partitions", 0),
    "miracl": ("MIRACL-VC1", "", 5),
}
OUT = {"type": Path, "help": "CSV file to write; default data/NAME.csv"}


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "manifest", "list the videos of a folder with their labels and splits")
    layouts = parser.add_subparsers(dest="layout", required=True, metavar="LAYOUT")

    folder = add_command(layouts, "folder", "a folder with one folder per class, or train/ and test/ with such")
    folder.add_argument("directory", type=Path, help="the folder")
    add = folder.add_argument
    tested = "fraction of each class to test on if there is no test/, at least one of two recordings; default 0.25"
    add("--test-fraction", type=float, default=0.25, help=tested)
    add("--seed", type=int, default=0, help="seed of that random split; default 0")
    add("--out", **OUT)

    for layout, (dataset, files, splits) in OFFICIAL.items():
        kind = "with its official splits" if files else "in folds"
        add = add_command(layouts, layout, f"{dataset} {kind}").add_argument
        add("directory", type=Path, help="folder of the videos")
        if splits:
            several = ",".join(map(str, range(1, splits + 1)))
            add("--split", type=parse_ints, default=[1], help=f"one or several of {several}; default 1")
        if files:
            add("--annotations", type=Path, help=f"folder of {files}; default: searched in and beside the videos")
        add("--subset", help="classes to use: a subset of the data set's card, or a file, one per line")
        add("--out", **OUT)

    validation = add_command(layouts, "validation", "make a manifest whose test videos are validation videos")
    writes = "writes NAME-val.csv beside it, with its val videos to test on, or without such a part of its train videos"
    validation.add_argument("manifest", type=Path, help=f"NAME.csv; {writes}")


def run(options) -> None:
    from r21d_core.data import official_readers
    from r21d_core.data.folder import from_folder
    from r21d_core.data.manifest import load_manifest, write_manifest, write_new_manifest
    from r21d_core.data.val_split import make_val_split

    if options.layout == "validation":
        manifest = make_val_split(load_manifest(options.manifest))
        write_manifest(manifest.path, manifest.card, manifest.videos)
        _print_counts(manifest.path, manifest)
        return
    splits = options.split if "split" in options else [None]
    if options.out and len(splits) > 1:
        raise R21DError(f"--out {options.out}: one file for {len(splits)} splits; leave --out away to write one each")
    for split in splits:
        if options.layout == "folder":
            listing = from_folder(options.directory, test_fraction=options.test_fraction, seed=options.seed)
            print("".join(f"{line}\n" for line in listing.notes), end="")
        else:
            read = getattr(official_readers, f"from_{options.layout}", None)
            if read is None:
                raise R21DError(
                    f"{official_readers.__file__}: no from_{options.layout}, the reader of a row of OFFICIAL"
                )
            given = {"split": split, "annotations": getattr(options, "annotations", None)}
            given = {key: value for key, value in given.items() if value is not None}
            listing = read(options.directory, subset=options.subset, **given)
            print(listing)
        path = options.out or Path("data") / f"{listing.card.name}.csv"
        write_new_manifest(path, listing.card, listing.videos)
        _print_counts(path, listing)


def _print_counts(path: Path, listing) -> None:
    from r21d_core.data.manifest import describe_recordings, split_counts

    counts = ", ".join(f"{count:,} {split}" for split, count in split_counts(listing.videos).items())
    hint = "" if all(video.frames for video in listing.videos) else f"; next: r21d check {path}"
    classes = count_noun(len(listing.card.classes), "class", "classes")
    print(f"{path}: {count_noun(f'{len(listing.videos):,}', 'video')} of {classes} ({counts}){hint}")
    print(describe_recordings(listing.videos))
