"""The accuracy of each recipe that was tried on a validation cut, and the choice among them."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import product

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.folds import format_intervals
from r21d_analysis.artifacts.measures import INTERVAL
from r21d_analysis.artifacts.tables import show_table
from r21d_analysis.statistics.aggregate import SeedGroup, group_by_seed, pooled_seed_variance, weighted_sum
from r21d_analysis.statistics.inference import Estimate, SeedVariance, check_same_items
from r21d_analysis.style import HOLLOW, VARIANT_STYLE, figure_of_runs, note, panel_grid
from r21d_core import R21DError
from r21d_core.runs.metrics import video_at
from r21d_core.runs.run import Run
from r21d_core.study.recipes import get_recipe
from r21d_core.study.spec import Spec

COLUMNS: dict[str, Callable[[SeedGroup], float]] = {
    "training loss": lambda group: float(np.mean([run.history[-1]["train_loss"] for run in group.runs])),
    "training error": lambda group: float(group.train_errors.mean()),
    "clip@1": lambda group: group.clip_at_1,
    "video@1": lambda group: group.video_at(1),
}
ENDS = {"video@1": "value", "95 % from": "low", "to": "high"}  # columns of an Estimate
SCHEDULE = {"epochs": 1, "warmup_epochs": 0, "lr_decay_epochs": 0}  # one value of the fields that set the length
MEAN, DIFFERENCE = "mean of the networks", "minus the best recipe"


def recipe_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each recipe, described by the fields in which `runs` differ; empty if no run is finished.

    The mean of video@1 over the variants, and its difference to the best recipe on the same videos; then, for each
    variant, loss and error of the last training epoch, clip@1 and video@1, means over seeds. Accuracies in per cent,
    differences in points; 95 % intervals by recording and seed. NaN where no run is finished, and in the means where a
    variant is missing.

    Raises R21DError if recipes were not evaluated on the same videos, or a run was evaluated only.
    """
    trials = _trials(runs)
    if not any(trials.values()):
        return pd.DataFrame()
    variants = list(dict.fromkeys(run.spec.variant for run in runs))
    seeds = pooled_seed_variance([group for groups in trials.values() for group in groups.values()])
    means = {spec: _estimate([(1, g)], seeds) for spec, g in trials.items() if len(g) == len(variants)}
    best = max(means, key=lambda spec: means[spec].value, default=None)
    rows = []
    for name, (spec, groups) in zip(_recipe_names(list(trials)), trials.items(), strict=True):
        row: dict = {("recipe", "settings"): name, ("recipe", "training clips"): spec.epochs * spec.clips_per_epoch}
        difference = None
        if spec in means and best and spec != best:
            difference = _estimate([(1, groups), (-1, trials[best])], seeds)
        for side, estimate in ((MEAN, means.get(spec)), (DIFFERENCE, difference)):
            row |= {(side, name): getattr(estimate, end, np.nan) for name, end in ENDS.items()}
        for variant, (name, value) in product(variants, COLUMNS.items()):
            row[variant, name] = value(groups[variant]) if variant in groups else np.nan
        requested = [run.is_complete for run in runs if recipe_of(run.spec) == spec]
        rows.append(row | {("", "runs"): f"{sum(requested)} of {len(requested)}"})
    return pd.DataFrame(rows, columns=pd.MultiIndex.from_tuples(rows[0]))


def show_recipe_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`recipe_table` for a notebook, as `show_table` with the best mean."""
    table, seeds = recipe_table(runs), ", ".join(sorted({group.seeds for group in group_by_seed(runs)}))
    for side, spec in ((MEAN, ".1f"), (DIFFERENCE, "+.1f")) if len(table) else ():
        low, high = (side, "95 % from"), (side, "to")
        texts, place = format_intervals(table, low, high, spec), [*table].index(low)
        table.insert(place, (side, INTERVAL), texts)  # pyright: ignore: a column is a pair
        table = table.drop(columns=[low, high])
    remark, best = f"seeds of each network: {seeds.removesuffix(' seed')}", (MEAN, "video@1")
    return show_table(table, runs, {"training clips": "{:,}", "training loss": 3}, remark, best=[best])


@figure_of_runs
def accuracy_against_schedule(runs: Sequence[Run]) -> Figure | str:
    """Video@1 against the epochs of training, a line for each network and a panel for each set of other settings.

    A point is one seed, a line their mean. A panel's title names the settings in which the recipes differ.
    """
    rows = pd.DataFrame([
        {"network": group.spec.variant, "epochs": group.spec.epochs, "video@1": 100 * video_at(scores, 1),
         "recipe": recipe_of(group.spec).replace(**SCHEDULE)}
        for group in group_by_seed(runs) for scores in group.scores
    ])  # fmt: skip
    if rows["epochs"].nunique() < 2:
        return "all recipes have the same number of epochs"
    recipes = list(dict.fromkeys(rows["recipe"]))
    figure, grid = panel_grid(len(recipes), 3.4, 3.6)
    for axes, recipe in zip(grid, recipes, strict=True):
        for network, values in rows[rows["recipe"] == recipe].groupby("network", sort=False):
            means = values.groupby("epochs")["video@1"].mean()
            style = VARIANT_STYLE[str(network)]
            axes.plot(means.index, means, **style | {"marker": ""}, lw=1.2)
            axes.plot(values["epochs"], values["video@1"], **style | HOLLOW, label=network)
        axes.set(xscale="log", xlabel="epochs", xticks=sorted(set(rows["epochs"])))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_locator(NullLocator())
        names = [f"{key}={_format_field(recipe, key)}" for key in _differing_fields(recipes)]
        # A line ends after a value, not before it.
        axes.set_title(textwrap.fill(", ".join(names), 40).replace("=", " "), size=9)
    grid[0].set_ylabel("video@1 (%)")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return figure


def chosen_line(runs: Sequence[Run]) -> Markdown:
    """Which recipe has the best mean, how the others compare with it, and whether the profile uses it."""
    trials, table = list(_trials(runs)), recipe_table(runs)
    if table.empty or table[MEAN, "video@1"].isna().all():
        return note("no recipe has finished runs of all networks, so none can be chosen")
    keys, best = _differing_fields(trials), int(table[MEAN, "video@1"].argmax())
    names = _recipe_names(trials)
    profile = get_recipe(trials[best].profile, trials[best].task)
    same = all(getattr(profile, key) == getattr(trials[best], key) for key in keys)
    sentences = [
        f"The best mean of video@1 is {table[MEAN, 'video@1'][best]:.1f} %, of **{names[best]}**.",
        f"The profile `{profile.profile}` {'uses it' if same else 'uses another recipe'}.",
    ]
    low, high = table[DIFFERENCE, "95 % from"], table[DIFFERENCE, "to"]
    comparisons = {
        "Worse, with an interval below zero that is not corrected for the number of recipes": high < 0,
        "No difference from the best was found on these videos": (low <= 0) & (high >= 0),
        "Not finished": table[MEAN, "video@1"].isna(),
    }
    for label, rows in comparisons.items():
        if rows.any():
            sentences.append(f"{label}: {'; '.join(np.array(names)[rows])}.")
    return Markdown(html.escape(" ".join(sentences)))


def _estimate(sides: Sequence[tuple[int, dict[str, SeedGroup]]], seeds: SeedVariance) -> Estimate:
    """The signed sum of the means over networks of each recipe's video@1."""
    return weighted_sum([[(sign / len(side), group) for sign, side in sides for group in side.values()]], seeds)


def _trials(runs: Sequence[Run]) -> dict[Spec, dict[str, SeedGroup]]:
    """The finished networks by variant of each recipe among `runs`; R21DError for runs that train nothing."""
    if tested := [run.spec for run in runs if not run.spec.epochs]:
        raise R21DError(f"{tested[0].network}: a run with epochs = 0 has no recipe; leave such runs out")
    trials: dict[Spec, dict[str, SeedGroup]] = {recipe_of(run.spec): {} for run in runs}
    groups = group_by_seed(runs)
    for group in groups:
        check_same_items(groups[0].scores[0], group.scores[0])
        trials[recipe_of(group.spec)][group.spec.variant] = group
    return trials


def recipe_of(spec: Spec) -> Spec:
    """All settings but the variant and the seed."""
    return spec.replace(variant=Spec.variant, seed=Spec.seed)


def _differing_fields(specs: Sequence[Spec]) -> list[str]:
    return [field.name for field in fields(Spec) if len({getattr(spec, field.name) for spec in specs}) > 1]


def _recipe_names(specs: Sequence[Spec]) -> list[str]:
    keys = _differing_fields(specs)
    return [", ".join(f"{key} {_format_field(spec, key)}" for key in keys) or "the only recipe" for spec in specs]


def _format_field(spec: Spec, key: str) -> str:
    value = getattr(spec, key)
    return f"{value:g}" if isinstance(value, float) else str(value)
