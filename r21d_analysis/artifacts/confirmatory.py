"""The confirmatory study of docs/protocol.md: its families of contrasts, their runs, and the verdict on each."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.folds import BASELINE, GAP, NO_ESTIMATE, fold_table, format_intervals
from r21d_analysis.artifacts.networks import Network, collect_networks, difference
from r21d_analysis.artifacts.tables import INTERVAL, PAPER, protocol_line
from r21d_analysis.statistics.aggregate import group_by_seed, pooled_seed_variance, without_videos
from r21d_analysis.statistics.inference import Estimate, SeedVariance, detectable_difference, estimate_contrast, holm
from r21d_analysis.style import ERROR_BAR, GRAY, PAPER_TICK, VARIANT_STYLE, P, figure_of_runs, note, style_table
from r21d_core.runs.run import Run
from r21d_core.study.experiments import SPLIT, TABLE_2, variant_comparison
from r21d_core.study.paper import paper_table
from r21d_core.study.recipes import CONFIRMATORY, VAL_SUFFIX, get_recipe
from r21d_core.study.spec import Spec

MISSING, CHECK = "none: runs are missing", "a check; the verdict is that of all videos"
RUNS, BY_SPLIT = "runs of both", f"{GAP} by split"
LONGER = "16 minus 8 frames (points)"
WITHOUT = ", without the videos of "
LEAST = 3.0  # points; a contrast that may be as large, and may be none, is undecided


class Family(NamedTuple):
    """Contrasts that are corrected together."""

    name: str
    data: str  # of the first split
    splits: tuple[int, ...]
    seeds: int  # of each network; 0: those that all networks have on all splits
    contrasts: tuple[tuple[str, int], ...]  # a network, and the clip length at which it is compared with R(2+1)D
    seen: tuple[int, ...] = ()  # seeds of which results were known before the family was complete
    tried: str = ""  # data of trials, without whose videos the contrasts are computed a second time, as a check


_ACTIONS = "ucf101-14-split1", (1, 2, 3), 5
_FOLDS = "miracl-vc1-split1", (1, 2, 3, 4, 5), 0
SPEECH = Family("speech", *_FOLDS, tuple((name, 8) for name in TABLE_2 if name != BASELINE), (0, 1))
# As the protocol has them: a later row of ABLATIONS is no part of a family whose runs were seen.
_REASONS = ("R3D", "R(2+1)D-noReLU", "R(2+1)D-noBN-noReLU", "R(2+1)D-0.5M", "R(2+1)D-2M", "R(1+2)D", "P3D-B", "P3D-C",
            "R3D+ReLU")  # fmt: skip
WHY = Family("why (2+1)D", *_FOLDS, tuple(product(_REASONS, (8,))), (0, 1))
FAMILIES = (
    Family("primary", *_ACTIONS, (("R3D", 16),), tried=f"ucf101-14-split1{VAL_SUFFIX}"),
    Family("actions, Table 2", *_ACTIONS,
           (*product(("f-R2D", "R2D", "MC3"), (16,)), *product(("f-R2D", "R2D", "R3D", "MC3"), (8,)))),
    SPEECH,
    WHY,
)  # fmt: skip


def family_specs(family: Family, recipe: Mapping, seeds: Sequence[int] = ()) -> list[Spec]:
    """The Specs of a family with the Spec fields `recipe`; without `seeds`, of all its seeds, or of seed 0 alone."""
    specs = []
    for frames in dict.fromkeys(frames for _, frames in family.contrasts):
        variants = (BASELINE, *(name for name, length in family.contrasts if length == frames))
        specs += variant_comparison(
            "small", family.data, variants=variants, seeds=seeds or range(family.seeds or 1), splits=family.splits,
            frames=frames, frame_stride=1, **recipe,
        )  # fmt: skip
    return specs


def training_commands() -> str:
    """The commands that train the runs of FAMILIES, a line for each family and clip length; of an open number of seeds
    the first. A run of several families is trained once.
    """
    lines = []
    for family in FAMILIES:
        specs = family_specs(family, CONFIRMATORY[SPLIT.sub("", family.data)])
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


def confirmatory_table(
    runs: Sequence[Run], recipes: Mapping[str, Mapping] = CONFIRMATORY, families: Sequence[Family] = FAMILIES
) -> pd.DataFrame:
    """A row for each contrast: video@1 minus R(2+1)D's in points, its interval, the paper's, p in its family, verdict.

    `recipes` are Spec fields by data set, without the split; a data set without one has no runs yet. Only a contrast
    whose runs are all complete has numbers and a part in the seeds' variance; a missing one counts as a test of its
    family. Where the number of seeds is open, a verdict needs a seed with all runs of the family; it is exploratory if
    no other seed counts than those seen. A family with trials has its contrasts once more, without the videos of these
    and without a verdict.
    """
    complete = {run.spec: run for run in runs if run.is_complete}
    rows = []
    for family in families:
        recipe = recipes.get(SPLIT.sub("", family.data))
        specs, counts, members = _members(family, recipe, complete)
        estimates = _differences(family, counts, collect_networks(members)[0])
        # As if a missing contrast were tested and no difference found, which corrects the others the more.
        p = holm([1.0 if not estimate.tested or np.isnan(estimate.p) else estimate.p for estimate in estimates])
        verdicts = [decide_contrast(*pair, len(estimates)) for pair in zip(estimates, p, strict=True)]
        if recipe is None:
            verdicts = ["none: no recipe is chosen yet"] * len(p)
        elif not family.seeds and any(spec not in complete for spec in specs):
            verdicts = ["none: no seed has all runs of the family"] * len(p)
        elif {spec.seed for spec in specs} <= {*family.seen}:
            verdicts = [f"exploratory: {verdict}" for verdict in verdicts]
        rows += _rows(family, family.name, counts, estimates, p, verdicts)
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
        verdicts = [CHECK if _is_whole(count) else MISSING for count in counts]
    else:
        estimates = [NO_ESTIMATE] * len(counts)
        verdicts = [f"none: no run on {family.tried}"] * len(counts)
    p = [estimate.p for estimate in estimates]  # not corrected, as a check is no test of the family
    return _rows(family, f"{family.name}{WITHOUT}{family.tried}", counts, estimates, p, verdicts)


def _is_whole(count: tuple[int, int]) -> bool:
    """Whether a contrast has runs and all of them are complete."""
    done, total = count
    return done == total > 0


def _members(
    family: Family, recipe: Mapping | None, complete: Mapping[Spec, Run]
) -> tuple[list[Spec], list[tuple[int, int]], list[Run]]:
    """The Specs that count, the (complete, all) runs of each contrast, and the runs of contrasts that are complete.

    The seeds of other runs would count in the variance that networks share.
    """
    specs = counted_specs(family, recipe, complete) if recipe is not None else []
    counts, used = [], set()
    for name, frames in family.contrasts:
        needed = {spec for spec in specs if spec.frames == frames and spec.variant in (name, BASELINE)}
        counts.append((sum(spec in complete for spec in needed), len(needed)))
        if needed <= complete.keys():
            used |= needed
    return specs, counts, [complete[spec] for spec in specs if spec in used]


@cache
def planned_specs() -> frozenset[Spec]:
    """The Specs of the families with a fixed number of seeds, whether they have been run or not."""
    return frozenset(spec for family, recipe in _fixed(CONFIRMATORY, FAMILIES) for spec in family_specs(family, recipe))


def _fixed(recipes: Mapping[str, Mapping], families: Sequence[Family]) -> list[tuple[Family, Mapping]]:
    """The families with a fixed number of seeds whose recipe is chosen, with it."""
    names = [(family, SPLIT.sub("", family.data)) for family in families if family.seeds]
    return [(family, recipes[name]) for family, name in names if name in recipes]


def without_unfinished(
    runs: Sequence[Run], recipes: Mapping[str, Mapping] = CONFIRMATORY, families: Sequence[Family] = FAMILIES
) -> list[Run]:
    """`runs` without those of contrasts with a fixed number of seeds that lack runs: nothing is computed before all are
    there.
    """
    complete, planned, used = {run.spec: run for run in runs if run.is_complete}, set(), set()
    for family, recipe in _fixed(recipes, families):
        planned |= {*family_specs(family, recipe)}
        used |= {run.spec for run in _members(family, recipe, complete)[2]}
    return [run for run in runs if run.spec not in planned - used]


def _differences(family: Family, counts: Sequence[tuple[int, int]], found: Sequence[Network]) -> list[Estimate]:
    """The difference of each contrast that has all of its runs, by the networks `found`; NO_ESTIMATE of the others."""
    by_name = {(network.spec.variant, network.spec.frames): network for network in found}
    return [
        difference(by_name[name, frames], by_name[BASELINE, frames]) if _is_whole(count) else NO_ESTIMATE
        for (name, frames), count in zip(family.contrasts, counts, strict=True)
    ]


def _paper_gap(family: Family, network: str, frames: int) -> float:
    """The difference in Table 2, on Kinetics-400; NaN for another task."""
    if family.data != _ACTIONS[0]:
        return np.nan
    ours, best = (paper_table(2)[name][f"video@1 {frames}f"] for name in (network, BASELINE))
    return ours - best


def _rows(
    family: Family, name: str, counts: Sequence[tuple[int, int]], estimates: Sequence[Estimate], p: Iterable[float],
    verdicts: Sequence[str],
) -> Iterator[dict]:  # fmt: skip
    """Yield the rows of `confirmatory_table` for a family's contrasts, under its `name` or that of its check."""
    columns = zip(family.contrasts, counts, estimates, p, verdicts, strict=True)
    for (network, frames), (done, total), estimate, corrected, verdict in columns:
        yield {
            "family": name, "network": network, "frames": frames,
            GAP: estimate.value, "low": estimate.low, "high": estimate.high, PAPER: _paper_gap(family, network, frames),
            P: corrected if estimate.tested else np.nan, "groups": estimate.recordings,
            "seeds": estimate.seeds, RUNS: f"{done} of {total}" if total else "–", "verdict": verdict,
        }  # fmt: skip


def counted_specs(family: Family, recipe: Mapping, complete: Mapping[Spec, Run]) -> list[Spec]:
    """The Specs of the seeds that count: the family's number, or else the complete ones, or seed 0 if none is."""
    if family.seeds:
        return family_specs(family, recipe)
    counted = [
        seed
        for seed in sorted({spec.seed for spec in complete})
        if all(spec in complete for spec in family_specs(family, recipe, [seed]))
    ]
    return family_specs(family, recipe, counted)


def decide_contrast(estimate: Estimate, p: float, tests: int) -> str:
    """The protocol's verdict on a contrast with the p-value `p` in a family of `tests`."""
    if np.isnan(estimate.value):
        return MISSING
    if not estimate.tested or np.isnan(estimate.low):
        return "none: the variance of a run is not known"
    if p < 0.05:
        return f"{'more' if estimate.value > 0 else 'less'} accurate than {BASELINE}"
    if -LEAST < estimate.low <= 0 <= estimate.high < LEAST:
        return f"less than {LEAST:g} points apart"
    return f"undecided; {detectable_difference(estimate, tests):.1f} points would be found"


def describe_verdicts(table: pd.DataFrame) -> str:
    """How many contrasts of each family have a verdict, as text; exploratory ones are not counted, checks left out."""
    table = table[~table["family"].str.contains(WITHOUT, regex=False)]
    decided = ~table["verdict"].str.startswith(("none", "exploratory"))
    counts = decided.groupby(table["family"], sort=False).agg(["sum", "size"])
    texts = [f"{name} {done} of {total}" for name, done, total in counts.itertuples()]
    return f"contrasts with a verdict that is not exploratory: {'; '.join(texts)}"


def show_confirmatory(
    runs: Sequence[Run], recipes: Mapping[str, Mapping] = CONFIRMATORY, families: Sequence[Family] = FAMILIES
) -> Styler:
    """`confirmatory_table` for a notebook."""
    table = confirmatory_table(runs, recipes, families)
    table["family"] = table["family"].where(~table["family"].duplicated(), "")
    table.insert(4, INTERVAL, format_intervals(table, "low", "high", "+.1f"))
    table[["groups", "seeds"]] = table[["groups", "seeds"]].map(lambda count: str(count or "–"))
    caption = (
        "Intervals and p by group (recording or speaker) and seed, or with one seed by fold; Holm within each family"
    )
    return style_table(table.drop(columns=["low", "high"]), caption, dict.fromkeys((GAP, PAPER), "{:+.1f}"))


def show_accuracies(
    runs: Sequence[Run], recipes: Mapping[str, Mapping] = CONFIRMATORY, families: Sequence[Family] = FAMILIES[:2]
) -> list[Styler] | list[Markdown]:
    """A table for each clip length: the networks of the families' complete contrasts, with their training errors."""
    members, tables = _complete_members(runs, recipes, families), []
    for frames in dict.fromkeys(run.spec.frames for run in members):
        of_length = [run for run in members if run.spec.frames == frames]
        table = fold_table(of_length)
        table[INTERVAL] = format_intervals(table, "low", "high", ".1f")
        table["its interval"] = format_intervals(table, "training low", "training high", "+.1f")
        by_split = {network.spec.variant: [*network.splits.values()] for network in collect_networks(of_length)[0]}
        best = [group.video_at(1) for group in by_split.pop(BASELINE)]
        texts = {
            name: ", ".join(f"{group.video_at(1) - value:+.1f}" for group, value in zip(groups, best, strict=True))
            for name, groups in by_split.items()
        }
        table[BY_SPLIT] = table["network"].map(texts).fillna("–")
        table = table.rename(columns={"training gap": f"training {GAP}", "folds": "splits"})
        shown = ["network", "clip@1", "video@1", INTERVAL, "training error", f"training {GAP}", "its interval"]
        shown += ["groups", "seeds", "splits", BY_SPLIT]
        caption = (
            f"{protocol_line(of_length)}. Means over splits; intervals of video@1 by group and seed; training error of "
            "the last epoch, its interval over runs; the differences by split are exploratory"
        )
        tables.append(style_table(table[shown], caption, {f"training {GAP}": "{:+.1f}"}))
    return tables or [note("no contrast on actions has all of its runs")]


def length_gains(
    runs: Sequence[Run], recipes: Mapping[str, Mapping] = CONFIRMATORY, families: Sequence[Family] = FAMILIES[:2]
) -> pd.DataFrame:
    """A row for each network whose contrasts are complete with 8 and with 16 frames: what the longer clips add.

    The difference of video@1 in points, the paper's on Kinetics-400, and the difference less R(2+1)D's, each with its
    interval. They are no contrasts of docs/protocol.md, so exploratory.
    """
    members = _complete_members(runs, recipes, families)
    networks = {(network.spec.variant, network.spec.frames): network for network in collect_networks(members)[0]}
    seeds = pooled_seed_variance([group for network in networks.values() for group in network.splits.values()])
    longer = {
        name: [(1, network), (-1, networks[name, 8])]
        for (name, frames), network in networks.items()
        if frames == 16 and (name, 8) in networks
    }
    rows = []
    for name in sorted(longer, key=lambda name: (name != BASELINE, name)):
        less = [*longer[name], *((-sign, network) for sign, network in longer[BASELINE])]
        gain, more = _combine(longer[name], seeds), NO_ESTIMATE if name == BASELINE else _combine(less, seeds)
        short, long = (paper_table(2)[name][f"video@1 {frames}f"] for frames in (8, 16))
        rows.append((name, gain.value, gain.low, gain.high, long - short, more.value, more.low, more.high))
    return pd.DataFrame(rows, columns=["network", LONGER, "low", "high", PAPER, GAP, "gap low", "gap high"])


def show_length_gains(runs: Sequence[Run]) -> Styler | Markdown:
    """`length_gains` for a notebook."""
    if (table := length_gains(runs)).empty:
        return note("no network has all runs of its contrasts with 8 and with 16 frames")
    table.insert(2, INTERVAL, format_intervals(table, "low", "high", "+.1f"))
    table["its interval"] = format_intervals(table, "gap low", "gap high", "+.1f")
    caption = "Exploratory; intervals by recording and seed, not corrected"
    shown = table.drop(columns=["low", "high", "gap low", "gap high"])
    return style_table(shown, caption, dict.fromkeys((LONGER, PAPER, GAP), "{:+.1f}"))


def _combine(arms: Sequence[tuple[int, Network]], seeds: SeedVariance) -> Estimate:
    """The signed sum of the networks' video@1, averaged over the splits."""
    strata = []
    for split in arms[0][1].splits:
        outcomes = [(sign, network.splits[split].outcomes) for sign, network in arms]
        strata.append(([(sign, one.values) for sign, one in outcomes], outcomes[0][1].groups))
    return estimate_contrast(strata, seeds)


def _complete_members(runs: Sequence[Run], recipes: Mapping[str, Mapping], families: Sequence[Family]) -> list[Run]:
    """The runs of the families' complete contrasts."""
    complete, members = {run.spec: run for run in runs if run.is_complete}, {}
    for family in families:
        recipe = recipes.get(SPLIT.sub("", family.data))
        members |= {run.spec: run for run in _members(family, recipe, complete)[2]}
    return [*members.values()]


@figure_of_runs
def contrasts_figure(
    runs: Sequence[Run], recipes: Mapping[str, Mapping] = CONFIRMATORY, families: Sequence[Family] = FAMILIES
) -> Figure | str:
    """The complete contrasts with their 95 % intervals, a panel a family; a tick is the paper's on Kinetics-400.

    The band is LEAST points wide in either direction. A hollow marker is exploratory.
    """
    table = confirmatory_table(runs, recipes, families).dropna(subset=GAP)
    table = table[~table["family"].str.contains(WITHOUT, regex=False)]
    if table.empty:
        return "no contrast has all of its runs"
    sizes = table.groupby("family", sort=False).size()
    figure, panels = plt.subplots(
        len(sizes), figsize=(5, 0.28 * len(table) + 0.55 * len(sizes) + 0.7), sharex=True, squeeze=False,
        layout="constrained", height_ratios=(sizes + 0.6).tolist(),
    )  # fmt: skip
    for axes, (name, rows) in zip(panels[:, 0], table.groupby("family", sort=False), strict=True):
        for place, row in enumerate(rows.to_dict("records")):
            look = VARIANT_STYLE[row["network"]] | ERROR_BAR
            if row["verdict"].startswith("exploratory"):
                look |= {"mfc": "none", "mec": look["color"]}
            axes.errorbar(row[GAP], place, xerr=[[row[GAP] - row["low"]], [row["high"] - row[GAP]]], **look)
            axes.plot(row[PAPER], place, **PAPER_TICK)
        axes.axvspan(-LEAST, LEAST, color=GRAY, alpha=0.15, lw=0)
        axes.axvline(0, color=GRAY, lw=1)
        labels, lengths = [*rows["network"]], rows["frames"].unique()
        if len(lengths) > 1:
            labels = [f"{network}, {n} frames" for network, n in zip(labels, rows["frames"], strict=True)]
        axes.set_yticks(range(len(rows)), labels)
        axes.set(ylim=(len(rows) - 0.4, -0.6))
        axes.set_title(f"{name}, {lengths[0]} frames" if len(lengths) == 1 else name, loc="left", size=10)
    figure.supxlabel("video@1 minus R(2+1)D's (points)", size=10)
    return figure
