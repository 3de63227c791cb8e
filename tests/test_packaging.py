"""The three places that name versions say the same, and the rooms keep their order."""

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a package may import from: a room of r21d_core, or r21d_analysis's; the command line and the notebooks see all.
MAY_IMPORT = {
    "r21d_core/study": set(),
    "r21d_core/runs": {"r21d_core/study"},
    "r21d_core/data": {"r21d_core/study", "r21d_core/runs"},
    "r21d_core/models": {"r21d_core/study", "r21d_core/runs"},
    "r21d_core/engine": {"r21d_core/study", "r21d_core/runs", "r21d_core/data", "r21d_core/models"},
}
WITHOUT_TORCH = (
    "r21d_core/study",
    "r21d_core/runs",
    "r21d_analysis/statistics",
    "r21d_analysis/artifacts",
    "r21d_analysis/claims",
)
# What a laptop without torch draws insight records with.
FIGURES_OF_INSIGHT = ("artifact", "filters", "bootstrap", "filter_figures", "attribution_figures", "captions")


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    split = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in split}


def test_every_dependency_is_pinned_within_its_bound():
    wanted = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
    for requirement in wanted:
        version = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against the pin {version}"


def test_conda_installs_the_same_versions_on_a_supported_python():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, by_pip = environment["dependencies"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert by_pip["pip"] == ["--constraint constraints.txt", "--editable .[dev]"]


def test_makefile_installs_under_the_constraints():
    assert "--constraint constraints.txt --editable '.[dev]'" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room):
    for file in (ROOT / room).glob("*.py"):
        for module in imported(file):
            assert not module.startswith(("r21d_analysis", "benchmarks")), f"{file.name} imports {module}"
            found = "/".join(module.split(".")[:2])
            if found in MAY_IMPORT and found != room:
                assert found in MAY_IMPORT[room], f"{file.name} imports {module}"


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_rooms_for_laptops_know_no_torch(room):
    for file in (ROOT / room).glob("*.py"):
        assert not {"torch", "torchvision", "av"} & {module.split(".")[0] for module in imported(file)}, file.name


@pytest.mark.parametrize("name", FIGURES_OF_INSIGHT)
def test_figures_of_insight_know_no_torch(name):
    for module in imported(ROOT / "r21d_analysis" / "interpret" / f"{name}.py"):
        assert module.split(".")[0] not in {"torch", "torchvision", "av", "captum"}
        if found := re.match(r"r21d_analysis\.interpret\.(\w+)", module):
            assert found[1] in FIGURES_OF_INSIGHT


def imported(file: Path) -> set[str]:
    """Every module and `module.name` a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_and_hold_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 12
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        assert len(cell.source.splitlines()) <= 12, cell.source
        assert not re.search(r"^\s*(def|class) ", cell.source, re.M), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_reject_unknown_parameters(path):
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert re.search(r"\b(read|check)_parameters\(globals\(\)\)", code[1]), "expected in the cell after the parameters"


def test_notebooks_share_few_lines_of_code():
    notebooks = [nbformat.read(path, as_version=4).cells for path in NOTEBOOKS]
    code = [[c.source.splitlines() for c in cells if c.cell_type == "code"] for cells in notebooks]
    lines = [[line.strip() for cell in cells for line in cell if line.strip()] for cells in code]
    counts = Counter(line for own in lines for line in set(own))
    shared = [line for own in lines for line in own if counts[line] >= 3]
    assert len(shared) < 0.2 * sum(map(len, lines)), Counter(shared).most_common(5)


def test_suite_has_notebooks():
    assert NOTEBOOKS
