"""What a network says of one video of your own."""

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

USUAL_FRAMES = 16  # where neither the weights nor the caller says


@dataclass(frozen=True)
class Prediction:
    """The classes a network finds likeliest in a video, and how it came to that."""

    top: list[tuple[str, float]]  # class and probability, the likeliest first
    # (clips, H, W, 3) uint8: the middle frame of each clip, cropped as the network saw it
    frames: np.ndarray = field(repr=False)
    protocol: str
    clip_probs: np.ndarray = field(repr=False)  # (clips, top): the probability of each of `top` in each clip
    center_frames: np.ndarray = field(repr=False)  # (clips,) the number of each clip's middle frame
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
    """The Answer for the file `video` of the network with `weights`: a run, its folder, a file, or a published name.

    As in the evaluation of a run: `clips` clips that begin at floor(i·(N−span)/(clips−1)), centre crop, mean of
    softmax, all in fp32. Clip length, step and frame size are the run's; of published weights the length is that of
    their training, and the step brings the video near the frame rate of their training where that is known. `frames`
    and `frame_stride` overrule both. Raises R21DError, naming the file, for a video or weights that cannot be read.
    """
    found = weights_for_frames(weights, folder)
    names, whose = class_names(found)
    held = probe(video)
    spec = spec_for_video(found, held.fps).replace(eval_clips=clips)
    spec = spec.replace(
        frames=spec.frames if frames is None else frames,
        frame_stride=spec.frame_stride if frame_stride is None else frame_stride,
    )
    place = Path(video)
    one = Video(place.name, place.parent, names[0], "test", place.name, held.frames)
    wanted = evaluation_clips(spec, clips, (one,), names)
    pixels = read_frames(place, wanted.frames.reshape(-1), (spec.frame_height, spec.frame_width))
    pixels = torch.from_numpy(pixels).view(clips, spec.frames, *pixels.shape[1:])
    each = _probabilities(model_from_weights(found), pixels, spec, device)
    mean = each.mean(0)
    best = mean.argsort(descending=True)[:top].tolist()
    rate = f"{held.fps:.4g} frames a second" if held.fps else "an unknown rate"
    protocol = (
        f"{found.variant}-{found.depth} ({found.layout}); {clips} clips of {spec.frames} frames, step {spec.frame_stride}, "
        f"from {held.frames} at {rate}; centre crop {spec.crop}×{spec.crop} of {spec.frame_height}×{spec.frame_width}; "
        f"mean of softmax; {whose}"
    )
    return Prediction(
        [(names[index], mean[index].item()) for index in best], _shown(pixels, spec), protocol,
        each[:, best].numpy(), wanted.frames[:, spec.frames // 2], held.fps,
    )  # fmt: skip


def weights_for_frames(weights: Run | Path | str, folder: Path | str = "weights") -> Weights:
    """The Weights of a run, its folder, a file, or a published name in `folder`; raises R21DError, for flow too."""
    found = read_weights(resolve_weights(weights.folder if isinstance(weights, Run) else weights, folder))
    if found.in_channels != 3:
        raise R21DError(f"{found.path}: takes {found.in_channels} channels, and a video's frames have 3")
    if isinstance(weights, Run) and found.spec != weights.spec:
        raise R21DError(f"{found.path}: a checkpoint of another spec; move it away")
    return found


def spec_for_video(found: Weights, fps: float | None) -> Spec:
    """How clips are cut from a video of `fps`. A run's labels of `speed` and `arrow` are asked of it as it plays."""
    if found.spec:
        return found.spec.replace(task="action")
    row = next((row for row in PUBLISHED if found.sha256.startswith(row.sha256)), None)
    near = max(1, round(fps / row.fps)) if row and row.fps and fps else 1
    return Spec(frames=found.frames or (row.frames if row else USUAL_FRAMES), frame_stride=near)


def class_names(found: Weights) -> tuple[tuple[str, ...], str]:
    """Names for the outputs, and where they come from."""
    scores = found.path.parent / "scores.npz"
    if found.spec and scores.exists():
        return load_scores(scores).classes, "classes of the run"
    if found.spec is None and found.num_classes == 400:
        return kinetics400(), "classes of Kinetics-400 in the order of the alphabet, as there are 400 outputs"
    return tuple(f"output {number}" for number in range(found.num_classes)), "the weights do not name their classes"


@torch.inference_mode()
def _probabilities(network, pixels: torch.Tensor, spec: Spec, device: str) -> torch.Tensor:
    """The softmax of each clip (clips, classes), a clip at a time; `pixels` is (clips, T, H, W, 3) uint8."""
    target = pick_device(device)
    network = network.eval().to(target)
    bar = tqdm(pixels, desc=f"{network.variant}: classifying", unit="clip", leave=False)
    clips = [network(center_crop(clip[None].to(target), spec)).float().softmax(1) for clip in bar]
    return torch.cat(clips).cpu()


def _shown(pixels: torch.Tensor, spec: Spec) -> np.ndarray:
    top, left = (spec.frame_height - spec.crop) // 2, (spec.frame_width - spec.crop) // 2
    middles = pixels[:, spec.frames // 2, top : top + spec.crop, left : left + spec.crop]
    return middles.numpy().copy()
