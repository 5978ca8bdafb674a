"""The pages as a reader sees them: in a browser, from the disk, with no network."""

import shutil
from pathlib import Path

import pytest
from conftest import require_or_skip, skip_or_fail

from docs.annotate.formulas import INSTALL, THEME
from docs.annotate.settings import Settings

SITE = Path(__file__).parents[2] / "docs" / "site"
ELSEWHERE = {"404.html", *(f"{name}.html" for name in Settings.read(SITE.parent.parent).moved)}
PAGES = sorted(path.name for path in SITE.glob("*.html") if path.name not in ELSEWHERE)
AXE = THEME / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium; what playwright would download is not used."""
    api = require_or_skip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        skip_or_fail("chromium is not installed (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a page from the disk, and fails if it asks for anything that is not on the disk."""
    contexts, asked = [], []

    def open_page(name="index.html", width=1280, theme="light", script=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, java_script_enabled=script
        )
        contexts.append(context)
        context.route("http*://**", lambda route: (asked.append(route.request.url), route.abort()))
        page = context.new_page()
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.goto((SITE / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert asked == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible_and_no_wider_than_the_window(open_page, theme, width):
    """axe finds nothing on any page, and nothing scrolls sideways but code, tables and formulas."""
    if not AXE.exists():
        skip_or_fail(f"axe-core is not installed; run: {INSTALL}")
    page, found = open_page(width=width, theme=theme), {}
    for name in PAGES:
        page.goto((SITE / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.evaluate(AXE.read_text(encoding="utf-8"))
        violations = page.evaluate("axe.run().then((r) => r.violations)")
        if violations:
            found[name] = [(v["id"], v["nodes"][0]["html"][:200]) for v in violations]
    assert found == {}


def test_without_a_script_everything_can_be_read(open_page):
    """No JavaScript: text, code, formulas and links are there, and no button that does nothing."""
    page = open_page("attention.html", script=False)
    assert page.locator("h1").inner_text() == "Attention over the memory"
    assert page.locator(".katex").count() > 5 and page.locator("math").count() > 5
    assert page.locator("button, input").count() == 0
    page.locator("a[rel=next]").click()
    assert page.url.endswith("layers.html")


def test_formulas_do_not_collapse(open_page):
    """KaTeX's style sheet and fonts are there: a subscript is smaller than its symbol."""
    page = open_page("attention.html")
    fonts = "document.fonts.ready.then((all) => [...all].filter((f) => f.status === 'loaded'))"
    assert page.evaluate(f"{fonts}.then((all) => all.some((f) => f.family.startsWith('KaTeX')))")
    heights = page.evaluate(
        "[...document.querySelectorAll('.katex-html .mord')]"
        ".map((e) => e.getBoundingClientRect().height).filter((h) => h > 0)"
    )
    assert max(heights) > 1.3 * min(heights)


def test_the_theme_can_be_chosen_and_is_remembered(open_page):
    """The button turns light into dark, and the next page opens dark, without a flash."""
    page = open_page()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.get_by_role("button", name="Dark").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    page.goto((SITE / "memory.html").as_uri())
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    page.get_by_role("button", name="Light").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == light


def test_search_by_keyboard(open_page):
    """A slash, a few letters, Tab and Enter lead to a definition on another page."""
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("layermix")
    page.locator(".found a").first.wait_for()
    while page.evaluate("!document.activeElement.closest('.found')"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/layers.html#LayerMix")
    page.keyboard.press("/")
    page.keyboard.type("zzzz")
    page.get_by_text("Nothing found").wait_for()
    page.keyboard.press("Escape")
    assert not page.locator(".found").is_visible()


def test_a_name_lights_up_wherever_it_stands(open_page):
    """A click, or typing it into the search, highlights it; Escape ends the highlighting."""
    page = open_page("layers.html")
    lit = "[...document.querySelectorAll('.lit')].map((e) => e.textContent)"
    page.locator(".code .n", has_text="keep_ff").first.click()
    found = page.evaluate(lit)
    assert len(found) > 1 and set(found) == {"keep_ff"}
    page.keyboard.press("Escape")
    assert page.evaluate(lit) == []
    page.keyboard.press("/")
    page.keyboard.type("LayerMix")
    assert set(page.evaluate(lit)) == {"LayerMix"}


def test_the_skip_link_comes_first(open_page):
    """The first Tab offers to skip to the text."""
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#main"


def test_line_numbers_are_not_copied(open_page):
    """Selected code is code: numbers are drawn, not written."""
    page = open_page("memory.html")
    text = page.locator("pre.code code").nth(1).inner_text()
    assert "@dataclass" in text and not any(line[:1].isdigit() for line in text.splitlines())


def test_copied_code_keeps_its_blank_lines(open_page):
    """What the button copies is the code of the section, as it stands in the file."""
    page = open_page("layers.html")
    page.evaluate("navigator.clipboard.writeText = (text) => { window.copied = text; }")
    block = page.locator("pre.code").nth(0)
    block.hover()
    block.locator(".copy").click()
    source = (SITE.parent.parent / "feedback/layers.py").read_text(encoding="utf-8")
    copied = page.evaluate("window.copied")
    assert "\n\n" in copied and copied.strip("\n") in source


def test_menu_and_search_on_a_phone(open_page):
    """The table of contents lies within the window, and what is found below the search field."""
    page = open_page(width=390)
    page.locator(".menu summary").click()
    box = page.locator(".menu ol").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.keyboard.press("/")
    page.keyboard.type("memory")
    page.locator(".found a").first.wait_for()
    field = page.locator("#tools input").bounding_box()
    assert page.locator(".found").bounding_box()["y"] >= field["y"] + field["height"]
    page.locator("h1").click(position={"x": 1, "y": 1}, force=True)
    page.mouse.click(5, 880)
    assert not page.locator(".found").is_visible()


def test_two_columns_where_there_is_room(open_page):
    """Prose beside code at 1280 pixels, above it at 390."""
    for width, beside in ((1280, True), (390, False)):
        row = open_page("layers.html", width=width).locator(
            "section#LayerMix, section:has(#LayerMix)"
        )
        prose, code = (row.locator(part).bounding_box() for part in (".prose", "pre.code"))
        assert (code["x"] >= prose["x"] + prose["width"] - 1) == beside
        assert (code["y"] >= prose["y"] + prose["height"] - 1) == (not beside)


def test_printed(open_page):
    """On paper: no header, and no code cut off at the margin."""
    page = open_page("layers.html")
    page.emulate_media(media="print")
    assert not page.locator("header").is_visible()
    fits = "(p) => p.scrollWidth <= p.clientWidth + 1"
    assert page.evaluate(f"[...document.querySelectorAll('pre')].every({fits})")
    # Who reads in the dark does not print so.
    ink = "getComputedStyle(document.body).color"
    light = page.evaluate(ink)
    page = open_page("layers.html", theme="dark")
    assert page.evaluate(ink) != light
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print")
    assert page.evaluate(ink) == light


def test_a_notebook_page(open_page):
    """Outputs stand below their code; a key unfolds a solution; none of it needs a script."""
    for script in (True, False):
        page = open_page("02_attention.html", script=script)
        row = page.locator(".row:has(img)").first
        code, image = (row.locator(part).first.bounding_box() for part in ("pre.code", "img"))
        assert image["y"] >= code["y"] + code["height"] and image["width"] > 300
        summary = page.locator("details.folded summary").first
        solution = page.locator("details.folded pre.code").first
        assert not solution.is_visible()
        summary.focus()
        page.keyboard.press("Enter")
        assert solution.is_visible()
    assert page.get_by_text("Open in Colab").get_attribute("href").startswith("https://colab")


def test_the_first_paint_needs_no_script(open_page):
    """The largest page is painted while its script is still held back."""
    largest = max(PAGES, key=lambda name: (SITE / name).stat().st_size)
    page = open_page(largest, script=False)
    page.locator("h1").wait_for()
    assert page.locator("h1").bounding_box()["height"] > 0
    scripts = "[...document.scripts].filter((s) => s.src).every((s) => s.defer)"
    page = open_page(largest)
    assert page.evaluate(scripts)
    paint = "performance.getEntriesByName('first-contentful-paint').length"
    assert page.evaluate(paint) == 1


def test_the_figures_answer_the_keyboard(open_page):
    """An arrow key takes back a step of the recurrence, and chooses another character."""
    page = open_page()
    faded = "[...document.querySelectorAll('[data-at]')].filter((e) => e.style.opacity < 1).length"
    assert page.evaluate(faded) == 0
    page.get_by_label("How far the recurrence has come").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(faded) > 0
    page.goto((SITE / "inside.html").as_uri())
    cells = (
        "[...document.querySelectorAll('.cell')].map((e) => e.getAttribute('fill-opacity')).join()"
    )
    page.get_by_label("The layer that is left out").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_text("Without the embedding it is").is_visible()
    bars = "[...document.querySelectorAll('.bar')].filter((e) => e.style.opacity < 1).length"
    assert page.evaluate(bars) == 1
    before = page.evaluate(cells)
    page.get_by_label("The character that attends").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(cells) != before
    page.keyboard.press("ArrowRight")
    assert page.evaluate(cells) == before


def test_a_page_that_has_moved(open_page):
    """Its old address leads to the new one by itself."""
    page = open_page("stack.html")
    page.wait_for_url("**/append.html")
    assert page.locator("h1").inner_text() == "Appending without copies"
