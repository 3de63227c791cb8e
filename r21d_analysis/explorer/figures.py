"""Figures of the explorer, drawn under its widgets and as static pictures alike.

Margins are fixed: an automatic layout would take longer than all the rest.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from r21d_analysis.interpret.html import DPI
from r21d_analysis.style import GRAY, PALETTE, RC_PARAMS, isolate, write_minus

WIDTH = 7.8  # inches: fits a notebook beside JupyterLab's side bar in a window of 1280 pixels
SIDE_STYLE = {"A": {"color": PALETTE[0], "marker": "o"}, "B": {"color": PALETTE[1], "marker": "s"}}
MARKERS = "osD^vP<>X*"
MAX_LABEL = 24  # characters of a name on an axis
MIN_CELL = 22  # pixels of a cell of a large confusion matrix
# From white to the dark colors of A and B in other figures, in which people who do not see red or green differ least.
MATRIX_COLORS = ListedColormap([*colormaps["Oranges_r"](range(256)), *colormaps["Blues"](range(256))])
DARK_CELLS = -0.767, 0.715  # values of a cell beyond which white numbers have the higher contrast, 4.5:1 or more


def class_figure(table: pd.DataFrame, names: Sequence[str], note: str = "") -> Figure:
    """Plot the recall of the classes of `class_table`, a row each, and beside it the difference of two networks.

    `names` are those of A and B; bars are 95 % intervals.
    """
    paired = "A − B" in table
    height = 0.24 * len(table) + 1.0
    with plt.rc_context({**RC_PARAMS, "axes.axisbelow": True}):
        figure = Figure(figsize=(WIDTH, height))
        bottom, top = 0.5 / height, 1 - 0.42 / height
        panels = figure.subplots(
            1, 1 + paired, sharey=True, squeeze=False,
            gridspec_kw={"left": 0.25, "right": 0.985, "bottom": bottom, "top": top, "wspace": 0.1},
        )[0]  # fmt: skip
        rows = np.arange(len(table))
        for side, name, x in zip("AB", names, (0.25, 0.62), strict=False):
            y = rows + (0.14 if side == "B" else -0.14) * paired
            _plot_intervals(panels[0], table, (f"{side} recall", f"{side} low", f"{side} high"), y, SIDE_STYLE[side])
            y = 1 - 0.2 / height
            figure.add_artist(Line2D([x + 0.008], [y], **SIDE_STYLE[side], ms=7, ls="none"))
            label = textwrap.fill(f"{side}: {_shorten(name, 52)}", 36)  # two lines fill the margin
            figure.text(x + 0.02, y, label, va="center", size=9)
        panels[0].set(xlim=(-2, 102), xlabel="recall = video@1 (%)", ylim=(len(table) - 0.4, -0.6))
        items = zip(table["class"], table["items"], strict=True)
        _label_rows(panels[0], [f"{_shorten(name)}  {n}" for name, n in items])
        if paired:
            _plot_intervals(panels[1], table, ("A − B", "low", "high"), rows, {"color": GRAY, "marker": "D"})
            panels[1].axvline(0, color=GRAY, lw=1)
            limit = float(np.nanmax(np.abs(table[["A − B", "low", "high"]].to_numpy()), initial=10)) * 1.05
            panels[1].set(xlim=(-limit, limit), xlabel="A − B (points)")
        for axes in panels:
            axes.set_yticks(rows)
            axes.tick_params(axis="y", length=0, labelleft=False)
        _write_note(figure, note, 1 - 0.2 / height, va="center")
    return figure


def confusion_figure(
    names: Sequence[str], counts: np.ndarray, n_items: np.ndarray, percent: bool = False, note: str = ""
) -> Figure:
    """Plot `counts` (k, k) or (k, k + 1): rows are the classes `names`, columns predictions, color the row's fraction.

    With one column more than rows, the last column holds all other predictions. Fractions are those of `n_items` (k,);
    with `percent` they are the numbers, else counts. With counts below 0, which are differences, numbers have signs.
    """
    n_rows, n_columns = counts.shape
    cell = max(MIN_CELL, min(44, 420 // max(n_rows, 1)))
    longest = max(min(MAX_LABEL, len(name)) for name in [*names, "all others"])
    left, bottom, top = 190, 24 + 7 * longest, 28
    width, height = left + n_columns * cell + 16, top + n_rows * cell + bottom
    with plt.rc_context({**RC_PARAMS, "axes.grid": False}):
        figure = Figure(figsize=(width / DPI, height / DPI))
        axes = figure.add_axes((left / width, bottom / height, n_columns * cell / width, n_rows * cell / height))
        fraction = counts / np.maximum(n_items, 1)[:, None]
        value = np.sign(counts) * 0.2 + 0.8 * fraction  # an empty cell is transparent, all others differ from white
        axes.imshow(np.where(counts, value, np.nan), cmap=MATRIX_COLORS, vmin=-1, vmax=1, aspect="auto")
        row, column = counts.nonzero()
        values = (100 * fraction if percent else counts)[row, column]
        form = f"{'+' if (counts < 0).any() else ''}.{0 if percent else 1}f"
        numbers = [write_minus(format(value, form).removesuffix(".0")) for value in values]
        is_dark = (value < DARK_CELLS[0]) | (value > DARK_CELLS[1])
        outlines = [_number_outline(number, (cell - 2) * 72 / DPI) for number in numbers]
        _draw_outlines(axes, column, row, outlines, np.where(is_dark[row, column], "white", "black"))
        labels = [_shorten(name) for name in names]
        _label_rows(axes, labels)
        for position, label in enumerate([*labels, "all others"][:n_columns]):
            axes.text(position, -0.01, label, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top",
                      size=9)  # fmt: skip
        axes.set(xticks=[], yticks=[])
        figure.text(8 / width, 1 - (top - 8) / height, "class ↓   predicted →", size=9)
        axes.hlines(np.arange(1, n_rows) - 0.5, -0.5, n_columns - 0.5, color=RC_PARAMS["grid.color"], lw=0.8)
        axes.vlines(np.arange(1, n_columns) - 0.5, -0.5, n_rows - 0.5, color=RC_PARAMS["grid.color"], lw=0.8)
        _write_note(figure, note, 6 / height)
    return figure


def matrix_cell(figure: Figure, x: float, y: float) -> int | None:
    """Return the number of the cell, row by row, at pixel (x, y) of a `confusion_figure`'s image; None outside."""
    (width, height), axes = figure.get_size_inches() * DPI, figure.axes[0]
    box, (n_rows, n_columns) = axes.get_position(), axes.images[0].get_size()
    row = int(np.floor((y / height - 1 + box.y1) / box.height * n_rows))
    column = int(np.floor((x / width - box.x0) / box.width * n_columns))
    return row * n_columns + column if 0 <= row < n_rows and 0 <= column < n_columns else None


def time_figure(
    panels: Sequence[tuple[str, Sequence[str], Sequence[int], np.ndarray, np.ndarray]],
    times: np.ndarray | None = None,
    unit: str = "clip",
    true: str | None = None,
    note: str = "",
) -> Figure:
    """Plot the most probable classes of a video over time, a panel a network, the true class in bold.

    A panel is a title, class names (k,), their ranks (k,), mean probabilities (k,) and those of each clip (clips, k).
    `times` (clips,) are the clips' centers in `unit`; without them the x axis is the number of the clip.
    """
    classes = list(dict.fromkeys(name for _, names, *_ in panels for name in names))
    styles = {  # a class has the same style in all panels
        name: {"color": PALETTE[index % len(PALETTE)], "marker": MARKERS[index % len(MARKERS)]}
        for index, name in enumerate(classes)
    }
    with plt.rc_context(RC_PARAMS):
        figure = Figure(figsize=(WIDTH, 4.1))
        grid = figure.subplots(
            1, len(panels), squeeze=False, sharey=True,
            gridspec_kw={"left": 0.075, "right": 0.985, "bottom": 0.5, "top": 0.93, "wspace": 0.06},
        )[0]  # fmt: skip
        for axes, (title, names, ranks, means, probabilities) in zip(grid, panels, strict=True):
            x = np.arange(1, len(probabilities) + 1) if times is None else times
            left, right = axes.get_position().x0, axes.get_position().x1
            for index, (name, rank, mean) in enumerate(zip(names, ranks, means, strict=True)):
                axes.plot(x, 100 * probabilities[:, index], **styles[name], ms=5, lw=1.6, mec="white", mew=0.5)
                y = 0.335 - 0.056 * index
                figure.add_artist(Line2D([left + 0.01], [y + 0.012], **styles[name], ms=7, mec="white", ls="none"))
                figure.text(left + 0.025, y, f"{rank}.  {mean:6.1%}  {_shorten(name, round(70 * (right - left)))}",
                            size=9, weight="bold" if name == true else "normal")  # fmt: skip
            # Without y Matplotlib lays out both axes to find a place above their labels, of which none is there.
            axes.set_title(_shorten(title, round(105 * (right - left))), size=10, loc="left", y=1.0)
            axes.set(ylim=(-3, 103))
            axes.text(0.5, -0.2, "clip" if times is None else f"center of the clip ({unit})", ha="center", va="top",
                      transform=axes.transAxes)  # fmt: skip
            if times is None:
                axes.xaxis.get_major_locator().set_params(integer=True)
        grid[0].set_ylabel("probability (%)")
        _write_note(figure, note, 0.012)
    return figure


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Write labels left of rows 0, 1, …; tick labels would take three times as long to draw."""
    for row, label in enumerate(labels):
        axes.text(-0.01, row, label, transform=axes.get_yaxis_transform(), ha="right", va="center", size=9)


def _plot_intervals(axes: Axes, table: pd.DataFrame, columns: tuple[str, str, str], y: np.ndarray, style: dict) -> None:
    value, low, high = (table[name] for name in columns)
    axes.hlines(y, low, high, color=style["color"], lw=1.2)
    axes.plot(value, y, **style, ms=5.5, mec="white", mew=0.5, ls="none")


def _write_note(figure: Figure, note: str, y: float, **options) -> None:
    figure.text(0.01, y, note, color=GRAY, size=8, **options)


@cache
def _number_outline(number: str, width: float) -> Path:
    """Return the centered outline of a number, in points, smaller where it would be wider than `width`."""
    path = TextPath((0, 0), number, size=8)
    box = path.get_extents()
    center = Affine2D().translate(*-box.get_points().mean(axis=0))
    return path.transformed(center.scale(min(1, width / box.width)))


def _draw_outlines(axes: Axes, x, y, outlines: Sequence[Path], colors) -> None:
    """Draw the numbers in cells as one collection: hundreds of texts would take a second."""
    offsets = {"offsets": np.column_stack([x, y]), "offset_transform": axes.transData}
    numbers = PathCollection(outlines, **offsets, facecolors=colors, linewidths=0)
    numbers.set_transform(Affine2D().scale(1 / 72) + axes.figure.dpi_scale_trans)
    axes.add_collection(numbers, autolim=False)


def _shorten(name: str, length: int = MAX_LABEL) -> str:
    """Leave out the middle of a long name: names of actions and runs often begin alike. It stands in other text."""
    tail = (length - 1) * 2 // 5
    return isolate(name if len(name) <= length else f"{name[: length - 1 - tail]}…{name[-tail:]}")
