"""What each recipe that was tried gave the networks on a validation cut, and which is chosen."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.tables import protocol_line, style_table
from r21d_analysis.statistics.aggregate import SeedGroup, group_by_seed
from r21d_analysis.statistics.inference import bootstrap_ci, correct_by_seed, expect_same_items
from r21d_core.runs.run import Run
from r21d_core.study.recipes import get_recipe
from r21d_core.study.spec import Spec

COLUMNS = ("training loss", "training error", "clip@1", "video@1")
MEAN, LESS = "mean of the networks", "less the best's"


def recipe_table(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a recipe, told by the fields in which `runs` differ beside variant and seed; empty if no run is finished.

    For each variant loss and error of the last training epoch, clip@1 and video@1, means over seeds; then the mean of
    video@1 over the variants, and its difference to the best recipe's on the same videos. Accuracies in per cent,
    differences in points; intervals are 95 %, by a bootstrap over the videos alone. NaN where no run is finished, and
    in the means where one of the variants is missing.

    Raises R21DError if recipes were not evaluated on the same videos.
    """
    tried = _tried(runs)
    if not any(tried.values()):
        return pd.DataFrame()
    variants = list(dict.fromkeys(run.spec.variant for run in runs))
    means = {spec: _per_video(list(found.values())) for spec, found in tried.items() if len(found) == len(variants)}
    best = max(means.values(), key=np.mean, default=None)
    rows = []
    for spec, found in tried.items():
        row = {("recipe", key): _told(spec, key) for key in _keys(tried)}
        row["recipe", "training clips"] = f"{spec.epochs * spec.clips_per_epoch:,}"
        for variant in variants:
            told = _of_network(found[variant]) if variant in found else {}
            row |= {(variant, name): told.get(name, np.nan) for name in COLUMNS}
        mean = means.get(spec)
        row |= _with_interval(MEAN, mean)
        row |= _with_interval(LESS, None if mean is None or mean is best else mean - best)
        asked = [run for run in runs if _recipe_of(run.spec) == spec]
        rows.append(row | {("", "runs"): f"{sum(run.is_complete for run in asked)} of {len(asked)}"})
    return pd.DataFrame([list(row.values()) for row in rows], columns=pd.MultiIndex.from_tuples(rows[0]))


def show_recipe_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`recipe_table` for a notebook, its protocol above it, the best mean in bold."""
    table = recipe_table(runs)
    if table.empty:
        return Markdown("*No run is finished, so there is nothing to show yet.*")
    style = style_table(table, protocol_line(runs), {"training loss": 3}).hide(axis="index")
    return style.highlight_max([(MEAN, "video@1")], props="font-weight: bold")


def chosen_line(runs: Sequence[Run]) -> Markdown:
    """Which recipe has the best mean, which others its interval parts from it, and whether the profile trains so."""
    tried, table = list(_tried(runs)), recipe_table(runs)
    if table.empty or table[MEAN, "video@1"].isna().all():
        return Markdown("*No recipe has all of its networks yet, so none can be chosen.*")
    keys, best = _keys(tried), int(table[MEAN, "video@1"].argmax())
    names = [", ".join(f"{key} {_told(spec, key)}" for key in keys) or "the only one" for spec in tried]
    told = [f"The highest mean of video@1, {table[MEAN, 'video@1'][best]:.1f} %, has **{names[best]}**."]
    low, high = table[LESS, "95 % from"], table[LESS, "to"]
    others = {
        "Below it by an interval without zero": high < 0,
        "Not to be told from it by these videos": (low <= 0) & (high >= 0),
        "Not finished, so not compared": table[MEAN, "video@1"].isna(),
    }
    told += [f"{what}: {'; '.join(np.array(names)[which])}." for what, which in others.items() if which.any()]
    usual = get_recipe(tried[best].profile, tried[best].task)
    same = all(getattr(usual, key) == getattr(tried[best], key) for key in keys)
    told.append(f"The profile `{usual.profile}` {'trains so' if same else 'has another recipe'}.")
    return Markdown(html.escape(" ".join(told)))


def _of_network(one: SeedGroup) -> dict[str, float]:
    last = [run.history[-1] for run in one.runs]
    loss, error = (np.mean([line[key] for line in last]) for key in ("train_loss", "train_error"))
    return dict(zip(COLUMNS, (loss, 100 * error, one.clip_at_1, one.video_at(1)), strict=True))


def _with_interval(side: str, values: np.ndarray | None) -> dict[tuple[str, str], float]:
    """The mean of `values`, a number a video, and its interval, all in per cent; NaN without any."""
    told = (np.nan,) * 3 if values is None else (values.mean(), *bootstrap_ci(values[None]))
    return {(side, name): 100 * value for name, value in zip(("video@1", "95 % from", "to"), told, strict=True)}


def _per_video(networks: list[SeedGroup]) -> np.ndarray:
    """How often the networks were right on each video, the mean over networks of the mean over seeds, (videos,)."""
    return np.mean([correct_by_seed(one.scores).mean(axis=0) for one in networks], axis=0)


def _tried(runs: Sequence[Run]) -> dict[Spec, dict[str, SeedGroup]]:
    """The finished networks by variant of each recipe among `runs`."""
    tried: dict[Spec, dict[str, SeedGroup]] = {_recipe_of(run.spec): {} for run in runs}
    networks = group_by_seed(runs)
    for one in networks:
        expect_same_items(networks[0].scores[0], one.scores[0])
        tried[_recipe_of(one.spec)][one.spec.variant] = one
    return tried


def _recipe_of(spec: Spec) -> Spec:
    return spec.replace(variant=Spec().variant, seed=Spec().seed)


def _keys(tried: Sequence[Spec]) -> list[str]:
    """The fields in which recipes differ."""
    return [field.name for field in fields(Spec) if len({getattr(spec, field.name) for spec in tried}) > 1]


def _told(spec: Spec, key: str) -> str:
    value = getattr(spec, key)
    return f"{value:g}" if isinstance(value, float) else str(value)
