"""Predict logits for clips, and evaluate a model on a test split."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from r21d_core.data.manifest import DatasetCard, Video
from r21d_core.data.sampling import Clips, batches_by_video, evaluation_clips, task_classes
from r21d_core.data.sources import InMemorySource, StreamingSource
from r21d_core.data.transforms import center_crop
from r21d_core.engine.device import autocast
from r21d_core.engine.distributed import all_reduce_sum_, raise_on_all_ranks, rank, world_size
from r21d_core.models.fast_forward import FastVideoResNet
from r21d_core.models.imported import named_failures
from r21d_core.models.neighbors import Neighbor
from r21d_core.models.network import VideoResNet
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

Model = VideoResNet | FastVideoResNet | Neighbor
Source = InMemorySource | StreamingSource


@torch.inference_mode()
def predict(model: Model, source: Source, clips: Clips, spec: Spec, title: str | None = None) -> Tensor:
    """Return the logits (N, classes) of `clips`, float32 on the host; each video is decoded once for all its clips.

    Several processes take batches of whole videos in turn, and all return all logits. A `title` shows a progress bar.
    """
    training = model.training
    model.eval()
    batches = list(batches_by_video(clips, spec.batch_size))
    begins = np.cumsum([0, *map(len, batches)])
    own = slice(rank(), None, world_size())
    disable: dict[str, Any] = {} if title else {"disable": True}  # disable=False would overrule TQDM_DISABLE
    bar = tqdm(total=sum(map(len, batches[own])), desc=title, unit="clip", leave=False, **disable)
    num_classes: Any = model.num_classes
    logits = torch.zeros(len(clips), num_classes, device=source.device)
    with raise_on_all_ranks():
        for begin, (_, frames) in zip(begins[:-1][own], source.iter_batches(batches[own]), strict=True):
            for number, part in enumerate(frames.split(spec.batch_size)):
                first = begin + number * spec.batch_size
                with autocast(spec, source.device), named_failures(spec.variant):
                    logits[first : first + len(part)] = model(center_crop(part, spec)).float()
                bar.update(len(part))
    bar.close()
    model.train(training)
    return all_reduce_sum_(logits).cpu()


def evaluate(model: Model, source: Source, videos: tuple[Video, ...], card: DatasetCard, spec: Spec) -> Scores:
    """Return the Scores of `model` on the test split `videos`: `spec.eval_clips` center-cropped clips per video."""
    clips = evaluation_clips(spec, spec.eval_clips, videos, card.classes)
    logits = predict(model, source, clips, spec, title=f"{spec.variant}: evaluating")
    names = task_classes(spec, card.classes)
    evaluated = [videos[row] for row in clips.video[:: spec.eval_clips]]
    return Scores(
        logits=logits.view(-1, spec.eval_clips, len(names)).numpy(),
        labels=clips.label[:: spec.eval_clips],
        videos=np.array([video.video for video in evaluated]),
        groups=np.array([video.group for video in evaluated]),
        classes=names,
        protocol={
            "clips": spec.eval_clips,
            "crop": f"center crop {spec.crop}×{spec.crop} of {spec.frame_height}×{spec.frame_width}",
            "averaging": "mean of softmax",
            "frames": spec.frames,
            "frame_stride": spec.frame_stride,
            "task": spec.task,
            "modality": spec.modality,
            "data": card.name,
            "split": "test",
            "frame_rate": _frame_rates(videos),
            "videos_listed": card.expected.get("test", len(videos)),
            "videos_evaluated": len(videos),
            "families": {family: list(members) for family, members in card.families.items()},
            "profile": spec.profile,
        },
    )


def _frame_rates(videos: tuple[Video, ...]) -> str:
    rates = {round(video.fps, 2) for video in videos if video.fps}
    return "–".join(f"{rate:g}" for rate in sorted({min(rates), max(rates)})) + " fps" if rates else "unknown"
