"""The architectures drawn: Figures 1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from math import sqrt
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from r21d_analysis.artifacts.architecture import CLASSES, CROP, format_size, midplanes_formula, stages_of
from r21d_analysis.style import COLORS, GRAY, close_figure, figure_style
from r21d_core import R21DError
from r21d_core.models.architecture import midplanes
from r21d_core.models.cost import cost

# The name, color and hatch of each letter of a variant.
LETTERS = {
    "c": ("2-D, whole clip", COLORS["R2D"], "..."),
    "2": ("2-D", COLORS["R2D"], ""),
    "3": ("3-D", COLORS["R3D"], "////"),
    "p": ("(2+1)D", COLORS["R(2+1)D"], "xxx"),
}
ABLATION = "ablation", COLORS["between"], "++"  # the kernels under it say which
FIGURE_1 = (
    ("R2D", "f-R2D", "R3D", "R(2+1)D"),
    ("MC2", "MC3", "MC4", "MC5"),
    ("rMC2", "rMC3", "rMC4", "rMC5"),
)
PLAIN = {"facecolor": "#ededed", "edgecolor": GRAY, "hatch": ""}  # the clip, pooling and fc
LEGEND = "A sheet is a frame of the output; the side of a sheet grows with √H."


@figure_style()
def draw_network(variant: str, depth: int = 18, width: int = 64, frames: int = 8) -> Figure:
    """One network as in Figure 1, from clip to classes, with each stage's kernels, stride and output size.

    A stack has a sheet for each frame that leaves the stage.
    """
    stages = stages_of(variant, depth, width, frames)
    texts = [stage.lines() for stage in stages]
    tall = 0.145 * max(text.count("\n") + 1 for text in texts)
    columns = [0.5 + 0.85 + 1.47 * number for number in range(6)] + [9.95, 10.85]
    figure, axes = _canvas(11.5, 3.95 + tall)
    center, top = 2.85 + tall, 1.95 + tall
    size = (frames, CROP, CROP)
    edges = [_stack(axes, columns[0], center, 0.9, size, frames, 0.45, PLAIN)]
    for x, stage in zip(columns[1:], stages, strict=False):
        edges.append(_stack(axes, x, center, 0.9, stage.size, frames, 0.45, _look(stage.letter)))
    edges += [_stack(axes, x, center, 0.9, (1, 2, 2), frames, 0.45, PLAIN) for x in columns[6:]]
    for (_, right), (left, _) in pairwise(edges):
        _arrow(axes, right + 0.03, left - 0.03, center)
    outputs = stages[-1].channels
    rows = {
        "": (["clip", *(stage.name for stage in stages), "pool", "fc"], 0),
        "convolution": (["", *(LETTERS.get(stage.letter, ABLATION)[0] for stage in stages), "", ""], 0.24),
        "output,\nT×H×W": (
            [format_size(size), *(format_size(stage.size) for stage in stages), "1×1×1", f"{CLASSES} classes"],
            0.5,
        ),
        "channels": (["3", *(str(stage.channels) for stage in stages), str(outputs), ""], 0.92),
        "stride": (["", *(format_size(stage.stride) for stage in stages), "", ""], 1.16),
        "kernels,\nfilters": (["", *texts, "mean over\nT, H, W", ""], 1.42),
    }
    for label, (cells, down) in rows.items():
        axes.text(0.12, top - down, label, va="top", size=8, color=GRAY)
        for x, cell in zip(columns, cells, strict=True):
            axes.text(x, top - down, cell, ha="center", va="top", size=8.5, weight="normal" if label else "bold")
    c = cost(variant, depth, width, frames, CLASSES)
    macs = f"{c.macs / 1e9:.3f} GMAC" if c.macs >= 1e8 else f"{c.macs / 1e6:.1f} MMAC"
    title = f"{variant}, {depth} layers: {c.parameters:,} parameters, {macs} for a clip of {frames} frames"
    axes.text(0.12, 3.78 + tall, title, weight="bold", va="center")
    axes.text(0.12, 0.14, LEGEND, size=8, color=GRAY, va="center")
    return close_figure(figure)


@figure_style()
def draw_all(depth: int = 18, width: int = 64, frames: int = 8) -> Figure:
    """Figure 1 for all twelve networks: under each stage its kind of convolution and T, the frames that leave it."""
    figure, panels = plt.subplots(3, 4, figsize=(11.5, 5.6))
    figure.subplots_adjust(0.01, 0.1, 0.99, 0.95, 0.04, 0.16)
    for axes, variant in zip(panels.flat, (name for row in FIGURE_1 for name in row), strict=True):
        axes.set(xlim=(0, 2.8), ylim=(-0.62, 0.84), aspect="equal", title=variant)
        axes.title.set(size=10, weight="bold")
        axes.set_axis_off()
        for number, stage in enumerate(stages_of(variant, depth, width, frames)):
            x = 0.3 + 0.55 * number
            _stack(axes, x, 0.42, 0.49, stage.size, frames, 0.16, _look(stage.letter))
            axes.text(x, -0.06, stage.name, ha="center", va="top", size=7, color=GRAY)
            axes.text(x, -0.22, LETTERS[stage.letter][0].split(",")[0], ha="center", va="top", size=8)
            axes.text(x, -0.4, f"T = {stage.size[0]}", ha="center", va="top", size=8)
    handles = [Patch(**_look(letter), label=name) for letter, (name, *_) in LETTERS.items()]
    figure.legend(handles=handles, loc="lower left", ncols=4, frameon=False, fontsize=9, bbox_to_anchor=(0.005, -0.002))
    figure.text(0.985, 0.028, LEGEND, size=8, color=GRAY, ha="right", va="center")
    return close_figure(figure)


@figure_style()
def draw_factorization(inputs: int = 64, outputs: int = 64) -> Figure:
    """Figure 2: a 3-D convolution from `inputs` to `outputs` channels beside its (2+1)D pair, with M_i and weights."""
    if inputs < 1 or outputs < 1:
        raise R21DError(f"channels {inputs} → {outputs}: expected 1 or more of each")
    mid = midplanes(inputs, outputs)
    full, spatial, temporal = 27 * inputs * outputs, 9 * inputs * mid, 3 * mid * outputs
    figure, axes = _canvas(11, 3.9)
    for x, time, side, letter in ((1.8, 3, 3, "3"), (5.5, 1, 3, "p"), (9.0, 3, 1, "p")):
        _kernel(axes, x, 2.42, time, side, _look(letter))
    _arrow(axes, 6.4, 8.4, 2.42)
    axes.text(7.4, 2.5, f"{mid} planes\nBN, ReLU", ha="center", va="bottom", size=9)
    for x, title in ((1.8, "(a) 3-D convolution"), (7.25, "(b) (2+1)D convolution")):
        axes.text(x, 3.68, title, ha="center", va="center", weight="bold")
    for x, text in (
        (1.8, f"3×3×3, {inputs} → {outputs}\n3·3·3·{inputs}·{outputs} = {full:,} weights"),
        (5.5, f"1×3×3, {inputs} → {mid}\n1·3·3·{inputs}·{mid} = {spatial:,} weights"),
        (9.0, f"3×1×1, {mid} → {outputs}\n3·1·1·{mid}·{outputs} = {temporal:,} weights"),
    ):
        axes.text(x, 1.3, text, ha="center", va="top", size=9.5)
    percent = 100 * (spatial + temporal) / full
    together = f"together {spatial + temporal:,} weights, {percent:.1f} % of those of (a), and one more ReLU"
    axes.text(7.25, 0.7, together, ha="center", va="top", size=9.5)
    axes.text(7.25, 0.38, f"M = {midplanes_formula(inputs, outputs, 3)} = {mid}", ha="center", va="top", size=9.5)
    axes.text(0.12, 0.14, "each square is a weight; each sheet is one frame of the kernel", size=8, color=GRAY)
    return close_figure(figure)


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose one axes measures it in inches, so that places are plain arithmetic."""
    figure = plt.figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def _look(letter: str) -> dict[str, Any]:
    _, color, hatch = LETTERS.get(letter, ABLATION)
    return {"facecolor": color, "edgecolor": "white", "hatch": hatch}


def _stack(
    axes: Axes, x: float, y: float, side: float, size: Sequence[int], frames: int, depth: float, look: dict[str, Any]
) -> tuple[float, float]:
    """Draw sheets for an output of `size` = T, H, W, centered on x, y; returns its left and right end.

    In inches, `side` is that of the input's sheet and `depth` the thickness of a whole clip.
    """
    step, side = depth / frames, side * sqrt(size[1] / CROP)
    left, bottom = (center - (side + (size[0] - 1) * step) / 2 for center in (x, y))
    for number in reversed(range(size[0])):  # the farthest first, and the hatch on the nearest alone
        corner = (left + number * step, bottom + number * step)
        sheet: dict[str, Any] = look | {"hatch": "" if number else look["hatch"]}
        axes.add_patch(Rectangle(corner, side, side, **sheet, lw=min(0.6, 20 * step)))
    return left, left + side + (size[0] - 1) * step


def _kernel(axes: Axes, x: float, y: float, time: int, side: int, look: dict[str, Any]) -> None:
    """Draw the weights of one filter, `time` × `side` × `side`, centered on x, y."""
    cell, step = 0.42, 0.3
    left, bottom = (center - (side * cell + (time - 1) * step) / 2 for center in (x, y))
    for number, row, column in product(reversed(range(time)), range(side), range(side)):
        corner = (left + number * step + column * cell, bottom + number * step + row * cell)
        sheet: dict[str, Any] = look | {"hatch": "" if number else look["hatch"]}
        axes.add_patch(Rectangle(corner, cell, cell, **sheet))


def _arrow(axes: Axes, start: float, end: float, y: float) -> None:
    look = {"arrowstyle": "-|>", "color": GRAY, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8, "lw": 0.8}
    axes.annotate("", (end, y), (start, y), arrowprops=look)
