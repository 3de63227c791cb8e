"""Sources of clips: all frames in memory, or a stream from decoding workers. Both give the same clips."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from r21d_core import R21DError
from r21d_core.data import parallel
from r21d_core.data.decode import read_all, read_frames
from r21d_core.data.manifest import Video
from r21d_core.data.parallel import available_cpus, initialize_worker, local_world_size, worker_context
from r21d_core.data.sampling import Clips, frame_counts

FEW_PIXELS = 2e8  # fewer are decoded faster than worker processes start


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
        loader = DataLoader(
            _ClipDataset(self.videos, self.size),
            sampler=batches,
            batch_size=None,
            collate_fn=tuple,  # the batch as it is
            num_workers=self.workers,
            multiprocessing_context=worker_context(__name__) if self.workers else None,
            worker_init_fn=initialize_worker,
            timeout=parallel.WORKER_TIMEOUT if self.workers else 0,
            pin_memory=self.device.type == "cuda",
        )
        iterator = iter(loader)
        while (item := self._next(iterator)) is not None:
            rows, frames, bad = item
            for video, reason in bad:
                if self.on_bad is None or rows is None:
                    raise R21DError(f"{reason}\nrun `r21d check` on the manifest, which sets such videos aside")
                self.on_bad(video, reason)
            yield Clips(*rows), frames.to(self.device, non_blocking=True)

    def _next(self, iterator):
        """The next batch, or None at the end; raises R21DError if a worker has died or gives none in time."""
        if not self.workers:
            return next(iterator, None)
        # The loader's own time-out does not hold while it takes the frames from a worker that has been stopped.
        late = threading.Event()

        def end_workers() -> None:
            if all(worker.is_alive() for worker in iterator._workers):
                late.set()
            _kill_workers(iterator)

        watchdog = threading.Timer(parallel.WORKER_TIMEOUT, end_workers)
        watchdog.daemon = True
        watchdog.start()
        try:
            return next(iterator, None)
        except (RuntimeError, OSError, EOFError) as error:
            is_late = late.is_set() or "timed out" in str(error)
            if str(error).startswith("Caught ") or (isinstance(error, RuntimeError) and "DataLoader" not in str(error)):
                raise  # an error of the code in a worker or here
            _kill_workers(iterator)
            what = "died, out of memory or in a decoder that crashed"
            if is_late:
                what = f"returned no batch for {parallel.WORKER_TIMEOUT} seconds: it was stopped, or a decoder hangs"
            raise R21DError(f"a decoding worker {what}; the same command continues the run") from None
        finally:
            watchdog.cancel()


def _kill_workers(iterator) -> None:
    for worker in iterator._workers:
        worker.kill()  # a stopped process heeds no other signal


class _ClipDataset(Dataset):
    """Decodes a batch of clips; each video is opened once."""

    def __init__(self, videos: tuple[Video, ...], size: tuple[int, int]):
        self.videos, self.size = videos, size

    def __getitem__(self, clips: Clips):
        frames = np.empty((*clips.frames.shape, *self.size, 3), np.uint8)
        rows_used, bad = np.arange(len(clips)), []
        for index in np.unique(clips.video):
            rows = np.flatnonzero(clips.video == index)
            video = self.videos[index]
            try:
                pixels = read_frames(video.path, clips.frames[rows].reshape(-1), self.size)
                frames[rows] = pixels.reshape(len(rows), *frames.shape[1:])
            except R21DError as error:
                bad.append((video.video, str(error)))
                rows_used[rows] = -1
        if bad:  # indexing copies the batch
            good = rows_used[rows_used >= 0]
            if not len(good):
                reasons = "\n".join(reason for _, reason in bad)
                return None, None, [(bad[0][0], f"no video of a whole batch could be decoded:\n{reasons}")]
            rows_used[rows_used < 0] = np.resize(good, (rows_used < 0).sum())
            clips, frames = clips[rows_used], frames[rows_used]
        return (clips.video, clips.frames, clips.label, clips.draws), torch.from_numpy(frames), bad


def open_clips(
    videos: tuple[Video, ...], size: tuple[int, int], device: torch.device, cache: str = "auto",
    workers: int | None = None, on_bad: Callable[[str, str], None] | None = None, *,
    pool: tuple[Video, ...] | None = None,
) -> InMemorySource | StreamingSource:  # fmt: skip
    """A source of clips of `videos`, with frames scaled to `size` = (height, width).
    `cache` is "device" or "host" (decoded once and held there as uint8), "stream" (decoded by `workers` as needed) or
    "auto": the first of these with enough free memory. Calls with one `pool`, which contains `videos`, share frames.
    """
    pool = pool or videos
    files = tuple((video.path, count) for video, count in zip(pool, frame_counts(pool), strict=True))
    memory = _load_frames(files, size, device, cache)
    if memory is None:
        return StreamingSource(videos, size, device, available_cpus() if workers is None else workers, on_bad)
    index = {video.path: number for number, video in enumerate(pool)}
    return replace(memory, first=memory.first[[index[video.path] for video in videos]])


@lru_cache(maxsize=4)  # such as frames and flow of two data sets; "auto" decides once for each
def _load_frames(
    files: tuple[tuple[Path, int], ...], size: tuple[int, int], device: torch.device, cache: str
) -> InMemorySource | None:
    """Decode the files, (path, frame count), into memory; None if they are to be streamed."""
    counts = np.array([count for _, count in files])
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if cache == "auto":
        need = int(counts.sum()) * size[0] * size[1] * 3
        cache = "host" if need * local_world_size() < 0.5 * psutil.virtual_memory().available else "stream"
        if device.type == "cuda":  # half of its memory is left to the network
            free, total = torch.cuda.mem_get_info(device)
            free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
            cache = "device" if need < free - 0.5 * total else cache
    if cache == "stream":
        return None
    frames = torch.empty((counts.sum(), *size, 3), dtype=torch.uint8, device=device if cache == "device" else "cpu")
    paths = [path for path, _ in files]
    is_large = counts.sum() * size[0] * size[1] >= FEW_PIXELS
    read = partial(_read_tensor, size=size, share=is_large)
    decoded = map(read, paths)
    if is_large:
        decoded = parallel.map_in_processes(read, paths, available_cpus(), "the same command starts again")
    decoded = tqdm(decoded, "decoding", len(files), unit="video", leave=False)
    for path, begin, count, pixels in zip(paths, first, counts, decoded, strict=True):
        if len(pixels) != count:
            raise R21DError(f"{path}: {len(pixels)} frames, {count} in the manifest; run `r21d check` on the manifest")
        frames[begin : begin + count] = pixels
    return InMemorySource(frames, first, device)


def _read_tensor(path: Path, size: tuple[int, int], share: bool) -> Tensor:
    """The frames, in shared memory if `share`: sending them through a pipe would take longer than decoding."""
    frames = torch.from_numpy(np.ascontiguousarray(read_all(path, size)))
    return frames.share_memory_() if share else frames
