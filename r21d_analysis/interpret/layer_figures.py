"""Figures and tables of filter records layer by layer; neither a network nor torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.interpret.filter_figures import MARKERS, ORDER_COLORS, legend_outside, stages_of, variant_style
from r21d_analysis.interpret.filters import ORDERS, STAGES, input_frames
from r21d_analysis.interpret.records import InsightRecord, with_unique_labels
from r21d_analysis.style import GRAY, NO_RECORDS, figure_of_records, note, panel_grid, style_table
from r21d_core.study.schedule import shrinkage
from r21d_core.study.spec import Spec

ENERGIES = [f"energy, {name}" for name in ORDERS]
KERNELS = [f"kernel, {name}" for name in ORDERS]
PER_ROW = 3  # networks of `orders_figure`
NO_TEMPORAL = "nothing to draw: none of these networks has a filter along time"
SEPARABILITY_TITLES = {  # of the figure and of the table
    "kernel_separability": ("one kernel: one input channel", "one kernel"),
    "filter_separability": ("one filter: all input channels", "one filter"),
    "low_rank_energy": ("a layer in a pair of M_i planes", "in a pair"),
}


def turned(record: InsightRecord) -> np.ndarray:
    """Return the angle between each layer's temporal weights and their initial values, degrees, (layers,).

    Weight decay shortens weights, but does not turn them. Older records have only ‖W − W₀‖ / ‖W₀‖, from which the angle
    follows if what decay leaves unexplained is at right angles to W₀, as the gradient of a convolution before batch
    norm is to its weights. NaN for weights that start from another run's.
    """
    if "temporal_angle" in record.arrays or "temporal_change" not in record.arrays:
        return record.arrays.get("temporal_angle", np.full(len(record["layer"]), np.nan))
    shrunk, change = shrinkage(Spec(**record.metadata["spec"])), record["temporal_change"]
    return np.degrees(np.arctan2(np.sqrt(np.maximum(0, change**2 - shrunk**2)), 1 - shrunk))


def layer_table(records: Sequence[InsightRecord]) -> pd.DataFrame:
    """Return a row for each layer of the networks that have filters along time; empty without one.

    Numbers of filters by order, and energies times the number; separabilities in percent with their first and last
    decile, and of untrained weights; `near` is the layer's name where the orders are within 3 points of those of
    untrained weights, one third each for filters of three frames, and `single` where one input frame trains only the
    center tap.
    `place` is the layer's number in the network with most layers, whose blocks the others have too.
    """
    parts = []
    for record in (record for record in with_unique_labels(records) if record["n_filters"].any()):
        rows = pd.DataFrame({"network": record.label, "layer": record["layer"], "filters": record["n_filters"]})
        rows["stage"], rows[list(ORDERS)] = stages_of(record), record["counts"]
        rows[ENERGIES] = record["energy"] * record["n_filters"][:, None]
        is_pair = record["midplanes"] > 0  # which a pair represents entirely
        for name in SEPARABILITY_TITLES:
            values = 100 * record[name].reshape(len(rows), -1)
            rows[[f"{name}{end}" for end in ("", " low", " high")[: values.shape[1]]]] = values
            rows[f"{name} untrained"] = 100 * record[f"random_{name}"]
        rows.loc[is_pair, ["low_rank_energy", "low_rank_energy untrained"]] = np.nan
        rows["temporal angle"] = turned(record)
        rows["spatial angle"], rows["is pair"] = record.arrays.get("spatial_angle", np.nan), is_pair
        rows[KERNELS] = record.arrays.get("kernel_counts", np.zeros((len(rows), 3))) * is_pair[:, None]
        temporal, frames = rows["filters"] > 0, rows["layer"].map(input_frames(record.metadata["spec"]))
        share = 1 / np.maximum(record["length"], 2)[:, None]  # of each vector of the basis, without training
        untrained = np.hstack([share, share, 1 - 2 * share])
        off = (rows[list(ORDERS)].div(rows["filters"], axis=0) - untrained).abs().max(axis=1)
        rows["single"] = rows["layer"].where(temporal & (frames == 1), "")
        rows["near"] = rows["layer"].where(temporal & (frames > 1) & (off < 0.03), "")
        parts.append(rows)
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    return table.assign(place=table["layer"].map({layer: n for n, layer in enumerate(_layer_order(table)["layer"])}))


@figure_of_records
def orders_figure(records: Sequence[InsightRecord]) -> Figure | str:
    """Plot the fractions of temporal filters by order, a bar a layer; dashed: untrained weights, of three frames."""
    if (table := layer_table(records)).empty:
        return NO_TEMPORAL
    networks = table.groupby("network", sort=False)
    width = max(4.4, 0.22 * networks.size().max() + 2.4)
    figure, panels = panel_grid(len(networks), width, 3, PER_ROW, sharex=False)
    for axes, (network, rows) in zip(panels, networks, strict=True):
        percent = 100 * rows[list(ORDERS)].div(rows["filters"].clip(lower=1), axis=0)
        percent.plot.bar(ax=axes, stacked=True, width=0.86, color=[*ORDER_COLORS.values()], lw=0, legend=False, rot=0)
        for y in (100 / 3, 200 / 3):
            axes.axhline(y, color=GRAY, ls="--", lw=0.8)
        _mark_stages(axes, rows)
        counted = ((rows["filters"] > 0) & (rows["single"] == "")).sum()
        near = f"{(rows['near'] != '').sum()} of {counted} trained layers are within 3 points of untrained"
        axes.set(title=f"{network}\n{near}", ylim=(0, 100))
        axes.grid(False)
    for axes in panels[::PER_ROW]:
        axes.set_ylabel("temporal filters (%)")
    legend_outside(figure, panels[0], 3)
    return figure


def orders_table(records: Sequence[InsightRecord]) -> Styler | Markdown:
    """Return, by network and stage, the number of temporal filters, their orders by number and by energy, in percent.

    Of a (2+1)D pair also the orders of its whole kernel. Angles are between the weights and the initial ones, by
    `turned`. The last columns name the layers whose orders are as of untrained weights, and those that one input frame
    leaves untrained, without their stage.
    """
    if (table := layer_table(records)).empty:
        return note(NO_TEMPORAL if records else NO_RECORDS)
    stages = table[table["filters"] > 0].groupby(["network", "stage"], sort=False)
    sums = stages[["filters", *ORDERS, *ENERGIES, *KERNELS]].sum()
    shown = 100 * sums[[*ORDERS, *ENERGIES]].div(sums["filters"], axis=0).add_suffix(" (%)")
    shown.insert(0, "temporal filters", sums["filters"])
    kernels = (100 * sums[KERNELS].div(sums[KERNELS].sum(axis=1), axis=0)).dropna()
    shown["whole kernel (%)"] = kernels.apply(lambda row: " / ".join(f"{value:.0f}" for value in row), axis=1)
    for part in ("temporal", "spatial"):
        shown[f"{part} weights turned (°)"] = stages[f"{part} angle"].mean()
    names = stages[["near", "single"]].agg(lambda names: ", ".join(filter(None, names)))
    names = names.replace(r"conv\d_x\.", "", regex=True)  # the row has the stage
    shown[["within 3 points of untrained", "only center taps trained"]] = names
    shown = shown.reset_index().dropna(axis="columns", how="all")
    return style_table(shown, formats={"temporal filters": "{:,}"})


@figure_of_records
def angles_figure(records: Sequence[InsightRecord]) -> Figure | str:
    """Plot by layer how far training turned the temporal weights; dotted the spatial ones of a (2+1)D pair.

    The legend says which angles `turned` computes, as the record has none.
    """
    records = with_unique_labels(records)
    table = layer_table(records)
    if table.empty or table["temporal angle"].isna().all():
        return NO_TEMPORAL if table.empty else "nothing to draw: the initial weights of these networks are not known"
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    order = _layer_order(table)
    for record, marker in zip(records, cycle(MARKERS), strict=False):
        rows = table[table["network"] == record.label].set_index("place")
        if rows["temporal angle"].isna().all():  # also of a network without filters along time, which has no rows
            continue
        style = {"color": variant_style(record)["color"], "marker": marker, "ms": 5, "mec": "white", "mew": 0.5}
        label = record.label + ", computed" * ("temporal_angle" not in record.arrays)
        axes.plot(rows["temporal angle"], label=label, **style)
        if (pairs := rows["spatial angle"].where(rows["is pair"])).notna().any():
            axes.plot(pairs, ls=":", label=f"{record.label}, spatial", **style)
    _mark_stages(axes, order)
    axes.set(ylabel="turned by training (°)", ylim=(0, None))
    legend_outside(figure, axes)
    return figure


@figure_of_records
def separability_figure(records: Sequence[InsightRecord]) -> Figure | str:
    """Plot by layer the fraction of a kernel's energy in one spatial times one temporal filter.

    Lines: means; bands: first to last decile; dashed: untrained weights of the same shape, unknown of P3D's letters.
    Right: the largest fraction of a full layer that a (2+1)D pair with M_i planes represents.
    """
    records = with_unique_labels(records)
    if (table := layer_table(records)).empty:
        return NO_TEMPORAL
    order = _layer_order(table)
    figure, panels = panel_grid(3, max(3.67, 0.16 * len(order)), 3.4, sharex=False, sharey=False)
    styles = {record.label: {"color": variant_style(record)["color"], "marker": marker}
              for record, marker in zip(records, cycle(MARKERS), strict=False)}  # fmt: skip
    for axes, (name, (title, _)) in zip(panels, SEPARABILITY_TITLES.items(), strict=True):
        for network, rows in table.groupby("network", sort=False):
            style, x = styles[str(network)], rows["place"]
            color = style["color"]
            axes.plot(x, rows[name], **style, ms=5, mec="white", mew=0.5, label=network)
            axes.plot(x, rows[f"{name} untrained"], color=color, ls="--", lw=1)
            if f"{name} low" in rows:
                axes.fill_between(x, rows[f"{name} low"], rows[f"{name} high"], color=color, alpha=0.15, lw=0)
        axes.plot([], color=GRAY, ls="--", lw=1, label="untrained")
        _mark_stages(axes, order)
        axes.set(title=title, ylim=(None, 101))
    panels[0].set_ylabel("energy (%)")
    legend_outside(figure, panels[0], 4)
    return figure


def separability_table(records: Sequence[InsightRecord]) -> Styler | Markdown:
    """Return the values of `separability_figure` in percent, a row a layer."""
    if (table := layer_table(records)).empty:
        return note(NO_TEMPORAL if records else NO_RECORDS)
    titles = {f"{name}{end}": f"{title}{', untrained' * bool(end)}"
              for name, (_, title) in SEPARABILITY_TITLES.items() for end in ("", " untrained")}  # fmt: skip
    columns = {network: rows.set_index("layer")[list(titles)].rename(columns=titles).dropna(axis="columns", how="all")
               for network, rows in table.groupby("network", sort=False)}  # fmt: skip
    return style_table(pd.concat(columns, axis=1).reindex(_layer_order(table)["layer"]).rename_axis("layer"))


def _layer_order(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `layer_table` of the network with most layers, which has the layers of all."""
    return max((rows for _, rows in table.groupby("network", sort=False)), key=len)


def _mark_stages(axes: Axes, rows: pd.DataFrame) -> None:
    """Label the x axis with the stages of the layers `rows` and separate them by lines."""
    layers = {stage: np.flatnonzero(rows["stage"] == stage) for stage in STAGES}
    axes.set_xticks([index.mean() for index in layers.values()], [name.removesuffix("_x") for name in layers], size=8)
    axes.tick_params(axis="x", length=0)
    for index in list(layers.values())[1:]:
        axes.axvline(index[0] - 0.5, color="white" if axes.patches else "#e4e4e4", lw=2 if axes.patches else 1)
    axes.grid(False, axis="x")
