"""What the explorer shows of two networks: tables, figures and captions, without widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from r21d_analysis.explorer import figures, predictions
from r21d_analysis.explorer.predictions import MAX_MATRIX_CLASSES, ScoredRuns
from r21d_analysis.interpret.source_videos import SourceClips
from r21d_analysis.statistics.inference import estimate_accuracy, estimate_difference, format_interval
from r21d_analysis.style import isolate, name_task, write_minus
from r21d_core.data.dataset_cards import group_noun

DIFFERENCE = "A − B"
SIGNS = "Positive, blue: A has more; negative, orange: B has more; on the diagonal these are correct. "


class View(NamedTuple):
    """What a tab shows: its table and figure, the figure's caption and its text for screen readers."""

    table: pd.DataFrame
    figure: Figure | None = None
    caption: str = ""
    alt: str = ""


@dataclass(frozen=True)
class Comparison:
    """Network A, and B or None, evaluated with `count` clips on the same items."""

    a: ScoredRuns
    b: ScoredRuns | None
    a_name: str
    b_name: str
    count: int

    def sides(self) -> list[tuple[str, ScoredRuns, str]]:
        """Return ("A", runs, name) and, with B, ("B", runs, name)."""
        sides = (("A", self.a, self.a_name), ("B", self.b, self.b_name))
        return [(side, scored, name) for side, scored, name in sides if scored]

    @property
    def note(self) -> str:
        """The note that figures of demonstrations carry."""
        return "demonstration: tiny networks" if self.a.runs[0].spec.profile == "demo" else ""

    @property
    def class_order(self) -> str:
        """The column of `class_view` by which its figure sorts the classes, as rounded as in the table, descending."""
        return DIFFERENCE if self.b else "A recall"

    @property
    def classes(self) -> np.ndarray:
        """The class names, (classes,)."""
        return np.array(self.a.scores.classes, dtype=object)

    def item_name(self, row: int) -> tuple[str, str]:
        """Return the video and the class of an item."""
        return str(self.a.scores.videos[row]), self.a.scores.classes[self.a.scores.labels[row]]

    def summary_table(self) -> str:
        """Return the accuracies of both networks and their difference as HTML; pandas escapes the names."""
        rows = []
        for side, scored, name in self.sides():
            predicted = scored.predictions[self.count]
            video = estimate_accuracy(scored.outcomes(self.count))
            # A pack keeps whether the label is among the first five for all clips only.
            all_or_exact = self.count == scored.scores.logits.shape[1] or "quantization" not in scored.scores.protocol
            shown = len(self.classes) > 5 and all_or_exact
            top5 = f"{100 * scored.mean(predicted.label_rank < 5):.1f}" if shown else "–"
            clip, interval = 100 * scored.mean(predicted.clip_accuracy), format_interval(video.low, video.high)
            rows.append((f"{side}: {name}", f"{clip:.1f}", f"{video.value:.1f}", interval, top5))
        if self.b:
            difference = estimate_difference(self.a.outcomes(self.count), self.b.outcomes(self.count))
            interval = format_interval(difference.low, difference.high, "+.1f")
            rows.append(("A − B (points)", "", f"{difference.value:+.1f}", interval, ""))
        rows = [(name, *map(write_minus, numbers)) for name, *numbers in rows]
        columns = ["run", "clip@1 (%)", "video@1 (%)", "95 % interval", "video@5 (%)"]
        table = pd.DataFrame(rows, columns=columns).to_html(index=False, border=0, justify="left", col_space="7em")
        table = table.replace("<table ", '<table style="border-collapse: separate; border-spacing: 0.3em 0" ', 1)
        return f'<div style="line-height: 1.5; white-space: nowrap; overflow-x: auto">{table}</div>'

    def caption(self) -> str:
        """Return the data and protocol of the numbers, and what their intervals include."""
        protocol, n_videos = self.a.scores.protocol, len(np.unique(self.a.scores.videos))
        seeds = [len(scored.seeds) for _, scored, _ in self.sides()]
        data, task = self.a.runs[0].spec.data, self.a.runs[0].spec.task
        include = "do not include the variance over seeds."
        if max(seeds) > 1:
            # A table's pool needs the runs of all its networks, at these clips; the primary contrast has just these.
            include = "include the variance over several seeds, of the networks shown alone: a table of more networks "
            include += "pools it over these, so its intervals differ somewhat."
        return (
            f"{'DEMONSTRATION, tiny networks. ' * (protocol.get('profile') == 'demo')}{protocol.get('data')} "
            f"{protocol.get('split')}, {name_task(task, data)}: {n_videos:,} videos, {len(self.classes)} classes; "
            f"{self.count} of {self.a.scores.logits.shape[1]} clips per video, {protocol.get('crop')}, "
            f"{protocol.get('averaging')}{', mean over splits' * bool(self.a.splits.any())}. "
            f"Seeds: {' and '.join(map(str, seeds))}. Intervals are by {group_noun(data)}, of which there "
            f"are {self.a.recordings.max() + 1:,}, and {include}"
        )

    def class_view(self, chosen: Sequence[int] = ()) -> View:
        """Return all classes, and a figure of those `chosen`; without a choice, of those with extreme differences."""
        table, most = predictions.class_table(self.a, self.b, self.count), MAX_MATRIX_CLASSES
        rows = table.loc[table.index.isin(chosen)] if chosen else table
        rows = rows.sort_values(self.class_order, ascending=False, kind="stable", key=lambda values: values.round(1))
        page = pd.concat([rows[: most // 2], rows[-most // 2 :]]) if len(rows) > most else rows
        names = [name for *_, name in self.sides()]
        caption = "The number beside a class is the number of its items."
        if self.b:
            n_nonzero, n = ((table["low"] > 0) | (table["high"] < 0)).sum(), table["low"].count()
            caption += f" A − B excludes zero in {n_nonzero} of {n} classes with an interval; "
            caption += f"{0.05 * n:.2g} are expected by chance."
        if len(page) < len(table):
            which = "those selected" if chosen else "those at both ends; others can be selected"
            caption += f" The figure has {len(page)} of {len(table)} classes: {which} in the table."
        caption += " Bars do not include the variance over seeds."
        alt = f"Recall by class ({len(page)}) with intervals, {' and '.join(names)}; the table has the numbers"
        return View(table, figures.class_figure(page, names, self.note), caption, alt)

    def confusion_view(
        self, side: str = "A", percent: bool = False, chosen: Sequence[int] = ()
    ) -> tuple[View, list[tuple], pd.DataFrame]:
        """Return the confusion matrix of `side`, which may be DIFFERENCE, its cells, and the confused pairs.

        Its rows, the classes `chosen` or those that A or B confuses most, are the same for all sides. A cell, a row of
        the View's table, is a class index and that of a prediction, or those of all other classes. With a choice, a
        pair has a chosen class, as class or as prediction.
        """
        classes, labels, is_difference = self.classes, self.a.scores.labels, side == DIFFERENCE
        whole = {name: predictions.confusion_matrix(scored, self.count) for name, scored, _ in self.sides()}
        members = predictions.matrix_classes(np.maximum.reduce([*whole.values()]), chosen)
        if self.b:
            whole[DIFFERENCE] = whole["A"] - whole["B"]
        counts = predictions.take_classes(whole[side], members)
        n_items = np.bincount(labels, minlength=len(classes))
        others = tuple(np.setdiff1d(np.arange(len(classes)), members).tolist())
        columns = [*zip(classes[members], members.tolist(), strict=True), ("all others", others)][: counts.shape[1]]
        cells = [(row, column) for row in members.tolist() for _, column in columns]
        table = pd.DataFrame({"class": np.repeat(classes[members], len(columns))})
        table["prediction"], table["items"] = [name for name, _ in columns] * len(members), counts.ravel()
        table["% of class"] = 100 * (counts / np.maximum(n_items[members], 1)[:, None]).ravel()
        true, pred = predictions.confused_pairs(whole[side], chosen).T
        pairs = pd.DataFrame({"true": true, "pred": pred, "class": classes[true], "predicted as": classes[pred]})
        for name, matrix in whole.items():
            pairs[f"{name} items"] = matrix[true, pred]
        pairs["% of class"] = 100 * pairs[f"{side} items"] / n_items[true]
        top = [
            f"{write_minus(format(n, '+.3g' if is_difference else '.3g'))} × {isolate(true)} → {isolate(pred)}"
            for true, pred, n in pairs[["class", "predicted as", f"{side} items"]][:3].itertuples(index=False)
        ]
        shown = [(name, len(scored.seeds)) for name, scored, _ in self.sides() if name in side]
        wrong = [f"{whole[name].sum() - whole[name].trace():,.4g}{f' by {name}' * is_difference}" for name, _ in shown]
        n_seeds = [f"{n} seeds{f' of {name}' * is_difference}" for name, n in shown if n > 1]
        most = f"{'; of the selected classes' if chosen else ';' if is_difference else ','} "
        most += "the largest differences are " if is_difference else "most often "
        caption = (
            f"Rows: classes; columns: predictions of {side}; {'per cent of the row' if percent else 'items'}"
            f"{', mean of ' * bool(n_seeds)}{' and '.join(n_seeds)}. {SIGNS * is_difference}{' and '.join(wrong)} of "
            f"{len(labels):,} items are wrong{most * bool(top)}{', '.join(top)}."
        )
        if others or len(chosen) == 1:
            place, by = "selected in the tab Classes", " by A or B" * bool(self.b)
            which = f"those {place}" if chosen else f"those most confused{by}; others can be {place}"
            if len(chosen) == 1:
                which = f"{isolate(classes[chosen[0]])}, {place}, and those most often confused with it{by}, either way"
            caption += f" The matrix has {len(members)} of {len(classes)} classes: {which}."
        caption += " The table has all confusions of the selected classes." * bool(chosen)
        figure = figures.confusion_figure(classes[members].tolist(), counts, n_items[members], percent, self.note)
        alt = f"Confusion matrix of {side}, {len(members)} of {len(classes)} classes"
        return View(table, figure, caption, alt), cells, pairs

    def items_view(self, rows: np.ndarray) -> View:
        """Return the table of items `rows` (n,): each side's prediction, its confidence and the rank of the class."""
        table = pd.DataFrame({"video": self.a.scores.videos[rows], "class": self.classes[self.a.scores.labels[rows]]})
        for side, scored, _ in self.sides():
            predicted = scored.predictions[self.count]
            table[f"{side} prediction"] = self.classes[predicted.pred[0, rows]]
            table[f"{side} %"] = 100 * predicted.confidence[0, rows].astype(float)
            table[f"{side} rank"] = predicted.label_rank[0, rows] + 1
        return View(table)

    def video_view(self, row: int, items: View, source: SourceClips | None) -> View:
        """Return `items` with a figure: class probabilities of the item `row` at the times of the clips in `source`."""
        panels, sentences = [], []
        video, true = self.item_name(row)
        for side, scored, name in self.sides():
            best, ranks, means, by_clip = predictions.clip_probabilities(scored, row, self.count)
            if len(scored.seeds) > 1:
                name = f"{name.split(', mean of')[0]}, seed {scored.seeds[0]}"
            panels.append((f"{side}: {name}", self.classes[best].tolist(), ranks, means, by_clip))
            n_first, rank = (by_clip.argmax(axis=1) == 0).sum(), ranks[best.tolist().index(scored.scores.labels[row])]
            sentences.append(
                f"{side} predicts {isolate(scored.scores.classes[best[0]])}, {100 * means[0]:.0f} %, first in "
                f"{n_first} of {self.count} clips; its rank of the class is {rank}"
            )
        specs = [scored.runs[0].spec for _, scored, _ in self.sides()]
        same_clips = len({(spec.frames, spec.frame_stride, spec.eval_clips) for spec in specs}) == 1
        times, unit = (source.times, source.unit) if source and same_clips else (None, "")
        figure = figures.time_figure(panels, times, unit, true, self.note)
        if any("quantization" in scored.scores.protocol for _, scored, _ in self.sides()):
            sentences.append("A pack rounds most clips' probabilities to multiples of 5 %")
        caption = f"{video}, class {isolate(true)}. {'. '.join(sentences)}."
        alt = f"Probabilities over time of {video}, class {true}"
        return items._replace(figure=figure, caption=caption, alt=alt)
