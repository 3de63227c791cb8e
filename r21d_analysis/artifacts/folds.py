"""Networks against R(2+1)D over the folds of a data set: accuracy and training error, and what each network changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.measures import INTERVAL
from r21d_analysis.artifacts.networks import Network, collect_networks, difference, on_shared_splits
from r21d_analysis.artifacts.tables import describe_intervals, protocol_line
from r21d_analysis.statistics.aggregate import training_errors
from r21d_analysis.statistics.inference import Estimate, estimate_sum_of_means, family_p, format_interval
from r21d_analysis.statistics.power import describe_power, family_power
from r21d_analysis.style import ERROR_BAR, GRAY, VARIANT_STYLE, P, figure_of_runs, note, style_table
from r21d_core import R21DError, count_noun
from r21d_core.models.architecture import KERNELS, PAIRS, midplanes
from r21d_core.models.cost import spec_cost
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec
from r21d_core.study.variants import is_imported, is_neighbor, stage_spec

BASELINE = "R(2+1)D"
NO_ESTIMATE = Estimate(np.nan, np.nan, np.nan)  # of R(2+1)D itself
GAP = f"minus {BASELINE} (points)"
COMPOSITION = "a convolution is"
COMPOSITIONS = {  # the letters that are no pair, in a residual block
    "2": "1×3×3", "3": "3×3×3", "b": "(1×3×3 to M, BN, ReLU) + (3×1×1 to M, BN, ReLU), 1×1×1",
    "s": "x = (1×3×3 to M, BN, ReLU); x + (3×1×1, BN, ReLU), 1×1×1",
}  # fmt: skip


def composition_table(specs: Sequence[Spec]) -> Styler:
    """What a convolution of each network's residual blocks is composed of, its ReLUs, M in conv2_x, and its cost.

    A network of another paper has its cost alone, and one's own code, which only training runs, not even that; a column
    without a value in any row is left out.
    """
    width = next((spec.width for spec in specs if not is_neighbor(spec.variant)), 0)
    rows, m = [], f"M of {width} → {width}"
    inner = dict.fromkeys("c23", 0) | {"b": 2, "s": 2}  # ReLUs within what a letter stands for
    inner |= {kind: int(pair.between == 2) for kind, pair in PAIRS.items()}
    for spec in {spec.variant: spec for spec in specs}.values():
        rows.append(row := {"network": spec.variant})
        if not is_imported(spec.variant):
            cost = spec_cost(spec, 1)
            row |= {"parameters (M)": cost.parameters / 1e6, "GMAC/clip": cost.macs / 1e9}
        if not is_neighbor(spec.variant):
            (stem, *letters), blocks = stage_spec(spec.variant, spec.depth)
            relus = 1 + inner[stem] + sum(2 * n * (1 + inner[k]) for k, n in zip(letters, blocks, strict=True))
            row |= {COMPOSITION: "; ".join(map(compose, dict.fromkeys(letters))), "ReLUs": relus}
            row |= {m: midplanes(spec.width, spec.width, letters[0])} if letters[0] not in "23" else {}
    table = pd.DataFrame(rows, columns=["network", COMPOSITION, "ReLUs", m, "parameters (M)", "GMAC/clip"])
    table = table.dropna(axis="columns", how="all").fillna({COMPOSITION: "–"})
    caption = "Without the classes' outputs" + "; BN: batch norm" * (COMPOSITION in table)
    return style_table(table, caption, {"ReLUs": 0, m: 0, "parameters (M)": 3, "GMAC/clip": 3})


def compose(letter: str) -> str:
    """What a convolution of a residual block is with this letter, as text."""
    if letter not in PAIRS:
        return COMPOSITIONS[letter]
    pair = PAIRS[letter]
    first, second = ("×".join(map(str, KERNELS[name])) for name in (pair.first, pair.second))
    planes = "M" if pair.planes == 1 else f"{pair.planes:g}M"
    return ", ".join([f"{first} to {planes}", *("BN", "ReLU")[: pair.between], second])


def fold_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each network, with accuracies in per cent, means over folds, and the difference to R(2+1)D.

    The best is first, networks that lack a fold are last.
    Intervals and p are clustered by group, the speaker of MIRACL-VC1; the p-values of all networks are one family.
    `detectable` is the difference that the test finds with 80 % power.
    `training error` is that of the last epoch; its difference is of means over folds, with an interval over seeds whose
    variance is pooled over the networks (`estimate_sum_of_means`), or with one seed that of the mean over folds.
    Raises R21DError without R(2+1)D, for several networks of one name, and for different test videos.
    """
    rows = collect_networks(runs)[0]
    most = max((len(network.splits) for network in rows), default=0)
    rows.sort(key=lambda network: (len(network.splits) < most, -network.video_at(1)))
    baseline = next((network for network in rows if network.spec.variant == BASELINE), None)
    if baseline is None:
        raise R21DError(f"no finished run of {BASELINE}, which the other networks are compared with; train it first")
    if repeated := [name for name, count in Counter(row.spec.variant for row in rows).items() if count > 1]:
        what = "runs of it differ in more than seed and split, such as stream or recipe; compare those of one setting"
        raise R21DError(f"{repeated[0]}: {what}")
    others = [network for network in rows if network is not baseline]
    gaps: dict[str, Estimate] = {network.spec.variant: difference(network, baseline) for network in others}
    p = dict(zip(gaps, family_p(list(gaps.values())), strict=True))
    detectable = dict(zip(gaps, family_power(list(gaps.values())), strict=True))
    records, peers = [], training_errors(group for network in rows for group in network.splits.values())
    for network in rows:
        name, accuracy, gap, training = network.spec.variant, network.accuracy, NO_ESTIMATE, NO_ESTIMATE
        train_error = np.mean([group.train_errors.mean() for group in network.splits.values()])
        if network is not baseline:
            shared = on_shared_splits(network, baseline)
            gap, training = gaps[name], _training_difference(*shared, peers)
        records.append({
            "network": name, "clip@1": network.clip_at_1, "video@1": accuracy.value, "low": accuracy.low,
            "high": accuracy.high, "training error": train_error,
            "folds": len(network.splits), "seeds": accuracy.seeds, "groups": accuracy.recordings,
            "minus R(2+1)D": gap.value, "gap low": gap.low, "gap high": gap.high, P: p.get(name, np.nan),
            "detectable": detectable.get(name, np.nan),
            "training gap": training.value, "training low": training.low, "training high": training.high,
        })  # fmt: skip
    return pd.DataFrame(records)


def _training_difference(network: Network, baseline: Network, peers: Sequence[np.ndarray]) -> Estimate:
    """The difference of `training_errors` on the same folds; with one seed, of which nothing is known, over folds."""
    errors = [[group.train_errors for group in side.splits.values()] for side in (network, baseline)]
    if all(len(seeds) == 1 for folds in errors for seeds in folds):
        ours, theirs = map(np.concatenate, errors)
        return estimate_sum_of_means([(1, ours - theirs)])
    (ours,), (theirs,) = (training_errors(side.splits.values()) for side in (network, baseline))
    return estimate_sum_of_means([(1, ours), (-1, theirs)], peers)


def format_intervals(table: pd.DataFrame, low: Hashable, high: Hashable, spec: str) -> list[str]:
    """The intervals between two columns of `table` as text."""
    return [format_interval(*pair, spec) for pair in zip(table[low], table[high], strict=True)]


def show_fold_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`fold_table` for a notebook, with its protocol as the caption; a note without R(2+1)D and another network."""
    try:
        table = fold_table(runs)
    except R21DError as error:
        return note(str(error))

    shown = pd.DataFrame({
        "network": table["network"], "clip@1": table["clip@1"], "video@1": table["video@1"],
        INTERVAL: format_intervals(table, "low", "high", ".1f"), GAP: table["minus R(2+1)D"],
        "its interval": format_intervals(table, "gap low", "gap high", "+.1f"), P: table[P],
        "training error": table["training error"], f"training {GAP}": table["training gap"],
        "interval": format_intervals(table, "training low", "training high", "+.1f"), "seeds": table["seeds"],
        "folds": table["folds"],
    })  # fmt: skip
    folds, groups = table["folds"].max(), table["groups"].max()
    some = "; networks with fewer are below, their differences are over the folds that they have"
    if table["folds"].nunique() == 1:
        shown, some = shown.drop(columns="folds"), ""
    tests = int(table[P].count())
    family = f"{count_noun(tests, 'test')}, one family, Holm" if tests else "no tests"
    family += ", none for a network of one run" if 0 < tests < len(table) - 1 else ""
    family += f", {power} at 80 % power" if (power := describe_power(table["detectable"])) else ""
    intervals, is_known = describe_intervals(runs)
    if is_known:
        intervals = f"video@1's intervals and p by group, {groups} groups, and by run, whose variance is estimated "
        intervals += "from seeds, or with one seed from folds"
    caption = (
        f"{protocol_line(runs)}. "
        + (f"Means over {folds} folds{some}; " if folds > 1 else "")
        + f"{intervals}; {family}; training error of the last epoch, its interval over seeds, or with one over folds"
    )
    return style_table(shown, caption, {GAP: "{:+.1f}", f"training {GAP}": "{:+.1f}"})


@figure_of_runs
def reasons_figure(runs: Sequence[Run]) -> Figure | str:
    """Training error and video@1 of each network less those of R(2+1)D, as in `fold_table`, with 95 % intervals.

    A network left of zero in the first panel fits the training videos better, right of zero in the second it is more
    accurate.
    """
    try:
        table = fold_table(runs)
    except R21DError as error:
        return str(error)
    table = table[table["network"] != BASELINE].iloc[::-1].reset_index(drop=True)
    if table.empty:
        return f"no network is compared with {BASELINE}"
    size = (9, 0.34 * len(table) + 1.4)
    figure, panels = plt.subplots(1, 2, figsize=size, sharex=True, sharey=True, layout="constrained")
    titles = "training error, last epoch", "test accuracy, video@1"
    columns = ["training gap", "training low", "training high"], ["minus R(2+1)D", "gap low", "gap high"]
    for axes, title, names in zip(panels, titles, columns, strict=True):
        values = table[names].to_numpy()
        for place, (name, (value, low, high)) in enumerate(zip(table["network"], values, strict=True)):
            bar = None if np.isnan(low) else [[value - low], [high - value]]
            axes.errorbar(value, place, xerr=bar, **VARIANT_STYLE[name] | ERROR_BAR, ls="none")
        axes.axvline(0, color=GRAY, lw=1)
        axes.set_title(title, size=10)
    panels[0].set_yticks(range(len(table)), table["network"])
    panels[0].set_ylim(-0.6, len(table) - 0.4)
    figure.get_layout_engine().set(wspace=0.06)  # pyright: ignore
    figure.supxlabel(GAP, size=10)
    return figure
