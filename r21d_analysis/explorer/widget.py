"""The explorer: widgets over the pure functions of `results/explore.py`, and pictures for where none can be moved."""

from __future__ import annotations

import gc
import re
import threading
from collections.abc import Callable
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import HTML, Image, Javascript, Markdown, display
from matplotlib.figure import Figure

from r21d_analysis.explorer import figures, predictions
from r21d_analysis.explorer.classify_widget import OwnVideo
from r21d_analysis.interpret.html import is_live, line, picture
from r21d_analysis.interpret.saliency import video_maps
from r21d_analysis.interpret.source_videos import Footage, Library
from r21d_core import R21DError
from r21d_core.data.decode import read_frames
from r21d_core.runs.files import write_atomically
from r21d_core.runs.run import Run

KEPT_BYTES = 2**30  # of logits, those of the two runs that are shown included, which stay in any case
MOST_LISTED = 200  # videos or pairs in a list; a saved table has all
A_PAGE = 20  # classes
STRIP = 10  # frames of a video
STRIP_SIZE = (96, 128)
APART = "A and B disagree"
TABS = ("Classes", "Confusion", "Videos", "Your own video")
NOTHING = """**No finished run in {folders}.** Make some, in about three minutes on two cores, then run this cell again:
```
r21d train variant_comparison --variants "f-R2D,R3D,R(2+1)D"
```
Or name a folder that has runs in the cell of parameters, such as `../results/small`."""
STILL = """Widgets move these pictures in a live notebook. A video of your own is classified there too, or by
`r21d classify VIDEO --weights RUN_FOLDER`."""
# Else arrows and letters typed into a list would move between the notebook's cells, or make and delete them.
OWN_KEYS = """setTimeout(() => element.closest('.jp-OutputArea')?.addEventListener('keydown', event => {
  if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key != 'Escape') event.stopPropagation();
}), 300)  // when it has its place in the page"""
# Buttons over the picture of the matrix, a cell each, so that a cell can be clicked, and reached by the keyboard.
CELLS = """<style>
.r21d-cells > div {{ display: grid; grid-template: repeat({rows}, 1fr) / repeat({columns}, 1fr); width: 100%; height: 100% }}
.r21d-cells button.widget-toggle-button {{ width: auto; height: auto; min-width: 0; margin: 0; padding: 0; border: 0;
  background: transparent; box-shadow: none; font-size: 0 }}
.r21d-cells button.widget-toggle-button:is(:hover, :focus) {{ outline: 2px solid black; outline-offset: -2px }}
</style>"""


class Explorer:
    """Runs to be compared by class, by confusion and by video; in a notebook it shows itself.

    `runs` are folders of runs, `manifests` folders to find the data's videos by, each separated by commas; what is
    saved goes to `exports`. `networks` are the variants to begin with, `weights` the folder of published weights. Of
    runs that are missing or damaged it says so.
    """

    def __init__(
        self,
        runs: str,
        manifests: str = "",
        exports: Path | str = "exports",
        networks: str = "R(2+1)D, f-R2D",
        weights: Path | str = "weights",
    ):
        self.folders, self.library, self.exports = runs, Library(predictions.parse_folders(manifests)), Path(exports)
        self.first = [name.strip() for name in networks.split(",")]
        self.published = weights
        self.runs, remarks = predictions.finished_runs(runs)
        self.kept: dict[Path, predictions.ScoredRun] = {}
        self.one = self.other = None
        self.shown: dict[str, tuple[pd.DataFrame, Figure | None]] = {}
        self.words: dict[str, str] = {}  # what the figure of each tab shows
        self._turn, self._acting = threading.Lock(), None
        self._build()
        self.say(" ".join(remarks))
        if self.runs:
            self._act(self.choose_data)

    def _ipython_display_(self) -> None:
        if self.one and is_live():
            display(self.box, Javascript(OWN_KEYS))
            return
        if not self.one:
            display(Markdown(NOTHING.format(folders=f"`{self.folders}`")), HTML(self.status.value))
            if is_live():
                display(self.own.box, Javascript(OWN_KEYS))
            return
        display(HTML(self.headline_table() + line(self.caption())))
        for name, (figure, words) in self.twins().items():
            display(Markdown(f"**{name}**"), Image(figures.png_of(figure), alt=name), HTML(line(words)))
        self._act(self.attribute)
        display(Markdown("**Where networks look in it**"), HTML(self.attributed.value + self.status.value))
        display(Markdown(STILL))

    def twins(self) -> dict[str, tuple[Figure, str]]:
        """The pictures of the tabs as they stand and what they show in words, for where nobody moves widgets."""
        for draw in (self.draw_classes, self.draw_confusion, self.draw_videos):
            self._act(draw)
        names = {"Classes": "By class", "Confusion": "Confusion of A", "Videos": "A video over time"}
        return {names[tab]: (figure, self.words[tab]) for tab, (_, figure) in self.shown.items() if figure}

    # What is chosen

    def choose_data(self) -> None:
        """Offer the protocols of the runs on the data chosen, and go on from there."""
        found = dict.fromkeys(predictions.protocol_of(run.spec) for run in self._of_data())
        self.protocol.options = [("any", "any")] * (len(found) > 1) + [(name, name) for name in found]
        self.protocol.value = self.protocol.options[0][1]
        self.choose_protocol()

    def choose_protocol(self) -> None:
        """Offer the runs of that protocol, those that were chosen before if they are among them."""
        runs = [r for r in self._of_data() if self.protocol.value in ("any", predictions.protocol_of(r.spec))]
        options = list(zip(predictions.name_runs(runs), runs, strict=True))
        before = [self.a.value, self.b.value]
        self.a.options, self.b.options = options, [("none", None), *options]
        first = [next((run for run in runs if run.spec.variant == name), None) for name in (*self.first, "", "")[:2]]
        self.a.value = before[0] if before[0] in runs else first[0] or runs[0]
        others = [run for run in (before[1], first[1], *runs) if run in runs and run != self.a.value]
        self.b.value = others[0] if others else None
        self.choose_runs()

    def choose_runs(self) -> None:
        """Open the two runs, and show them with as many clips as they have; A alone, where B does not go with it."""
        self.say("opening the runs …")
        self.one = self.other = None
        self.headline.value = ""
        self.one = self.open(self.a.value)
        other, remark = self.b.value if self.b.value != self.a.value else None, ""
        try:
            self.other = self.open(other) if other else None
            counts = predictions.common_counts(self.one, self.other)
            if not counts:
                raise R21DError("A and B have no number of clips in common; choose runs of one protocol")
        except R21DError as error:
            self.other, remark = None, f"A alone is shown: {error}"
            counts = predictions.common_counts(self.one, None)
        before = None if self.clips.value == self.clips.options[-1] else self.clips.value  # all stay all
        self.clips.options = counts
        self.clips.value = before if before in counts else counts[-1]
        classes = self.one.scores.classes
        named = [(name, number) for number, name in enumerate(classes)]
        self.true.options = self.guess.options = [("any", None), *named]
        self.whose.options = ("A", "B") if self.other else ("A",)
        self.show.options = [
            name for name in predictions.FILTERS if self.other or ("B" not in name and "both" not in name)
        ]
        alone = ("A", "class", "n")
        self.order.options = [name for name, (key, _) in predictions.SORTS.items() if self.other or key in alone]
        self.start.max = max(1, len(classes) - A_PAGE + 1)
        self.start.value, self.start.layout.display = 1, None if len(classes) > A_PAGE else "none"
        apart = self.other and len(predictions.items(self.one, self.other, self.clips.value, show=APART))
        self.show.value = APART if apart else "all"
        self.draw()
        self.say(remark, "alert" if remark else "status")

    def open(self, run: Run) -> predictions.ScoredRun:
        """The run judged, from memory if it was lately shown."""
        found = self.kept.pop(run.folder, None) or predictions.score_run(run)
        self.kept[run.folder] = found  # the latest last
        while len(self.kept) > 2 and sum(one.scores.logits.nbytes for one in self.kept.values()) > KEPT_BYTES:
            del self.kept[next(iter(self.kept))]
        return found

    def pick_cell(self) -> None:
        """Show the videos of the confusion matrix's cell that was clicked."""
        if self.cells.value is not None:
            (true, guess), self.cells.value = self.cells.value, None
            self._show_pair(true, guess)

    def pick_pair(self) -> None:
        """Show the videos of the pair of classes selected in the list."""
        if self.pairs.value is None:
            raise R21DError("select a pair of classes in the list first")
        self._show_pair(*self.pairs.value)

    def _show_pair(self, true: int, guess: int | tuple[int, ...]) -> None:
        others = [("all others", guess)] if isinstance(guess, tuple) else []
        self.guess.options = [("any", None), *others, *self.true.options[1:]]
        self.true.value, self.guess.value, self.show.value = true, guess, "all"
        self.say("")
        self.tabs.selected_index = 2
        self.draw_videos()

    # What is shown

    def draw(self) -> None:
        """Everything that is in sight: the numbers above, and the tab that is open."""
        self.headline.value = self.headline_table() + line(self.caption())
        self.draw_tab()

    def draw_tab(self) -> None:
        """The tab that is open; the others are drawn when they are."""
        if self.one:
            (self.draw_classes, self.draw_confusion, self.draw_videos, lambda: None)[self.tabs.selected_index]()

    def headline_table(self) -> str:
        """The accuracies of both runs and their difference, as HTML."""
        lines = []
        for side, judged, name in self._sides():
            found = predictions.accuracies(judged, self.clips.value)
            five = "–" if np.isnan(found["video@5"]) else f"{found['video@5']:.1f}"
            between = f"{found['low']:.1f} to {found['high']:.1f}"
            lines.append((f"{side}: {name}", f"{found['clip@1']:.1f}", f"{found['video@1']:.1f}", between, five))
        if self.other:
            less = predictions.difference(self.one, self.other, self.clips.value)
            between = f"{less['low']:+.1f} to {less['high']:+.1f}"
            lines.append(("A less B (points)", "", f"{less['difference']:+.1f}", between, ""))
        columns = ["run", "clip@1 (%)", "video@1 (%)", "95 % interval", "video@5 (%)"]
        table = pd.DataFrame(lines, columns=columns).to_html(index=False, border=0, justify="left", col_space="8em")
        return f'<div style="line-height: 1.5; white-space: nowrap">{table}</div>'

    def caption(self) -> str:
        """Of what these numbers are, and what their intervals know."""
        told, videos = self.one.scores.protocol, self.one.video.max() + 1
        demo = "DEMONSTRATION, tiny networks. " if told.get("profile") == "demo" else ""
        return (
            f"{demo}{told.get('data')} {told.get('split')}, {told.get('task')}: {videos:,} videos, "
            f"{len(self.one.scores.classes)} classes; {self.clips.value} of {self.one.scores.logits.shape[1]} clips a "
            f"video, {told.get('crop')}, {told.get('averaging')}. Intervals are bootstraps over videos, of these very "
            "weights: they know nothing of the luck of the seed."
        )

    def draw_classes(self) -> None:
        """The bars of a page of classes."""
        table = predictions.class_table(self.one, self.other, self.clips.value)
        ordered = predictions.sorted_classes(table, self.order.value)
        page = ordered.iloc[self.start.value - 1 :][:A_PAGE]
        names = [name for _, _, name in self._sides()]
        figure = figures.class_figure(page, names, self._note())
        best, worst = ordered.loc[ordered["A"].idxmax()], ordered.loc[ordered["A"].idxmin()]
        said = f"A is best at {best['class']} ({best['A']:.0f} %), worst at {worst['class']} ({worst['A']:.0f} %)."
        if self.other:
            apart, sure = (ordered["low"] > 0) | (ordered["high"] < 0), ordered["p"] < 0.05
            most, least = (ordered.loc[ordered["difference"].agg(at)] for at in ("idxmax", "idxmin"))
            said += (
                f" Against B it gains most in {most['class']} ({most['difference']:+.0f} points), least in "
                f"{least['class']} ({least['difference']:+.0f}). "
                f"Of {len(ordered)} intervals of differences {apart.sum()} exclude zero; by chance alone some "
                f"{0.05 * len(ordered):.2g} would. After Holm's correction {sure.sum()} classes differ (p < 0.05)."
            )
        alt = f"video@1 of {len(page)} classes with intervals, {' and '.join(names)}; the saved table has the numbers"
        self.words["Classes"] = f"{said} The number beside a class is that of its items."
        self.bars.value = picture(figure, alt) + line(self.words["Classes"])
        self._keep("Classes", ordered, figure)

    def draw_confusion(self) -> None:
        """The matrix with its clickable cells, and the list of pairs."""
        judged, count = self._asked(), self.clips.value
        members, counts = predictions.confusion_part(judged, count)
        names = [judged.scores.classes[number] for number in members]
        figure = figures.confusion_figure(names, counts, self._note())
        left, top, width, height = figures.cells_of(figure)
        of = f"{len(members)} of {len(judged.scores.classes)}" if counts.shape[1] > len(members) else f"{len(members)}"
        self.matrix.value = picture(figure, f"Confusion matrix of run {self.whose.value}, {of} classes")
        self.cells.layout.margin, self.cells.layout.width = f"{top}px 0 0 {left}px", f"{width}px"
        self.cells.layout.height = f"{height}px"
        others = tuple(sorted(set(range(len(judged.scores.classes))) - set(members.tolist())))
        guesses = [*members.tolist(), others][: counts.shape[1]]
        columns = [*names, "all others"][: counts.shape[1]]
        self.cells.options = [
            (f"{name}, taken for {column}: {counts[row, place]}", (int(members[row]), guesses[place]))
            for row, name in enumerate(names)
            for place, column in enumerate(columns)
        ]
        self.cells.value = None
        pairs, classes = predictions.confused_pairs(judged, count), judged.scores.classes
        most = ", ".join(f"{n} × {classes[true]} for {classes[guess]}" for true, guess, n in pairs[:3].to_numpy())
        self.words["Confusion"] = (
            f"Rows are classes, columns what {self.whose.value} takes them for: wrongly {pairs['n'].sum():,} of "
            f"{len(judged.scores.labels):,} items{f', most often {most}' * bool(most)}."
        )
        self.cell_style.value = CELLS.format(rows=counts.shape[0], columns=counts.shape[1])
        self.cell_style.value += line(self.words["Confusion"])
        self.pairs.options = [
            (f"{n} × {classes[true]} → {classes[guess]}", (true, guess))
            for true, guess, n in pairs[:MOST_LISTED].itertuples(index=False)
        ]
        self.pairs.value = None
        cells = [(name, column, n) for name, row in zip(names, counts, strict=True)
                 for column, n in zip(columns, row, strict=True)]  # fmt: skip
        self._keep("Confusion", pd.DataFrame(cells, columns=["class", "taken for", "items"]), figure)

    def draw_videos(self) -> None:
        """The list of the videos asked for, the surest first, and one of them."""
        rows = predictions.items(
            self.one, self.other, self.clips.value,
            show=self.show.value, true=self.true.value, guess=self.guess.value, of=self.whose.value,
        )  # fmt: skip
        table = predictions.item_table(self.one, self.other, self.clips.value, rows)
        says = [column for column in table if column.endswith(("says", "sure"))]
        names = [
            f"{video}: {name} → " + " | ".join(f"{a} {b:.0f} %" for a, b in zip(told[::2], told[1::2], strict=True))
            for video, name, *told in table[["video", "class", *says]][:MOST_LISTED].itertuples(index=False)
        ]
        before = self.videos.value
        self.videos.options = list(zip(names, rows[:MOST_LISTED].tolist(), strict=True))
        self.videos.value = before if before in rows[:MOST_LISTED] else (rows[0] if len(rows) else None)
        listed = f"; the first {MOST_LISTED} are listed" if len(rows) > MOST_LISTED else ""
        self.found.value = line(f"{len(rows):,} of {len(self.one.scores.labels):,} items{listed}.")
        self._keep("Videos", table, None)
        self.draw_video()

    def draw_video(self) -> None:
        """One video's likeliest classes clip by clip; then, which takes longer, its frames."""
        self.film.value = self.attributed.value = ""
        row = self.videos.value
        if row is None:
            self.video.value = line("No such video.")
            return
        classes, count = self.one.scores.classes, self.clips.value
        panels, says = [], []
        for side, judged, name in self._sides():
            best, means, each = predictions.over_time(judged, row, count)
            panels.append((f"{side}: {name}", [classes[number] for number in best], means, each))
            first = (each.argmax(axis=1) == 0).sum()
            says.append(
                f"{side} says {classes[best[0]]}, {100 * means[0]:.0f} %, ahead of the others shown in {first} of "
                f"{count} clips"
            )
        true, place = classes[self.one.scores.labels[row]], self.library.find(self.one, row, count)
        at = place.at if place else None
        alike = self.other is None or self.other.run.spec.replace(variant="R3D", seed=0) == self.one.run.spec.replace(
            variant="R3D", seed=0
        )
        figure = figures.time_figure(panels, at if alike else None, place.unit if place else "", true, self._note())
        name = str(self.one.scores.videos[row])
        said = f"{name}, of class {true}"
        self.words["Videos"] = f"{said}: {'; '.join(says)}."
        self.video.value = line(self.words["Videos"]) + picture(figure, f"Probabilities over time of {said}")
        self._keep("Videos", self.shown["Videos"][0], figure)
        if place:
            self._draw_film(place)

    def _draw_film(self, place: Footage) -> None:
        chosen = np.unique(np.linspace(0, len(place.at) - 1, min(STRIP, len(place.at))).astype(int))
        try:
            frames = read_frames(place.path, place.middles[chosen], STRIP_SIZE)
        except R21DError as error:
            self.film.value = line(f"No frames: {error}")
            return
        labels = [f"{place.at[number]:.4g} {'s' if place.unit == 's' else ''}".strip() for number in chosen]
        self.film.value = picture(figures.strip_figure(frames, labels), "Middle frames of clips, as run A saw")

    def attribute(self) -> None:
        """Where in the video shown the runs look for its class: those of A and B that have their checkpoint."""
        self.attributed.value, row = "", self.videos.value
        if row is None:
            raise R21DError("attributions take a video: select one in the list first")
        here = [judged for _, judged, _ in self._sides() if judged.run.has_checkpoint]
        if not here:
            folders = " and ".join(str(judged.run.folder) for _, judged, _ in self._sides())
            raise R21DError(f"attributions take a run's checkpoint, and there is none in {folders}")
        video, name = str(self.one.scores.videos[row]), self.one.scores.classes[self.one.scores.labels[row]]
        places = [self.library.find(judged, row, 1) for judged in here]
        if None in places:
            raise R21DError(f"attributions take the video's file, and no manifest that is found says where {video} is")
        self.say("attributing …")
        networks = [(judged.run, place.frames[0]) for judged, place in zip(here, places, strict=True)]
        self.attributed.value = video_maps(places[0].path, name, networks)
        left = [side for side, judged, _ in self._sides() if not judged.run.has_checkpoint]
        self.say(f"{left[0]} is left out, as it has no checkpoint here" if left else "")

    # What is saved

    def save(self, kind: str) -> Path | None:
        """Write the table ("csv") or the figure ("pdf") of the open tab to `exports`, and say where."""
        tab = TABS[self.tabs.selected_index]
        table, figure = self.own.shown if tab == TABS[-1] else self.shown.get(tab, (None, None))
        if (table if kind == "csv" else figure) is None:
            raise R21DError(f"there is no {'table' if kind == 'csv' else 'figure'} here to be saved")
        keys = [judged.run.spec.folder for _, judged, _ in self._sides()] if tab != TABS[-1] else []
        clips = [f"{self.clips.value}clips"] if keys else []
        one = [self._one_video(tab)] if kind == "pdf" and tab in TABS[2:] else []  # the table has all of them
        path = self.exports / ("-".join(["explorer", tab.lower().replace(" ", "-"), *keys, *clips, *one]) + f".{kind}")
        if kind == "csv":
            write_atomically(path, table.to_csv(index=False))
        else:
            write_atomically(path, figures.pdf_of(figure))
        self.say(f"saved {path}")
        return path

    def say(self, text: str, kind: str = "status") -> None:
        """A line under the explorer."""
        self.status.value = line(text, kind)

    # How it is put together

    def _build(self) -> None:
        data = list(dict.fromkeys(predictions.data_of(run.spec) for run in self.runs))
        self.data, self.protocol = _dropdown("Data", data), _dropdown("Protocol")
        self.a, self.b = _dropdown("Run A"), _dropdown("Run B")
        self.clips = widgets.SelectionSlider(options=[1], description="Clips a video", **_wide("calc(100% - 4px)"))
        self.order = _dropdown("Order", list(predictions.SORTS))
        self.start = widgets.IntSlider(1, 1, 1, description="From place", **_wide("49%"))
        self.whose = _dropdown("Of run", ["A", "B"])
        self.cells = widgets.ToggleButtons(options=[("", 0)], value=None, layout={"grid_area": "1 / 1"})
        self.cells.add_class("r21d-cells")
        self.pairs = widgets.Select(description="Most confused", rows=6, **_wide("calc(100% - 4px)"))
        self.true, self.guess = _dropdown("Class", [("any", None)]), _dropdown("Taken for", [("any", None)])
        self.show = _dropdown("Show", list(predictions.FILTERS))
        self.videos = widgets.Select(description="Class → A | B", rows=7, **_wide("calc(100% - 4px)"))
        names = ("headline", "bars", "matrix", "cell_style", "found", "video", "film", "attributed", "status")
        for name in names:
            setattr(self, name, widgets.HTML(layout={"max_width": "100%"}))
        self.matrix.layout.grid_area = "1 / 1"
        csv, pdf = (widgets.Button(description=f"Save {what}", layout={"width": "auto"})
                    for what in ("table (CSV)", "figure (PDF)"))  # fmt: skip
        # By the keyboard a list is walked through, so that being selected is not yet being asked for.
        pick = widgets.Button(description="Show its videos", layout={"width": "auto"})
        why = widgets.Button(description="Attributions", layout={"width": "auto"})
        self.own = OwnVideo(self.runs, self.published)
        grid = widgets.GridBox([self.matrix, self.cells], layout={"grid_template_columns": "max-content"})
        tabs = [
            [_row(self.order, self.start), self.bars],
            [self.whose, self.pairs, pick, self.cell_style, grid],
            [_row(self.true, self.guess), _row(self.show, self.whose), self.videos, self.found, self.video, self.film,
             why, self.attributed],
            [self.own.box],
        ]  # fmt: skip
        self.tabs = widgets.Tab([widgets.VBox(tab) for tab in tabs], titles=TABS)
        self.box = widgets.VBox(
            [_row(self.data, self.protocol), _row(self.a, self.b), self.clips, self.headline, self.tabs,
             _row(csv, pdf), self.status],
            layout={"max_width": "900px"},
        )  # fmt: skip
        for widget, action in (
            (self.data, self.choose_data), (self.protocol, self.choose_protocol), (self.a, self.choose_runs),
            (self.b, self.choose_runs), (self.clips, self.draw), (self.order, self.draw_classes),
            (self.start, self.draw_classes), (self.whose, self.draw_tab), (self.cells, self.pick_cell),
            (self.true, self.draw_videos), (self.guess, self.draw_videos),
            (self.show, self.draw_videos), (self.videos, self.draw_video),
        ):  # fmt: skip
            widget.observe(lambda change, action=action: self._act(action), "value")
        self.tabs.observe(lambda change: self._act(self.draw_tab), "selected_index")
        pick.on_click(lambda button: self._act(self.pick_pair))
        csv.on_click(lambda button: self._act(lambda: self.save("csv")))
        pdf.on_click(lambda button: self._act(lambda: self.save("pdf")))
        why.on_click(lambda button: self._act(self.attribute))

    def _act(self, action: Callable[[], object]) -> None:
        """Do what was asked for; what the action moves itself asks for nothing more, and an error becomes a line.

        A kernel may call from several threads; they take turns.
        """
        if self._acting == threading.get_ident():
            return
        with self._turn:
            self._acting, collected = threading.get_ident(), gc.isenabled()
            gc.disable()  # or an answer now and then would wait for a tenth of a second while old figures are collected
            try:
                action()
            except R21DError as error:
                self.say(str(error), "alert")
            finally:
                self._acting = None
                if collected:
                    gc.enable()

    def _of_data(self) -> list[Run]:
        return [run for run in self.runs if predictions.data_of(run.spec) == self.data.value]

    def _sides(self) -> list[tuple[str, predictions.ScoredRun, str]]:
        sides = (("A", self.one, self.a.label), ("B", self.other, self.b.label))
        return [side for side in sides if side[1]]

    def _one_video(self, tab: str) -> str:
        """The video that a tab shows, as a part of a file's name; of a task that asks for no action, its label too."""
        if tab == TABS[-1]:
            name = self.own.answers[self.own.found.value][0].stem
        else:
            scores, row = self.one.scores, self.videos.value
            name = str(Path(str(scores.videos[row])).with_suffix(""))
            name += f"-{scores.classes[scores.labels[row]]}" * (self.one.run.spec.task != "action")
        return re.sub(r"[^\w.+]+", "-", name).strip("-.")[-80:]

    def _asked(self) -> predictions.ScoredRun:
        return self.other if self.whose.value == "B" and self.other else self.one

    def _note(self) -> str:
        return "demonstration: tiny networks" if self.one.run.spec.profile == "demo" else ""

    def _keep(self, tab: str, table: pd.DataFrame, figure: Figure | None) -> None:
        sides = {side: judged.run.spec.folder for side, judged, _ in self._sides()}
        told = {f"run {side}": folder for side, folder in sides.items()} | {"clips": self.clips.value}
        self.shown[tab] = table.assign(**told), figure


def _wide(width: str) -> dict:
    return {"style": {"description_width": "initial"}, "layout": {"width": width}}


def _dropdown(description: str, options=()) -> widgets.Dropdown:
    return widgets.Dropdown(description=description, options=options, **_wide("49%"))


def _row(*members: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(members, layout={"flex_flow": "row wrap"})
