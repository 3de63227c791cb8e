"""The explorer's widgets and their arrangement, without behavior."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets as widgets
import pandas as pd
from ipyevents import Event
from itables.javascript import JavascriptFunction
from itables.widget import ITable

from r21d_analysis.explorer.predictions import ITEM_FILTERS

TABS = ("Classes", "Confusion", "Videos", "Your own video")
WIDE = {"style": {"description_width": "initial"}, "layout": {"width": "calc(100% - 4px)"}}
HALF = WIDE | {"layout": {"width": "49%", "min_width": "min(300px, 98%)"}}
# The label of a search field belongs to the first field of the page with its id, which several tables share.
NAME_SEARCH = (
    "function() { this.api().table().container().querySelector('input')?.setAttribute('aria-label', 'Search:') }"
)
TABLE: dict[str, Any] = {
    "maxBytes": 0, "style": "width: 100%", "classes": "display compact nowrap", "scrollX": True, "pageLength": 10,
    "text_in_header_can_be_selected": False,  # a click on it sorts
    "layout": {"topStart": "search", "topEnd": "buttons", "bottomStart": "info", "bottomEnd": "paging"},
    "select": {"style": "single", "keys": True, "info": False}, "stateSave": True, "stateDuration": 0,
    "warn_on_undocumented_option": False,  # two of stateSave are DataTables' own
    "drawCallback": JavascriptFunction(NAME_SEARCH),
}  # fmt: skip
# The element of a table outlives its content, and holds how it is sorted, searched and paged. Which rows are selected
# is a trait of the widget.
SAVE_STATE = "function(settings, state) { settings.nTable.r21d = {...state, select: undefined, data: %d} }"
LOAD_STATE = "function({nTable: {r21d: state}}) { return state?.data == %d ? {...state, start: %s} : null }"


def _buttons(file: str) -> dict[str, Any]:
    """Copy, and save as `file`.csv; without a title, the browser's page names the file and heads the copy.

    They do so at the click, not 0.1 s later, when another table may have replaced theirs.
    """
    options = {"title": "", "filename": file, "exportOptions": {"escapeExcelFormula": True}, "async": 0}
    return {"buttons": [{"extend": kind} | options for kind in ("copyHtml5", "csvHtml5")]}


CLASSES = _buttons("classes") | {"select": TABLE["select"] | {"style": "multi"}, "orderDescReverse": False}
PAIRS, OWN = _buttons("confusions"), _buttons("predictions")
VIDEOS = _buttons("videos") | {"layout": TABLE["layout"] | {"topStart": None}}

POINT = "Point at a cell for its values. Click it, or select a row of the table, for its videos."
NO_RUNS = """<p><b>No finished run in <code>{folders}</code>.</b> Train some, about three minutes on two cores, then
run this cell again:</p><pre>r21d train variant_comparison --variants "f-R2D,R3D,R(2+1)D"</pre>
<p>Or name a folder with runs in the parameters' cell, such as <code>../results/small.zip</code>.</p>"""
STATIC = """In a live notebook widgets change these pictures. It also classifies videos of your own, as
`r21d classify VIDEO --weights RUN_FOLDER` does."""
# Keys typed into a widget would otherwise move between the notebook's cells, or create and delete them. The widget
# comes into the page after this script.
KEEP_KEYS = """setTimeout(() => element.closest('.jp-OutputArea')?.addEventListener('keydown', event =>
  event.target.toggleAttribute('data-lm-suppress-shortcuts',
    !(event.ctrlKey || event.metaKey || event.altKey || event.key == 'Escape')), true), 300)"""
# Contrasts of 4.5 or more: of the gray of plots, which suits light and dark pages, and of a table's selected row. The
# confusion matrix is on white, where a darker cell is always a larger number. In a narrow window text wraps beside a
# figure that scrolls, a tab is as wide as its name, and the tabs take several lines. What has the keyboard is outlined.
STYLE = """<style>.r21d-explorer table.dataTable { --dt-row-selected: 0, 75, 160 }
.r21d-explorer table.dataTable td:not(.dt-type-numeric) { overflow-wrap: anywhere; white-space: normal; min-width: 7em }
.r21d-explorer table.dataframe td:first-child { overflow-wrap: anywhere; white-space: normal }
.r21d-explorer .widget-html-content { min-width: 0 }
.r21d-explorer p, .r21d-explorer > .widget-inline-hbox { max-width: 900px }
.r21d-explorer .widget-tab > .lm-TabBar { height: auto; min-height: 0 }
.r21d-explorer .widget-tab > .lm-TabBar .lm-TabBar-content { flex-wrap: wrap }
.r21d-explorer .widget-tab > .lm-TabBar .lm-TabBar-tab { flex: 0 1 auto; min-width: max-content }
.r21d-explorer :is(select, input, .noUi-handle):focus-visible { outline: 2px solid #4a8af4; outline-offset: 1px }
.r21d-explorer img[alt^=Con], [data-jp-theme-light="true"] .r21d-explorer img:is([alt^=Re], [alt^=Prob]) {
  filter: brightness(0.93) }
[data-jp-theme-light="false"] .r21d-explorer img:is([alt^=Re], [alt^=Prob]) { filter: brightness(1.2) }
[data-jp-theme-light="false"] .r21d-explorer .widget-html-content:has(> img[alt^=Con]) { background: white }
</style>"""


class ExplorerLayout:
    """Widgets by name, and `box` with all of them; `own_video` is what the last tab holds."""

    def __init__(self, data: Sequence[str], own_video: widgets.Widget):
        dropdown = partial(widgets.Dropdown, **HALF)
        row = partial(widgets.HBox, layout={"flex_flow": "row wrap"})
        pair = partial(widgets.HBox, layout={"flex_flow": "row wrap", "grid_gap": "0 16px"})
        self.data, self.protocol = dropdown(description="Data", options=data), dropdown(description="Protocol")
        self.a, self.b = dropdown(description="Run A"), dropdown(description="Run B")
        self.clips = widgets.SelectionSlider(options=[1], description="Clips per video", **WIDE)
        self.side, self.matrix_side = (dropdown(description="Predictions of", options=["A"]) for _ in range(2))
        self.percent = widgets.Checkbox(description="Per cent of the class", indent=False, layout={"width": "auto"})
        self.class_table, self.pairs, self.videos = (
            ITable(pd.DataFrame({"": []}), **TABLE | options) for options in (CLASSES, PAIRS, VIDEOS)
        )
        self.true, self.pred = dropdown(description="Class"), dropdown(description="Predicted as")
        self.items = dropdown(description="Show", options=list(ITEM_FILTERS))
        self.search = widgets.Text(description="Search", placeholder="part of a file's or class's name", **HALF)
        self.confidence = widgets.IntRangeSlider(value=(0, 100), min=0, max=100, description="Confidence (%)", **HALF)
        (self.summary, self.class_bars, self.matrix, self.matrix_value, self.matrix_caption, self.n_items,
         self.thumbnails, self.player, self.video, self.saliency, self.status) = (
            widgets.HTML(layout={"max_width": "100%"}) for _ in range(11)
        )  # fmt: skip
        self.attributions = widgets.Button(description="Attributions", layout={"align_self": "flex-start"})
        # Beside its figure where the window is wide enough for both, else above it.
        for table, width in ((self.class_table, 640), (self.pairs, 400), (self.videos, 700)):
            table.layout = {"flex": f"1 1 {width}px", "min_width": "0", "max_width": "100%"}
        bars, matrix, video = (
            widgets.VBox(members, layout={"width": f"{width}px", "max_width": "100%"})
            for members, width in (
                ([self.class_bars], 800), ([self.matrix, self.matrix_value, self.matrix_caption], 690),
                ([self.player, self.video, self.attributions], 800),
            )
        )  # fmt: skip
        mouse = partial(Event, wait=50, throttle_or_debounce="throttle")
        self.matrix_mouse = mouse(source=self.matrix, watched_events=["click", "mousemove"])
        self.thumbnail_mouse = mouse(source=self.thumbnails, watched_events=["click"])
        tabs = [
            [pair([self.class_table, bars])],
            # The value's text comes after the matrix, which must not move under the pointer when the text wraps.
            [row([self.matrix_side, self.percent]), pair([matrix, self.pairs])],
            [row([self.true, self.pred, self.items, self.side, self.search, self.confidence]), self.n_items,
             self.thumbnails, pair([self.videos, video]), self.saliency],
            [own_video],
        ]  # fmt: skip
        self.tabs = widgets.Tab([widgets.VBox(tab) for tab in tabs], titles=TABS)
        menus = row([self.data, self.protocol, self.a, self.b])
        members = [menus, self.clips, self.summary, self.status, self.tabs, widgets.HTML(STYLE)]
        self.box = widgets.VBox(members, layout={"max_width": "1600px"}).add_class("r21d-explorer")


def fill_table(widget: ITable, table: pd.DataFrame, selected: Sequence[int], data: int, **options: Any) -> None:
    """Show `table` with the rows `selected`; while the number `data` is equal, it keeps its order and its search.

    A table whose first column is equal also keeps its page.
    """
    previous, table, numbers = widget.df, table.copy(), table.select_dtypes("float").columns
    table[numbers] = table[numbers].round(1) + 0.0  # −0.04 is 0.0, not −0.0
    if previous is not None and table.equals(previous):
        widget.selected_rows = list(selected)
        return
    same_rows = previous is not None and table.iloc[:, 0].equals(previous.iloc[:, 0])
    load = JavascriptFunction(LOAD_STATE % (data, "state.start" if same_rows else "0"))
    state: dict[str, Any] = {"stateSaveCallback": JavascriptFunction(SAVE_STATE % data), "stateLoadCallback": load}
    widget.update(table, selected_rows=list(selected), **TABLE | state | options)
