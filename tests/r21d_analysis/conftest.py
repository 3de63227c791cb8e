"""Notebooks executed in this process, which has imported already what they import."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from traitlets.config import Config

from r21d_analysis.report import NOTEBOOKS


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """A function that executes a notebook; it returns what is displayed, dicts by MIME type, and the printed text."""

    def execute(name, **parameters):
        notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOKS / f"{name}.ipynb")), parameters)
        outputs, printed = [], ""
        for cell in notebook.cells:
            if cell.cell_type == "code":
                with capture_output() as captured:
                    found = shell.run_cell(cell.source, store_history=True)
                found.raise_error()
                outputs += [output.data for output in captured.outputs]
                outputs += [shell.display_formatter.format(found.result)[0]] if found.result is not None else []
                printed += captured.stdout
        return outputs, printed

    monkeypatch.chdir(NOTEBOOKS)
    config = Config(HistoryManager={"enabled": False})
    shell = InteractiveShell.instance(config=config, ipython_dir=str(tmp_path / "ipython"))
    yield execute
    InteractiveShell.clear_instance()
