"""Actions from scratch beside actions finetuned from the playback rate of the same videos, on as many clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.networks import difference, networks
from r21d_analysis.artifacts.tables import INTERVAL, format_p, show_table
from r21d_analysis.statistics.inference import format_interval, holm
from r21d_core.runs.run import Run

GAP = "minus from scratch (points)"


def rate_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Two rows for each network, from scratch and finetuned; accuracies in per cent, the difference in points.

    Intervals and p, of one family over the networks, are by recording and seed. Empty if no run is finished.
    """
    members = networks([run for run in runs if run.spec.task == "action"])[0]
    scratch = {network.spec.variant: network for network in members if not network.spec.init_from}
    records = []
    for network in members:
        spec, accuracy, baseline = network.spec, network.accuracy, scratch.get(network.spec.variant)
        pretrained = spec.parent_spec.epochs * spec.parent_spec.clips_per_epoch if spec.parent_spec else 0
        gap = difference(network, baseline) if pretrained and baseline else None
        records.append(
            {"network": spec.variant, "clips of the playback rate": pretrained,
             "clips of the actions": spec.epochs * spec.clips_per_epoch, "clip@1": network.clip_at_1,
             "video@1": accuracy.value, INTERVAL: format_interval(accuracy.low, accuracy.high),
             GAP: gap.value if gap else np.nan,
             "its interval": format_interval(gap.low, gap.high, "+.1f") if gap else "–",
             "p, Holm": gap.p if gap else np.nan, "seeds": accuracy.seeds}
        )  # fmt: skip
    table = pd.DataFrame(records)
    return table.assign(**{"p, Holm": holm(table["p, Holm"].to_numpy())}) if records else table


def show_rate_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`rate_table` for a notebook, with the protocol of the actions as its caption."""
    actions = [run for run in runs if run.spec.task == "action"]
    return show_table(rate_table(runs), actions, {GAP: "{:+.1f}", "p, Holm": format_p})
