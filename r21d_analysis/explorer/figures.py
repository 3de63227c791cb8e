"""The explorer's pictures, drawn by these functions under its widgets and in their static twins alike.

Margins are fixed, as laying out anew would take longer than all the rest.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from functools import cache

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

from r21d_analysis.artifacts.figures import GREY, PALETTE, STYLE

DPI = 100
WIDTH = 7.8  # inches: a notebook beside JupyterLab's side bar in a window of 1280 pixels has room for it
LOOKS = {"A": {"color": PALETTE[0], "marker": "o"}, "B": {"color": PALETTE[1], "marker": "s"}}
MARKERS = "osD^vP<>X*"
LONGEST = 24  # letters of a name on an axis
CELL = 22  # pixels of a confusion matrix's cell, with many classes


def class_figure(table: pd.DataFrame, names: Sequence[str], note: str = "") -> Figure:
    """video@1 of the classes of `class_table`, a line each, and where there are two runs the difference beside it.

    `names` are those of A and B; bars are 95 % intervals.
    """
    two = "difference" in table
    height = 0.24 * len(table) + 1.0
    with plt.rc_context(STYLE | {"axes.axisbelow": True}):
        figure = Figure(figsize=(WIDTH, height))
        bottom, top = 0.5 / height, 1 - 0.42 / height
        panels = figure.subplots(
            1, 1 + two, sharey=True, squeeze=False,
            gridspec_kw={"left": 0.25, "right": 0.985, "bottom": bottom, "top": top, "wspace": 0.1},
        )[0]  # fmt: skip
        places = np.arange(len(table))
        for side, name in zip("AB", names, strict=False):
            at = places + (0.14 if side == "B" else -0.14) * two
            _with_bars(panels[0], table[side], table[f"{side} low"], table[f"{side} high"], at, LOOKS[side])
            x = 0.25 if side == "A" else 0.62
            figure.text(x, 1 - 0.2 / height, f"{'●' if side == 'A' else '■'} {side}: {_short(name, 32)}",
                        color=LOOKS[side]["color"], va="center", parse_math=False)  # fmt: skip
        panels[0].set(xlim=(-2, 102), xlabel="video@1 (%)", ylim=(len(table) - 0.4, -0.6))
        labels = [f"{_short(row[0])}  {row[1]}" for row in table[["class", "n"]].itertuples(index=False)]
        _label_rows(panels[0], labels)
        if two:
            look = {"color": "black", "marker": "D"}
            _with_bars(panels[1], table["difference"], table["low"], table["high"], places, look)
            panels[1].axvline(0, color=GREY, lw=1)
            reach = float(np.nanmax(np.abs(table[["low", "high"]].to_numpy()), initial=10)) * 1.05
            panels[1].set(xlim=(-reach, reach), xlabel="A less B (points)")
        for axes in panels:
            axes.set_yticks([])
            axes.hlines(places, 0, 1, color=STYLE["grid.color"], lw=0.8, zorder=0, transform=axes.get_yaxis_transform())
        if note:
            figure.text(0.01, 1 - 0.2 / height, note, color=GREY, size=8, va="center")
    return figure


def confusion_figure(names: Sequence[str], counts: np.ndarray, note: str = "") -> Figure:
    """How often each class was taken for each: rows are the class, columns the guess, colour the share of the row.

    The last column holds all other guesses where there is one more than rows.
    """
    rows, columns = counts.shape
    cell = max(CELL, min(44, 420 // max(rows, 1)))
    longest = max(min(LONGEST, len(name)) for name in [*names, "all others"])
    left, bottom, top = 190, 24 + 7 * longest, 28
    width, height = left + columns * cell + 16, top + rows * cell + bottom
    with plt.rc_context(STYLE | {"axes.grid": False}):
        figure = Figure(figsize=(width / DPI, height / DPI))
        axes = figure.add_axes((left / width, bottom / height, columns * cell / width, rows * cell / height))
        share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        row, column = counts.nonzero()
        _write_numbers(axes, column, row, counts[row, column], np.where(share[row, column] > 0.5, "white", "black"))
        labels = [_short(name) for name in names]
        _label_rows(axes, labels)
        for column, label in enumerate([*labels, "all others"][:columns]):
            axes.text(column, -0.01, label, transform=axes.get_xaxis_transform(), rotation=90, ha="center", va="top",
                      size=9, parse_math=False)  # fmt: skip
        axes.set(xticks=[], yticks=[])
        figure.text(8 / width, 1 - (top - 8) / height, "class ↓   taken for →", size=9)
        axes.hlines(np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color="#e4e4e4", lw=0.8)
        axes.vlines(np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color="#e4e4e4", lw=0.8)
        if note:
            figure.text(0.01, 6 / height, note, color=GREY, size=8)
    return figure


def cells_of(figure: Figure) -> tuple[int, int, int, int]:
    """Where the matrix of a `confusion_figure` lies in its picture, in pixels: left, top, width, height."""
    box, (width, height) = figure.axes[0].get_position(), figure.get_size_inches() * DPI
    return round(box.x0 * width), round((1 - box.y1) * height), round(box.width * width), round(box.height * height)


def time_figure(
    panels: Sequence[tuple[str, Sequence[str], np.ndarray, np.ndarray]],
    at: np.ndarray | None = None,
    unit: str = "clip",
    true: str | None = None,
    note: str = "",
) -> Figure:
    """The likeliest classes of a video over time, a panel a run; the class that is right in bold.

    A panel is a title, the names of the classes (k,), their mean probability (k,) and that of each clip (clips, k).
    `at` says where the clips' middles lie, in `unit`; without it clips are counted.
    """
    height = 3.9
    named = list(dict.fromkeys(name for _, names, *_ in panels for name in names))
    looks = {  # of a class the same in all panels
        name: {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}
        for place, name in enumerate(named)
    }
    with plt.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        grid = figure.subplots(
            1, len(panels), squeeze=False, sharey=True,
            gridspec_kw={"left": 0.075, "right": 0.985, "bottom": 0.47, "top": 0.93, "wspace": 0.06},
        )[0]  # fmt: skip
        for axes, (title, names, means, each) in zip(grid, panels, strict=True):
            x = np.arange(1, len(each) + 1) if at is None else at
            left, right = axes.get_position().x0, axes.get_position().x1
            for place, (name, mean, values) in enumerate(zip(names, means, each.T, strict=True)):
                axes.plot(x, 100 * values, **looks[name], ms=5, lw=1.6, mec="white", mew=0.5)
                y = 0.31 - 0.06 * place
                figure.add_artist(Line2D([left + 0.01], [y + 0.012], **looks[name], ms=7, mec="white", ls="none"))
                figure.text(left + 0.025, y, f"{mean:6.1%}  {_short(name, round(75 * (right - left)))}",
                            parse_math=False, size=9, weight="bold" if name == true else "normal")  # fmt: skip
            axes.set_title(_short(title, 48), size=10, loc="left", parse_math=False)
            axes.set(ylim=(-3, 103))
            axes.text(0.5, -0.2, "clip" if at is None else f"middle of the clip ({unit})", ha="center", va="top",
                      transform=axes.transAxes)  # fmt: skip
            if at is None:
                axes.xaxis.get_major_locator().set_params(integer=True)
        grid[0].set_ylabel("probability (%)")
        if note:
            figure.text(0.01, 0.012, note, color=GREY, size=8)
    return figure


def strip_figure(frames: np.ndarray, at: Sequence[str]) -> Figure:
    """Frames (n, H, W, 3) uint8 side by side, `at` under each."""
    ratio = frames.shape[1] / frames.shape[2]
    width = min(WIDTH / len(frames), WIDTH / 6)
    height = width * ratio + 0.25
    figure = Figure(figsize=(WIDTH, height))
    for place, (frame, label) in enumerate(zip(frames, at, strict=True)):
        axes = figure.add_axes((place * width / WIDTH, 0.25 / height, 0.985 * width / WIDTH, 1 - 0.25 / height))
        axes.imshow(frame, aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel(label, size=8, labelpad=2)
    return figure


def png_of(figure: Figure) -> bytes:
    """The figure as a PNG picture of DPI, quickly written."""
    return _saved(figure, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})


def pdf_of(figure: Figure) -> bytes:
    """The figure as a PDF, for a paper."""
    return _saved(figure, format="pdf")


def _saved(figure: Figure, **how) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # a class may be named in letters that the font lacks; lists show them
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, **how)
    return buffer.getvalue()


def _label_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Names to the left of rows 0, 1, …; as ticks they would take three times as long to draw."""
    for row, label in enumerate(labels):
        axes.text(-0.01, row, label, transform=axes.get_yaxis_transform(), ha="right", va="center", size=9,
                  parse_math=False)  # fmt: skip


def _with_bars(axes: Axes, values, low, high, at, look: dict) -> None:
    axes.hlines(at, low, high, color=look["color"], lw=1.2)
    axes.plot(values, at, **look, ms=5.5, mec="white", mew=0.5, ls="none")


@cache
def _digits(number: int) -> Path:
    """The outline of a number, about its middle, in points."""
    path = TextPath((0, 0), str(number), size=8)
    return path.transformed(Affine2D().translate(*-path.get_extents().get_points().mean(axis=0)))


def _write_numbers(axes: Axes, x, y, numbers, colours) -> None:
    """Numbers in cells as one collection of outlines: hundreds of texts would take a second."""
    figure = axes.figure
    written = PathCollection(
        [_digits(int(number)) for number in numbers], offsets=np.column_stack([x, y]),
        offset_transform=axes.transData, facecolors=colours, linewidths=0,
    )  # fmt: skip
    written.set_transform(Affine2D().scale(1 / 72) + figure.dpi_scale_trans)
    axes.add_collection(written, autolim=False)


def _short(name: str, most: int = LONGEST) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
