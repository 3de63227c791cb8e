"""Figures and lines as widgets show them, with all text from outside escaped."""

from __future__ import annotations

import base64
import html

from IPython import get_ipython
from matplotlib.figure import Figure

from r21d_analysis.explorer.figures import png_of


def is_live() -> bool:
    """Whether somebody is there to move widgets: papermill, nbconvert and nbval say that nobody can be asked."""
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent("shell").get("content", {}).get("allow_stdin"))


def picture(figure: Figure, alt: str) -> str:
    """The figure as an HTML image, its size in pixels one to one; `alt` says what it shows to who cannot see it."""
    data = base64.b64encode(png_of(figure)).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}" style="display: block; max-width: none">'


def line(text: str, kind: str = "status") -> str:
    """A line of text as HTML; screen readers say a `status` when it changes and an `alert` at once."""
    return f'<p role="{kind}" style="margin: 0; overflow-wrap: anywhere; line-height: 1.4">{html.escape(text)}</p>'
