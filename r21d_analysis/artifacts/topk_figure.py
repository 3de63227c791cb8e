"""A video with the most probable classes that a network gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from r21d_analysis.style import PALETTE, RC_PARAMS, close_figure

MAX_FRAMES = 10


def top_five_figure(frames: np.ndarray, names: Sequence[str], probabilities: Sequence[float]) -> Figure:
    """At most ten of `frames`, (T, H, W, 3) uint8, in a strip above a bar for each class with its probability.

    `names` and `probabilities` are those of the most probable classes, in descending order.
    """
    strip = frames[np.linspace(0, len(frames) - 1, min(MAX_FRAMES, len(frames))).astype(int)]
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
        axes.set_yticks(range(len(names)), names, parse_math=False)  # a class name may contain $
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 108), ylim=(len(names) - 0.5, -0.5), xlabel="probability (%)", xticks=range(0, 101, 20))
    return close_figure(figure)
