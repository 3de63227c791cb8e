"""The explorer: widgets over `comparison`, and static pictures where no widget can be moved."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false
# ipywidgets are not typed, and the views are only drawn once runs are loaded.

from __future__ import annotations

import gc
import html
import re
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from IPython.display import HTML, Image, Javascript, display

from r21d_analysis.artifacts.catalog import parse_folders
from r21d_analysis.explorer import figures, predictions
from r21d_analysis.explorer.comparison import MAX_LISTED, PAGE_SIZE, Comparison, View
from r21d_analysis.explorer.layout import CELL_STYLE, TABS, ExplorerLayout
from r21d_analysis.interpret.html import figure_html, figure_pdf, figure_png, is_interactive, text_html
from r21d_analysis.interpret.saliency import saliency_html
from r21d_analysis.interpret.source_videos import SourceClips, VideoLocator
from r21d_core import R21DError
from r21d_core.data.decode import read_frames
from r21d_core.runs.files import spreadsheet_safe, write_atomically
from r21d_core.runs.run import Run
from r21d_core.study.experiments import as_list

FRAME_SIZE = (96, 128)
DISAGREE = "A and B disagree"
NO_RUNS = """<p><b>No finished run in <code>{folders}</code>.</b> Train some, about three minutes on two cores, then
run this cell again:</p><pre>r21d train variant_comparison --variants "f-R2D,R3D,R(2+1)D"</pre>
<p>Or name a folder with runs in the parameters' cell, such as <code>../results/small.zip</code>.</p>"""
STATIC = """In a live notebook widgets change these pictures. It also classifies videos of your own, as
`r21d classify VIDEO --weights RUN_FOLDER` does."""
# Without this, keys typed into a list would move between the notebook's cells, or create and delete them.
KEEP_KEYS = """setTimeout(() => element.closest('.jp-OutputArea')?.addEventListener('keydown', event => {
  if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key != 'Escape') event.stopPropagation();
}), 300)  // once it is in the page"""


class Explorer(ExplorerLayout):
    """Compare runs by class, by confusion and by video; a notebook displays it.

    `runs` are folders of runs, `manifests` folders with the manifests of their data and `networks` the first variants
    to show, as lists or texts with commas. `exports` is the folder of saved tables and figures, `weights` that of
    published weights. The status line reports missing or damaged runs.
    """

    def __init__(
        self,
        runs: Sequence[str] | str,
        manifests: Sequence[str] | str = "",
        exports: Path | str = "exports",
        networks: Sequence[str] | str = "R(2+1)D, f-R2D",
        weights: Path | str = "weights",
    ):
        self.folders, self.locator, self.exports = (
            parse_folders(runs),
            VideoLocator(parse_folders(manifests)),
            Path(exports),
        )
        self.variants = as_list(networks)
        self.runs, messages = predictions.finished_runs(runs)
        super().__init__(self.runs, weights)
        self.load = lru_cache(maxsize=4)(predictions.score_run)  # the two that are shown and two more
        self.comparison: Comparison | None = None
        self.views: dict[str, View] = {}  # what each tab shows
        self._lock, self._active_thread = threading.Lock(), None
        self._connect()
        self.report(" ".join(messages))
        if self.runs:
            self._run(self.select_data)

    def _ipython_display_(self) -> None:
        live = is_interactive()
        if self.comparison and live:
            display(self.box, Javascript(KEEP_KEYS))
        elif self.comparison:
            self._display_static()
        else:
            display(
                HTML(NO_RUNS.format(folders=html.escape(", ".join(map(str, self.folders))))), HTML(self.status.value)
            )
            if live:
                display(self.classifier.box, Javascript(KEEP_KEYS))

    def _display_static(self) -> None:
        display(HTML(self.summary.value))
        for title, view in self.static_views().items():
            image = Image(figure_png(view.figure), alt=title)
            display(HTML(f"<b>{title}</b>"), image, HTML(text_html(view.caption)))
        self._run(self.compute_saliency)
        display(HTML("<b>Attributions of this video</b>"), HTML(self.saliency.value + self.status.value))
        display(HTML(text_html(STATIC)))

    def static_views(self) -> dict[str, View]:
        """Return the current content of the tabs that have a figure, by title."""
        for draw in (self.draw_classes, self.draw_confusion, self.draw_videos):
            self._run(draw)
        titles = {"Classes": "By class", "Confusion": "Confusion matrix of A", "Videos": "A video over time"}
        return {titles[tab]: view for tab, view in self.views.items() if view.figure}

    # Selections

    def select_data(self) -> None:
        """Offer the protocols of the runs on the selected data."""
        protocols = list(dict.fromkeys(predictions.protocol_label(run.spec) for run in self._runs_of_data()))
        self.protocol.options = [*["any"] * (len(protocols) > 1), *protocols]
        self.protocol.value = self.protocol.options[0]
        self.select_protocol()

    def select_protocol(self) -> None:
        """Offer the runs of the selected protocol, and keep the selected ones if they are among them."""
        runs = [r for r in self._runs_of_data() if self.protocol.value in ("any", predictions.protocol_label(r.spec))]
        options = list(zip(predictions.short_run_labels(runs), runs, strict=True))
        previous = [self.a.value, self.b.value]
        self.a.options, self.b.options = options, [("none", None), *options]
        default = [next((run for run in runs if run.spec.variant == v), None) for v in (*self.variants, "", "")[:2]]
        self.a.value = previous[0] if previous[0] in runs else default[0] or runs[0]
        others = [run for run in (previous[1], default[1], *runs) if run in runs and run != self.a.value]
        self.b.value = others[0] if others else None
        self.select_runs()

    def select_runs(self) -> None:
        """Load both runs and show them with all their clips; A alone if B is not comparable."""
        self.report("loading the runs …")
        self.comparison, self.summary.value = None, ""
        a, b, message = self.load(self.a.value), None, ""
        try:
            b = self.load(self.b.value) if self.b.value and self.b.value != self.a.value else None
            counts = predictions.common_clip_counts(a, b)
            if not counts:
                raise R21DError("A and B have no number of clips in common; select runs of one protocol")
        except R21DError as error:
            b, message = None, f"only A is shown: {error}"
            counts = predictions.common_clip_counts(a, None)
        previous = None if self.clips.value == self.clips.options[-1] else self.clips.value  # all clips stay all clips
        self.clips.options = counts
        self.clips.value = previous if previous in counts else counts[-1]
        self.comparison = Comparison(a, b, self.a.label, self.b.label, self.clips.value)
        self.true.options = self.pred.options = [
            ("any", None),
            *((n, i) for i, n in enumerate(self.comparison.classes)),
        ]
        self.side.options = ("A", "B") if b else ("A",)
        self.items.options = [n for n in predictions.ITEM_FILTERS if b or ("B" not in n and "both" not in n)]
        self.order.options = [n for n, (key, _) in predictions.CLASS_ORDERS.items() if b or key in ("A", "class", "n")]
        n_classes = len(self.comparison.classes)
        self.first.max = max(1, n_classes - PAGE_SIZE + 1)
        self.first.value, self.first.layout.display = 1, None if n_classes > PAGE_SIZE else "none"
        disagree = b and len(predictions.select_items(a, b, self.clips.value, show=DISAGREE))
        self.items.value = DISAGREE if disagree else "all"
        self.draw()
        self.report(message, "alert" if message else "status")

    def select_cell(self) -> None:
        """Show the videos of the selected cell of the confusion matrix."""
        if self.cells.value is not None:
            (true, pred), self.cells.value = self.cells.value, None
            self._show_pair(true, pred)

    def select_pair(self) -> None:
        """Show the videos of the selected pair of classes."""
        if self.pairs.value is None:
            raise R21DError("select a pair of classes in the list first")
        self._show_pair(*self.pairs.value)

    def _show_pair(self, true: int, pred: int | tuple[int, ...]) -> None:
        others = [("all others", pred)] if isinstance(pred, tuple) else []
        self.pred.options = [("any", None), *others, *self.true.options[1:]]
        self.true.value, self.pred.value, self.items.value = true, pred, "all"
        self.report("")
        self.tabs.selected_index = 2
        self.draw_videos()

    # Drawing

    def draw(self) -> None:
        """Draw the accuracies and the open tab with the selected number of clips."""
        if self.comparison:
            c = self.comparison
            self.comparison = c = Comparison(c.a, c.b, c.a_name, c.b_name, self.clips.value)
            self.summary.value = c.summary_table() + text_html(c.caption())
            self.draw_tab()

    def draw_tab(self) -> None:
        """Draw the open tab; the others are drawn when they open."""
        if self.comparison:
            draws = (self.draw_classes, self.draw_confusion, self.draw_videos, lambda: None)
            draws[self.tabs.selected_index]()

    def draw_classes(self) -> None:
        """Draw a page of classes."""
        view = self.views["Classes"] = self.comparison.class_view(self.order.value, self.first.value)
        self.class_bars.value = figure_html(view.figure, view.alt) + text_html(view.caption)

    def draw_confusion(self) -> None:
        """Draw the confusion matrix with its clickable cells, and list the most frequent confusions."""
        view, (rows, columns), cells, pairs = self.comparison.confusion_view(self.side.value)
        self.views["Confusion"] = view
        left, top, width, height = figures.matrix_box(view.figure)
        self.matrix.value = figure_html(view.figure, view.alt)
        self.cells.layout.margin = f"{top}px 0 0 {left}px"
        self.cells.layout.width, self.cells.layout.height = f"{width}px", f"{height}px"
        self.cells.options, self.cells.value = cells, None
        self.pairs.options, self.pairs.value = pairs, None
        self.matrix_caption.value = CELL_STYLE.format(rows=rows, columns=columns) + text_html(view.caption)

    def draw_videos(self) -> None:
        """List the selected videos, the most confident prediction first, and draw one of them."""
        c, filters = self.comparison, {"show": self.items, "true": self.true, "pred": self.pred, "side": self.side}
        rows = predictions.select_items(c.a, c.b, c.count, **{name: widget.value for name, widget in filters.items()})
        table, options = c.item_list(rows)
        previous = self.videos.value
        self.videos.options = options
        self.videos.value = previous if previous in rows[:MAX_LISTED] else (rows[0] if len(rows) else None)
        listed = f"; the first {MAX_LISTED} are listed" if len(rows) > MAX_LISTED else ""
        self.n_items.value = text_html(f"{len(rows):,} of {len(c.a.scores.labels):,} items{listed}.")
        self.views["Videos"] = View(table, None, "", "")
        self.draw_video()

    def draw_video(self) -> None:
        """Draw the selected video's class probabilities, then, which takes longer, its frames."""
        self.frames.value = self.saliency.value = ""
        row, c = self.videos.value, self.comparison
        if row is None:
            self.video.value = text_html("No such video.")
            return
        source = self._locate(c.a, row, c.count)
        view = self.views["Videos"] = c.video_view(row, self.views["Videos"].table, source)
        self.video.value = text_html(view.caption) + figure_html(view.figure, view.alt)
        if source:
            self._draw_frames(source)

    def _draw_frames(self, source: SourceClips) -> None:
        index, labels = figures.sample_frames(source.times, source.unit)
        try:
            frames = read_frames(source.path, source.center_frames[index], FRAME_SIZE)
        except R21DError as error:
            self.frames.value = text_html(f"No frames: {error}")
            return
        self.frames.value = figure_html(figures.frames_figure(frames, labels), "Center frames of the clips of run A")

    def compute_saliency(self) -> None:
        """Draw maps of the selected video's class for those of A and B that have their checkpoint."""
        self.saliency.value, row, c = "", self.videos.value, self.comparison
        if row is None:
            raise R21DError("select a video in the list first")
        scored_runs = [scored for _, scored, _ in c.sides() if scored.run.has_checkpoint]
        if not scored_runs:
            folders = " and ".join(str(scored.run.folder) for _, scored, _ in c.sides())
            raise R21DError(f"attributions need a run's checkpoint, and there is none in {folders}")
        video, class_name = c.item_name(row)
        sources = [self._locate(scored, row, 1) for scored in scored_runs]
        if None in sources:
            raise R21DError(f"attributions need the video file, and no manifest lists {video}; name its folder")
        self.report("computing attributions …")
        networks = [(s.run, source.frames[0]) for s, source in zip(scored_runs, sources, strict=True)]
        self.saliency.value = saliency_html(sources[0].path, class_name, networks)
        skipped = [side for side, scored, _ in c.sides() if not scored.run.has_checkpoint]
        self.report(f"{skipped[0]} is omitted: it has no checkpoint here" if skipped else "")

    # Export

    def save(self, kind: str) -> Path:
        """Write the table ("csv") or the figure ("pdf") of the open tab to `exports`, and report the path."""
        tab = TABS[self.tabs.selected_index]
        is_own = tab == TABS[-1]
        view = self.views.get(tab)
        table, figure = self.classifier.export if is_own else (view.table, view.figure) if view else (None, None)
        if (table if kind == "csv" else figure) is None:
            raise R21DError(f"there is no {'table' if kind == 'csv' else 'figure'} to save in this tab")
        parts = ["explorer", tab.lower().replace(" ", "-")]
        if not is_own:
            parts += [scored.run.spec.folder for _, scored, _ in self.comparison.sides()] + [f"{self.clips.value}clips"]
        if kind == "pdf" and tab in TABS[2:]:
            parts.append(self._video_stem(is_own))
        path = self.exports / f"{'-'.join(parts)}.{kind}"
        content = table.map(spreadsheet_safe).to_csv(index=False) if kind == "csv" else figure_pdf(figure)
        write_atomically(path, content)
        self.report(f"saved {path}")
        return path

    def _video_stem(self, is_own: bool) -> str:
        """Return the shown video as a part of a file name; where a video has several labels, its label too."""
        if is_own:
            stem = self.classifier.results[self.classifier.videos.value][0].stem
        else:
            video, label = self.comparison.item_name(self.videos.value)
            stem = str(Path(video).with_suffix(""))
            stem += f"-{label}" * (self.comparison.a.run.spec.task != "action")
        return re.sub(r"[^\w.+]+", "-", stem).strip("-.")[-80:]

    def report(self, text: str, role: str = "status") -> None:
        """Show a line below the explorer."""
        self.status.value = text_html(text, role)

    # Events

    def _connect(self) -> None:
        redraw = (self.order, self.first, self.side, self.true, self.pred, self.items)
        actions = {self.data: self.select_data, self.protocol: self.select_protocol, self.a: self.select_runs,
                   self.b: self.select_runs, self.clips: self.draw, self.cells: self.select_cell,
                   self.videos: self.draw_video, **dict.fromkeys(redraw, self.draw_tab)}  # fmt: skip
        for widget, action in actions.items():
            widget.observe(lambda change, action=action: self._run(action), "value")
        self.tabs.observe(lambda change: self._run(self.draw_tab), "selected_index")
        buttons = {self.show_pair: self.select_pair, self.attributions: self.compute_saliency,
                   self.save_csv: lambda: self.save("csv"), self.save_pdf: lambda: self.save("pdf")}  # fmt: skip
        for button, action in buttons.items():
            button.on_click(lambda button, action=action: self._run(action))

    def _run(self, action: Callable[[], object]) -> None:
        """Run a widget's action; widgets that the action changes trigger nothing, and an R21DError becomes a line.

        A kernel may call from several threads, which wait for each other.
        """
        if self._active_thread == threading.get_ident():
            return
        with self._lock:
            self._active_thread, was_enabled = threading.get_ident(), gc.isenabled()
            gc.disable()  # collecting old figures would delay an answer by a tenth of a second now and then
            try:
                action()
            except R21DError as error:
                self.report(str(error), "alert")
            finally:
                self._active_thread = None
                if was_enabled:
                    gc.enable()

    def _runs_of_data(self) -> list[Run]:
        return [run for run in self.runs if predictions.data_label(run.spec) == self.data.value]

    def _locate(self, scored: predictions.ScoredRun, row: int, count: int) -> SourceClips | None:
        scores = scored.scores
        return self.locator.locate(scored.run.spec, str(scores.videos[row]), int(scores.labels[row]), count)
