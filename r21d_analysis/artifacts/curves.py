"""Error by epoch: Figure 3."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from itertools import compress
from textwrap import fill

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.clip_length import describe_training
from r21d_analysis.artifacts.recipe import recipe_of
from r21d_analysis.artifacts.tables import show_table
from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, group_all, group_by_seed
from r21d_analysis.statistics.inference import estimate_sum_of_means, format_interval
from r21d_analysis.style import GRAY, QUESTIONS, VARIANT_STYLE, figure_of_runs, panel_grid
from r21d_core.runs.run import Run
from r21d_core.study.spec import Spec


@partial(figure_of_runs, is_drawn=lambda run: run.is_complete or bool(run.history))
def error_curves(runs: Sequence[Run], *, by: str = "recipe") -> Figure | None:
    """Figure 3: error in per cent by epoch, a panel for each recipe or (`by="network"`) network: thin on the epoch's
    training clips, thick on the center clips of the test videos. Lines are means over seeds and, in a network's panel,
    over splits; bands span all of them. A line without a finished run has the epochs that all of its runs have so far,
    and is named above the panels.
    """
    begun: dict[Spec, list[Run]] = defaultdict(list)
    for run in runs:
        if not run.is_complete and run.history:
            begun[run.spec.replace(seed=0)].append(run)
    trained = [group for group in group_by_seed(runs) if group.spec.epochs]
    trained += [SeedGroup(spec, tuple(members), ()) for spec, members in begun.items()]
    if not trained:
        return None
    recipes = _recipe_names([group.spec for group in trained])
    data = trained[0].spec.data
    keys = [g.spec.replace(data=data) if by == "network" else recipe_of(g.spec) for g in trained]
    panels = pd.Series(trained).groupby(keys, sort=False)
    size = (4.4, 3.8) if by == "recipe" else (2.7, 2.3)
    figure, grid = panel_grid(len(panels), *size)
    unfinished: list[str] = []
    for axes, (_, members) in zip(grid, panels, strict=True):
        for variant, splits in members.groupby(pd.Index([group.spec.variant for group in members]), sort=False):
            look = VARIANT_STYLE[str(variant)]
            histories = [run.history for group in splits if group.scores for run in group.runs]
            if not histories:
                histories = [run.history for group in splits for run in group.runs]
                length, spec = min(map(len, histories)), splits.iloc[0].spec
                histories = [history[:length] for history in histories]
                unfinished.append(f"{spec.network}, {length} of {spec.epochs} epochs")
            for key, width in (("train_error", 1), ("test_error", 2.6)):
                errors = 100 * np.array([[row[key] for row in history] for history in histories])
                epochs = np.arange(1, errors.shape[1] + 1)
                every = max(1, len(epochs) // 6)
                axes.plot(epochs, errors.mean(axis=0), **look, lw=width, ms=3 + width, mec="white", markevery=every)
                if len(errors) > 1:
                    band = errors.min(axis=0), errors.max(axis=0)
                    axes.fill_between(epochs, *band, color=look["color"], alpha=0.18, lw=0)
        spec = members.iloc[0].spec
        axes.set_title(recipes[recipe_of(spec)] if by == "recipe" else spec.variant, size=10)
        axes.set_ylim(-3, 103)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.supxlabel("epoch", size=10)
    figure.supylabel("error (%)", size=10)
    names = dict.fromkeys(group.spec.variant for group in trained) if by == "recipe" else ()  # else a panel's title
    handles = [Line2D([], [], **VARIANT_STYLE[name], lw=2, mec="white", label=name) for name in names]
    handles += [Line2D([], [], color=GRAY, lw=lw, label=label) for lw, label in ((1, "training"), (2.6, "test"))]
    figure.legend(handles=handles, loc="outside right upper", frameon=False)
    if unfinished:
        title = fill(f"unfinished: {'; '.join(dict.fromkeys(unfinished))}", 100)
        figure.suptitle(title, x=0.01, ha="left", color=GRAY, size=9)
    return figure


def error_table(runs: Sequence[Run]) -> Styler | Markdown:
    """The errors of Figure 3 after the last epoch, in per cent, a row for each network, for a notebook.

    Differences are to R(2+1)D of the same recipe, without it to its first network, in points; negative where this
    network has the lower error.
    That of the training error has Welch's 95 % interval over seeds; the test error's has recordings too, so none here.
    """
    trained = [(spec, group) for spec, group in group_all(runs) if spec.epochs]
    recipes, bases, rows = _recipe_names([spec for spec, _ in trained]), {}, []
    for pair in sorted(trained, key=lambda pair: pair[0].variant != "R(2+1)D"):  # the first of them, and its runs
        bases.setdefault(recipe_of(pair[0]), pair)
    for spec, group in trained:
        base, baseline = bases[recipe_of(spec)]
        row = {"recipe": recipes[recipe_of(spec)], "network": spec.variant}
        for name, key in (("training", "train_error"), ("test", "test_error")):
            values, less = (member.errors(key)[:, -1] if member else np.empty(0) for member in (group, baseline))
            spread = f" ({format_interval(values.min(), values.max())})" if len(values) > 1 else ""
            row[f"{name} error (%)"] = f"{values.mean():.1f}{spread}" if group else "–"
            difference = f"{values.mean() - less.mean():+.1f}" if group and baseline else "–"
            if name == "training" and min(len(values), len(less)) > 1:
                gap = estimate_sum_of_means([(1, values), (-1, less)])
                difference += f" ({format_interval(gap.low, gap.high, '+.1f')})"
            row[f"{name} error minus {base.variant}'s (points)"] = "–" if spec == base else difference
        rows.append(row | {"seeds": group.seeds if group else NOT_RUN})
    return show_table(pd.DataFrame(rows), runs)


def _recipe_names(specs: Sequence[Spec]) -> dict[Spec, str]:
    """The depth of each recipe, and where recipes differ in them the width, clip length, task and origin of weights."""
    texts = [
        (f"width {spec.width}", f"{spec.frames} frames", QUESTIONS[spec.task], describe_training(spec))
        for spec in specs
    ]
    differ = [len({*column}) > 1 for column in zip(*texts, strict=True)]
    return {
        recipe_of(spec): ", ".join([f"{spec.depth} layers", *compress(text, differ)])
        for spec, text in zip(specs, texts, strict=True)
    }
