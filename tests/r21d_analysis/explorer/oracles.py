"""Counts by class, in loops, that the explorer's are compared with."""

import numpy as np

from r21d_core.runs.metrics import video_probabilities


def confusion(scores):
    """The predictions for the items of each class, (classes, classes)."""
    counts = np.zeros((len(scores.classes),) * 2, int)
    for label, pred in zip(scores.labels, video_probabilities(scores).argmax(axis=1), strict=True):
        counts[label, pred] += 1
    return counts


def accuracy_by_class(scores):
    """video@1 of each class."""
    return confusion(scores).diagonal() / confusion(scores).sum(axis=1)
