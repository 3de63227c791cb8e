"""Frames of a clip with the optical flow between them, or with its most probable classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure

from r21d_analysis.style import PALETTE, RC_PARAMS, close_figure, figure_style

ARROWS = 9  # in a row


@figure_style()
def flow_figure(frames: np.ndarray, flow: np.ndarray) -> Figure:
    """At most six of `frames`, (T, H, W, 3) uint8, in a strip above their `flow`, (T, H, W, 2) in pixels.

    Arrows give the motion, enlarged. Hue gives its direction, as on the wheel, and saturation its speed, full at the
    99th percentile.
    """
    numbers = np.linspace(0, len(frames) - 1, min(6, len(frames))).astype(int)
    height, width = flow.shape[1:3]
    full = max(float(np.quantile(np.hypot(*np.moveaxis(flow, -1, 0)), 0.99)), 1e-6)
    size = (1.7 * (len(numbers) + 1), 2 * 1.7 * height / width + 0.7)
    figure, panels = plt.subplots(2, len(numbers) + 1, figsize=size, squeeze=False, layout="constrained")
    rows, columns = (np.linspace(0, n - 1, ARROWS + 2).astype(int)[1:-1] for n in (height, width))
    for (above, below), number in zip(panels.T, numbers, strict=False):
        above.imshow(frames[number])
        above.set_title(f"frame {number + 1}", size=9)
        below.imshow(flow_to_rgb(flow[number], full))
        x, y = np.moveaxis(flow[number][np.ix_(rows, columns)], -1, 0)
        below.quiver(columns, rows, x, y, angles="xy", scale_units="xy", scale=full / (width / ARROWS), width=0.008)
    wheel = np.stack(np.meshgrid(*2 * [np.linspace(-1, 1, 101)]), axis=-1)
    inside = np.hypot(*np.moveaxis(wheel, -1, 0)) <= 1
    panels[1, -1].imshow(np.where(inside[..., None], flow_to_rgb(wheel, 1), 1))
    panels[1, -1].set_title(f"rim: {full:.2g} pixels\na frame or more", size=8)
    for axes in panels.flat:
        axes.set_axis_off()
    return close_figure(figure)


def flow_to_rgb(flow: np.ndarray, full: float) -> np.ndarray:
    """Flow (H, W, 2) as RGB from 0 to 1: hue by direction, white where nothing moves, full color from `full` on."""
    x, y = np.moveaxis(flow, -1, 0)
    hue = (np.arctan2(y, x) / (2 * np.pi)) % 1
    return hsv_to_rgb(np.stack([hue, np.clip(np.hypot(x, y) / full, 0, 1), np.ones_like(hue)], axis=-1))


def top_five_figure(frames: np.ndarray, names: Sequence[str], probabilities: Sequence[float]) -> Figure:
    """At most ten of `frames`, (T, H, W, 3) uint8, in a strip above a bar for each class with its probability.

    `names` and `probabilities` are those of the most probable classes, in descending order.
    """
    strip = frames[np.linspace(0, len(frames) - 1, min(10, len(frames))).astype(int)]
    with plt.rc_context({**RC_PARAMS, "axes.grid.axis": "x", "axes.axisbelow": True}):
        figure = plt.figure(figsize=(10, 1.6 + 0.32 * len(names)), layout="constrained")
        halves: Any = figure.subfigures(2, height_ratios=(1, 0.4 + 0.32 * len(names)))
        above, below = halves
        for axes, frame in zip(above.subplots(1, len(strip), squeeze=False)[0], strip, strict=True):
            axes.imshow(frame)
            axes.set_axis_off()
        axes = below.subplots()
        bars = axes.barh(range(len(names)), [100 * value for value in probabilities], color=PALETTE[0], height=0.7)
        axes.bar_label(bars, [f"{value:.1%}" for value in probabilities], padding=4)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 108), ylim=(len(names) - 0.5, -0.5), xlabel="probability (%)", xticks=range(0, 101, 20))
    return close_figure(figure)
