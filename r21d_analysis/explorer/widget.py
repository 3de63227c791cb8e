"""The explorer: widgets over `comparison`, and static pictures where no widget can be moved."""

# pyright: reportArgumentType=false, reportCallIssue=false, reportOptionalMemberAccess=false
# ipywidgets are not typed, and the views are only drawn once runs are loaded.

from __future__ import annotations

import html
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from IPython.display import HTML, Image, Javascript, display

from r21d_analysis.artifacts.catalog import parse_folders
from r21d_analysis.explorer import figures, layout, maps, media, predictions, run_menu
from r21d_analysis.explorer.classify_widget import ClassifyWidget
from r21d_analysis.explorer.comparison import DIFFERENCE, Comparison, View
from r21d_analysis.explorer.layout import TABS, ExplorerLayout, fill_table
from r21d_analysis.explorer.predictions import ANY
from r21d_analysis.interpret.html import figure_html, figure_png, is_interactive, text_html
from r21d_analysis.interpret.source_videos import SourceClips, VideoLocator
from r21d_analysis.statistics.inference import check_same_items
from r21d_analysis.style import isolate, write_minus
from r21d_core import R21DError
from r21d_core.data.manifest import gc_disabled
from r21d_core.study.experiments import as_list

MAX_LISTED = 1000  # rows of a table
N_THUMBNAILS = 12
DISAGREE = "A and B disagree"
FILTERS = ("true", "pred", "side", "search", "confidence")  # widgets, and parameters of `predictions.select_items`


class Explorer(ExplorerLayout):
    """Compare two networks by class, by confusion and by video; a notebook displays it.

    `runs` are folders of runs, `manifests` folders with the manifests of their data and `networks` the first variants
    to show, as lists or texts with commas. `weights` is the folder of published weights. `data` and `protocol` are
    entries of their menus; without them those of `run_menu.first_choice`. The status line reports damaged and
    unfinished runs.
    """

    def __init__(
        self,
        runs: Sequence[str] | str,
        manifests: Sequence[str] | str = "",
        networks: Sequence[str] | str = "R3D, R(2+1)D",
        weights: Path | str = "weights",
        data: str = "",
        protocol: str = "",
    ):
        self.folders, self.variants = parse_folders(runs), as_list(networks)
        self.locator = VideoLocator(parse_folders(manifests))
        self.runs, messages = run_menu.finished_runs(runs)
        self.sets = run_menu.data_sets(self.runs)
        self.classifier = ClassifyWidget(self.runs, weights)
        super().__init__(list(self.sets), self.classifier.box)
        self.load = lru_cache(maxsize=4)(predictions.score_runs)  # the two that are shown and two more
        self.comparison: Comparison | None = None
        self.views: dict[str, View] = {}  # what each tab shows
        self.n_data = 0  # data sets that were shown; tables keep their order while it is equal
        self.chosen: list[int] = []  # classes
        self.rows, self.row = np.empty(0, int), None  # the items in the table of videos, and the one that is shown
        self.maps: dict[tuple, str] = {}  # computed, as HTML, by item, runs and whether these have checkpoints
        self._lock, self._active_thread = threading.Lock(), None
        self.is_live = False  # displayed as widgets: only then frames and videos are read, so that no file has them
        self._connect()
        if self.runs:
            label = run_menu.find_option("data", data, self.data.options)
            sets = {label: self.sets[label]} if label else self.sets
            self.data.value, spec = run_menu.first_choice(sets, self.locator)
            chosen = run_menu.find_option("protocol", protocol, [*self._protocols(), "any"])
            self._run(lambda: self.select_data(chosen or run_menu.protocol_label(spec)))
        self.status.value += text_html(" ".join(messages)) * bool(messages)

    def _ipython_display_(self) -> None:
        self.is_live = is_interactive()
        if self.comparison and not self.is_live:
            self._display_static()
            return
        if not self.comparison:
            folders = html.escape(", ".join(map(str, self.folders)))
            display(HTML(layout.NO_RUNS.format(folders=folders)), HTML(self.status.value))
        if self.is_live:
            display(self.box if self.comparison else self.classifier.box, Javascript(layout.KEEP_KEYS))

    def _display_static(self) -> None:
        display(HTML(self.summary.value))
        for title, view in self.static_views().items():
            image = Image(figure_png(view.figure), alt=title)
            display(HTML(f"<b>{title}</b>"), image, HTML(text_html(view.caption)))
        self._run(self.compute_saliency)
        display(HTML("<b>Attributions of this video</b>"), HTML(self.saliency.value))
        display(HTML(text_html(layout.STATIC)))

    def static_views(self) -> dict[str, View]:
        """Return the current content of the tabs that have a figure, by title."""
        for draw in (self.draw_classes, self.draw_confusion, self.draw_videos):
            self._run(draw)
        titles = {"Classes": "By class", "Confusion": "Confusion matrix of A", "Videos": "A video over time"}
        return {titles[tab]: view for tab, view in self.views.items() if view.figure}

    # Selections

    def select_data(self, protocol: str = "") -> None:
        """Offer the protocols of the selected data; chosen is the one before, else that of most runs, or "any"."""
        protocols, before = self._protocols(), self.protocol.value
        (most, n_runs), *_ = protocols.most_common(1)
        self.protocol.options = [*["any"] * (len(protocols) > 1), *protocols]
        usual = most if n_runs > 1 else self.protocol.options[0]
        self.protocol.value = protocol or (before if before in protocols else usual)
        self.select_protocol()

    def select_protocol(self) -> None:
        """Offer the runs of the selected protocol, and keep the selected ones if they are among them."""
        runs, label = self.sets[self.data.value], self.protocol.value
        options = run_menu.run_options([r for r in runs if label in ("any", run_menu.protocol_label(r.spec))])
        pair = run_menu.choose_pair([value for _, value in options], self.variants, (self.a.value, self.b.value))
        self.a.options, self.b.options = options, [("none", None), *options]
        self.a.value, self.b.value = pair
        self.select_runs()

    def select_runs(self) -> None:
        """Load A and B and show them with all their clips; A alone if B is not comparable."""
        self.report("loading the runs …")
        previous = self.comparison and (self.comparison.classes.tolist(), self.comparison.a.scores.videos.tolist())
        self.comparison, self.summary.value = None, ""  # whose scores may be freed while others are read
        a, b, message = self.load(self.a.value), None, ""
        counts = list(a.predictions)
        try:
            if self.b.value == self.a.value:
                raise R21DError("A and B are the same run")
            if self.b.value:
                b = self.load(self.b.value)
                check_same_items(a.scores, b.scores)
                counts = [count for count in counts if count in b.predictions]
                if not counts:
                    raise R21DError("A and B have no number of clips in common; select runs of one protocol")
        except R21DError as error:
            b, counts, message = None, list(a.predictions), f"only A is shown: {error}"
        count = None if self.clips.value == self.clips.options[-1] else self.clips.value  # all clips stay all clips
        self.clips.options = counts
        self.clips.value = count if count in counts else counts[-1]
        self.comparison = Comparison(a, b, self.a.label, self.b.label, self.clips.value)
        items = [name for name in predictions.ITEM_FILTERS if b or ("B" not in name and "both" not in name)]
        sides = ["A", "B", DIFFERENCE] if b else ["A"]
        for menu, options in ((self.side, sides[:2]), (self.matrix_side, sides), (self.items, items)):
            value, menu.options = menu.value, options
            menu.value = value if value in options else options[0]
        if previous != (self.comparison.classes.tolist(), a.scores.videos.tolist()):
            self._forget_choices()
        if a.runs[0].has_checkpoint:
            self.classifier.weights.value = str(a.runs[0].folder)
        self.draw()
        self.report(message, "alert" if message else "status")

    def _forget_choices(self) -> None:
        """Undo the choices of classes and videos, which do not outlive their data."""
        c, self.chosen, self.row, self.n_data = self.comparison, [], None, self.n_data + 1
        self.true.options = [("any", ANY), *((name, index) for index, name in enumerate(c.classes))]
        disagree = c.b and len(predictions.select_items(c.a, c.b, c.count, show=DISAGREE))
        self._filter(ANY, ANY, DISAGREE if disagree else "all")

    def _filter(self, true: int, pred: int | tuple[int, ...], show: str = "all") -> None:
        """Set the filters of videos; `pred` may be all other classes than those of a matrix."""
        others = [("all others", pred)] if isinstance(pred, tuple) else []
        self.pred.options = [self.true.options[0], *others, *self.true.options[1:]]
        self.true.value, self.pred.value, self.items.value = true, pred, show
        self.search.value, self.confidence.value = "", (0, 100)

    def _show_cell(self, true: int, pred: int | tuple[int, ...], n: float) -> None:
        """Show the videos of a class that are predicted as `pred`; for a difference, `n`, by one network alone."""
        is_difference = self.matrix_side.value == DIFFERENCE
        self.side.value = self.matrix_side.value if not is_difference else "A" if n >= 0 else "B"
        self._filter(true, pred, DISAGREE if is_difference else "all")
        self.pairs.selected_rows, self.tabs.selected_index = [], TABS.index("Videos")
        self.draw_videos()

    def select_classes(self) -> None:
        """Draw the classes that are selected in the table."""
        self.chosen = self.views["Classes"].table.index[self.class_table.selected_rows].tolist()
        self.draw_classes()

    def select_pair(self) -> None:
        """Show the videos of the pair of classes that is selected in the table."""
        for row in self.pairs.selected_rows:
            self._show_cell(*(self.confused[name].iloc[row] for name in ("true", "pred", "% of class")))

    def select_video(self) -> None:
        """Show the video that is selected in the table."""
        for row in self.videos.selected_rows:
            self.row = int(self.rows[row])
            self.draw_video()

    def use_matrix(self, event: dict) -> None:
        """Show the values of the matrix's cell under the pointer, or the videos of the clicked cell."""
        view = self.views["Confusion"]
        cell = figures.matrix_cell(view.figure, event["relativeX"], event["relativeY"])
        if cell is not None and event["event"] == "click":
            self._show_cell(*self.cells[cell], view.table["items"][cell])
        elif cell is not None:
            true, pred, n, percent = view.table.iloc[cell]
            values = write_minus(f"{n:.4g} items, {percent:.1f} % of the class")
            side = f"{DIFFERENCE} " * (self.matrix_side.value == DIFFERENCE)
            self.matrix_value.value = text_html(f"{isolate(true)}, predicted as {isolate(pred)}: {side}{values}")

    def use_thumbnails(self, event: dict) -> None:
        """Show the clicked video."""
        index = media.find_tile(event["relativeX"], event["relativeY"], event["boundingRectWidth"])
        if index < min(N_THUMBNAILS, len(self.rows)):
            self.videos.selected_rows = [index]
            self.select_video()

    # Drawing

    def draw(self) -> None:
        """Draw the accuracies and the open tab with the selected number of clips."""
        if self.comparison:
            self.comparison = c = replace(self.comparison, count=self.clips.value)
            self.summary.value = c.summary_table() + text_html(c.caption())
            self.draw_tab()

    def draw_tab(self) -> None:
        """Draw the open tab; the others are drawn when they open."""
        if self.comparison:
            draws = (self.draw_classes, self.draw_confusion, self.draw_videos, lambda: None)
            draws[self.tabs.selected_index]()

    def draw_classes(self) -> None:
        """List the classes, and draw those that are chosen."""
        view = self.views["Classes"] = self.comparison.class_view(self.chosen)
        selected = np.flatnonzero(view.table.index.isin(self.chosen)).tolist()
        ends = [number for number, name in enumerate(view.table) if str(name).endswith(("low", "high"))]
        options = layout.CLASSES | {"columnDefs": [{"targets": ends, "visible": False}]}  # the figure draws them
        options["order"] = [[view.table.columns.get_loc(self.comparison.class_order), "desc"]]
        fill_table(self.class_table, view.table, selected, self.n_data, **options)
        self.class_bars.value = figure_html(view.figure, view.alt) + text_html(view.caption)

    def draw_confusion(self) -> None:
        """Draw the confusion matrix, and list the confused pairs."""
        options = self.matrix_side.value, self.percent.value, self.chosen
        view, self.cells, self.confused = self.comparison.confusion_view(*options)
        self.views["Confusion"] = view
        self.matrix.value = figure_html(view.figure, view.alt)
        self.matrix_value.value, self.matrix_caption.value = text_html(layout.POINT), text_html(view.caption)
        pairs = self.confused.drop(columns=["true", "pred"])[:MAX_LISTED]
        fill_table(self.pairs, pairs, [], self.n_data, **layout.PAIRS)

    def draw_videos(self) -> None:
        """List the selected videos, the most confident first, draw one of them, and frames of the first."""
        c, filters = self.comparison, {name: getattr(self, name).value for name in FILTERS}
        self.rows = rows = predictions.select_items(c.a, c.b, c.count, show=self.items.value, **filters)
        self.row = self.row if self.row in rows[:MAX_LISTED] else (int(rows[0]) if len(rows) else None)
        view = self.views["Videos"] = c.items_view(rows)
        listed = f"; the first {MAX_LISTED} are listed" if len(rows) > MAX_LISTED else ""
        several = [(side, scored.seeds[0]) for side, scored, _ in c.sides() if len(scored.seeds) > 1]
        seeds = "".join(f" Predictions of {side} are those of seed {seed}." for side, seed in several)
        self.n_items.value = text_html(f"{len(rows):,} of {len(c.a.scores.labels):,} items{listed}.{seeds}")
        selected = np.flatnonzero(rows[:MAX_LISTED] == self.row).tolist()
        fill_table(self.videos, view.table[:MAX_LISTED], selected, self.n_data, **layout.VIDEOS)
        self.draw_video()
        sources = [(c.item_name(row)[0], self._locate(c.a, row, 1)) for row in rows[:N_THUMBNAILS] if self.is_live]
        tiles = [(name, source.path, int(source.center_frames[0])) for name, source in sources if source]
        some_exist = any(path.is_file() for _, path, _ in tiles)  # records are often read without their videos
        self.thumbnails.value = media.thumbnails_html(tiles) if some_exist and len(tiles) == len(sources) else ""

    def draw_video(self) -> None:
        """Draw the selected video's class probabilities, then, which takes longer, play it."""
        self.player.value, self.saliency.value = "", self.maps.get(self._maps_key(), "")
        if self.row is None:
            self.video.value = text_html("No such video.")
            return
        source = self._locate(self.comparison.a, self.row, self.comparison.count)
        view = self.views["Videos"] = self.comparison.video_view(self.row, self.views["Videos"], source)
        self.video.value = text_html(view.caption) + figure_html(view.figure, view.alt)
        self.player.value = media.video_html(source.path) if source and self.is_live else ""

    def compute_saliency(self) -> None:
        """Draw maps of the selected video's class for those of A and B that have their checkpoint, or say why not.

        Without a checkpoint, as in a pack, the recorded maps are drawn, of the few videos that have some.
        """
        maps.show_maps(self.saliency, self.attributions, self.maps, self._maps_key(), self._compute_maps)

    def _compute_maps(self) -> str:
        if not self.comparison or self.row is None:
            raise R21DError("select a video in the list first")
        return maps.comparison_maps_html(self.comparison, self.row, self._locate)

    def _maps_key(self) -> tuple:
        sides = self.comparison.sides() if self.comparison else ()
        return self.row, *((scored.runs, *(run.has_checkpoint for run in scored.runs)) for _, scored, _ in sides)

    def report(self, text: str, role: str = "status") -> None:
        """Show a line above the tabs."""
        self.status.value = text_html(text, role)

    # Events

    def _connect(self) -> None:
        redraw = self.matrix_side, self.percent, *(getattr(self, name) for name in (*FILTERS, "items"))
        actions = {
            **{(widget, "value"): self.draw_tab for widget in redraw}, (self.tabs, "selected_index"): self.draw_tab,
            (self.data, "value"): self.select_data, (self.protocol, "value"): self.select_protocol,
            (self.a, "value"): self.select_runs, (self.b, "value"): self.select_runs, (self.clips, "value"): self.draw,
            (self.class_table, "selected_rows"): self.select_classes, (self.pairs, "selected_rows"): self.select_pair,
            (self.videos, "selected_rows"): self.select_video,
        }  # fmt: skip
        for (widget, trait), action in actions.items():
            widget.observe(lambda change, action=action: self._run(action), trait)
        self.matrix_mouse.on_dom_event(lambda event: self._run(lambda: self.use_matrix(event)))
        self.thumbnail_mouse.on_dom_event(lambda event: self._run(lambda: self.use_thumbnails(event)))
        self.attributions.on_click(lambda button: self._run(self.compute_saliency))

    def _run(self, action: Callable[[], object]) -> None:
        """Run a widget's action; widgets that the action changes trigger nothing, and an R21DError becomes a line.

        A kernel may call from several threads, which wait for each other.
        """
        if self._active_thread == threading.get_ident():
            return
        with self._lock, gc_disabled():  # collecting old figures would delay an answer by a tenth of a second
            self._active_thread = threading.get_ident()
            try:
                action()
            except R21DError as error:
                self.report(str(error), "alert")
            finally:
                self._active_thread = None
                for tab in self.tabs.children[:3]:  # of runs that cannot be read, nothing is left of the earlier ones
                    tab.layout.visibility = "visible" if self.comparison else "hidden"

    def _protocols(self) -> Counter[str]:
        return Counter(run_menu.protocol_label(run.spec) for run in self.sets[self.data.value])

    def _locate(self, scored: predictions.ScoredRuns, row: int, count: int) -> SourceClips | None:
        scores = scored.scores
        return self.locator.locate(scored.run_of(row).spec, str(scores.videos[row]), int(scores.labels[row]), count)
