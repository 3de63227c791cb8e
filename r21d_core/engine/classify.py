"""Classify one video file with the weights of a run, a file, or published weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.decode import probe, read_frames
from r21d_core.data.manifest import Video
from r21d_core.data.sampling import evaluation_clips
from r21d_core.data.transforms import center_crop
from r21d_core.engine.device import pick_device
from r21d_core.models.convert import Weights
from r21d_core.models.load import model_from_weights, read_weights
from r21d_core.models.zoo import PUBLISHED, kinetics400, resolve_weights
from r21d_core.runs.run import Run
from r21d_core.runs.scores import load_scores
from r21d_core.study.spec import Spec

DEFAULT_FRAMES = 16  # where neither the weights nor the caller gives the clip length


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a video, and how they were computed."""

    top: list[tuple[str, float]]  # class and probability, the most probable first
    frames: np.ndarray = field(repr=False)  # (clips, H, W, 3) uint8: each clip's center frame, cropped for the network
    protocol: str
    clip_probs: np.ndarray = field(repr=False)  # (clips, top): each clip's probabilities of the classes in `top`
    center_frames: np.ndarray = field(repr=False)  # (clips,): the number of each clip's center frame
    fps: float | None = None


def classify(
    video: Path | str,
    weights: Run | Path | str,
    *,
    clips: int = 10,
    frames: int | None = None,
    frame_stride: int | None = None,
    top: int = 5,
    device: str = "auto",
    folder: Path | str = "weights",
) -> Prediction:
    """Return the Prediction for the file `video` with `weights`: a run, its folder, a file, or a published name.

    The protocol is that of a run's evaluation: `clips` clips that begin at floor(i·(N−span)/(clips−1)), center crop,
    mean of softmax, in fp32. Clip length and frame stride are those of `spec_for_video`; `frames` and `frame_stride`
    override them. Raises R21DError if the video or the weights cannot be read.
    """
    loaded = weights_for_frames(weights, folder)
    names, names_source = class_names(loaded)
    info = probe(video)
    given = {"frames": frames, "frame_stride": frame_stride}
    overrides = {name: value for name, value in given.items() if value is not None}
    spec = spec_for_video(loaded, info.fps).replace(eval_clips=clips, **overrides)
    path = Path(video)
    videos = (Video(path.name, path.parent, names[0], "test", path.name, info.frames),)
    rows = evaluation_clips(spec, clips, videos, names)
    pixels = read_frames(path, rows.frames.reshape(-1), (spec.frame_height, spec.frame_width))
    pixels = torch.from_numpy(pixels).view(clips, spec.frames, *pixels.shape[1:])
    target = pick_device(device)
    model = model_from_weights(loaded).eval().to(target)
    bar = tqdm(pixels, desc=f"{model.variant}: classifying", unit="clip", leave=False)
    with torch.inference_mode():
        logits = torch.cat([model(center_crop(clip[None].to(target), spec)) for clip in bar])
    probs = logits.float().softmax(1).cpu()
    mean = probs.mean(0)
    best = mean.argsort(descending=True)[:top].tolist()
    rate = f"{info.fps:.4g} frames a second" if info.fps else "an unknown rate"
    protocol = (
        f"{loaded.variant}-{loaded.depth} ({loaded.layout}); {clips} clips of {spec.frames} frames, stride "
        f"{spec.frame_stride}, from {info.frames} at {rate}; center crop {spec.crop}×{spec.crop} of "
        f"{spec.frame_height}×{spec.frame_width}; mean of softmax; {names_source}"
    )
    top_left = (spec.frame_height - spec.crop) // 2, (spec.frame_width - spec.crop) // 2
    height, width = (slice(begin, begin + spec.crop) for begin in top_left)
    return Prediction(
        [(names[index], mean[index].item()) for index in best],
        pixels[:, spec.frames // 2, height, width].numpy().copy(),
        protocol,
        probs[:, best].numpy(),
        rows.frames[:, spec.frames // 2],
        info.fps,
    )


def weights_for_frames(weights: Run | Path | str, folder: Path | str = "weights") -> Weights:
    """Return the Weights of a run, its folder, a file, or a published name in `folder`; raises R21DError for flow."""
    loaded = read_weights(resolve_weights(weights.folder if isinstance(weights, Run) else weights, folder))
    if loaded.in_channels != 3:
        raise R21DError(f"{loaded.path}: takes {loaded.in_channels} channels, but a video's frames have 3")
    if isinstance(weights, Run) and loaded.spec != weights.spec:
        raise R21DError(f"{loaded.path}: a checkpoint of another spec; move it away")
    return loaded


def spec_for_video(weights: Weights, fps: float | None) -> Spec:
    """Return the Spec by which clips are cut from a video of `fps`; runs on `speed` or `arrow` see it as it plays."""
    if weights.spec:
        return weights.spec.replace(task="action")
    row = next((row for row in PUBLISHED if weights.sha256.startswith(row.sha256)), None)
    stride = max(1, round(fps / row.fps)) if row and row.fps and fps else 1
    return Spec(frames=weights.frames or (row.frames if row else DEFAULT_FRAMES), frame_stride=stride)


def class_names(weights: Weights) -> tuple[tuple[str, ...], str]:
    """Return the names of the outputs, and where they come from."""
    scores = weights.path.parent / "scores.npz"
    if weights.spec and scores.exists():
        return load_scores(scores).classes, "classes of the run"
    if weights.spec is None and weights.num_classes == 400:
        return kinetics400(), "Kinetics-400 classes in alphabetical order, as there are 400 outputs"
    return tuple(f"output {number}" for number in range(weights.num_classes)), "the weights do not name their classes"
