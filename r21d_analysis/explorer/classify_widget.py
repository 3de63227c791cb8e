"""The explorer's tab that classifies a person's own videos and plots their class probabilities over time."""

from __future__ import annotations

import asyncio
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.core.getipython import get_ipython
from itables.widget import ITable

from r21d_analysis.explorer.figures import time_figure
from r21d_analysis.explorer.layout import OWN, TABLE, WIDE, fill_table
from r21d_analysis.explorer.maps import saliency_html, show_maps
from r21d_analysis.explorer.media import video_html
from r21d_analysis.interpret.html import figure_html, text_html
from r21d_core import R21DError, load
from r21d_core.runs.run import Run

if TYPE_CHECKING:
    from r21d_core.engine.classify import Prediction

WEIGHTS_HINT = "a run's folder with its checkpoint, a file, or a published name such as r2plus1d_18"
COLUMNS = ("video", "prediction", "%")


def running_cell() -> tuple[str, str]:
    """Return the id of the notebook's cell that runs and of this run of it; empty where a front end names no cell."""
    message = getattr(get_ipython(), "parent_header", None) or {}
    return message.get("metadata", {}).get("cellId", ""), message.get("header", {}).get("msg_id", "")


class ClassifyWidget:
    """Classify a file, a folder or uploads; `results` are (path, prediction).

    When a notebook's cell runs again, the classifications that it made before are stopped, as their buttons are gone.
    """

    running: ClassVar[set[ClassifyWidget]] = set()

    def __init__(self, runs: Sequence[Run], weights_folder: Path | str = "weights"):
        self.weights_folder = weights_folder  # of published weights
        self.used_weights, self.root = "", Path()  # those of `results`; the fields may have changed since
        self.results: list[tuple[Path, Prediction]] = []
        self.maps: dict[int, str] = {}  # computed attributions as HTML, by the number of the result
        self._uploads: tempfile.TemporaryDirectory | None = None
        trained = [str(run.folder) for run in runs if run.has_checkpoint]
        self.weights = widgets.Combobox(options=trained, description="Weights", placeholder=WEIGHTS_HINT, **WIDE)
        self.weights.value = next(iter(trained), "")
        self.path = widgets.Text(description="Video or folder", placeholder="path", **WIDE)
        self.upload = widgets.FileUpload(description="or upload small files", multiple=True, accept="video/*,.mkv,.avi")
        self.upload.tooltip = "The notebook's server receives the files; a path needs no upload"  # else "null"
        self.upload.layout.width, self.upload.layout.min_width = "auto", "max-content"
        self.clips = widgets.BoundedIntText(10, min=1, max=1000, description="Clips per video", style=WIDE["style"])
        self.start = widgets.Button(description="Classify", button_style="primary")
        self.stop = widgets.Button(description="Stop", disabled=True)
        self.cell, self.cell_run = running_cell()
        for other in self.running:
            if self.cell and other.cell == self.cell and other.cell_run != self.cell_run:
                other.stop.disabled = True
        self.task: asyncio.Task | None = None  # the last classification
        self.errors, self.probabilities, self.player, self.saliency = (widgets.HTML() for _ in range(4))
        self.videos = ITable(pd.DataFrame(columns=COLUMNS), **TABLE | OWN)
        self.attributions = widgets.Button(description="Attributions", layout={"align_self": "flex-start"})
        controls = widgets.HBox([self.upload, self.clips, self.start, self.stop], layout={"flex_flow": "row wrap"})
        self.videos.layout = {"flex": "1 1 640px", "min_width": "0", "max_width": "100%"}
        figure = [self.player, self.probabilities, self.attributions]
        beside = widgets.VBox(figure, layout={"width": "800px", "max_width": "100%"})
        shown = widgets.HBox([self.videos, beside], layout={"flex_flow": "row wrap", "grid_gap": "0 16px"})
        self.box = widgets.VBox([self.weights, self.path, controls, self.errors, shown, self.saliency])
        self.start.on_click(lambda button: self._start_task())
        self.stop.on_click(lambda button: setattr(button, "disabled", True))
        self.videos.observe(lambda change: self.draw(), "selected_rows")
        self.attributions.on_click(lambda button: self.compute_saliency())

    def _start_task(self) -> None:
        """Classify while other clicks are answered; until its end another click on the button does nothing."""
        if not self.start.disabled:
            self.start.disabled = True
            self.task = asyncio.ensure_future(self.classify())

    async def classify(self) -> None:
        """Classify the selected videos in turn; an error becomes a line, and the other videos go on.

        The button Stop ends it after the videos that are being computed, and those that are finished are shown.
        """
        self.results, self.maps = [], {}
        self._list_results()
        self.errors.value = self.probabilities.value = self.player.value = self.saliency.value = ""
        self.used_weights, self.root = self.weights.value.strip(), Path(self.path.value.strip()).expanduser()
        clips, self.start.disabled, self.stop.disabled = self.clips.value, True, False
        self.running.add(self)
        self.start.description = "Loading …"
        try:
            paths = self.input_paths()
            predictor = await asyncio.to_thread(load, self.used_weights, folder=self.weights_folder)
            predictions = predictor.iter_predictions(paths, clips=clips, workers=None)
            for number, path in enumerate(paths):
                if self.stop.disabled:  # it was clicked
                    self.errors.value += text_html(f"stopped after {number} of {len(paths)} videos")
                    break
                self.start.description = f"{number} of {len(paths)} videos"
                prediction = await asyncio.to_thread(next, predictions)
                if isinstance(prediction, R21DError):
                    self.errors.value += text_html(str(prediction), "alert")
                else:
                    self.results.append((path, prediction))
            await asyncio.to_thread(predictions.close)
        except Exception as error:  # nobody would see that of a task
            text = str(error) if isinstance(error, R21DError | OSError) else traceback.format_exc()
            self.errors.value += text_html(text, "alert")
        self.running.discard(self)
        self.start.description, self.start.disabled, self.stop.disabled = "Classify", False, True
        self._list_results()

    def _list_results(self) -> None:
        """List all results and select the first, which draws it."""
        rows = [
            (self._name(path), name, 100 * p) for path, prediction in self.results for name, p in prediction.top[:1]
        ]
        fill_table(self.videos, pd.DataFrame(rows, columns=COLUMNS), [0] * bool(rows), 0, **OWN)

    def _name(self, path: Path) -> str:
        """Return the path below the given folder, since names in several folders may be equal, or the file's name."""
        is_below = path != self.root and path.is_relative_to(self.root)
        return path.relative_to(self.root).as_posix() if is_below else path.name

    def input_paths(self) -> list[Path]:
        """Return the file or the videos below the folder, then the uploaded files, which are written to a new folder.

        Raises R21DError if there are none, or no weights were given.
        """
        if not self.weights.value.strip():
            raise R21DError(f"weights: none given; enter {WEIGHTS_HINT}")
        paths = []
        if text := self.path.value.strip():
            from r21d_core.data.official_splits import list_videos  # imports PyAV

            paths = list_videos([Path(text).expanduser()])
        if self._uploads:
            self._uploads.cleanup()
        if self.upload.value:
            self._uploads = tempfile.TemporaryDirectory(prefix="r21d-")
            for number, file in enumerate(self.upload.value):
                name = Path("/", file["name"].replace("\\", "/")).resolve().name or "video"  # never outside the folder
                path = Path(self._uploads.name) / str(number) / name
                path.parent.mkdir()
                path.write_bytes(file["content"])
                paths.append(path)
        if not paths:
            raise R21DError("no video: enter the path of a file or folder, or upload files")
        return paths

    def draw(self) -> None:
        """Draw the selected video's most probable classes by clip and play it."""
        if not self.videos.selected_rows:
            return
        path, prediction = self.results[row := self.videos.selected_rows[0]]
        self.saliency.value = self.maps.get(row, "")
        (classes, means), unit = zip(*prediction.top, strict=True), "s" if prediction.fps else "frame"
        ranks, times = range(1, len(classes) + 1), prediction.center_frames / (prediction.fps or 1)
        panel = (f"{self._name(path)}: {self.used_weights}", classes, ranks, np.array(means), prediction.clip_probs)
        figure = time_figure([panel], times, unit)
        plot = figure_html(figure, f"Probabilities of {self._name(path)} over time")
        self.probabilities.value = plot + text_html(prediction.protocol)
        self.player.value = video_html(path)

    def compute_saliency(self) -> None:
        """Draw maps of the selected video for its most probable class."""
        if not self.videos.selected_rows:
            self.saliency.value = text_html("classify a video and select it first", "alert")
            return
        path, prediction = self.results[row := self.videos.selected_rows[0]]
        networks = [(self.used_weights, None)]
        compute = partial(saliency_html, path, prediction.top[0][0], networks, self.weights_folder)
        show_maps(self.saliency, self.attributions, self.maps, row, compute)
