"""Counts and intervals of the explorer, computed from the stored scores of one or two runs.

`score_run` evaluates each number of clips once; every later question (by class, confusion or video) only counts, which
takes milliseconds for 20,000 videos of 400 classes. Accuracies are percentages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from r21d_analysis.artifacts.catalog import iter_runs, parse_folders
from r21d_analysis.statistics.clips import clips_correct, exact_counts, with_clips
from r21d_analysis.statistics.inference import (
    Outcomes,
    check_same_items,
    estimate_accuracy,
    estimate_by_class,
    estimate_mean,
)
from r21d_core.runs.metrics import video_probabilities
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

CHUNK_LOGITS = 2**21  # logits evaluated at a time, to bound the memory of the softmax
MAX_MATRIX_CLASSES = 20  # rows of a confusion matrix that stays readable
# Orders of the classes: a column of `class_table` and whether it ascends.
CLASS_ORDERS = {
    "A − B, largest first": ("difference", False),
    "A − B, smallest first": ("difference", True),
    "A, best first": ("A", False),
    "A, worst first": ("A", True),
    "B, best first": ("B", False),
    "B, worst first": ("B", True),
    "class name": ("class", True),
    "number of items": ("n", False),
}
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
    """A run's predictions for each item with one number of clips, arrays (items,)."""

    pred: np.ndarray  # the most probable class; ties go to the lower index
    confidence: np.ndarray  # its probability
    label_rank: np.ndarray  # number of classes ranked before the label: 0 where the prediction is correct
    clip_accuracy: np.ndarray  # the fraction of the item's clips whose most probable class is the label


@dataclass(frozen=True)
class ScoredRun:
    """A run with its scores, and its predictions for each number of clips that the scores hold."""

    run: Run
    scores: Scores
    recordings: np.ndarray  # (items,) number of the item's recording
    predictions: dict[int, ItemPredictions]


def finished_runs(folders: Sequence[str] | str) -> tuple[list[Run], list[str]]:
    """Return the finished runs of `folders`, and a message for each run that cannot be read.

    `folders` is a list or a text with commas. A run that is in several folders counts once, by its first folder.
    Demonstrations come last.
    """
    runs: dict[Spec, Run] = {}
    messages = []
    for folder in parse_folders(folders):
        for run in iter_runs(folder):
            if not isinstance(run, Run):
                messages.append(f"{run}: cannot be read; move it away")
            elif run.is_complete:
                runs.setdefault(run.spec, run)
    return sorted(runs.values(), key=lambda run: _sort_key(run.spec)), messages


def _sort_key(spec: Spec) -> tuple:
    data = (spec.profile == "demo", spec.data, spec.task, spec.modality == "flow")
    return (*data, spec.variant, spec.depth, spec.frames, spec.eval_clips, spec.seed)


def data_label(spec: Spec) -> str:
    """Return the data and task of a run; runs with equal labels were evaluated on the same items."""
    return f"{spec.data}, {spec.task}" + (" (demonstration)" if spec.profile == "demo" else "")


def protocol_label(spec: Spec) -> str:
    """Return how a run was evaluated, without its data."""
    flow = " of optical flow" if spec.modality == "flow" else ""
    stride = f"frame stride {spec.frame_stride}"
    return f"{spec.eval_clips} clips of {spec.frames} frames{flow}, {stride}, crop {spec.crop}×{spec.crop}"


def short_run_labels(runs: Sequence[Run]) -> list[str]:
    """Return a unique label for each run, such as `R3D-18, seed 0`, with only as many fields as are needed."""
    specs = [run.spec for run in runs]
    labels = [f"{s.variant}-{s.depth}, seed {s.seed}{', flow' * (s.modality == 'flow')}" for s in specs]
    for suffix in (", {0.frames} frames", ", {0.eval_clips} clips", " ({0.hash})"):
        count = Counter(labels)
        labels = [label + suffix.format(spec) * (count[label] > 1) for label, spec in zip(labels, specs, strict=True)]
    return labels


def score_run(run: Run) -> ScoredRun:
    """Return `run` with its predictions for each of the `exact_counts` of its clips.

    Raises R21DError if its scores are damaged.
    """
    scores = run.scores
    n_items, n_clips, n_classes = scores.logits.shape
    chunk = max(1, CHUNK_LOGITS // max(1, n_clips * n_classes))
    parts: dict[int, list[ItemPredictions]] = {count: [] for count in exact_counts(n_clips)}
    for start in range(0, n_items, chunk):
        rows = slice(start, start + chunk)
        part = replace(scores, logits=scores.logits[rows], labels=scores.labels[rows], videos=scores.videos[rows])
        for count, predictions in parts.items():
            predictions.append(_predict_items(with_clips(part, count)))
    by_count = {n: ItemPredictions(*map(np.concatenate, zip(*part, strict=True))) for n, part in parts.items()}
    return ScoredRun(run, scores, np.unique(scores.groups, return_inverse=True)[1], by_count)


def _predict_items(scores: Scores) -> ItemPredictions:
    probabilities, labels = video_probabilities(scores), scores.labels
    label_probability = np.take_along_axis(probabilities, labels[:, None], axis=1)
    lower_index = np.arange(probabilities.shape[1]) < labels[:, None]
    label_rank = ((probabilities > label_probability) | ((probabilities == label_probability) & lower_index)).sum(1)
    clip_accuracy = clips_correct(scores)
    pred = probabilities.argmax(axis=1).astype(np.int32)
    return ItemPredictions(pred, probabilities.max(axis=1), label_rank.astype(np.int32), clip_accuracy)


def common_clip_counts(a: ScoredRun, b: ScoredRun | None) -> list[int]:
    """Return the numbers of clips that both runs hold, ascending; R21DError if they were evaluated on other items."""
    if b:
        check_same_items(a.scores, b.scores)
    return [count for count in a.predictions if b is None or count in b.predictions]


def compute_accuracies(scored: ScoredRun, count: int) -> dict[str, float]:
    """Return clip@1, video@1 with its interval `low` to `high`, and video@5 (NaN for five classes or fewer)."""
    predictions = scored.predictions[count]
    estimate = estimate_accuracy([_outcomes(scored, count)])
    top5 = 100 * float((predictions.label_rank < 5).mean()) if len(scored.scores.classes) > 5 else np.nan
    return {
        "clip@1": 100 * float(predictions.clip_accuracy.mean()),
        "video@1": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "video@5": top5,
    }


def compute_difference(a: ScoredRun, b: ScoredRun, count: int) -> dict[str, float]:
    """Return video@1 of A minus that of B on the same videos, in points, with its paired interval."""
    estimate = estimate_mean([_outcomes(a, count) - _outcomes(b, count)])
    return {"difference": estimate.value, "low": estimate.low, "high": estimate.high}


def class_table(a: ScoredRun, b: ScoredRun | None, count: int) -> pd.DataFrame:
    """Return video@1 of each class in class order: `A`, its interval `A low` to `A high`, and `n` items.

    With B, also the same of `B`, and `difference`, A − B in points, `low` and `high`. Classes without items have NaN,
    as has an interval that `estimate_by_class` does not give.
    """
    labels, classes = a.scores.labels, a.scores.classes
    n = np.bincount(labels, minlength=len(classes))
    table = pd.DataFrame({"class": classes, "n": n})
    columns = {("A", "A low", "A high"): _outcomes(a, count)}
    if b:
        columns[("B", "B low", "B high")] = _outcomes(b, count)
        columns[("difference", "low", "high")] = _outcomes(a, count) - _outcomes(b, count)
    for (mean, low, high), outcomes in columns.items():
        values = outcomes.values[0]
        table[mean] = np.bincount(labels, values, minlength=len(classes)) / np.where(n, n, np.nan)
        table[low], table[high] = estimate_by_class(values, labels, a.recordings, len(classes))
    for side in ("A", "B") if b else ("A",):
        table[[f"{side} low", f"{side} high"]] = table[[f"{side} low", f"{side} high"]].clip(0, 100)
    return table


def sort_classes(table: pd.DataFrame, order: str) -> pd.DataFrame:
    """Return the classes of `class_table` that have items, in one of CLASS_ORDERS."""
    column, ascending = CLASS_ORDERS[order]
    return table[table["n"] > 0].sort_values(column, ascending=ascending, kind="stable")


def confused_pairs(scored: ScoredRun, count: int) -> pd.DataFrame:
    """Return the class indices `true` and `pred` of wrong predictions with their number `n`, most frequent first."""
    predictions, n_classes = scored.predictions[count], len(scored.scores.classes)
    wrong = predictions.label_rank > 0
    pairs, n = np.unique(scored.scores.labels[wrong] * n_classes + predictions.pred[wrong], return_counts=True)
    table = pd.DataFrame({"true": pairs // n_classes, "pred": pairs % n_classes, "n": n})
    return table.sort_values("n", ascending=False, kind="stable", ignore_index=True)


def confusion_matrix(
    scored: ScoredRun, count: int, max_classes: int = MAX_MATRIX_CLASSES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the class indices (k,) of a readable confusion matrix, and its counts, rows true, columns predicted.

    With `max_classes` or fewer the matrix is whole, (k, k). Otherwise it has the classes of the most frequent
    confusions and a last column for all other predictions, (k, k + 1). Classes keep their order.
    """
    scores, n_classes = scored.scores, len(scored.scores.classes)
    if n_classes <= max_classes:
        members = np.arange(n_classes)
    else:
        pairs = confused_pairs(scored, count)[["true", "pred"]].to_numpy().reshape(-1)
        by_items = np.argsort(-np.bincount(scores.labels, minlength=n_classes), kind="stable")
        members = np.sort(list(dict.fromkeys([*pairs[: max_classes**2].tolist(), *by_items.tolist()]))[:max_classes])
    position = np.full(n_classes, len(members))
    position[members] = np.arange(len(members))
    rows = position[scores.labels] < len(members)
    counts = np.zeros((len(members), len(members) + 1), int)
    np.add.at(counts, (position[scores.labels[rows]], position[scored.predictions[count].pred[rows]]), 1)
    return members, counts if n_classes > max_classes else counts[:, :-1]


def select_items(
    a: ScoredRun,
    b: ScoredRun | None,
    count: int,
    *,
    show: str = "all",
    true: int | None = None,
    pred: int | Sequence[int] | None = None,
    side: str = "A",
) -> np.ndarray:
    """Return the rows of items by ITEM_FILTERS `show`, label `true` and the prediction `pred` of run `side`.

    `pred` is a class index or several. The items that run `side` is most confident of come first. Without B, B is A.
    """
    a_pred, b_pred = a.predictions[count], (b or a).predictions[count]
    side_pred = b_pred if side == "B" else a_pred
    mask = ITEM_FILTERS[show](a_pred.label_rank == 0, b_pred.label_rank == 0, a_pred.pred == b_pred.pred)
    if true is not None:
        mask = mask & (a.scores.labels == true)
    if pred is not None:
        mask = mask & np.isin(side_pred.pred, pred)
    rows = np.flatnonzero(mask)
    return rows[np.argsort(-side_pred.confidence[rows], kind="stable")]


def item_table(a: ScoredRun, b: ScoredRun | None, count: int, rows: np.ndarray) -> pd.DataFrame:
    """Return a row an item: video, class, and each run's prediction, its confidence (%) and the rank of the class."""
    classes = np.array(a.scores.classes, dtype=object)
    table = pd.DataFrame({"video": a.scores.videos[rows], "class": classes[a.scores.labels[rows]]})
    for side, scored in (("A", a), ("B", b)):
        if scored:
            predictions = scored.predictions[count]
            table[f"{side} prediction"] = classes[predictions.pred[rows]]
            table[f"{side} confidence"] = 100 * predictions.confidence[rows]
            table[f"{side} rank of class"] = predictions.label_rank[rows] + 1
    return table


def clip_probabilities(
    scored: ScoredRun, row: int, count: int, top: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an item's `top` classes (top,), their mean probabilities (top,), and those of each clip (clips, top)."""
    scores = scored.scores
    item = replace(scores, logits=scores.logits[row : row + 1], labels=scores.labels[row : row + 1])
    probabilities = softmax(with_clips(item, count).logits[0], axis=1)
    mean = probabilities.mean(axis=0)
    best = np.argsort(-mean, kind="stable")[:top]
    return best, mean[best], probabilities[:, best]


def _outcomes(scored: ScoredRun, count: int) -> Outcomes:
    return Outcomes(100.0 * (scored.predictions[count].label_rank == 0)[None], scored.recordings)
