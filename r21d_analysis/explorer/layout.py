"""The explorer's widgets and their arrangement, without behavior."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import ipywidgets as widgets

from r21d_analysis.explorer import predictions
from r21d_analysis.explorer.classify_widget import WIDE, ClassifyWidget
from r21d_core.runs.run import Run

TABS = ("Classes", "Confusion", "Videos", "Your own video")
# A transparent button over each cell of the matrix, so that mouse and keyboard reach it.
CELL_STYLE = """<style>
.r21d-cells > div {{ display: grid; grid-template: repeat({rows}, 1fr) / repeat({columns}, 1fr);
  width: 100%; height: 100% }}
.r21d-cells button.widget-toggle-button {{ width: auto; height: auto; min-width: 0; margin: 0; padding: 0; border: 0;
  background: transparent; box-shadow: none; font-size: 0 }}
.r21d-cells button.widget-toggle-button:is(:hover, :focus) {{ outline: 2px solid black; outline-offset: -2px }}
</style>"""
HALF = WIDE | {"layout": {"width": "49%"}}


class ExplorerLayout:
    """Widgets by name, and `box` with all of them; `weights` is the folder of published weights."""

    def __init__(self, runs: Sequence[Run], weights: Path | str):
        data = list(dict.fromkeys(predictions.data_label(run.spec) for run in runs))
        self.data, self.protocol = _dropdown("Data", data), _dropdown("Protocol")
        self.a, self.b = _dropdown("Run A"), _dropdown("Run B")
        self.clips = widgets.SelectionSlider(options=[1], description="Clips per video", **WIDE)
        self.order = _dropdown("Order", list(predictions.CLASS_ORDERS))
        self.first = widgets.IntSlider(1, 1, 1, description="From class", **HALF)
        self.side = _dropdown("Predictions of", ["A", "B"])
        self.cells = widgets.ToggleButtons(options=[("", 0)], value=None, layout={"grid_area": "1 / 1"})
        self.cells.add_class("r21d-cells")
        self.pairs = widgets.Select(description="Most confused", rows=6, **WIDE)
        self.true, self.pred = _dropdown("Class", [("any", None)]), _dropdown("Predicted as", [("any", None)])
        self.items = _dropdown("Show", list(predictions.ITEM_FILTERS))
        self.videos = widgets.Select(description="Class → A | B", rows=7, **WIDE)
        self.summary, self.class_bars, self.matrix, self.matrix_caption, self.n_items = _htmls(5)
        self.video, self.frames, self.saliency, self.status = _htmls(4)
        self.matrix.layout.grid_area = "1 / 1"
        # Arrow keys walk through a list, so that selecting a pair does not open its videos yet.
        self.show_pair, self.attributions, self.save_csv, self.save_pdf = (
            widgets.Button(description=text, layout={"width": "auto"})
            for text in ("Show videos", "Attributions", "Save table (CSV)", "Save figure (PDF)")
        )
        self.classifier = ClassifyWidget(runs, weights)
        grid = widgets.GridBox([self.matrix, self.cells], layout={"grid_template_columns": "max-content"})
        tabs = [
            [_row(self.order, self.first), self.class_bars],
            [self.side, self.pairs, self.show_pair, self.matrix_caption, grid],
            [_row(self.true, self.pred), _row(self.items, self.side), self.videos, self.n_items, self.video,
             self.frames, self.attributions, self.saliency],
            [self.classifier.box],
        ]  # fmt: skip
        self.tabs = widgets.Tab([widgets.VBox(tab) for tab in tabs], titles=TABS)
        self.box = widgets.VBox(
            [_row(self.data, self.protocol), _row(self.a, self.b), self.clips, self.summary, self.tabs,
             _row(self.save_csv, self.save_pdf), self.status],
            layout={"max_width": "900px"},
        )  # fmt: skip


def _dropdown(description: str, options: Iterable = ()) -> widgets.Dropdown:
    return widgets.Dropdown(description=description, options=options, **HALF)


def _htmls(count: int) -> list[widgets.HTML]:
    return [widgets.HTML(layout={"max_width": "100%"}) for _ in range(count)]


def _row(*members: widgets.Widget) -> widgets.HBox:
    return widgets.HBox(members, layout={"flex_flow": "row wrap"})
