"""Where clips come from: a set held in memory, or a stream of workers that decode. Both give the same clips."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.decode import read_all, read_frames
from r21d_core.data.manifest import Video
from r21d_core.data.parallel import available_cpus, local_world_size
from r21d_core.data.sampling import Clips, frame_counts

WORKER_TIMEOUT = 300  # seconds for a batch; a decoder that hangs must not hang the run


@dataclass(frozen=True)
class InMemorySource:
    """Every frame of some videos, decoded once: uint8 (frames, H, W, 3) on the host or the device."""

    frames: Tensor
    first: np.ndarray  # (videos,) where each video's frames begin
    device: torch.device

    def iter_batches(self, batches: Iterable[Clips]) -> Iterator[tuple[Clips, Tensor]]:
        """Each batch with its frames, uint8 (n, T, H, W, 3) on the device."""
        for clips in batches:
            numbers = torch.from_numpy(self.first[clips.video][:, None] + clips.frames)
            numbers = numbers.to(self.frames.device, non_blocking=True)  # or the host would wait for the step before
            yield clips, self.frames[numbers].to(self.device)


@dataclass(frozen=True)
class StreamingSource:
    """Videos that are decoded as they are needed, by worker processes that open every file themselves."""

    videos: tuple[Video, ...]
    size: tuple[int, int]
    device: torch.device
    workers: int
    on_bad: Callable[[str, str], None] | None = None  # called with video and reason; None: a bad video is an error

    def iter_batches(self, batches: Iterable[Clips]) -> Iterator[tuple[Clips, Tensor]]:
        """Each batch with its frames, uint8 (n, T, H, W, 3) on the device.

        A video that does not decode takes another clip of its batch in its place, where `on_bad` is there to be
        told; otherwise R21DError names it.
        """
        loader = DataLoader(
            _Decoded(self.videos, self.size),
            sampler=batches,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=self.workers,
            multiprocessing_context=_forkserver() if self.workers else None,
            timeout=WORKER_TIMEOUT if self.workers else 0,
            pin_memory=self.device.type == "cuda",
        )
        for rows, frames, bad in loader:
            for video, reason in bad:
                if self.on_bad is None:
                    raise R21DError(f"{reason}\nrun `r21d check` on the manifest, which sets such videos aside")
                self.on_bad(video, reason)
            yield Clips(*rows), frames.to(self.device, non_blocking=True)


def _as_it_is(batch):
    return batch


class _Decoded(Dataset):
    """What a worker does: a batch of clips in, their frames out, each video opened once."""

    def __init__(self, videos: tuple[Video, ...], size: tuple[int, int]):
        self.videos, self.size = videos, size

    def __getitem__(self, clips: Clips):
        shape = (*clips.frames.shape, *self.size, 3)
        frames = np.empty(shape, np.uint8)
        kept = np.arange(len(clips))
        bad = []
        for number in np.unique(clips.video):
            rows = np.flatnonzero(clips.video == number)
            video = self.videos[number]
            try:
                pixels = read_frames(video.path, clips.frames[rows].reshape(-1), self.size)
                frames[rows] = pixels.reshape(len(rows), *shape[1:])
            except R21DError as error:
                bad.append((video.video, str(error)))
                kept[rows] = -1
        if bad:  # or a copy of everything would be made for nothing
            good = kept[kept >= 0]
            if not len(good):
                raise R21DError("no video of a whole batch could be decoded:\n" + "\n".join(why for _, why in bad))
            kept[kept < 0] = np.resize(good, (kept < 0).sum())
            clips, frames = clips[kept], frames[kept]
        return (clips.video, clips.frames, clips.label, clips.draws), torch.from_numpy(frames), bad


def open_clips(
    videos: tuple[Video, ...],
    size: tuple[int, int],
    device: torch.device,
    cache: str = "auto",
    workers: int | None = None,
    on_bad: Callable[[str, str], None] | None = None,
    *,
    pool: tuple[Video, ...] | None = None,
) -> InMemorySource | StreamingSource:
    """A source of clips of `videos`, frames scaled to `size` = (height, width).

    `cache` is "device" or "host" (decoded once and held there as uint8), "stream" (decoded by `workers` as needed)
    or "auto": the first of these whose free memory is well above the need. Held are the videos `pool` which these
    are, such as all of a manifest, and they stay for the next run, also for one on another split of the same videos.
    """
    pool = pool or videos
    memory = _load_frames(tuple((video.path, count) for video, count in zip(pool, frame_counts(pool), strict=True)),
                   size, device, cache)  # fmt: skip
    if memory is None:
        return StreamingSource(videos, size, device, available_cpus() if workers is None else workers, on_bad)
    place = {video.path: number for number, video in enumerate(pool)}
    return replace(memory, first=memory.first[[place[video.path] for video in videos]])


@lru_cache(maxsize=4)  # frames and flow of two data sets, say; the choice made by "auto" stays with them
def _load_frames(
    files: tuple[tuple[Path, int], ...], size: tuple[int, int], device: torch.device, cache: str
) -> InMemorySource | None:
    """All frames of the files, of each of which the number of frames is given; None where they are to be streamed."""
    counts = np.array([count for _, count in files])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if cache == "auto":
        need = int(counts.sum()) * size[0] * size[1] * 3
        if device.type == "cuda" and need < _free_gpu_bytes(device):
            cache = "device"
        else:
            cache = "host" if need * local_world_size() < 0.5 * psutil.virtual_memory().available else "stream"
    if cache == "stream":
        return None
    frames = torch.empty((counts.sum(), *size, 3), dtype=torch.uint8, device=device if cache == "device" else "cpu")
    bar = tqdm(total=len(files), desc="decoding", unit="video", leave=False)
    paths = [path for path, _ in files]
    few = counts.sum() * size[0] * size[1] < 2e8  # sooner done than processes are started
    for path, begin, count, pixels in zip(paths, first, counts, _decode_all(paths, size, few), strict=True):
        if len(pixels) != count:
            raise R21DError(f"{path}: {len(pixels)} frames, {count} in the manifest; run `r21d check` on the manifest")
        frames[begin : begin + count] = pixels
        bar.update()
    bar.close()
    return InMemorySource(frames, first, device)


def _free_gpu_bytes(device: torch.device) -> float:
    """Bytes that frames may take of a GPU's memory, so that half of it is left for a network."""
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused - 0.5 * total


def _decode_all(paths: list[Path], size: tuple[int, int], few: bool) -> Iterator[Tensor]:
    """The frames of each video in order, by one process a core, never more than a few videos ahead."""
    if few:
        yield from (torch.from_numpy(np.ascontiguousarray(read_all(path, size))) for path in paths)
        return
    with ProcessPoolExecutor(available_cpus(), mp_context=_forkserver()) as pool:
        waiting = deque()
        for path in paths:
            waiting.append(pool.submit(_shared, path, size))
            if len(waiting) > 4 * available_cpus():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _shared(path: Path, size: tuple[int, int]) -> Tensor:
    """The frames in memory that both processes have: through a pipe they would take longer than to decode."""
    return torch.from_numpy(np.ascontiguousarray(read_all(path, size))).share_memory_()


def _forkserver():
    """Processes forked from a server that has imported what they need: each would take seconds to import torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # heeded by the server that the first such process starts
    return context
