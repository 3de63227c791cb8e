"""What data cost a network: training on sampled clips against clips that are there, and evaluating on few or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch

from benchmarks.baselines import baselines, training_step
from benchmarks.steps import rates, row_of, synthetic_batch, time_interleaved, warm_up
from r21d_core.data.manifest import Manifest, Video
from r21d_core.data.sampling import Clips, evaluation_clips, sample_epoch
from r21d_core.data.sources import InMemorySource, StreamingSource, open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine.device import autocast
from r21d_core.engine.evaluate import predict
from r21d_core.engine.throughput import inference_throughput
from r21d_core.study.spec import Spec

LENGTH = 100  # frames of a made-up video
CROPS = {
    "sampled, the paper's crop": {"crop_area": 0.0, "brightness": 0.0},
    "sampled, resized crops and brightness": {"crop_area": 0.35, "brightness": 0.4},
}


def bench_memory(spec: Spec, device: torch.device, *, seconds: float = 5.0) -> list[dict]:
    """Rows of training on one batch over and over, and on clips sampled from frames in the device's memory.

    The frames are made up; sampling, cropping and the step are those of a run. Rates as in `bench_train`.
    """
    number = 4 if device.type == "cpu" else 200
    shape = (number * LENGTH, spec.frame_height, spec.frame_width, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    memory = InMemorySource(frames, LENGTH * np.arange(number), device)
    names = [f"{one}.mp4" for one in range(number)]
    videos = tuple(Video(name, Path(), "made up", "train", name, LENGTH) for name in names)
    form, again, fed = _trainer(spec, device)
    works = {"one batch over and over": again}
    for what, crop in CROPS.items():
        works[what] = fed(spec.replace(**crop), memory.iter_batches(_batches(spec, videos, ("made up",))))
    for work in works.values():
        warm_up(work, device, seconds)
    calls = time_interleaved(works, device, seconds, f"memory {spec.variant}")
    return [row_of("memory", spec, form.precision, what) | rates(spec, calls[what]) for what in works]


def bench_stream(
    spec: Spec, manifest: Manifest, device: torch.device, *, workers: int | None = None, seconds: float = 5.0
) -> list[dict]:
    """Rows of training on one batch over and over, and on clips that `workers` decode. Rates as in `bench_train`.

    The stream has its rounds in one go, once what its workers had decoded ahead is used up: a pause would let them
    get ahead again.
    """
    videos = manifest.split("train")
    source = open_clips(videos, (spec.frame_height, spec.frame_width), device, "stream", workers)
    assert isinstance(source, StreamingSource)
    form, again, fed = _trainer(spec, device)
    reader = source.iter_batches(_batches(spec, videos, manifest.card.classes))
    work = fed(spec, reader)
    for _ in range(2 * source.workers + 2):
        work()
    what, before = f"streamed by {source.workers} workers", "one batch over and over"
    calls = time_interleaved({what: work}, device, seconds, f"stream {spec.variant}")
    reader.close()  # ends the workers, which would take the machine from what comes
    warm_up(again, device, seconds)
    calls = time_interleaved({before: again}, device, seconds, f"stream {spec.variant}") | calls
    data = {"data": manifest.card.name}
    return [row_of("stream", spec, form.precision, what) | data | rates(spec, calls[what]) for what in calls]


def _trainer(spec: Spec, device: torch.device):
    """The form that the engine runs, a call that trains it on one batch over and over, and what makes such a call of
    a reader of batches and the Spec they are cropped by.
    """
    form = baselines(spec, device)[-1]
    _, step = training_step(form, spec, device)
    clips, target = synthetic_batch(spec, device)

    def fed(spec: Spec, reader: Iterator[tuple[Clips, torch.Tensor]]) -> Callable[[], None]:
        def work():
            clips, frames = next(reader)
            step(augment(frames, clips, spec), torch.from_numpy(clips.label).to(device, non_blocking=True))

        return work

    return form, lambda: step(clips, target), fed


def _batches(spec: Spec, videos: tuple[Video, ...], classes: tuple[str, ...]) -> Iterator[Clips]:
    """Training batches without end, all of the same size."""
    spec = spec.replace(clips_per_epoch=max(spec.clips_per_epoch, spec.batch_size))
    for epoch in count():
        clips = sample_epoch(spec, epoch, videos, classes)
        for begin in range(0, len(clips) - spec.batch_size + 1, spec.batch_size):
            yield clips[begin : begin + spec.batch_size]


def bench_evaluate(
    spec: Spec, manifest: Manifest, device: torch.device, *, workers: int | None = None, seconds: float = 5.0
) -> list[dict]:
    """Rows of the seconds that 10 and 100 clips a video take, from files, on so many test videos as time allows.

    Each video is decoded once for all its clips. The first row is of one clip of one video, which is what it takes to
    start the decoding processes; the others have that in them.
    """
    form = baselines(spec, device)[-1]
    spec = spec.replace(precision=form.precision)
    network = form.call(form.network(spec, device), spec, device).eval()
    clips, _ = synthetic_batch(spec, device)
    with torch.inference_mode(), autocast(spec, device):
        warm_up(lambda: network(clips), device, seconds)
    rate = inference_throughput(network, spec, device)
    videos = manifest.split("test")
    videos = videos[: max(1, int(rate * seconds / 100))]
    source = open_clips(videos, (spec.frame_height, spec.frame_width), device, "stream", workers)
    rows = []
    for what, each in (("1 clip of 1 video", 1), ("10 clips a video", 10), ("100 clips a video", 100)):
        asked = evaluation_clips(spec, each, videos[:1] if each == 1 else videos, manifest.card.classes)
        began = time.perf_counter()
        predict(network, source, asked, spec, title=f"{spec.variant}, {what}")
        taken = time.perf_counter() - began
        row = row_of("evaluate", spec, form.precision, what) | {"data": manifest.card.name, "videos": len(videos)}
        rows.append(row | {"seconds": taken, "clips_per_second": len(asked) / taken, "reference": each == 10})
    return rows
