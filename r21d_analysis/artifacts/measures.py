"""What is measured of each network: accuracy with its interval, cost and speed, a row for each Spec or data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from r21d_analysis.statistics.aggregate import NOT_RUN, SeedGroup, accuracy_over_splits, group_all, without_split
from r21d_analysis.statistics.inference import format_interval
from r21d_core.models.cost import spec_cost
from r21d_core.runs.run import Run
from r21d_core.study.variants import is_imported

INTERVAL = "95 % interval"
SPEEDS = {"training clips/s": "train_clips_per_second", "inference clips/s": "inference_clips_per_second"}


def measure(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each Spec of `runs` with its SeedGroup: accuracies in per cent with 95 % intervals, cost and speed.

    Seeds are together, splits are not: `pool_splits` gives the means over them. Speeds are those of the fastest run on
    `speed_device`, as what else a machine does only slows a run; NaN if there is none. A network without a finished run
    has its arithmetic cost (not that of one's own code, which only training runs), and NaN elsewhere. Empty where no
    run at all is finished.

    For example:

        >>> from r21d_analysis.artifacts.measures import measure
        >>> from r21d_core.runs.run import load_runs
        >>> table = measure(load_runs("results/demo.zip"))
        >>> table[["spec", "video@1", "low", "high"]]  # in per cent, with its 95 % interval
    """
    groups, rows = group_all(runs), []
    device = speed_device(runs) if groups else ""
    for spec, group in groups:
        if group:
            there = [run.summary for run in group.runs if run.summary["device"] == device]
            # A resumed run has no training speed, which is None.
            rates = {name: np.array([run[key] for run in there], float) for name, key in SPEEDS.items()}
            row = {name: np.fmax.reduce(of, initial=np.nan) for name, of in rates.items()} | measure_group(group)
        else:
            row = {"seeds": NOT_RUN, "range": ""}
            if not is_imported(spec.variant):
                cost = spec_cost(spec, next(len(group.scores[0].classes) for _, group in groups if group))
                row |= {"parameters (M)": cost.parameters / 1e6, "GMAC/clip": cost.macs / 1e9}
        names = {"network": spec.variant, "data": spec.data, "frames": spec.frames}
        rows.append({"spec": spec, "group": group} | names | row)
    return pd.DataFrame(rows).astype({"videos": "Int64"}) if rows else pd.DataFrame()


def speed_device(runs: Sequence[Run]) -> str:
    """The device of most finished runs, of several such the first by name; speeds of two devices have no mean."""
    devices = Counter(run.summary["device"] for run in runs if run.is_complete)
    return min(devices, key=lambda device: (-devices[device], device))


def measure_group(group: SeedGroup) -> dict[str, Any]:
    """The row of `measure` for a SeedGroup, without its speed."""
    accuracy, n_classes = group.accuracy, len(group.scores[0].classes)
    return {
        "parameters (M)": group.mean("parameters") / 1e6,
        "GMAC/clip": group.mean("macs") / 1e9,
        "clip@1": group.clip_at_1,
        "video@1": group.video_at(1),
        "low": accuracy.low,
        "high": accuracy.high,
        INTERVAL: format_interval(accuracy.low, accuracy.high),
        "video@5": group.video_at(5) if n_classes > 5 else np.nan,
        "training error": group.train_errors.mean(),
        "chance": 100 / n_classes,
        "videos": group.videos,
        "seeds": group.seeds,
        "range": f" ({format_interval(*group.seed_range)})" if len(group.runs) > 1 else "",
    }


def pool_splits(table: pd.DataFrame) -> pd.DataFrame:
    """`measure`'s rows of one network on several splits of a data set as one: plain means over them, as in the paper.

    Intervals are by recording and seed over all splits; `seeds` is that of the split with the fewest, `videos` counts
    those of each split, speeds are those of the fastest run. A network that lacks a split has its cost, and
    NaN elsewhere.
    """
    if table.empty:
        return table
    rows, numbers, speeds = [], table.select_dtypes("float").columns, [*SPEEDS]
    for spec, members in table.groupby(table["spec"].map(without_split), sort=False):
        row, groups = members.iloc[0].to_dict(), list(members["group"])
        if len(members) > 1:
            row |= members[numbers].mean(skipna=False).to_dict() | {"spec": spec, "data": spec.data, "range": ""}
            if all(groups):
                accuracy, fewest = accuracy_over_splits(groups), min(groups, key=lambda group: len(group.runs))
                row |= members[speeds].max().to_dict() | {"low": accuracy.low, "high": accuracy.high}
                row |= {INTERVAL: format_interval(accuracy.low, accuracy.high), "seeds": fewest.seeds}
                row["videos"] = members["videos"].sum()
            else:
                seeds = f"{sum(map(bool, groups))} of {len(groups)} splits"
                row |= {INTERVAL: np.nan, "seeds": seeds, "videos": pd.NA}
        rows.append(row)
    return pd.DataFrame(rows, columns=table.columns).astype({"videos": "Int64"})
