"""How fast clips come from files: this reader beside others, where its time goes, and the loader with its workers."""

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
    """Clips a second that one thread reads at random starts, uint8 RGB of `size`: ours, torchcodec's and decord's.

    A row for each reader and clip length. All read the same clips, in turns, `repeats` times after one that does not
    count; `clips_per_second` and `milliseconds` are medians, `spread` is (most − least) / median. `cpu_milliseconds` is
    what a clip takes of all cores, since some readers start threads whatever they are told. A reader that is not
    installed, or fails on these files, has a row without numbers whose `state` says so.
    """
    rows = []
    for length in frames:
        asked = _clips(manifest.videos, length, size, clips, seed)
        readers: dict[str, Callable[[Path, np.ndarray], object]] = {
            "ours": lambda path, numbers: read_frames(path, numbers, size)
        }
        states = {"ours": "measured"}
        for what, make in (("torchcodec", _torchcodec), ("decord", _decord)):
            try:
                readers[what] = make(size)
                readers[what](*asked[0])
                states[what] = f"measured, {importlib.metadata.version(what)}"
            except ImportError:
                states[what] = "not installed"
                readers.pop(what, None)
            except Exception as error:  # whatever others' code raises is for the row to say
                states[what] = f"fails: {' '.join(str(error).split())[:200]}"
                readers.pop(what, None)
        rounds = _in_turns(readers, asked, repeats)
        for what, state in states.items():
            seconds, cores = zip(*rounds[what], strict=True) if what in rounds else ((), ())
            rows.append(
                {"bench": "decode", "what": what, "frames": length, "height": size[0], "width": size[1]}
                | {"clips": len(asked), "repeats": repeats, "state": state}
                | _summary([len(asked) / one for one in seconds])
                | {"cpu_milliseconds": statistics.median(cores) / len(asked) * 1e3 if cores else None}
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
    """Where the time of our reading in `bench_decode` goes: shares that sum to 1, a row for each clip length.

    The same clips are opened only, opened and decoded, and read, in turns, `repeats` times after one that does not
    count. A share is of the medians, what a stage takes being what it adds to the one before. Opening is finding and
    fetching the packets around the clip too.
    """
    rows = []
    for length in frames:
        asked = _clips(manifest.videos, length, size, clips, seed)
        stages = {
            "opening, demuxing": _open,
            "decoding": _open_and_decode,
            "scaling, to RGB": lambda path, numbers: read_frames(path, numbers, size),
        }
        rounds = _in_turns(stages, asked, repeats)
        reached = [0.0, *(statistics.median(seconds for seconds, _ in each) for each in rounds.values())]
        rows.append(
            {"bench": "decode time", "what": "ours", "frames": length, "height": size[0], "width": size[1]}
            | {"clips": len(asked), "repeats": repeats}
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
    """Clips a second that `Stream` brings to the device with so many workers, as training would read them.

    A row for each number of workers and clip length. `seconds_to_first` is from the start of the workers to the first
    batch. Then come as many batches as they hold ready, which do not count, and `repeats` times `batches`, of which
    the rows are the median and `spread`, (most − least) / median.
    """
    target, videos = torch.device(device), manifest.videos
    rows = []
    for number in workers:
        for length in frames:
            ready = 2 * number + 1
            spec = _spec(length, size, (ready + repeats * batches) * batch, seed)
            asked = sample_epoch(spec, 0, videos, tuple(dict.fromkeys(video.label for video in videos)))
            parts = (asked[begin : begin + batch] for begin in range(0, len(asked), batch))
            began = time.perf_counter()
            source = StreamingSource(videos, size, target, number).iter_batches(parts)
            next(source)
            first = time.perf_counter() - began
            _pass(islice(source, ready - 1), target)
            rates = [batches * batch / _pass(islice(source, batches), target) for _ in range(repeats)]
            source.close()
            rows.append(
                {"bench": "loader", "what": f"ours, {number} workers", "frames": length, "workers": number}
                | {"height": size[0], "width": size[1], "batch": batch, "clips": batches * batch, "repeats": repeats}
                | {"state": f"measured, {device}", "seconds_to_first": first}
                | _summary(rates)
            )
    return rows


def _in_turns(
    readers: dict[str, Callable[[Path, np.ndarray], object]], asked: list[tuple[Path, np.ndarray]], repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """What each reader takes for all that is asked, `repeats` times after one that does not count.

    In seconds: those that pass, and those of all cores.
    """
    taken = {what: [] for what in readers}
    for _ in range(repeats + 1):
        for what, reader in readers.items():
            began, busy = time.perf_counter(), time.process_time()
            for path, numbers in asked:
                reader(path, numbers)
            taken[what].append((time.perf_counter() - began, time.process_time() - busy))
    return {what: rounds[1:] for what, rounds in taken.items()}


def _open(path: Path, numbers: np.ndarray) -> None:
    with open_video(path):
        pass


def _open_and_decode(path: Path, numbers: np.ndarray) -> None:
    with open_video(path) as video:
        for _ in _decode(video, np.unique(numbers).tolist()):
            pass


def _pass(source, device: torch.device) -> float:
    """Seconds until all of `source` is on the device."""
    began = time.perf_counter()
    for _ in source:
        pass
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _summary(rates: list[float]) -> dict:
    if not rates:
        return {"clips_per_second": None, "milliseconds": None, "spread": None}
    middle = statistics.median(rates)
    return {"clips_per_second": middle, "milliseconds": 1e3 / middle, "spread": (max(rates) - min(rates)) / middle}


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
    """Files and frame numbers (frames,) of as many training clips."""
    spec = _spec(frames, size, clips, seed)
    asked: Clips = sample_epoch(spec, 0, videos, tuple(dict.fromkeys(video.label for video in videos)))
    return [(videos[video].path, numbers) for video, numbers in zip(asked.video, asked.frames, strict=True)]


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
