"""Counts and intervals of the explorer, computed from the stored scores of two networks, each of some seeds and splits.

`score_runs` evaluates each number of clips once; every later question (by class, confusion or video) only counts, which
takes milliseconds for 20,000 videos of 400 classes. Accuracies are percentages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax, stdtrit

from r21d_analysis.statistics.clips import clips_correct, exact_counts, with_clips
from r21d_analysis.statistics.inference import UPPER, Outcomes, check_same_items
from r21d_core import R21DError
from r21d_core.runs.metrics import video_probabilities
from r21d_core.runs.run import Run
from r21d_core.runs.scores import ITEM_ARRAYS, Scores, take_items
from r21d_core.study.experiments import SPLIT

CHUNK_LOGITS = 2**21  # logits evaluated at a time, to bound the memory of the softmax
MAX_MATRIX_CLASSES = 20  # rows of a confusion matrix that stays readable
ANY = -1  # class
# Which items to list, from whether A and B are correct and whether they predict the same class, all (items,) bool.
ITEM_FILTERS = {
    "all": lambda a, b, same: np.ones_like(a),
    "A correct": lambda a, b, same: a,
    "A wrong": lambda a, b, same: ~a,
    "B correct": lambda a, b, same: b,
    "B wrong": lambda a, b, same: ~b,
    "only A correct": lambda a, b, same: a & ~b,
    "only B correct": lambda a, b, same: b & ~a,
    "both wrong": lambda a, b, same: ~a & ~b,
    "A and B disagree": lambda a, b, same: ~same,
}


class ItemPredictions(NamedTuple):
    """The predictions of one or more seeds for each item with one number of clips, arrays (seeds, items)."""

    pred: np.ndarray  # the most probable class; ties go to the lower index
    confidence: np.ndarray  # its probability
    label_rank: np.ndarray  # number of classes ranked before the label: 0 where the prediction is correct
    clip_accuracy: np.ndarray  # the fraction of the item's clips whose most probable class is the label


@dataclass(frozen=True)
class ScoredRuns:
    """The runs of one network, with their predictions for each number of clips that the scores hold."""

    runs: tuple[Run, ...]  # each seed's, in the same order of splits
    scores: Scores  # of the first seed, whose videos are shown; the items of a second split follow those of the first
    recordings: np.ndarray  # (items,) number of the item's recording
    splits: np.ndarray  # (items,) number of the item's split
    predictions: dict[int, ItemPredictions]

    @property
    def seeds(self) -> list[int]:
        """The seeds, each once."""
        return list(dict.fromkeys(run.spec.seed for run in self.runs))

    def run_of(self, row: int) -> Run:
        """Return the run of the first seed that was evaluated on the item `row`."""
        return self.runs[self.splits[row]]

    def correct(self, count: int) -> np.ndarray:
        """Return whether each seed is correct on each item, in per cent, (seeds, items)."""
        return 100.0 * (self.predictions[count].label_rank == 0)

    def outcomes(self, count: int) -> list[Outcomes]:
        """Return `correct` with the recordings, split by split."""
        parts = [self.splits == split for split in np.unique(self.splits)]
        return [Outcomes(self.correct(count)[:, rows], self.recordings[rows]) for rows in parts]

    def mean(self, values: np.ndarray) -> float:
        """Return the mean over splits of `values` (seeds, items)."""
        return float(np.mean([values[:, self.splits == split].mean() for split in np.unique(self.splits)]))


def score_runs(runs: tuple[Run, ...]) -> ScoredRuns:
    """Return `runs`, a seed's after another's, with their predictions for each of the `exact_counts` of their clips.

    A seed may have a run on each of several splits, the same for all. Raises R21DError if scores are damaged or the
    seeds were evaluated on different items.
    """
    n_splits = sum(run.spec.seed == runs[0].spec.seed for run in runs)
    parts = [run.scores for run in runs[:n_splits]]
    first, splits = _join(parts), np.repeat(np.arange(n_splits), [len(part.labels) for part in parts])
    seeds: dict[int, list[ItemPredictions]] = {count: [] for count in exact_counts(first.logits.shape[1])}
    for start in range(0, len(runs), n_splits):
        scores = _join([run.scores for run in runs[start : start + n_splits]]) if start else first
        check_same_items(first, scores)
        chunk = max(1, CHUNK_LOGITS // max(1, scores.logits[:1].size))
        slices = [slice(start, start + chunk) for start in range(0, len(scores.labels), chunk)]
        parts = [take_items(scores, rows) for rows in slices]
        for count, predictions in seeds.items():
            items = [_predict_items(with_clips(part, count)) for part in parts]
            predictions.append(ItemPredictions(*map(np.concatenate, zip(*items, strict=True))))
    by_count = {count: ItemPredictions(*map(np.stack, zip(*part, strict=True))) for count, part in seeds.items()}
    return ScoredRuns(runs, first, np.unique(first.groups, return_inverse=True)[1], splits, by_count)


def _join(parts: Sequence[Scores]) -> Scores:
    """Return the scores of one network on several splits as one, the items of a split after those of another.

    Raises R21DError if classes or numbers of clips differ.
    """
    if len(parts) == 1:
        return parts[0]
    if len({(part.classes, part.logits.shape[1]) for part in parts}) > 1:
        raise R21DError("the splits differ in their classes or numbers of clips; select one of them in the menu Data")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ITEM_ARRAYS}
    data = f"{SPLIT.sub('', parts[0].protocol['data'])}, {len(parts)} splits,"
    return replace(parts[0], **arrays, protocol=parts[0].protocol | {"data": data})


def _predict_items(scores: Scores) -> ItemPredictions:
    probabilities, labels = video_probabilities(scores), scores.labels
    label_probability = np.take_along_axis(probabilities, labels[:, None], axis=1)
    lower_index = np.arange(probabilities.shape[1]) < labels[:, None]
    label_rank = ((probabilities > label_probability) | ((probabilities == label_probability) & lower_index)).sum(1)
    clip_accuracy = clips_correct(scores)
    pred = probabilities.argmax(axis=1).astype(np.int32)
    return ItemPredictions(pred, probabilities.max(axis=1), label_rank.astype(np.int32), clip_accuracy)


def class_table(a: ScoredRuns, b: ScoredRuns | None, count: int) -> pd.DataFrame:
    """Return, for each class with items, their number `items` and its recall, precision and F1, means over seeds.

    `A recall` is the class's video@1, with its interval `A low` to `A high`; `A precision` is the mean over the seeds
    that predict the class, NaN where none does. With B, also the same of `B`, and `A − B`, the difference of the
    recalls in points with its interval `low` to `high`. An interval is NaN where `estimate_by_class` gives none, and
    does not include the variance of seeds.
    """
    labels, classes = a.scores.labels, a.scores.classes
    n = np.bincount(labels, minlength=len(classes))
    table, means = pd.DataFrame({"class": classes, "items": n}), []

    def add(name: str, ends: tuple[str, str], values: np.ndarray, limits: tuple[float, float]) -> None:
        table[name] = np.bincount(labels, values, minlength=len(classes)) / np.where(n, n, np.nan)
        for end, bound in zip(ends, estimate_by_class(values, labels, a.recordings, len(classes)), strict=True):
            table[end] = bound.clip(*limits)

    for side, scored in (("A", a), ("B", b)):
        if scored:
            outcomes = scored.correct(count)
            means.append(outcomes.mean(axis=0))
            add(f"{side} recall", (f"{side} low", f"{side} high"), means[-1], (0, 100))
            correct = np.array([np.bincount(labels, seed, minlength=len(classes)) for seed in outcomes])
            n_pred = np.array([np.bincount(p, minlength=len(classes)) for p in scored.predictions[count].pred])
            some = n_pred > 0
            precision = np.divide(correct, n_pred, out=np.zeros(correct.shape), where=some)
            table[f"{side} precision"] = precision.sum(axis=0) / np.where(some.any(axis=0), some.sum(axis=0), np.nan)
            table[f"{side} F1"] = (2 * correct / np.maximum(n + n_pred, 1)).mean(axis=0)
    if b:
        add("A − B", ("low", "high"), means[0] - means[1], (-100, 100))
    return table[n > 0]


def estimate_by_class(
    values: np.ndarray, labels: np.ndarray, groups: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The interval of `estimate_mean` of one run's `values` (items,) in each class, (classes,) low and high.

    `groups` (items,) are whole numbers. NaN where a class has fewer than two recordings or where all its items have
    one value, of which no variance can be estimated.
    """
    items = np.bincount(labels, minlength=classes)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(labels, values, minlength=classes) / items
        pairs, pair = np.unique(labels * (groups.max() + 1) + groups, return_inverse=True)
        totals, owner = np.bincount(pair, values - mean[labels]), pairs // (groups.max() + 1)
        count = np.bincount(owner, minlength=classes)
        variance = np.bincount(owner, totals**2, minlength=classes) / items**2 * count / (count - 1)
        half = np.sqrt(np.where(variance > 1e-12, variance, np.nan)) * stdtrit(count - 1, UPPER)
    return mean - half, mean + half


def confusion_matrix(scored: ScoredRuns, count: int) -> np.ndarray:
    """Return the number of items by class and prediction (classes, classes), a mean over seeds."""
    pred, counts = scored.predictions[count].pred, np.zeros((len(scored.scores.classes),) * 2, int)
    np.add.at(counts, (np.broadcast_to(scored.scores.labels, pred.shape), pred), 1)
    return counts / len(pred) if len(pred) > 1 else counts


def take_classes(counts: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the part of a confusion matrix with the classes `members` (k,), (k, k) or, with a last column for all
    other predictions, (k, k + 1).
    """
    rows = counts[members]
    others = np.delete(rows, members, axis=1).sum(axis=1).round(9)  # 0 where sums of thirds are equal
    return rows[:, members] if len(members) == len(counts) else np.column_stack([rows[:, members], others])


def confused_pairs(counts: np.ndarray, chosen: Sequence[int] = ()) -> np.ndarray:
    """Return class and prediction (n, 2) of the confusions in `counts` (classes, classes), largest numbers first.

    With `chosen` classes they are those that have one of them, as class or as prediction.
    """
    wrong = counts * (1 - np.eye(len(counts), dtype=int))
    pairs = np.argwhere(wrong)
    pairs = pairs[np.isin(pairs, chosen).any(axis=1)] if len(chosen) else pairs
    return pairs[np.argsort(-np.abs(wrong[tuple(pairs.T)]), kind="stable")]


def matrix_classes(counts: np.ndarray, chosen: Sequence[int] = ()) -> np.ndarray:
    """Return the class indices (k,), ascending, of a readable matrix of the confusions in `counts` (classes, classes).

    The classes are those `chosen`, or all without a choice, or of one chosen also those with which it is confused, as
    label or as prediction. Of more than MAX_MATRIX_CLASSES they are those of the most frequent confusions.
    """
    members = np.sort(np.array(chosen, int)) if len(chosen) else np.arange(len(counts))
    if len(members) == 1 or len(members) > MAX_MATRIX_CLASSES:
        pairs = confused_pairs(counts, chosen)
        members = np.union1d(members, pairs) if len(members) == 1 else members
        by_items = np.argsort(-counts.sum(axis=1), kind="stable")
        frequent = dict.fromkeys([*pairs.ravel().tolist(), *by_items.tolist()])
        members = np.sort([index for index in frequent if index in set(members.tolist())][:MAX_MATRIX_CLASSES])
    return members


def select_items(
    a: ScoredRuns,
    b: ScoredRuns | None,
    count: int,
    *,
    show: str = "all",
    true: int = ANY,
    pred: int | Sequence[int] = ANY,
    side: str = "A",
    search: str = "",
    confidence: tuple[float, float] = (0, 100),
) -> np.ndarray:
    """Return the rows (n,) of items by ITEM_FILTERS `show`, label `true` and the prediction `pred` of `side`.

    `pred` is a class index or several. `search` is a part of the video's name or class, in any case, and `confidence`
    the range in per cent of that of `side`. The items of which `side` is most confident come first. Predictions are
    those of the first seed. Without B, B is A.
    """
    (a_pred, b_pred), scores = (scored.predictions[count] for scored in (a, b or a)), a.scores
    sides = b_pred if side == "B" else a_pred
    mask = ITEM_FILTERS[show](a_pred.label_rank[0] == 0, b_pred.label_rank[0] == 0, a_pred.pred[0] == b_pred.pred[0])
    low, high = confidence
    mask = mask & (100 * sides.confidence[0] >= low) & (100 * sides.confidence[0] <= high + 1e-4)  # a float32 above 1
    if true != ANY:
        mask = mask & (scores.labels == true)
    if pred != ANY:
        mask = mask & np.isin(sides.pred[0], pred)
    if search := search.strip().lower():
        named = np.array([search in name.lower() for name in scores.classes])[scores.labels]
        mask = mask & (named | (np.char.find(np.char.lower(scores.videos.astype(str)), search) >= 0))
    rows = np.flatnonzero(mask)
    return rows[np.argsort(-sides.confidence[0][rows], kind="stable")]


def clip_probabilities(
    scored: ScoredRuns, row: int, count: int, top: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return an item's `top` classes and its label (k,), their ranks from 1 (k,), their mean probabilities (k,), and
    those of each clip (clips, k). k is `top`, or one more where the label is not among them.
    """
    scores = scored.scores
    item = take_items(scores, np.array([row]))
    probabilities = softmax(with_clips(item, count).logits[0], axis=1)
    mean = probabilities.mean(axis=0)
    order = np.argsort(-mean, kind="stable")
    ranks = np.flatnonzero((np.arange(len(order)) < top) | (order == scores.labels[row]))
    return order[ranks], ranks + 1, mean[order[ranks]], probabilities[:, order[ranks]]
