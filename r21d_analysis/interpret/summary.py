"""What the committed records of filters and evidence say, as sentences for docs/results.md and the page of reports."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from r21d_analysis.interpret.evidence import PERTURBATIONS, evidence_lost
from r21d_analysis.interpret.filter_figures import layer_table
from r21d_analysis.interpret.filters import ORDERS
from r21d_analysis.interpret.records import ATTRIBUTIONS, FILTERS, load_record
from r21d_analysis.statistics.inference import format_interval
from r21d_core.runs.run import load_runs

INSIGHT = {
    "diagnostic": "built-in videos",
    "miracl": "speech",
    "small": "playback rate",
    "actions": "actions",
}  # by pack


def describe_filters(root: Path) -> str:
    """The orders of conv1's temporal filters, how far training turned later ones, and whose orders it changed."""
    stems, angles, changed = [], [], []
    for pack, data in INSIGHT.items():
        files = [run.folder / FILTERS for run in load_runs(root / "results" / f"{pack}.zip")]
        networks: dict[str, list[pd.DataFrame]] = {}
        for record in (load_record(file) for file in files if file.is_file()):
            networks.setdefault(record.metadata["spec"]["variant"], []).append(layer_table([record]))
        of_stems, of_angles = [], []
        for name, tables in sorted(networks.items()):
            shares = [100 * table[[*ORDERS]].iloc[0] / table["filters"].iloc[0] for table in tables]
            later = [table[(table["filters"] > 0) & (table["single"] == "")].iloc[1:] for table in tables]
            spans = ", ".join(_span(share[order] for share in shares) for order in ORDERS)
            of_stems.append(f"{name} {spans}" + f" ({len(tables)} runs)" * (len(tables) > 1))
            of_angles.append(f"{name} {_span(angle for rows in later for angle in rows['temporal angle'])}")
            counts = [int((rows["near"] == "").sum()) for rows in later]
            changed += [f"{_span(counts)} of {name}'s {len(later[0])} on {data}"] if any(counts) else []
        stems.append(f"{data} {', '.join(of_stems)}")
        angles.append(f"{data} {', '.join(of_angles)}")
    exceptions = f", except in {', '.join(changed)}" if changed else ""
    return (
        f"Temporal filters of conv1 that are mostly {', '.join(ORDERS)}, in per cent, 33 each without training: "
        f"{'; '.join(stems)}. In the later layers that are trained, each order is within 3 points of 33{exceptions}. "
        "Training turned the temporal weights of these layers, R3D's whole kernels, by, in degrees: "
        f"{'; '.join(angles)}. Where no number of runs is given, it is one, of one seed and split."
    )


def describe_evidence(root: Path) -> str:
    """What perturbed clips lose of the evidence for their class, for each network: sentences."""
    lost: dict[str, list[str]] = {name: [] for name in PERTURBATIONS}
    for pack, data in INSIGHT.items():
        files = [run.folder / ATTRIBUTIONS for run in load_runs(root / "results" / f"{pack}.zip")]
        found = [load_record(file) for file in files if file.is_file()]
        records = {record.metadata["spec"]["variant"]: record for record in found}
        for name, texts in lost.items():
            rows = [
                f"{variant} {_percent(*evidence_lost(record, name))}" for variant, record in sorted(records.items())
            ]
            texts.append(f"{data} {', '.join(rows)}")
    kinds = zip(("Frozen at one frame", "With shuffled frames", "Reversed"), lost.values(), strict=True)
    sentences = [f"{kind}: {'; '.join(texts)}." for kind, texts in kinds]
    return (
        "Evidence for the class that perturbed clips lose, in per cent, with intervals by recording or speaker. "
        f"{' '.join(sentences)} One run of each network."
    )


def _span(values: Iterable[float]) -> str:
    """Return the rounded values' range, such as "3 to 5", or their one value."""
    ends = sorted({round(value) for value in values})
    return f"{ends[0]} to {ends[-1]}" if len(ends) > 1 else f"{ends[0]}"


def _percent(share: float, low: float, high: float) -> str:
    return f"{100 * share:z.0f} ({format_interval(100 * low, 100 * high, 'z.0f')})"
