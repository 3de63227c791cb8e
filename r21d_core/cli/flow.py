"""`r21d flow`: compute the optical flow of a manifest's videos."""

from r21d_core.cli.options import CHECKED_MANIFEST, WORKERS, add_command


def add_parser(subparsers) -> None:
    parser = add_command(subparsers, "flow", "compute a manifest's optical flow; `train` does it if it is missing")
    add = parser.add_argument
    add("manifest", **CHECKED_MANIFEST)
    add("--height", type=int, default=128, help="height of the frames in pixels; default 128")
    add("--width", type=int, default=171, help="width of the frames in pixels; default 171")
    add("--frame-stride", type=int, default=1, help="distance of the two frames of a flow field; default 1")
    add("--workers", **WORKERS)


def run(options) -> None:
    from r21d_core.data.flow import Farneback, compute_flow, measure_loss
    from r21d_core.data.manifest import load_manifest

    manifest = load_manifest(options.manifest)
    method = Farneback(options.height, options.width, options.frame_stride)
    flow = compute_flow(manifest, method, workers=options.workers)
    size = sum(video.path.stat().st_size for video in flow.videos)
    fields = sum(video.frames or 0 for video in flow.videos)
    print(
        f"{manifest.path.parent / method.folder}: {method}\n{len(flow.videos):,} videos, {fields:,} fields, "
        f"{size / 1e6:,.0f} MB, {size / fields / 1e3:.1f} kB a frame\n{measure_loss(manifest, flow, method)}"
    )
