"""Where clips come from: a set held in memory, or a stream of workers that decode. Both give the same clips."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data.manifest import Video
from r21d_core.data.processes import cores, sharers
from r21d_core.data.sampling import Clips, frame_counts
from r21d_core.data.video import read_all, read_frames

WORKER_TIMEOUT = 300  # seconds for a batch; a decoder that hangs must not hang the run


@dataclass(frozen=True)
class Memory:
    """Every frame of some videos, decoded once: uint8 (frames, H, W, 3) on the host or the device."""

    frames: Tensor
    first: np.ndarray  # (videos,) where each video's frames begin
    device: torch.device

    def read(self, batches: Iterable[Clips]) -> Iterator[tuple[Clips, Tensor]]:
        """Each batch with its frames, uint8 (n, T, H, W, 3) on the device."""
        for clips in batches:
            numbers = torch.from_numpy(self.first[clips.video][:, None] + clips.frames).to(self.frames.device)
            yield clips, self.frames[numbers].to(self.device)


@dataclass(frozen=True)
class Stream:
    """Videos that are decoded as they are needed, by worker processes that open every file themselves."""

    videos: tuple[Video, ...]
    size: tuple[int, int]
    device: torch.device
    workers: int
    on_bad: Callable[[str, str], None] | None = None  # called with video and reason; None: a bad video is an error

    def read(self, batches: Iterable[Clips]) -> Iterator[tuple[Clips, Tensor]]:
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
    where: str = "auto",
    workers: int | None = None,
    on_bad: Callable[[str, str], None] | None = None,
) -> Memory | Stream:
    """A source of clips of `videos`, frames scaled to `size` = (height, width).

    `where` is "device" or "host" (decoded once and held there as uint8), "stream" (decoded by `workers` as needed)
    or "auto": the first of these whose free memory is well above the need. What is held stays for the next run.
    """
    memory = _hold(videos, size, device, where)
    return memory or Stream(videos, size, device, cores() if workers is None else workers, on_bad)


@lru_cache(maxsize=2)  # a training and a test side; the choice made by "auto" stays with them
def _hold(videos: tuple[Video, ...], size: tuple[int, int], device: torch.device, where: str) -> Memory | None:
    counts = frame_counts(videos)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if where == "auto":
        need = int(counts.sum()) * size[0] * size[1] * 3
        if device.type == "cuda" and need < 0.5 * torch.cuda.mem_get_info(device)[0]:
            where = "device"
        else:
            where = "host" if need * sharers() < 0.5 * psutil.virtual_memory().available else "stream"
    if where == "stream":
        return None
    frames = torch.empty((counts.sum(), *size, 3), dtype=torch.uint8, device=device if where == "device" else "cpu")
    bar = tqdm(total=len(videos), desc="decoding", unit="video", leave=False)
    for video, begin, count, pixels in zip(videos, first, counts, _decode_all(videos, size), strict=True):
        if len(pixels) != count:
            raise R21DError(
                f"{video.path}: {len(pixels)} frames, {count} in the manifest; run `r21d check` on the manifest"
            )
        frames[begin : begin + count] = torch.from_numpy(pixels)
        bar.update()
    bar.close()
    return Memory(frames, first, device)


def _decode_all(videos: tuple[Video, ...], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The frames of each video in order, by one process a core, never more than a few videos ahead."""
    if frame_counts(videos).sum() * size[0] * size[1] < 2e8:  # sooner done than processes are started
        yield from (read_all(video.path, size) for video in videos)
        return
    with ProcessPoolExecutor(cores(), mp_context=_forkserver()) as pool:
        waiting = deque()
        for video in videos:
            waiting.append(pool.submit(read_all, video.path, size))
            if len(waiting) > 4 * cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _forkserver():
    """Processes forked from a server that has imported what they need: each would take seconds to import torch."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # heeded by the server that the first such process starts
    return context
