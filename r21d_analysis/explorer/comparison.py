"""What the explorer shows of two runs: tables, figures and captions, without widgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from r21d_analysis.explorer import figures, predictions
from r21d_analysis.explorer.predictions import ScoredRun
from r21d_analysis.interpret.source_videos import SourceClips
from r21d_analysis.statistics.inference import format_interval

PAGE_SIZE = 20  # classes
MAX_LISTED = 200  # videos or pairs in a list; a saved table has all


class View(NamedTuple):
    """One tab: the table and the figure that can be saved, the figure's caption and its text for screen readers."""

    table: pd.DataFrame
    figure: Figure | None
    caption: str
    alt: str


class ConfusionView(NamedTuple):
    """The confusion tab: its view, the matrix's shape, and (label, (true, pred)) of its cells and frequent pairs."""

    view: View
    shape: tuple[int, int]
    cells: list[tuple[str, tuple]]
    pairs: list[tuple[str, tuple]]


@dataclass(frozen=True)
class Comparison:
    """Run A, and run B or None, evaluated with `count` clips on the same items."""

    a: ScoredRun
    b: ScoredRun | None
    a_name: str
    b_name: str
    count: int

    def sides(self) -> list[tuple[str, ScoredRun, str]]:
        """Return ("A", run, name) and, with B, ("B", run, name)."""
        sides = (("A", self.a, self.a_name), ("B", self.b, self.b_name))
        return [(side, scored, name) for side, scored, name in sides if scored]

    def scored(self, side: str) -> ScoredRun:
        """Return run B for "B" where there is one, else run A."""
        return self.b if side == "B" and self.b else self.a

    @property
    def note(self) -> str:
        """The note that figures of demonstrations carry."""
        return "demonstration: tiny networks" if self.a.run.spec.profile == "demo" else ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.a.scores.classes

    def item_name(self, row: int) -> tuple[str, str]:
        """Return the video and the class of an item."""
        return str(self.a.scores.videos[row]), self.classes[self.a.scores.labels[row]]

    def summary_table(self) -> str:
        """Return the accuracies of both runs and their difference as HTML; pandas escapes the names."""
        rows = []
        for side, scored, name in self.sides():
            accuracy = predictions.compute_accuracies(scored, self.count)
            top5 = "–" if np.isnan(accuracy["video@5"]) else f"{accuracy['video@5']:.1f}"
            interval = format_interval(accuracy["low"], accuracy["high"])
            rows.append((f"{side}: {name}", f"{accuracy['clip@1']:.1f}", f"{accuracy['video@1']:.1f}", interval, top5))
        if self.b:
            difference = predictions.compute_difference(self.a, self.b, self.count)
            interval = format_interval(difference["low"], difference["high"], "+.1f")
            rows.append(("A − B (points)", "", f"{difference['difference']:+.1f}", interval, ""))
        columns = ["run", "clip@1 (%)", "video@1 (%)", "95 % interval", "video@5 (%)"]
        table = pd.DataFrame(rows, columns=columns).to_html(index=False, border=0, justify="left", col_space="8em")
        return f'<div style="line-height: 1.5; white-space: nowrap">{table}</div>'

    def caption(self) -> str:
        """Return the data and protocol of the numbers, and what their intervals include."""
        protocol, n_videos = self.a.scores.protocol, len(np.unique(self.a.scores.videos))
        demo = "DEMONSTRATION, tiny networks. " if protocol.get("profile") == "demo" else ""
        return (
            f"{demo}{protocol.get('data')} {protocol.get('split')}, {protocol.get('task')}: {n_videos:,} videos, "
            f"{len(self.classes)} classes; {self.count} of {self.a.scores.logits.shape[1]} clips per video, "
            f"{protocol.get('crop')}, {protocol.get('averaging')}. Each run is 1 seed: intervals are by recording, of "
            f"which there are {self.a.recordings.max() + 1:,}, and do not include the variance over seeds; no p."
        )

    def class_view(self, order: str, first: int) -> View:
        """Return video@1 by class in one of CLASS_ORDERS; the figure has the page that begins at class `first`."""
        table = predictions.sort_classes(predictions.class_table(self.a, self.b, self.count), order)
        page = table.iloc[first - 1 :][:PAGE_SIZE]
        names = [name for *_, name in self.sides()]
        best, worst = table.iloc[int(table["A"].argmax())], table.iloc[int(table["A"].argmin())]
        caption = f"A: best class {best['class']} ({best['A']:.0f} %), worst {worst['class']} ({worst['A']:.0f} %)."
        if self.b:
            excludes_zero, intervals = (table["low"] > 0) | (table["high"] < 0), table["low"].count()
            gain, loss = (table.loc[table["difference"].agg(extreme)] for extreme in ("idxmax", "idxmin"))
            caption += (
                f" A − B: largest for {gain['class']} ({gain['difference']:+.0f} points), smallest for {loss['class']} "
                f"({loss['difference']:+.0f}). {excludes_zero.sum()} of {intervals} intervals exclude zero; "
                f"{0.05 * intervals:.2g} are expected by chance."
            )
        alt = f"video@1 of {len(page)} classes with intervals, {' and '.join(names)}; the saved table has the numbers"
        caption += " The number beside a class is the number of its items."
        return View(self._with_runs(table), figures.class_figure(page, names, self.note), caption, alt)

    def confusion_view(self, side: str) -> ConfusionView:
        """Return the confusion matrix of run `side`, its cells row by row, and its most frequent confusions."""
        scored, classes = self.scored(side), self.classes
        members, counts = predictions.confusion_matrix(scored, self.count)
        names = [classes[index] for index in members]
        columns = [*names, "all others"][: counts.shape[1]]
        others = tuple(sorted(set(range(len(classes))) - set(members.tolist())))
        preds = [*members.tolist(), others][: counts.shape[1]]
        cells = [
            (f"{name}, predicted as {column}: {counts[i, j]}", (int(members[i]), preds[j]))
            for i, name in enumerate(names)
            for j, column in enumerate(columns)
        ]
        pairs = predictions.confused_pairs(scored, self.count)
        frequent = [
            (f"{n} × {classes[true]} → {classes[pred]}", (true, pred))
            for true, pred, n in pairs[:MAX_LISTED].itertuples(index=False)
        ]
        top = ", ".join(label for label, _ in frequent[:3])
        caption = (
            f"Rows: classes; columns: predictions of {side}. {pairs['n'].sum():,} of {len(scored.scores.labels):,} "
            f"items are wrong{f', most often {top}' * bool(top)}."
        )
        rows = [(name, column, counts[i, j]) for i, name in enumerate(names) for j, column in enumerate(columns)]
        table = pd.DataFrame(rows, columns=["class", "prediction", "items"])
        number = f"{len(members)} of {len(classes)}" if others else f"{len(members)}"
        figure = figures.confusion_figure(names, counts, self.note)
        alt = f"Confusion matrix of run {side}, {number} classes"
        return ConfusionView(View(self._with_runs(table), figure, caption, alt), counts.shape, cells, frequent)

    def item_list(self, rows: np.ndarray) -> tuple[pd.DataFrame, list[tuple[str, int]]]:
        """Return the table of the items `rows`, and (label, row) of the first MAX_LISTED."""
        table = predictions.item_table(self.a, self.b, self.count, rows)
        columns = [f"{side} {what}" for side, *_ in self.sides() for what in ("prediction", "confidence")]
        labels = [
            f"{video}: {name} → " + " | ".join(f"{a} {b:.0f} %" for a, b in zip(cells[::2], cells[1::2], strict=True))
            for video, name, *cells in table[["video", "class", *columns]][:MAX_LISTED].itertuples(index=False)
        ]
        return self._with_runs(table), list(zip(labels, rows[:MAX_LISTED].tolist(), strict=True))

    def video_view(self, row: int, table: pd.DataFrame, source: SourceClips | None) -> View:
        """Return the class probabilities of the item `row` over time; times are those of the clips in `source`."""
        panels, sentences = [], []
        for side, scored, name in self.sides():
            best, means, by_clip = predictions.clip_probabilities(scored, row, self.count)
            panels.append((f"{side}: {name}", [self.classes[index] for index in best], means, by_clip))
            first = (by_clip.argmax(axis=1) == 0).sum()
            sentences.append(
                f"{side} predicts {self.classes[best[0]]}, {100 * means[0]:.0f} %, first in {first} of {self.count} "
                "clips"
            )
        video, true = self.item_name(row)
        times, unit = (source.times, source.unit) if source and self._same_clips() else (None, "")
        figure = figures.time_figure(panels, times, unit, true, self.note)
        caption = f"{video}, class {true}: {'; '.join(sentences)}."
        return View(table, figure, caption, f"Probabilities over time of {video}, class {true}")

    def _same_clips(self) -> bool:
        specs = [scored.run.spec.replace(variant="R3D", seed=0) for _, scored, _ in self.sides()]
        return specs[0] == specs[-1]

    def _with_runs(self, table: pd.DataFrame) -> pd.DataFrame:
        folders = {f"run {side}": scored.run.spec.folder for side, scored, _ in self.sides()}
        return table.assign(**folders, clips=self.count)
