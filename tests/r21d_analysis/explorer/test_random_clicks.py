"""Whatever is clicked, in whatever order, the explorer shows the numbers of what its menus say."""

from functools import cache

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from matplotlib.figure import Figure

from r21d_analysis.explorer import figures
from r21d_analysis.explorer import widget as module
from r21d_analysis.explorer.comparison import Comparison
from r21d_analysis.explorer.predictions import score_runs, select_items
from r21d_analysis.explorer.widget import FILTERS, Explorer
from r21d_analysis.interpret.html import text_html
from r21d_analysis.statistics.inference import check_same_items
from r21d_core import R21DError
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.explorer.test_widget import point, write_run

score = cache(score_runs)
MENUS = ("data", "protocol", "a", "b", "clips", "side", "matrix_side", "true", "pred", "items")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs on two data sets: of seeds, splits, numbers of clips and classes that differ, and one that is damaged."""
    folder, number = tmp_path_factory.mktemp("clicks"), 0
    names = [f"class {number:02d}" for number in range(23)]
    for data, classes, seeds, clips in (
        ("few-split1", names[:3], (0, 1), 5), ("few-split2", names[:3], (0, 1), 5),
        ("many", names, (0,), 5), ("many", names, (0,), 4), ("other", names[::-1][:7], (0,), 3),
    ):  # fmt: skip
        for seed in seeds:
            for spec in variant_comparison("small", data, variants=("R3D", "R(2+1)D"), eval_clips=clips, seeds=(seed,)):
                videos = [f"{data} {n}" for n in range(4 * len(classes))]
                write_run(spec, folder, number := number + 1, clips=clips, classes=tuple(classes), videos=videos)
    (broken,) = variant_comparison("small", "other", variants=("MC3",), eval_clips=3)
    write_run(broken, folder, clips=3, videos=[f"other {n}" for n in range(28)])
    (find_run(folder, broken).folder / "scores.npz").write_bytes(b"damaged")
    return folder


def rounded(table):
    numbers = table.select_dtypes("float").columns
    return table.assign(**{name: table[name].round(1) + 0.0 for name in numbers})


def shown_rows(widget, table):
    assert widget.df.equals(rounded(table)), "a table of another selection"
    return list(widget.selected_rows)


class Clicks(RuleBasedStateMachine):
    folder = None

    def __init__(self):
        super().__init__()
        self.shown = Explorer(str(self.folder))

    @rule(name=st.sampled_from(MENUS), position=st.integers(0, 30))
    def choose(self, name, position):
        menu = getattr(self.shown, name)
        if menu.options:
            menu.index = position % len(menu.options)

    @rule(tab=st.integers(0, 3))
    def open_tab(self, tab):
        self.shown.tabs.selected_index = tab

    @rule(percent=st.booleans())
    def show_percent(self, percent):
        self.shown.percent.value = percent

    @rule(text=st.sampled_from(["", "1", "CLASS", "few", "nothing"]), low=st.integers(0, 100), high=st.integers(0, 100))
    def filter(self, text, low, high):
        self.shown.search.value, self.shown.confidence.value = text, (min(low, high), max(low, high))

    @precondition(lambda self: self.shown.comparison and self.shown.tabs.selected_index < 3)
    @rule(data=st.data())
    def select_rows(self, data):
        table = (self.shown.class_table, self.shown.pairs, self.shown.videos)[self.shown.tabs.selected_index]
        rows, most = range(len(table.df)), len(table.df) if table is self.shown.class_table else 1
        if rows:
            table.selected_rows = data.draw(st.lists(st.sampled_from(rows), max_size=most, unique=True))

    @precondition(lambda self: self.shown.comparison and self.shown.tabs.selected_index == 1)
    @rule(cell=st.integers(0, 400), kind=st.sampled_from(["click", "mousemove"]))
    def use_matrix(self, cell, kind):
        point(self.shown, cell % len(self.shown.cells), kind)

    @rule()
    def show_maps(self):
        self.shown.attributions.click()

    @invariant()
    def shows_its_selection(self):
        shown = self.shown
        if not shown.comparison:
            assert not shown.summary.value and "damaged: its checksum" in shown.status.value
            assert {tab.layout.visibility for tab in shown.tabs.children[:3]} == {"hidden"}
            return
        assert {tab.layout.visibility for tab in shown.tabs.children[:3]} == {"visible"}
        a, b = score(shown.a.value), None
        try:
            if shown.b.value and shown.b.value != shown.a.value:
                b = score(shown.b.value)
                check_same_items(a.scores, b.scores)
                b = b if a.predictions.keys() & b.predictions.keys() else None
        except R21DError:
            b = None
        assert ("only A is shown" in shown.status.value) <= (not b)
        c = Comparison(a, b, shown.a.label, shown.b.label, shown.clips.value)
        assert shown.summary.value == c.summary_table() + text_html(c.caption())
        (self.check_classes, self.check_confusion, self.check_videos, lambda c: None)[shown.tabs.selected_index](c)

    def check_classes(self, c):
        view = c.class_view(self.shown.chosen)
        rows = shown_rows(self.shown.class_table, view.table)
        assert sorted(view.table.index[rows]) == sorted(self.shown.chosen)
        assert self.shown.class_bars.value.endswith(text_html(view.caption)) and view.alt in self.shown.class_bars.value

    def check_confusion(self, c):
        side = self.shown.matrix_side.value
        view, cells, pairs = c.confusion_view(side, self.shown.percent.value, self.shown.chosen)
        assert self.shown.matrix_caption.value == text_html(view.caption) and view.alt in self.shown.matrix.value
        assert shown_rows(self.shown.pairs, pairs.drop(columns=["true", "pred"])) == []
        assert self.shown.cells == cells

    def check_videos(self, c):
        filters = {name: getattr(self.shown, name).value for name in FILTERS}
        assert [index for _, index in self.shown.true.options] == [-1, *range(len(c.classes))]
        rows = select_items(c.a, c.b, c.count, show=self.shown.items.value, **filters)
        selected = shown_rows(self.shown.videos, c.items_view(rows).table)
        assert np.array_equal(self.shown.rows, rows) and f"{len(rows)} of" in self.shown.n_items.value
        if len(rows):
            assert [rows[row] for row in selected] in ([self.shown.row], [])
            view = c.video_view(self.shown.row, c.items_view(rows), None)
            assert text_html(view.caption) in self.shown.video.value and view.alt in self.shown.video.value
        else:
            assert "No such video" in self.shown.video.value and "<img" not in self.shown.saliency.value


def test_random_clicks_show_the_numbers_of_the_selection(folder, monkeypatch):
    # As its pixels are checked elsewhere; of the figures only the matrix is asked for what is at a pixel.
    monkeypatch.setattr(module, "figure_html", lambda figure, alt: alt)
    for name in ("class_figure", "time_figure"):
        monkeypatch.setattr(figures, name, lambda *arguments: Figure())
    Clicks.folder = folder
    run_state_machine_as_test(Clicks, settings=settings(max_examples=5, stateful_step_count=15))
