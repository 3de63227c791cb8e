"""What the committed records of filters and evidence say, for docs/results.md and the page of reports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from r21d_analysis.interpret.evidence import PERTURBATIONS, evidence_lost
from r21d_analysis.interpret.filters import ORDERS
from r21d_analysis.interpret.layer_figures import layer_table
from r21d_analysis.interpret.records import ATTRIBUTIONS, FILTERS, InsightRecord, load_record
from r21d_analysis.statistics.inference import format_interval
from r21d_core.runs.run import load_runs

# A pack with records, what the networks learned, the suffix of the reports on them, and the title of these.
INSIGHT = (
    ("actions", "actions", "actions", "Actions, trained for 200 epochs"),
    ("miracl", "speech", "small", "Speech, MIRACL-VC1"),
    ("small", "playback rate", "small-rate", "Real videos, playback rate"),
    ("diagnostic", "built-in videos", "diagnostic", "Full-size networks on the built-in videos"),
)
AVERAGE, TURNED, LOST = "conv1: average (%)", "later layers turned (°)", "frozen: evidence lost (%)"


def summarize_filters(root: Path) -> pd.DataFrame:
    """A row for each data set and network of `root`/results: what training did to its temporal filters, as texts.

    Columns: the orders of conv1's temporal filters; how many of the later layers that are trained have other orders
    than untrained weights, by more than 3 points; and by how much these layers turned. Ranges are over runs and layers.
    """
    rows = []
    for data, variant, records in _by_network(root, FILTERS):
        tables = [layer_table([record]) for record in records]
        later = [table[(table["filters"] > 0) & (table["single"] == "")].iloc[1:] for table in tables]
        shares = [100 * table[[*ORDERS]].iloc[0] / table["filters"].iloc[0] for table in tables]
        row = {"data": data, "network": variant, "runs": f"{len(records)}"}
        row |= {f"conv1: {order} (%)": _span(share[order] for share in shares) for order in ORDERS}
        counts = [int((rows_of_run["near"] == "").sum()) for rows_of_run in later]
        row["later layers with other orders"] = f"{_span(counts)} of {len(later[0])}"
        row[TURNED] = _span(angle for rows_of_run in later for angle in rows_of_run["temporal angle"])
        if any("temporal_angle" not in record.arrays for record in records):
            row[TURNED] = f"about {row[TURNED]}"
        rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["caption"] = (
        "Orders: temporal filters of conv1 that are mostly of one; 33 each without training. Later layers: those of "
        "which more than the center taps are trained; their orders are other than untrained if one is more than 3 "
        "points from 33. Turned: the angle between temporal weights and their initial values, of networks "
        'without pairs their whole kernels; "about": computed from the length of the change (notebook `filters`)'
    )
    return table


def summarize_evidence(root: Path) -> pd.DataFrame:
    """A row for each data set and network of `root`/results: the evidence that perturbed clips lose, as texts."""
    rows = []
    for data, variant, records in _by_network(root, ATTRIBUTIONS):
        (record,) = records
        row = {"data": data, "network": variant, "frames": f"{record.metadata['spec']['frames']}"}
        row["clips"] = f"{len(record['evidence_original'])}"
        row["recordings or speakers"] = f"{len(set(record['evidence_groups']))}"
        for name in PERTURBATIONS:
            lost, low, high = (100 * share for share in evidence_lost(record, name))
            row[f"{name}: evidence lost (%)"] = f"{lost:z.0f} ({format_interval(low, high, 'z.0f')})"
        rows.append(row)
    table = pd.DataFrame(rows)
    table.attrs["caption"] = (
        "Evidence: the logit of the class minus the mean of the others, relative to a clip of the mean color. Frozen: "
        "one frame in place of all. Intervals by recording or speaker; one run of each network"
    )
    return table


def describe_filters(root: Path) -> str:
    """How many of conv1's temporal filters average, and how far training turned later layers: sentences."""
    table = summarize_filters(root)
    return (
        f"Averages among conv1's temporal filters, 33 % without training: {_list(table, AVERAGE)}. Training turned the "
        f"temporal weights of later layers, without pairs whole kernels, by, in degrees: {_list(table, TURNED)}."
    )


def describe_evidence(root: Path) -> str:
    """The evidence that frozen clips lose: a sentence."""
    table = summarize_evidence(root)
    lengths = " or ".join(table["frames"].unique())
    return (
        f"Evidence for the class that clips of {lengths} frames lose if frozen at one, in per cent: "
        f"{_list(table, LOST)}."
    )


def _by_network(root: Path, name: str) -> Iterator[tuple[str, str, list[InsightRecord]]]:
    """Yield data, network and the records `name` of its runs."""
    for pack, data, *_ in INSIGHT:
        networks: dict[str, list[InsightRecord]] = {}
        files = [run.folder / name for run in load_runs(root / "results" / f"{pack}.zip")]
        for record in (load_record(file) for file in files if file.is_file()):
            networks.setdefault(record.metadata["spec"]["variant"], []).append(record)
        for variant in sorted(networks, reverse=True):
            yield data, variant, networks[variant]


def _list(table: pd.DataFrame, column: str) -> str:
    """The values of `column` by data set and network."""
    texts = []
    for data, rows in table.groupby("data", sort=False):
        values = [f"{network} {value}" for network, value in zip(rows["network"], rows[column], strict=True)]
        texts.append(f"{data} {', '.join(values)}")
    return "; ".join(texts)


def _span(values: Iterable[float]) -> str:
    """The rounded values' range, such as "3 to 5", or their one value."""
    ends = sorted({round(value) for value in values})
    return f"{ends[0]} to {ends[-1]}" if len(ends) > 1 else f"{ends[0]}"
