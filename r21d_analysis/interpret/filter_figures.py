"""Figures and tables of filter records; neither a network nor torch is needed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator
from pandas.io.formats.style import Styler

from r21d_analysis.interpret.filters import FREQUENCIES, ORDERS, STAGES, filter_order
from r21d_analysis.interpret.records import InsightRecord
from r21d_analysis.style import (
    GRAY,
    NO_RECORDS,
    PALETTE,
    VARIANT_STYLE,
    align_left,
    figure_of_records,
    note,
    panel_grid,
    style_table,
)

ORDER_COLORS = dict(zip(ORDERS, (PALETTE[7], PALETTE[0], PALETTE[1]), strict=True))
MARKERS = "osD^vP"  # of the networks of a figure in turn: several may have one color


def variant_style(record: InsightRecord) -> dict:
    """Return color and marker of the network's variant."""
    return VARIANT_STYLE[record.metadata["spec"]["variant"]]


def stages_of(record: InsightRecord) -> np.ndarray:
    """The stage of each layer, (layers,)."""
    return np.array([layer.split(".")[0] for layer in record["layer"]])


def legend_outside(figure: Figure, axes: Axes, columns: int = 0) -> None:
    """Draw the legend of `axes` below the figure in at most `columns`, or at its right."""
    handles, labels = axes.get_legend_handles_labels()
    fit = int(figure.get_figwidth() / (0.07 * max(map(len, labels), default=0) + 0.55))
    below = {"loc": "outside lower center", "ncols": max(1, min(columns, fit))}
    place: dict = below if columns else {"loc": "outside right upper"}
    figure.legend(handles, labels, **place, frameon=False, fontsize=None if columns else 8)


def records_table(records: Sequence[InsightRecord]) -> Styler | Markdown:
    """Return the data, the protocol, the weights' hash and the device of each record."""
    rows = []
    for record in records:
        spec, metadata, unit = record.metadata["spec"], record.metadata, "flow fields" if record.is_flow else "frames"
        demo = "DEMONSTRATION, a tiny network" if spec["profile"] == "demo" else f"profile {spec['profile']}"
        clips = f"{spec['frames']} {unit}, frame stride {spec['frame_stride']}, crop {spec['crop']}×{spec['crop']}"
        clips += "; the videos' frames left out" * (not record.has_frames)
        device = f"{metadata['device']} in {metadata['seconds']:.0f} s"
        rows.append((record.label, demo, spec["data"], spec["task"], clips, metadata["weights"][:12], device))
    columns = ["network", "profile", "data", "task", "center clips", "weights", "computed on"]
    return align_left(style_table(pd.DataFrame(rows, columns=columns))) if rows else note(NO_RECORDS)


@figure_of_records
def stem_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot conv1, a row a network: spatial filters as images, each with its own contrast, temporal filters as curves.

    For a (2+1)D stem: all spatial filters, and the strongest temporal filter of each output. For a 3-D stem: the first
    singular pair of each filter over time and space.
    """
    figure = plt.figure(figsize=(10, 2.3 * len(records) + 0.3), layout="constrained")
    grid = figure.add_gridspec(len(records), 4, width_ratios=(2.4, 1, 1, 1))
    for row, record in enumerate(records):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(_mosaic(record["pictures"].astype(np.float32)), interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(f"{record.label}: {len(record['pictures'])} spatial filters", loc="left")
        curves = record["curves"].astype(np.float32)
        if curves.shape[1] == 1:
            continue
        order = filter_order(curves)
        for index, (name, color) in enumerate(ORDER_COLORS.items()):
            axes = figure.add_subplot(grid[row, index + 1])
            members = curves[order == index]
            axes.plot(np.arange(1, curves.shape[1] + 1), members.T, color=color, alpha=0.5, lw=1)
            axes.set(title=f"{name}: {len(members)} of {len(curves)}", xlabel="frame", ylabel="" if index else "weight")
            axes.set(ylim=(-1.05, 1.05), xlim=(0.8, curves.shape[1] + 0.2))
            axes.tick_params(labelleft=not index)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@figure_of_records
def spectrum_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot power by frequency: conv1 in space, and each stage along time, averaged over its layers. Noise is 1."""
    figure, (space, *times) = panel_grid(6, 1.83, 2.7, 6, sharex=False, sharey=False)
    cycles = np.linspace(0, 0.5, FREQUENCIES)
    for number, (record, marker) in enumerate(zip(records, cycle(MARKERS), strict=False)):
        style = {"color": variant_style(record)["color"], "marker": marker, "lw": 1.8, "ms": 5, "mec": "white",
                 "markevery": (number % 4, 4), "label": record.label}  # fmt: skip
        space.plot(cycles, record["spatial_spectrum"], **style)
        means = pd.DataFrame(record["spectrum"]).groupby(stages_of(record)).mean()
        for axes, stage in zip(times, STAGES, strict=True):
            if np.isfinite(power := means.loc[stage].to_numpy(float)).any():
                axes.plot(cycles, power, **style)
    top = 1.05 * max(1, *(axes.get_ylim()[1] for axes in times))  # keeps the dashed line in view
    titles = ("conv1, in space", *(f"{name}, in time" for name in STAGES))
    for axes, title in zip((space, *times), titles, strict=True):
        axes.axhline(1, color=GRAY, ls="--", lw=1)
        unit, limit = ("pixel", None) if axes is space else ("frame", top)
        axes.set(title=title, xlabel=f"cycles/{unit}", xticks=(0, 0.25, 0.5), ylim=(0, limit))
    space.set_ylabel("power (noise: 1)")
    legend_outside(figure, space, 4)
    return figure


@figure_of_records
def activations_figure(records: Sequence[InsightRecord]) -> Figure:
    """Show the test clips with the largest response of each filter, at their right the clip optimized for it, if any.

    A ring marks the position of the largest response, in the nearest frame shown. The title has how far the optimized
    clips exceed the responses to test clips. Without the videos' frames, class and response stand in their place, in
    columns that are as narrow as the text. `records` has one record.
    """
    (record,) = records
    strips, responses, has_optimized = record["strips"], record["responses"], "optimized" in record.arrays
    if has_optimized:
        strips = np.concatenate([strips, record["optimized"][:, None]], axis=1)
        responses = np.column_stack([responses, record["optimized_responses"]])
    n_filters, n_columns, n_frames, size = strips.shape[:4]
    text_width = 2.5 if record.has_frames else 0.3 + 0.075 * max(len(name) for name in record["labels"].flat)
    widths = [text_width] * (n_columns - has_optimized) + [2.5] * has_optimized
    options = {"figsize": (sum(widths) + 0.7, 0.66 * n_filters + 0.5), "dpi": 80, "layout": "constrained"}
    figure, panels = plt.subplots(n_filters, n_columns, squeeze=False, width_ratios=widths, **options)
    for (row, column), axes in np.ndenumerate(panels):
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        is_optimized, response = has_optimized and column == n_columns - 1, responses[row, column]
        name = "optimized" if is_optimized else record["labels"][row, column]
        text = f"{name}: {response:,.{0 if response >= 100 else 1}f}"
        if not (is_optimized or record.has_frames):
            axes.text(0.5, 0.5, text.replace(": ", "\n"), size=9, ha="center", va="center", transform=axes.transAxes)
            continue
        axes.imshow(np.hstack([*strips[row, column]]), interpolation="nearest")
        axes.set_title(text, size=9, pad=2)
        for frame in range(1, n_frames):
            axes.axvline(frame * size - 0.5, color="white", lw=1)
        if not is_optimized:
            time, y, x = record["places"][row, column].astype(np.float32)
            frame = np.clip(round(float(time) * n_frames - 0.5), 0, n_frames - 1)
            for width, color in ((2, "black"), (1, "white")):
                axes.add_patch(Circle(((frame + x) * size, y * size), 0.12 * size, fill=False, ec=color, lw=width))
    best = f"the best of {record.metadata['test_clips']:,} test clips"
    best += ", whose frames are left out" * (not record.has_frames)
    text = f"{best}; clips were not optimized"
    if has_optimized:
        ratio = np.median(record["optimized_responses"] / np.maximum(record["responses"][:, 0], 1e-6))
        text = f"optimized clips reach {ratio:.1f} times the response to {best} (median)"
    figure.suptitle(f"{record.label}: {text}", size=9, wrap=True)
    for axes, stage, channel in zip(panels[:, 0], record["stage"], record["channel"], strict=True):
        axes.set_ylabel(f"{stage}\nfilter {channel}", size=9, rotation=0, ha="right", va="center")
    return figure


def _mosaic(images: np.ndarray) -> np.ndarray:
    """Return images (n, channels, h, w) side by side, each scaled to black and white about grey, (H, W, 3)."""
    n, channels, h, w = images.shape
    scale = np.abs(images).max(axis=(1, 2, 3), keepdims=True)
    scaled = 0.5 + 0.5 * images / np.where(scale > 0, scale, 1)
    scaled = np.repeat(scaled[:, :1], 3, axis=1) if channels != 3 else scaled
    columns = min(n, max(8, int(np.ceil(np.sqrt(2 * n)))))
    rows = -(-n // columns)
    margins = ((0, rows * columns - n), (0, 1), (0, 1), (0, 0))
    canvas = np.pad(scaled.transpose(0, 2, 3, 1), margins, constant_values=1).reshape(rows, columns, h + 1, w + 1, 3)
    return canvas.swapaxes(1, 2).reshape(rows * (h + 1), -1, 3)[:-1, :-1]
