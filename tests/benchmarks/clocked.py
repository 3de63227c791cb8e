"""A source whose many workers decode by a clock of its own, which time has to be read from."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapreplace
from itertools import chain

import torch

from r21d_core.data.parallel import AHEAD
from r21d_core.data.sources import StreamingSource


@dataclass
class Clock:
    now: float = 0.0

    def perf_counter(self) -> float:
        return self.now


@dataclass(frozen=True)
class ClockedSource(StreamingSource):
    """Each worker takes a second for a batch, as in `map_in_processes`; a batch takes a millisecond to arrive."""

    clock: Clock = field(kw_only=True)

    def iter_batches(self, batches) -> Iterator:
        free, decoded = [self.clock.now] * self.workers, deque()
        for clips in chain(batches, [None] * AHEAD * self.workers):
            end = max(self.clock.now, free[0]) + 1
            heapreplace(free, end)
            decoded.append((clips, end))
            if len(decoded) > AHEAD * self.workers:
                clips, end = decoded.popleft()
                self.clock.now = max(self.clock.now, end) + 0.001
                yield clips, torch.zeros(*clips.frames.shape, *self.size, 3, dtype=torch.uint8)
