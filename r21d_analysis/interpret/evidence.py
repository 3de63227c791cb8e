"""How much of a network's evidence for a class is lost in perturbed clips, from attribution records, without torch."""

from __future__ import annotations

import numpy as np

from r21d_analysis.interpret.records import InsightRecord
from r21d_analysis.statistics.inference import Outcomes, estimate_mean

PERTURBATIONS = ("frozen", "shuffled", "reversed")
TILES = 3  # tiles along each side of the image; each is occluded in all frames


def evidence_lost(record: InsightRecord, perturbation: str, label: int | None = None) -> tuple[float, float, float]:
    """Return `fraction_lost` for one of PERTURBATIONS or "occluded", over all clips or those of class `label`."""
    mask = slice(None) if label is None else record["evidence_label"] == label
    original, perturbed = record["evidence_original"][mask], record[f"evidence_{perturbation}"][mask]
    if perturbation == "occluded":
        # The same tile for all clips and classes: the best tile of each would be a choice by chance.
        perturbed = perturbed[:, record["evidence_occluded"].mean(axis=0).argmin()]
    return fraction_lost(original, perturbed, record["evidence_groups"][mask])


def fraction_lost(original: np.ndarray, perturbed: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Return 1 − mean(perturbed) / mean(original) and its 95 % interval, of the ratio's linear approximation.

    Arguments are the evidence by clip and the clips' recordings, (n,). Above 1 the perturbed clips support other
    classes. All three are NaN if the mean of `original` or its interval reaches zero; the interval is NaN for one
    recording.
    """
    mean = original.mean()
    if mean <= 0 or estimate_mean([Outcomes(original[None], groups)]).low <= 0:
        return np.nan, np.nan, np.nan
    lost = 1 - perturbed.mean() / mean
    estimate = estimate_mean([Outcomes((lost + ((1 - lost) * original - perturbed) / mean)[None], groups)])
    return lost, estimate.low, estimate.high


def tiles_lost(record: InsightRecord) -> np.ndarray:
    """Return the percentage of evidence lost without each tile, over all clips, (TILES²,); NaN as `fraction_lost`."""
    occluded, groups = record["evidence_occluded"], record["evidence_groups"]
    return 100 * np.array([fraction_lost(record["evidence_original"], tile, groups)[0] for tile in occluded.T])
