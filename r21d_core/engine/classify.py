"""Classify videos and compute their features with the weights of a run, a file, or published weights."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from r21d_core import R21DError, count_noun
from r21d_core.data.decode import Probe, probe, read_frames
from r21d_core.data.manifest import Video
from r21d_core.data.official_splits import list_videos
from r21d_core.data.parallel import count_workers, map_in_processes
from r21d_core.data.sampling import evaluation_clips
from r21d_core.data.transforms import center_crop, crop_frames
from r21d_core.engine.build import optimize
from r21d_core.engine.device import pick_device
from r21d_core.models.convert import Weights
from r21d_core.models.load import model_from_weights, read_weights
from r21d_core.models.zoo import PUBLISHED, Published, kinetics400, resolve_weights
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec

DEFAULT_FRAMES = 16  # where neither the weights nor the caller gives the clip length


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a video, and how they were computed."""

    top: list[tuple[str, float]]  # class and probability, the most probable first
    frames: np.ndarray = field(repr=False)  # (clips, H, W, 3) uint8: each clip's center frame, cropped for the network
    protocol: str
    clip_probs: np.ndarray = field(repr=False)  # (clips, top): each clip's probabilities of the classes in `top`
    features: np.ndarray = field(repr=False)  # (8·width,): conv5_x's output, averaged over space, time and clips
    center_frames: np.ndarray = field(repr=False)  # (clips,): the number of each clip's center frame
    fps: float | None = None


@dataclass(frozen=True)
class _DecodedClips:
    """The clips of a video, as `spec` takes them from the file that `info` describes."""

    info: Probe
    spec: Spec
    indices: np.ndarray  # (clips, T) frame numbers
    pixels: np.ndarray  # (clips, T, H, W, 3) uint8


class Predictor:
    """A network with its class names, for any number of videos.

    `weights` is a run, its folder, a file, or a published name, which is looked up in `folder`. Raises R21DError if the
    weights cannot be read or take optical flow.
    """

    def __init__(self, weights: Run | Path | str, *, device: str = "auto", folder: Path | str = "weights"):
        self.weights = weights_for_frames(weights, folder)
        self.classes, self._names_source = class_names(self.weights)
        self.device = pick_device(device)
        self.model = model_from_weights(self.weights).eval().to(self.device)
        self._fast_model = optimize(self.model, Spec(), self.device)

    def __repr__(self) -> str:
        weights = self.weights
        network = f"{weights.variant}-{weights.depth} of {count_noun(len(self.classes), 'class', 'classes')}"
        return f"<{type(self).__name__} of {weights.path}: {network}, on {self.device}>"

    @overload
    def predict(self, videos: Path | str, **options) -> Prediction: ...
    @overload
    def predict(self, videos: Sequence[Path | str], **options) -> list[Prediction]: ...
    def predict(self, videos, **options):
        """Return the Prediction of a video file, or a list of those of several; `options` of `iter_predictions`.

        Raises R21DError for the first video that cannot be read.
        """
        predictions = []
        for prediction in self.iter_predictions([videos] if isinstance(videos, Path | str) else videos, **options):
            if isinstance(prediction, R21DError):
                raise prediction
            predictions.append(prediction)
        return predictions[0] if isinstance(videos, Path | str) else predictions

    def features(
        self, videos: Path | str | Sequence[Path | str], *, clips: int = 10, frames: int | None = None,
        frame_stride: int | None = None, workers: int | None = 0,
    ) -> np.ndarray:  # fmt: skip
        """Return the features of a video file, float32 (8·width,), or of several or of folders, (n, 8·width).

        They are conv5_x's output, averaged over space, time and `clips` clips, which takes their number of forward
        passes; the options are those of `iter_predictions`. A folder stands for the videos that `list_videos` finds in
        it, in that order. Of several videos, one that cannot be read has a row of NaN, and a warning names it. Raises
        R21DError for a single file that cannot be read, and for a folder without videos.

        For example:

            >>> from r21d_core import load
            >>> model = load("runs/RUN")
            >>> model.features(["a.mp4", "b.mp4"], clips=1).shape  # (2, 8·width)
        """
        options = {"clips": clips, "frames": frames, "frame_stride": frame_stride, "workers": workers}
        if isinstance(videos, Path | str):
            if not Path(videos).is_dir():
                return self.predict(videos, **options).features
            videos = [videos]
        paths = [path for video in videos for path in list_videos([Path(video)])]
        rows, errors = np.full((len(paths), self.model.fc.in_features), np.nan, np.float32), []
        for row, prediction in zip(rows, self.iter_predictions(paths, **options), strict=True):
            if isinstance(prediction, R21DError):
                errors.append(str(prediction))
            else:
                row[:] = prediction.features
        if errors:
            what = f"{len(errors)} of {len(paths)} videos could not be read; their rows are NaN:"
            warnings.warn("\n".join([what, *errors]), stacklevel=2)
        return rows

    @torch.inference_mode()
    def iter_predictions(
        self, videos: Sequence[Path | str], *, clips: int = 10, frames: int | None = None,
        frame_stride: int | None = None, top: int = 5, workers: int | None = 0,
    ) -> Generator[Prediction | R21DError, None, None]:  # fmt: skip
        """Yield for each video, in order, its Prediction, or the R21DError that says why it cannot be read.

        The protocol is that of a run's evaluation: `clips` clips that begin at floor(i·(N−span)/(clips−1)), center
        crop, mean of softmax, in fp32. Clip length and frame stride are those of `spec_for_video`; `frames` and
        `frame_stride` override them. `workers` processes decode: 0 is this one, None is one a CPU where there are many
        videos. A script that starts processes does so under `if __name__ == "__main__":`.
        """
        given = {"eval_clips": clips, "frames": frames, "frame_stride": frame_stride}
        overrides = {name: value for name, value in given.items() if value is not None}
        spec = spec_for_video(self.weights, None).replace(**overrides)  # raises for an impossible option
        decode = partial(_decode, weights=replace(self.weights, state={}), overrides=overrides)
        decoded = map_in_processes(decode, videos, count_workers(workers, len(videos)), "what is finished is kept")
        batch_size = 4 if self.device.type == "cpu" else 32  # a GPU takes the clips of several videos at once
        with tqdm(total=len(videos) * clips, desc=self.model.variant, unit="clip", leave=False) as bar:
            while group := list(islice(decoded, max(1, batch_size // clips))):
                yield from self._predict_group(group, spec, top, batch_size, bar)

    def _predict_group(
        self, group: list, spec: Spec, top: int, batch_size: int, bar: tqdm
    ) -> Iterator[Prediction | R21DError]:
        """Yield the Predictions of videos whose clips are computed together; an error stays as it is."""
        pixels = [torch.from_numpy(item.pixels) for item in group if isinstance(item, _DecodedClips)]
        logits: list[Tensor] = []
        pooled: list[Tensor] = []  # inputs of the classifier, as `_fast_model` computes them
        with self.model.fc.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0])):
            for batch in torch.cat(pixels).split(batch_size) if pixels else ():
                logits.append(self._fast_model(center_crop(batch.to(self.device), spec)))
                bar.update(len(batch))
        outputs = [torch.cat(parts).float().cpu().chunk(len(pixels)) for parts in (logits, pooled) if parts]
        of_videos = zip(*outputs, strict=True)
        for item in group:
            yield self._prediction(item, next(of_videos), top) if isinstance(item, _DecodedClips) else item

    def _prediction(self, decoded: _DecodedClips, outputs: tuple[Tensor, ...], top: int) -> Prediction:
        (logits, features), spec, fps, weights = outputs, decoded.spec, decoded.info.fps, self.weights
        probs = logits.softmax(1)
        mean = probs.mean(0)
        best = mean.argsort(descending=True)[:top].tolist()
        source = f"{decoded.info.frames} at " + (f"{fps:.4g} frames a second" if fps else "an unknown rate")
        protocol = (
            f"{weights.variant}-{weights.depth} ({weights.layout}); {count_noun(spec.eval_clips, 'clip')} of "
            f"{count_noun(spec.frames, 'frame')}, stride {spec.frame_stride}, from {source}; center crop "
            f"{spec.crop}×{spec.crop} of {spec.frame_height}×{spec.frame_width}; mean of softmax; {self._names_source}"
        )
        return Prediction(
            [(self.classes[index], mean[index].item()) for index in best],
            crop_frames(decoded.pixels[:, spec.frames // 2], spec).copy(),
            protocol,
            probs[:, best].numpy(),
            features.mean(0).numpy(),
            decoded.indices[:, spec.frames // 2],
            fps,
        )


def _decode(path: Path | str, weights: Weights, overrides: dict) -> _DecodedClips | R21DError:
    """Return the clips of a video file for `weights`, or the error that it raises."""
    path = Path(path)
    try:
        info = probe(path)
        spec = spec_for_video(weights, info.fps).replace(**overrides)
        videos = (Video(path.name, path.parent, "", "test", path.name, info.frames),)
        indices = evaluation_clips(spec, spec.eval_clips, videos, ("",)).frames
        pixels = read_frames(path, indices.reshape(-1), (spec.frame_height, spec.frame_width))
    except R21DError as error:
        return error
    return _DecodedClips(info, spec, indices, pixels.reshape(*indices.shape, *pixels.shape[1:]))


def weights_for_frames(weights: Run | Path | str, folder: Path | str = "weights") -> Weights:
    """Return the Weights of a run, its folder, a file, or a published name in `folder`.

    Raises R21DError for a run in a pack and for flow.
    """
    if isinstance(weights, Run) and not isinstance(weights.folder, Path):
        raise R21DError(f"{weights.folder}: a pack holds no weights; train the run in a folder of runs")
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
    row = published_row(weights)
    stride = max(1, round(fps / row.fps)) if row and row.fps and fps else 1
    return Spec(frames=weights.frames or (row.frames if row else DEFAULT_FRAMES), frame_stride=stride)


def published_row(weights: Weights) -> Published | None:
    """Return the row of PUBLISHED that these weights are, or None."""
    return next((row for row in PUBLISHED if weights.sha256.startswith(row.sha256)), None)


def class_names(weights: Weights) -> tuple[tuple[str, ...], str]:
    """Return the names of the outputs, and where they come from."""
    run = Run(weights.spec, weights.path.parent) if weights.spec else None
    if run and (run.folder / "scores.npz").exists():
        return run.scores.classes, "classes of the run"
    if weights.spec is None and weights.num_classes == 400:
        return kinetics400(), "Kinetics-400 classes in alphabetical order, as there are 400 outputs"
    return tuple(f"output {number}" for number in range(weights.num_classes)), "the weights do not name their classes"
