"""Attribution maps of a video as HTML: computed with a run's checkpoint or weights, or from records of insight."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure

from r21d_analysis.explorer.comparison import Comparison
from r21d_analysis.explorer.predictions import ScoredRuns
from r21d_analysis.interpret.attribution_figures import find_video, overlay_figure
from r21d_analysis.interpret.html import figure_html, text_html
from r21d_analysis.interpret.records import ATTRIBUTIONS, InsightRecord, load_record
from r21d_analysis.interpret.source_videos import SourceClips
from r21d_analysis.style import isolate
from r21d_core import R21DError
from r21d_core.runs.run import Run

MAPS_CAPTION = """One clip; each map has its own scale. Orange supports the class, blue opposes it; Grad-CAM shows only
support. attributions.ipynb tests how far such maps can be trusted."""


def show_maps(
    shown: widgets.HTML, button: widgets.Button, maps: dict[Any, str], key: Hashable, compute: Callable[[], str]
) -> None:
    """Show the maps of `key`, which are computed once and kept in `maps`; an R21DError becomes a line.

    The button takes no click meanwhile. Those that came before find the maps of the first one.
    """
    if key not in maps:
        shown.value = text_html("computing attributions; the first time, PyTorch and Captum are loaded …")
        button.disabled = True
        try:
            maps[key] = compute()
        except R21DError as error:
            shown.value = text_html(str(error), "alert")
            return
        finally:
            button.disabled = False
    shown.value = maps[key]


def comparison_maps_html(
    comparison: Comparison, row: int, locate: Callable[[ScoredRuns, int, int], SourceClips | None]
) -> str:
    """Return maps for the class of item `row` of those of A and B that have their checkpoint, or the recorded ones.

    `locate` gives an item's video file and the frames of its middle clip. Raises R21DError without checkpoints and
    recorded maps, and for a video that no manifest lists.
    """
    trained = [scored for _, scored, _ in comparison.sides() if scored.run_of(row).has_checkpoint]
    video, class_name = comparison.item_name(row)
    if not trained:
        paths = [run.folder / ATTRIBUTIONS for _, scored, _ in comparison.sides() for run in scored.runs]
        records = [load_record(path) for path in paths if path.exists()]
        if recorded := _recorded_maps_html(records, video, class_name):
            return recorded
        folders = " and ".join(str(scored.run_of(row).folder) for _, scored, _ in comparison.sides())
        names = ", ".join(dict.fromkeys(str(name) for record in records for name in record["videos"]))
        others = f"; recorded are maps of {names}" if names else ""
        raise R21DError(f"attributions need a run's checkpoint, and there is none in {folders}{others}")
    sources = [source for scored in trained if (source := locate(scored, row, 1))]
    if len(sources) < len(trained):
        hint = "the parameter `manifests` names the folders of manifests"
        raise R21DError(f"attributions need the video file, and no manifest lists {video}; {hint}")
    networks = [(s.run_of(row), source.frames[0]) for s, source in zip(trained, sources, strict=True)]
    maps = saliency_html(sources[0].path, class_name, networks)
    skipped = [side for side, scored, _ in comparison.sides() if scored not in trained]
    return maps + (text_html(f"{skipped[0]} is omitted: it has no checkpoint here") if skipped else "")


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
    return _overlays_html(records, str(video), video.name, class_name)


def _recorded_maps_html(records: Sequence[InsightRecord], video: str, class_name: str) -> str:
    """Return the maps of `video` in `records` of `r21d insight`, side by side, as HTML; neither weights nor a file are
    needed. Empty if none has any.
    """
    for name in (video, f"{video}, {class_name}"):  # of a playback rate
        if having := [record for record, _ in find_video(records, name)]:
            return _overlays_html(having, name, Path(video).name, class_name, " From the records of r21d insight.")
    return ""


def _overlays_html(records: Sequence[InsightRecord], video: str, title: str, class_name: str, remark: str = "") -> str:
    figure = overlay_figure(records, video, frames=4 if len(records) == 1 else 3)
    assert isinstance(figure, Figure)
    caption = text_html(f"{title}, maps for {isolate(class_name)}. {MAPS_CAPTION}{remark}")
    return figure_html(figure, f"Saliency maps for {class_name} in {title}") + caption
