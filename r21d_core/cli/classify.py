"""`r21d classify`: the most probable classes of a video file."""

from pathlib import Path

from r21d_core.cli.options import CACHE_DIR, DEVICE


def add_parser(subparsers) -> None:
    parser = subparsers.add_parser("classify", help="print the five most probable classes of a video file")
    add = parser.add_argument
    add("video", type=Path, help="video file")
    add("--weights", required=True, metavar="NAME_OR_PATH", help="published weights, a file of weights or a run folder")
    add("--clips", type=int, default=10, help="clips whose probabilities are averaged; default 10")
    add("--frames", type=int, help="clip length; default as in the training of the weights")
    add("--frame-stride", type=int, help="distance of a clip's frames; default near the training's frame rate")
    add("--device", **DEVICE)
    add("--cache-dir", **CACHE_DIR)


def run(options) -> None:
    from r21d_core.engine.classify import classify

    prediction = classify(
        options.video, options.weights, clips=options.clips, frames=options.frames, frame_stride=options.frame_stride,
        device=options.device, folder=options.cache_dir,
    )  # fmt: skip
    for name, probability in prediction.top:
        print(f"{probability:6.1%}  {name}")
    print(prediction.protocol)
