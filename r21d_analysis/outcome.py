"""What the committed records say: the sentences of docs/results.md and of the page of reports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from r21d_analysis.artifacts.confirmatory import (
    CHECK,
    PLANNED,
    SPEECH,
    Family,
    complete_members,
    confirmatory_table,
    counted_specs,
    describe_seen,
)
from r21d_analysis.artifacts.confirmatory_figures import LATER, LONGER, length_gains, training_course
from r21d_analysis.artifacts.folds import GAP as CONTRAST
from r21d_analysis.artifacts.folds import fold_table
from r21d_analysis.artifacts.measures import measure
from r21d_analysis.artifacts.recipe import DIFFERENCE, recipe_table
from r21d_analysis.artifacts.tables import PAPER, compare
from r21d_analysis.interpret.summary import describe_evidence
from r21d_analysis.statistics.inference import family_p, format_interval
from r21d_analysis.statistics.power import describe_power, family_power
from r21d_analysis.style import P
from r21d_core import R21DError
from r21d_core.runs.run import Run, find_runs, load_runs
from r21d_core.study.experiments import EXPERIMENTS
from r21d_core.study.paper import paper
from r21d_core.study.recipes import CONFIRMATORY, LONG_SCHEDULE

ROOT = Path(__file__).parents[1]  # of a checkout; the wheel holds no results/
DATA, FOUR, BEST = "ucf101-14-split1", ("f-R2D", "R3D", "MC3", "R(2+1)D"), "R(2+1)D"
LONG = {"seeds": 2, "variants": FOUR, **LONG_SCHEDULE}
# The packs of which claims are evaluated: not recipe.zip, on whose validation videos a recipe was chosen, and not
# diagnostic.zip, whose runs are of built-in videos and have one seed.
CLAIMS_PACKS = ("small", "actions", "miracl", "demo")
TRAINING = ("training gap", "training low", "training high")  # columns of `fold_table`


def find_records(
    experiment: str, pack: str = "small", seeds: int = 3, data: str = DATA, root: Path = ROOT, **options
) -> list[Run]:
    """Return the finished runs of an experiment in `root`/results; raises R21DError if one is missing there."""
    specs = EXPERIMENTS[experiment]("small", data, seeds=range(seeds), **options)
    runs = find_runs(specs, root / "results" / f"{pack}.zip")
    if missing := [run.folder.name for run in runs if not run.is_complete]:
        raise R21DError(f"results/{pack}.zip: expected finished runs {', '.join(missing)}; train and pack them")
    return runs


def answer(root: Path = ROOT) -> list[str]:
    """Paragraphs: the verdicts in one sentence, the paper's answer, the records' in its comparison and on motion."""
    gaps = [paper(2, BEST, "video@1 16f") - paper(2, other, "video@1 16f") for other in ("R3D", "f-R2D")]
    runs = find_records("variant_comparison", frames=16, frame_stride=1, root=root)
    table, networks = compare(runs), measure(runs).set_index("network")
    group, errors = networks["group"][BEST], networks["training error"]
    rows = zip(table["network"], table["estimate"], family_p(list(table["estimate"])), strict=True)
    clear = [f"{name} ({estimate.value:+.1f} points)" for name, estimate, p in rows if p < 0.05]
    count = f"{len(clear) or 'none'} of the {len(table)} others differ{'s' * (len(clear) < 2)} significantly from it"
    power = describe_power(family_power(list(table["estimate"])))
    rate = measure(find_records("variant_comparison", task="speed", root=root)).set_index("network")
    speech = find_speech(SPEECH, root)
    folds, words = fold_table(speech), len(speech[0].scores.classes)
    spoken = folds.set_index("network")
    r3d, contrasts = spoken.loc["R3D"].to_dict(), find_contrasts(root)
    seeds, lips = int(spoken["seeds"].max()), spoken["video@1"]
    strict = folds.assign(**{P: seeds * folds[P]})
    better, *others = map(_list_better, (folds, fold_table(_unseen(speech)), strict))
    unseen, after_looks = ("the same" if other == better else ", ".join(other) or "none" for other in others)
    return [
        f"{_summarize_verdicts(contrasts)} On speech {_summarize_speech(folds, speech)}",
        f"The paper answers (2+1)D: on Kinetics-400, with clips of 16 frames, R(2+1)D is {gaps[0]:.1f} points above "
        f"R3D and {gaps[1]:.1f} above the 2-D network f-R2D.",
        f"Here, in points of video@1 minus R(2+1)D: {describe_contrasts(contrasts[contrasts['verdict'] != CHECK])}. "
        "MC3's verdict with 16 frames holds by the model that the protocol fixed, not by two others that it names.",
        confirm(contrasts, root),
        describe_gains(load_runs(root / "results" / "actions.zip")),
        f"Exploratory, with {runs[0].spec.epochs} epochs on one split: on {group.videos} videos from "
        f"{table['estimate'].iloc[0].recordings} recordings, with {group.seeds} seeds, R(2+1)D has "
        f"{group.video_at(1):.1f} % and {': '.join(filter(None, [count, ', '.join(clear)]))}; the {len(table)} tests "
        f"find differences of {power} with 80 % power. Training errors are {errors.min():.1f} to "
        f"{errors.max():.1f} % ({errors.idxmax()}): these networks are not trained to the end. "
        f"{_describe_schedules(table.set_index('network'), contrasts)}",
        f"Exploratory: where the label is the playback rate, R(2+1)D has {rate['video@1'][BEST]:.1f} % and f-R2D, that "
        f"ignores the order of frames, {rate['video@1']['f-R2D']:.1f} (chance {rate['chance'][BEST]:.0f}).",
        f"By the protocol, but for one seed: on speech from lips R(2+1)D has {lips[BEST]:.1f} % and f-R2D "
        f"{lips['f-R2D']:.1f} (chance {100 / words:.0f}), {lips.idxmax()} has the highest accuracy, "
        f"{lips.max():.1f}, and {len(better)} of {len(lips) - 1} networks are significantly above "
        f"R(2+1)D: {', '.join(better)}, with {spoken['groups'].max()} speakers and {seeds} seeds "
        f"(the tests find {describe_power(spoken['detectable'])} with 80 % power); without the first seed, which was "
        f"seen before the protocol, {unseen}. Each seed was added after the results of those before it had "
        f"been seen; with p multiplied by these {seeds} looks, {after_looks} are significant. R3D minus "
        f"R(2+1)D is {describe_gap(r3d)}; exploratory, in training error {describe_gap(r3d, *TRAINING)}.",
        f"Exploratory, one run of each network. {describe_evidence(root)} So these find most evidence for an action of "
        "8 frames in one frame; for speech and the rate it needs motion, or a still clip is too unusual an input.",
    ]


def find_contrasts(root: Path = ROOT) -> pd.DataFrame:
    """The rows of `confirmatory_table` for the complete contrasts on actions."""
    runs = [run for pack in ("actions", "recipe") for run in load_runs(root / "results" / f"{pack}.zip")]
    return confirmatory_table(runs, families=PLANNED).dropna(subset=CONTRAST)


def confirm(table: pd.DataFrame, root: Path = ROOT) -> str:
    """Of what the confirmatory study on actions consists, and its check among `find_contrasts`: sentences."""
    runs = load_runs(root / "results" / "actions.zip")
    (check,) = (
        describe_gap(row, CONTRAST, "low", "high") for row in table[table["verdict"] == CHECK].to_dict("records")
    )
    table = table[table["verdict"] != CHECK]
    errors = [100 * run.history[-1]["train_error"] for run in complete_members(runs, PLANNED)]
    videos = sum(len(scores.videos) for scores in {run.spec.data: run.scores for run in runs}.values())
    return (
        f"This is confirmatory, by a protocol written before the runs: {videos:,} videos from "
        f"{table['groups'].iloc[0]} recordings of {len(runs[0].scores.classes)} classes of UCF101, three splits, five "
        "seeds, 200 epochs from scratch. "
        f"Without the videos on which the recipe was chosen, R3D minus {BEST} is {check} with 16 frames. The "
        f"runs' training errors are {min(errors):.1f} to {max(errors):.1f} %, so their end does not show which network "
        f"is easier to optimize.{_describe_course(runs)}"
    )


def _describe_course(runs: Sequence[Run]) -> str:
    """How R3D's training error falls compared with R(2+1)D's: sentences after a space."""
    table = training_course(runs)
    rows = table[table["network"] == "R3D"].to_dict("records")
    texts = [
        f"with {row['frames']} frames {describe_gap(row, CONTRAST, 'low', 'high')}, without the {row['warmup']} epochs "
        f"of warmup {describe_gap(row, LATER, 'later low', 'later high')}"
        for row in rows
    ]
    start = " Exploratory: averaged over all epochs, R3D's training error minus R(2+1)D's is, in points"
    end = "In the paper's Figure 3 R(2+1)D's is the lower one."
    return f"{start}, at the learning rate that all share, {'; '.join(texts)}. {end}"


def describe_gains(runs: Sequence[Run]) -> str:
    """What clips of 16 frames add to each network, here and in the paper, the most first: sentences."""
    rows = length_gains(runs).sort_values(LONGER, ascending=False).to_dict("records")
    texts = [
        f"{row['network']} {describe_gap(row, LONGER, 'low', 'high')}, in the paper {row[PAPER]:+.1f}" for row in rows
    ]
    others = [row for row in rows if row["network"] != BEST]
    less = [f"{row['network']}'s {describe_gap(row, CONTRAST, 'gap low', 'gap high')}" for row in others]
    return (
        f"Exploratory: with 16 frames instead of 8 video@1 changes by, in points: {'; '.join(texts)}. Minus "
        f"{BEST}'s change: {', '.join(less)}."
    )


def _summarize_verdicts(table: pd.DataFrame) -> str:
    """The verdicts on the rows of `find_contrasts`, a sentence without numbers."""
    lengths = []
    for frames, of_length in table[table["verdict"] != CHECK].groupby("frames", sort=False):
        texts = []
        for verdict, rows in of_length.groupby("verdict", sort=False):
            texts.append(f"{_join([*rows['network']])} {str(verdict).partition(' (')[0].removesuffix(f' than {BEST}')}")
        lengths.append(f"with {frames} frames {', and '.join(texts)}")
    return f"Here, compared with {BEST}, {'; '.join(lengths)}."


def _summarize_speech(folds: pd.DataFrame, runs: Sequence[Run]) -> str:
    """Which networks of a `fold_table` of `runs` differ from R(2+1)D, a clause without numbers."""
    parts = []
    for word, rows in (("more", folds[folds["gap low"] > 0]), ("less", folds[folds["gap high"] < 0])):
        if names := [*rows["network"][rows[P] < 0.05]]:
            parts.append(f"{_join(names)} {word} accurate")
    return f"{' and '.join(parts) or 'none differs'} ({describe_seen(SPEECH, {run.spec.seed for run in runs})})."


def _join(names: Sequence[str]) -> str:
    """`MC3 is`, `MC3 and MC4 are`."""
    *others, last = names
    return f"{', '.join(others)} and {last} are" if others else f"{last} is"


def describe_contrasts(table: pd.DataFrame) -> str:
    """The contrasts by clip length, and within it by verdict."""
    lengths = []
    for frames, of_length in table.groupby("frames", sort=False):
        texts = []
        for verdict, rows in of_length.groupby("verdict", sort=False):
            gaps = [f"{row['network']} {describe_gap(row, CONTRAST, 'low', 'high')}" for row in rows.to_dict("records")]
            texts.append(f"{', '.join(gaps)}, {verdict}")
        lengths.append(f"with {frames} frames {'; '.join(texts)}")
    return "; ".join(lengths)


def _describe_schedules(short: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    """The `contrasts` with 16 frames beside the differences of `short`, rows of `compare` by network: a sentence."""
    rows = contrasts[(contrasts["frames"] == 16) & (contrasts["verdict"] != CHECK)].to_dict("records")
    texts = [f"{r['network']} {short['estimate'][r['network']].value:+.1f} and {r[CONTRAST]:+.1f}" for r in rows]
    few, many = short["spec"].iloc[0].epochs, CONFIRMATORY["ucf101-14"]["epochs"]
    recipes = f"the recipe of {few} epochs on this split and that of {many} epochs on three splits"
    return f"By {recipes}, minus R(2+1)D: {', '.join(texts)}."


def warn_of_short_training(runs: Sequence[Run], contrasts: pd.DataFrame) -> str:
    """That `runs` of Table 2 end before the training videos are learned, and what `contrasts` say instead: sentences.

    `contrasts` are rows of `find_contrasts`; those with the clip length of `runs` are named.
    """
    frames = runs[0].spec.frames
    rows = contrasts[(contrasts["frames"] == frames) & (contrasts["verdict"] != CHECK)].to_dict("records")
    texts = [f"{row['network']} {row[CONTRAST]:+.1f}" for row in rows]
    return (
        f"After {runs[0].spec.epochs} epochs these networks are not trained to the end. The confirmatory study, on "
        f"consecutive frames, trains for {CONFIRMATORY['ucf101-14']['epochs']} epochs and finds, in points minus "
        f"R(2+1)D: {', '.join(texts)}."
    )


def compare_schedules(long: Sequence[Run], short: Sequence[Run]) -> str:
    """What the long schedule changes, by `recipe_table`, on the mean of four networks and for R(2+1)D."""
    texts = []
    for variants, name in ((FOUR, "on the mean of four networks"), ((BEST,), "for R(2+1)D")):
        table = recipe_table([run for run in (*long, *short) if run.spec.variant in variants])
        rows = table[DIFFERENCE].to_numpy()  # of the long schedule and the short one; NaN for the better
        value, low, high = rows[0] if np.isnan(rows[1, 0]) else -rows[1, [0, 2, 1]]
        texts.append(f"{value:+.1f} ({format_interval(low, high, '+.1f')}) points {name}")
    sides = [f"{r[0].spec.epochs} epochs ({len({run.spec.seed for run in r})} seeds)" for r in (long, short)]
    return f"{' minus '.join(sides)}: {', '.join(texts)}."


def find_speech(family: Family, root: Path = ROOT) -> list[Run]:
    """The finished runs of a family on MIRACL-VC1, of the seeds that count."""
    complete = {run.spec: run for run in load_runs(root / "results" / "miracl.zip") if run.is_complete}
    specs = counted_specs(family, complete)
    return [complete[spec] for spec in specs if spec in complete]


def _unseen(runs: Sequence[Run]) -> list[Run]:
    """The runs on MIRACL-VC1 of seeds of which nothing was seen before the protocol."""
    return [run for run in runs if run.spec.seed not in SPEECH.seen]


def _list_better(table: pd.DataFrame) -> list[str]:
    """The networks of a `fold_table` that are significantly above R(2+1)D, the best first."""
    return [*table["network"][(table["gap low"] > 0) & (table[P] < 0.05)]]


def describe_unseen(runs: Sequence[Run]) -> str:
    """Which networks differ from R(2+1)D by the seeds that are `_unseen`: a sentence after a space."""
    unseen = _unseen(runs)
    table = fold_table(unseen).set_index("network")
    clear = [f"{name} {describe_gap(row)}" for name, row in table[table[P] < 0.05].to_dict("index").items()]
    seeds = {run.spec.seed for run in unseen}
    return (
        f" {name_seeds(seeds).capitalize()} alone, of which nothing was seen before the protocol, "
        f"show as significant: {'; '.join(clear) or 'none'}."
    )


def describe_added(runs: Sequence[Run], first: Collection[int]) -> str:
    """Which networks differ from R(2+1)D by the seeds `first`, after whose results the others were added: sentences
    after a space.
    """
    added = {run.spec.seed for run in runs}.difference(first)
    table = fold_table([run for run in runs if run.spec.seed in first]).set_index("network")
    clear = [f"{name} {describe_gap(row)}" for name, row in table[table[P] < 0.05].to_dict("index").items()]
    return (
        f" {name_seeds(added).capitalize()} were added after the results of the others had been seen, and no p is "
        f"corrected for this; by {name_seeds(first)} alone these were significant: {'; '.join(clear) or 'none'}."
    )


def name_seeds(seeds: Iterable[int]) -> str:
    """`seed 2`, `seeds 2, 3 and 4`."""
    *others, last = map(str, sorted(seeds))
    return f"seeds {', '.join(others)} and {last}" if others else f"seed {last}"


def describe_gap(row: Mapping[Hashable, Any], *columns: str) -> str:
    """A row of `fold_table` less R(2+1)D, video@1 in points, with its interval; or the `columns` of another gap."""
    value, low, high = (row[name] for name in columns or ("minus R(2+1)D", "gap low", "gap high"))
    return f"{value:+.1f} ({format_interval(low, high, '+.1f')})"


def describe_fit(errors: pd.Series) -> str:
    """What the training errors of networks, in per cent by network, say of their differences: a sentence."""
    ends = f"{errors.min():.1f} % ({errors.idxmin()}) to {errors.max():.1f} % ({errors.idxmax()})"
    return f"Training errors of the last epoch: {ends}, so longer training may change these differences."


def describe_devices(runs: Sequence[Run], names: Iterable[str]) -> str:
    """Which of the networks `names` ran with a seed on another device than R(2+1)D: a sentence after a space, or ""."""
    devices: dict[int, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        devices[run.spec.seed][run.spec.variant].add(run.summary["device"])
    apart = defaultdict(list)
    for seed, sets in sorted(devices.items()):
        if others := [name for name in names if name in sets and not sets[name] & sets[BEST]]:
            apart[", ".join(others)].append(seed)
    places = [f"with {name_seeds(seeds)} {others}" for others, seeds in apart.items()]
    return f" On another device than R(2+1)D's, for which no interval accounts: {'; '.join(places)}." if places else ""


def _describe_seeds(runs: Sequence[Run], name: str) -> str:
    """`name` with its video@1 minus R(2+1)D's, in points, by each seed, such as `P3D-B (by seed +0.0, -3.7)`."""
    pair = [run for run in runs if run.spec.variant in (name, BEST)]
    seeds = sorted({run.spec.seed for run in pair if run.spec.variant == name})
    tables = [fold_table([run for run in pair if run.spec.seed == seed]).set_index("network") for seed in seeds]
    gaps = [f"{table['minus R(2+1)D'][name]:+.1f}" for table in tables]
    return f"{name} (by seed {', '.join(gaps)})"


def describe_reasons(runs: Sequence[Run]) -> str:
    """The paper's two reasons for (2+1)D, and what networks with one of them gain."""
    table = fold_table(runs).set_index("network")
    clear = [*table.index[table[P] < 0.05]]
    significant = ", ".join(_describe_seeds(runs, name) for name in clear) or "none"
    names = dict.fromkeys(["R3D", "R3D+ReLU", "R(2+1)D-noReLU", "R(2+1)D-noBN-noReLU", *clear])
    rows = table.loc[[*names]].to_dict("index").items()
    lines = [f"{name} {describe_gap(row)}, training error {describe_gap(row, *TRAINING)}" for name, row in rows]
    caution = describe_devices(runs, table.index)
    r3d = table.loc["R3D"].to_dict()
    if r3d["gap high"] > 0:
        caution += " R3D is not significantly below R(2+1)D here: no advantage in accuracy was found that they would "
        caution += "explain."
    return (
        "The paper gives two reasons for (2+1)D convolutions: more ReLUs with as many parameters, and easier "
        f"optimization. Points of video@1 minus R(2+1)D's: {'; '.join(lines)}. Significant after Holm's correction: "
        f"{significant}. {describe_fit(table['training error'])}{caution}"
    )
