"""Where and when networks look in one video, drawn when the explorer is asked for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from r21d_analysis.interpret.attribution_figures import overlay_figure
from r21d_analysis.interpret.html import line, picture
from r21d_core.runs.run import Run

CAPTION = """One clip. The stronger the colour, the larger the map: orange speaks for the class, blue against it, which
Grad-CAM does not show. Each map has its own scale. How far to believe such maps is told in attributions.ipynb."""


def video_maps(
    video: Path,
    class_name: str,
    networks: Sequence[tuple[Run | Path | str, np.ndarray | None]],
    folder: Path | str = "weights",
) -> str:
    """Maps for `class_name` in the file `video` as HTML, those of all `networks` side by side.

    A network is a run, its folder, a file or a published name in `folder`, and the numbers of the frames of a clip;
    of the middle clip without. Raises R21DError for a video, weights or a class that are not there.
    """
    from r21d_analysis.interpret.inspect_run import analyze_video  # torch is loaded when it is needed first

    kept = [analyze_video(video, weights, class_name, clip, folder=folder) for weights, clip in networks]
    figure = overlay_figure(kept, str(video), frames=4 if len(kept) == 1 else 3)
    return picture(figure, f"Where in {video.name} networks look for {class_name}") + line(
        f"{video.name}, looked through for {class_name}. {CAPTION}"
    )
