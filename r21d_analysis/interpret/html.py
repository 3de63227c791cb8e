"""Figures and text as HTML for notebooks and widgets. All text from outside is escaped here."""

from __future__ import annotations

import base64
import html
import io
import warnings

from IPython import get_ipython
from matplotlib.figure import Figure

from r21d_analysis.style import NO_MATH

DPI = 100


def is_interactive() -> bool:
    """Return whether a person can move widgets: papermill, nbconvert and nbval do not allow input."""
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent("shell").get("content", {}).get("allow_stdin"))


def figure_png(figure: Figure) -> bytes:
    """Return the figure as a PNG image at DPI, with fast compression."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():  # the font may lack letters of a class name; lists show them
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def figure_html(figure: Figure, alt: str) -> str:
    """Return the figure as an HTML image at its size in pixels; `alt` describes it for screen readers."""
    return image_html(figure_png(figure), "png", alt)


def image_html(data: bytes, kind: str, alt: str) -> str:
    """Return an image file of type `kind` as an HTML image."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return f'<img alt="{html.escape(alt)}" src="{source}" style="display: block; max-width: none">'


def text_html(text: str, role: str = "status") -> str:
    """Return a paragraph as HTML; screen readers announce a `status` when it changes and an `alert` at once."""
    style = "margin: 0; overflow-wrap: anywhere; line-height: 1.4"
    return f'<p role="{role}" class="{NO_MATH}" style="{style}">{html.escape(text)}</p>'
