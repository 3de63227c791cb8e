"""The clips of stored scores: how many are right, and the scores of fewer of them without another evaluation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from r21d_core import R21DError
from r21d_core.runs.metrics import clips_right
from r21d_core.runs.scores import Scores


def clips_correct(scores: Scores) -> np.ndarray:
    """The fraction of each item's clips whose most probable class is the label, (items,)."""
    return clips_right(scores).mean(axis=1)


def exact_counts(stored: int) -> list[int]:
    """The numbers of clips for which an evaluation would take only clips that are among `stored` ones, ascending.

    Clip i of n begins at floor(i·room/(n−1)) and is clip i·(m−1)/(n−1) of m where n − 1 divides m − 1, whatever the
    video's length. A single clip lies in the middle, which is one of m where m is odd.
    """
    middle = [1] if stored % 2 else []
    return middle + [count for count in range(2, stored + 1) if (stored - 1) % (count - 1) == 0]


def with_clips(scores: Scores, count: int) -> Scores:
    """The Scores that an evaluation with `count` clips would give; raises R21DError if they are not stored."""
    stored = scores.logits.shape[1]
    if count not in exact_counts(stored):
        counts = ", ".join(map(str, exact_counts(stored)))
        raise R21DError(f"clips: {count} are not among {stored} stored ones, expected one of {counts}")
    rows = np.arange(count) * (stored - 1) // (count - 1) if count > 1 else [stored // 2]
    return replace(scores, logits=scores.logits[:, rows], protocol=scores.protocol | {"clips": count})
