"""The style that all figures and tables share: colors, markers, number formats, captions, and what stands for no runs.

All text in a table is escaped for HTML, since names of classes, videos and data sets come from outside.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from itertools import cycle
from operator import attrgetter
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Markdown
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from pandas.io.formats.style import Styler
from pandas.io.formats.style_render import CSSDict

from r21d_core.data.dataset_cards import class_noun
from r21d_core.runs.run import Run

QUESTIONS = {"speed": "playback rate", "arrow": "direction", "action": "class"}  # what a network of a task tells
GRAY = "#797979"  # of text and lines; its contrast is 4.3 on white and on JupyterLab's dark #111, and no gray has more
# seaborn's "colorblind", whose import takes a tenth of a second
PALETTE = [to_rgb(f"#{color}") for color in (
    "0173b2", "de8f05", "029e73", "d55e00", "cc78bc", "ca9161", "fbafe4", "949494", "ece133", "56b4e9")]  # fmt: skip
DARK_GRAY = to_rgb("#626262")  # of 2-D networks: to those who do not see green, a lighter gray is MC's green
# Of each kind of network the color, the networks, and a marker for each. The last three kinds are R(2+1)D with one
# thing changed: the layers between its two convolutions, their planes, their arrangement. Kinds whose colors are close
# to those who do not see red or green have no marker in common.
KINDS = {
    "R2D": (DARK_GRAY, ("R2D", "f-R2D"), "<>"),
    "R3D": (PALETTE[0], ("R3D", "R3D+ReLU"), "os"),
    "MC": (PALETTE[2], ("MC2", "MC3", "MC4", "MC5"), "D^sv"),
    "rMC": (PALETTE[1], ("rMC2", "rMC3", "rMC4", "rMC5"), "D^sv"),
    "R(2+1)D": (PALETTE[3], ("R(2+1)D",), "o"),
    "between": (PALETTE[4], ("R(2+1)D-noReLU", "R(2+1)D-noBN-noReLU"), "Xp"),
    "planes": (PALETTE[5], ("R(2+1)D-0.5M", "R(2+1)D-2M"), "P*"),
    "arrangement": (PALETTE[9], ("R(1+2)D", "P3D-B", "P3D-C"), "D^v"),
}
COLORS = {kind: color for kind, (color, *_) in KINDS.items()}
_OTHER_MARKERS = cycle("pXP*h8H")
# Others, such as 33p22 and s3d, take a marker each when first drawn.
VARIANT_STYLE: defaultdict[str, dict[str, Any]] = defaultdict(
    lambda: {"color": GRAY, "marker": next(_OTHER_MARKERS)},
    {
        variant: {"color": COLORS[kind], "marker": marker}
        for kind, (_, members, markers) in KINDS.items()
        for variant, marker in zip(members, markers, strict=True)
    },
)
# Fonts with Chinese, Japanese and Korean letters, which names of classes may have and matplotlib's own font lacks.
CJK_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Source Han Sans SC",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Hiragino Sans GB", "Apple SD Gothic Neo",
    "Microsoft YaHei", "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip


def name_task(task: str, data: str) -> str:
    """What a network of `task` recognizes in the data set named `data`, such as actions, speech or playback rate."""
    return class_noun(data) if task == "action" else QUESTIONS[task]


def font_families() -> list[str]:
    """The default family, then those of CJK_FONTS that are installed: a letter comes from the first that has it.

    Others are left out, since matplotlib warns of a family that it does not find.
    """
    installed = set(fontManager.get_font_names())
    return ["sans-serif", *(name for name in CJK_FONTS if name in installed)]


RC_PARAMS: dict[Any, Any] = {  # transparent, for light and dark pages
    "axes.grid": True, "grid.color": "#79797944", "axes.spines.top": False, "axes.spines.right": False,
    "legend.framealpha": 0.0, "legend.edgecolor": "none", "text.parse_math": False,  # a name may contain $
    "font.family": font_families(),
} | dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none") | dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color"), GRAY
)  # fmt: skip
ERROR_BAR = {"ms": 7, "lw": 1, "capsize": 2, "mec": "white"}
HOLLOW = {"ls": "none", "ms": 8, "mfc": "none", "mec": "auto", "mew": 1.5}  # markers that may lie on one another
PAPER_TICK = {"marker": "|", "ls": "", "ms": 14, "mew": 2.5, "color": GRAY}  # a marker of no network
TABLE_CSS: list[CSSDict] = [
    {"selector": "caption", "props": "text-align: left; font-style: italic; max-width: min(65em, 100vw - 4rem)"},
    {"selector": "th[colspan]", "props": "text-align: left"},  # the title of a group of columns
    {"selector": "td", "props": "white-space: nowrap"},
]
PAPER = "opacity: 0.7"  # of the paper's numbers; text of any theme keeps a contrast above 4.5
P = "p, Holm"  # a column of every table of tests
NUMBERS = re.compile(r"([-+]?\d[\d.,]*|to|[ (),%–])+")  # such as `-1.2 to +3.4`, and no name
LONG_TEXT = 30  # characters; a column with longer texts is wrapped, or the columns after it are off the screen
WIDE = 9  # columns; a table with more is made narrow, as JupyterLab has 975 pixels for it in a window of 1440
LONG_TEXT_OF_WIDE = 16
NARROW_CSS: list[CSSDict] = [{"selector": cell, "props": "padding: 0.2em 0.4em"} for cell in ("td", "th")]
SHORT = {"parameters (M)": "params (M)", "GMAC/clip": "GMAC per clip"}  # headings, which wrap at a space
NO_MATH = "tex2jax_ignore mathjax_ignore"  # CSS classes: a `$` in a name is not the start of a formula
NO_RUNS = "no run is finished; see the output of `open_study` above"
NO_RECORDS = "nothing to draw: no run has a record or a checkpoint"


def render(template: str, **values: object) -> str:
    """The file `template` of templates/ as HTML, with `values` escaped."""
    environment = Environment(loader=PackageLoader("r21d_analysis"), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True)  # fmt: skip
    return environment.get_template(template).render(values)


def write_minus(text: str) -> str:
    """`text` with minus signs in place of the hyphens before numbers."""
    return re.sub(r"(?<!\w)-(?=\d)", "−", text)


def isolate(name: str) -> str:
    """`name`, to be written within other text; one that is read from right to left leaves the order of this text.

    Without this, numbers beside an Arabic or Hebrew name change sides, and of two names the second comes first.
    """
    from_the_right = {"R", "AL", "AN", "RLE", "RLO", "RLI"}.intersection(map(unicodedata.bidirectional, name))
    return f"\u2068{name}\u2069" if from_the_right else name  # Unicode's isolate, with its own direction


def note(text: str) -> Markdown:
    """A line of text in place of a table or figure, escaped."""
    text = html.escape(text, quote=False)
    return Markdown(f"*{text[0].upper()}{text[1:]}.*")


def style_table(
    table: pd.DataFrame, caption: str = "", formats: Mapping[Any, Any] | None = None, na_rep: str = "–"
) -> Styler:
    """A table for a notebook: floats with one decimal, whole numbers by thousands, NaN as `na_rep`, the paper's paler.

    Numbers have minus signs; names keep their hyphens, and so does the data of the Styler.

    `formats` gives columns by name the number of decimals, a format or a function; P has `format_p`. A column may be a
    pair (side, name); a side that begins with "paper" holds the paper's numbers, whose format stays. They stand after
    the side "here", or last. Columns of words are aligned to the left, one with a text above LONG_TEXT characters is
    wrapped. An index without a name is hidden.

    Of a table with more than WIDE columns those of texts or whole numbers that say the same in all rows go into the
    caption, and so do those without any number.
    """
    is_wide = len(table.columns) > WIDE
    styles: dict = {}
    papers: list[Hashable] = [c for c in table.columns if isinstance(c, tuple) and c[0].startswith("paper")]
    others = [column for column in table.columns if column not in papers]
    sides = [column[0] if isinstance(column, tuple) else "" for column in others]
    place = max((at for at, side in enumerate(sides, 1) if side == "here"), default=len(others))
    table = table[others[:place] + papers + others[place:]]
    for column in table.columns:
        side, name = column if isinstance(column, tuple) else ("", column)
        form = 1 if side.startswith("paper") else ({P: format_p} | dict(formats or {})).get(name, 1)
        if pd.api.types.is_float_dtype(table[column]):
            styles[column] = f"{{:,.{form}f}}" if isinstance(form, int) else form
        elif not isinstance(form, int):
            styles[column] = form
        elif pd.api.types.is_integer_dtype(table[column]):
            styles[column] = "{:,}"
        elif pd.api.types.infer_dtype(table[column]) == "string":
            styles[column] = lambda text: write_minus(text) if NUMBERS.fullmatch(text) else text
    styles = {column: _with_minus(form) for column, form in styles.items()}
    style = table.style.format(styles, na_rep=na_rep, escape="html").format_index(escape="html")
    style = style.format_index(lambda name: SHORT.get(str(name), str(name)), escape="html", axis="columns")
    style = style.map(lambda _: PAPER, subset=papers)
    style = style.set_table_styles(TABLE_CSS + NARROW_CSS * is_wide).set_table_attributes(f'class="{NO_MATH}"')
    words = {column: _align_words(table[column], is_wide) for column in table.columns}
    style = style.set_table_styles(words, overwrite=False)
    if is_wide and len(table) > 1:
        equal = _equal_columns(table)
        names = [" ".join(c).removeprefix("here ").strip() if isinstance(c, tuple) else str(c) for c in equal]
        values = [na_rep if pd.isna(table[c].iloc[0]) else styles.get(c, str)(table[c].iloc[0]) for c in equal]
        said = ", ".join(
            value if value == f"1 {name.removesuffix('s')}" else f"{name} {value}"
            for name, value in zip(names, values, strict=True)
        )
        caption = "; ".join(filter(None, [caption, f"the same in all rows: {said}" * bool(said)]))
        style = style.hide(axis="columns", subset=pd.Index(equal))
    if caption:
        style = style.set_caption(html.escape(caption))
    return style if table.index.name else style.hide(axis="index")


def _equal_columns(table: pd.DataFrame) -> list[Hashable]:
    """The columns of texts or whole numbers with one value, and those without any."""
    one = [column for column in table.columns if table[column].nunique(dropna=False) == 1]
    return [c for c in one if table[c].isna().all() or not pd.api.types.is_float_dtype(table[c])]


def _with_minus(form: str | Callable[[Any], str]) -> Callable[[Any], str]:
    show = form.format if isinstance(form, str) else form
    return lambda value: show(value) if isinstance(value, str) else write_minus(show(value))


def _align_words(column: pd.Series, is_wide: bool) -> list[CSSDict]:
    """Styles of a column of words, which a long text wraps; none of numbers, also formatted ones."""
    texts = [text for text in column if isinstance(text, str) and text not in ("", "–")]
    props = "text-align: left" if texts and all(text[0].isalpha() for text in texts) else ""
    longest = max(map(len, texts), default=0)
    if longest > (LONG_TEXT_OF_WIDE if is_wide else LONG_TEXT):
        width = 8 if is_wide and longest < 2 * LONG_TEXT else 14
        props = f"text-align: left; white-space: normal; min-width: {width}em"
    props += "; padding-left: 1em" * (is_wide and bool(props))  # after numbers, which end at the right
    return [{"selector": "", "props": props}] if props else []


def format_p(p: float) -> str:
    """A p-value with three digits, `< 0.001`, or a dash for no test."""
    return "–" if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def align_left(style: Styler) -> Styler:
    """`style` with its cells and headers aligned to the left and top, for a table of text."""
    cells: CSSDict = {"selector": "td", "props": "text-align: left; vertical-align: top; white-space: normal"}
    return style.set_table_styles([cells, {"selector": "th", "props": "text-align: left"}], overwrite=False)


@contextmanager
def figure_style() -> Iterator[None]:
    """A context, or a decorator, in which figures are drawn with RC_PARAMS."""
    with plt.rc_context(RC_PARAMS):
        yield


def figure_of_runs(
    draw: Callable[..., Figure | str | None], is_drawn: Callable[[Run], bool] = attrgetter("is_complete")
) -> Callable[..., Figure | Markdown]:
    """Make `draw`, a function of runs and options, return a closed Figure, or a note if no run is finished.

    `draw` may return the reason why there is nothing to draw. `is_drawn` is for a figure of unfinished runs too.
    """

    @wraps(draw)
    def draw_runs(runs: Sequence[Run], **options) -> Figure | Markdown:
        profiles = [run.spec.profile for run in runs if is_drawn(run)]
        with figure_style():
            figure = draw(runs, **options) if profiles else NO_RUNS
            if not isinstance(figure, Figure):
                figure = f"nothing to draw: {figure or 'these runs do not have these data'}"
            return _finish_figure(figure, profiles)

    return draw_runs


def figure_of_records(draw: Callable[..., Figure | str]) -> Callable[..., Figure | Markdown]:
    """Make `draw`, a function of insight records and options, return a closed Figure with small titles, or a note."""

    @wraps(draw)
    def draw_records(records: Sequence, *args, **options) -> Figure | Markdown:
        with plt.rc_context({**RC_PARAMS, "axes.titlesize": 10}):
            figure = draw(records, *args, **options) if records else NO_RECORDS
            return _finish_figure(figure, [record.metadata["spec"]["profile"] for record in records])

    return draw_records


def _finish_figure(figure: Figure | str, profiles: Sequence[str]) -> Figure | Markdown:
    """`figure`, closed and entitled a demonstration as far as `profiles` are, or a note of why there is none."""
    if not isinstance(figure, Figure):
        return note(figure)
    if "demo" in profiles:
        what = "in part a demonstration: tiny networks" if set(profiles) - {"demo"} else "demonstration: tiny networks"
        title = "\n".join(filter(None, [what, figure.get_suptitle()]))
        figure.suptitle(title, x=0.01, ha="left", color=GRAY, size=9)
    return close_figure(figure)


def panel_grid(
    count: int, width: float, height: float, max_columns: int = 4, *, sharex: bool = True, sharey: bool = True
) -> tuple[Figure, list]:
    """A Figure with `count` panels of `width` × `height` inches, which share their axes, and the panels.

    At most `max_columns` stand in a row.
    """
    columns = min(max_columns, count)
    rows = -(-count // columns)
    options = {"sharex": sharex, "sharey": sharey, "squeeze": False, "layout": "constrained"}
    figure, grid = plt.subplots(rows, columns, figsize=(width * columns, height * rows), **options)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, count - columns) : count]:  # also those above an empty place
        axes.tick_params(labelbottom=True)
    return figure, list(grid.flat[:count])


def close_figure(figure: Figure) -> Figure:
    """`figure`, closed, since a notebook shows an open one twice."""
    plt.close(figure)
    return figure
