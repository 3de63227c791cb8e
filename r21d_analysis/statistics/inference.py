"""Estimates with 95 % intervals and p-values whose independent unit is the recording.

Videos cut from one recording succeed or fail together, and each run has the luck of its seed. The model of the outcome
of network n, trained with seed s, on video v of recording g is

    y = mean(n) + recording(g) + network × recording(n, g) + network × video(n, v)
        + seed(n, s) + seed × recording(n, s, g) + seed × video(n, s, v).

A contrast is a signed sum of network means over the same videos, each network averaged over its seeds first. Its
variance has two parts. The first is the cluster-robust variance over recordings (CR1, Liang and Zeger, 1986): it holds
every term that varies with the recording, the interactions with the seed included. The second is the variance of
seed(n, s), which moves all recordings alike and which no resampling of recordings shows. `seed_variance` estimates it
by analysis of variance, pooled over all networks of a table, as a single network has too few seeds to tell; where
Bartlett's test rejects equal variances, a contrast takes those of its own networks: of two networks with as many seeds
each their mean, else each network's own, with its own weight. Networks with one seed on several splits have several
runs, from which `fold_variance` estimates it. The interval and the p-value come from one t-distribution with
Satterthwaite's degrees of freedom.

In simulations of 98 recordings an interval covers in 93 to 97 % of the cases where the networks' seeds vary alike.
Where those of the baseline of eleven differences alone vary more, Bartlett's test often misses it: with a standard
deviation of 4 points, an interval covers in 87 % with three seeds and in 90 % with five, and Holm's method rejects a
true hypothesis in 14 and 9 % of the families.

Of one seed on two splits the two networks of a difference leave one degree of freedom: with a standard deviation of 5
to 10 points an interval covers in 87 % of the cases, on three splits in 93 %.

Everything is in the unit of the values; `correct_by_seed` makes it per cent, so that differences are in points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.special import stdtr, stdtrit

from r21d_analysis.statistics.bartlett import bartlett_p
from r21d_core import R21DError
from r21d_core.runs.metrics import video_correct
from r21d_core.runs.scores import Scores

CONFIDENCE = 0.95
UPPER = (1 + CONFIDENCE) / 2
RESAMPLES = 999  # of the bootstrap in `estimate_correlation`
ROUNDING = 1e-10  # of sums of outcomes in per cent; what is smaller is no variance
UNEQUAL = 0.05  # the p of Bartlett's test below which the networks' seeds differ in variance


@dataclass(frozen=True)
class Outcomes:
    """What the runs of one network, a seed each, did on one test set."""

    values: np.ndarray  # (seeds, items) 100 where right and 0 where wrong, or differences or shares of such
    groups: np.ndarray  # (items,) the recording of each item

    def __sub__(self, other: Outcomes) -> Outcomes:
        """The differences run by run, where both are of the same weights in the same order of seeds."""
        return Outcomes(self.values - other.values, self.groups)

    @cached_property  # every row of a table pools it over all networks
    def seed_squares(self) -> tuple[np.ndarray, float, float]:
        """The means of runs, (seeds,), their sum of squares, and what interactions with the seed add to it."""
        means, interactions = self.values.mean(axis=1), self.values - self.values.mean(axis=0)
        return means, ((means - means.mean()) ** 2).sum(), _recording_variances(interactions, self.groups).sum()


@dataclass(frozen=True)
class SeedVariance:
    """The variance of a run's mean that its seed explains beyond recordings, and how well it is known."""

    value: float = 0.0  # the estimate, 0 or more
    mean_square: float = 0.0  # the variance of a run's mean between seeds, interactions included
    df: float = 0
    equal: bool = True  # False where it differs between the networks, by Bartlett's test at 5 %


@dataclass(frozen=True)
class Estimate:
    """A mean or contrast with its 95 % interval and two-sided p-value; NaN where it is not defined."""

    value: float
    low: float
    high: float
    p: float = np.nan  # of no difference from 0
    recordings: int = 0
    items: int = 0  # an item tested in several splits counts in each; runs, for a number that only runs have
    seeds: int = 0  # of the network with the fewest
    recording_variance: float = np.nan
    seed_part: float = 0.0  # of the variance
    df: float = np.nan
    tested: bool = False  # whether every network has several runs, and their variance is known

    @property
    def error_bar(self) -> list[list[float]]:
        """The distances to `low` and `high`, as `Axes.errorbar` takes them."""
        return [[self.value - self.low], [self.high - self.value]]


def correct_by_seed(seeds: Sequence[Scores], correct: Callable[[Scores], np.ndarray] = video_correct) -> Outcomes:
    """The Outcomes in per cent of one network's seeds; `correct` gives a share for each item, (items,).

    Raises R21DError if the seeds were not evaluated on the same items.
    """
    for scores in seeds[1:]:
        check_same_items(seeds[0], scores)
    return Outcomes(100 * np.array([correct(scores) for scores in seeds], float), seeds[0].groups)


def check_same_items(a: Scores, b: Scores) -> None:
    """Raise R21DError if two runs were not evaluated on the same items and classes."""
    same = np.array_equal(a.videos, b.videos) and np.array_equal(a.labels, b.labels)
    if not same or a.classes != b.classes:
        raise R21DError(
            f"two runs were evaluated on different videos ({len(a.videos)} items of {a.protocol.get('data')}, "
            f"{len(b.videos)} of {b.protocol.get('data')}); compare runs of one manifest, split and task"
        )


def seed_variance(networks: Iterable[Outcomes]) -> SeedVariance:
    """Pool the variance of seed(n, s) over networks; a network with one seed says nothing of it.

    For each network the variance of a run's mean between seeds, less what the interactions of seed and recording
    contribute to it (their cluster-robust variance), is an unbiased estimate where recordings have as many items each,
    and nearly one elsewhere. A negative pooled estimate is 0, which makes small ones too large on average.
    """
    value, square, df, runs = _seed_components(networks)
    if not df:
        return SeedVariance()
    equal = len(runs) < 2 or bartlett_p(runs) >= UNEQUAL
    return SeedVariance(max(0.0, value), square, df, bool(equal))


def _seed_components(networks: Iterable[Outcomes]) -> tuple[float, float, int, list[np.ndarray]]:
    """`value`, which may be negative, `mean_square` and `df` of `SeedVariance`, and the means of runs that differ."""
    squares, interactions, df, runs = 0.0, 0.0, 0, []
    for network in networks:
        if (seeds := len(network.values)) < 2:
            continue
        means, square, interaction = network.seed_squares
        squares += square
        interactions += interaction
        runs += [means] if np.ptp(means) > ROUNDING else []  # equal of a constant prediction
        df += seeds - 1
    return float(squares - interactions) / max(df, 1), float(squares) / max(df, 1), df, runs


def df_of_same_runs(means: Sequence[np.ndarray]) -> float:
    """Satterthwaite's degrees of freedom of the `mean_square` that `seed_variance` pools over several numbers of runs.

    `means` has for each network, of which others are independent, these numbers of its runs, (numbers, seeds). Numbers
    of the same runs depend on each other, such as both streams' mean less each stream: of two that are each other's
    negative, the second says nothing more. With two seeds of one network all numbers look so.
    """
    squares = sum((centered := rows - rows.mean(axis=1, keepdims=True)) @ centered.T for rows in means)
    seeds = sum(rows.shape[1] - 1 for rows in means)
    return float(seeds * np.trace(squares) ** 2 / (np.square(squares).sum() or np.inf)) or float(seeds)


def fold_variance(networks: Sequence[Sequence[Outcomes]]) -> SeedVariance:
    """`seed_variance` of networks on the same splits with one seed: a run's mean less its network's and its split's."""
    rows, folds = len(networks), len(networks[0]) if networks else 0
    if min(folds, rows) < 2:
        return SeedVariance()
    means, interactions, df = np.empty((rows, folds)), 0.0, (rows - 1) * (folds - 1)
    for fold, members in enumerate(zip(*networks, strict=True)):
        values = np.array([member.values.mean(axis=0) for member in members])
        values -= values.mean(axis=0)
        means[:, fold] = values.mean(axis=1)
        interactions += _recording_variances(values, members[0].groups).sum() / (rows - 1) / folds
    square = ((means - means.mean(axis=1, keepdims=True)) ** 2).sum() / df
    return SeedVariance(float(max(0.0, square - interactions)), float(square), df)


def _recording_variances(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The cluster-robust variance (CR1) of the mean of each row of `values` (rows, items); 0 for one recording."""
    _, recording = np.unique(groups, return_inverse=True)
    count = recording.max() + 1
    residual = values - values.mean(axis=1, keepdims=True)
    totals = np.stack([np.bincount(recording, row, minlength=count) for row in residual])
    return (totals**2).sum(axis=1) / values.shape[1] ** 2 * count / max(count - 1, 1)


def estimate_contrast(
    strata: Sequence[tuple[Sequence[tuple[float, np.ndarray]], np.ndarray]], seeds: SeedVariance | None = None
) -> Estimate:
    """Estimate a contrast, averaged over `strata` that count alike, such as the splits of a data set.

    A stratum is a pair: its arms, each a weight and values (seeds, items), and the recording of each item (items,). The
    arms are of the same networks in the same order in every stratum. A recording that stands in several strata is one
    cluster. Without `seeds`, or where these are not equal, the variance of seeds is estimated from the arms: from all
    together where they are two with as many seeds, or where a run is the only one of its arm; otherwise, if `seeds` are
    not equal, from each by itself. The interval is NaN where there are fewer than two recordings.
    """
    parts = [] if seeds is None or seeds.equal else _own_seed_parts(strata)
    if seeds is None or not seeds.equal:
        own = seed_variance(Outcomes(values, groups) for arms, groups in strata for _, values in arms)
        seeds = own if own.df or seeds is None else seeds
    names, recording = np.unique(np.concatenate([groups for _, groups in strata]), return_inverse=True)
    totals, value, share, begin = np.zeros(len(names)), 0.0, 0.0, 0
    for arms, groups in strata:
        difference = np.sum([sign * values.mean(axis=0) for sign, values in arms], axis=0)
        mean, items = difference.mean(), len(groups)
        value += mean / len(strata)
        weights = (difference - mean) / (items * len(strata))
        totals += np.bincount(recording[begin : begin + items], weights, minlength=len(names))
        share += sum(sign**2 / len(values) for sign, values in arms) / len(strata) ** 2
        begin += items
    totals[np.abs(totals) < ROUNDING] = 0
    df = len(names) - len(strata)
    clustered = (totals**2).sum() * len(names) / df if df > 0 else np.nan
    parts = parts or [(share * seeds.value, share * seeds.mean_square, seeds.df)]
    seed_part = max(0.0, sum(part for part, _, _ in parts))
    variance = clustered + seed_part
    if seed_part > 0 and variance > 0:
        df = max(1.0, variance**2 / (clustered**2 / df + sum(square**2 / dfs for _, square, dfs in parts)))
    error = np.sqrt(variance)
    half = error * stdtrit(df, UPPER) if df > 0 else np.nan
    p = 2 * stdtr(df, -abs(value) / error) if error > 0 else (1.0 if value == 0 and error == 0 else np.nan)
    fewest = min(len(values) for arms, _ in strata for _, values in arms)
    return Estimate(
        float(value), float(value - half), float(value + half), float(p), len(names), begin, fewest,
        float(clustered), float(seed_part), float(df), min(seeds.df, df) > 0 and fewest * len(strata) > 1,
    )  # fmt: skip


def _own_seed_parts(
    strata: Sequence[tuple[Sequence[tuple[float, np.ndarray]], np.ndarray]],
) -> list[tuple[float, float, int]]:
    """Each network's part of the variance of a contrast by its own seeds, with its mean square and degrees of freedom.

    Empty where two networks with as many seeds have one estimate, their mean, and where a network has one seed.
    """
    counts, parts = {len(values) for arms, _ in strata for _, values in arms}, []
    if min(counts) < 2 or (len(counts) == 1 and len(strata[0][0]) <= 2):
        return []
    for network in range(len(strata[0][0])):
        own = [(*arms[network], groups) for arms, groups in strata]
        share = sum(weight**2 / len(values) for weight, values, _ in own) / len(strata) ** 2
        value, square, df, _ = _seed_components(Outcomes(values, groups) for _, values, groups in own)
        parts.append((share * value, share * square, df))
    return parts


def estimate_mean(splits: Sequence[Outcomes], seeds: SeedVariance | None = None) -> Estimate:
    """`estimate_contrast` of one network's mean, averaged over its splits."""
    return estimate_contrast([([(1, split.values)], split.groups) for split in splits], seeds)


def estimate_accuracy(splits: Sequence[Outcomes], seeds: SeedVariance | None = None) -> Estimate:
    """`estimate_mean` of per cent: the interval ends at 0 and 100, and is NaN where no recording differs from another.

    That all are right, or as many in each, such as of one class for all, shows no variance to estimate.
    """
    estimate = estimate_mean(splits, seeds)
    if estimate.low == estimate.high:
        return replace(estimate, low=np.nan, high=np.nan, p=np.nan)
    return replace(estimate, low=np.maximum(estimate.low, 0.0), high=np.minimum(estimate.high, 100.0))


def estimate_difference(
    splits: Sequence[Outcomes], baselines: Sequence[Outcomes], seeds: SeedVariance | None = None
) -> Estimate:
    """`estimate_contrast` of a network less another on the same items in per cent, split by split.

    As in `estimate_accuracy` the interval ends at what is possible, −100 and 100: few seeds that differ much give more.
    It is NaN where no recording and no seed differs from another. Of outcomes of the same weights, such as with fewer
    clips, take `estimate_mean` of their differences instead.
    """
    pairs = zip(splits, baselines, strict=True)
    estimate = estimate_contrast([([(1, a.values), (-1, b.values)], a.groups) for a, b in pairs], seeds)
    if estimate.low == estimate.high:
        return replace(estimate, low=np.nan, high=np.nan)
    return replace(estimate, low=np.maximum(estimate.low, -100.0), high=np.minimum(estimate.high, 100.0))


def estimate_correlation(networks: Sequence[Outcomes], others: Sequence[Outcomes], seeds: SeedVariance) -> Estimate:
    """Spearman's rank correlation of two rows of networks' accuracies on the same items; without p.

    The interval is a bootstrap over recordings. Each accuracy is drawn with a normal effect of its seeds besides.
    """
    random, groups = np.random.default_rng(0), networks[0].groups
    names, recording = np.unique(groups, return_inverse=True)
    count, sizes, drawn = len(names), np.bincount(recording), []
    totals = [np.array([np.bincount(recording, n.values.mean(axis=0)) for n in row]) for row in (networks, others)]
    errors = [np.sqrt([seeds.value / len(n.values) for n in row]) for row in (networks, others)]
    for weights in random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES):
        rows = [total @ weights / (sizes @ weights) for total in totals]
        drawn.append([row + random.normal(0, error) for row, error in zip(rows, errors, strict=True)])
    found = spearman(*np.moveaxis(np.array(drawn), 1, 0))
    low, high = np.nanquantile(found, [1 - UPPER, UPPER]) if not np.isnan(found).all() else (np.nan, np.nan)
    value = float(spearman(*(total.sum(axis=1) for total in totals)))
    fewest = min(len(network.values) for network in (*networks, *others))
    return Estimate(value, float(low), float(high), recordings=count, items=len(groups), seeds=fewest)


def estimate_sum_of_means(samples: Sequence[tuple[float, np.ndarray]], peers: Sequence[np.ndarray] = ()) -> Estimate:
    """Welch's interval of the weighted sum of the means of `samples`, (weight, values of the seeds); in their unit.

    It is for numbers of a run that its videos do not have, such as its training error. `peers` are the values of all
    networks of a table, whose variance between seeds is pooled where Bartlett's test does not find it unequal. `items`
    counts runs. The interval is NaN where no seed differs from another, as in `estimate_accuracy`.
    """
    count, fewest = sum(len(values) for _, values in samples), min(len(values) for _, values in samples)
    value = float(sum(weight * values.mean() for weight, values in samples))
    if fewest < 2 or np.isnan(value) or all(np.ptp(values) < ROUNDING for _, values in samples):
        return Estimate(value, np.nan, np.nan, items=count, seeds=fewest)
    variances = np.array([weight**2 * values.var(ddof=1) / len(values) for weight, values in samples])
    df = variances.sum() ** 2 / (variances**2 / [len(values) - 1 for _, values in samples]).sum()
    several = [values for values in peers if len(values) > 1]
    differ = [values for values in several if np.ptp(values) > ROUNDING]
    if len(differ) > 1 and bartlett_p(differ) >= UNEQUAL:
        df = sum(len(values) - 1 for values in several)
        pooled = sum(values.var(ddof=0) * len(values) for values in several) / df
        variances = np.array([weight**2 * pooled / len(values) for weight, values in samples])
    half = float(stdtrit(df, UPPER) * np.sqrt(variances.sum()))
    return Estimate(value, value - half, value + half, items=count, seeds=fewest, df=float(df))


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Correct the p-values (tests,) of one family by Holm's method, (tests,); NaN is no test and stays NaN."""
    p = np.asarray(p, float)
    corrected = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN comes last
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return corrected


def family_p(estimates: Sequence[Estimate]) -> np.ndarray:
    """The p-values of one family by Holm's method, (estimates,); NaN where an estimate is not tested."""
    return holm([estimate.p if estimate.tested else np.nan for estimate in estimates])


def spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of `a` and `b`, (..., n) to (...); NaN where either is constant."""
    from scipy.stats import rankdata  # 1.5 s in each notebook, of which few need it

    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (rankdata(a, axis=-1), rankdata(b, axis=-1)))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))


def format_interval(low: float, high: float, spec: str = ".1f") -> str:
    """The text of an interval such as `1.2 to 3.4`, or a dash for NaN."""
    return "–" if np.isnan(low) else f"{low:{spec}} to {high:{spec}}"
