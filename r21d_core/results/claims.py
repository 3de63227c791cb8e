"""The claim ledger: what the paper states, a row a claim, and what arithmetic or the records say to it."""

from __future__ import annotations

import html
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from scipy import stats

from r21d_core import R21DError
from r21d_core.nets.cost import Cost, cost
from r21d_core.nets.variants import VARIANTS
from r21d_core.records.run import Run
from r21d_core.records.scores import Scores
from r21d_core.results.measured import Measured, measured
from r21d_core.results.statistics import by_seed, interval, per_video
from r21d_core.results.streams import FLOW, FUSED, RGB, Network, difference, pretrained_pairs
from r21d_core.results.streams import networks as networks_of
from r21d_core.study.experiments import TABLE_2, recipe
from r21d_core.study.paper import paper, paper_table
from r21d_core.study.spec import Spec

HOLDS, FAILS, OPEN = "holds", "does not hold", "too little evidence"
ARITHMETIC, RUNS, NOT_YET = "arithmetic", "runs", "no runs yet"  # what a claim is answered from
MARKS = {HOLDS: "✓", FAILS: "✗", OPEN: "?"}
WEIGHTS = {HOLDS: "bold", FAILS: "bold", OPEN: "normal"}

TWO_D, R3D, R21D = ("f-R2D", "R2D"), ("R3D",), ("R(2+1)D",)
MC, RMC = ("MC2", "MC3", "MC4", "MC5"), ("rMC2", "rMC3", "rMC4", "rMC5")
THREE_D = R3D + MC + RMC
LENGTHS = (8, 16, 24, 32, 40, 48)
SPORTS = "sports1m"

Region = tuple[float, float]
ABOVE: Region = (0, np.inf)
ABOUT: Region = (-1, 1)  # "similar", "almost as good": within a point either way
NOT_BELOW: Region = (-1, np.inf)


@dataclass(frozen=True)
class Verdict:
    """What the evidence says: one of HOLDS, FAILS, OPEN; the effect in `unit` with its 95 % interval, and why."""

    answer: str
    effect: float = np.nan
    low: float = np.nan
    high: float = np.nan
    n: int = 0
    why: str = ""
    unit: str = "points"


@dataclass(frozen=True)
class Claim:
    """A statement of the paper in our words, the comparison that would show it, and who judges it from networks."""

    id: str
    section: str
    sentence: str
    comparison: str
    kind: str
    judge: Callable[[Sequence[Measured]], Verdict]


@dataclass(frozen=True)
class Group:
    """Networks that one side of a comparison averages: variants at these values of their Spec's fields.

    `how` is what was done: trained "afresh", "tested" on other clips than trained on, "finetuned" on them, or
    "counted", that is evaluated with another number of clips.
    """

    variants: tuple[str, ...]
    frames: int | None = None
    depth: int | None = None
    how: str = "afresh"

    @property
    def asked(self) -> dict[str, int]:
        told = {"frames": self.frames, "depth": self.depth}
        return {key: value for key, value in told.items() if value is not None}


Pair = tuple[tuple[Group, ...], tuple[Group, ...]]  # the sum of the first groups' means less that of the second's


# --- which runs may be compared -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Selection:
    """The networks of one setting, alike in every field but those in question, and what that setting still lacks."""

    setting: Spec
    found: dict[tuple[Group, str], Measured]
    missing: list[tuple[Group, str]]
    others: int  # settings besides this one that hold some of these networks

    def of(self, group: Group) -> list[Measured]:
        return [self.found[group, variant] for variant in group.variants if (group, variant) in self.found]


def select(networks: Sequence[Measured], groups: Sequence[Group], task: str = "action", data: str = "") -> Selection:
    """The setting that answers best: a complete one first, then the profile nearest the paper's, then the fullest.

    Networks are alike if their Specs, or those of the runs they start from, differ in nothing but seed, variant and
    the fields that the groups ask for; all are on RGB and, where `data` is given, on the set whose name begins so.
    """
    free = {"variant"} | {key for group in groups for key in group.asked}
    defaults = {key: getattr(Spec(), key) for key in free}
    settings: dict[Spec, list[Measured]] = {}
    for one in networks:
        base = one.spec.start_spec or one.spec
        asked = base.task == task and base.modality == "rgb" and base.data.startswith(data)
        if asked and ("depth" in free or base.depth <= 18):  # 34 layers are asked for by name
            settings.setdefault(base.but(seed=0, **defaults), []).append(one)
    wanted = list(dict.fromkeys((group, variant) for group in groups for variant in group.variants))
    selections = []
    for setting, members in settings.items():
        found = {key: one for key in wanted if (one := _member(members, *key)) is not None}
        missing = [key for key in wanted if key not in found]
        if found and (setting.profile != "demo" or all(_of_demo(group) for group, _ in missing)):
            selections.append(Selection(setting, found, missing, 0))
    if not selections:
        usual = recipe("paper", task).but(data=data, clips=100) if data else recipe("small", task).but(data="NAME")
        return Selection(usual.but(**defaults), {}, wanted, 0)
    best = max(selections, key=_rank)
    return replace(best, others=len(selections) - 1)


def _of_demo(group: Group) -> bool:
    """Whether a demonstration can hold such a run: its videos have 20 frames, its `clip_length` no 32."""
    return group.how == "afresh" and (group.frames or 8) <= 16


def _rank(selection: Selection) -> tuple:
    nearness = ("demo", "small", "paper").index(selection.setting.profile)
    runs = sum(len(one.runs) for one in selection.found.values())
    return not selection.missing, nearness, -len(selection.missing), runs


def _member(members: Sequence[Measured], group: Group, variant: str) -> Measured | None:
    for one in members:
        same = all(getattr(one.spec, key) == value for key, value in group.asked.items())
        if same and one.spec.variant == variant and _how(one.spec) == group.how:
            return one
    return None


def _how(spec: Spec) -> str:
    changed = set(json.loads(spec.start)) if spec.start else set()
    if not changed:
        return "afresh"
    if spec.epochs:
        return "finetuned" if "frames" in changed else "other"
    return {("epochs", "frames"): "tested", ("clips", "epochs"): "counted"}.get(tuple(sorted(changed)), "other")


def _commands(selection: Selection) -> str:
    """What makes the missing runs: a command for each experiment, clip length and depth."""
    hows, on_sports = {group.how for group, _ in selection.missing}, selection.setting.data.startswith(SPORTS)
    experiment, given = "variant_comparison", {"variant", "seed", "data", "profile", "task", "start"}
    if on_sports:  # that one's recipe has the depth and the clips
        experiment, given = "sports1m", given | {"depth", "clips"}
    elif hows & {"tested", "finetuned"}:  # that one makes the runs they start from as well, of consecutive frames
        experiment, given = "clip_length", given | {"frames", "step"}
    elif "counted" in hows:
        experiment, given = "clip_count", given | {"clips"}
    lines: dict[tuple[str, str], list[str]] = {}
    for group, variant in selection.missing:
        spec = selection.setting.but(**group.asked)
        usual = recipe(spec.profile, spec.task)
        changed = [f.name for f in fields(Spec) if f.name not in given]
        changed = [f" --set {key}={getattr(spec, key)}" for key in changed if getattr(spec, key) != getattr(usual, key)]
        manifest = "" if spec.data == "builtin" else f" --manifest {shlex.quote(f'data/{spec.data}.csv')}"
        task = "" if spec.task == "action" else f" --task {spec.task}"
        head = f"r21d train {experiment} --profile {spec.profile}{manifest}{task}"
        variants = lines.setdefault((head, "".join(changed)), [])
        if variant not in variants:
            variants.append(variant)
    return "; ".join(
        f'{head} --variants "{",".join(variants)}" --seeds 0,1,2{changed}'
        for (head, changed), variants in lines.items()
    )


def _protocol(selection: Selection) -> str:
    networks = list(selection.found.values())
    one = networks[0].spec

    def each(key: str) -> str:
        return ", ".join(str(value) for value in sorted({getattr(network.spec, key) for network in networks}))

    seeds = sorted({len(network.runs) for network in networks})
    demo = "demonstration with tiny networks, compares with nothing in the paper; " if one.profile == "demo" else ""
    luck = " (one seed: nothing is known of its luck)" if seeds[0] == 1 else ""
    others = f"; other settings in the records: {selection.others}" if selection.others else ""
    return (
        f"{demo}profile {one.profile}, {one.data}, {one.task}; {each('frames')} frames at step {each('step')}, "
        f"{each('depth')} layers from width {one.width}; seeds {', '.join(map(str, seeds))}{luck}{others}"
    )


def _missing(selection: Selection) -> str:
    names: dict[str, list[str]] = {}
    for group, variant in selection.missing:
        names.setdefault(_told(group), []).append(variant)
    told = ", ".join(", ".join(dict.fromkeys(variants)) + asked for asked, variants in names.items())
    return f"missing: {told}; to make them: {_commands(selection)}"


def _told(group: Group) -> str:
    told = [f"{value} {'frames' if key == 'frames' else 'layers'}" for key, value in group.asked.items()]
    told += [group.how] if group.how != "afresh" else []
    return f" ({', '.join(told)})" if told else ""


# --- judging by runs ------------------------------------------------------------------------------------------------


def decide(low: float, high: float, region: Region) -> str:
    """HOLDS if the interval lies within the region claimed, FAILS if wholly outside, else OPEN; NaN is OPEN."""
    if region[0] < low and high < region[1]:
        return HOLDS
    return FAILS if high < region[0] or low > region[1] else OPEN


def _clip_outcomes(seeds: Sequence[Scores]) -> np.ndarray:
    """The share of each video's clips that each seed got right, (seeds, videos)."""
    by_seed(seeds)  # raises where the seeds were evaluated on different items
    right = [(scores.logits.argmax(axis=2) == scores.labels[:, None]).mean(axis=1) for scores in seeds]
    return np.array([per_video(one, scores.videos) for one, scores in zip(right, seeds, strict=True)])


def _train_error(run: Run) -> float:
    return 100 * run.history[-1]["train_error"] if run.history else np.nan


def _train_time(run: Run) -> float:
    """100 times the logarithm of the seconds a clip: a difference of 10 is about ten per cent."""
    return -100 * np.log(run.summary["train_clips_per_second"] or np.nan)


BY_VIDEO = {"clip@1": _clip_outcomes, "video@1": by_seed}
BY_RUN = {"training error": _train_error, "training time": _train_time}


def judge(
    networks: Sequence[Measured],
    *,
    pairs: Sequence[Pair],
    metric: str,
    region: Region = ABOVE,
    task: str = "action",
    data: str = "",
) -> Verdict:
    """Whether every pair's difference in `metric` lies within `region`; the effect told is the least clear pair's.

    All pairs have to hold at 95 % each, which needs no correction. That one of several fails is easier had by chance:
    for that, its interval is stretched as Bonferroni's correction for their number would a normal one.
    """
    groups = list(dict.fromkeys(group for plus, minus in pairs for group in plus + minus))
    selection = select(networks, groups, task, data)
    if not selection.found:
        return Verdict(OPEN, why=_missing(selection))
    why = _protocol(selection)
    if unlike := _unlike(list(selection.found.values()), metric):
        return Verdict(OPEN, why=f"{why}; {unlike}")
    effects = []
    for pair in pairs:
        plus, minus = ([selection.of(group) for group in side] for side in pair)
        if all(plus) and all(minus):
            effect, low, high, n = (
                _by_video(plus, minus, metric) if metric in BY_VIDEO else _by_run(plus, minus, metric)
            )
            answer = _answer(effect, low, high, region, len(pairs))
            verdict = Verdict(answer, effect, low, high, n)
            if metric == "training time":  # back from logarithms
                longer = (float(100 * np.expm1(value / 100)) for value in (effect, low, high))
                verdict = Verdict(answer, *longer, n, unit="% longer")
            effects.append((answer, verdict, pair))
    if not effects:
        return Verdict(OPEN, why=f"{why}; {_missing(selection)}")
    answer, verdict, pair = min(effects, key=lambda one: ((FAILS, OPEN, HOLDS).index(one[0]), one[1].low))
    if len(pairs) > 1:
        why += f"; {sum(one[0] == HOLDS for one in effects)} of {len(pairs)} comparisons hold, told is {_named(pair)}"
    if np.isnan(verdict.low):
        why += "; no interval: it takes two videos" if metric in BY_VIDEO else "; no interval: it takes two seeds each"
    elif (papers := _papers(pair, metric)) is not None:
        inside = "inside" if verdict.low <= papers <= verdict.high else "outside"
        why += f"; the paper's tables give {papers:+.1f} for it, {inside} the interval"
    if selection.missing:
        return replace(verdict, answer=OPEN, why=f"{why}; {_missing(selection)}")
    return replace(verdict, why=why)


def _answer(effect: float, low: float, high: float, region: Region, comparisons: int) -> str:
    """`decide` for one of so many comparisons that all have to hold; for one that fails the interval is stretched."""
    stretch = stats.norm.ppf(1 - 0.025 / comparisons) / stats.norm.ppf(0.975)
    wide = effect - stretch * (effect - low), effect + stretch * (high - effect)
    if decide(low, high, region) == HOLDS:
        return HOLDS
    return FAILS if decide(*wide, region) == FAILS else OPEN


def _by_video(plus: list[list[Measured]], minus: list[list[Measured]], metric: str) -> tuple[float, float, float, int]:
    values, less = (_side(groups, BY_VIDEO[metric]) for groups in (plus, minus))
    low, high = interval(values, less)
    return 100 * float(values.mean() - less.mean()), 100 * low, 100 * high, values.shape[1]


def _side(groups: list[list[Measured]], outcomes: Callable) -> np.ndarray:
    """The sum of the groups' means, (seeds, videos), of as many seeds as all of their networks have."""
    values = [[outcomes(one.scores) for one in group] for group in groups]
    seeds = min(len(one) for group in values for one in group)
    return sum(np.mean([one[:seeds] for one in group], axis=0) for group in values)


def _by_run(plus: list[list[Measured]], minus: list[list[Measured]], metric: str) -> tuple[float, float, float, int]:
    """A number a run has but its videos do not: an interval over seeds alone, Welch's, of a sum of means."""
    samples = [
        (sign / len(group), np.array([BY_RUN[metric](run) for run in one.runs]))
        for sign, groups in ((1, plus), (-1, minus))
        for group in groups
        for one in group
    ]
    n = sum(len(values) for _, values in samples)
    effect = float(sum(weight * values.mean() for weight, values in samples))
    if min(len(values) for _, values in samples) < 2 or np.isnan(effect):
        return effect, np.nan, np.nan, n
    parts = np.array([weight**2 * values.var(ddof=1) / len(values) for weight, values in samples])
    degrees = np.array([len(values) - 1 for _, values in samples])
    if not parts.sum():
        return effect, effect, effect, n
    freedom = parts.sum() ** 2 / (parts**2 / degrees).sum()
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum()))
    return effect, effect - half, effect + half, n


def _unlike(networks: Sequence[Measured], metric: str = "clip@1") -> str:
    """Why these networks may not be compared in spite of alike Specs; "" if they may."""
    if metric == "training time":
        devices = sorted({run.summary["device"] for one in networks for run in one.runs})
        return f"timed on different devices: {', '.join(devices)}" if len(devices) > 1 else ""
    all_scores = [scores for one in networks for scores in one.scores]
    first = all_scores[0]
    for scores in all_scores:
        same = np.array_equal(scores.videos, first.videos) and np.array_equal(scores.labels, first.labels)
        if not same or scores.classes != first.classes:
            return "evaluated on different videos; evaluate them on one manifest and split"
    return ""


def _named(pair: Pair) -> str:
    return " less ".join(
        " and ".join(", ".join(group.variants) + _told(group) for group in side) for side in pair
    )  # fmt: skip


def _papers(pair: Pair, metric: str) -> float | None:
    """The pair's difference by Tables 2 and 3; None where they do not print it."""
    rows = {"tested": "8 tested at 32", "finetuned": "8 finetuned at 32"}
    sides = []
    try:
        for side in pair:
            means = []
            for group in side:
                if group.depth == 34:
                    return None
                if group.how == "afresh" and group.frames in (8, 16):
                    means.append(
                        np.mean([paper(2, variant, f"{metric} {group.frames}f") for variant in group.variants])
                    )
                else:
                    means.append(paper(3, rows.get(group.how, str(group.frames)), metric))
            sides.append(sum(means))
    except R21DError:
        return None
    return float(sides[0] - sides[1])


def judge_ranking(networks: Sequence[Measured]) -> Verdict:
    """Spearman's correlation of the twelve clip@1 with 8 and with 16 frames, by a bootstrap over videos."""
    short, long = Group(TABLE_2, 8), Group(TABLE_2, 16)
    selection = select(networks, [short, long])
    if selection.missing:
        why = f"{_protocol(selection)}; " if selection.found else ""
        return Verdict(OPEN, why=why + _missing(selection), unit="correlation")
    if unlike := _unlike(list(selection.found.values())):
        return Verdict(OPEN, why=f"{_protocol(selection)}; {unlike}", unit="correlation")
    values = [np.array([_clip_outcomes(one.scores).mean(axis=0) for one in selection.of(g)]) for g in (short, long)]
    videos = values[0].shape[1]
    drawn = np.random.default_rng(0).multinomial(videos, np.full(videos, 1 / videos), size=999)
    correlations = [_spearman(*(one @ weights for one in values)) for weights in drawn]
    low, high = np.nanquantile(correlations, [0.025, 0.975])
    effect = _spearman(*(one.mean(axis=1) for one in values))
    answer = decide(low, high, (0.8, np.inf))
    return Verdict(answer, effect, float(low), float(high), videos, _protocol(selection), "correlation")


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return np.nan
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def judge_clip_counts(networks: Sequence[Measured], few: int = 20, many: int = 100) -> Verdict:
    """What `few` of at least `many` stored clips lose in video@1, the few spread evenly."""
    enough = [one for one in networks if one.scores[0].logits.shape[1] >= many]
    selection = next(
        (found for how in ("counted", "afresh") if (found := select(enough, [Group(R21D, how=how)])).found), None
    )
    if selection is None:
        return Verdict(OPEN, why=_missing(select([], [Group(R21D, how="counted")])))
    one = next(iter(selection.found.values()))
    clips = one.scores[0].logits.shape[1]
    spread = np.linspace(0, clips - 1, few).round().astype(int)
    fewer = by_seed([replace(scores, logits=scores.logits[:, spread]) for scores in one.scores])
    # One row a seed holds what it loses, so that a seed drawn is drawn for both counts.
    loss = by_seed(one.scores) - fewer
    low, high = interval(loss)
    why = f"{_protocol(selection)}; {few} clips spread over {clips} stored"
    answer = decide(100 * low, 100 * high, (-np.inf, 0.5))
    return Verdict(answer, 100 * float(loss.mean()), 100 * low, 100 * high, loss.shape[1], why)


# --- two streams and pretraining ------------------------------------------------------------------------------------

Rows = tuple[Network, Network]


def judge_rows(
    networks: Sequence[Measured], *, candidates: Callable[[list[Network]], list[list[Rows]]], command: str
) -> Verdict:
    """Whether every pair of rows of Tables 4 to 6 differs in video@1 by more than zero, as `judge` does of runs.

    Of the settings in the records, that of the profile nearest the paper's answers, then that of the most videos.
    """
    found = candidates(networks_of([run for one in networks for run in one.runs], sources=True)[0])
    if not found:
        return Verdict(OPEN, why=f"missing; to make them: {command}")
    best = max(found, key=_rank_rows)
    members = [one for pair in best for row in pair for one in row.splits.values()]
    why = _protocol(Selection(members[0].spec, dict(enumerate(members)), [], len(found) - 1))
    verdicts = []
    for one, other in best:
        result = difference(one, other)
        effect, low, high = (100 * result[key] for key in ("difference", "low", "high"))
        told = f"{_row(one)} less {_row(other)}"
        verdicts.append(
            (_answer(effect, low, high, ABOVE, len(best)), Verdict("", effect, low, high, result["videos"]), told)
        )
    answer, verdict, told = min(verdicts, key=lambda one: ((FAILS, OPEN, HOLDS).index(one[0]), one[1].low))
    return replace(verdict, answer=answer, why=f"{why}; told is {told}")


def _rank_rows(pairs: list[Rows]) -> tuple:
    one, _ = pairs[0]
    videos = sum(len(split.scores[0].videos) for split in one.splits.values())
    return ("demo", "small", "paper").index(one.key.profile), one.key.variant in R21D, videos


def _row(one: Network) -> str:
    split = f", split {one.split}" if len(one.splits) == 1 and one.split else f", {one.split}" if one.split else ""
    return f"{one.key.variant} {one.stream} {one.how}{split}"


def _both_over_each(rows: list[Network]) -> list[list[Rows]]:
    named = {(one.key, one.stream): one for one in rows}
    return [[(one, named[one.key, RGB]), (one, named[one.key, FLOW])] for one in rows if one.stream == FUSED]


def _rgb_over_flow(rows: list[Network]) -> list[list[Rows]]:
    pairs = [(rgb, flow) for (_, rgb), (_, flow) in _both_over_each(rows)]
    return [[(rgb, flow)] for rgb, flow in pairs if rgb.key.variant in R21D and not rgb.source]


def _pretrained_over_scratch(rows: list[Network]) -> list[list[Rows]]:
    return [[pair] for pair in pretrained_pairs(rows) if pair[0].stream == RGB and pair[0].key.variant in R21D]


def _kinetics_over_sports(rows: list[Network]) -> list[list[Rows]]:
    """Networks finetuned alike, whose starts differ in their data alone."""
    by_source: dict[Spec, dict[str, Network]] = {}
    for one in (one for one in rows if one.stream == RGB and one.key.start_spec):
        changed = json.loads(one.key.start)
        name = changed.pop("data", "")
        by_source.setdefault(one.key.but(start=json.dumps({"data": ""} | changed)), {})[name] = one
    return [
        [(sources[kinetics], sources[SPORTS])]
        for sources in by_source.values()
        for kinetics in sources
        if kinetics.startswith("kinetics") and SPORTS in sources
    ]


# --- answered by arithmetic and by the paper's own tables -----------------------------------------------------------


def _told_by(answer: bool, why: str, effect: float = np.nan, unit: str = "") -> Verdict:
    return Verdict(HOLDS if answer else FAILS, float(effect), why=why, unit=unit)


def _of(variant: str, frames: int = 8, depth: int = 18) -> Cost:
    return cost(variant, depth, frames=frames)


def _layers(variant: str, depth: int) -> int:
    """Convolutions on the longest way through, shortcuts left out."""
    return sum("shortcut" not in conv.name for conv in _of(variant, depth=depth).convs)


def _table_2(better: Sequence[str], worse: Sequence[str], column: str) -> tuple[float, float]:
    """The least and the greatest difference of a variant of `better` less one of `worse`, to the printed digit."""
    gaps = [paper(2, one, column) - paper(2, other, column) for one in better for other in worse]
    return round(min(gaps), 1), round(max(gaps), 1)


def _ranges(*stated: tuple[Sequence[str], Sequence[str], str, tuple[float, float]]) -> Verdict:
    """Whether Table 2 gives the ranges that the text states."""
    given = [_table_2(better, worse, column) for better, worse, column, _ in stated]
    said = [range_ for *_, range_ in stated]
    told, printed = (
        ", ".join(f"{low}–{high}" if low < high else f"{low}" for low, high in each) for each in (said, given)
    )
    return _told_by(given == said, f"the text says {told}; Table 2 gives {printed}", given[0][0], "points, least")


def _single_channel() -> Verdict:
    shape = _of("R2D").convs[0]
    why = f"conv1 of R2D has {shape.outputs} filters and so as many channels; only its time is collapsed"
    return _told_by(shape.outputs == 1, why, shape.outputs, "channels")


def _parameters_matched() -> Verdict:
    here, there = _of("R(2+1)D").parameters, _of("R3D").parameters
    return _told_by(abs(here / there - 1) < 0.01, f"{here:,} against {there:,}", 100 * (here / there - 1), "%")


def _nonlinearities_doubled() -> Verdict:
    here, there = _layers("R(2+1)D", 18), _layers("R3D", 18)
    return _told_by(here == 2 * there, f"{here} ReLUs against {there}, 18 layers", here / there, "times")


def _sixty_seven() -> Verdict:
    layers = _layers("R(2+1)D", 34) + 1
    return _told_by(layers == 67, f"{layers} convolutions and fc one after the other", layers, "layers")


def _final_shapes() -> Verdict:
    shapes = {variant: [_of(variant, frames).final_shape[1:] for frames in (8, 16)] for variant in VARIANTS}
    right = shapes["f-R2D"] == [(8, 7, 7), (16, 7, 7)] and shapes["R3D"] == shapes["R(2+1)D"] == [(1, 7, 7), (2, 7, 7)]
    return _told_by(right, "with 8 and 16 frames: " + ", ".join(f"{v} {s[0][0]}, {s[1][0]}" for v, s in shapes.items()))


def _parameter_column() -> Verdict:
    ours = {variant: _of(variant).conv_fc_weights / 1e6 for variant in TABLE_2}
    wrong = [v for v in TABLE_2 if round(ours[v], 1) != paper(2, v, "parameters (M)")]
    told = ", ".join(f"{v}: {ours[v]:.3f} M, printed {paper(2, v, 'parameters (M)')}" for v in wrong)
    why = f"{12 - len(wrong)} of 12 agree, batch norm left out as the paper does; {told}"
    return _told_by(not wrong, why, len(wrong), "wrong")


def _three_times() -> Verdict:
    ratios = {variant: _of("R3D").parameters / _of(variant).parameters for variant in MC}
    told = ", ".join(f"{variant} {ratio:.2f}" for variant, ratio in ratios.items())
    right = all(round(ratio) == 3 for ratio in ratios.values())
    return _told_by(right, f"R3D's parameters over each: {told}", ratios["MC5"], "times")


def _seven_times() -> Verdict:
    ratios = [_of("f-R2D", frames).macs / _of("R2D", frames).macs for frames in (8, 16)]
    why = f"{ratios[0]:.2f} times the multiply-adds with 8 frames, but {ratios[1]:.1f} with 16"
    return _told_by(round(ratios[0]) == 7, why, ratios[0], "times")


def _cheaper(one: str, others: Sequence[str]) -> Verdict:
    """Whether a variant takes fewer multiply-adds than others, with 8 and with 16 frames."""
    lengths = {frames: {v: _of(v, frames).macs / 1e9 for v in (one, *others)} for frames in (8, 16)}
    right = all(macs[one] < min(macs[other] for other in others) for macs in lengths.values())
    nearest = min(others, key=lambda other: lengths[8][other])
    why = "; ".join(f"{m[one]:.3f} GMAC against {m[nearest]:.3f} of {nearest}, {n} frames" for n, m in lengths.items())
    return _told_by(right, why, lengths[8][nearest] / lengths[8][one], "times")


def _rmc2_reason() -> Verdict:
    name = next(variant for variant in RMC if VARIANTS[variant][1] == "2" and VARIANTS[variant][2] == "2")
    why = f"rMC2 is {VARIANTS['rMC2']}: 3-D in groups 2 and 3; the reason describes {name}, {VARIANTS[name]}"
    return _told_by(VARIANTS["rMC2"][1] == "2", why)


def _same_cost() -> Verdict:
    here, there = _of("R(2+1)D").macs, _of("R3D").macs
    why = f"{here / 1e9:.3f} against {there / 1e9:.3f} GMAC with 8 frames; see too what a clock says"
    return _told_by(abs(here / there - 1) < 0.05, why, here / there, "times")


def _same_parameters() -> Verdict:
    counts = {_of("R(2+1)D", frames).parameters for frames in LENGTHS}
    return _told_by(len(counts) == 1, f"{max(counts):,} with every clip length from 8 to 48", len(counts), "counts")


def _seven_point_three() -> Verdict:
    ratio = _of("R(2+1)D", 32).macs / _of("R(2+1)D", 8).macs
    hours = paper(3, "32", "hours") / paper(3, "8", "hours")
    return _told_by(
        round(ratio, 1) == 7.3, f"{ratio:.2f} times in FLOPs; Table 3's hours give {hours:.2f}", ratio, "times"
    )


def _order_of_rows() -> Verdict:
    short, long = ([paper(2, variant, f"clip@1 {frames}f") for variant in TABLE_2] for frames in (8, 16))
    swapped = [
        f"{TABLE_2[i]} and {TABLE_2[j]}"
        for i in range(12)
        for j in range(i)
        if (short[i] - short[j]) * (long[i] - long[j]) < 0
    ]
    effect = _spearman(np.array(short), np.array(long))
    why = f"clip@1, Spearman; of 66 pairs {len(swapped)} change places: {', '.join(swapped)}"
    return _told_by(effect > 0.8, why, effect, "correlation")


def _mc_gain() -> Verdict:
    gaps = {(two, f): _table_2(MC, [two], f"clip@1 {f}f") for two in TWO_D for f in (8, 16)}
    told = ", ".join(f"{low}–{high} over {two} with {f} frames" for (two, f), (low, high) in gaps.items())
    right = all(round(low) >= 3 and round(high) <= 4 for low, high in gaps.values())
    return _told_by(right, f"Table 2's clip@1: {told}", min(low for low, _ in gaps.values()), "points, least")


def _differences(table: int, *stated: tuple[str, str, str, float]) -> Verdict:
    """Whether a table gives the differences that the text states: row, row it is compared with, column, points."""
    given = [round(paper(table, row, column) - paper(table, other, column), 1) for row, other, column, _ in stated]
    rows = zip(stated, given, strict=True)
    told = "; ".join(
        f"{row} less {other}, {column}: {gap:+.1f}, said {said:+.1f}" for (row, other, column, said), gap in rows
    )
    return _told_by(given == [said for *_, said in stated], f"Table {table}: {told}", given[0], "points")


def _hours_saved() -> Verdict:
    long, short = paper(3, "32", "hours"), paper(3, "8 finetuned at 32", "hours")
    return _told_by(long > 2 * short, f"Table 3: {short} hours against {long}", long / short, "times")


def _best_of_table_4() -> Verdict:
    rows = {row: values["video@1"] for row, values in paper_table(4).items() if "video@1" in values}
    ours = max(value for row, value in rows.items() if row.startswith("R(2+1)D"))
    others = max(value for row, value in rows.items() if not row.startswith("R(2+1)D"))
    return _told_by(ours > others, f"video@1 {ours} against {others} at the most", ours - others, "points")


def _best_but_i3d() -> Verdict:
    gaps = {}
    for column in ("UCF101", "HMDB51"):
        rows = {row: values[column] for row, values in paper_table(6).items() if column in values}
        others = [value for row, value in rows.items() if not row.startswith(("R(2+1)D", "I3D"))]
        gaps[column] = rows["R(2+1)D-TwoStream (Kinetics)"] - max(others)
    told = ", ".join(f"{gap:+.1f} on {column}" for column, gap in gaps.items())
    return _told_by(
        min(gaps.values()) > 0, f"both streams, pretrained on Kinetics: {told}", min(gaps.values()), "points"
    )


def _beside_i3d() -> Verdict:
    gaps = {
        (stream, column): round(paper(6, f"R(2+1)D-{stream} (Kinetics)", column)
                                - paper(6, f"I3D-{stream} (ImageNet+Kinetics)", column), 1)
        for stream in ("RGB", "Flow") for column in ("UCF101", "HMDB51")
    }  # fmt: skip
    right = all(abs(gap) < 1.5 if stream == "RGB" else -1.5 < gap < 0 for (stream, _), gap in gaps.items())
    told = ", ".join(f"{stream} {column} {gap:+.1f}" for (stream, column), gap in gaps.items())
    return _told_by(right, f"R(2+1)D less I3D: {told}", min(gaps.values()), "points, least")


def _kinetics_pretrains_better() -> Verdict:
    streams = ("RGB", "Flow", "TwoStream")
    gaps = [
        paper(6, f"R(2+1)D-{stream} (Kinetics)", column) - paper(6, f"R(2+1)D-{stream} (Sports1M)", column)
        for stream in streams
        for column in ("UCF101", "HMDB51")
    ]
    why = f"Table 6: {min(gaps):+.1f} to {max(gaps):+.1f} in six comparisons"
    return _told_by(min(gaps) > 0, why, min(gaps), "points, least")


# --- the rows -------------------------------------------------------------------------------------------------------


def _by_arithmetic(id: str, section: str, sentence: str, comparison: str, answer: Callable, *stated) -> Claim:
    return Claim(id, section, sentence, comparison, ARITHMETIC, lambda networks: answer(*stated))


def _by_runs(id: str, section: str, sentence: str, comparison: str, plus, minus, metric="clip@1", **how) -> Claim:
    """A claim about one difference: of the groups `plus` less the groups `minus`."""
    return _by_pairs(id, section, sentence, comparison, [(tuple(plus), tuple(minus))], metric, **how)


def _by_pairs(id: str, section: str, sentence: str, comparison: str, pairs, metric="clip@1", **how) -> Claim:
    return Claim(id, section, sentence, comparison, RUNS, partial(judge, pairs=pairs, metric=metric, **how))


def _by_rows(id: str, section: str, sentence: str, comparison: str, candidates: Callable, command: str) -> Claim:
    return Claim(id, section, sentence, comparison, RUNS, partial(judge_rows, candidates=candidates, command=command))


def _not_yet(id: str, section: str, sentence: str, comparison: str, why: str) -> Claim:
    return Claim(id, section, sentence, comparison, NOT_YET, lambda networks: Verdict(OPEN, why=why))


def _best(frames: int) -> list[Pair]:
    return [((Group(R21D, frames),), (Group((other,), frames),)) for other in TABLE_2 if other not in R21D]


NO_TVL1 = "the suite cannot make these runs: its flow is Farneback's, not TV-L1"
TWO_STREAMS = 'r21d train sports1m --profile small --manifest data/NAME.csv --variants "R(2+1)D" --seeds 0,1,2'
PRETRAINED = (
    'r21d train kinetics --profile small --manifest data/NAME.csv --variants "R(2+1)D" --seeds 0,1,2 '
    "--set source=ANOTHER"
)
FROM_BOTH = "; ".join(
    'r21d train transfer --profile paper --manifest data/ucf101-split1.csv --variants "R(2+1)D" --seeds 0,1,2 '
    f"--set source={source}"
    for source in ("kinetics-400", SPORTS)
)

CLAIMS: tuple[Claim, ...] = (
    _by_arithmetic(
        "mc-gain-3-4", "1",
        "Mixed networks gain 3–4 points of clip accuracy over 2-D ones of comparable capacity.",
        "Table 2's clip@1, MC2 to MC5 less each 2-D network: rounds to 3 or 4 everywhere", _mc_gain,
    ),
    _by_arithmetic(
        "r3d-three-times", "1", "3-D networks have three times the parameters of mixed ones.",
        "parameters of R3D over MC2 to MC5: each rounds to 3", _three_times,
    ),
    _by_runs(
        "mc-like-r3d", "1", "Mixed networks match the accuracy of 3-D ones.",
        "clip@1, 8 frames: mean of MC2 to MC5 less R3D, not a point below", [Group(MC, 8)], [Group(R3D, 8)],
        region=NOT_BELOW,
    ),
    _by_arithmetic(
        "single-channel", "3.1", "R2D's first convolution leaves single-channel feature maps.",
        "the filters of conv1", _single_channel,
    ),
    _by_runs(
        "early", "3.4", "Modelling motion early is worth more than modelling it late.",
        "clip@1, 8 frames: mean of MC2 to MC5 less mean of rMC2 to rMC5", [Group(MC, 8)], [Group(RMC, 8)],
    ),
    _by_arithmetic(
        "parameters-matched", "3.5", "(2+1)D blocks have about the parameters of the 3-D ones they replace.",
        "parameters of R(2+1)D and R3D, 18 layers: within 1 %", _parameters_matched,
    ),
    _by_arithmetic(
        "relu-doubled", "3.5", "The decomposition doubles the number of nonlinearities.",
        "ReLUs, one a convolution off the shortcuts, of R(2+1)D and R3D", _nonlinearities_doubled,
    ),
    _by_runs(
        "train-error-18", "3.5", "R(2+1)D trains to a lower error than R3D.",
        "training error of the last epoch, 18 layers: R3D less R(2+1)D",
        [Group(R3D, depth=18)], [Group(R21D, depth=18)], "training error",
    ),
    _by_runs(
        "train-error-34", "3.5", "R(2+1)D trains to a lower error than R3D with 34 layers too.",
        "training error of the last epoch, 34 layers: R3D less R(2+1)D",
        [Group(R3D, depth=34)], [Group(R21D, depth=34)], "training error",
    ),
    _by_runs(
        "train-error-depth", "3.5", "The gap in training error is larger with 34 layers than with 18.",
        "training error of the last epoch: R3D less R(2+1)D, 34 layers less 18",
        [Group(R3D, depth=34), Group(R21D, depth=18)], [Group(R21D, depth=34), Group(R3D, depth=18)], "training error",
    ),
    _by_runs(
        "test-error-34", "3.5", "R(2+1)D has the lower testing error with 34 layers too.",
        "video@1, 34 layers: R(2+1)D less R3D", [Group(R21D, depth=34)], [Group(R3D, depth=34)], "video@1",
    ),
    _by_arithmetic(
        "final-shapes", "4.1", "conv5_x leaves L×7×7 in f-R2D and L/8×7×7 in R3D and R(2+1)D.",
        "the time dimension of conv5_x by arithmetic", _final_shapes,
    ),
    _by_arithmetic(
        "table-2-parameters", "4.1", "The twelve parameter counts are those of Table 2.",
        "weights of convolutions and fc, in millions to one digit", _parameter_column,
    ),
    _by_runs(
        "3d-over-2d-8", "4.2", "3-D and mixed networks are above 2-D ones with 8 frames, by 1.3–4 points.",
        "clip@1: mean of R3D, MC and rMC less mean of f-R2D and R2D", [Group(THREE_D, 8)], [Group(TWO_D, 8)],
    ),
    _by_runs(
        "3d-over-2d-16", "4.2", "3-D and mixed networks are above 2-D ones with 16 frames, by 1.8–6.7 points.",
        "clip@1: mean of R3D, MC and rMC less mean of f-R2D and R2D", [Group(THREE_D, 16)], [Group(TWO_D, 16)],
    ),
    _by_runs(
        "3d-gap-grows", "4.2", "The gap between 3-D and 2-D networks grows from 8 to 16 frames.",
        "clip@1: that difference with 16 frames less that with 8",
        [Group(THREE_D, 16), Group(TWO_D, 8)], [Group(TWO_D, 16), Group(THREE_D, 8)],
    ),
    _by_runs(
        "motion-only", "4.2", "Networks that convolve over time see motion that f-R2D, which sees frames, does not.",
        "video@1 of the playback rate, which only motion tells: mean of R3D and R(2+1)D less f-R2D",
        [Group(R3D + R21D)], [Group(("f-R2D",))], "video@1", task="speed",
    ),
    _by_pairs(
        "r21d-best-8", "4.2", "R(2+1)D is the best of all with 8 frames.",
        "clip@1: R(2+1)D less each of the other eleven, every one above zero", _best(8),
    ),
    _by_pairs(
        "r21d-best-16", "4.2", "R(2+1)D is the best of all with 16 frames.",
        "clip@1: R(2+1)D less each of the other eleven, every one above zero", _best(16),
    ),
    _by_runs(
        "r21d-over-mixed-8", "4.2", "R(2+1)D is above R3D and mixed networks with 8 frames, by 2.1–3.4 points.",
        "clip@1: R(2+1)D less mean of R3D, MC and rMC", [Group(R21D, 8)], [Group(THREE_D, 8)],
    ),
    _by_runs(
        "r21d-over-mixed-16", "4.2", "R(2+1)D is above R3D and mixed networks with 16 frames, by 3.1–4.7 points.",
        "clip@1: R(2+1)D less mean of R3D, MC and rMC", [Group(R21D, 16)], [Group(THREE_D, 16)],
    ),
    _by_runs(
        "r21d-over-2d-8", "4.2", "R(2+1)D is above 2-D networks with 8 frames, by 4.7–6.1 points.",
        "clip@1: R(2+1)D less mean of f-R2D and R2D", [Group(R21D, 8)], [Group(TWO_D, 8)],
    ),
    _by_runs(
        "r21d-over-2d-16", "4.2", "R(2+1)D is above 2-D networks with 16 frames, by 6.3–9.8 points.",
        "clip@1: R(2+1)D less mean of f-R2D and R2D", [Group(R21D, 16)], [Group(TWO_D, 16)],
    ),
    _by_runs(
        "r21d-over-r3d-8", "4.2", "R(2+1)D is above R3D with 8 frames, by 3 points.",
        "video@1: R(2+1)D less R3D", [Group(R21D, 8)], [Group(R3D, 8)], "video@1",
    ),
    _by_runs(
        "r21d-over-r3d-16", "4.2", "R(2+1)D is above R3D with 16 frames, by 3.8 points.",
        "video@1: R(2+1)D less R3D", [Group(R21D, 16)], [Group(R3D, 16)], "video@1",
    ),
    _by_runs(
        "r21d-gap-grows", "4.2", "The gap between R(2+1)D and R3D grows from 8 to 16 frames.",
        "video@1: R(2+1)D less R3D, with 16 frames less with 8",
        [Group(R21D, 16), Group(R3D, 8)], [Group(R3D, 16), Group(R21D, 8)], "video@1",
    ),
    _by_runs(
        "r2d-like-fr2d-8", "4.2", "R2D gets about f-R2D's accuracy with 8 frames.",
        "video@1: R2D less f-R2D, within a point", [Group(("R2D",), 8)], [Group(("f-R2D",), 8)], "video@1",
        region=ABOUT,
    ),
    _by_runs(
        "r2d-below-fr2d-16", "4.2", "R2D is below f-R2D with 16 frames, by 1.6 points.",
        "video@1: f-R2D less R2D", [Group(("f-R2D",), 16)], [Group(("R2D",), 16)], "video@1",
    ),
    Claim(
        "ranking", "4.2", "The order of the twelve networks is consistent from 8 to 16 frames.",
        "Spearman's correlation of clip@1 with 8 and with 16 frames: above 0.8", RUNS, judge_ranking,
    ),
    _by_arithmetic(
        "ranking-table-2", "4.2", "Table 2's order is consistent from 8 to 16 frames.",
        "Spearman's correlation of Table 2's clip@1: above 0.8", _order_of_rows,
    ),
    _by_arithmetic(
        "ranges-8", "4.2", "Table 2 with 8 frames: 3-D over 2-D 1.3–4, R(2+1)D over mixed 2.1–3.4, over 2-D 4.7–6.1.",
        "least and greatest difference in Table 2's clip@1", _ranges,
        (THREE_D, TWO_D, "clip@1 8f", (1.3, 4.0)), (R21D, THREE_D, "clip@1 8f", (2.1, 3.4)),
        (R21D, TWO_D, "clip@1 8f", (4.7, 6.1)),
    ),
    _by_arithmetic(
        "ranges-16", "4.2", "Table 2 with 16 frames: 3-D over 2-D 1.8–6.7, R(2+1)D over mixed 3.1–4.7.",
        "least and greatest difference in Table 2's clip@1", _ranges,
        (THREE_D, TWO_D, "clip@1 16f", (1.8, 6.7)), (R21D, THREE_D, "clip@1 16f", (3.1, 4.7)),
    ),
    _by_arithmetic(
        "ranges-16-2d", "4.2", "Table 2 with 16 frames: R(2+1)D over 2-D networks 6.3–9.8.",
        "least and greatest difference in Table 2's clip@1", _ranges, (R21D, TWO_D, "clip@1 16f", (6.3, 9.8)),
    ),
    _by_arithmetic(
        "figure-4-gain", "4.2", "R(2+1)D gains 3–3.8 points over R3D (caption of Figure 4).",
        "Table 2's video@1 with 8 and with 16 frames", _ranges,
        (R21D, R3D, "video@1 8f", (3.0, 3.0)), (R21D, R3D, "video@1 16f", (3.8, 3.8)),
    ),
    _by_arithmetic(
        "r2d-seven-times", "4.2", "R2D is about 7 times faster than f-R2D.",
        "multiply-adds of f-R2D over R2D: rounds to 7 with 8 frames", _seven_times,
    ),
    _by_arithmetic(
        "r2d-cheapest", "4.2", "R2D is the most efficient network.",
        "multiply-adds, 8 and 16 frames", _cheaper, "R2D", [v for v in TABLE_2 if v != "R2D"],
    ),
    _by_arithmetic(
        "rmc3-cheaper", "4.2", "rMC3 is more efficient than f-R2D.", "multiply-adds, 8 and 16 frames",
        _cheaper, "rMC3", ["f-R2D"],
    ),
    _by_arithmetic(
        "rmc2-costlier", "4.2", "rMC2 is more costly than rMC3.", "multiply-adds, 8 and 16 frames",
        _cheaper, "rMC3", ["rMC2"],
    ),
    _by_arithmetic(
        "rmc2-reason", "4.2", "That is because rMC2 is 2-D in group 2 and has no temporal stride in group 3.",
        "the row of the table of variants", _rmc2_reason,
    ),
    _by_arithmetic(
        "r21d-same-cost", "4.2", "R(2+1)D has roughly R3D's computational cost.",
        "multiply-adds with 8 frames: within 5 %", _same_cost,
    ),
    _by_runs(
        "r21d-same-time", "4.2", "R(2+1)D's cost is R3D's by the clock as well (which the paper does not say).",
        "training time a clip, R(2+1)D over R3D, measured on one device: within about 10 %",
        [Group(R21D)], [Group(R3D)], "training time", region=(-10, 10),
    ),
    _by_arithmetic(
        "lengths-same-parameters", "4.3", "Networks for 8 to 48 frames have the same number of parameters.",
        "parameters of R(2+1)D by arithmetic", _same_parameters,
    ),
    _by_pairs(
        "clip-accuracy-rises", "4.3", "Clip accuracy keeps rising with clip length, up to 48 frames.",
        "clip@1 of R(2+1)D: each of 16, 24, 32, 40, 48 frames less the length before, every one above zero",
        [((Group(R21D, b),), (Group(R21D, a),)) for a, b in pairwise(LENGTHS)],
    ),
    _by_pairs(
        "video-accuracy-peaks", "4.3", "Video accuracy peaks at 32 frames.",
        "video@1 of R(2+1)D: 32 frames less each other length, every one above zero",
        [((Group(R21D, 32),), (Group(R21D, other),)) for other in LENGTHS if other != 32], "video@1",
    ),
    _by_runs(
        "test-longer-clip", "4.3", "Testing an 8-frame network on 32 frames costs clip accuracy, 1.2 points.",
        "clip@1: tested on 8 frames less tested on 32",
        [Group(R21D, 8)], [Group(R21D, 32, how="tested")],
    ),
    _by_runs(
        "test-longer-video", "4.3", "Testing an 8-frame network on 32 frames costs video accuracy, 5.8 points.",
        "video@1: tested on 8 frames less tested on 32",
        [Group(R21D, 8)], [Group(R21D, 32, how="tested")], "video@1",
    ),
    _by_runs(
        "finetune-nearly", "4.3", "Finetuned on 32 frames, the 8-frame network is almost as good as one trained on 32.",
        "clip@1: finetuned less trained on 32 frames, within a point",
        [Group(R21D, 32, how="finetuned")], [Group(R21D, 32)], region=ABOUT,
    ),
    _by_runs(
        "finetune-gains", "4.3", "Finetuned on 32 frames, the 8-frame network gains 7 points over what it was.",
        "clip@1: finetuned on 32 frames less trained on 8",
        [Group(R21D, 32, how="finetuned")], [Group(R21D, 8)],
    ),
    _by_arithmetic(
        "table-3", "4.3", "Table 3: testing longer drops 1.2 and 5.8 points; finetuning gains 7.",
        "differences in Table 3", partial(_differences, 3),
        ("8 tested at 32", "8", "clip@1", -1.2), ("8 tested at 32", "8", "video@1", -5.8),
        ("8 finetuned at 32", "8", "clip@1", 7.0),
    ),
    _by_arithmetic(
        "seven-point-three", "4.3", "The 8-frame model is 7.3 times faster than the 32-frame one in FLOPs.",
        "multiply-adds of R(2+1)D, 18 layers", _seven_point_three,
    ),
    _by_arithmetic(
        "finetune-hours", "4.3", "Finetuning shortens the training of a 32-frame network considerably.",
        "Table 3's hours: less than half", _hours_saved,
    ),
    Claim(
        "twenty-clips", "4.3", "20 clips a video are only 0.5 points worse than 100.",
        "video@1 of R(2+1)D from one set of stored scores: all of 100 or more clips less 20, at most 0.5",
        RUNS, judge_clip_counts,
    ),
    _by_arithmetic(
        "sixty-seven", "4.4", "R(2+1)D-34 has 67 layers if both convolutions of a block are counted.",
        "convolutions off the shortcuts and fc", _sixty_seven,
    ),
    _by_arithmetic(
        "table-4", "4.4", "Table 4: over C3D 10.9 points, P3D 9.1, the 2-D ResNet 10.5, R3D with 8 frames 2.3.",
        "differences in Table 4's clip@1", partial(_differences, 4),
        ("R(2+1)D-RGB-32frame", "C3D", "clip@1", 10.9), ("R(2+1)D-RGB-32frame", "P3D", "clip@1", 9.1),
        ("R(2+1)D-RGB-32frame", "2D Resnet-152", "clip@1", 10.5),
        ("R(2+1)D-RGB-8frame", "R3D-RGB-8frame", "clip@1", 2.3),
    ),
    _by_arithmetic(
        "table-4-best", "4.4", "R(2+1)D has the best video accuracy of Table 4.", "Table 4's video@1", _best_of_table_4,
    ),
    _by_arithmetic(
        "table-5", "4.4", "Table 5: over I3D 4.5 points from scratch, 2.2 and 3.2 pretrained; 0.3 below it fused.",
        "differences in Table 5's top1", partial(_differences, 5),
        ("R(2+1)D-RGB (none)", "I3D-RGB (none)", "top1", 4.5),
        ("R(2+1)D-RGB (Sports-1M)", "I3D-RGB (ImageNet)", "top1", 2.2),
        ("R(2+1)D-Flow (Sports-1M)", "I3D-Flow (ImageNet)", "top1", 3.2),
        ("R(2+1)D-Two-Stream (Sports-1M)", "I3D-Two-Stream (ImageNet)", "top1", -0.3),
    ),
    _by_arithmetic(
        "table-6-best", "4.4", "R(2+1)D outperforms every method of Table 6 but I3D.", "Table 6, both sets",
        _best_but_i3d,
    ),
    _by_arithmetic(
        "table-6-i3d", "4.4", "Pretrained on Kinetics, R(2+1)D is comparable to I3D on RGB and slightly worse on flow.",
        "Table 6: within 1.5 points on RGB, 0 to 1.5 below on flow", _beside_i3d,
    ),
    _by_arithmetic(
        "table-6-pretraining", "4.4", "Kinetics is better than Sports-1M for pretraining (by Table 6).",
        "Table 6: R(2+1)D pretrained on the one less on the other, in both sets and all streams",
        _kinetics_pretrains_better,
    ),
    _by_runs(
        "sports-r21d-over-r3d", "4.4", "R(2+1)D-34 is above R3D-34 on Sports-1M, by 2.3 points.",
        "clip@1 with 8 frames: R(2+1)D less R3D, 34 layers", [Group(R21D, 8, 34)], [Group(R3D, 8, 34)], data=SPORTS,
    ),
    _by_runs(
        "sports-longer", "4.4", "On Sports-1M networks for 32 frames are above those for 8.",
        "clip@1 of R(2+1)D-34: 32 frames less 8", [Group(R21D, 32, 34)], [Group(R21D, 8, 34)], data=SPORTS,
    ),
    _by_rows(
        "rgb-over-flow", "4.4", "R(2+1)D is above on RGB what it is on flow, from scratch (Tables 4 and 5).",
        "video@1 of R(2+1)D: on RGB less on flow", _rgb_over_flow, TWO_STREAMS,
    ),
    _by_rows(
        "two-streams", "4.4", "RGB and flow together are above either alone.",
        "video@1 of the mean of both streams' softmax less each one's, both above zero", _both_over_each, TWO_STREAMS,
    ),
    _by_rows(
        "pretraining-helps", "4.4", "Pretraining on Sports-1M helps on Kinetics, by 2.3 points on RGB.",
        "video@1 of R(2+1)D on RGB: finetuned from another set less trained from scratch", _pretrained_over_scratch,
        PRETRAINED,
    ),
    _by_rows(
        "kinetics-pretrains-better", "4.4", "Kinetics is better than Sports-1M for pretraining.",
        "video@1 of R(2+1)D on RGB: finetuned from Kinetics less from Sports-1M", _kinetics_over_sports, FROM_BOTH,
    ),
    _not_yet(
        "farneback", "4.4", "R(2+1)D is below I3D on flow because Farneback's flow is less accurate than TV-L1.",
        "video@1 of one network on flow by TV-L1 less by Farneback", NO_TVL1,
    ),
)  # fmt: skip


# --- the ledger -----------------------------------------------------------------------------------------------------


def ledger(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a claim of CLAIMS, in the paper's order: what it states, the comparison, the answer by `runs`, and why.

    `effect`, `low` and `high` are in `unit`, mostly points of per cent; arithmetic has no interval. `n` counts videos,
    or runs where the number is a run's. A run that cannot be read leaves the claims it matters to undecided.
    """
    once: dict[Spec, Run] = {}
    for run in runs:  # a run kept in two folders is one witness
        if run.done:
            once.setdefault(run.spec, run)
    networks, rows = measured(list(once.values())), []
    for claim in CLAIMS:
        try:
            verdict = claim.judge(networks)
        except R21DError as error:
            verdict = Verdict(OPEN, why=str(error))
        row = {"section": claim.section, "claim": claim.sentence, "comparison": claim.comparison, "by": claim.kind}
        row |= {f.name: getattr(verdict, f.name) for f in fields(Verdict)}
        row["demonstration"] = verdict.why.startswith("demonstration")
        rows.append(row)
    return pd.DataFrame(rows, index=pd.Index([claim.id for claim in CLAIMS], name="id"))


def show_ledger(runs: Sequence[Run]) -> Styler:
    """`ledger` for a notebook; each answer has a mark and is set bold once decided, so that it takes no colour."""
    table = ledger(runs)
    counts = table["answer"].value_counts()
    told = ", ".join(f"{counts.get(answer, 0)} {mark} {answer}" for answer, mark in MARKS.items())
    demo = table["demonstration"].map({True: " (demonstration)", False: ""})
    shown = pd.DataFrame(
        {
            "section": table["section"],
            "the paper says": table["claim"],
            "answer": table["answer"].map(MARKS) + " " + table["answer"] + demo,
            "effect": [_effect(row) for row in table.itertuples()],
            "n": [str(n) if n else "–" for n in table["n"]],
            "comparison": table["comparison"],
            "by": table["by"],
            "why": table["why"],
        }
    )
    bold = pd.DataFrame("", shown.index, shown.columns)
    bold["answer"] = [f"font-weight: {WEIGHTS[answer]}; white-space: nowrap" for answer in table["answer"]]
    return (
        shown.style.format(escape="html")
        .format_index(escape="html")
        .apply(lambda _: bold, axis=None)
        .set_properties(**{"text-align": "left", "vertical-align": "top"})
        .set_caption(html.escape(f"{len(table)} claims: {told}. Intervals are 95 %."))
        .set_table_styles([{"selector": "caption", "props": "text-align: left; font-style: italic"}])
    )


def _effect(row) -> str:
    if np.isnan(row.effect):
        return "–"
    if np.isnan(row.low):
        return f"{row.effect:.4g} {row.unit}"
    return f"{row.effect:+.2f} {row.unit} ({row.low:+.2f} to {row.high:+.2f})"
