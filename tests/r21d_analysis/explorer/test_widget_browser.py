"""The explorer's notebook in JupyterLab and a real browser, by mouse and by keyboard.

Needs Chromium (on Debian: `apt-get install chromium`), and is skipped without it. `R21D_SCREENSHOTS=docs pytest -m
browser -k pictures` takes the pictures of the documentation, from the records in results/demo.zip and the built-in
videos.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import torch
from playwright.sync_api import expect, sync_playwright

from r21d_core.study.experiments import variant_comparison
from tests.r21d_analysis.explorer.test_widget import write_run
from tests.r21d_core.models.test_load import small

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium here; on Debian: apt-get install chromium"),
]
OPTIONS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]  # Debian's emulates a GPU to draw
ROOT = Path(__file__).parents[3]
PICTURES = os.environ.get("R21D_SCREENSHOTS", "")
CLASSES = ("<b>bold</b>", "cost in $ and $", "é ∂", "fall", "rise")
SETTINGS = {  # render all cells, visible or not, and do not fetch news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
}
# In the explorer: controls without names, names that became HTML, what is wider than its place, and text whose contrast
# with its background is below 4.5.
CHECKS = """box => {
  const rgb = text => text.match(/[0-9.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const background = e => { for (; e; e = e.parentElement) {  // DataTables fills rows by a shadow
    const {boxShadow, backgroundColor} = getComputedStyle(e);
    for (const color of [boxShadow.includes('9999px') ? boxShadow.split(')')[0] : '', backgroundColor]) {
      const c = color && rgb(color); if (c && (c[3] ?? 1) > 0.8) return c } } return [255, 255, 255] };
  const contrast = e => { const [a, b] = [rgb(getComputedStyle(e).color), background(e)].map(luminance).sort();
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) };
  const all = [...box.querySelectorAll('*')].filter(e => e.offsetParent);
  return [
    ...all.filter(e => e.matches('button, input, select, img, video, [role=slider]') && !(e.alt || e.title
      || e.textContent.trim() || e.ariaLabel || e.labels?.length || e.closest('.slider-container'))),
    ...all.filter(e => e.matches('td b, td i, option b')),
    ...all.filter(e => e.clientWidth && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX != 'visible'
      && !e.closest('.dt-scroll, .lm-TabBar, select, input')),
    ...all.filter(e => !e.disabled && !e.matches('.disabled') && [...e.childNodes].some(n => n.nodeType == 3
      && n.data.trim()) && contrast(e) < 4.5),
  ].map(e => `${e.outerHTML.slice(0, 300)} ${e.scrollWidth}>${e.clientWidth} ${contrast(e)}`);
}"""
CLIPS = "200"  # a video takes seconds, so that twelve last until Stop, which waits for the one that is computed
expect.set_options(timeout=60_000)
KERNEL = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status"


@pytest.fixture(scope="module")
def folder(tiny_manifest, tmp_path_factory):
    """A folder with the notebook, whose parameters name two runs, some of whose videos exist."""
    root = tmp_path_factory.mktemp("suite")
    runs, manifests = ROOT / "results" / "demo.zip", ROOT / "data"
    if not PICTURES:
        runs, manifests = root / "runs", tiny_manifest.parent
        videos = [f"{name}/v_g{number:02d}.mp4" for number in range(8, 12) for name in [("dark", "bright")[number % 2]]]
        videos += [f"<i>{number}</i> $, {'as cameras name their files, ' * 3}.mp4" for number in range(56)]
        for number, spec in enumerate(variant_comparison("demo", "tiny", variants=("f-R2D", "R(2+1)D"), eval_clips=5)):
            write_run(spec, runs, number, classes=CLASSES, videos=videos)
    notebook = nbformat.read(ROOT / "notebooks" / "explorer.ipynb", as_version=4)
    parameters = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source += f"\nruns, manifests = {str(runs)!r}, {str(manifests)!r}"
    nbformat.write(notebook, root / "explorer.ipynb")
    return root


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The address of the notebook in JupyterLab, whose own files are in a temporary folder."""
    scratch = tmp_path_factory.mktemp("jupyter")
    for name, content in SETTINGS.items():
        file = scratch / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(content))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "spaces"}
    folders |= {name: name.lower() for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True", "--LabApp.news_url=", "--ServerApp.ip=127.0.0.1",
    ]  # fmt: skip
    environment = os.environ | {name: str(scratch / path) for name, path in folders.items()}
    log = scratch / "log"
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file, env=environment) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, log.read_text()
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=5):
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def page(server):
    """The notebook in a browser, with all cells executed; `errors` are those of its console."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        page = browser.new_page(viewport={"width": 1280, "height": 2400})
        page.set_default_timeout(60_000)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.route(lambda url: not url.startswith((server[:20], "data:", "blob:")), lambda route: route.abort())
        page.goto(server)
        page.wait_for_function(f"{KERNEL} == 'idle'")
        page.evaluate("jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
        page.wait_for_selector(".widget-tab img[alt^=Recall]")
        page.wait_for_timeout(500)  # until the script of the output has run
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def no_errors(page):
    yield
    assert page.errors == []


def open_tab(page, name):
    page.locator(".widget-tab .lm-TabBar-tab", has_text=name).click()


def table_rows(page):
    return page.locator(".widget-tab .dt-scroll-body tbody tr:visible")


def matrix_value(page):
    """The line with the values of the cell under the pointer, which comes after the matrix."""
    return page.locator(".r21d-explorer p[role=status]", has_text=re.compile("^Point at a cell|, predicted as "))


def cell_center(page, column):
    """The place in the window of a cell in the first row of the confusion matrix."""
    box = page.locator("img[alt^=Confusion]").bounding_box()
    return box["x"] + 190 + 44 * (column + 0.5), box["y"] + 28 + 22


def point_at_cell(page, column):
    """Point at a cell, wait for its values, and return its class, its prediction and its number of items."""
    text = matrix_value(page)
    before = text.inner_text()
    page.mouse.move(*cell_center(page, column))
    expect(text).not_to_have_text(before)
    return re.fullmatch("(.*), predicted as (.*): ([0-9]+) items, .* % of the class", text.inner_text()).groups()


def click_cell(page, column):
    page.mouse.click(*cell_center(page, column))


@pytest.mark.skipif(not PICTURES, reason="R21D_SCREENSHOTS names no folder for pictures")
def test_pictures_of_the_tabs_are_taken(page):
    for tab, figure in (("Classes", "Recall"), ("Confusion", "Confusion"), ("Videos", "Probabilities")):
        open_tab(page, tab)
        if tab == "Videos":
            page.get_by_label("Search", exact=True).fill("hover/")
            page.keyboard.press("Enter")
            expect(page.locator("img[alt^=Probabilities]")).to_have_attribute("alt", re.compile("hover/"))
        expect(page.locator(f"img[alt^={figure}]")).to_be_visible()
        page.wait_for_function(f"{KERNEL} == 'idle'")
        page.wait_for_timeout(1000)
        page.locator(".r21d-explorer").screenshot(path=Path(PICTURES) / f"explorer-{tab.lower()}.png")


def test_slider_moves_by_keyboard(page):
    image, table = page.locator("img[alt^=Recall]"), page.locator(".r21d-explorer table.dataframe")
    before, numbers = image.get_attribute("src"), table.inner_text()
    page.locator(".noUi-handle:visible").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(image).not_to_have_attribute("src", before)
    assert table.inner_text() != numbers
    page.keyboard.press("ArrowRight")
    expect(image).to_have_attribute("src", before)
    assert table.inner_text() == numbers


def test_classes_have_the_order_of_their_figure_at_first(page):
    header = page.locator("th[aria-sort]").locator("visible=true")
    expect(header).to_have_attribute("aria-sort", "descending")
    assert header.all_inner_texts() == ["A − B"]
    rows = [text.split("\t") for text in table_rows(page).all_inner_texts()]
    order = [(-float(difference), CLASSES.index(name)) for name, *_, difference in rows]
    assert order == sorted(order) and len({difference for difference, _ in order}) > 1


def test_classes_are_searched_sorted_and_selected(page):
    search = page.get_by_label("Search:").first
    search.fill("fall")
    expect(table_rows(page)).to_have_count(1)
    search.fill("")
    header, orders = page.get_by_role("columnheader", name="A recall").first, []
    for order in ("ascending", "descending"):
        header.click()
        expect(header).to_have_attribute("aria-sort", order)
        orders.append([float(text.split("\t")[2]) for text in table_rows(page).all_inner_texts()])
    assert orders[0] == sorted(orders[0]) == orders[1][::-1] and len(orders[0]) >= 5
    for number in (1, 2):
        table_rows(page).nth(number).focus()
        page.keyboard.press("Enter")
        expect(page.locator("img[alt^=Recall]")).to_have_attribute("alt", re.compile(rf"Recall by class \({number}\)"))
    page.keyboard.press("d")
    page.keyboard.press("d")
    assert page.evaluate("jupyterapp.shell.currentWidget.content.widgets.length") == 5, "a key deleted a cell"
    for number, drawn in ((1, 1), (2, len(orders[0]))):  # the second click comes after the redraw of the first
        table_rows(page).nth(number).click()
        expect(page.locator("img[alt^=Recall]")).to_have_attribute("alt", re.compile(rf"Recall by class \({drawn}\)"))


def test_order_search_and_selection_outlive_the_number_of_clips(page):
    header, image = page.get_by_role("columnheader", name="A recall").first, page.locator("img[alt^=Recall]")
    while header.get_attribute("aria-sort") != "descending":
        header.click()
    page.get_by_label("Search:").first.fill("i")
    table_rows(page).nth(1).click()
    expect(image).to_have_attribute("alt", re.compile(r"Recall by class \(1\)"))
    names = [text.split("\t")[0] for text in page.locator("tr.selected:visible").all_inner_texts()]
    for key in ("ArrowLeft", "ArrowRight"):
        before = image.get_attribute("src"), table_rows(page).all_inner_texts()
        page.locator(".noUi-handle:visible").first.focus()
        page.keyboard.press(key)
        expect(image).not_to_have_attribute("src", before[0])
        page.wait_for_function(f"{KERNEL} == 'idle'")
        rows = [text.split("\t") for text in table_rows(page).all_inner_texts()]
        assert len(rows) == len(before[1]) < len(CLASSES)
        assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)
        assert [text.split("\t")[0] for text in page.locator("tr.selected:visible").all_inner_texts()] == names
    page.get_by_label("Search:").first.fill("")
    page.locator("tr.selected:visible").click()
    expect(image).to_have_attribute("alt", re.compile(rf"Recall by class \({len(CLASSES)}\)"))


def test_tables_are_saved_with_intervals_under_their_names(page):
    files = {
        "Classes": ("classes", "A recall"),
        "Confusion": ("confusions", "predicted as"),
        "Videos": ("videos", "A %"),
    }
    for tab, (name, column) in files.items():
        open_tab(page, tab)
        expect(page.get_by_role("columnheader", name=column).locator("visible=true").first).to_be_visible()
        page.wait_for_function(f"{KERNEL} == 'idle'")
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").locator("visible=true").click()
        assert download.value.suggested_filename == f"{name}.csv"
        header, *rows = Path(download.value.path()).read_text().splitlines()
        assert rows and ('"A low","A high"' in header) == (tab == "Classes")
    open_tab(page, "Classes")
    expect(page.get_by_role("columnheader", name="A low")).to_have_count(0)


@pytest.mark.parametrize("button", ["CSV", "Copy"])
def test_table_that_is_replaced_is_saved_without_error(page, button):
    click = """name => new Promise(end => { let n = 0; const timer = setInterval(() => {
      [...document.querySelectorAll('.dt-buttons button')].find(e => e.offsetParent && e.textContent == name)?.click();
      if (++n == 12) { clearInterval(timer); end() } }, 50) })"""
    image = page.locator("img[alt^=Recall]")
    for key in ("ArrowLeft", "ArrowRight"):
        before = image.get_attribute("src")
        page.locator(".noUi-handle:visible").first.focus()
        page.keyboard.press(key)
        page.evaluate(click, button)  # before, while and after the table is replaced
        expect(image).not_to_have_attribute("src", before)
    page.wait_for_function(f"{KERNEL} == 'idle'")


def test_matrix_shows_values_and_lists_videos(page):
    open_tab(page, "Confusion")
    expect(matrix_value(page)).to_be_visible()
    for column in range(len(CLASSES)):  # along the first row to a confusion
        true, pred, n = point_at_cell(page, column)
        if n != "0" and true != pred:
            break
    click_cell(page, column)
    expect(page.get_by_text(re.compile(f"^{n} of [0-9]+ items"))).to_be_visible()
    expect(table_rows(page)).to_have_count(min(int(n), 10))
    for label, name in (("Class", true), ("Predicted as", pred)):
        menu = page.get_by_label(label, exact=True)
        assert menu.evaluate("menu => menu.selectedOptions[0].text") == name
    open_tab(page, "Confusion")
    table_rows(page).first.focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("Predicted as", exact=True)).to_be_visible()


@pytest.fixture
def narrow(page):
    """The page in a window that is narrower than the confusion matrix."""
    size = page.viewport_size
    page.set_viewport_size(size | {"width": 700})
    yield page
    page.set_viewport_size(size)


def test_wide_window_has_tables_beside_their_figures(page):
    size, beside = page.viewport_size, []
    try:
        for width in (size["width"], 1600, 2000):
            page.set_viewport_size(size | {"width": width})
            for tab, figure in (("Confusion", "Confusion"), ("Classes", "Recall"), ("Videos", "Probabilities")):
                open_tab(page, tab)
                image = page.locator(f"img[alt^={figure}]")
                expect(image).to_be_visible()
                page.wait_for_timeout(500)
                table = page.locator(".dt-container").locator("visible=true").bounding_box()
                box = image.bounding_box()
                beside.append(
                    (width, tab, table["y"] < box["y"] + box["height"] and box["y"] < table["y"] + table["height"])
                )
            box = page.locator(".r21d-explorer")
            used, available = box.bounding_box()["width"], box.evaluate("box => box.parentElement.clientWidth")
            assert used == min(available, 1600)
    finally:
        page.set_viewport_size(size)
    assert {(width, tab) for width, tab, is_beside in beside if is_beside} == {
        (1600, "Confusion"), (2000, "Confusion"), (2000, "Classes"), (2000, "Videos")
    }  # fmt: skip


def test_matrix_stays_under_the_pointer_in_a_narrow_window(narrow):
    """Scrolled, and while the text of its values takes more or fewer lines: the click takes the cell that was shown."""
    page = narrow
    open_tab(page, "Confusion")
    matrix, column = page.locator("img[alt^=Confusion]"), len(CLASSES) - 1
    expect(matrix_value(page)).to_be_visible()
    matrix.scroll_into_view_if_needed()
    scroll = "(img, x) => { const box = img.closest('.widget-vbox'); box.scrollLeft = x; return box.scrollLeft }"
    assert matrix.evaluate(scroll, 999) > 44
    before = matrix.bounding_box()
    true, pred, n = point_at_cell(page, column)
    assert matrix.bounding_box() == before and (true, pred) == (CLASSES[0], CLASSES[column])
    click_cell(page, column)
    expect(page.get_by_text(re.compile(f"^{n} of [0-9]+ items"))).to_be_visible()
    assert page.get_by_label("Predicted as", exact=True).evaluate("menu => menu.selectedOptions[0].text") == pred


def test_controls_fit_a_phone_and_names_wrap(narrow):
    narrow.set_viewport_size({"width": 400, "height": 2400})
    narrow.evaluate("jupyterapp.commands.execute('application:toggle-left-area').then(() => true)")
    try:
        for tab in ("Classes", "Confusion", "Videos", "Your own video"):
            open_tab(narrow, tab)
            narrow.wait_for_timeout(500)
            wide = """box => [...box.querySelectorAll('select, input, button, .widget-hbox, .lm-TabBar-tab')]
              .filter(e => e.offsetParent && !e.closest('.dt-container')
                && e.getBoundingClientRect().right > box.getBoundingClientRect().right + 1).map(e => e.outerHTML)"""
            assert narrow.locator(".r21d-explorer").evaluate(wide) == [], tab
    finally:
        narrow.evaluate("jupyterapp.commands.execute('application:toggle-left-area').then(() => true)")
    narrow.set_viewport_size({"width": 1280, "height": 2400})
    open_tab(narrow, "Videos")
    table = narrow.locator(".dt-scroll-body").locator("visible=true")
    hidden = table.evaluate("table => table.scrollWidth - table.clientWidth")
    assert hidden <= 1, "the predictions of B are out of sight"


def test_video_plays_and_changes(page):
    open_tab(page, "Videos")
    for label in ("Class", "Predicted as", "Show"):
        menu = page.get_by_label(label, exact=True)
        menu.select_option(index=0)
        assert menu.evaluate("menu => menu.selectedOptions[0].text") == ("all" if label == "Show" else "any")
    page.get_by_label("Search", exact=True).fill("dark/")
    page.keyboard.press("Enter")
    plot = page.locator("img[alt^=Probabilities]")
    expect(plot).to_have_attribute("alt", re.compile("dark/"))
    page.wait_for_function("(v => v && v.readyState >= 2 && v.currentTime > 0)(document.querySelector('video'))")
    before = plot.get_attribute("alt")
    page.get_by_alt_text("Frame of").nth(1).click()
    expect(plot).not_to_have_attribute("alt", before)
    table_rows(page).first.click()
    expect(plot).to_have_attribute("alt", before)


def test_errors_of_own_videos_are_reported(page):
    open_tab(page, "Your own video")
    page.get_by_label("Weights").fill("nothing")
    page.get_by_label("Video or folder").fill("/<b>gone</b>.mp4")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("alert").filter(has_text="nothing")).to_be_visible()


def test_other_tabs_answer_while_own_videos_are_classified(page, folder, tiny_manifest):
    torch.save(small("R3D", num_classes=7).state_dict(), folder / "r3d.pth")
    open_tab(page, "Your own video")
    for label, text in (("Weights", folder / "r3d.pth"), ("Video or folder", tiny_manifest.parent / "videos")):
        page.get_by_label(label).fill(str(text))
    page.get_by_label("Clips per video").last.fill(CLIPS)
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Classify").click()
    start, stop = page.get_by_role("button", name="of 12 videos"), page.get_by_role("button", name="Stop")
    expect(start).to_be_disabled()
    open_tab(page, "Classes")
    image = page.locator("img[alt^=Recall]")
    for key in ("ArrowLeft", "ArrowRight"):
        before = image.get_attribute("src")
        page.locator(".noUi-handle:visible").first.focus()
        page.keyboard.press(key)
        expect(image).not_to_have_attribute("src", before)
    open_tab(page, "Your own video")
    stop.click()
    expect(page.get_by_text(re.compile("^stopped after [0-9]+ of 12 videos"))).to_be_visible()
    expect(page.get_by_role("button", name="Classify")).to_be_enabled()
    expect(stop).to_be_disabled()
    table_rows(page).last.click()
    path = table_rows(page).last.locator("td").first.inner_text()
    expect(page.locator(f"img[alt='Probabilities of {path} over time']")).to_be_visible()
    page.locator("input[type=search]:visible").fill("nothing")
    expect(page.get_by_text("filtered from").locator("visible=true")).to_be_visible()


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_page_is_accessible(page, theme):
    page.evaluate(f"jupyterapp.commands.execute('apputils:change-theme', {{theme: '{theme}'}}).then(() => true)")
    for tab in ("Classes", "Confusion", "Videos", "Your own video"):
        open_tab(page, tab)
        page.wait_for_timeout(500)
        assert page.locator(".r21d-explorer").evaluate(CHECKS) == [], tab
    background = "img => getComputedStyle(img.parentElement).backgroundColor"
    is_white = page.locator("img[alt^=Confusion]").evaluate(background) == "rgb(255, 255, 255)"
    assert is_white == (theme == "JupyterLab Dark"), (
        "where empty cells would be black, and rare confusions the brightest"
    )
    if theme == "JupyterLab Light":  # once: Tab leaves every widget
        open_tab(page, "Videos")
        page.get_by_label("Data", exact=True).focus()
        for _ in range(150):
            page.keyboard.press("Tab")
            if not page.evaluate("document.querySelector('.r21d-explorer').contains(document.activeElement)"):
                return
        pytest.fail(f"the keyboard is kept by {page.evaluate('document.activeElement.outerHTML')[:300]}")


def test_explorers_of_two_cells_classify_by_themselves(page, folder, tiny_manifest):
    """Another cell's explorer leaves a classification alone; the own cell, run again, stops it."""
    torch.save(small("R3D", num_classes=7).state_dict(), folder / "r3d.pth")

    def run_cell(source):
        """Run a new last cell and return its text."""
        page.evaluate(f"""async () => {{ const {{content}} = jupyterapp.shell.currentWidget;
            content.activeCellIndex = content.widgets.length - 1;
            await jupyterapp.commands.execute('notebook:insert-cell-below');
            content.activeCell.model.sharedModel.setSource({json.dumps(source)});
            await jupyterapp.commands.execute('notebook:run-cell') }}""")
        return page.locator(".jp-CodeCell").last.locator(".jp-OutputArea-output").last.inner_text().strip()

    weights, videos = folder / "r3d.pth", tiny_manifest.parent / "videos"
    open_tab(page, "Your own video")
    run_cell(
        "first = explorer.classifier\n"
        f"first.weights.value, first.path.value, first.clips.value = {str(weights)!r}, {str(videos)!r}, {CLIPS}\n"
        "first.start.click()"
    )
    expect(page.get_by_role("button", name="of 12 videos")).to_be_disabled()
    run_cell("Explorer(runs, manifests)")
    expect(page.locator(".r21d-explorer")).to_have_count(2)
    assert run_cell("print(first.start.disabled, first.stop.disabled)") == "True False", "it goes on"
    page.evaluate("""async () => { const {content} = jupyterapp.shell.currentWidget;
        const isFirst = cell => cell.model.sharedModel.source.includes('explorer = Explorer');
        content.activeCellIndex = content.widgets.findIndex(isFirst);
        await jupyterapp.commands.execute('notebook:run-cell') }""")
    assert "stopped after" in run_cell("await first.task; print(first.errors.value)")
