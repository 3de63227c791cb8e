"""The explorer in a real browser: its notebook is opened, run and moved, by mouse and by keyboard.

Takes Chromium (on Debian: `apt-get install chromium`) and JupyterLab; skipped where there is no Chromium. With
R21D_SCREENSHOTS=docs the pictures of the documentation are taken on the way.
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
    """A folder with the notebook, its runs folder named, and two runs in it."""
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
    """The notebook in JupyterLab, all of its cells run."""
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


def changes(page, expression, act):
    """Do `act`, and wait until the expression's value is another and the kernel has done all else that follows."""
    before = page.js(expression)
    act()
    page.wait(f"({expression}) != {json.dumps(before)}")
    page.wait("panel.sessionContext.session.kernel.status == 'idle'")


def keep(page, name):
    """Take a picture for the documentation, if they are wanted."""
    if folder := os.environ.get("R21D_SCREENSHOTS"):
        Path(folder).mkdir(exist_ok=True)
        page.js("new Promise(done => setTimeout(() => done(true), 1500))")  # frames come after the rest
        page.js(f"({BOX}).scrollIntoView()")
        page.screenshot(Path(folder) / f"explorer-{name}.png", BOX)


def no_overflow(page):
    """Nothing is wider than the place it has, in a window of 1280 pixels."""
    assert page.js("window.innerWidth") == 1280
    wide = page.js(
        f"[{BOX}.closest('.jp-OutputArea-output'), ...({BOX}).querySelectorAll('*')].filter(one => one.clientWidth && "
        "one.scrollWidth > one.clientWidth + 1 && !['visible', 'clip'].includes(getComputedStyle(one).overflowX))"
        ".map(one => one.className + ' ' + one.scrollWidth + ' > ' + one.clientWidth)"
    )
    assert wide == []


def test_the_slider_moves_by_the_keyboard_and_all_with_it(page):
    number = f"({BY_LABEL.format('Clips a video')}).querySelector('.widget-readout').textContent"
    table = f"({BOX}).querySelector('table').innerText"
    picture = f"({PICTURE.format('video@1')})?.src"
    no_overflow(page)
    keep(page, "classes")
    seen = {page.js(picture)}
    page.js(f"({BY_LABEL.format('Clips a video')}).querySelector('.noUi-handle').focus()")
    before = page.js(table)
    changes(page, number, lambda: page.press("ArrowLeft", 37))
    page.wait(f"({table}) != {before!r}")
    page.wait(f"({picture}) && ({picture}) != {next(iter(seen))!r}")
    changes(page, picture, lambda: page.press("ArrowRight", 39))
    assert page.js(table) == before
    assert page.faults == []


def test_a_cell_of_the_matrix_is_clicked(page):
    open_tab(page, "Confusion")
    page.wait(PICTURE.format("Confusion"))
    no_overflow(page)
    keep(page, "confusion")
    cell = (
        "[...document.querySelectorAll('.r21d-cells button')].filter(cell => !/: 0$/.test(cell.textContent))"
        ".find(cell => (([one, other]) => one != other)(cell.textContent.replace(/: .*?$/, '').split(', taken for ')))"
    )
    name = page.js(f"({cell}).textContent")
    page.js(f"({cell}).scrollIntoView({{block: 'center'}})")
    middle = "(box => document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2).textContent)"
    assert page.js(f"({middle})(({cell}).getBoundingClientRect())") == name, "the button lies not on its cell"
    page.click(cell)
    page.wait(PICTURE.format("Probabilities"))
    chosen = [
        page.js(f"(list => list.options[list.selectedIndex].text)(({BY_LABEL.format(label)}).querySelector('select'))")
        for label in ("Class", "Taken for")
    ]
    assert name.startswith(f"{chosen[0]}, taken for {chosen[1]}: ")
    listed = f"({BY_LABEL.format('Class → A | B')}).querySelector('select').options.length"
    page.wait(f"({listed}) == {name.rsplit(' ', 1)[1]}")
    no_overflow(page)
    keep(page, "videos")
    assert page.faults == []


def test_a_filter_and_a_video_are_chosen_by_the_keyboard(page):
    open_tab(page, "Videos")
    page.wait(PICTURE.format("Probabilities"))
    text = f"({BOX}).querySelector('.widget-tab').innerText"
    page.js(f"({BY_LABEL.format('Class')}).querySelector('select').focus()")
    for key, code in (("End", 35), ("Home", 36)):
        changes(page, text, lambda key=key, code=code: page.press(key, code))
    page.js(f"({BY_LABEL.format('Class → A | B')}).querySelector('select').focus()")
    changes(page, PICTURE.format("Probabilities") + ".alt", lambda: page.press("ArrowDown", 40))
    assert page.faults == []


def test_a_bad_video_is_a_line_and_a_save_is_told(page, folder):
    open_tab(page, "Your own video")
    for label, text in (("Weights", "nothing"), ("Video or folder", "/<b>gone</b>.mp4")):
        page.js(f"({BY_LABEL.format(label)}).querySelector('input').select()")
        page.type(text)
        page.press("Tab", 9)
    page.click("[...document.querySelectorAll('button')].find(button => button.textContent == 'Classify')")
    page.wait("[...document.querySelectorAll('[role=alert]')].some(line => /nothing/.test(line.textContent))")
    no_overflow(page)
    open_tab(page, "Classes")
    page.click("[...document.querySelectorAll('button')].find(button => button.textContent == 'Save table (CSV)')")
    page.wait("[...document.querySelectorAll('[role=status]')].some(line => /saved .*csv/.test(line.textContent))")
    assert len(list(folder.glob("explorer-classes-*.csv"))) == 1
    assert page.faults == []


def test_what_a_keyboard_reaches_has_a_name(page):
    nameless = page.js(
        f"[...({BOX}).querySelectorAll('button, input, select, img')].filter(one => one.offsetParent && !(one.alt || "
        "one.title || one.textContent.trim() || one.ariaLabel || one.labels?.length)).map(one => one.outerHTML)"
    )
    assert nameless == []
    assert page.js(f"({BOX}).querySelectorAll('td b, td i, option b').length") == 0, "a name became HTML"
