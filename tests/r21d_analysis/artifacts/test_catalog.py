"""The map names every notebook there is, tells the runs as they are, and does not break on what is half there."""

import re
from pathlib import Path

import pytest

from r21d_analysis.artifacts import catalog
from r21d_core import R21DError
from r21d_core.runs.run import write_json
from r21d_core.study.experiments import EXPERIMENTS, variant_comparison
from r21d_core.study.spec import Spec
from tests.r21d_analysis.artifacts.test_tables_and_figures import NASTY

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"


def begin(spec, folder, done=True):
    """A run folder that has nothing but its spec and, if it is done, a summary."""
    run = catalog.Run(spec, folder / spec.folder)
    run.folder.mkdir(parents=True)
    (run.folder / "spec.json").write_text(spec.to_json())
    if done:
        write_json(run, "summary.json", {})


def cells(styler):
    """The texts of a table's body, a list a row, with the HTML's own escapes."""
    body = styler.to_html().split("<tbody>")[1]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in body.split("<tr>")[1:]]


def row_of(styler, notebook):
    return next(row for row in cells(styler) if notebook in row[1])


def test_every_notebook_is_on_the_map():
    there = {path.stem for path in NOTEBOOKS.glob("*.ipynb")} - {"start_here"}
    assert there <= set(catalog.artefacts()["notebook"]), "a notebook that the map does not name: catalog.ARTEFACTS"


def test_every_experiment_is_on_the_map_with_its_command():
    commands = set(catalog.artefacts()["command"])
    assert {f"r21d train {name}" for name in EXPERIMENTS} <= commands


def test_every_table_and_figure_of_the_paper_is_on_the_map():
    said = " ".join(catalog.artefacts()["artefact"])
    for number in range(1, 7):
        assert f"Table {number}" in said
    for number in (1, 2, 3, 4, "5a", "5b"):
        assert re.search(rf"(Figure|Figures)( \d and)? {number}", said)


def test_only_notebooks_that_exist_are_linked(tmp_path):
    (tmp_path / "clip_length.ipynb").touch()
    shown = catalog.show_map("", tmp_path)
    assert row_of(shown, "clip_length")[1] == f'<a href="{(tmp_path / "clip_length.ipynb").as_posix()}">clip_length</a>'
    assert row_of(shown, "claims")[1] == "claims (to come)"


def test_state_counts_what_the_experiment_asks_for(tmp_path):
    one, other = variant_comparison("demo", variants=("R3D", "f-R2D"))
    begin(one, tmp_path / "a")
    begin(other, tmp_path / "a", done=False)
    small = variant_comparison("small", "set", variants=("R3D", "R(2+1)D"), seeds=(0, 3), task="speed")
    for spec in small:
        begin(spec, tmp_path / "a")
    begin(one.replace(lr=0.1), tmp_path / "a")  # asked for by nobody
    begin(one, tmp_path / "b", done=False)  # the same run twice is one, and done
    begin(other, tmp_path / "b", done=False)
    shown = catalog.show_map(f"{tmp_path}/a, {tmp_path}/b")
    assert row_of(shown, "variant_comparison")[-1].split("<br>") == [
        "demo, builtin, action: 1 of 12 done, 1 begun",
        "small, set, speed: 4 of 24 done",
    ]
    assert row_of(shown, "architectures")[-1] == "none of its own"


def test_a_probe_of_motion_counts_no_run_on_actions(tmp_path):
    for spec in variant_comparison("small", "set", variants=("R3D", "R(2+1)D")):
        begin(spec, tmp_path)
    assert row_of(catalog.show_map(str(tmp_path)), "temporal_probe")[-1] == "none yet"


def test_an_experiment_that_refuses_a_data_set_breaks_nothing(tmp_path, monkeypatch):
    begin(Spec(), tmp_path)

    def refuse(*_, **__):
        raise R21DError("not for this one")

    monkeypatch.setitem(catalog.EXPERIMENTS, "variant_comparison", refuse)
    assert row_of(catalog.show_map(str(tmp_path)), "variant_comparison")[-1] == "none yet"


@pytest.mark.parametrize("broken", ["", "{", "[]", "1", '{"no_such_key": 1}', '{"depth": "deep"}', '{"profile": []}'])
def test_damaged_missing_and_empty_folders_are_told(tmp_path, broken):
    begin(variant_comparison("paper", "kinetics-400", variants=("R3D",))[0], tmp_path / "a")
    (tmp_path / "a" / "odd").mkdir()
    (tmp_path / "a" / "odd" / "spec.json").write_text(broken)
    (tmp_path / "empty").mkdir()
    folders = f"{tmp_path}/a, {tmp_path}/empty, {tmp_path}/none"
    rows = [[Path(row[0]).name, *row[1:]] for row in cells(catalog.show_folders(folders))]
    assert rows == [
        ["a", "paper", "1", "0", ""],
        ["a", "?", "0", "0", "cannot be read: odd; move them away"],
        ["empty", "", "0", "0", "no run yet"],
        ["none", "", "0", "0", "no such folder yet"],
    ]
    assert "paper, kinetics-400, action: 1 of" in row_of(catalog.show_map(folders), "variant_comparison")[-1]


def test_names_from_outside_are_escaped(tmp_path):
    name = NASTY.replace("/", "")
    begin(variant_comparison("small", NASTY, variants=("R3D",))[0], tmp_path / name)
    (tmp_path / name / name).mkdir()
    (tmp_path / name / name / "spec.json").write_text("{")
    (tmp_path / f"{name}.d").mkdir()
    (tmp_path / f"{name}.d" / "claims.ipynb").touch()
    for shown in (
        catalog.show_folders(str(tmp_path / name)),
        catalog.show_map(str(tmp_path / name), tmp_path / f"{name}.d"),
    ):
        text = shown.to_html()
        assert "&lt;script&gt;" in text and "<script>" not in text
