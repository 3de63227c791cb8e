"""The page of everything is whole in itself, and redrawing the reports changes no table."""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from r21d_analysis import report
from r21d_analysis.report import RECORDS, REPORTS, environment, page, run_suite
from r21d_core import R21DError

ROOT = Path(__file__).parents[2]


def notebook(*outputs):
    cell = nbformat.v4.new_code_cell("secret = 1", outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A *title*"), cell])


def test_page_shows_text_tables_and_figures_and_no_code():
    table = nbformat.v4.new_output("display_data", {"text/html": "<table><tr><td>58.2</td></tr></table>"})
    pixels, file = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    figure = nbformat.v4.new_output("display_data", {"image/png": base64.encodebytes(file.getvalue()).decode()})
    text = page([("Table <2>", notebook(table, figure))], ["a <device>"])
    assert "<em>title</em>" in text and "58.2" in text and "image/png" not in text
    (picture,) = re.findall(r'src="data:image/webp;base64,([^"]*)"', text)
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(picture))), pixels), "smaller, and the same"
    assert "secret" not in text and "Table &lt;2&gt;" in text and "a &lt;device&gt;" in text


def test_committed_page_is_self_contained_and_small():
    text = (ROOT / "reports" / "index.html").read_text()
    assert len(text.encode()) < 5e6 and 'name="viewport"' in text
    assert not re.search(r"<(?:script|link)\b[^>]*\b(?:src|href)=", text), "nothing is fetched"
    assert all(source.startswith("data:") for source in re.findall(r'<img[^>]* src="([^"]*)"', text))
    for title, *_ in REPORTS:
        assert title in text
    assert "NVIDIA H100" in environment([ROOT / folder for folder in RECORDS])[-1]


def test_every_report_is_there_and_none_is_left_over():
    assert {path.stem for path in (ROOT / "reports").glob("*.ipynb")} == {name for _, name, *_ in REPORTS}


def test_suite_runs_every_notebook_and_a_failure_stops_no_other(tmp_path, monkeypatch, capsys):
    asked = {}

    def execute(source, file, parameters, **options):
        asked[source.stem] = parameters
        if source.stem == "clip_count":
            raise PapermillExecutionError(0, 1, "", "R21DError", "one run <failed>", [])
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# done")], metadata={"papermill": {}})

    monkeypatch.setattr(report.papermill, "execute_notebook", execute)
    (tmp_path / "mine-split1.csv").touch()
    with pytest.raises(R21DError, match=r"1 of \d+ notebooks failed(.|\n)*clip_count-small\.ipynb: R21DError: one run"):
        run_suite(tmp_path / "out", tmp_path / "runs", "small", tmp_path / "mine-split1.csv", "0,1")
    assert set(asked) == {"architectures", "attributions", "claims", "clip_count", "clip_length", "explorer", "filters",
                          "optimization_curves", "sports1m", "temporal_probe", "variant_comparison"}  # fmt: skip
    assert "kinetics is left out: there is no sports1m beside" in capsys.readouterr().out
    given = asked["clip_length"]
    assert (given["profile"], given["seeds"], given["train"]) == ("small", "0,1", True)
    for key, path in (("runs", "runs"), ("manifest", "mine-split1.csv")):
        assert (ROOT / "notebooks" / given[key]).resolve() == tmp_path / path
    for name in ("filters", "attributions"):
        assert asked[name] == {key: given[key] for key in ("profile", "manifest", "runs", "seeds")}
    assert (ROOT / "notebooks" / asked["explorer"]["manifests"]).resolve() == tmp_path
    looks = [list(asked).index(name) for name in ("filters", "attributions", "explorer")]
    assert min(looks) > list(asked).index("temporal_probe"), "there is nothing to look into before"
    assert "Figure 3" in (tmp_path / "out" / "index.html").read_text()


def test_suite_hands_notebooks_only_what_they_ask_for(tmp_path, monkeypatch):
    asked = {}

    def execute(source, file, parameters, **options):
        asked[source] = parameters
        return nbformat.v4.new_notebook(metadata={"papermill": {}, "widgets": {"state": "of bars that are gone"}})

    monkeypatch.setattr(report.papermill, "execute_notebook", execute)
    run_suite(tmp_path / "out", tmp_path / "runs")
    for source, given in asked.items():
        known = papermill.inspect_notebook(source)
        assert set(given) <= set(known), source
    assert "that are gone" not in (tmp_path / "out" / "explorer.ipynb").read_text()


def tables(executed):
    """What an executed notebook shows, figures aside, without the random names that pandas gives its tables."""
    return [
        re.sub(r"T_[0-9a-f]{5}", "T", output.data.get("text/html", ""))
        for cell in executed.cells
        for output in cell.get("outputs", [])
        if output.output_type in ("display_data", "execute_result")
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the notebook machinery's own making
@pytest.mark.parametrize("name", ["variant_comparison-small-action", "temporal_probe-small", "clip_length-demo"])
def test_redrawing_gives_the_same_tables(name, tmp_path):
    _, _, source, parameters = next(row for row in REPORTS if row[1] == name)
    executed = papermill.execute_notebook(
        ROOT / "notebooks" / f"{source}.ipynb", tmp_path / "out.ipynb", parameters, cwd=ROOT / "notebooks",
        progress_bar=False,
    )  # fmt: skip
    kept = nbformat.read(ROOT / "reports" / f"{name}.ipynb", as_version=4)
    assert tables(executed) == tables(kept) and "<table" in "".join(tables(kept))
