"""Finetuned networks: the gain from the playback rate, and the origin of their weights."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from r21d_analysis.artifacts.measures import INTERVAL
from r21d_analysis.artifacts.networks import collect_networks, difference
from r21d_analysis.artifacts.tables import show_table
from r21d_analysis.statistics.inference import Estimate, family_p, format_interval
from r21d_analysis.statistics.power import describe_power, family_power
from r21d_analysis.style import P, align_left, note, style_table
from r21d_core import R21DError
from r21d_core.runs.run import Run

GAP = "minus from scratch (points)"
NAMES_IN_CELL = 4


def rate_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Two rows for each network, actions from scratch and finetuned from the playback rate, on as many clips.

    Accuracies in per cent, the difference in points. Intervals and p, of one family over the networks, are by recording
    and seed; `detectable` is the difference that a test finds with 80 % power. Empty if no run is finished.
    """
    members = collect_networks([run for run in runs if run.spec.task == "action"])[0]
    scratch = {network.spec.variant: network for network in members if not network.spec.init_from}
    rows: list[dict] = []
    gaps: dict[int, Estimate] = {}
    for place, network in enumerate(members):
        spec, parent, accuracy = network.spec, network.spec.parent_spec, network.accuracy
        first = parent.epochs * parent.clips_per_epoch if parent else 0
        rows.append({
            "network": spec.variant, "clips of the playback rate": first,
            "clips of the actions": spec.epochs * spec.clips_per_epoch, "clip@1": network.clip_at_1,
            "video@1": accuracy.value, INTERVAL: format_interval(accuracy.low, accuracy.high), "seeds": accuracy.seeds,
        })  # fmt: skip
        if parent and spec.variant in scratch:
            gaps[place] = difference(network, scratch[spec.variant])
    estimates = list(gaps.values())
    for (place, gap), p, found in zip(gaps.items(), family_p(estimates), family_power(estimates), strict=True):
        interval = format_interval(gap.low, gap.high, "+.1f")
        rows[place] |= {"detectable": found, GAP: gap.value, "its interval": interval, P: p}
    return pd.DataFrame(rows)


def show_rate_table(runs: Sequence[Run]) -> Styler | Markdown:
    """`rate_table` for a notebook, with the protocol of the actions and the power of its tests as its caption."""
    actions = [run for run in runs if run.spec.task == "action"]
    table = rate_table(runs)
    power = describe_power(table.pop("detectable")) if "detectable" in table else ""
    formats = {GAP: "{:+.1f}", "clips of the playback rate": "{:,}", "clips of the actions": "{:,}"}
    return show_table(table, actions, formats, *([f"{power} at 80 % power"] if power else []))


def init_table(runs: Sequence[Run]) -> Styler | Markdown:
    """For each finished finetuned run: which tensors it loaded and which it initialized; the groups its weights were
    trained on, before and during finetuning, those of its test videos, and how many are in both. A run refuses to
    start if there are any.
    """
    rows = []
    for run in runs:
        if not (run.is_complete and run.spec.init_from):
            continue
        spec, parent, tested = run.spec, run.spec.parent_spec, set(run.scores.groups.tolist())
        try:
            trained = run.trained_on
            both = str(len(trained & tested))
        except R21DError:
            trained, both = (), "no record of what it was trained on"
        rows.append({
            "network": spec.variant, "input": spec.modality, "data": spec.data, "seed": str(spec.seed),
            "pretrained on": parent.data if parent else spec.init_file, "groups trained on": _abbreviate(trained),
            "groups tested": _abbreviate(tested), "videos tested": f"{len(set(run.scores.videos)):,}",
            "groups in both": both, "weights": run.environment.get("init_from") or "not recorded",
        })  # fmt: skip
    return align_left(style_table(pd.DataFrame(rows))) if rows else note("no finetuned run is finished")


def _abbreviate(groups: Collection[str]) -> str:
    names = sorted(groups)
    listed = ", ".join(names[:NAMES_IN_CELL]) + (", …" if len(names) > NAMES_IN_CELL else "")
    return f"{len(names):,}: {listed}" if names else "–"
