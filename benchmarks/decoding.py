"""Decoding throughput of this reader and others, the time of its stages, and throughput of the loader's workers.

Clips begin at random frames and are read as uint8 RGB of SIZE. All readers, and all stages of ours, read the same CLIPS
clips in turns, REPEATS times after a warm-up, in one thread.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import cycle, islice, pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.profiler import synchronize
from r21d_core.data.decode import _decode, read_frames
from r21d_core.data.manifest import Manifest, Video
from r21d_core.data.parallel import AHEAD
from r21d_core.data.sampling import Clips, sample_epoch
from r21d_core.data.sources import StreamingSource
from r21d_core.data.video_file import open_video
from r21d_core.study.spec import Spec

SIZE = (128, 171)  # height, width
LENGTHS = (8, 16)
CLIPS, REPEATS = 60, 5
BATCH, ROUND = 32, 5  # the loader's clips of a batch, and a round as a multiple of the batches that are decoded ahead

Reader = Callable[[Path, np.ndarray], object]  # reads the frames (T,) of a file


def bench_decode(manifest: Manifest) -> list[dict]:
    """Return a row per reader (ours, torchcodec, decord) and clip length: clips per second of one thread.

    `clips_per_second` and `milliseconds` are medians, `spread` is (max − min) / median. `cpu_milliseconds` is the time
    of a clip on all cores, as some readers start threads on their own. A reader that is not installed or fails has a
    row without numbers, with the reason as `state`.
    """
    rows = []
    for length in LENGTHS:
        clips = _clips(manifest.videos, length)
        readers: dict[str, Reader] = {"ours": partial(read_frames, size=SIZE)}
        states = {"ours": "measured"}
        for what, make in (("torchcodec", _torchcodec), ("decord", _decord)):
            try:
                reader = make()
                reader(*clips[0])
                readers[what], states[what] = reader, f"measured, {importlib.metadata.version(what)}"
            except ImportError:
                states[what] = "not installed"
            except Exception as error:  # other libraries raise anything; the row reports it
                states[what] = f"fails: {' '.join(str(error).split())[:200]}"
        rounds = _time_readers(readers, clips)
        for what, state in states.items():
            seconds, cores = zip(*rounds[what], strict=True) if what in rounds else ((), ())
            rows.append(
                _row("decode", what, length, clips=CLIPS, state=state)
                | _summarize([CLIPS / of_round for of_round in seconds])
                | {"cpu_milliseconds": statistics.median(cores) / CLIPS * 1e3 if cores else None}
            )
    return rows


def bench_decode_time(manifest: Manifest) -> list[dict]:
    """Return a row per clip length with the fractions of the time of our reader's stages.

    A stage's time is the difference of the medians with and without it. Opening includes finding and reading the clip's
    packets.
    """
    rows = []
    for length in LENGTHS:
        stages: dict[str, Reader] = {
            "opening, demuxing": _open,
            "decoding": _open_and_decode,
            "scaling, to RGB": partial(read_frames, size=SIZE),
        }
        rounds = _time_readers(stages, _clips(manifest.videos, length))
        reached = [0.0, *(statistics.median(seconds for seconds, _ in each) for each in rounds.values())]
        fractions = [(end - begin) / reached[-1] for begin, end in pairwise(reached)]
        rows.append(_row("decode time", "ours", length, clips=CLIPS) | dict(zip(stages, fractions, strict=True)))
    return rows


def bench_loader(manifest: Manifest, workers: Sequence[int], device: torch.device) -> list[dict]:
    """Return a row per number of workers and clip length: clips per second that `StreamingSource` loads to the device.

    `seconds_to_first` is the time from the start of the workers to the first batch. The batches that are ready by then
    are skipped. Then REPEATS rounds of `clips` are timed without a pause, ROUND times as many as can be `ahead`, as
    fewer could be ready or come at once. `clips_per_second` is the median, `spread` is (max − min) / median.
    """
    rows = []
    for number in workers:
        for length in LENGTHS:
            ahead = (AHEAD * number + 2) * BATCH
            n_clips = ROUND * ahead
            clips = _sample(manifest.videos, length, n_clips)
            parts = cycle([clips[begin : begin + BATCH] for begin in range(0, n_clips, BATCH)])
            began = time.perf_counter()
            source = StreamingSource(manifest.videos, SIZE, device, number).iter_batches(parts)
            next(source)
            first = time.perf_counter() - began
            _drain(islice(source, ahead // BATCH), device)
            rates = [n_clips / _drain(islice(source, n_clips // BATCH), device) for _ in range(REPEATS)]
            source.close()
            rows.append(
                _row("loader", f"ours, {number} workers", length, workers=number, batch=BATCH, ahead=ahead)
                | {"clips": n_clips, "state": f"measured, {device}", "seconds_to_first": first}
                | _summarize(rates)
            )
    return rows


def _row(bench: str, what: str, frames: int, **values) -> dict:
    size = {"height": SIZE[0], "width": SIZE[1]}
    return {"bench": bench, "what": what, "frames": frames} | size | values | {"repeats": REPEATS}


def _time_readers(
    readers: Mapping[str, Reader], clips: Sequence[tuple[Path, np.ndarray]]
) -> dict[str, list[tuple[float, float]]]:
    """Return each reader's seconds of wall time and of all cores for all clips, in REPEATS rounds after a warm-up."""
    times = {what: [] for what in readers}
    for _ in range(REPEATS + 1):
        for what, reader in readers.items():
            began, busy = time.perf_counter(), time.process_time()
            for path, numbers in clips:
                reader(path, numbers)
            times[what].append((time.perf_counter() - began, time.process_time() - busy))
    return {what: rounds[1:] for what, rounds in times.items()}


def _open(path: Path, numbers: np.ndarray) -> None:
    with open_video(path):
        pass


def _open_and_decode(path: Path, numbers: np.ndarray) -> None:
    with open_video(path) as video:
        for _ in _decode(video, np.unique(numbers).tolist()):
            pass


def _drain(source: Iterable, device: torch.device) -> float:
    """Return the seconds until all of `source` is on the device."""
    began = time.perf_counter()
    for _ in source:
        pass
    synchronize(device)
    return time.perf_counter() - began


def _summarize(rates: list[float]) -> dict:
    if not rates:
        return {"clips_per_second": None, "milliseconds": None, "spread": None}
    median = statistics.median(rates)
    return {"clips_per_second": median, "milliseconds": 1e3 / median, "spread": (max(rates) - min(rates)) / median}


def _sample(videos: tuple[Video, ...], frames: int, n_clips: int) -> Clips:
    height, width = SIZE
    spec = Spec(frames=frames, frame_height=height, frame_width=width, crop=min(112, *SIZE), clips_per_epoch=n_clips)
    return sample_epoch(spec, 0, videos, tuple(dict.fromkeys(video.label for video in videos)))


def _clips(videos: tuple[Video, ...], frames: int) -> list[tuple[Path, np.ndarray]]:
    """Return the path and frame numbers (T,) of each of CLIPS training clips."""
    clips = _sample(videos, frames, CLIPS)
    return [(videos[video].path, numbers) for video, numbers in zip(clips.video, clips.frames, strict=True)]


def _torchcodec() -> Reader:
    decoders = importlib.import_module("torchcodec.decoders")
    resize = importlib.import_module("torchcodec.transforms").Resize(SIZE)

    def read(path: Path, numbers: np.ndarray):
        decoder = decoders.VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, transforms=[resize])
        return decoder.get_frames_at(numbers.tolist()).data

    return read


def _decord() -> Reader:
    reader, (height, width) = importlib.import_module("decord").VideoReader, SIZE
    return lambda path, numbers: (
        reader(str(path), height=height, width=width, num_threads=1).get_batch(numbers).asnumpy()
    )
