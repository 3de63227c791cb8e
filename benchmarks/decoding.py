"""Decoding throughput of this reader and others, the time of its stages, and throughput of the loader's workers."""

from __future__ import annotations

import importlib
import importlib.metadata
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch

from r21d_core.data.decode import _decode, read_frames
from r21d_core.data.manifest import Manifest, Video
from r21d_core.data.sampling import Clips, sample_epoch
from r21d_core.data.sources import StreamingSource
from r21d_core.data.video_file import open_video
from r21d_core.study.spec import Spec

SIZE = (128, 171)  # height, width


def bench_decode(
    manifest: Manifest,
    *,
    frames: Sequence[int] = (8, 16),
    size: tuple[int, int] = SIZE,
    clips: int = 60,
    repeats: int = 5,
    seed: int = 0,
) -> list[dict]:
    """Return a row per reader (ours, torchcodec, decord) and clip length: clips per second of one thread.

    Each clip begins at a random frame and is read as uint8 RGB of `size`. All readers read the same clips, in turns,
    `repeats` times after a warm-up. `clips_per_second` and `milliseconds` are medians, `spread` is
    (max − min) / median. `cpu_milliseconds` is the time of a clip on all cores, as some readers start threads on their
    own. A reader that is not installed or fails has a row without numbers, with the reason as `state`.
    """
    rows = []
    for length in frames:
        requests = _clips(manifest.videos, length, size, clips, seed)
        readers: dict[str, Callable[[Path, np.ndarray], object]] = {
            "ours": lambda path, numbers: read_frames(path, numbers, size)
        }
        states = {"ours": "measured"}
        for what, make in (("torchcodec", _torchcodec), ("decord", _decord)):
            try:
                readers[what] = make(size)
                readers[what](*requests[0])
                states[what] = f"measured, {importlib.metadata.version(what)}"
            except ImportError:
                states[what] = "not installed"
                readers.pop(what, None)
            except Exception as error:  # other libraries raise anything; the row reports it
                states[what] = f"fails: {' '.join(str(error).split())[:200]}"
                readers.pop(what, None)
        rounds = _time_readers(readers, requests, repeats)
        for what, state in states.items():
            seconds, cores = zip(*rounds[what], strict=True) if what in rounds else ((), ())
            rows.append(
                {"bench": "decode", "what": what, "frames": length, "height": size[0], "width": size[1]}
                | {"clips": len(requests), "repeats": repeats, "state": state}
                | _summarize([len(requests) / one for one in seconds])
                | {"cpu_milliseconds": statistics.median(cores) / len(requests) * 1e3 if cores else None}
            )
    return rows


def bench_decode_time(
    manifest: Manifest,
    *,
    frames: Sequence[int] = (8, 16),
    size: tuple[int, int] = SIZE,
    clips: int = 60,
    repeats: int = 5,
    seed: int = 0,
) -> list[dict]:
    """Return a row per clip length with the fractions of the time of our reader's stages.

    The same clips are opened, opened and decoded, and read, in turns, `repeats` times after a warm-up. A stage's time
    is the difference of the medians with and without it. Opening includes finding and reading the clip's packets.
    """
    rows = []
    for length in frames:
        requests = _clips(manifest.videos, length, size, clips, seed)
        stages = {
            "opening, demuxing": _open,
            "decoding": _open_and_decode,
            "scaling, to RGB": lambda path, numbers: read_frames(path, numbers, size),
        }
        rounds = _time_readers(stages, requests, repeats)
        reached = [0.0, *(statistics.median(seconds for seconds, _ in each) for each in rounds.values())]
        rows.append(
            {"bench": "decode time", "what": "ours", "frames": length, "height": size[0], "width": size[1]}
            | {"clips": len(requests), "repeats": repeats}
            | {
                stage: (end - begin) / reached[-1]
                for stage, (begin, end) in zip(stages, pairwise(reached), strict=True)
            }
        )
    return rows


def bench_loader(
    manifest: Manifest,
    *,
    workers: Sequence[int] = (4,),
    frames: Sequence[int] = (8, 16),
    size: tuple[int, int] = SIZE,
    batch: int = 32,
    batches: int = 20,
    repeats: int = 5,
    device: str = "cpu",
    seed: int = 0,
) -> list[dict]:
    """Return a row per number of workers and clip length: clips per second that `StreamingSource` loads to the device.

    `seconds_to_first` is the time from the start of the workers to the first batch. The batches that are ready by then
    are skipped. Then `batches` batches are timed `repeats` times: the median, and `spread`, (max − min) / median.
    """
    target, videos = torch.device(device), manifest.videos
    rows = []
    for number in workers:
        for length in frames:
            ready = 2 * number + 1
            spec = _spec(length, size, (ready + repeats * batches) * batch, seed)
            requests = sample_epoch(spec, 0, videos, tuple(dict.fromkeys(video.label for video in videos)))
            parts = (requests[begin : begin + batch] for begin in range(0, len(requests), batch))
            began = time.perf_counter()
            source = StreamingSource(videos, size, target, number).iter_batches(parts)
            next(source)
            first = time.perf_counter() - began
            _drain(islice(source, ready - 1), target)
            rates = [batches * batch / _drain(islice(source, batches), target) for _ in range(repeats)]
            source.close()
            rows.append(
                {"bench": "loader", "what": f"ours, {number} workers", "frames": length, "workers": number}
                | {"height": size[0], "width": size[1], "batch": batch, "clips": batches * batch, "repeats": repeats}
                | {"state": f"measured, {device}", "seconds_to_first": first}
                | _summarize(rates)
            )
    return rows


def _time_readers(
    readers: dict[str, Callable[[Path, np.ndarray], object]], requests: list[tuple[Path, np.ndarray]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Return each reader's seconds of wall time and of all cores for all clips, `repeats` times after a warm-up."""
    times = {what: [] for what in readers}
    for _ in range(repeats + 1):
        for what, reader in readers.items():
            began, busy = time.perf_counter(), time.process_time()
            for path, numbers in requests:
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


def _drain(source, device: torch.device) -> float:
    """Return the seconds until all of `source` is on the device."""
    began = time.perf_counter()
    for _ in source:
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _summarize(rates: list[float]) -> dict:
    if not rates:
        return {"clips_per_second": None, "milliseconds": None, "spread": None}
    median = statistics.median(rates)
    return {"clips_per_second": median, "milliseconds": 1e3 / median, "spread": (max(rates) - min(rates)) / median}


def _spec(frames: int, size: tuple[int, int], clips: int, seed: int) -> Spec:
    return Spec(
        frames=frames,
        frame_height=size[0],
        frame_width=size[1],
        crop=min(112, *size),
        clips_per_epoch=clips,
        seed=seed,
    )


def _clips(
    videos: tuple[Video, ...], frames: int, size: tuple[int, int], clips: int, seed: int
) -> list[tuple[Path, np.ndarray]]:
    """Return the path and frame numbers (T,) of each of `clips` training clips."""
    spec = _spec(frames, size, clips, seed)
    requests: Clips = sample_epoch(spec, 0, videos, tuple(dict.fromkeys(video.label for video in videos)))
    return [(videos[video].path, numbers) for video, numbers in zip(requests.video, requests.frames, strict=True)]


def _torchcodec(size: tuple[int, int]) -> Callable[[Path, np.ndarray], object]:
    decoders = importlib.import_module("torchcodec.decoders")
    resize = importlib.import_module("torchcodec.transforms").Resize(size)

    def read(path: Path, numbers: np.ndarray):
        decoder = decoders.VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, transforms=[resize])
        return decoder.get_frames_at(numbers.tolist()).data

    return read


def _decord(size: tuple[int, int]) -> Callable[[Path, np.ndarray], object]:
    decord = importlib.import_module("decord")

    def read(path: Path, numbers: np.ndarray):
        return decord.VideoReader(str(path), height=size[0], width=size[1], num_threads=1).get_batch(numbers).asnumpy()

    return read
