"""The page is self-contained, and a report that is executed again has the same tables."""

import base64
import inspect
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from bs4 import BeautifulSoup
from papermill.exceptions import PapermillExecutionError
from PIL import Image

from r21d_analysis import report
from r21d_analysis.artifacts.catalog import ARTIFACTS, parse_folders
from r21d_analysis.claims.claims import CLAIMS
from r21d_analysis.outcome import answer
from r21d_analysis.report import NOTEBOOKS, RECORDS, REPORTS, build_page, describe_environments, run_suite
from r21d_analysis.report_summary import _exploratory_figures
from r21d_analysis.study import open_study
from r21d_core import R21DError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page():
    return BeautifulSoup((ROOT / "reports" / "index.html").read_text(), "html.parser")


def notebook(*outputs):
    cell = nbformat.v4.new_code_cell("secret = 1", outputs=list(outputs))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A *title*"), cell])


def test_page_shows_text_tables_and_figures_and_no_code():
    table = nbformat.v4.new_output("display_data", {"text/html": "<table><tr><td>58.2</td></tr></table>"})
    pixels, file = np.zeros((60, 80, 3), np.uint8), io.BytesIO()
    pixels[20:23, 9:70] = 200, 50, 0  # a line, as of a plot
    Image.fromarray(pixels).save(file, "png")
    figure = nbformat.v4.new_output("display_data", {"image/png": base64.encodebytes(file.getvalue()).decode()})
    names = "clip_count-demo", "clip_count-small"
    text = build_page([(f"{name} <2>", name, notebook(table, figure)) for name in names], ["a <device>"])
    assert "<em>title</em>" in text and "58.2" in text and "image/png" not in text
    text = text.split("clip_count-small &lt;2&gt;")[1].split("clip_count-demo &lt;2&gt;")[1]  # it stands below
    (picture,) = re.findall(r'src="data:image/webp;base64,([^"]*)"', text)
    assert np.array_equal(Image.open(io.BytesIO(base64.b64decode(picture))), pixels), "lossless"
    assert "secret" not in text and 'alt="A *title*; clip_count-demo"' in text and "a &lt;device&gt;" in text


def test_anchor_with_the_name_of_a_report_lies_in_it():
    """So that a browser unfolds it; also where the section has the same name."""
    names = "claims", "explorer", "clip_count-demo", "clip_count-small"
    page = BeautifulSoup(build_page([(name, name, notebook()) for name in names], []), "html.parser")
    for name in names:
        for anchor in (name, f"report-{name}"):
            (target,) = page.select(f"[id={anchor}]")
            (report,) = target.find_parents("details")
            assert report.summary.text == name and f"{name}.ipynb" in target.text
    assert {link["href"][1:] for link in page.select("nav a")} <= {tag["id"] for tag in page.select("[id]")}


def test_page_has_photographs_smaller_and_nearly_the_same():
    across = np.add.outer(np.arange(200), np.arange(200)) / 2
    photograph = across[..., None] + np.random.default_rng(0).normal(0, 4, (200, 200, 3))
    pixels, file = photograph.clip(0, 255).astype(np.uint8), io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    figure = nbformat.v4.new_output("display_data", {"image/png": base64.encodebytes(file.getvalue()).decode()})
    text = build_page([("title", "filters-small", notebook(figure))], [])
    (picture,) = re.findall(r'src="data:image/webp;base64,([^"]*)"', text)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture)))).astype(int)
    assert len(picture) < len(file.getvalue()) / 3 and 0 < np.abs(shown - pixels).mean() < 5


def test_committed_page_is_self_contained_and_small():
    text = (ROOT / "reports" / "index.html").read_text()
    assert len(text.encode()) < 6.5e6 and 'name="viewport"' in text
    assert not re.search(r"<(?:script|link)\b[^>]*\b(?:src|href)=", text), "the page loads no file"
    assert all(source.startswith("data:") for source in re.findall(r'<img[^>]* src="([^"]*)"', text))
    assert all(f'id="report-{row.name}"' in text for row in REPORTS[1:])
    assert {ROOT / pack for pack in RECORDS} == {*ROOT.glob("results/*.zip")}
    lines = describe_environments([ROOT / folder for folder in RECORDS])
    assert all(any(f"miracl.zip: NVIDIA {gpu}" in line for line in lines) for gpu in ("H100", "H200"))


def test_committed_page_has_no_dead_link_and_names_its_images(page):
    ids = [tag["id"] for tag in page.select("[id]")]
    assert len(ids) == len(set(ids)), "an anchor is unique"
    for link in {str(tag["href"]) for tag in page.select("a[href]")}:
        path, _, anchor = link.partition("#")
        assert anchor in ids if link.startswith("#") else ":" in path or (ROOT / "reports" / path).exists(), link
        assert ".." not in Path(path).parts[1:], f"{link} leaves the checkout"
    assert all(tag.get("alt") for tag in page.select("img")) and page.select("figure[aria-label] svg")
    assert [int(tag.name[1]) for tag in page.select("h1, h2")] == [1] + [2] * len(page.select("h2"))


def _plain(tag) -> str:
    return tag.text.replace("−", "-").replace("\xa0", " ")


def test_answer_stands_first_and_provenance_last(page):
    verdicts, printed, contrasts, *rest = answer()
    assert [_plain(sentence) for sentence in page.select(".outcome")] == [verdicts, printed, *rest]
    rows = [[_plain(cell) for cell in row.select("td")] for row in page.select(".contrasts tr")[1:]]
    assert len(rows) == contrasts.count(" to ")
    for network, _, here, _, verdict in rows:
        assert f"{network} {here}" in contrasts and verdict in contrasts
    first, *others = [figure["aria-label"] for figure in page.select("figure[aria-label]")]
    assert [figure["aria-label"] for figure in page.select(".lead figure")] == [first] and first not in others
    order = [tag["id"] for tag in page.select("h2")]
    assert order[:3] == ["artifacts", "not-done", "contents"] and order[-1] == "provenance"
    links = [str(link["href"])[1:] for link in page.select(".card a")]  # to the first report of each section
    sections = page.select("body > section")
    assert links == [str(section.select(".notebook")[0]["id"]) for section in sections]
    assert [str(section.select("h2")[0]["id"]) for section in sections] == order[3:-1]
    assert not [link for link in links if "-demo" in link] and page.select(".figures svg")
    assert {artifact.claim for artifact in ARTIFACTS} <= {claim.id for claim in CLAIMS} | {""}


def test_exploratory_figures_have_one_scale():
    panels = [figure.axes[0] for figure in _exploratory_figures().values()]
    assert len({axes.get_xlim() for axes in panels}) == 1 < len(panels)
    low, high = panels[0].get_xlim()
    drawn = np.concatenate([line.get_xdata() for axes in panels for line in axes.lines])
    assert low < drawn.min() and drawn.max() < high


def test_start_here_counts_every_pack():
    (cell,) = (cell for cell in nbformat.read(ROOT / "notebooks" / "start_here.ipynb", 4).cells
               if "parameters" in cell.metadata.get("tags", []))  # fmt: skip
    exec(cell.source, defaults := {})
    packs = sorted(f"../results/{path.name}" for path in ROOT.glob("results/*.zip"))
    for parameters in (defaults, report.START):
        folders = parse_folders(f"{parameters['runs']}, {parameters['records']}")
        assert sorted({path.as_posix() for path in folders} - {"../runs"}) == packs


def test_folder_contains_every_report_and_no_other():
    names = {path.stem for path in (ROOT / "reports").glob("*.ipynb")}
    assert names == {row.name for row in REPORTS}, "execute the reports again by `r21d report`"


def test_committed_report_has_every_claim():
    report = nbformat.read(ROOT / "reports" / "claims.ipynb", as_version=4)
    shown = [out.data.get("text/html", "") for cell in report.cells for out in cell.get("outputs", []) if "data" in out]
    text = BeautifulSoup("".join(shown), "html.parser").text
    stale = [claim.id for claim in CLAIMS if claim.sentence not in text]
    assert stale == [], "execute the reports again by `r21d report`"


def test_suite_continues_after_a_failed_notebook(tmp_path, monkeypatch, capsys):
    executed = {}

    def execute(source, file, parameters, **options):
        executed[source.stem] = parameters
        if source.stem == "clip_count":
            raise PapermillExecutionError(0, 1, "", "R21DError", "a run <failed>", [])
        cells = [nbformat.v4.new_markdown_cell("[a](claims.ipynb), [b](https://c.org)")]
        return nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {}})

    monkeypatch.setattr(report.papermill, "execute_notebook", execute)
    (tmp_path / "mine-split1.csv").touch()
    with pytest.raises(R21DError, match=r"1 of \d+ notebooks failed(.|\n)*clip_count-small\.ipynb: R21DError: a run"):
        run_suite(tmp_path / "out", tmp_path / "runs", "small", tmp_path / "mine-split1.csv", "0,1")
    skipped = {"kinetics", "transfer", "recipe", "your_videos"}  # which need other data
    assert executed.keys() == {artifact.notebook for artifact in ARTIFACTS} - skipped, "if it needs other data, add it"
    assert "kinetics is skipped: there is no sports1m beside" in capsys.readouterr().out
    given = executed["clip_length"]
    assert (given["profile"], given["seeds"], given["train"]) == ("small", "0,1", True)
    for key, path in (("runs", "runs"), ("manifest", "mine-split1.csv")):
        assert (ROOT / "notebooks" / given[key]).resolve() == tmp_path / path
    for name in ("filters", "attributions"):
        assert executed[name] == {key: given[key] for key in ("profile", "manifest", "runs", "seeds")}
    assert (ROOT / "notebooks" / executed["explorer"]["manifests"]).resolve() == tmp_path
    positions = [list(executed).index(name) for name in ("filters", "attributions", "explorer")]
    assert min(positions) > list(executed).index("temporal_probe"), "their runs have to exist"
    assert "Figure 3" in (tmp_path / "out" / "index.html").read_text()
    (cell,) = nbformat.read(tmp_path / "out" / "claims.ipynb", as_version=4).cells
    own, other = re.findall(r"\]\((.*?)\)", cell.source)  # those to files are relative to the notebook that has them
    assert (tmp_path / "out" / own).resolve() == ROOT / "notebooks" / "claims.ipynb" and other == "https://c.org"


def test_suite_passes_only_known_parameters(tmp_path, monkeypatch):
    executed = {}

    def execute(source, file, parameters, **options):
        executed[source] = parameters
        return nbformat.v4.new_notebook(metadata={"papermill": {}, "widgets": {"state": "hidden progress bars"}})

    monkeypatch.setattr(report.papermill, "execute_notebook", execute)
    run_suite(tmp_path / "out", tmp_path / "runs")
    for source, given in executed.items():
        known = set(papermill.inspect_notebook(source))
        assert set(given) <= known | (inspect.signature(open_study).parameters.keys() if "train" in known else set())
    assert "hidden" not in (tmp_path / "out" / "explorer.ipynb").read_text()


def test_executed_notebooks_have_no_progress_bars(tmp_path, monkeypatch, capfd):
    """A bar is a widget, for which a page has a script that fails there: `$ is not defined`.

    Nor does a kernel print that others of this computer could read what it sends. A second execution gives equal bytes.
    """
    code = "import pandas\nfrom tqdm.auto import tqdm\nprint(sum(tqdm([1, 2, 3])))\n"
    code += "display(*[pandas.DataFrame([name]).style for name in 'ab'])"
    cells, kernel = [nbformat.v4.new_code_cell(code)], {"name": "python3", "display_name": "Python 3"}
    source = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel | {"language": "python"}})
    nbformat.write(source, tmp_path / "claims.ipynb")
    monkeypatch.setattr(report, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(report, "ARTIFACTS", [row for row in ARTIFACTS if row.notebook == "claims"])
    index = run_suite(tmp_path / "out", tmp_path / "runs")
    *_, cell = nbformat.read(tmp_path / "out" / "claims.ipynb", as_version=4).cells
    assert [output.get("text") for output in cell.outputs] == ["6\n", None, None], cell.outputs
    assert "$(" not in index.read_text() and len(set(re.findall(r"T_[0-9a-f]+", index.read_text()))) == 2
    before = {file.name: file.read_bytes() for file in index.parent.iterdir()}
    run_suite(tmp_path / "out", tmp_path / "runs")
    assert {file.name: file.read_bytes() for file in index.parent.iterdir()} == before
    assert "encryption" not in capfd.readouterr().err


def test_reports_pass_only_parameters_of_their_notebook():
    """Any other stands in the executed copy, although it has no effect."""
    known = {path.stem: papermill.inspect_notebook(str(path)).keys() for path in NOTEBOOKS.glob("*.ipynb")}
    unknown = {row.name: row.parameters.keys() - known[row.name.split("-")[0]] for row in REPORTS}
    assert {name: names for name, names in unknown.items() if names} == {}


def tables(outputs):
    """The HTML of outputs, dicts by MIME type, without the random ids of pandas' tables."""
    return [re.sub(r"T_[0-9a-f]+", "T", output.get("text/html", "")) for output in outputs]


@pytest.mark.parametrize("name", ["variant_comparison-small-action", "temporal_probe-small", "clip_length-demo"])
def test_committed_reports_have_the_same_tables(name, execute):
    outputs, _ = execute(name.partition("-")[0], **next(row.parameters for row in REPORTS if row.name == name))
    report = nbformat.read(ROOT / "reports" / f"{name}.ipynb", as_version=4)
    committed = tables(out.data for cell in report.cells for out in cell.get("outputs", []) if "data" in out)
    assert tables(outputs) == committed, "execute the reports again by `r21d report`"
    assert "<table" in "".join(committed)
