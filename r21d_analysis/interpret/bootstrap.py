"""Shares of evidence from what is left of it, in numpy alone."""

from __future__ import annotations

import numpy as np

PERTURBATIONS = ("frozen", "shuffled", "reversed")
FEWEST = 4  # clips: a bootstrap of fewer has too few different draws
TILES = 3  # a side of the grid whose tiles are hidden, each through all frames


def fraction_lost(whole: np.ndarray, left: np.ndarray, resamples: int = 1000) -> tuple[float, float, float]:
    """The share of evidence that is lost, over all clips, and its 95 % interval by a bootstrap over clips.

    `whole` and `left` are (n,). More than 1: what is left speaks for other classes. All nan where the clips hold no
    evidence to lose, as the 95 % interval of their mean reaches zero, and of fewer than FEWEST clips.
    """
    if len(whole) < FEWEST:
        return (np.nan,) * 3
    draws = np.random.default_rng(0).integers(len(whole), size=(resamples, len(whole)))
    means = whole[draws].mean(axis=1)
    if np.quantile(means, 0.025) <= 0 or whole.mean() <= 0:
        return (np.nan,) * 3
    shares = 1 - left[draws].mean(axis=1) / means
    return 1 - left.mean() / whole.mean(), *np.quantile(shares, (0.025, 0.975))
