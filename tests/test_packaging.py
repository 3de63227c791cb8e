"""Versions, contents of the wheel, the order of imports and the form of notebooks."""

import ast
import os
import pty
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import r21d_core

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a package may import. The command line, the notebooks and benchmarks/ may import everything.
CORE = [f"r21d_core/{name}" for name in ("study", "runs", "data", "models", "engine")]
SHOWN = [*CORE, *(f"r21d_analysis/{name}" for name in ("statistics", "style", "artifacts"))]
MAY_IMPORT = {
    "r21d_core/study": [], "r21d_core/runs": CORE[:1], "r21d_core/data": CORE[:2], "r21d_core/models": CORE[:2],
    "r21d_core/engine": CORE[:4], "r21d_core/cli": CORE, "r21d_analysis/statistics": CORE,
    "r21d_analysis/artifacts": SHOWN[:-1], "r21d_analysis/claims": SHOWN, "r21d_analysis/interpret": SHOWN,
    "r21d_analysis/explorer": [*SHOWN, "r21d_analysis/interpret"],
}  # fmt: skip
WITHOUT_TORCH = (
    "r21d_core/study", "r21d_core/runs", "r21d_analysis/statistics", "r21d_analysis/artifacts", "r21d_analysis/claims",
)  # fmt: skip
# Modules that draw insight records on a machine without torch.
FIGURES_OF_INSIGHT = (
    "records",
    "evidence",
    "filters",
    "filter_figures",
    "layer_figures",
    "attribution_figures",
    "html",
)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    split = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in split}


def test_every_dependency_is_pinned_within_its_bound():
    extras = PROJECT["optional-dependencies"]
    assert f"{PROJECT['name']}[export,tensorboard]" in extras["dev"]
    lines = [*PROJECT["dependencies"], *extras["dev"], *extras["export"], *extras["tensorboard"]]
    for requirement in map(Requirement, lines):
        if requirement.name == PROJECT["name"]:
            continue
        version = pins()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} against the pin {version}"


def test_make_and_conda_install_the_same_versions():
    assert "--constraint constraints.txt --editable '.[dev]'" in (ROOT / "Makefile").read_text()
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, _, by_pip = environment["dependencies"]
    assert SpecifierSet(PROJECT["requires-python"]).contains(python.removeprefix("python="))
    assert by_pip["pip"] == ["--constraint constraints.txt", "--editable .[dev]"]


def test_citation_is_of_this_version_and_of_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    readme = (ROOT / "README.md").read_text()
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "r21d_core.__version__"}
    assert (citation["version"], citation["license"]) == (r21d_core.__version__, "MIT")
    assert readme.startswith(f"# {citation['title']}\n")
    (author,), (paper,) = citation["authors"], citation["references"]
    assert f"(c) 2026 {author['name']}\n" in (ROOT / "LICENSE").read_text()
    names = " and ".join(f"{name['family-names']}, {name['given-names']}" for name in paper["authors"])
    assert f"author = {{{names}}}" in readme and f"title = {{{paper['title']}}}" in readme


def test_demo_survives_a_jupyter_that_does_not_start(tmp_path):
    """In a terminal, whose shells ask for it; root needs an option of Jupyter's."""
    for name in ("r21d", "papermill", "jupyter"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n[ "$1" != lab ]\n')
        (tmp_path / name).chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", "-o", ".venv/made", f"BIN={tmp_path}", "demo"]
    terminal, stdout = pty.openpty()
    assert subprocess.run(command, cwd=tmp_path, stdout=stdout).returncode == 0
    os.close(stdout)
    os.close(terminal)
    *_, lab = (tmp_path / "calls").read_text().splitlines()
    assert lab.startswith("jupyter lab ") and ("--allow-root" in lab) == (os.getuid() == 0)


def test_wheel_lists_every_package():
    setuptools = PYPROJECT["tool"]["setuptools"]
    files = [*ROOT.glob("r21d_core/**/__init__.py"), *ROOT.glob("r21d_analysis/**/__init__.py")]
    packages = {".".join(file.parent.relative_to(ROOT).parts) for file in files}
    assert set(setuptools["packages"]) == packages | setuptools["package-dir"].keys()
    assert all((ROOT / folder).is_dir() for folder in setuptools["package-dir"].values())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A folder with the package installed from a wheel, without the network."""
    root = tmp_path_factory.mktemp("wheel")
    for name in ("r21d_core", "r21d_analysis", "data_manifests", "notebooks"):
        shutil.copytree(ROOT / name, root / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root / "source")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, root / "source"]
    subprocess.run(build, check=True)
    (file,) = root.glob("*.whl")
    install = [*pip, "install", "--no-compile", "--no-deps", "--no-index", "--target", root / "site", file]
    subprocess.run(install, check=True)
    return root / "site"


def test_wheel_works_outside_the_checkout(wheel, tmp_path):
    def run(*command):
        options = {"env": os.environ | {"PYTHONPATH": str(wheel)}, "capture_output": True, "text": True}
        return subprocess.run([sys.executable, *map(str, command)], cwd=tmp_path, **options)

    code = (
        "import r21d_core, r21d_analysis; from importlib.metadata import version\n"
        "from r21d_analysis.report import NOTEBOOKS\n"
        "from r21d_core.data.dataset_cards import load_published_dataset\n"
        "from r21d_core.study.paper import paper_table\n"
        "assert paper_table(2) and load_published_dataset('ucf101').classes == 101\n"
        "assert version('r21d') == r21d_core.__version__ and (NOTEBOOKS / 'claims.ipynb').is_file()\n"
        "print(r21d_core.__file__, r21d_analysis.__file__, NOTEBOOKS)\n"
        "from r21d_core.cli import main\n"
        "assert main(['bench', 'train']) == main(['report']) == 1"
    )
    files = "r21d_core/__init__.py", "r21d_analysis/__init__.py", "r21d_analysis/notebooks"
    assert (result := run("-c", code)).stdout.split() == [f"{wheel}/{name}" for name in files], result
    assert result.returncode == 0 and result.stderr.count("come with a checkout") == 2
    r21d = wheel / "bin" / "r21d"
    assert "R(2+1)D" in run(r21d, "variants").stdout
    assert run(r21d, "notebooks", "--out", "mine").returncode == 0
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {file.name for file in NOTEBOOKS}
    assert {file.name for file in (wheel / "r21d_core" / "data_manifests").iterdir()} == {
        file.name for file in (ROOT / "data_manifests").iterdir() if file.suffix != ".md"
    }
    assert all((wheel / package / "py.typed").is_file() for package in ("r21d_core", "r21d_analysis"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    for file in (ROOT / package).glob("*.py"):
        for module in imported(file):
            assert not module.startswith("benchmarks"), f"{file.name} imports {module}"
            found = "/".join(module.split(".")[:2])
            if module.startswith("r21d_") and ((ROOT / found).is_dir() or (ROOT / f"{found}.py").exists()):
                assert found in {*MAY_IMPORT[package], package, "r21d_core"}, f"{file.name} imports {module}"


def test_packages_for_laptops_import_no_torch():
    files = [file for room in WITHOUT_TORCH for file in (ROOT / room).glob("*.py")]
    for file in (*files, *(ROOT / "r21d_analysis" / "interpret" / f"{name}.py" for name in FIGURES_OF_INSIGHT)):
        for module in imported(file):
            assert module.split(".")[0] not in {"torch", "torchvision", "av", "captum"}, file
            if match := re.match(r"r21d_analysis\.interpret\.(\w+)", module):
                assert match[1] in FIGURES_OF_INSIGHT, file


def test_computing_insight_imports_no_drawing_code():
    waiting, seen = ["r21d_analysis.interpret.inspect_run"], set()
    while waiting:
        seen.add(module := waiting.pop())
        file = ROOT / f"{module.replace('.', '/')}.py"
        names = imported(file) if file.is_file() else set()  # else a package or a name in a module
        drawing = {name for name in names if name.split(".")[0] in {"IPython", "matplotlib", "seaborn"}}
        assert not drawing and module != "r21d_analysis.style", f"{module} imports {drawing}"
        waiting += [name for name in names - seen if name.startswith("r21d_")]
    assert "r21d_analysis.interpret.evidence" in seen


def imported(file: Path) -> set[str]:
    """Every module and `module.name` that a file imports, inside functions too."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return modules


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_short_and_check_their_parameters(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) <= 12
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in code) == 1
    reads = r"\b(read|check)_parameters\(globals\(\)\)"  # rejects unknown parameters
    assert re.search(reads, code[1].source), "expected in the cell after the parameters"
    for cell in code:
        assert not cell.outputs and cell.execution_count is None
        assert len(cell.source.splitlines()) <= 12, cell.source
        assert not re.search(r"^\s*(def|class) ", cell.source, re.M), cell.source


def test_notebooks_share_few_lines_of_code():
    assert NOTEBOOKS
    notebooks = [nbformat.read(path, as_version=4).cells for path in NOTEBOOKS]
    code = [[c.source.splitlines() for c in cells if c.cell_type == "code"] for cells in notebooks]
    lines = [[line.strip() for cell in cells for line in cell if line.strip()] for cells in code]
    lines = [[line for line in own if not line.startswith(("from ", "import "))] for own in lines]
    counts = Counter(line for own in lines for line in set(own))
    shared = [line for own in lines for line in own if counts[line] >= 3]
    assert len(shared) < 0.2 * sum(map(len, lines)), Counter(shared).most_common(5)


def test_test_names_are_shorter_than_60_characters():
    for file in (ROOT / "tests").rglob("test_*.py"):
        long = [name for name in re.findall(r"^ *def (test_\w+)", file.read_text(), re.M) if len(name) >= 60]
        assert not long, f"{file.relative_to(ROOT)}: {long[0]} has {len(long[0])} characters, expected at most 59"


def test_notebooks_call_the_profile_the_demonstration():
    """Executed copies have the same text above runs of another profile, so "the default" alone would be wrong there."""
    texts = {path.stem: path.read_text() for path in NOTEBOOKS}
    assert [name for name, text in texts.items() if re.search("default is (the|a) demonstration", text)] == []
    said = "The profile `demo`, the default, is a demonstration"
    told = [name for name, text in texts.items() if said in text]
    assert len(told) >= 8 and all("Captions name the profile of the runs shown." in texts[name] for name in told)
