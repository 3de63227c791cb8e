"""Quantized scores: the probabilities of a pack, a fraction of the size of the logits that a run writes.

A clip's probabilities (the softmax of its logits) are rounded down or up to multiples of 1/20. An item whose decisions
would change is rounded in another way, of which a step has DRAWS; where none keeps them, to multiples of the next of
STEPS; and where none of these does, it keeps its logits. The decisions are the most probable class of each clip; and of
the mean over clips, for every number of clips spread evenly, the most probable class; and for all clips whether the
label is among the first five, and the most probable class of each family. With a second stream they are those of both
streams' mean too. No decision hangs on a difference below 1e-6.
"""

from __future__ import annotations

from functools import cache

import numpy as np

STEPS = (20, 60, 255, 2000, 65535)  # probabilities are multiples of 1/step; the last level keeps the logits
DRAWS = 32  # ways to round to a step
MULTIPLES = "multiples_"


def quantize(logits: np.ndarray, ways: np.ndarray) -> dict[str, np.ndarray]:
    """Return the arrays that `dequantize` takes; `ways` (items,) is `level * DRAWS + draw` with a level of STEPS.

    Draw 0 rounds the largest remainders up, the others random ones, the same for each item: the sum stays 1. One more
    level keeps the logits.
    """
    from scipy.special import softmax  # 0.2 s in each process that trains or reads scores

    levels = ways // DRAWS
    arrays = {"levels": levels.astype(np.uint8), "logits": logits[levels == len(STEPS)].astype(np.float32)}
    noise = np.random.default_rng(0).random((DRAWS, *logits.shape[1:]))
    noise[0] = 0
    for level, step in enumerate(STEPS):
        rows = levels == level
        exact = softmax(logits[rows].astype(float), axis=2) * step
        values = np.floor(exact).astype(int)
        order = (values - exact - noise[ways[rows] % DRAWS]).argsort(axis=2).argsort(axis=2)
        values += order < step - values.sum(axis=2, keepdims=True)
        values = values.transpose(2, 0, 1)  # compresses best: an item's clips beside each other, then the items
        arrays[f"{MULTIPLES}{step}"] = np.stack([values & 255, values >> 8]).astype(np.uint8)  # low bytes, high bytes
    return arrays


def dequantize(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return logits (items, clips, classes) float32 from the arrays of `quantize`: logarithms of the probabilities.

    The steps are those of the arrays, as a pack may have others than STEPS.
    """
    levels, kept = arrays["levels"], arrays["logits"]
    steps = sorted(int(name.removeprefix(MULTIPLES)) for name in arrays if name.startswith(MULTIPLES))
    logits = np.empty((len(levels), *kept.shape[1:]), np.float32)
    logits[levels == len(steps)] = kept
    for level, step in enumerate(steps):
        low, high = arrays[f"{MULTIPLES}{step}"].astype(np.uint16)
        logits[levels == level] = _logarithms(step)[low + 256 * high].transpose(1, 2, 0)
    return logits


@cache  # a page of results reads a thousand files
def _logarithms(step: int) -> np.ndarray:
    """The logarithms of the multiples of 1/step up to 1, (step + 1,) float32."""
    multiples = np.arange(step + 1, dtype=np.float32)
    return np.log(np.maximum(multiples, 2**-6) / step)  # zero has no logarithm
