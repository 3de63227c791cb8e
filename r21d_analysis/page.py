"""The page of reports: the outcome of the records first, then the executed notebooks by artifact, without code."""

from __future__ import annotations

import base64
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter
from PIL import Image

from r21d_analysis.artifacts.catalog import ARTIFACTS
from r21d_analysis.outcome import ROOT
from r21d_analysis.style import render
from r21d_core import package_folder
from r21d_core.runs.run import load_runs

NOTEBOOKS = package_folder("r21d_analysis", "notebooks")
PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
PHOTOS = ("filters", "attributions", "explorer")  # whose figures are images, whose brightness stays


def build_page(
    reports: Sequence[tuple[str, str, nbformat.NotebookNode]],
    environments: Sequence[str],
    outcome: dict[str, Any] | None = None,
) -> str:
    """Return a self-contained HTML page: `outcome`, the (title, name, notebook)s beside the page, `environments`.

    Each report is folded, and demonstrations stand below the other reports of their artifact.
    """
    sections = []
    for artifact in ARTIFACTS:
        own = [
            {"title": title, "name": name, "body": _embed(name, notebook)}
            for title, name, notebook in reports if name.partition("-")[0] == artifact.notebook
        ]  # fmt: skip
        own.sort(key=lambda report: report["name"].endswith("-demo"))
        sections += [(artifact, own, artifact.notebook in PHOTOS)] if own else []
    notebooks = [artifact.notebook for artifact, *_ in sections]
    return render("page.html", outcome=outcome, sections=sections, notebooks=notebooks, environments=environments)


def _embed(name: str, notebook: nbformat.NotebookNode) -> str:
    """The text and outputs of `notebook` as HTML; each figure is named by its heading."""
    heading = ""
    for cell in notebook.cells:
        headings = re.findall(r"^#+ (.*)", cell.source, re.M) if cell.cell_type == "markdown" else []
        heading = headings[-1] if headings else heading
        cell.metadata["alt"] = f"{heading}; {name}"
    exporter = HTMLExporter(
        template_name="basic", exclude_input=True, exclude_output_prompt=True, exclude_anchor_links=True
    )
    body = PNG.sub(_png_to_webp, exporter.from_notebook_node(notebook)[0])
    body = re.sub(r"(</?h)(\d)", lambda tag: f"{tag[1]}{min(6, int(tag[2]) + 2)}", body)  # below the page's headings
    return re.sub(r'(<h\d id="|id="(?=cell-id))', rf"\1{name}-", body)  # an id is unique


def _png_to_webp(png: re.Match) -> str:
    """Return the image as lossless WebP, which is about half as large, or two thirds for video frames."""
    webp = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png[1]))).save(webp, "webp", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(webp.getvalue()).decode()}"


def describe_environments(folders: Sequence[Path]) -> list[str]:
    """Return a line for each folder, device, set of versions and commit, with the number of complete runs."""
    counts = Counter()
    for folder, run in ((f, run) for f in folders for run in load_runs(f) if run.is_complete):
        e = run.environment
        versions = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
        line = f"{e['device']}, Python {e['python']}, {versions}, commit {e['commit'] or 'not recorded'}"
        counts[f"{os.path.relpath(folder, ROOT)}: {line}"] += 1
    return [f"{line}: {count} runs" for line, count in counts.items()]
