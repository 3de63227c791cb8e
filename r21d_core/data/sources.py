"""Sources of clips: all frames in memory, or a stream from decoding workers. Both give the same clips."""

from __future__ import annotations

import math
import multiprocessing
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import chain, cycle, islice
from operator import length_hint
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.decode import read_all, read_frames
from r21d_core.data.manifest import Video
from r21d_core.data.parallel import AHEAD, available_memory, count_workers, local_world_size, map_in_processes
from r21d_core.data.sampling import Clips, frame_counts

FEW_PIXELS = 2e8  # fewer are decoded faster than worker processes start
Item = tuple[Clips, dict[int, Video]]  # clips, and the videos of their rows
Batch = tuple[Clips, Tensor, dict[str, str]]  # clips, their frames, and why videos are bad


@dataclass(frozen=True)
class InMemorySource:
    """All frames of some videos, decoded once: uint8 (frames, H, W, 3) on the host or the device."""

    frames: Tensor
    first: np.ndarray  # (videos,) index of each video's first frame
    device: torch.device

    def iter_batches(self, batches: Iterable[Clips]) -> Generator[tuple[Clips, Tensor], None, None]:
        """Yield each batch of clips with its frames, uint8 (N, T, H, W, 3) on the device."""
        for clips in batches:
            indices = torch.from_numpy(self.first[clips.video][:, None] + clips.frames)
            indices = indices.to(self.frames.device, non_blocking=True)  # else the host waits for the previous step
            yield clips, self.frames[indices].to(self.device)


@dataclass(frozen=True)
class StreamingSource:
    """Videos that worker processes decode as batches need them; each worker opens the files itself."""

    videos: tuple[Video, ...]
    size: tuple[int, int]
    device: torch.device
    workers: int
    on_bad: Callable[[str, str], None] | None = None  # called with video and reason; None: a bad video is an error

    def iter_batches(self, batches: Iterable[Clips]) -> Generator[tuple[Clips, Tensor], None, None]:
        """As of InMemorySource. Clips of a bad video are replaced by others of the batch, or R21DError names it."""
        items = ((clips, {row: self.videos[row] for row in np.unique(clips.video).tolist()}) for clips in batches)
        decode, number = partial(_decode_batch, size=self.size), length_hint(batches, sys.maxsize)
        for clips, frames, bad in self._decode_ahead(items, number) if self.workers else map(decode, items):
            for video, reason in bad.items():
                if self.on_bad is None or not len(clips):
                    title = [] if len(clips) else ["no video of a whole batch could be decoded:"]
                    advice = "run `r21d check` on the manifest, which sets such videos aside"
                    raise R21DError("\n".join([*title, *bad.values(), advice]))
                self.on_bad(video, reason)
            yield clips, frames.to(self.device, non_blocking=True)

    def _decode_ahead(self, items: Iterator[Item], number: int) -> Iterator[Batch]:
        """Decode `number` batches at most in worker processes, which write into slots of memory shared with this one.

        A tensor as a result would cost this process several messages for each batch, 20 ms where all CPUs are busy. A
        thread copies the next batch out of its slot, on a GPU to pinned memory.
        """
        head = list(islice(items, 2))  # of which one may be the last of an epoch, and smaller than the others
        if not head:
            return
        # For the batches that map_in_processes computes ahead, the next one and the one being copied.
        count = min(AHEAD * self.workers + 2, number)
        size = max(1, *(clips.frames.size for clips, _ in head)) * math.prod(self.size) * 3
        memory = _share_memory(count * size, self.workers)
        slots = torch.frombuffer(memory, dtype=torch.uint8).view(count, size)
        numbered = zip(cycle(range(count)), chain(head, items), strict=False)
        decode, setup = partial(_decode_into_slot, size=self.size), partial(_open_slots, memory, count)
        decoded = map_in_processes(decode, numbered, self.workers, "the same command continues the run", setup)
        ahead = deque()
        with closing(decoded), ThreadPoolExecutor(1) as thread:
            for slot, (clips, frames, bad) in zip(cycle(slots), decoded, strict=False):
                if frames is None:
                    shape = (*clips.frames.shape, *self.size, 3)
                    frames = slot[: math.prod(shape)].view(shape)
                ahead.append((clips, thread.submit(_copy, frames, self.device), bad))
                if len(ahead) > 1:
                    clips, copied, bad = ahead.popleft()
                    yield clips, copied.result(), bad
            for clips, copied, bad in ahead:
                yield clips, copied.result(), bad


def _copy(frames: Tensor, device: torch.device) -> Tensor:
    """Copy frames, for a GPU to pinned memory, in this thread alone: PyTorch's own copy takes a thread on every CPU and
    waits for all of them, while the workers occupy the CPUs: 11 to 16 ms for 17 MB.
    """
    if device.type != "cuda":
        return torch.from_numpy(frames.numpy().copy())
    with torch.cuda.device(device):  # that of a new thread is the first GPU
        pinned = torch.empty(frames.shape, dtype=frames.dtype, pin_memory=True)
    np.copyto(pinned.numpy(), frames.numpy())
    return pinned


def _share_memory(size: int, workers: int):
    """Memory that processes can share, by the standard library in /dev/shm, or below the temporary folder if larger."""
    places = [place for place in ("/dev/shm", tempfile.gettempdir()) if Path(place).is_dir()]
    if all(shutil.disk_usage(place).free < size for place in places):
        raise R21DError(
            f"{workers} decoding workers share {size / 1e9:.1f} GB of memory, more than {' or '.join(places)} has; use "
            "fewer --workers, or 0"
        )
    return multiprocessing.RawArray("B", size)


_slots = np.empty((0, 0), np.uint8)  # in a worker process: the memory that it shares with the main process


def _open_slots(memory, count: int) -> None:
    global _slots
    _slots = np.frombuffer(memory, np.uint8).reshape(count, -1)


def _decode_into_slot(item: tuple[int, Item], size: tuple[int, int]) -> tuple[Clips, Tensor | None, dict[str, str]]:
    """As _decode_batch, with None for frames that are at the beginning of their slot."""
    slot, (clips, videos) = item
    clips, frames, bad = _decode_batch((clips, videos), size, _slots[slot])
    return clips, None if np.may_share_memory(frames.numpy(), _slots) else frames, bad


def _decode_batch(item: Item, size: tuple[int, int], out: np.ndarray | None = None) -> Batch:
    """A batch of clips of these videos with its frames; in place of bad videos, whose reasons are third, good ones.
    Each video is opened once. A batch without a good video is returned empty. The frames are at the beginning of `out`
    if they fit.
    """
    clips, videos = item
    shape = (*clips.frames.shape, *size, 3)
    n_bytes = math.prod(shape)
    buffer = np.empty(n_bytes, np.uint8) if out is None or n_bytes > out.size else out[:n_bytes]
    frames = buffer.reshape(shape)
    is_good, bad = np.ones(len(clips), bool), {}
    for index, video in videos.items():
        rows = np.flatnonzero(clips.video == index)
        try:
            pixels = read_frames(video.path, clips.frames[rows].reshape(-1), size)
            frames[rows] = pixels.reshape(len(rows), *frames.shape[1:])
        except R21DError as error:
            bad[video.video], is_good[rows] = str(error), False
    if bad:
        rows, good = np.arange(len(clips)), np.flatnonzero(is_good)
        rows[~is_good] = np.resize(good, (~is_good).sum())
        rows = rows if len(good) else good
        clips, frames[: len(rows)] = clips[rows], frames[rows]
    return clips, torch.from_numpy(frames[: len(clips)]), bad


def open_clips(
    videos: tuple[Video, ...], size: tuple[int, int], device: torch.device, cache: str = "auto",
    workers: int | None = None, on_bad: Callable[[str, str], None] | None = None, *,
    pool: tuple[Video, ...] | None = None,
) -> InMemorySource | StreamingSource:  # fmt: skip
    """A source of clips of `videos`, with frames scaled to `size` = (height, width).
    `cache` is "device" or "host" (decoded once and held there as uint8), "stream" (decoded as needed) or "auto": the
    first of these with enough free memory. `workers` processes decode; 0 is this one. Calls with one `pool`, which
    contains `videos`, share frames.
    """
    pool, workers = pool or videos, count_workers(workers)
    files = tuple((video.path_text, count) for video, count in zip(pool, frame_counts(pool).tolist(), strict=True))
    memory = _load_frames(files, size, device, cache, workers)
    if memory is None:
        return StreamingSource(videos, size, device, workers, on_bad)
    index = {file: number for number, (file, _) in enumerate(files)}
    return replace(memory, first=memory.first[[index[video.path_text] for video in videos]])


@lru_cache(maxsize=4)  # such as frames and flow of two data sets; "auto" decides once for each
def _load_frames(
    files: tuple[tuple[str, int], ...], size: tuple[int, int], device: torch.device, cache: str, workers: int
) -> InMemorySource | None:
    """Decode the files, (path, frame count), into memory; None if they are to be streamed."""
    counts = np.array([count for _, count in files])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if cache == "auto":
        need = int(counts.sum()) * size[0] * size[1] * 3
        cache = "host" if need * local_world_size() < 0.5 * available_memory() else "stream"
        if device.type == "cuda":  # half of its memory is left to the network
            free, total = torch.cuda.mem_get_info(device)
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            cache = "device" if need < free - 0.5 * total else cache
    if cache == "stream":
        return None
    frames = torch.empty((counts.sum(), *size, 3), dtype=torch.uint8, device=device if cache == "device" else "cpu")
    paths = [Path(file) for file, _ in files]
    workers = workers if counts.sum() * size[0] * size[1] >= FEW_PIXELS else 0
    decoded = map_in_processes(partial(_read_tensor, size=size), paths, workers, "the same command starts again")
    decoded = tqdm(decoded, "decoding", len(files), unit="video", leave=False)
    for path, begin, count, pixels in zip(paths, first, counts, decoded, strict=True):
        if len(pixels) != count:
            raise R21DError(f"{path}: {len(pixels)} frames, {count} in the manifest; run `r21d check` on the manifest")
        frames[begin : begin + count] = pixels
    return InMemorySource(frames, first, device)


def _read_tensor(path: Path, size: tuple[int, int]) -> Tensor:
    """The frames; a worker process sends a tensor in shared memory, where an array would go through a pipe."""
    return torch.from_numpy(np.ascontiguousarray(read_all(path, size)))
