"""Counts of stored scores by class."""

from __future__ import annotations

import numpy as np
import pandas as pd

from r21d_core.runs.metrics import video_correct, video_probabilities
from r21d_core.runs.scores import Scores


def per_class(scores: Scores) -> pd.DataFrame:
    """video@1 and number of items of each class, in the order of `scores.classes`; NaN for a class without items."""
    correct = video_correct(scores)
    n = np.bincount(scores.labels, minlength=len(scores.classes))
    n_correct = np.bincount(scores.labels, correct, minlength=len(scores.classes))
    return pd.DataFrame({"class": scores.classes, "n": n, "video@1": n_correct / np.where(n, n, np.nan)})


def confusion(scores: Scores) -> np.ndarray:
    """The confusion matrix, (classes, classes) int: row i counts the predictions for items of class i."""
    counts = np.zeros((len(scores.classes),) * 2, int)
    np.add.at(counts, (scores.labels, video_probabilities(scores).argmax(axis=1)), 1)
    return counts
