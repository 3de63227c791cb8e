"""The cost of reading clips: training on sampled clips against one batch, and evaluation by clips per video."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.baselines import Step, baselines, training_step
from benchmarks.steps import make_row, rates, synthetic_batch, time_interleaved, warm_up
from r21d_core.data.manifest import Manifest, Video
from r21d_core.data.parallel import AHEAD
from r21d_core.data.sampling import Clips, evaluation_clips, sample_epoch
from r21d_core.data.sources import InMemorySource, StreamingSource, open_clips
from r21d_core.data.transforms import augment
from r21d_core.engine.device import autocast
from r21d_core.engine.evaluate import predict
from r21d_core.engine.throughput import inference_throughput
from r21d_core.study.spec import Spec

LENGTH = 100  # frames of a synthetic video
CROPS = {
    "sampled, the paper's crop": {"crop_area": 0.0, "brightness": 0.0},
    "sampled, resized crops and brightness": {"crop_area": 0.35, "brightness": 0.4},
}


def bench_memory(spec: Spec, device: torch.device, seconds: float) -> list[dict]:
    """Return rows of training on the same batch each step, and on clips sampled from frames in device memory.

    The frames are random; sampling, cropping and the step are those of a run. Throughput is as in `bench_train`.
    """
    number = 4 if device.type == "cpu" else 200
    shape = (number * LENGTH, spec.frame_height, spec.frame_width, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    memory = InMemorySource(frames, LENGTH * np.arange(number), device)
    names = [f"{n}.mp4" for n in range(number)]
    videos = tuple(Video(name, Path(), "made up", "train", name, LENGTH) for name in names)
    baseline = baselines(spec, device)[-1]
    _, step = training_step(baseline, spec, device)
    steps = {"one batch over and over": partial(step, *synthetic_batch(spec, device))}
    for what, crop in CROPS.items():
        reader = memory.iter_batches(_batches(spec, videos, ("made up",)))
        steps[what] = partial(_step_on_read, step, spec.replace(**crop), reader)
    for call in steps.values():
        warm_up(call, device, seconds)
    calls = time_interleaved(steps, device, seconds, f"memory {spec.variant}")
    return [make_row("memory", spec, baseline.precision, what) | rates(spec, calls[what]) for what in steps]


def bench_stream(
    spec: Spec, manifest: Manifest, device: torch.device, seconds: float, workers: int | None = None
) -> list[dict]:
    """Return rows of training on the same batch each step, and on clips that `workers` decode.

    The stream is timed in consecutive rounds, as during a pause the workers would decode ahead. Batches that they
    decoded ahead before are skipped without training on them, which would give the workers time to decode others. A
    round has at least as many batches as can be ahead. Throughput is as in `bench_train`.
    """
    videos = manifest.split("train")
    source = open_clips(videos, (spec.frame_height, spec.frame_width), device, "stream", workers)
    assert isinstance(source, StreamingSource)
    baseline = baselines(spec, device)[-1]
    _, step = training_step(baseline, spec, device)
    reader = source.iter_batches(_batches(spec, videos, manifest.card.classes))
    step_on_stream, step_on_batch = (
        partial(_step_on_read, step, spec, reader),
        partial(step, *synthetic_batch(spec, device)),
    )
    warm_up(step_on_stream, device, seconds)
    ahead = AHEAD * source.workers + 2
    for _ in islice(reader, ahead):
        pass
    what, before = f"streamed by {source.workers} workers", "one batch over and over"
    calls = time_interleaved({what: step_on_stream}, device, seconds, f"stream {spec.variant}", ahead)
    reader.close()  # stops the workers, which would slow the next measurement
    warm_up(step_on_batch, device, seconds)
    calls = time_interleaved({before: step_on_batch}, device, seconds, f"stream {spec.variant}") | calls
    data = {"data": manifest.card.name}
    return [make_row("stream", spec, baseline.precision, what) | data | rates(spec, calls[what]) for what in calls]


def _step_on_read(step: Step, spec: Spec, reader: Iterator[tuple[Clips, torch.Tensor]]) -> None:
    """Take a training step on the next clips of `reader`, cropped as by `spec`."""
    clips, frames = next(reader)
    step(augment(frames, clips, spec), torch.from_numpy(clips.label).to(frames.device, non_blocking=True))


def _batches(spec: Spec, videos: tuple[Video, ...], classes: tuple[str, ...]) -> Iterator[Clips]:
    """Yield training batches of one size without end."""
    spec = spec.replace(clips_per_epoch=max(spec.clips_per_epoch, spec.batch_size))
    for epoch in count():
        clips = sample_epoch(spec, epoch, videos, classes)
        for begin in range(0, len(clips) - spec.batch_size + 1, spec.batch_size):
            yield clips[begin : begin + spec.batch_size]


def bench_evaluate(
    spec: Spec, manifest: Manifest, device: torch.device, seconds: float, workers: int | None = None
) -> list[dict]:
    """Return rows of the seconds that 10 and 100 clips per video take, from files, on as many test videos as fit.

    Each video is decoded once for all its clips. The first row, of one clip of one video, is the time to start the
    decoding processes, which the other rows include.
    """
    baseline = baselines(spec, device)[-1]
    spec = spec.replace(precision=baseline.precision)
    network = baseline.wrap(baseline.build(spec, device), spec, device).eval()
    clips, _ = synthetic_batch(spec, device)
    with torch.inference_mode(), autocast(spec, device):
        warm_up(lambda: network(clips), device, seconds)
    rate = inference_throughput(network, spec, device)
    videos = manifest.split("test")
    videos = videos[: max(1, int(rate * seconds / 100))]
    source = open_clips(videos, (spec.frame_height, spec.frame_width), device, "stream", workers)
    rows = []
    for what, n_clips in (("1 clip of 1 video", 1), ("10 clips a video", 10), ("100 clips a video", 100)):
        clips = evaluation_clips(spec, n_clips, videos[:1] if n_clips == 1 else videos, manifest.card.classes)
        began = time.perf_counter()
        predict(network, source, clips, spec, title=f"{spec.variant}, {what}")
        taken = time.perf_counter() - began
        row = make_row("evaluate", spec, baseline.precision, what) | {"data": manifest.card.name, "videos": len(videos)}
        rows.append(row | {"seconds": taken, "clips_per_second": len(clips) / taken, "reference": n_clips == 10})
    return rows
