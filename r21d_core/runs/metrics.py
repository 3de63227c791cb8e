"""Accuracies of stored scores, as fractions from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np
from scipy.special import softmax

from r21d_core.runs.scores import Scores


def _once_if_read_only(compute: Callable[[Scores], np.ndarray]) -> Callable[[Scores], np.ndarray]:
    """Decorate what every table and figure asks for: of the scores of a pack, which are read only, it is kept."""

    @wraps(compute)
    def cached(scores: Scores) -> np.ndarray:
        values = vars(scores).get(compute.__name__)
        if values is None:
            values = compute(scores)
            if not (scores.logits.flags.writeable or scores.labels.flags.writeable):
                values.flags.writeable = False
                vars(scores)[compute.__name__] = values
        return values

    return cached


def video_probabilities(scores: Scores) -> np.ndarray:
    """Class probabilities of each item, (items, classes): the mean of its clips' softmax (Section 4.1)."""
    return softmax(scores.logits, axis=2).mean(axis=1)


def video_correct(scores: Scores, k: int = 1) -> np.ndarray:
    """Whether the label is among an item's k most probable classes, (items,) bool; a tie goes to the earlier class."""
    return _label_ranks(scores) < k


@_once_if_read_only
def _label_ranks(scores: Scores) -> np.ndarray:
    """How many classes precede the label in the order of an item's probabilities, (items,)."""
    order = np.argsort(-video_probabilities(scores), axis=1, kind="stable")
    return (order == scores.labels[:, None]).argmax(axis=1)


@_once_if_read_only
def clips_right(scores: Scores) -> np.ndarray:
    """Whether the most probable class of each clip is the label, (items, clips) bool."""
    return scores.logits.argmax(axis=2) == scores.labels[:, None]


def clip_at_1(scores: Scores) -> float:
    """clip@1: the fraction of all clips whose most probable class is the label."""
    return float(clips_right(scores).mean())


def video_at(scores: Scores, k: int) -> float:
    """video@k: the fraction of items whose label is among the k most probable classes."""
    return float(video_correct(scores, k).mean())


def family_correct(scores: Scores) -> dict[str, np.ndarray]:
    """For each family of classes, whether its items' label is the most probable of its own, (items of it,) bool.

    A network that ignores the order of frames is right on exactly 1/2 of two classes that are each other's reversal, as
    long as clips start at positions that are symmetric in time: then a video and its reversal give the same frames. It
    may be right on more or fewer otherwise, as with ten clips of 8 of the built-in videos' 20 frames.
    """
    index = {name: number for number, name in enumerate(scores.classes)}
    probabilities, correct = video_probabilities(scores), {}
    for family, names in scores.families.items():
        members = np.array([index[name] for name in names])
        rows = np.isin(scores.labels, members)
        correct[family] = members[probabilities[rows][:, members].argmax(axis=1)] == scores.labels[rows]
    return correct
