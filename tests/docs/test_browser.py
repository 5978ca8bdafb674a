"""The pages as a reader sees them: in a browser, from the disk, with no network."""

import io
import re
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from conftest import require_or_skip, skip_or_fail
from matplotlib.colors import to_rgb

from docs.annotate.formulas import INSTALL, THEME
from docs.annotate.settings import Settings

SITE = Path(__file__).parents[2] / "docs" / "site"
ELSEWHERE = {"404.html", *(f"{name}.html" for name in Settings.read(SITE.parent.parent).moved)}
PAGES = sorted(path.name for path in SITE.glob("*.html") if path.name not in ELSEWHERE)
ANYWHERE = re.compile("^https?://")
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

    def open_page(name="index.html", width=1280, theme="light", script=True, bypass_csp=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme,
            java_script_enabled=script, bypass_csp=bypass_csp,
        )  # fmt: skip
        contexts.append(context)
        # A busy machine may take minutes for a large page.
        context.set_default_timeout(180_000)
        context.route(ANYWHERE, lambda route: (asked.append(route.request.url), route.abort()))
        page = context.new_page()
        page.on("pageerror", lambda error: asked.append(str(error)))
        page.goto((SITE / name).as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert asked == []


COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe that depend on the theme: all others see the same page in both."""


def look_at(open_page, names, width):
    """axe finds nothing on these pages, light and dark, and none is wider than the window."""
    if not AXE.exists():
        skip_or_fail(f"axe-core is not installed; run: {INSTALL}")
    # The policy of the pages would not let axe in.
    page, found = open_page(width=width, bypass_csp=True), {}
    for name in names:
        page.emulate_media(color_scheme="light")
        page.goto((SITE / name).as_uri())
        page.evaluate(AXE.read_text(encoding="utf-8"))
        backgrounds = set()
        for theme, options in (("light", {}), ("dark", {"runOnly": COLOURS})):
            page.emulate_media(color_scheme=theme)
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, theme)
            violations = page.evaluate(
                "(options) => axe.run({resultTypes: ['violations'], ...options})"
                ".then((r) => r.violations)", options,
            )  # fmt: skip
            for v in violations:
                found.setdefault((name, theme), []).append((v["id"], v["nodes"][0]["html"][:200]))
        assert len(backgrounds) == 2, f"{name} is the same in both themes"
    assert found == {}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("part", range(4))
def test_accessible_and_no_wider_than_the_window(open_page, part, width):
    """axe finds nothing on any page, and nothing scrolls sideways but code, tables and formulas."""
    look_at(open_page, PAGES[part::4], width)


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


def test_search_by_arrow_keys(open_page):
    """What is called otherwise elsewhere is found too; arrows go through it, Escape leads back."""
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("BPTT")
    page.locator(".found a").nth(1).wait_for()
    focused = "[...document.querySelectorAll('.found a')].indexOf(document.activeElement)"
    steps = [("ArrowDown", 0), ("ArrowDown", 1), ("ArrowUp", 0), ("ArrowUp", -1), ("ArrowDown", 0)]
    for key, place in steps:
        page.keyboard.press(key)
        assert page.evaluate(focused) == place
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.type(" sweep")
    page.keyboard.press("Control+a")
    page.keyboard.type("layermix")
    page.locator(".found a", has_text="LayerMix").first.wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/layers.html#LayerMix")


def test_the_contents_are_beside_the_text_where_there_is_room(open_page):
    """On a page of prose at 1280 pixels, beside code at 1600; else a menu."""
    for name, width, beside in (
        ("worth.html", 1280, True), ("worth.html", 1000, False),
        ("layers.html", 1280, False), ("layers.html", 1600, True),
    ):  # fmt: skip
        page = open_page(name, width)
        contents, text = page.locator(".menu ol"), page.locator("main h1").bounding_box()
        assert contents.is_visible() == beside
        if beside:
            box = contents.bounding_box()
            assert box["x"] + box["width"] <= text["x"]
            assert page.locator(".menu [aria-current]").bounding_box()["y"] < 900


def test_the_menu_closes(open_page):
    """By Escape, which leads back to where it was opened, and by a click beside it."""
    page = open_page("layers.html")
    contents, button = page.locator(".menu ol"), page.locator(".menu summary")
    button.click()
    page.keyboard.press("Tab")
    assert contents.is_visible()
    page.keyboard.press("Escape")
    assert not contents.is_visible()
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    button.click()
    page.mouse.click(1000, 600)
    assert not contents.is_visible()


def test_a_line_has_an_address(open_page):
    """A click on its number copies that, marks the line, and offers the one in the repository."""
    page = open_page("layers.html")
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text; }")
    number = page.locator("a[data-n]").nth(3)
    there = number.get_attribute("href")
    number.click()
    page.locator(".line [role=status]", has_text="Copied").wait_for()
    assert page.evaluate("window.copied") == page.url and page.url.endswith(f"#{number_id(page)}")
    assert page.locator(".line a").get_attribute("href") == there


def number_id(page) -> str:
    """The line that is marked."""
    return page.locator(".l.here").get_attribute("id")


def test_what_is_smuggled_in_does_not_run(open_page):
    """The policy of the page stops scripts that are not its own, and lets its own run."""
    page = open_page("notation.html")
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.smuggled = 1";
      document.body.append(script);
      document.body.insertAdjacentHTML("beforeend",
        '<img src="data:," onerror="smuggled = 2"><a href="javascript:smuggled = 3">x</a>');
      document.body.lastChild.click();
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("window.smuggled") is None
    assert page.locator("#tools input").is_visible()


def test_a_page_that_is_not_there(browser):
    """It has the contents and the search, wherever it is shown."""
    site = Settings.read(SITE.parent.parent).site
    context = browser.new_context(viewport={"width": 1280, "height": 900})

    def answer(route):
        path = SITE / route.request.url.removeprefix(site)
        path = path if path.is_file() else SITE / "404.html"
        route.fulfill(path=path)

    context.route(ANYWHERE, answer)
    page = context.new_page()
    page.goto(f"{site}no/such/page.html")
    page.locator(".menu a", has_text="Layers").first.wait_for()
    page.keyboard.press("/")
    page.keyboard.type("layermix")
    page.locator(".found a", has_text="LayerMix").first.click()
    page.wait_for_url(f"{site}layers.html#LayerMix")
    context.close()


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
    """A picture stands below its folded code; a key unfolds it; none of it needs a script."""
    for script in (True, False):
        page = open_page("02_attention.html", script=script)
        row = page.locator(".row:has(img)").first
        title, image = (row.locator(part).first.bounding_box() for part in ("summary", "img"))
        assert image["y"] >= title["y"] + title["height"] and image["width"] > 300
        for title, outputs in (("Imports", 0), ("Drawing code", 0), ("Solution", 1)):
            fold = page.locator(f"details.folded:has(summary:text-is('{title}'))").first
            assert not fold.locator("pre.code").is_visible()
            assert fold.locator(".out, img").count() == outputs
            fold.locator("summary").focus()
            page.keyboard.press("Enter")
            assert fold.locator("pre.code").is_visible()
    assert page.get_by_text("Open in Colab").get_attribute("href").startswith("https://colab")


def test_folded_code_is_found(open_page):
    """By a link to one of its lines, by a name that is looked for, and on paper."""
    page = open_page("01_why_feedback.html")
    fold = page.locator("details.folded").nth(1)
    line, code = fold.locator(".l").nth(3).get_attribute("id"), fold.locator("pre.code")
    page.keyboard.press("/")
    page.keyboard.type("FancyArrowPatch")
    assert page.locator("summary.lit").count() == 2
    assert not code.is_visible()
    page.emulate_media(media="print")
    assert code.is_visible()
    page.emulate_media(media="screen")
    assert not code.is_visible()
    page.goto(f"{page.url}#{line}")
    code.wait_for()
    assert page.locator(f"#{line}").bounding_box()["y"] < 900


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
    page.get_by_label("How far the recurrence has come").focus()
    page.keyboard.press("End")
    assert page.evaluate(faded) == 0
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


FIGURES = sorted(name for name in PAGES if "<figure>" in (SITE / name).read_text(encoding="utf-8"))


def colours_of(element):
    """Red, green and blue of the pixels of an element, as the screen shows it."""
    image = matplotlib.image.imread(io.BytesIO(element.screenshot()))[..., :3]
    return np.rint(255 * image).astype(int)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pictures_have_no_ground_of_their_own(open_page, theme):
    """Around a picture is the colour of the page, and feedback has the colour it has everywhere."""
    for name, place in (("results.html", ".prose"), ("03_memory.html", ".side")):
        page = open_page(name, theme=theme)
        picture = page.locator(f"{place} figure img").first
        seen = colours_of(picture)
        style = f"getComputedStyle(document.querySelector('{place}:has(figure img)'))"
        ground = page.evaluate(f"{style}.backgroundColor")
        if ground == "rgba(0, 0, 0, 0)":
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert seen[2, 2].tolist() == [int(n) for n in re.findall(r"\d+", ground)]
        accent = page.evaluate(f"{style}.getPropertyValue('--accent')")
        wanted = np.rint(255 * np.array(to_rgb(accent)))
        assert (np.abs(seen - wanted).max(-1) <= 2).sum() > 50


def test_figures_can_be_read_on_a_telephone(open_page):
    """No letters below nine pixels; captions as wide as the screen, and figures, or they scroll."""
    page = open_page(width=390)
    for name in FIGURES:
        page.goto((SITE / name).as_uri())
        pictures = "[...document.querySelectorAll('figure img')]"
        for shown, pixels, box in page.evaluate(
            f"{pictures}.map((i) => [i.getBoundingClientRect().width, i.naturalWidth,"
            " i.closest('.picture').clientWidth])"
        ):
            # Letters of ten points, at 200 pixels to the inch.
            assert pixels == 0 or 10 / 72 * 200 * shown / pixels > 9.5, name
            assert shown <= box or shown >= 0.34 * pixels, name
        letters = page.evaluate(
            "[...document.querySelectorAll('.figure svg text')].map((t) => "
            "parseFloat(getComputedStyle(t).fontSize) * t.getScreenCTM().a)"
        )
        assert min(letters, default=9) >= 9, (name, min(letters))
        wide = "(e) => e.getBoundingClientRect().right <= innerWidth"
        assert page.evaluate(f"[...document.querySelectorAll('figcaption')].every({wide})"), name


def test_letters_of_drawings_are_as_large_as_captions(open_page):
    """Whatever their width, where there is room for it."""
    letters = """[...document.querySelectorAll('.figure svg')].map((svg) =>
        parseFloat(getComputedStyle(svg).fontSize) * svg.getScreenCTM().a)"""
    caption = "parseFloat(getComputedStyle(document.querySelector('figcaption')).fontSize)"
    page, counted = open_page(), 0
    for name in FIGURES:
        if 'class="figure"' in (SITE / name).read_text(encoding="utf-8"):
            page.goto((SITE / name).as_uri())
            sizes = page.evaluate(letters)
            counted += len(sizes)
            assert sizes == pytest.approx([page.evaluate(caption)] * len(sizes), rel=0.01), name
    assert counted > 8


@pytest.mark.parametrize("lang", ["", "ja/", "zh/", "si/"])
def test_the_first_screen(open_page, lang):
    """What it is, why, three ways to begin, and the drawing that plays: at a desk all at once."""
    parts = ("h1", ".prose p", ".beside figure", ".doors", "[data-figure=steps]", ".control")
    for width, height in ((1280, 800), (390, 844)):
        page = open_page(f"{lang}index.html", width=width)
        page.set_viewport_size({"width": width, "height": height})
        boxes = [page.locator(f".hero {part}").first.bounding_box() for part in parts]
        hero = page.locator(".hero").bounding_box()
        if width == 390:
            assert boxes == sorted(boxes, key=lambda box: box["y"])
        else:
            # In Sinhala the title has two lines: there the pictures begin on the first screen.
            seen = boxes[3:] if lang == "si/" else [hero]
            assert all(box["y"] + box["height"] <= height for box in seen)


@pytest.mark.parametrize("lang", ["", "ja/", "zh/", "si/"])
def test_the_header_of_a_telephone_has_two_rows(open_page, lang):
    """Title and contents, then languages, search and theme; nothing is cut off."""
    page = open_page(f"{lang}memory.html", width=390)
    assert page.locator("header").bounding_box()["height"] < 70
    for part in (".home", ".menu summary", ".languages", "#tools input", "#tools button"):
        box = page.locator(f"header {part}").first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390, part


@pytest.mark.parametrize("width, height", [(1280, 800), (390, 844)])
def test_the_model_can_be_started_without_scrolling(open_page, width, height):
    """The button stands above the recorded run."""
    page = open_page("demo.html", width=width)
    button = page.locator(".demo .big").first.bounding_box()
    assert button["y"] + button["height"] <= height


@pytest.mark.parametrize("name", ["04_shared_keys_and_values", "05_fast_and_exact"])
def test_sections_of_long_notebooks_fit_a_screen(open_page, name):
    """At a desk no cell with its prose is taller than what is below the header."""
    page = open_page(f"{name}.html")
    rows = "[...document.querySelectorAll('.row')].map((row) => row.getBoundingClientRect().height)"
    room = 800 - page.locator("header").bounding_box()["height"]
    assert len(heights := page.evaluate(rows)) > 20 and max(heights) < room


def test_a_page_that_has_moved(open_page):
    """Its old address leads to the new one by itself."""
    page = open_page("stack.html")
    page.wait_for_url("**/append.html")
    assert page.locator("h1").inner_text() == "Appending without copies"
