"""Stored scores to be turned over: what a run said of each item for each number of clips, judged when it is opened.

All that is asked afterwards, by class, by confusion or by video, is counting, in milliseconds for 20,000 videos of 400
classes. Accuracies are in per cent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import softmax

from r21d_analysis.artifacts.catalog import iter_runs, parse_folders
from r21d_analysis.artifacts.curves import exact_counts, with_clips
from r21d_analysis.statistics.inference import CONFIDENCE, RESAMPLES, expect_same_items, holm
from r21d_core.runs.metrics import video_probabilities
from r21d_core.runs.run import Run
from r21d_core.runs.scores import Scores
from r21d_core.study.spec import Spec

AT_ONCE = 2**21  # logits judged at a time, so that judging takes no memory to speak of
MOST_CLASSES = 20  # of a confusion matrix that can be read
Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
# Orders of the classes: a column of `class_table` and whether it ascends.
SORTS = {
    "difference, A ahead first": ("difference", False),
    "difference, B ahead first": ("difference", True),
    "A, best first": ("A", False),
    "A, worst first": ("A", True),
    "B, best first": ("B", False),
    "B, worst first": ("B", True),
    "class name": ("class", True),
    "number of items": ("n", False),
}
# Which items are shown: functions of who is right and what was guessed.
FILTERS = {
    "all": lambda a, b, same: np.ones_like(a),
    "A right": lambda a, b, same: a,
    "A wrong": lambda a, b, same: ~a,
    "B right": lambda a, b, same: b,
    "B wrong": lambda a, b, same: ~b,
    "only A right": lambda a, b, same: a & ~b,
    "only B right": lambda a, b, same: b & ~a,
    "both wrong": lambda a, b, same: ~a & ~b,
    "A and B disagree": lambda a, b, same: ~same,
}


class ItemPredictions(NamedTuple):
    """What a run said of each item with one number of clips, arrays (items,)."""

    guess: np.ndarray  # the likeliest class; ties go to the earlier one
    sure: np.ndarray  # its probability
    rank: np.ndarray  # classes before the label: 0 where it is the likeliest
    clips_right: np.ndarray  # the share of clips whose likeliest class is the label


@dataclass(frozen=True)
class ScoredRun:
    """A run's scores and, for each number of clips that they hold, its Verdict."""

    run: Run
    scores: Scores
    video: np.ndarray  # (items,) number of the item's video
    verdicts: dict[int, ItemPredictions]


def finished_runs(folders: str) -> tuple[list[Run], list[str]]:
    """The finished runs of `folders`, separated by commas, and a line for each that cannot be read.

    A run in several of them counts once, the first, real data before demonstrations.
    """
    found: dict[Spec, Run] = {}
    remarks = []
    for folder in parse_folders(folders):
        for run in iter_runs(folder):
            if not isinstance(run, Run):
                remarks.append(f"{run}: cannot be read; move it away")
            elif run.is_complete:
                found.setdefault(run.spec, run)
    return sorted(found.values(), key=lambda run: _order(run.spec)), remarks


def _order(spec: Spec) -> tuple:
    first = (spec.profile == "demo", spec.data, spec.task, spec.modality == "flow")
    return (*first, spec.variant, spec.depth, spec.frames, spec.eval_clips, spec.seed)


def data_of(spec: Spec) -> str:
    """Runs that say the same here were evaluated on the same items."""
    return f"{spec.data}, {spec.task}" + (" (demonstration)" if spec.profile == "demo" else "")


def protocol_of(spec: Spec) -> str:
    """How a run's scores came to be, without the data."""
    flow = " of optical flow" if spec.modality == "flow" else ""
    return (
        f"{spec.eval_clips} clips of {spec.frames} frames{flow}, step {spec.frame_stride}, crop {spec.crop}×{spec.crop}"
    )


def name_runs(runs: Sequence[Run]) -> list[str]:
    """A name for each run that tells it from the others, such as `R3D-18, seed 0`."""
    names = [
        f"{run.spec.variant}-{run.spec.depth}, seed {run.spec.seed}{', flow' * (run.spec.modality == 'flow')}"
        for run in runs
    ]
    for add in (
        lambda spec: f", {spec.frames} frames",
        lambda spec: f", {spec.eval_clips} clips",
        lambda s: f" ({s.hash})",
    ):
        often = Counter(names)
        names = [name + add(run.spec) * (often[name] > 1) for name, run in zip(names, runs, strict=True)]
    return names


def score_run(run: Run) -> ScoredRun:
    """`run` with the Verdict of each of the `exact_counts` of its clips; raises R21DError if its scores are damaged."""
    scores = run.scores
    items, clips, classes = scores.logits.shape
    rows = max(1, AT_ONCE // max(1, clips * classes))
    parts: dict[int, list[ItemPredictions]] = {count: [] for count in exact_counts(clips)}
    for start in range(0, items, rows):
        here = slice(start, start + rows)
        part = replace(scores, logits=scores.logits[here], labels=scores.labels[here], videos=scores.videos[here])
        for count, done in parts.items():
            done.append(_verdict(with_clips(part, count)))
    verdicts = {count: ItemPredictions(*map(np.concatenate, zip(*done, strict=True))) for count, done in parts.items()}
    return ScoredRun(run, scores, np.unique(scores.videos, return_inverse=True)[1], verdicts)


def _verdict(scores: Scores) -> ItemPredictions:
    probabilities, labels = video_probabilities(scores), scores.labels
    guess = probabilities.argmax(axis=1)
    of_label = np.take_along_axis(probabilities, labels[:, None], axis=1)
    earlier = np.arange(probabilities.shape[1]) < labels[:, None]
    rank = ((probabilities > of_label) | ((probabilities == of_label) & earlier)).sum(axis=1)
    clips_right = (scores.logits.argmax(axis=2) == labels[:, None]).mean(axis=1)
    return ItemPredictions(guess.astype(np.int32), probabilities.max(axis=1), rank.astype(np.int32), clips_right)


def common_counts(one: ScoredRun, other: ScoredRun | None) -> list[int]:
    """The numbers of clips that both hold, ascending; R21DError if they were evaluated on different items."""
    if other:
        expect_same_items(one.scores, other.scores)
    return [count for count in one.verdicts if other is None or count in other.verdicts]


def accuracies(judged: ScoredRun, count: int) -> dict[str, float]:
    """clip@1, video@1 with its interval `low`, `high`, and video@5 (NaN of five classes or fewer)."""
    verdict = judged.verdicts[count]
    low, high = interval_of_mean(_by_video(judged, verdict.rank == 0))
    return {
        "clip@1": 100 * float(verdict.clips_right.mean()),
        "video@1": 100 * float((verdict.rank == 0).mean()),
        "low": 100 * low,
        "high": 100 * high,
        "video@5": 100 * float((verdict.rank < 5).mean()) if len(judged.scores.classes) > 5 else np.nan,
    }


def difference(one: ScoredRun, other: ScoredRun, count: int) -> dict[str, float]:
    """video@1 of `one` less that of `other` on the same videos, in points, with its paired interval."""
    values = [_by_video(judged, judged.verdicts[count].rank == 0) for judged in (one, other)]
    low, high = interval_of_mean(values[0] - values[1])
    return {"difference": 100 * float((values[0] - values[1]).mean()), "low": 100 * low, "high": 100 * high}


def interval_of_mean(values: np.ndarray) -> tuple[float, float]:
    """`statistics.interval` of one seed's `values` (videos,), in milliseconds; of the seed's luck it knows nothing.

    Values of videos are few different ones, and how often each is drawn when videos are drawn again is multinomial.
    """
    if len(values) < 2:
        return np.nan, np.nan
    levels, times = np.unique(values, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(values), times / len(values), size=RESAMPLES)
    low, high = np.quantile(drawn @ levels / len(values), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def wilson(right: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of right / n, shares. Of few videos, all right, a bootstrap says 100 % for certain."""
    share, centre = right / n, (right + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * np.sqrt(n * share * (1 - share) + Z**2 / 4)
    return centre - half, centre + half


def paired(better: np.ndarray, worse: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bonett and Price's 95 % interval (2012) of (better − worse) / n on the same videos, for few of them as well."""
    up, down = (better + 1) / (n + 2), (worse + 1) / (n + 2)
    half = Z * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    return np.maximum(up - down - half, -1), np.minimum(up - down + half, 1)


def class_table(one: ScoredRun, other: ScoredRun | None, count: int) -> pd.DataFrame:
    """video@1 of each class, in the order of the classes, as `A` with `A low`, `A high`, and `n` items.

    With `other` the same of `B`, and `difference`, A less B in points, `low`, `high`, and `p`, McNemar's exact test
    after Holm's correction for the number of classes. Classes without items have NaN.
    """
    labels, names = one.scores.labels, one.scores.classes

    def counted(which: np.ndarray) -> np.ndarray:
        return np.bincount(labels, which, minlength=len(names))

    n = np.bincount(labels, minlength=len(names))
    some = np.where(n, n, np.nan)
    table = pd.DataFrame({"class": names, "n": n})
    right = {side: judged.verdicts[count].rank == 0 for side, judged in (("A", one), ("B", other)) if judged}
    for side, which in right.items():
        table[side] = 100 * counted(which) / some
        table[f"{side} low"], table[f"{side} high"] = (100 * end for end in wilson(counted(which), some))
    if other:
        better, worse = counted(right["A"] & ~right["B"]), counted(right["B"] & ~right["A"])
        table["difference"] = 100 * (better - worse) / some
        table["low"], table["high"] = (100 * end for end in paired(better, worse, some))
        p = np.minimum(1, 2 * stats.binom.cdf(np.minimum(better, worse), better + worse, 0.5))
        table["p"] = np.nan
        table.loc[n > 0, "p"] = holm(p[n > 0])
    return table


def sorted_classes(table: pd.DataFrame, order: str) -> pd.DataFrame:
    """The classes of `class_table` that have items, in one of the orders SORTS."""
    column, ascending = SORTS[order]
    return table[table["n"] > 0].sort_values(column, ascending=ascending, kind="stable")


def confused_pairs(judged: ScoredRun, count: int) -> pd.DataFrame:
    """Which class was taken for which, and how often: `true`, `guess` as numbers, `n`; the most frequent first."""
    verdict, classes = judged.verdicts[count], len(judged.scores.classes)
    wrong = verdict.rank > 0
    pairs, n = np.unique(judged.scores.labels[wrong] * classes + verdict.guess[wrong], return_counts=True)
    table = pd.DataFrame({"true": pairs // classes, "guess": pairs % classes, "n": n})
    return table.sort_values("n", ascending=False, kind="stable", ignore_index=True)


def confusion_part(judged: ScoredRun, count: int, most: int = MOST_CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """The classes of a confusion matrix that can be read, and how often each was taken for each, (k, k).

    All classes if there are `most` or fewer; else those of the most frequent confusions, and one column more,
    (k, k + 1), for guesses outside them. Classes are in their own order.
    """
    scores, classes = judged.scores, len(judged.scores.classes)
    if classes <= most:
        members = np.arange(classes)
    else:
        pairs = confused_pairs(judged, count)[["true", "guess"]].to_numpy().reshape(-1)
        by_items = np.argsort(-np.bincount(scores.labels, minlength=classes), kind="stable")
        members = np.sort(list(dict.fromkeys([*pairs[: most * most].tolist(), *by_items.tolist()]))[:most])
    place = np.full(classes, len(members))
    place[members] = np.arange(len(members))
    rows = place[scores.labels] < len(members)
    counts = np.zeros((len(members), len(members) + 1), int)
    np.add.at(counts, (place[scores.labels[rows]], place[judged.verdicts[count].guess[rows]]), 1)
    return members, counts if classes > most else counts[:, :-1]


def items(
    one: ScoredRun,
    other: ScoredRun | None,
    count: int,
    *,
    show: str = "all",
    true: int | None = None,
    guess: int | Sequence[int] | None = None,
    of: str = "A",
) -> np.ndarray:
    """The rows of the items to be shown: of FILTERS `show`, of class `true`, taken for `guess` by run `of`.

    `guess` is a class or several. Those come first of which the run `of` is surest. Without `other`, B is A.
    """
    a, b = one.verdicts[count], (other or one).verdicts[count]
    asked = b if of == "B" else a
    kept = FILTERS[show](a.rank == 0, b.rank == 0, a.guess == b.guess)
    if true is not None:
        kept = kept & (one.scores.labels == true)
    if guess is not None:
        kept = kept & np.isin(asked.guess, guess)
    rows = np.flatnonzero(kept)
    return rows[np.argsort(-asked.sure[rows], kind="stable")]


def item_table(one: ScoredRun, other: ScoredRun | None, count: int, rows: np.ndarray) -> pd.DataFrame:
    """Video, class, and each run's guess, its probability in per cent and the rank of the class, a row an item."""
    names = np.array(one.scores.classes, dtype=object)
    table = pd.DataFrame({"video": one.scores.videos[rows], "class": names[one.scores.labels[rows]]})
    for side, judged in (("A", one), ("B", other)):
        if judged:
            verdict = judged.verdicts[count]
            table[f"{side} says"] = names[verdict.guess[rows]]
            table[f"{side} sure"] = 100 * verdict.sure[rows]
            table[f"{side} rank of class"] = verdict.rank[rows] + 1
    return table


def over_time(judged: ScoredRun, row: int, count: int, top: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of one item the likeliest classes (top,), their probabilities (top,), and those of each clip, (clips, top)."""
    scores = judged.scores
    one = replace(scores, logits=scores.logits[row : row + 1], labels=scores.labels[row : row + 1])
    each = softmax(with_clips(one, count).logits[0], axis=1)
    mean = each.mean(axis=0)
    best = np.argsort(-mean, kind="stable")[:top]
    return best, mean[best], each[:, best]


def _by_video(judged: ScoredRun, right: np.ndarray) -> np.ndarray:
    """`statistics.per_video` with videos that are numbered already."""
    return np.bincount(judged.video, right) / np.bincount(judged.video)
