"""The explorer's notebook in JupyterLab and a real browser, by mouse and by keyboard.

Needs Chromium (on Debian: `apt-get install chromium`), and is skipped without it. With R21D_SCREENSHOTS=docs the
tests also take the screenshots of the documentation.
"""

import json
import os
from pathlib import Path

import nbformat
import pytest

from r21d_core.study.experiments import variant_comparison
from tests.browser import CHROMIUM, chromium, jupyterlab
from tests.r21d_analysis.explorer.test_widget import write_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; on Debian: apt-get install chromium"),
]
ROOT = Path(__file__).parents[3]
CLASSES = ("<b>bold</b>", "cost in $ and $", "é ∂", "fall", "rise")
BOX = "document.querySelector('.widget-tab').parentElement"
PICTURE = "document.querySelector('.widget-tab img[alt^=\"{}\"]')"
TAB = "[...document.querySelectorAll('.widget-tab .lm-TabBar-tab')].find(tab => tab.textContent == '{}')"
BY_LABEL = "[...document.querySelectorAll('.widget-label')].find(label => label.textContent == '{}').parentElement"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two runs, and the notebook with their folder as its parameter."""
    root = tmp_path_factory.mktemp("suite")
    runs = os.environ.get("R21D_SCREENSHOTS") and f"{ROOT}/runs"
    if not runs:
        for number, spec in enumerate(variant_comparison("demo", variants=("f-R2D", "R(2+1)D"), eval_clips=5)):
            write_run(spec, root / "runs", number, classes=CLASSES, videos=[f"<i>{n}</i> $.mp4" for n in range(60)])
    notebook = nbformat.read(ROOT / "notebooks" / "explorer.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += f"\nruns, manifests, exports = {runs or str(root / 'runs')!r}, '{ROOT}/data', {str(root)!r}"
    nbformat.write(notebook, root / "explorer.ipynb")
    return root


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    """The notebook in JupyterLab, with all cells executed."""
    scratch = tmp_path_factory.mktemp("browser")
    with jupyterlab(folder, scratch) as (address, token), chromium(scratch) as page:
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.call("Page.navigate", url=f"{address}?token={token}")
        page.wait("window.jupyterapp")
        page.js("jupyterapp.restored.then(() => true)")
        page.js("jupyterapp.commands.execute('docmanager:open', {path: 'explorer.ipynb'})"
                ".then(panel => { window.panel = panel; return panel.revealed.then(() => true) })")  # fmt: skip
        page.wait("panel.sessionContext.session?.kernel?.status == 'idle'")
        page.js("jupyterapp.shell.activateById(panel.id)")
        page.js("jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
        page.wait(PICTURE.format("video@1"))
        yield page


def open_tab(page, name):
    page.click(TAB.format(name))
    page.wait(f"({TAB.format(name)}).classList.contains('lm-mod-current')")


def wait_for_change(page, expression, act):
    """Call `act`, and wait until the expression's value has changed and the kernel is idle."""
    before = page.js(expression)
    act()
    page.wait(f"({expression}) != {json.dumps(before)}")
    page.wait("panel.sessionContext.session.kernel.status == 'idle'")


def take_screenshot(page, name):
    """Save a screenshot for the documentation if R21D_SCREENSHOTS is set."""
    if folder := os.environ.get("R21D_SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        page.js("new Promise(done => setTimeout(() => done(true), 1500))")  # frames come after the rest
        page.js(f"({BOX}).scrollIntoView()")
        page.screenshot(Path(folder) / f"explorer-{name}.png", BOX)


def assert_no_overflow(page):
    """Assert that no element is wider than its place in a window of 1280 pixels."""
    assert page.js("window.innerWidth") == 1280
    wide = page.js(
        f"[{BOX}.closest('.jp-OutputArea-output'), ...({BOX}).querySelectorAll('*')].filter(e => e.clientWidth && "
        "e.scrollWidth > e.clientWidth + 1 && !['visible', 'clip'].includes(getComputedStyle(e).overflowX))"
        ".map(e => e.className + ' ' + e.scrollWidth + ' > ' + e.clientWidth)"
    )
    assert wide == []


def test_slider_moves_by_keyboard(page):
    number = f"({BY_LABEL.format('Clips per video')}).querySelector('.widget-readout').textContent"
    table = f"({BOX}).querySelector('table').innerText"
    picture = f"({PICTURE.format('video@1')})?.src"
    assert_no_overflow(page)
    take_screenshot(page, "classes")
    seen = {page.js(picture)}
    page.js(f"({BY_LABEL.format('Clips per video')}).querySelector('.noUi-handle').focus()")
    before = page.js(table)
    wait_for_change(page, number, lambda: page.press("ArrowLeft", 37))
    page.wait(f"({table}) != {before!r}")
    page.wait(f"({picture}) && ({picture}) != {next(iter(seen))!r}")
    wait_for_change(page, picture, lambda: page.press("ArrowRight", 39))
    assert page.js(table) == before
    assert page.errors == []


def test_matrix_cell_lists_its_videos(page):
    open_tab(page, "Confusion")
    page.wait(PICTURE.format("Confusion"))
    assert_no_overflow(page)
    take_screenshot(page, "confusion")
    cell = (
        "[...document.querySelectorAll('.r21d-cells button')].filter(cell => !/: 0$/.test(cell.textContent))"
        ".find(cell => (([a, b]) => a != b)(cell.textContent.replace(/: .*?$/, '').split(', predicted as ')))"
    )
    name = page.js(f"({cell}).textContent")
    page.js(f"({cell}).scrollIntoView({{block: 'center'}})")
    middle = "(box => document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2).textContent)"
    assert page.js(f"({middle})(({cell}).getBoundingClientRect())") == name, "the button is not on its cell"
    page.click(cell)
    page.wait(PICTURE.format("Probabilities"))
    chosen = [
        page.js(f"(list => list.options[list.selectedIndex].text)(({BY_LABEL.format(label)}).querySelector('select'))")
        for label in ("Class", "Predicted as")
    ]
    assert name.startswith(f"{chosen[0]}, predicted as {chosen[1]}: ")
    listed = f"({BY_LABEL.format('Class → A | B')}).querySelector('select').options.length"
    page.wait(f"({listed}) == {name.rsplit(' ', 1)[1]}")
    assert_no_overflow(page)
    take_screenshot(page, "videos")
    assert page.errors == []


def test_filter_and_video_change_by_keyboard(page):
    open_tab(page, "Videos")
    page.wait(PICTURE.format("Probabilities"))
    text = f"({BOX}).querySelector('.widget-tab').innerText"
    page.js(f"({BY_LABEL.format('Class')}).querySelector('select').focus()")
    for key, code in (("End", 35), ("Home", 36)):
        wait_for_change(page, text, lambda key=key, code=code: page.press(key, code))
    page.js(f"({BY_LABEL.format('Class → A | B')}).querySelector('select').focus()")
    wait_for_change(page, PICTURE.format("Probabilities") + ".alt", lambda: page.press("ArrowDown", 40))
    assert page.errors == []


def test_errors_and_saved_files_are_reported(page, folder):
    open_tab(page, "Your own video")
    for label, text in (("Weights", "nothing"), ("Video or folder", "/<b>gone</b>.mp4")):
        page.js(f"({BY_LABEL.format(label)}).querySelector('input').select()")
        page.type(text)
        page.press("Tab", 9)
    page.click("[...document.querySelectorAll('button')].find(button => button.textContent == 'Classify')")
    page.wait("[...document.querySelectorAll('[role=alert]')].some(line => /nothing/.test(line.textContent))")
    assert_no_overflow(page)
    open_tab(page, "Classes")
    page.click("[...document.querySelectorAll('button')].find(button => button.textContent == 'Save table (CSV)')")
    page.wait("[...document.querySelectorAll('[role=status]')].some(line => /saved .*csv/.test(line.textContent))")
    assert len(list(folder.glob("explorer-classes-*.csv"))) == 1
    assert page.errors == []


def test_controls_have_accessible_names(page):
    nameless = page.js(
        f"[...({BOX}).querySelectorAll('button, input, select, img')].filter(e => e.offsetParent && !(e.alt || "
        "e.title || e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.js(f"({BOX}).querySelectorAll('td b, td i, option b').length") == 0, "a name became HTML"
