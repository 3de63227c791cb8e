"""Tables of a set of runs: Table 2, comparisons with one network, families of classes, and the runs' protocol."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.measures import INTERVAL, SPEEDS, measure, pool_splits, speed_device
from r21d_analysis.artifacts.networks import RGB, Network
from r21d_analysis.statistics import inference
from r21d_analysis.statistics.aggregate import (
    SeedGroup,
    accuracy_difference,
    group_by_seed,
    pooled_seed_variance,
    without_split,
)
from r21d_analysis.statistics.inference import Estimate, Outcomes, family_p, format_interval
from r21d_analysis.statistics.power import describe_power, family_power, required_recordings
from r21d_analysis.style import NO_MATH, NO_RUNS, P, note, style_table
from r21d_core import R21DError, count_noun
from r21d_core.runs.metrics import family_correct
from r21d_core.runs.run import Run
from r21d_core.study.experiments import SPLIT
from r21d_core.study.paper import chosen_by, paper_specs, paper_table
from r21d_core.study.recipes import LR_DIVISORS, PAPER_DEVIATIONS
from r21d_core.study.spec import Spec, format_settings
from r21d_core.study.variants import NEIGHBORS, is_imported, is_neighbor

PAPER, NEEDED = "paper, Kinetics-400", "recordings needed"
COST = "size and cost"  # the side of columns that follow from the network
NOT_SETTINGS = {"variant", "seed", "profile", "init_from"}
OF_STEPS = {"lr_decay", "lr_decay_epochs"}  # without effect under another schedule
ONE_RUN = "alone, as one run of a network does not show the variance between runs, which may exceed all differences"
MANY = 10_000  # recordings; more that a test would need say no more than that


def show_table(
    table: pd.DataFrame, runs: Sequence[Run], formats: Mapping[Any, Any] | None = None, *remarks: str,
    best: Sequence[Hashable] = (),
) -> Styler | Markdown:  # fmt: skip
    """`table` for a notebook; a note if it is empty.

    Its caption is the protocol of `runs`, `describe_intervals` where it has some, and `remarks`. The highest values of
    the columns `best` are bold if the variance between runs is known, without which they may be luck.
    """
    if table.empty:
        return note(NO_RUNS)
    text, is_known = describe_intervals(runs)
    texts = [text] if INTERVAL in table.columns.get_level_values(-1) else []
    style = style_table(table, "; ".join([protocol_line(runs), *texts, *remarks]), formats)
    return style.highlight_max([*best], props="font-weight: bold") if is_known else style


def describe_intervals(runs: Sequence[Run]) -> tuple[str, bool]:
    """The model of the intervals of `measure` and `pool_splits`, for a caption, and whether it has all networks' runs.

    Where each network has one run, nothing is known of the variance between runs, and no interval contains it.
    """
    groups, networks = group_by_seed(runs), defaultdict(list)
    for group in groups:
        networks[without_split(group.spec)].append(group)
    alone = [spec.network for spec, splits in networks.items() if not pooled_seed_variance(splits).df]
    if len(alone) == len(networks):
        return f"95 % intervals by recording (group) {ONE_RUN}", False
    whose = name_owners({group.spec.variant for group in groups})
    apart = f", those of {whose} each by itself" if whose else ""
    if alone:
        apart += f" (not {', '.join(dict.fromkeys(alone))}, of one run)"
    elif not all(pooled_seed_variance([group]).df for group in groups):
        apart += " (not in rows of one split, of one run)"
    return (
        f"95 % intervals by recording (group), with the seeds' variance pooled over the networks shown{apart}, or each "
        "network's own where Bartlett's test finds them unequal"
    ), not alone


def name_owners(variants: Collection[str]) -> str:
    """Whose networks are among `variants` beside this suite's: "your own", "other papers" or both; "" for none."""
    whose = ["your own"] * any(map(is_imported, variants)) + ["other papers"] * any(v in NEIGHBORS for v in variants)
    return " and of ".join(whose)


def variant_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Table 2: a row for each network, the paper's columns under "paper", those of `runs` under "here" and COST.

    Accuracies and the training error of the last epoch in per cent. Clips per second are below the name of the one
    device that measured them, and NaN for a network that has no run there. The paper trained 18 layers on 8 or 16
    frames of Kinetics; a run with another clip length stands beside the paper's numbers for 8, and one of another task
    than `action` beside no accuracy. A network without a finished run has its arithmetic cost, and NaN elsewhere; a
    network that the paper lacks, such as 33p22, has NaN under "paper". Several splits of a data set are one row, as in
    `pool_splits`. The rows of one network have the settings in which the runs differ, and the origin of their weights
    if it differs.
    """
    table, printed = pool_splits(measure(runs)), []
    if table.empty:
        return table
    for spec in table["spec"]:
        frames, row = spec.frames if spec.frames in (8, 16) else 8, paper_table(2).get(spec.variant, {})
        columns = {f"{name}, {frames} frames": f"{name} {frames}f" for name in ("clip@1", "video@1")}
        columns = (columns if spec.task == "action" else {}) | {"parameters (M)": "parameters (M)"}
        printed.append({name: row.get(column, np.nan) for name, column in columns.items()})
    if table["network"].duplicated().any():  # an experiment that varies another field
        varied = {key for spec in table["spec"] for key in spec.changes_from(table["spec"][0])}
        names = []
        for spec in table["spec"]:
            parts = [spec.variant, format_settings({key: getattr(spec, key) for key in sorted(varied - NOT_SETTINGS)})]
            parts += [Network(spec, RGB, {}).training] if "init_from" in varied else []
            names.append(", ".join(filter(None, parts)))
        table["network"] = names
    table = table.assign(seeds=table["seeds"] + table["range"]).set_index("network")
    here = ["clip@1", "video@1", INTERVAL, "video@5", "training error", "seeds", "videos"]
    sides = {"here": table[here], COST: table[["parameters (M)", "GMAC/clip"]], speed_device(runs): table[[*SPEEDS]]}
    return pd.concat({PAPER: pd.DataFrame(printed, table.index)} | sides, axis=1)


def show_variant_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`variant_table` for a notebook, as `show_table` with the best accuracies."""
    table = variant_table(runs).dropna(axis="columns", how="all")
    formats = {"parameters (M)": 3, "GMAC/clip": 3} | dict.fromkeys(SPEEDS, 0)
    best = [column for column in table.columns if column[0] == "here" and "@" in column[1]]
    return show_table(table, runs, formats, best=best)


def protocol_line(runs: Sequence[Run]) -> str:
    """How the numbers of `runs` were obtained: profile, data, network, training, clips, device.

    Where runs differ in one of these, all of its values are named.
    """
    groups = group_by_seed(runs)
    by_set: dict[str, list[SeedGroup]] = defaultdict(list)
    for group in groups:
        by_set[SPLIT.sub("", group.spec.data)].append(group)
    parts = [_protocol_parts(group, by_set[SPLIT.sub("", group.spec.data)]) for group in groups]
    profile, data, network, *_, averaging, rate = map(_name_all, zip(*parts, strict=True))
    clips_of: dict[str, list[str]] = defaultdict(list)
    for _, _, _, origin, trained_on, *_ in parts:
        clips_of[origin].append(trained_on)
    training = _name_all(origin + f" on {_name_all(counts)} clips" * any(counts) for origin, counts in clips_of.items())
    devices = sorted({run.summary["device"] for group in groups for run in group.runs})
    protocols, keys = [group.scores[0].protocol for group in groups], ("clips", "frames", "frame_stride", "crop")
    clips, frames, stride, crop = (_name_all(str(protocol[key]) for protocol in protocols) for key in keys)
    evaluation = f"{count_noun(clips, 'clip')} of {count_noun(frames, 'frame')} at stride {stride}, {crop}"
    return "; ".join([profile, data, network, training, evaluation, averaging, rate, f"on {', '.join(devices)}"])


def _protocol_parts(group: SeedGroup, of_set: Sequence[SeedGroup]) -> tuple[str, ...]:
    """Profile, data for all splits of a set, network, origin and clips of the training, averaging, frame rate.

    `of_set` are the groups on these splits; each split counts once.
    """
    spec, protocol = group.spec, group.scores[0].protocol
    splits: dict[str, dict] = {}
    for member in of_set:
        splits.setdefault(member.spec.data, member.scores[0].protocol)
    evaluated, listed = (sum(split[f"videos_{key}"] for split in splits.values()) for key in ("evaluated", "listed"))
    data = protocol["data"] if len(splits) == 1 else f"{SPLIT.sub('', spec.data)}, {len(splits)} splits,"
    rates = {"speed": ", each at 1, 2, 4 and 8 times its rate", "arrow": ", each in both directions"}
    frozen = f" with frozen_stages={spec.frozen_stages}" if spec.frozen_stages else ""
    origin = f"finetuned{frozen}" if spec.init_from else "trained from scratch"
    lr = f" (learning rate {spec.lr:g})" if spec.variant in LR_DIVISORS else ""
    demo = "DEMONSTRATION with tiny networks, not comparable with the paper"
    return (
        demo if protocol["profile"] == "demo" else f"profile {protocol['profile']}",
        f"{data} {protocol['split']}, {evaluated:,} of {listed:,} videos{rates.get(protocol['task'], '')}",
        spec.variant + lr if is_neighbor(spec.variant) else f"{spec.depth} layers, width {spec.width}",
        origin if spec.epochs else "evaluated only, with the weights of another run",
        f"{spec.epochs * spec.clips_per_epoch:,}" if spec.epochs else "",
        protocol["averaging"],
        protocol["frame_rate"],
    )


def _name_all(values: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(values))


def compare(runs: Sequence[Run], baseline: str = "R(2+1)D") -> pd.DataFrame:
    """The rows of `measure` of networks other than `baseline`, with the `estimate` of their difference; or none.

    Raises R21DError for runs of one network with several settings, and as `accuracy_difference`.
    """
    table = measure(runs)
    done = [group for group in table.get("group", ()) if group]
    baseline_group = next((group for group in done if group.spec.variant == baseline), None)
    if not baseline_group or len(done) == 1:
        return pd.DataFrame()
    for first in (group.spec for group in done):
        same = [group.spec for group in done if group.spec.variant == first.variant]
        if keys := sorted({key for spec in same for key in spec.changes_from(first)}):
            raise R21DError(f"{first.variant}: its runs differ in {', '.join(keys)}; compare runs of one setting")
    table = table[[group is not baseline_group for group in table["group"]]]
    estimates = {row: accuracy_difference([group], [baseline_group]) for row, group in table["group"].items() if group}
    return table.assign(estimate=pd.Series(estimates))


def comparison_table(runs: Sequence[Run], baseline: str = "R(2+1)D") -> Styler | Markdown:
    """Each network minus the variant `baseline` on the same videos, for a notebook; all rows are one family of tests.

    `recordings needed` would show the difference, were it true, in this family with 80 % power and as many seeds.
    Raises R21DError as `compare`.
    """
    table = compare(runs, baseline)
    if table.empty:
        return note(f"a comparison needs {baseline} and another network, both finished")
    estimates = table["estimate"].dropna()
    columns = difference_columns(list(estimates), f"minus {baseline} (points)")
    tests = sum(estimate.tested for estimate in estimates)
    needed = [required_recordings(e, tests) if e.tested else np.inf for e in estimates]
    needed = ["more seeds" if np.isinf(n) else f"over {MANY:,}" if n > MANY else f"{n:,.0f}" for n in needed]
    columns[NEEDED] = ["–" if np.isnan(e.low) else n for e, n in zip(estimates, needed, strict=True)]
    table = table.drop(columns=INTERVAL).join(columns.set_index(estimates.index))
    table = table.assign(seeds=table["seeds"] + table["range"])
    table = table.rename(columns={"video@1": "video@1 (%)"}).set_index("network")
    difference, *texts = columns.columns[:3]
    table = table[["video@1 (%)", difference, *texts, "videos", NEEDED, "seeds"]]
    caption = f"{comparison_caption(list(estimates))}, each network minus {baseline}"
    if tests:
        caption += f"; {NEEDED}: those that would show the difference in this family, at 80 % power with as many seeds"
    return style_table(table, caption)


def difference_columns(estimates: Sequence[Estimate], name: str = "video@1 (points)") -> pd.DataFrame:
    """The difference of each estimate in points, its interval, as texts, and its p-value in the family of all."""
    rows = [(f"{e.value:+.1f}", format_interval(e.low, e.high, "+.1f")) for e in estimates]
    return pd.DataFrame(rows, columns=[name, INTERVAL]).assign(**{P: family_p(estimates)})


def comparison_caption(estimates: Sequence[Estimate]) -> str:
    """What the intervals and p-values of a table of differences are, its family of tests and what it can detect."""
    counts = [(sorted({getattr(e, f"{noun}s") for e in estimates}), noun) for noun in ("recording", "seed")]
    data = " and ".join(count_noun(" to ".join(map(str, ns[:: len(ns) - 1 or 1])), noun) for ns, noun in counts)
    tested = [estimate for estimate in estimates if estimate.tested]
    if not tested:
        return f"Intervals by recording; {data}, hence no test: another seed may take a difference out of its interval"
    data += f", {power} at 80 % power" if (power := describe_power(family_power(estimates))) else ""
    alone = all(estimate.seeds == 1 for estimate in tested)
    unit = "run, whose variance is estimated from the splits" if alone else "seed"
    return f"Intervals and p by recording and {unit}; with {data}; {count_noun(len(tested), 'test')}, one family, Holm"


def family_table(runs: Sequence[Run]) -> pd.DataFrame:
    """For each network and family of classes: accuracy, interval and chance in per cent, and the number of videos.

    Accuracy is among the family's own classes, as in `family_correct`. Empty where the data has no families.
    """
    rows = []
    for group in group_by_seed(runs):
        first, correct = group.scores[0], [family_correct(scores) for scores in group.scores]
        for family, names in first.families.items():
            members = np.isin(first.labels, [first.classes.index(name) for name in names])
            outcomes = Outcomes(100 * np.array([seed[family] for seed in correct]), first.groups[members])
            chance, videos = 100 / len(names), len(np.unique(first.videos[members]))
            rows.append((group.spec.variant, family, outcomes, chance, videos))
    estimates = []
    for _, family, outcomes, *_ in rows:
        pooled = inference.seed_variance(others for _, name, others, *_ in rows if name == family)
        estimates.append(inference.estimate_accuracy([outcomes], pooled))
    rows = [(*row[:2], e.value, e.low, e.high, *row[3:]) for row, e in zip(rows, estimates, strict=True)]
    return pd.DataFrame(rows, columns=["network", "family", "accuracy", "low", "high", "chance", "videos"])


def run_roles(specs: Sequence[Spec]) -> dict[Spec, str]:
    """The role of each Spec in its experiment, without the number of the official split."""
    children = [(spec, spec.parent_spec) for spec in specs if spec.parent_spec]
    sources = {parent for spec, parent in children if (spec.data, spec.task) != (parent.data, parent.task)}
    return {
        spec.replace(data=SPLIT.sub("", spec.data)): "tested" if not spec.epochs
        else "finetuned" if spec.init_from else "pretraining" if spec in sources else "from scratch"
        for spec in specs
    }  # fmt: skip


def deviations_table(specs: Sequence[Spec], experiment: str) -> pd.DataFrame:
    """A row for each setting of `specs` that differs from the paper's runs of `experiment`, and the runs' roles.

    Each run is compared with that run of the paper, of the same variant and role, from which it differs in the fewest
    settings; with all such, if there are several. A role that the paper lacks is compared with all others.
    """
    roles, papers = run_roles(specs), run_roles(paper_specs(experiment, list(dict.fromkeys(s.variant for s in specs))))
    # LR_DIVISORS is no part of the paper.
    papers = {paper.replace(lr=paper.lr * LR_DIVISORS.get(paper.variant, 1)): role for paper, role in papers.items()}
    found: dict[tuple[str, str], tuple[dict, dict]] = defaultdict(lambda: ({}, {}))  # values as keys, in order
    for spec, role in roles.items():
        of_variant = [paper for paper in papers if paper.variant == spec.variant]
        alike = [paper for paper in of_variant if papers[paper] == role]
        ignored = NOT_SETTINGS | (OF_STEPS if spec.lr_schedule != "step" else set())
        changes = [(spec.changes_from(paper).keys() - ignored, paper) for paper in alike or of_variant]
        fewest = min(len(keys) for keys, _ in changes)
        for keys, paper in changes:
            for key in keys if len(keys) == fewest else ():
                value, (theirs, ours) = getattr(paper, key), found[key, role]
                who = chosen_by(key, value, experiment, role)
                theirs[f"{value} ({who})" if who else str(value)] = ours[str(getattr(spec, key))] = None
    rows: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for setting in fields(Spec):
        for role in dict.fromkeys(roles.values()):
            if (setting.name, role) in found:
                theirs, ours = found[setting.name, role]
                rows[setting.name, ", ".join(theirs), ", ".join(ours)].append(role)
    several = len({*roles.values()})
    table = pd.DataFrame([(*row, "all" if len(of) == several else ", ".join(of)) for row, of in rows.items()],
                         columns=["setting", "paper", "here", "runs"])  # fmt: skip
    return table if several > 1 else table.drop(columns="runs")


def deviations_from_paper(specs: Sequence[Spec], experiment: str) -> HTML:
    """`deviations_table`, and how the profile `paper` differs from the paper; for a notebook."""
    table = deviations_table(specs, experiment)
    text = table.to_html(index=False, border=0, classes=NO_MATH) if len(table) else "<p>No setting differs.</p>"
    items = "".join(f"<li>{html.escape(line)}</li>" for line in PAPER_DEVIATIONS)
    items = re.sub("`(.*?)`", r"<code>\1</code>", items)
    beyond = (
        "<p>A setting that the paper does not state is the authors' code's or ours where marked so. Beyond the "
        "settings, the profile <code>paper</code> differs from the paper:</p>"
    )
    return HTML(f"{text}{beyond}<ul>{items}</ul>")
