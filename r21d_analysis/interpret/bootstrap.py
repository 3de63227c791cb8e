"""The fraction of evidence that a perturbation removes, with a bootstrap interval, in numpy alone."""

from __future__ import annotations

import numpy as np

PERTURBATIONS = ("frozen", "shuffled", "reversed")
MIN_CLIPS = 4  # fewer clips have too few distinct resamples
TILES = 3  # tiles along each side of the image; each is occluded in all frames


def fraction_lost(original: np.ndarray, perturbed: np.ndarray, resamples: int = 1000) -> tuple[float, float, float]:
    """Return 1 − mean(perturbed) / mean(original) and its 95 % bootstrap interval over clips.

    Both arguments are evidence by clip, (n,). Above 1 the perturbed clips support other classes. All three are NaN if
    the 95 % interval of the mean of `original` reaches zero, and for fewer than MIN_CLIPS clips.
    """
    if len(original) < MIN_CLIPS:
        return np.nan, np.nan, np.nan
    index = np.random.default_rng(0).integers(len(original), size=(resamples, len(original)))
    means = original[index].mean(axis=1)
    if np.quantile(means, 0.025) <= 0 or original.mean() <= 0:
        return np.nan, np.nan, np.nan
    fractions = 1 - perturbed[index].mean(axis=1) / means
    return 1 - perturbed.mean() / original.mean(), *np.quantile(fractions, (0.025, 0.975))
