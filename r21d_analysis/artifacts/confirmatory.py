"""The confirmatory study of docs/protocol.md: its families of contrasts, their runs, and the verdict on each."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from r21d_analysis.artifacts.folds import BASELINE, GAP, NO_ESTIMATE
from r21d_analysis.artifacts.networks import Network, collect_networks, difference
from r21d_analysis.artifacts.tables import PAPER
from r21d_analysis.statistics.aggregate import group_by_seed, without_seed, without_videos
from r21d_analysis.statistics.inference import Estimate, holm
from r21d_analysis.statistics.power import detectable_difference
from r21d_analysis.style import P
from r21d_core.runs.run import Run
from r21d_core.study.experiments import TABLE_2, variant_comparison
from r21d_core.study.paper import paper_table
from r21d_core.study.recipes import CONFIRMATORY, VAL_SUFFIX, get_recipe
from r21d_core.study.spec import Spec

SEEN, EXPLORATORY = "seen before", "exploratory"  # of seeds in a verdict
MISSING, CHECK = "none: runs are missing", "a check; the verdict is that of all videos"
RUNS, DETECTABLE = "runs of both", "detectable"
WITHOUT = ", without the videos of "
LEAST = 3.0  # points; a contrast that may be as large, and may be none, is undecided
CLOSE = f"less than {LEAST:g} points apart"  # the verdict where `is_close`


class Family(NamedTuple):
    """Contrasts that are corrected together."""

    name: str
    data: str  # of the first split
    recipe: tuple[tuple[str, Any], ...]  # Spec fields and their values
    splits: tuple[int, ...]
    seeds: int  # of each network; 0: those that all networks have on all splits
    contrasts: tuple[tuple[str, int], ...]  # a network, and the clip length at which it is compared with R(2+1)D
    seen: tuple[int, ...] = ()  # seeds of which results were known before the family was complete
    tried: str = ""  # data of trials, without whose videos the contrasts are computed a second time, as a check


_ACTIONS = "ucf101-14-split1", tuple(CONFIRMATORY["ucf101-14"].items()), (1, 2, 3), 5
_SEVEN = tuple(name for name in TABLE_2 if name not in ("f-R2D", "R2D", "R3D", "MC3", BASELINE))
_FOLDS = "miracl-vc1-split1", tuple(CONFIRMATORY["miracl-vc1"].items()), (1, 2, 3, 4, 5), 0
SPEECH = Family("speech", *_FOLDS, tuple((name, 8) for name in TABLE_2 if name != BASELINE), (0, 1))
# As the protocol has them: a later row of ABLATIONS is no part of a family whose runs were seen.
_REASONS = ("R3D", "R(2+1)D-noReLU", "R(2+1)D-noBN-noReLU", "R(2+1)D-0.5M", "R(2+1)D-2M", "R(1+2)D", "P3D-B", "P3D-C",
            "R3D+ReLU")  # fmt: skip
WHY = Family("why (2+1)D", *_FOLDS, tuple(product(_REASONS, (8,))), (0, 1))
# Written down before any of their runs.
PLANNED = (
    Family("primary", *_ACTIONS, (("R3D", 16),), tried=f"ucf101-14-split1{VAL_SUFFIX}"),
    Family("actions, Table 2", *_ACTIONS,
           (*product(("f-R2D", "R2D", "MC3"), (16,)), *product(("f-R2D", "R2D", "R3D", "MC3"), (8,)))),
)  # fmt: skip
# Exploratory: the accuracy of rMC5's first run was seen before this row was written.
OTHER_SEVEN = Family("actions, the other seven", *_ACTIONS[:3], 1, tuple(product(_SEVEN, (16,))), (0,))
FAMILIES = (*PLANNED, SPEECH, WHY, OTHER_SEVEN)


def family_specs(family: Family, seeds: Sequence[int] = ()) -> list[Spec]:
    """The Specs of a family; without `seeds`, of all its seeds, or of seed 0 alone."""
    specs = []
    for frames in dict.fromkeys(frames for _, frames in family.contrasts):
        variants = (BASELINE, *(name for name, length in family.contrasts if length == frames))
        specs += variant_comparison(
            "small", family.data, variants=variants, seeds=seeds or range(family.seeds or 1), splits=family.splits,
            frames=frames, frame_stride=1, **dict(family.recipe),
        )  # fmt: skip
    return specs


def training_commands() -> str:
    """The commands that train the runs of FAMILIES, a line for each family and clip length; of an open number of seeds
    the first. A run of several families is trained once.
    """
    lines = []
    for family in FAMILIES:
        specs = family_specs(family)
        for frames in dict.fromkeys(spec.frames for spec in specs):
            members = [spec for spec in specs if spec.frames == frames]
            variants = dict.fromkeys(spec.variant for spec in members)
            seeds = dict.fromkeys(str(spec.seed) for spec in members)
            changes = members[0].changes_from(get_recipe("small", data=family.data).replace(data=family.data))
            settings = {"splits": ",".join(map(str, family.splits)), **changes}
            manifest = f"data_manifests/{family.data}.csv"
            line = ["r21d", "train", "variant_comparison", "--profile", "small", "--manifest", manifest]
            line += ["--variants", ",".join(variants), "--seeds", ",".join(seeds)]
            for key, value in settings.items():
                line += ["--set", f"{key}={value}"] if key != "variant" else []
            lines.append(shlex.join(line))
    return "\n".join(lines)


def confirmatory_table(runs: Sequence[Run], families: Sequence[Family] = FAMILIES) -> pd.DataFrame:
    """A row for each contrast: video@1 minus R(2+1)D's in points, its interval, the paper's, p in its family, verdict.

    Only a contrast whose runs are all complete has numbers and a part in the seeds' variance; a missing one counts as a
    test of its family. Where the number of seeds is open, a verdict needs a seed with all runs of the family; it is
    exploratory if no other seed counts than those seen, and says how many of its seeds are. A family with trials has
    its contrasts once more, without the videos of these and without a verdict. DETECTABLE is the difference that a test
    finds with 80 % power.
    """
    complete = {run.spec: run for run in runs if run.is_complete}
    rows = []
    for family in families:
        specs, counts, members = _members(family, complete)
        estimates = _differences(family, counts, collect_networks(members)[0])
        # As if a missing contrast were tested and no difference found, which corrects the others the more.
        p = holm([1.0 if not estimate.tested or np.isnan(estimate.p) else estimate.p for estimate in estimates])
        verdicts = [decide_contrast(*pair, len(estimates)) for pair in zip(estimates, p, strict=True)]
        if not family.seeds and any(spec not in complete for spec in specs):
            verdicts = ["none: no seed has all runs of the family"] * len(p)
        elif seen := describe_seen(family, {spec.seed for spec in specs}):
            verdicts = [verdict if verdict == MISSING else f"{seen}: {verdict}" for verdict in verdicts]
        rows += _rows(family, family.name, counts, estimates, p, verdicts, len(estimates))
        if family.tried:
            rows += _check_rows(family, counts, members, complete)
    return pd.DataFrame(rows)


def _check_rows(
    family: Family, counts: Sequence[tuple[int, int]], members: Sequence[Run], complete: Mapping[Spec, Run]
) -> Iterator[dict]:
    """The rows of a family with trials, computed from its runs `members` without the videos of these."""
    videos = {v for run in complete.values() if run.spec.data == family.tried for v in run.scores.videos}
    if videos:
        kept = without_videos(group_by_seed(members), videos)
        estimates = _differences(family, counts, collect_networks(members, kept)[0])
        verdicts = [CHECK if done == total else MISSING for done, total in counts]
    else:
        estimates = [NO_ESTIMATE] * len(counts)
        verdicts = [f"none: no run on {family.tried}"] * len(counts)
    p = [estimate.p for estimate in estimates]  # not corrected, as a check is no test of the family
    return _rows(family, f"{family.name}{WITHOUT}{family.tried}", counts, estimates, p, verdicts, tests=1)


def _members(family: Family, complete: Mapping[Spec, Run]) -> tuple[list[Spec], list[tuple[int, int]], list[Run]]:
    """The Specs that count, the (complete, all) runs of each contrast, and the runs of contrasts that are complete.

    The seeds of other runs would count in the variance that networks share.
    """
    specs, counts, used = counted_specs(family, complete), [], set()
    for name, frames in family.contrasts:
        needed = {spec for spec in specs if spec.frames == frames and spec.variant in (name, BASELINE)}
        counts.append((sum(spec in complete for spec in needed), len(needed)))
        if needed <= complete.keys():
            used |= needed
    return specs, counts, [complete[spec] for spec in specs if spec in used]


def complete_members(runs: Sequence[Run], families: Sequence[Family]) -> list[Run]:
    """The runs of the families' complete contrasts."""
    complete = {run.spec: run for run in runs if run.is_complete}
    members = {run.spec: run for family in families for run in _members(family, complete)[2]}
    return [*members.values()]


@cache
def planned_specs() -> frozenset[Spec]:
    """The Specs of the families PLANNED, whether they have been run or not."""
    return frozenset(spec for family in PLANNED for spec in family_specs(family))


def without_unfinished(runs: Sequence[Run], families: Sequence[Family] = FAMILIES) -> list[Run]:
    """`runs` without those of contrasts with a fixed number of seeds that lack runs: nothing is computed before all are
    there.
    """
    fixed = [family for family in families if family.seeds]
    planned = {spec for family in fixed for spec in family_specs(family)}
    unfinished = planned - {run.spec for run in complete_members(runs, fixed)}
    return [run for run in runs if run.spec not in unfinished]


def _differences(family: Family, counts: Sequence[tuple[int, int]], found: Sequence[Network]) -> list[Estimate]:
    """The difference of each contrast that has all of its runs, by the networks `found`; NO_ESTIMATE of the others."""
    by_name = {(network.spec.variant, network.spec.frames): network for network in found}
    return [
        difference(by_name[name, frames], by_name[BASELINE, frames]) if done == total else NO_ESTIMATE
        for (name, frames), (done, total) in zip(family.contrasts, counts, strict=True)
    ]


def _paper_gap(family: Family, network: str, frames: int) -> float:
    """The difference in Table 2, on Kinetics-400; NaN for another task."""
    if family.data != _ACTIONS[0]:
        return np.nan
    ours, best = (paper_table(2)[name][f"video@1 {frames}f"] for name in (network, BASELINE))
    return ours - best


def _rows(
    family: Family, name: str, counts: Sequence[tuple[int, int]], estimates: Sequence[Estimate], p: Iterable[float],
    verdicts: Sequence[str], tests: int,
) -> Iterator[dict]:  # fmt: skip
    """Yield the rows of `confirmatory_table` for a family's contrasts, under its `name` or that of its check."""
    columns = zip(family.contrasts, counts, estimates, p, verdicts, strict=True)
    for (network, frames), (done, total), estimate, corrected, verdict in columns:
        yield {
            "family": name, "network": network, "frames": frames,
            GAP: estimate.value, "low": estimate.low, "high": estimate.high, PAPER: _paper_gap(family, network, frames),
            P: corrected if estimate.tested else np.nan, "groups": estimate.recordings,
            "seeds": estimate.seeds, RUNS: f"{done} of {total}", "verdict": verdict,
            DETECTABLE: detectable_difference(estimate, tests) if estimate.tested else np.nan,
        }  # fmt: skip


def counted_specs(family: Family, complete: Mapping[Spec, Run]) -> list[Spec]:
    """The Specs of the seeds that count: the family's number, or else the complete ones, or seed 0 if none is."""
    seeds = () if family.seeds else counted_seeds(family_specs(family, [0]), complete)
    return family_specs(family, seeds)


def counted_seeds(networks: Collection[Spec], complete: Collection[Spec]) -> list[int]:
    """The seeds that all `networks`, Specs on all splits of any seed, have among the Specs `complete`."""
    finished, wanted = defaultdict(set), set(map(without_seed, networks))
    for spec in complete:
        finished[spec.seed].add(without_seed(spec))
    return [seed for seed in sorted(finished) if wanted <= finished[seed]]


@cache
def family_networks(family: Family) -> frozenset[Spec]:
    """The Specs of a family's networks on its splits, of seed 0."""
    return frozenset(family_specs(family, [0]))


def families_of(specs: Iterable[Spec]) -> list[Family]:
    """The first of FAMILIES that holds the networks of all `specs`, of any seed; else all that hold one of them.

    Empty where a network is in no family.
    """
    wanted = set(map(without_seed, specs))
    families = [family for family in FAMILIES if wanted & family_networks(family)]
    if whole := [family for family in families if wanted <= family_networks(family)]:
        return whole[:1]
    return families if wanted <= {spec for family in families for spec in family_networks(family)} else []


def counted_runs(runs: Sequence[Run]) -> list[Run]:
    """`without_unfinished`, and of FAMILIES without the seeds that do not count.

    A network of several families has the seeds of the first. A family with an open number of seeds of which none counts
    keeps all its runs, and has no verdict.
    """
    runs = without_unfinished(runs)
    complete, seeds_of = {run.spec for run in runs if run.is_complete}, {}
    for family in FAMILIES:
        networks = family_networks(family)
        if seeds := range(family.seeds) or counted_seeds(networks, complete):
            seeds_of = dict.fromkeys(networks, seeds) | seeds_of  # those of the first family stay
    return [run for run in runs if run.spec.seed in seeds_of.get(without_seed(run.spec), [run.spec.seed])]


def decide_contrast(estimate: Estimate, p: float, tests: int) -> str:
    """The protocol's verdict on a contrast with the p-value `p` in a family of `tests`."""
    if np.isnan(estimate.value):
        return MISSING
    if not estimate.tested or np.isnan(estimate.low):
        return "none: the variance of a run is not known"
    if p < 0.05:
        return f"{'more' if estimate.value > 0 else 'less'} accurate than {BASELINE}"
    if is_close(estimate.low, estimate.high):
        return CLOSE
    return f"undecided ({detectable_difference(estimate, tests):.1f} points would be found)"


def is_close(low: float, high: float) -> bool:
    """Whether an interval holds zero and lies within LEAST points of it."""
    return -LEAST < low <= 0 <= high < LEAST


def describe_seen(family: Family, seeds: Collection[int]) -> str:
    """What a verdict of the family on `seeds` says of those that were seen before; "" if none was."""
    seen = {*family.seen} & {*seeds}
    text = f"{len(seen)} of {len(seeds)} seeds {SEEN}" if seen else ""
    return EXPLORATORY if seen == {*seeds} else text


def rests_on_seen(verdict: str) -> bool:
    """Whether runs behind a verdict of `confirmatory_table`, some or all, were seen before."""
    return verdict.startswith(EXPLORATORY) or SEEN in verdict


def describe_verdicts(table: pd.DataFrame) -> str:
    """How many contrasts of each family have a verdict of runs unseen before, as text; checks are left out."""
    table = table[~table["family"].str.contains(WITHOUT, regex=False)]
    decided = ~table["verdict"].str.startswith("none") & ~table["verdict"].map(rests_on_seen)
    counts = decided.groupby(table["family"], sort=False).agg(["sum", "size"])
    texts = [f"{name} {done} of {total}" for name, done, total in counts.itertuples()]
    return f"contrasts with a verdict of runs made after the protocol: {'; '.join(texts)}"
