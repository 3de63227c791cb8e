"""Figures of the explorer, drawn under its widgets and as static pictures alike.

Margins are fixed: an automatic layout would take longer than all the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from r21d_analysis.interpret.html import DPI
from r21d_analysis.style import GRAY, PALETTE, RC_PARAMS

WIDTH = 7.8  # inches: fits a notebook beside JupyterLab's side bar in a window of 1280 pixels
SIDE_STYLE = {"A": {"color": PALETTE[0], "marker": "o"}, "B": {"color": PALETTE[1], "marker": "s"}}
MARKERS = "osD^vP<>X*"
MAX_LABEL = 24  # characters of a name on an axis
MIN_CELL = 22  # pixels of a cell of a large confusion matrix
RC: dict[Any, Any] = {**RC_PARAMS, "text.parse_math": False}


def class_figure(table: pd.DataFrame, names: Sequence[str], note: str = "") -> Figure:
    """Plot video@1 of the classes of `class_table`, a row each, and beside it the difference of two runs.

    `names` are those of A and B; bars are 95 % intervals.
    """
    paired = "difference" in table
    height = 0.24 * len(table) + 1.0
    with plt.rc_context({**RC, "axes.axisbelow": True}):
        figure = Figure(figsize=(WIDTH, height))
        bottom, top = 0.5 / height, 1 - 0.42 / height
        panels = figure.subplots(
            1, 1 + paired, sharey=True, squeeze=False,
            gridspec_kw={"left": 0.25, "right": 0.985, "bottom": bottom, "top": top, "wspace": 0.1},
        )[0]  # fmt: skip
        rows = np.arange(len(table))
        for side, name in zip("AB", names, strict=False):
            y = rows + (0.14 if side == "B" else -0.14) * paired
            _plot_intervals(panels[0], table[side], table[f"{side} low"], table[f"{side} high"], y, SIDE_STYLE[side])
            x = 0.25 if side == "A" else 0.62
            figure.text(x, 1 - 0.2 / height, f"{'●' if side == 'A' else '■'} {side}: {_shorten(name, 32)}",
                        color=SIDE_STYLE[side]["color"], va="center")  # fmt: skip
        panels[0].set(xlim=(-2, 102), xlabel="video@1 (%)", ylim=(len(table) - 0.4, -0.6))
        _label_rows(panels[0], [f"{_shorten(name)}  {n}" for name, n in zip(table["class"], table["n"], strict=True)])
        if paired:
            style = {"color": "black", "marker": "D"}
            _plot_intervals(panels[1], table["difference"], table["low"], table["high"], rows, style)
            panels[1].axvline(0, color=GRAY, lw=1)
            limit = float(np.nanmax(np.abs(table[["low", "high"]].to_numpy()), initial=10)) * 1.05
            panels[1].set(xlim=(-limit, limit), xlabel="A − B (points)")
        for axes in panels:
            axes.set_yticks([])
            axes.hlines(
                rows, 0, 1, color=RC_PARAMS["grid.color"], lw=0.8, zorder=0, transform=axes.get_yaxis_transform()
            )
        if note:
            figure.text(0.01, 1 - 0.2 / height, note, color=GRAY, size=8, va="center")
    return figure


def confusion_figure(names: Sequence[str], counts: np.ndarray, note: str = "") -> Figure:
    """Plot a confusion matrix: rows are classes, columns predictions, color the fraction of the row.

    With one column more than rows, the last column holds all other predictions.
    """
    n_rows, n_columns = counts.shape
    cell = max(MIN_CELL, min(44, 420 // max(n_rows, 1)))
    longest = max(min(MAX_LABEL, len(name)) for name in [*names, "all others"])
    left, bottom, top = 190, 24 + 7 * longest, 28
    width, height = left + n_columns * cell + 16, top + n_rows * cell + bottom
    with plt.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(width / DPI, height / DPI))
        axes = figure.add_axes((left / width, bottom / height, n_columns * cell / width, n_rows * cell / height))
        fraction = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(fraction, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        row, column = counts.nonzero()
        _write_numbers(axes, column, row, counts[row, column], np.where(fraction[row, column] > 0.5, "white", "black"))
        labels = [_shorten(name) for name in names]
        _label_rows(axes, labels)
        for position, label in enumerate([*labels, "all others"][:n_columns]):
            axes.text(position, -0.01, label, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top",
                      size=9)  # fmt: skip
        axes.set(xticks=[], yticks=[])
        figure.text(8 / width, 1 - (top - 8) / height, "class ↓   predicted →", size=9)
        axes.hlines(np.arange(1, n_rows) - 0.5, -0.5, n_columns - 0.5, color="#e4e4e4", lw=0.8)
        axes.vlines(np.arange(1, n_columns) - 0.5, -0.5, n_rows - 0.5, color="#e4e4e4", lw=0.8)
        if note:
            figure.text(0.01, 6 / height, note, color=GRAY, size=8)
    return figure


def matrix_box(figure: Figure) -> tuple[int, int, int, int]:
    """Return the box of the matrix in a `confusion_figure`'s image, in pixels: left, top, width, height."""
    box, (width, height) = figure.axes[0].get_position(), figure.get_size_inches() * DPI
    return round(box.x0 * width), round((1 - box.y1) * height), round(box.width * width), round(box.height * height)


def time_figure(
    panels: Sequence[tuple[str, Sequence[str], np.ndarray, np.ndarray]],
    times: np.ndarray | None = None,
    unit: str = "clip",
    true: str | None = None,
    note: str = "",
) -> Figure:
    """Plot the most probable classes of a video over time, a panel a run, the true class in bold.

    A panel is a title, class names (k,), their mean probabilities (k,) and those of each clip (clips, k). `times`
    (clips,) are the clips' centers in `unit`; without them the x axis is the number of the clip.
    """
    height = 3.9
    classes = list(dict.fromkeys(name for _, names, *_ in panels for name in names))
    styles = {  # a class has the same style in all panels
        name: {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}
        for index, name in enumerate(classes)
    }
    with plt.rc_context(RC):
        figure = Figure(figsize=(WIDTH, height))
        grid = figure.subplots(
            1, len(panels), squeeze=False, sharey=True,
            gridspec_kw={"left": 0.075, "right": 0.985, "bottom": 0.47, "top": 0.93, "wspace": 0.06},
        )[0]  # fmt: skip
        for axes, (title, names, means, probabilities) in zip(grid, panels, strict=True):
            x = np.arange(1, len(probabilities) + 1) if times is None else times
            left, right = axes.get_position().x0, axes.get_position().x1
            for index, (name, mean, values) in enumerate(zip(names, means, probabilities.T, strict=True)):
                axes.plot(x, 100 * values, **styles[name], ms=5, lw=1.6, mec="white", mew=0.5)
                y = 0.31 - 0.06 * index
                figure.add_artist(Line2D([left + 0.01], [y + 0.012], **styles[name], ms=7, mec="white", ls="none"))
                figure.text(left + 0.025, y, f"{mean:6.1%}  {_shorten(name, round(75 * (right - left)))}",
                            size=9, weight="bold" if name == true else "normal")  # fmt: skip
            axes.set_title(_shorten(title, 48), size=10, loc="left")
            axes.set(ylim=(-3, 103))
            axes.text(0.5, -0.2, "clip" if times is None else f"center of the clip ({unit})", ha="center", va="top",
                      transform=axes.transAxes)  # fmt: skip
            if times is None:
                axes.xaxis.get_major_locator().set_params(integer=True)
        grid[0].set_ylabel("probability (%)")
        if note:
            figure.text(0.01, 0.012, note, color=GRAY, size=8)
    return figure


def frames_figure(frames: np.ndarray, labels: Sequence[str]) -> Figure:
    """Show uint8 frames (n, H, W, 3) side by side, each with its label below."""
    width = min(WIDTH / len(frames), WIDTH / 6)
    height = width * frames.shape[1] / frames.shape[2] + 0.25
    figure = Figure(figsize=(WIDTH, height))
    for index, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        axes = figure.add_axes((index * width / WIDTH, 0.25 / height, 0.985 * width / WIDTH, 1 - 0.25 / height))
        axes.imshow(frame, aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(label, size=8, labelpad=2)
    return figure


def sample_frames(times: np.ndarray, unit: str, most: int = 10) -> tuple[np.ndarray, list[str]]:
    """Return the indices of at most `most` of the clips with centers `times`, evenly spaced, and their labels."""
    index = np.unique(np.linspace(0, len(times) - 1, min(most, len(times))).astype(int))
    return index, [f"{time:.4g}{' s' * (unit == 's')}" for time in times[index]]


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Write labels left of rows 0, 1, …; tick labels would take three times as long to draw."""
    for row, label in enumerate(labels):
        axes.text(-0.01, row, label, transform=axes.get_yaxis_transform(), ha="right", va="center", size=9)


def _plot_intervals(axes: Axes, values, low, high, y, style: dict) -> None:
    axes.hlines(y, low, high, color=style["color"], lw=1.2)
    axes.plot(values, y, **style, ms=5.5, mec="white", mew=0.5, ls="none")


@cache
def _number_outline(number: int) -> Path:
    """Return the centered outline of a number, in points."""
    path = TextPath((0, 0), str(number), size=8)
    return path.transformed(Affine2D().translate(*-path.get_extents().get_points().mean(axis=0)))


def _write_numbers(axes: Axes, x, y, numbers, colors) -> None:
    """Write numbers in cells as one collection of outlines: hundreds of texts would take a second."""
    outlines = PathCollection(
        [_number_outline(int(number)) for number in numbers], offsets=np.column_stack([x, y]),
        offset_transform=axes.transData, facecolors=colors, linewidths=0,
    )  # fmt: skip
    outlines.set_transform(Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    axes.add_collection(outlines, autolim=False)


def _shorten(name: str, length: int = MAX_LABEL) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
