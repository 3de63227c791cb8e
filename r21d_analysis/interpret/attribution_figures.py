"""Figures and tables of attribution records; neither a network nor torch is needed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.bootstrap import PERTURBATIONS, TILES, fraction_lost
from r21d_analysis.interpret.filter_figures import NO_RECORDS, figure_of_records, variant_style
from r21d_analysis.interpret.html import image_html
from r21d_analysis.style import GRAY, PALETTE, style_table

LINES = ("-", "--", ":", "-.")
MIN_POSITIONS = 25  # of a map: with fewer, ranks agree by chance, up to 0.5 in one of a hundred pairs of 25


def play_overlays(records: Sequence[InsightRecord], video: str) -> HTML | Markdown:
    """Return an animation of the video under each map, a row a network, a column a method.

    The stronger the color the larger the map: orange supports the class, blue opposes it.
    """
    rows = find_video(records, video)
    if not rows:
        return NO_RECORDS
    methods = method_names(rows[0][0])
    with plt.rc_context({"text.parse_math": False}):
        figure, panels = plt.subplots(
            len(rows), len(methods) + 1, figsize=(1.25 * (len(methods) + 1), 1.3 * len(rows) + 0.35),
            squeeze=False, layout="constrained",
        )  # fmt: skip
        images = []
        for row, (record, index) in enumerate(rows):
            panels[row, 0].set_ylabel(record.label.replace(", ", "\n"), size=7)
            for axes, frames, title in zip(panels[row], _overlays(record, index), ["clip", *methods], strict=True):
                axes.set(xticks=[], yticks=[])
                if row == 0:
                    axes.set_title(title.replace(" ", "\n", 1), size=7)
                images.append((axes.imshow(frames[0]), frames))

    def update(frame: int) -> list:
        for image, frames in images:
            image.set_data(frames[frame])
        return [image for image, _ in images]

    figure.canvas.draw()
    figure.set_layout_engine("none")  # lay out once, not for each frame
    animation = FuncAnimation(figure, update, frames=len(images[0][1]), init_func=lambda: [], blit=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlays.webp"  # a quarter of a GIF's size, with all colors
        animation.save(path, PillowWriter(fps=4), dpi=80)
        data = path.read_bytes()
    plt.close(figure)
    record, index = rows[0]
    alt = f"{video}: maps of {', '.join(record.label for record, _ in rows)} for {record['target'][index]}"
    return HTML(image_html(data, "webp", alt))


@figure_of_records
def overlay_figure(records: Sequence[InsightRecord], video: str, frames: int = 4) -> Figure | None:
    """Show `frames` frames of the clip and of each map, a row a method, networks side by side."""
    columns = find_video(records, video)
    methods = method_names(columns[0][0])
    size = (0.85 * frames * len(columns) + 1.5, 0.85 * (len(methods) + 1) + 0.7)
    figure = plt.figure(figsize=size, dpi=80, layout="constrained")
    widths = [0.85 * frames + 1.5, *[0.85 * frames] * (len(columns) - 1)]  # the first has the names of the methods
    subfigures = figure.subfigures(1, len(columns), squeeze=False, width_ratios=widths)[0]
    for column, (subfigure, (record, index)) in enumerate(zip(subfigures, columns, strict=True)):
        panels = subfigure.subplots(len(methods) + 1, frames, squeeze=False)
        pred, target, percent = record["pred"][index], record["target"][index], 100 * record["probability"][index]
        text = f"predicts {pred}, {percent:.0f} %" if pred == target else f"predicts {pred}; {target}: {percent:.0f} %"
        subfigure.suptitle(f"{record.label}\n{text}", size=8)
        for row, title, overlay in zip(panels, ["clip", *methods], _overlays(record, index), strict=True):
            if column == 0:
                row[0].set_ylabel(title, size=8, rotation=0, ha="right", va="center")
            chosen = np.linspace(0, len(overlay) - 1, frames).round().astype(int)
            for axes, image in zip(row, overlay[chosen], strict=True):
                axes.imshow(image)
                axes.set(xticks=[], yticks=[])
    return figure


@figure_of_records
def completeness_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the mean completeness gap over videos by the number of integration steps."""
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for record in records:
        for gaps, name, line in zip(record["gaps"], ("integrated gradients", "DeepLift"), "-:", strict=True):
            mean = np.maximum(100 * gaps.mean(axis=1), 1e-5)
            label = f"{record.label}, {name}"
            axes.plot(record["gap_steps"], mean, line, **variant_style(record), ms=5, label=label)
    axes.set(xscale="log", yscale="log", xlabel="steps of integrated gradients", ylabel="completeness gap (%)")
    steps = sorted({step for record in records for step in record["gap_steps"].tolist()})
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


@figure_of_records
def sanity_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the rank correlation of each method's maps with those of shuffled weights, from fc to all stages.

    Pale: maps with fewer than MIN_POSITIONS positions, which are not tested.
    """
    size = (3.9 * len(records) + 1.8, 3.2)
    figure, panels = plt.subplots(1, len(records), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, record in zip(panels[0], records, strict=True):
        for index, (method, correlation) in enumerate(zip(method_names(record), record["correlation"], strict=True)):
            color, untested = PALETTE[(0, 1, 2, 3, 4, 5, 9)[index]], bool(record["resolution"][index] < MIN_POSITIONS)
            style = {"color": color, "alpha": 0.3 if untested else 1, "marker": "o", "ms": 3}
            axes.plot([1, *correlation], LINES[index % 4], **style, label=f"{method}{', not tested' * untested}")
        axes.axhline(0, color=GRAY, lw=1)
        axes.axhspan(record.metadata["sanity_corr_max"], 1.03, color="black", alpha=0.06, lw=0)
        stages = ("none", "fc", "+conv5_x", "+conv4_x", "+conv3_x", "+conv2_x", "+conv1")
        axes.set_xticks(range(7), stages, rotation=45, size=8)
        axes.set(ylim=(-1, 1.03))
        axes.set_title(record.label, size=10)
    panels[0, 0].set_ylabel("rank correlation")
    figure.supxlabel("weights shuffled", size=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


@figure_of_records
def evidence_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the fraction of evidence lost in frozen, shuffled, reversed and occluded clips, for all classes and each.

    Bars are 95 % intervals over clips. A network without evidence for a class has no point there.
    """
    rows = ["all", *map(str, records[0]["classes"])]
    titles = [*PERTURBATIONS, "most important\nninth occluded"]
    size = (10.5, 0.28 * len(rows) + 1.5)
    figure, panels = plt.subplots(1, len(titles), figsize=size, sharey=True, squeeze=False, layout="constrained")
    height = 0.7 / len(records)
    for axes, title, perturbation in zip(panels[0], titles, (*PERTURBATIONS, "occluded"), strict=True):
        for index, record in enumerate(records):
            style = {**variant_style(record), "ms": 5, "lw": 1, "mec": "white", "ls": "none"}
            for row in range(len(rows)):
                lost, low, high = 100 * np.array(evidence_lost(record, perturbation, row - 1 if row else None))
                y = row + (index - (len(records) - 1) / 2) * height
                label = {"label": record.label} if row == 0 else {}
                axes.errorbar(lost, y, xerr=np.maximum([[lost - low], [high - lost]], 0), **style, **label)
        axes.axvline(0, color=GRAY, lw=1)
        axes.axvline(100, color=GRAY, lw=1, ls=":")
        axes.set(xlim=(-60, 210), xlabel="evidence lost (%)")
        axes.set_title(title, size=10)
        axes.axhline(0.5, color=GRAY, lw=0.5)
    panels[0, 0].set_yticks(range(len(rows)), rows)
    panels[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=4)
    return figure


def evidence_table(records: Sequence[InsightRecord]) -> Styler | Markdown:
    """Return accuracy and evidence lost in percent, a row a network; networks with several seeds have a mean row.

    Accuracy is that of the record's clips, whole and frozen ("–" where it was not recorded). Intervals are over clips;
    the mean row has the range over seeds. "Tiles" is the sum over the nine tiles of the evidence that each one removes.
    """
    if not records:
        return NO_RECORDS
    values, rows = [], []
    for record in records:
        lost = [100 * np.array(evidence_lost(record, name)) for name in PERTURBATIONS]
        grid = tiles_lost(record) if np.isfinite(lost[0][0]) else np.full(TILES**2, np.nan)
        frozen = 100 * np.mean(record.arrays.get("evidence_correct_frozen", np.nan))
        accuracy = 100 * record["evidence_correct"].mean()
        values.append([accuracy, frozen, *(ends[0] for ends in lost), grid[len(grid) // 2], grid.sum()])
        intervals = ["", "", *(f" ({low:.0f} to {high:.0f})" for _, low, high in lost), "", ""]
        cells = [
            _percent(value) + text * bool(np.isfinite(value)) for value, text in zip(values[-1], intervals, strict=True)
        ]
        rows.append([record.label, len(record["evidence_original"]), *cells])
    networks = [record.label.replace(f", seed {record.metadata['spec']['seed']}", "") for record in records]
    for network in dict.fromkeys(networks):
        seeds = np.array([row for row, name in zip(values, networks, strict=True) if name == network])
        if len(seeds) > 1:
            ends = zip(seeds.mean(axis=0), seeds.min(axis=0), seeds.max(axis=0), strict=True)
            cells = [f"{_percent(mean)} ({_percent(low)} to {_percent(high)})" for mean, low, high in ends]
            rows.append([f"{network}, mean of {len(seeds)} seeds (range)", "", *cells])
    lost = [f"lost: {name} (%)" for name in (*PERTURBATIONS, "middle tile", "tiles")]
    return style_table(pd.DataFrame(rows, columns=["network", "clips", "accuracy (%)", "accuracy, frozen (%)", *lost]))


@figure_of_records
def occlusion_figure(records: Sequence[InsightRecord]) -> Figure:
    """Plot the fraction of evidence lost when a ninth of the image is occluded in all frames, over all clips."""
    size = (2.3 * len(records) + 0.6, 2.5)
    figure, panels = plt.subplots(1, len(records), figsize=size, squeeze=False, layout="constrained")
    grids = [tiles_lost(record) for record in records]
    limit = max(np.abs(grid).max() for grid in grids)
    for axes, record, grid in zip(panels[0], records, grids, strict=True):
        image = axes.imshow(grid.reshape(TILES, TILES), cmap="PuOr_r", vmin=-limit, vmax=limit)
        for tile, value in enumerate(grid):
            color = "white" if abs(value) > 0.6 * limit else "black"
            axes.text(tile % TILES, tile // TILES, f"{value:.0f}", ha="center", va="center", color=color)
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.set_title(record.label, size=10)
    figure.colorbar(image, ax=panels[0], label="evidence lost (%)", shrink=0.8)
    return figure


def evidence_lost(record: InsightRecord, perturbation: str, label: int | None = None) -> tuple[float, float, float]:
    """Return `fraction_lost` for one of PERTURBATIONS or "occluded", over all clips or those of class `label`."""
    mask = slice(None) if label is None else record["evidence_label"] == label
    original, perturbed = record["evidence_original"][mask], record[f"evidence_{perturbation}"][mask]
    if perturbation == "occluded":
        # The same tile for all clips and classes: the best tile of each would be a choice by chance.
        perturbed = perturbed[:, record["evidence_occluded"].mean(axis=0).argmin()]
    return fraction_lost(original, perturbed)


def tiles_lost(record: InsightRecord) -> np.ndarray:
    """Return the percentage of evidence lost without each tile, over all clips, (TILES²,)."""
    return 100 * (1 - record["evidence_occluded"].mean(axis=0) / record["evidence_original"].mean())


def method_names(record: InsightRecord) -> list[str]:
    """Return the methods of the record's maps, in order."""
    return [str(name) for name in record["methods"]]


def find_video(records: Sequence[InsightRecord], video: str) -> list[tuple[InsightRecord, int]]:
    """Return the records with maps of the video, and its index in each."""
    return [(record, list(record["videos"]).index(video)) for record in records if video in record["videos"]]


def _percent(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "–"


def _overlays(record: InsightRecord, index: int) -> list[np.ndarray]:
    """Return the clip, and for each method the grey clip under its map, (T, S, S, 3) from 0 to 1."""
    frames = record["frames"][index].astype(np.float32) / 255
    grey = frames.mean(axis=3, keepdims=True)
    overlays = [frames]
    for values in record["maps"][index].astype(np.float32):
        scale = np.quantile(np.abs(values), 0.99) or np.abs(values).max() or 1.0
        alpha = 0.8 * np.clip(np.abs(values) / scale, 0, 1)[..., None]  # the clip stays visible
        color = np.where(values[..., None] > 0, (1.0, 0.45, 0.0), (0.1, 0.4, 1.0))
        overlays.append(np.clip((1 - alpha) * (0.25 + 0.6 * grey) + alpha * color, 0, 1))
    return overlays
