"""The catalog lists every notebook, counts the runs that exist, and reads damaged folders without an error."""

import re
from pathlib import Path

import nbformat
import pytest

from r21d_analysis.artifacts import catalog
from r21d_core import R21DError
from r21d_core.runs.run import find_run
from r21d_core.study.experiments import EXPERIMENTS, rate_pretraining, variant_comparison
from r21d_core.study.spec import Spec
from tests.runs import NASTY, finish, unfinish

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def make_run(spec, folder, complete=True):
    run = finish(find_run(folder, spec))
    if not complete:
        unfinish(run)


def cells(styler):
    """Return the texts of a table's body as a list of rows, escaped as in the HTML."""
    body = styler.to_html().split("<tbody>")[1]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in body.split("<tr>")[1:]]


def row_of(styler, notebook):
    return cells(styler)[[artifact.notebook for artifact in catalog.ARTIFACTS].index(notebook)]


def test_catalog_lists_every_notebook_command_table_and_figure():
    text = catalog.show_catalog("", NOTEBOOKS).to_html()
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == {a.notebook for a in catalog.ARTIFACTS} | {"start_here"}
    assert "not found" not in text and all(f"r21d train {name}" in text for name in EXPERIMENTS)
    shown = [f"Table {number}" for number in range(1, 7)] + [f"Figure {number}" for number in (3, 4, "5a", "5b")]
    assert all(name in text for name in [*shown, "Figures 1 and 2"])


def test_notebooks_of_experiments_end_with_what_differs():
    for name in {a.notebook for a in catalog.ARTIFACTS if a.experiment} | {"confirmatory"}:
        last = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells[-2:]
        assert last[0].source.startswith("## What differs from the paper") and "deviations_from_paper" in last[1].source


def test_only_existing_notebooks_are_linked(tmp_path):
    (tmp_path / "clip_length.ipynb").touch()
    table = catalog.show_catalog("", tmp_path)
    path = (tmp_path / "clip_length.ipynb").as_posix()
    assert row_of(table, "clip_length")[0] == f'<a href="{path}">Figure 5a, Table 3</a>'
    assert row_of(table, "claims")[0] == "Every claim of the paper (not found)"


def test_counts_are_of_the_default_runs(tmp_path):
    first, second = variant_comparison("demo", variants=("R3D", "f-R2D"))
    make_run(first, tmp_path / "a")
    make_run(second, tmp_path / "a", complete=False)
    small = variant_comparison("small", "set", variants=("R3D", "R(2+1)D"), seeds=(0, 3), task="speed")
    small += variant_comparison("small", "set", variants=("R3D",))  # no run of the temporal probe
    for spec in small:
        make_run(spec, tmp_path / "a")
    make_run(first.replace(lr=0.1), tmp_path / "a")  # of no experiment
    make_run(first, tmp_path / "b", complete=False)  # the same run twice counts once, as complete
    make_run(second, tmp_path / "b", complete=False)
    table = catalog.show_catalog(f"{tmp_path}/a, {tmp_path}/b, {tmp_path}/a")
    counts = "builtin, action: 1 of 12; set, speed: 4 of 24; set, action: 1 of 12"
    cell = f'<span title="{counts}">demo 1 of 12, small on set 5 of 36</span>'
    assert row_of(table, "variant_comparison")[1] == cell and row_of(table, "architectures")[1] == "–"
    assert f"Finished runs: 7 in {tmp_path}/a, 0 in {tmp_path}/b; those" in table.caption
    assert row_of(table, "temporal_probe")[1] == '<span title="set, speed: 4 of 6">small on set 4 of 6</span>'


def test_pretraining_on_the_rate_counts_with_the_actions(tmp_path):
    for spec in rate_pretraining("demo"):
        make_run(spec, tmp_path)
    text = row_of(catalog.show_catalog(str(tmp_path)), "rate_pretraining")[1]
    assert text == '<span title="builtin, action: 3 of 3">demo 3 of 3</span>'


def test_runs_on_own_videos_are_counted_by_themselves(tmp_path, monkeypatch):
    """The cards of published data are listed once, however many rows there are."""
    listed, glob = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda *arguments: listed.append(arguments) or glob(*arguments))
    own = variant_comparison("demo", "holiday-split1", variants=("R3D", "MC3"), splits="1,2")
    ours = variant_comparison("demo") + variant_comparison("demo", "ucf101-14-split2", variants=("R3D",))
    for spec in ours + own:
        make_run(spec, tmp_path)
    text = row_of(catalog.show_catalog(str(tmp_path)), "variant_comparison")[1]
    assert text.endswith(">demo 13 of 24, demo on holiday 4 of 24</span>")
    assert listed == [(catalog.FOLDER, "*.json")]


def test_experiment_that_raises_has_no_runs(tmp_path, monkeypatch):
    make_run(Spec(), tmp_path)

    def refuse(*_, **__):
        raise R21DError("unsupported")

    monkeypatch.setitem(catalog.EXPERIMENTS, "variant_comparison", refuse)
    assert row_of(catalog.show_catalog(str(tmp_path)), "variant_comparison")[1] == "–"


@pytest.mark.parametrize("broken", ["", "{", "[]", "1", '{"no_such_key": 1}', '{"depth": "deep"}', '{"profile": []}'])
def test_damaged_missing_and_empty_folders_are_no_error(tmp_path, broken):
    make_run(variant_comparison("paper", "kinetics-400", variants=("R3D",))[0], tmp_path / "a")
    (tmp_path / "a" / "odd").mkdir()
    (tmp_path / "a" / "odd" / "spec.json").write_text(broken)
    (tmp_path / "empty").mkdir()
    folders = f"{tmp_path}/a, {tmp_path}/empty, {tmp_path}/none"
    assert "kinetics-400, action: 1 of" in row_of(catalog.show_catalog(folders), "variant_comparison")[1]
    assert [run for run in catalog.iter_runs(tmp_path / "a") if isinstance(run, Path)] == [tmp_path / "a" / "odd"]


def test_names_are_escaped_in_the_catalog(tmp_path):
    name = NASTY.replace("/", "")
    make_run(variant_comparison("small", NASTY, variants=("R3D",))[0], tmp_path / name)
    (tmp_path / f"{name}.d").mkdir()
    (tmp_path / f"{name}.d" / "claims.ipynb").touch()
    text = catalog.show_catalog(str(tmp_path / name), tmp_path / f"{name}.d").to_html()
    assert text.count("&lt;script&gt;") >= 2 and "<script>" not in text
