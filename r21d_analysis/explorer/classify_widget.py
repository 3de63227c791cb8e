"""Videos of one's own in the explorer: classified with a chosen run, their scores shown over time."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from r21d_analysis.explorer.figures import strip_figure, time_figure
from r21d_analysis.interpret.html import line, picture
from r21d_analysis.interpret.saliency import video_maps
from r21d_core import R21DError
from r21d_core.data.official_splits import videos_below
from r21d_core.runs.run import Run

STRIP = 10


class OwnVideo:
    """A path or files, the weights of a run, and what its network says of each video; `shown` is table and figure.

    `weights` is the folder of published ones.
    """

    def __init__(self, runs: Sequence[Run], weights: Path | str = "weights"):
        self.folder, self.used = weights, ""  # the weights of the answers, whatever is typed since
        self.answers: list[tuple[Path, object]] = []
        self.shown: tuple[pd.DataFrame | None, Figure | None] = (None, None)
        self._uploads: tempfile.TemporaryDirectory | None = None
        wide = {"style": {"description_width": "initial"}, "layout": {"width": "calc(100% - 4px)"}}
        trained = [str(run.folder) for run in runs if run.has_checkpoint]
        self.weights = widgets.Combobox(
            options=trained, value=trained[0] if trained else "", description="Weights",
            placeholder="a run's folder with its checkpoint, a file, or a published name such as r2plus1d_18", **wide,
        )  # fmt: skip
        self.path = widgets.Text(description="Video or folder", placeholder="its path", **wide)
        self.upload = widgets.FileUpload(description="or choose small files", multiple=True, accept="video/*,.mkv,.avi")
        self.upload.layout.width = "auto"
        self.clips = widgets.BoundedIntText(10, min=1, max=1000, description="Clips a video")
        self.clips.style.description_width = "initial"
        self.start = widgets.Button(description="Classify", button_style="primary")
        self.progress = widgets.IntProgress(0, description="Videos", layout={"visibility": "hidden", "width": "98%"})
        self.bars = widgets.Output()
        self.faults = widgets.HTML()
        self.found = widgets.Select(description="Videos", rows=5, **wide)
        self.picture, self.film, self.attributed = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.why = widgets.Button(description="Attributions", layout={"width": "auto"})
        hint = (
            "" if trained else "No run here has its checkpoint: train one, or name weights, a file or published ones."
        )
        self.box = widgets.VBox(
            [self.weights, self.path, widgets.HBox([self.upload, self.clips, self.start]),
             widgets.HTML(line(hint)), self.progress, self.bars, self.faults, self.found, self.picture, self.film,
             self.why, self.attributed]
        )  # fmt: skip
        self.start.on_click(lambda button: self.classify())
        self.found.observe(lambda change: self.draw(), "value")
        self.why.on_click(lambda button: self.attribute())

    def classify(self) -> None:
        """Classify what was asked for, one video after the other; one that cannot be read becomes a line."""
        self.answers, faults = [], []
        self.found.options, self.shown = (), (None, None)
        self.faults.value = self.picture.value = self.film.value = self.attributed.value = ""
        self.used = self.weights.value.strip()
        try:
            paths = self.wanted()
        except (R21DError, OSError) as error:
            self.faults.value = line(str(error), "alert")
            return
        from r21d_core.engine.classify import classify  # torch is loaded when it is needed first

        self.progress.value, self.progress.max = 0, len(paths)
        self.progress.layout.visibility = "visible"
        for number, path in enumerate(paths, 1):
            with self.bars:  # which would print what it is left by
                try:
                    answer = classify(path, self.used, clips=self.clips.value, folder=self.folder)
                    self.answers.append((path, answer))
                except R21DError as error:
                    faults.append(line(str(error), "alert"))
                    self.faults.value = "".join(faults)
            self.progress.value = number
        self.bars.clear_output()
        self.progress.layout.visibility = "hidden"
        self.found.options = [
            (f"{path.name}: {answer.top[0][0]} {answer.top[0][1]:.1%}", number)
            for number, (path, answer) in enumerate(self.answers)
        ]
        self.found.value = 0 if self.answers else None
        self.draw()

    def wanted(self) -> list[Path]:
        """The files of the path given, all videos below it if it is a folder, and those uploaded.

        Raises R21DError if there are none or no weights were named.
        """
        if not self.weights.value.strip():
            raise R21DError("weights: none; name a run's folder, a file, or a published name such as r2plus1d_18")
        paths = []
        if text := self.path.value.strip():
            given = Path(text).expanduser()
            paths = [given / name for name in videos_below(given)] if given.is_dir() else [given]
            if not paths:
                raise R21DError(f"{given}: no videos in this folder")
        if self._uploads:
            self._uploads.cleanup()
        if self.upload.value:
            self._uploads = tempfile.TemporaryDirectory(prefix="r21d-")
            for number, file in enumerate(self.upload.value):
                name = Path("/", file["name"].replace("\\", "/")).resolve().name or "video"  # never out of the folder
                place = Path(self._uploads.name) / str(number) / name
                place.parent.mkdir()
                place.write_bytes(file["content"])
                paths.append(place)
        if not paths:
            raise R21DError("no video: give the path of a file or folder, or choose files")
        return paths

    def draw(self) -> None:
        """The video chosen in the list: its likeliest classes clip by clip, the clips' frames, and all as a table."""
        if self.found.value is None:
            return
        path, answer = self.answers[self.found.value]
        self.attributed.value = ""
        names, means = zip(*answer.top, strict=True)
        at, unit = (answer.center_frames / answer.fps, "s") if answer.fps else (answer.center_frames, "frame")
        title = f"{path.name}: {self.used}"
        figure = time_figure([(title, names, np.array(means), answer.clip_probs)], at, unit)
        self.picture.value = picture(figure, f"Probabilities of {path.name} over time") + line(answer.protocol)
        chosen = np.unique(np.linspace(0, len(at) - 1, min(STRIP, len(at))).astype(int))
        labels = [f"{at[number]:.4g}{' s' * (unit == 's')}" for number in chosen]
        self.film.value = picture(strip_figure(answer.frames[chosen], labels), "Middle frames of its clips")
        rows = [
            (str(path), self.used, place, name, 100 * share, answer.protocol)
            for path, answer in self.answers
            for place, (name, share) in enumerate(answer.top, 1)
        ]
        self.shown = pd.DataFrame(rows, columns=["video", "weights", "place", "class", "%", "protocol"]), figure

    def attribute(self) -> None:
        """Where in the video shown the network looks for its likeliest class."""
        if self.found.value is None:
            self.attributed.value = line("classify a video first", "alert")
            return
        path, answer = self.answers[self.found.value]
        self.attributed.value = line("attributing …")
        try:
            self.attributed.value = video_maps(path, answer.top[0][0], [(self.used, None)], self.folder)
        except R21DError as error:
            self.attributed.value = line(str(error), "alert")
