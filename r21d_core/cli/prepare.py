"""`r21d prepare`: transcode the videos of a manifest for fast random access."""

from pathlib import Path

from r21d_core.cli.options import CHECKED_MANIFEST, WORKERS, add_command, parse_fraction


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "prepare", "transcode a manifest's videos to small files that read fast")
    add = parser.add_argument
    add("manifest", **CHECKED_MANIFEST)
    add("--out", type=Path, metavar="DIR", help="folder of the new manifest and videos; default: beside the old ones")
    add("--height", type=int, default=128, help="height of the frames in pixels, even; default 128")
    add("--width", type=int, default=172, help="width of the frames in pixels, even; default 172")
    add("--fps", type=parse_fraction, help="frames per second, such as 15 or 30000/1001; default: that of each video")
    add("--gop", type=int, default=12, help="frames between two keyframes; default 12")
    add("--crf", type=int, default=20, help="H.264's CRF: lower gives better quality and larger files; default 20")
    add("--workers", **WORKERS)


def run(options) -> None:
    from r21d_core.data.transcode import EncodeOptions, prepare

    encoding = EncodeOptions(options.height, options.width, options.fps, options.gop, options.crf)
    prepared = prepare(options.manifest, options.out, encoding, workers=options.workers)
    size = f"--set frame_height={encoding.height} --set frame_width={encoding.width}"
    print(f"{prepared}\nnext: r21d train … --manifest {prepared.path}; {size} skips rescaling the frames")
