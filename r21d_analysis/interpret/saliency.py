"""Saliency maps of one video, computed on request in the explorer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from r21d_analysis.interpret.attribution_figures import overlay_figure
from r21d_analysis.interpret.html import figure_html, text_html
from r21d_core.runs.run import Run

CAPTION = """One clip; each map has its own scale. Orange supports the class, blue opposes it; Grad-CAM shows only
support. attributions.ipynb tests how far such maps can be trusted."""


def saliency_html(
    video: Path,
    class_name: str,
    networks: Sequence[tuple[Run | Path | str, np.ndarray | None]],
    weights_folder: Path | str = "weights",
) -> str:
    """Return maps of all `networks` for `class_name` in the file `video`, side by side, as HTML.

    A network is a run, its folder, a weights file or a published name in `weights_folder`, with the frame numbers (T,)
    of a clip, or None for the center clip. Raises R21DError if the video, the weights or the class do not exist.
    """
    from r21d_analysis.interpret.inspect_run import analyze_video  # imports torch

    records = [analyze_video(video, weights, class_name, clip, weights_folder) for weights, clip in networks]
    figure = overlay_figure(records, str(video), frames=4 if len(records) == 1 else 3)
    assert isinstance(figure, Figure)
    caption = text_html(f"{video.name}, maps for {class_name}. {CAPTION}")
    return figure_html(figure, f"Saliency maps for {class_name} in {video.name}") + caption
