"""A video and what a network makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from r21d_analysis.artifacts.figures import PALETTE, STYLE

MOST_FRAMES = 10


def top_five_figure(frames: np.ndarray, names: Sequence[str], probabilities: Sequence[float]) -> Figure:
    """Frames (n, H, W, 3) uint8 in a strip, at most ten of them, over a bar a class with its probability.

    `names` and `probabilities` are those of the likeliest classes, the likeliest first.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).astype(int)]
    with plt.rc_context(STYLE | {"axes.grid.axis": "x", "axes.axisbelow": True}):
        figure = plt.figure(figsize=(10, 1.6 + 0.32 * len(names)), layout="constrained")
        above, below = figure.subfigures(2, height_ratios=(1, 0.4 + 0.32 * len(names)))
        for axes, frame in zip(above.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
            axes.imshow(frame)
            axes.set_axis_off()
        axes = below.subplots()
        bars = axes.barh(range(len(names)), [100 * value for value in probabilities], color=PALETTE[0], height=0.7)
        axes.bar_label(bars, [f"{value:.1%}" for value in probabilities], padding=4)
        axes.set_yticks(range(len(names)), names, parse_math=False)  # a class may have a $ in its name
        axes.tick_params(axis="y", length=0)
        axes.set(xlim=(0, 108), ylim=(len(names) - 0.5, -0.5), xlabel="probability (%)", xticks=range(0, 101, 20))
    plt.close(figure)
    return figure
