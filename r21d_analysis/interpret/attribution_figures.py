"""Where networks look and what their verdicts rest on, drawn from kept records alone: no network."""

from __future__ import annotations

import base64
import html
import tempfile
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Markdown
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.figure import Figure

from r21d_analysis.interpret.artifact import InsightRecord
from r21d_analysis.interpret.bootstrap import PERTURBATIONS, TILES, fraction_lost
from r21d_analysis.interpret.filter_figures import NOTHING, look_of, name_of, of_kept
from r21d_analysis.style import GRAY, PALETTE

LINES = ("-", "--", ":", "-.")
FEW = 25  # places of a map: of fewer the ranks agree by luck, to 0.5 in one of a hundred pairs of 25


def play_overlays(kept: Sequence[InsightRecord], video: str) -> HTML | Markdown:
    """The video playing under each map, a row a network, a column a method, as an animation for a notebook.

    The stronger the colour the larger the map's share: orange speaks for the class, blue against it.
    """
    there = [(one, list(one["videos"]).index(video)) for one in kept if video in one["videos"]]
    if not there:
        return NOTHING
    methods = methods_of(there[0][0])
    figure, panels = plt.subplots(
        len(there), len(methods) + 1, figsize=(1.25 * (len(methods) + 1), 1.3 * len(there) + 0.35),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    shown = []
    for row, (one, number) in enumerate(there):
        panels[row, 0].set_ylabel(name_of(one).replace(", ", "\n"), size=7)
        for axes, frames, title in zip(panels[row], _overlays(one, number), ["the clip", *methods], strict=True):
            axes.set(xticks=[], yticks=[])
            if row == 0:
                axes.set_title(title.replace(" ", "\n", 1), size=7)
            shown.append((axes.imshow(frames[0]), frames))

    def step(at: int) -> list:
        for image, frames in shown:
            image.set_data(frames[at])
        return [image for image, _ in shown]

    figure.canvas.draw()
    figure.set_layout_engine("none")  # once is enough
    moving = FuncAnimation(figure, step, frames=len(shown[0][1]), init_func=lambda: [], blit=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlays.webp"  # a quarter of a GIF's size, and with all colours
        moving.save(path, PillowWriter(fps=4), dpi=80)
        data = base64.b64encode(path.read_bytes()).decode()
    plt.close(figure)
    one, number = there[0]
    text = f"{video}: maps of {', '.join(name_of(each) for each, _ in there)} for {one['target'][number]}"
    return HTML(f'<img alt="{html.escape(text)}" src="data:image/webp;base64,{data}">')


@of_kept
def overlay_figure(kept: Sequence[InsightRecord], video: str, frames: int = 4) -> Figure | None:
    """`play_overlays` for paper: `frames` frames of the clip and of each map, a row a method, networks side by side."""
    there = [(one, list(one["videos"]).index(video)) for one in kept if video in one["videos"]]
    methods = methods_of(there[0][0])
    figure = plt.figure(
        figsize=(0.85 * frames * len(there) + 1.5, 0.85 * (len(methods) + 1) + 0.7), dpi=80, layout="constrained"
    )
    widths = [0.85 * frames + 1.5, *[0.85 * frames] * (len(there) - 1)]  # the names of methods take 1.5 inches
    parts = figure.subfigures(1, len(there), squeeze=False, width_ratios=widths)[0]
    for first, part, (one, number) in zip([True, *[False] * len(there)], parts, there, strict=False):
        panels = part.subplots(len(methods) + 1, frames, squeeze=False)
        said, asked, share = one["pred"][number], one["target"][number], 100 * one["probability"][number]
        told = f"says {said}, {share:.0f} %" if said == asked else f"says {said}; {asked}: {share:.0f} %"
        part.suptitle(f"{name_of(one)}\n{told}", size=8, parse_math=False)
        for line, title, overlay in zip(panels, ["the clip", *methods], _overlays(one, number), strict=True):
            if first:
                line[0].set_ylabel(title, size=8, rotation=0, ha="right", va="center")
            chosen = np.linspace(0, len(overlay) - 1, frames).round().astype(int)
            for axes, picture in zip(line, overlay[chosen], strict=True):
                axes.imshow(picture)
                axes.set(xticks=[], yticks=[])
    return figure


@of_kept
def gap_figure(kept: Sequence[InsightRecord]) -> Figure:
    """How far maps are from adding up to what they explain, by the steps of the integral; mean over videos."""
    figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
    for one in kept:
        for gaps, name, style in zip(one["gaps"], ("integrated gradients", "DeepLift"), "-:", strict=True):
            mean = np.maximum(100 * gaps.mean(axis=1), 1e-5)
            axes.plot(one["gap_steps"], mean, style, **look_of(one), ms=5, label=f"{name_of(one)}, {name}")
    axes.set(xscale="log", yscale="log", xlabel="steps of integrated gradients", ylabel="completeness gap (%)")
    steps = kept[0]["gap_steps"]
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


@of_kept
def sanity_figure(kept: Sequence[InsightRecord]) -> Figure:
    """Rank correlation of each method's maps with those of shuffled weights, fc first, then group by group.

    Pale: maps of fewer than FEW places, which are not judged.
    """
    figure, panels = plt.subplots(
        1, len(kept), figsize=(3.9 * len(kept) + 1.8, 3.2), sharey=True, squeeze=False, layout="constrained"
    )
    for axes, one in zip(panels[0], kept, strict=True):
        for number, (method, line) in enumerate(zip(methods_of(one), one["correlation"], strict=True)):
            colour, few = PALETTE[(0, 1, 2, 3, 4, 5, 9)[number]], bool(one["resolution"][number] < FEW)
            label, alpha = f"{method}{', not judged' * few}", 0.3 if few else 1
            axes.plot([1, *line], LINES[number % 4], color=colour, alpha=alpha, marker="o", ms=3, label=label)
        axes.axhline(0, color=GRAY, lw=1)
        axes.axhspan(one.metadata["sanity_corr_max"], 1.03, color="black", alpha=0.06, lw=0)
        stages = ("none", "fc", "+conv5_x", "+conv4_x", "+conv3_x", "+conv2_x", "+conv1")
        axes.set_xticks(range(7), stages, rotation=45, size=8)
        axes.set(ylim=(-1, 1.03))
        axes.set_title(name_of(one), size=10)
    panels[0, 0].set_ylabel("rank correlation")
    figure.supxlabel("weights shuffled", size=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=8)
    return figure


@of_kept
def lost_figure(kept: Sequence[InsightRecord]) -> Figure:
    """The share of evidence that is lost when clips are frozen, shuffled or reversed and when regions are hidden.

    A panel a change, a row a class, above them all classes; bars are 95 % intervals over clips. Where a network has no
    evidence for a class to begin with, its point is left out.
    """
    classes = [str(name) for name in kept[0]["classes"]]
    rows = ["all", *classes]
    titles = [*PERTURBATIONS, "most telling\nninth hidden"]
    figure, panels = plt.subplots(
        1, len(titles), figsize=(10.5, 0.28 * len(rows) + 1.5), sharey=True, squeeze=False, layout="constrained"
    )
    height = 0.7 / len(kept)
    for axes, title, change in zip(panels[0], titles, (*PERTURBATIONS, "occluded"), strict=True):
        for place, one in enumerate(kept):
            for row in range(len(rows)):
                share, low, high = 100 * np.array(share_lost(one, change, None if row == 0 else row - 1))
                at = row + (place - (len(kept) - 1) / 2) * height
                named = {"label": name_of(one)} if row == 0 else {}
                spread = np.maximum([[share - low], [high - share]], 0)
                look = {**look_of(one), "ms": 5, "lw": 1, "mec": "white", "ls": "none"}
                axes.errorbar(share, at, xerr=spread, **look, **named)
        axes.axvline(0, color=GRAY, lw=1)
        axes.axvline(100, color=GRAY, lw=1, ls=":")
        axes.set(xlim=(-60, 210), xlabel="evidence lost (%)")
        axes.set_title(title, size=10)
        axes.axhline(0.5, color=GRAY, lw=0.5)
    panels[0, 0].set_yticks(range(len(rows)), rows, parse_math=False)
    panels[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=4)
    return figure


@of_kept
def tiles_figure(kept: Sequence[InsightRecord]) -> Figure:
    """The share of evidence lost when a ninth of the picture is hidden through all frames, over all clips."""
    figure, panels = plt.subplots(
        1, len(kept), figsize=(2.3 * len(kept) + 0.6, 2.5), squeeze=False, layout="constrained"
    )
    grids = [100 * (1 - one["evidence_occluded"].mean(axis=0) / one["evidence_original"].mean()) for one in kept]
    most = max(np.abs(grid).max() for grid in grids)
    for axes, one, grid in zip(panels[0], kept, grids, strict=True):
        image = axes.imshow(grid.reshape(TILES, TILES), cmap="PuOr_r", vmin=-most, vmax=most)
        for at, value in enumerate(grid):
            dark = abs(value) > 0.6 * most
            axes.text(
                at % TILES, at // TILES, f"{value:.0f}", ha="center", va="center", color="white" if dark else "black"
            )
        axes.set(xticks=[], yticks=[])
        axes.grid(False)
        axes.set_title(name_of(one), size=10)
    figure.colorbar(image, ax=panels[0], label="evidence lost (%)", shrink=0.8)
    return figure


def share_lost(one: InsightRecord, change: str, label: int | None = None) -> tuple[float, float, float]:
    """`lost` by one of PERTURBATIONS, or by what is "occluded", over all clips or those of class number `label`."""
    chosen = slice(None) if label is None else one["evidence_label"] == label
    whole, left = one["evidence_original"][chosen], one[f"evidence_{change}"][chosen]
    if change == "occluded":
        # One tile for all clips and classes: the most telling one of each would be luck.
        left = left[:, one["evidence_occluded"].mean(axis=0).argmin()]
    return fraction_lost(whole, left)


def methods_of(one: InsightRecord) -> list[str]:
    """The methods that the record has maps of, in its order."""
    return [str(name) for name in one["methods"]]


def _overlays(one: InsightRecord, number: int) -> list[np.ndarray]:
    """The clip, and for each method the clip in grey under its map, (T, S, S, 3) from 0 to 1 each."""
    frames = one["frames"][number].astype(np.float32) / 255
    grey = frames.mean(axis=3, keepdims=True)
    shown = [frames]
    for values in one["maps"][number].astype(np.float32):
        most = np.quantile(np.abs(values), 0.99) or np.abs(values).max() or 1.0
        share = 0.8 * np.clip(np.abs(values) / most, 0, 1)[..., None]  # never hides the clip
        colour = np.where(values[..., None] > 0, (1.0, 0.45, 0.0), (0.1, 0.4, 1.0))
        shown.append(np.clip((1 - share) * (0.25 + 0.6 * grey) + share * colour, 0, 1))
    return shown
