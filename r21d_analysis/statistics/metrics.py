"""What was right: accuracies as functions of stored scores, in shares from 0 to 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import softmax

from r21d_core.runs.scores import Scores


def video_probabilities(scores: Scores) -> np.ndarray:
    """What a network gives each class for each item, (items, classes): the mean of its clips' softmax (Section 4.1)."""
    return softmax(scores.logits, axis=2).mean(axis=1)


def video_correct(scores: Scores, k: int = 1) -> np.ndarray:
    """Whether the label is among the k likeliest classes of each item, (items,) bool; ties go to the earlier class."""
    order = np.argsort(-video_probabilities(scores), axis=1, kind="stable")
    return (order[:, :k] == scores.labels[:, None]).any(axis=1)


def clip_at_1(scores: Scores) -> float:
    """The share of all clips whose likeliest class is the label."""
    return float((scores.logits.argmax(axis=2) == scores.labels[:, None]).mean())


def video_at(scores: Scores, k: int) -> float:
    """video@k: the share of items whose label is among the k likeliest classes."""
    return float(video_correct(scores, k).mean())


def per_class(scores: Scores) -> pd.DataFrame:
    """video@1 of each class with the number of its items, in the order of the classes; NaN where there are none."""
    correct = video_correct(scores)
    n = np.bincount(scores.labels, minlength=len(scores.classes))
    right = np.bincount(scores.labels, correct, minlength=len(scores.classes))
    return pd.DataFrame({"class": scores.classes, "n": n, "video@1": right / np.where(n, n, np.nan)})


def confusion(scores: Scores) -> np.ndarray:
    """How often an item of class i was taken for class j, (classes, classes) int."""
    counts = np.zeros((len(scores.classes),) * 2, int)
    np.add.at(counts, (scores.labels, video_probabilities(scores).argmax(axis=1)), 1)
    return counts


def family_correct(scores: Scores) -> dict[str, np.ndarray]:
    """For each family of classes, of its items only: whether the label is the likeliest of the family's own classes.

    Guessing is right once in as many times as the family has classes, and a network blind to the order of frames is
    right in exactly half of a family of two classes that are each other's time reversal.
    """
    index = {name: number for number, name in enumerate(scores.classes)}
    probabilities, found = video_probabilities(scores), {}
    for family, names in scores.protocol["families"].items():
        members = np.array([index[name] for name in names])
        rows = np.isin(scores.labels, members)
        found[family] = members[probabilities[rows][:, members].argmax(axis=1)] == scores.labels[rows]
    return found
