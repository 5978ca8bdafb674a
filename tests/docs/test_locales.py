"""Pages in other languages: nothing left in English, the terms of the glossary, every glyph."""

import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import test_browser
from conftest import skip_or_fail
from test_translations import KEY, meanings

from docs.annotate.locale import NAMES, Catalogue, languages
from docs.annotate.settings import Settings

ROOT = Path(__file__).parents[2]
SITE = ROOT / "docs" / "site"
LANGUAGES = languages(Settings.read(ROOT))
OTHERS = [lang for lang in NAMES if lang != "en"]
PAGES = {lang: sorted(p.name for p in (SITE / lang).glob("*.html")) for lang in OTHERS}
LOOKED_AT = ["index.html", "attention.html", "01_why_feedback.html", "notation.html", "demo.html"]
"""In a browser: prose with figures, a module, a notebook, tables, and models that run."""

browser, open_page = test_browser.browser, test_browser.open_page


class Reader(HTMLParser):
    """All that is said on a page, outside code and formulas, with the place where it is said."""

    SILENT = "script", "style", "code", "pre", "math"
    SINGLE = "meta", "link", "br", "hr", "img", "input"

    def __init__(self, html: str):
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.said: list[tuple[str, str]] = []
        self.ids: set[str] = set()
        self.english = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given["id"]} if "id" in given else set()
        self.english += given.get("lang") == "en" and not (tag == "a" and "hreflang" in given)
        # A switch to another language says so in that language.
        other = tag == "a" and "lang" in given
        silent = (
            tag in self.SILENT or "katex" in given.get("class", "").split() or other
            or "monospace" in given.get("font-family", "")
        )  # fmt: skip
        names = ("aria-label", "aria-valuetext", "title", "alt", "placeholder")
        self.said += [(name, given[name]) for name in names if given.get(name)]
        self.said += [("data-says", text) for text in given.get("data-says", "").split("|")]
        if "description" in (given.get("name"), given.get("property", "").removeprefix("og:")):
            self.said.append(("description", given["content"]))
        if tag not in self.SINGLE:
            self.open.append((tag, silent))

    def handle_startendtag(self, tag, attrs):
        before = len(self.open)
        self.handle_starttag(tag, attrs)
        del self.open[before:]

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if data.strip() and not any(silent for _, silent in self.open):
            self.said.append(("text", " ".join(data.split())))


NAMED = set(
    # Models, layers, functions, and the names of programs, texts and people.
    "Transformer Transformer-XL Feedback LSTM GRU LayerNorm pre-norm softmax dropout autograd ReLU "
    "GELU SiLU SwiGLU Tiny Shakespeare enwik8 PyTorch pylit labml Colab Jupyter MIT arXiv Jacobi "
    "Autograd Fan Dai Shazeer Sukhbaatar Günter Milde Ctrl-C SIGTERM SIGHUP BAR PC et al nat "
    "docstring import hook hooks logits XOR Recurrent Looped Grazzi sLSTM Mamba DeltaNet "
    "DeltaProduct Siems Beck Gu Dao mambapy JavaScript float16 MB GPU ROMEO".split()
)
"""What stays in English, in every language."""

QUOTED = {
    # A notebook is a notebook; a translation of it would be a laptop.
    "zh": {"notebook", "Notebook"},
    # What is written under the braces of a formula is said to be so.
    "ja": {"content", "distance", "for", "any", "query"},
    "si": {"exclusive", "or", "notebooks", "fused", "attention", "adapters", "parity", "modulo"},
}
BRACKETS = re.compile(r"\(([A-Za-z][A-Za-z0-9 .,/-]*)\)|（([A-Za-z][A-Za-z .-]*)）")
"""A term in English behind its translation, as the glossaries have it for its first use."""

FILE = re.compile(r"(?:[\w.-]+/)+[\w.-]*|\b[\w-]+\.(?:py|md|cpp|h|po|svg|ipynb)\b")
WORD = re.compile(r"(?<![0-9A-Za-z])[A-Za-zÀ-ÿ][A-Za-zÀ-ÿ0-9'’-]+")


def left_in_english(html: str, lang: str) -> Counter[str]:
    """The English words on a page that are neither code nor names nor quoted terms."""
    reader, found = Reader(html), Counter()
    allowed = NAMED | QUOTED[lang]
    for _, text in reader.said:
        # A caption says what the English words in its picture mean.
        text = " ".join([text.partition(KEY[lang][0])[0], *meanings(lang, text).values()])
        text = FILE.sub(" ", text.replace("x⁰", " "))
        # A symbol of a module is the name of its section, in labels that say where a link leads.
        for name in sorted(reader.ids, key=len, reverse=True):
            text = text.replace(f"“{name}”", " ").replace(f"「{name}」", " ")
        text = BRACKETS.sub(" ", text)
        words = WORD.findall(text)
        found.update(
            w for w in words if w not in allowed and w.rstrip("0123456789-") not in allowed
        )
    return found


@pytest.mark.parametrize("lang", OTHERS)
def test_no_english_is_left(lang):
    """Text, labels, descriptions and figures; and no part that says it is not translated."""
    assert len(PAGES[lang]) >= 14
    for name in PAGES[lang]:
        html = (SITE / lang / name).read_text(encoding="utf-8")
        assert not left_in_english(html, lang), name
        assert not Reader(html).english, name
        assert 'class="note"' not in html


def test_english_that_is_left_is_seen():
    """In the text, in a label, in a figure; but not in code, in a name, or in brackets."""
    for left in (
        "<p>これは step です", '<a aria-label="Link to this">a</a>', "<text>layer 1</text>",
        '<img alt="A picture">', '<svg data-says="一|Two steps">', "<p>図中の語：step＝step。",
    ):  # fmt: skip
        assert left_in_english(left, "ja"), left
    kept = "<p>段 <code>a step</code> feedback/lm/decode.py Transformer（memory vector）<em>字</em>"
    assert not left_in_english(kept, "ja")
    assert not left_in_english("<figcaption>線。図中の語：step＝ステップ、in layers＝層。", "ja")
    assert not left_in_english('<h2 id="Mix.forward">x</h2><a aria-label="「Mix.forward」">', "ja")


# The glossary.

FREE = [
    # Words that are no term where they stand like this.
    "exact numbers", "a step forward", "views share", "share of right", "implementations share",
    "fused attention", "transformer-xl", "pre-norm", "values and not memory",
    "every cell of every notebook", "editing the cell", "in turn:", "rows, memory",
    "walk through the steps", "optimiser has moved", "run this loop by hand", "layers to run",
    "run the first part", "whichever implementation runs", "cannot run", "can run",
    "runs the layer",
    "saves a product", "side by side", "one after the other", "training raises",
    "one layer of the stack", "the bare stack", "last checkpoint", "all call this",
    "detach the memory", "then mix, then append", "waits for", "goes in and comes out",
    "does not attend to itself", "build on", "start at zero", "returns and the memory vector",
    "same values whatever", "recurrent looped transformer",
]  # fmt: skip
"""What the notes below the tables say in words: plain speech, homonyms and names."""

HOMONYMS = {
    "pass", "even", "group", "score", "call", "stack", "view", "cell", "table", "product",
    "guessing", "contestant", "permutation",
}  # fmt: skip
"""Terms of one page, or of one sense, whose words say something else elsewhere."""

PLAIN = {"ja": {"number"} | HOMONYMS, "si": {"mix"} | HOMONYMS, "zh": HOMONYMS}
"""Words that are plain speech as often as they are the term, or a verb as often as a noun."""


def glossary(lang: str) -> dict[str, list[str]]:
    """The terms of a language, longest first, and the ways to translate each."""
    path = ROOT / "docs/locale" / lang / "glossary.md"
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [re.sub(r"\(.*?\)", "", cell).strip() for cell in line.strip("|").split("|")]
        if not line.startswith("| ") or cells[0] == "term":
            continue
        for term in cells[0].split(","):
            kept = "英語のまま" in cells[1]
            ways = [term] if kept else re.split(r"[、；,]|……", cells[1])
            found.setdefault(term.strip().lower(), []).extend(way.strip() for way in ways)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def stem(way: str, lang: str) -> str:
    """What stays of a word when it is inflected: in Sinhala the end changes."""
    if lang != "si" or not re.search(r"[\u0d80-\u0dff]", way):
        return way.lower()
    words = way.split()
    # Of a verb the end and the vowel before it change.
    words = words[:-1] if len(words) > 1 and words[-1].endswith("යි") else words
    return re.sub(r"(?<=..)(ය|යි|ව|[ා-ෟ])$", "", " ".join(words))


def prose(text: str, without: list[str] = FREE) -> str:
    """A text without code, formulas and addresses, and without words that are no terms."""
    text = re.sub(r"^```.*?^```", " ", text, flags=re.M | re.S)
    text = re.sub(r"`[^`]+`|\$\$.+?\$\$|\$[^$]+\$|\]\([^)]+\)", " ", text, flags=re.S)
    text = " ".join(text.split()).lower()
    for words in without:
        text = text.replace(words, " ")
    return text


def otherwise(lang: str, english: str, translation: str) -> list[str]:
    """The terms of a text that its translation does not translate as the glossary says."""
    text, wrong = prose(english), []
    for term, ways in glossary(lang).items():
        pattern = rf"\b{re.escape(term)}(?:s|es)?\b"
        if not re.search(pattern, text):
            continue
        text = re.sub(pattern, " ", text)
        plain = term in PLAIN.get(lang, ())
        if not plain and not any(stem(way, lang) in translation.lower() for way in ways):
            wrong.append(term)
    return wrong


@pytest.mark.parametrize("lang", OTHERS)
def test_terms_are_those_of_the_glossary(lang):
    """A term that has an entry is translated by it everywhere."""
    wrong, uses = {}, 0
    for catalogue in LANGUAGES[lang].catalogues.values():
        for entry in catalogue.file:
            if entry.translated() and not entry.obsolete:
                uses += 1
                texts = [(entry.msgid, entry.msgstr), *meanings(lang, entry.msgstr).items()]
                if terms := [term for pair in texts for term in otherwise(lang, *pair)]:
                    wrong[f"{catalogue.page} {entry.msgctxt}"] = terms
    assert uses > 300 and wrong == {}


def test_another_word_is_seen():
    """The word for a computer's memory is not the word for the model's."""
    assert otherwise("zh", "Each memory vector.", "每个内存向量。") == ["memory vector"]
    assert not otherwise("zh", "Each memory vector.", "每个记忆向量。")
    assert otherwise("ja", "A step.", "一つの段階。") == ["step"]
    assert otherwise("si", "A layer.", "තට්ටුවක්.") == ["layer"]
    assert not otherwise("si", "Layers.", "ස්තර.")


def test_words_that_are_no_terms_are_there():
    """Each exception is about something that the English pages say."""
    files = [catalogue.file for catalogue in LANGUAGES["ja"].catalogues.values()]
    texts = " | ".join(prose(entry.msgid, []) for file in files for entry in file)
    assert [free for free in FREE if free not in texts] == []


# Addresses.


@pytest.mark.parametrize("lang", OTHERS)
def test_every_page_knows_its_versions(lang):
    """Canonical is the page itself; all versions name one another, in the head and in the bar."""
    base, tag = Settings.read(ROOT).site, LANGUAGES[lang].tag
    for name in PAGES[lang]:
        html = (SITE / lang / name).read_text(encoding="utf-8")
        assert f'<html lang="{tag}">' in html
        assert re.findall(r'rel="canonical" href="([^"]+)"', html) == [f"{base}{lang}/{name}"]
        versions = {"en": name} | {k: f"{k}/{name}" for k in OTHERS if name in PAGES[k]}
        tags = {LANGUAGES[k].tag: base + path for k, path in versions.items()}
        there = dict(re.findall(r'rel="alternate" hreflang="([^"]+)" href="([^"]+)"', html))
        assert there == tags | {"x-default": base + name}
        bar = dict(re.findall(r'<a href="([^"]+)" hreflang="[^"]+" lang="([^"]+)"', html))
        assert bar == {f"../{path}": LANGUAGES[k].tag for k, path in versions.items() if k != lang}
        for path in versions.values():
            other = (SITE / path).read_text(encoding="utf-8")
            assert f'hreflang="{tag}" href="{base}{lang}/{name}"' in other


@pytest.mark.parametrize("lang", OTHERS)
def test_links_stay_in_the_language(lang):
    """Who reads in a language is led to the page in that language wherever there is one."""
    for name in PAGES[lang]:
        html = (SITE / lang / name).read_text(encoding="utf-8")
        links = re.findall(r'<a [^>]*?href="\.\./([\w-]+\.html)[^>]*>', html)
        assert set(links) & set(PAGES[lang]) <= {name}, name


# In a browser.

FONTS = {"ja": "Noto Sans CJK JP", "zh": "Noto Sans CJK SC", "si": "Noto Sans Sinhala"}
SCRIPT = {
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]", "zh": r"[\u4e00-\u9fff]", "si": r"[\u0d80-\u0dff]"
}  # fmt: skip


@pytest.fixture(scope="module")
def fonts():
    """Skips where the fonts are not installed: what a browser draws then says nothing."""
    listed = (
        shutil.which("fc-list")
        and subprocess.run(["fc-list", ":", "family"], capture_output=True, text=True).stdout
    )
    missing = [font for font in FONTS.values() if font not in (listed or "")]
    if missing:
        skip_or_fail(f"fonts are not installed ({', '.join(missing)}); run: apt-get install "
                     "fonts-noto-cjk fonts-noto-core")  # fmt: skip


BOXES = """(extra) => {
  // Draws each character in the font of its place, and compares it with one that no font has.
  const canvas = document.createElement("canvas"), size = canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const drawn = (text, font) => {
    pen.clearRect(0, 0, size, size);
    pen.font = font;
    pen.fillText(text, 2, 24);
    // A number that stands for the picture: its opacities, each times its place.
    const bytes = pen.getImageData(0, 0, size, size).data;
    return bytes.reduce((sum, x, i) => i % 4 === 3 ? sum + x * (i % 9973) : sum, 0);
  };
  const boxes = {}, found = {}, letters = new Intl.Segmenter("en", { granularity: "grapheme" });
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const look = (text, style) => {
    const font = `${style.fontWeight} 20px ${style.fontFamily}`;
    boxes[font] ??= ["\\u0378", "\\u{10fffe}"].map((missing) => drawn(missing, font));
    found[font] ??= new Set();
    for (const { segment } of letters.segment(text)) if (segment.trim()) found[font].add(segment);
  };
  while (walker.nextNode()) {
    const text = walker.currentNode, parent = text.parentElement;
    if (!parent.closest("script, style, .katex")) look(text.data, getComputedStyle(parent));
  }
  look(extra, getComputedStyle(document.querySelector("main")));
  return Object.entries(found).flatMap(([font, texts]) =>
    [...texts].filter((text) => boxes[font].includes(drawn(text, font))));
}"""


@pytest.mark.parametrize("lang", OTHERS)
def test_no_glyph_is_missing(fonts, open_page, lang):
    """No character is drawn as the box that stands for one that no font has."""
    page = open_page(f"{lang}/index.html")
    for name in LOOKED_AT:
        page.goto((SITE / lang / name).as_uri())
        # With what its scripts may say.
        assert page.evaluate(BOXES, page.evaluate("document.body.dataset.say")) == [], name
    assert page.evaluate(BOXES, "\u0379") == ["\u0379"]


STAGES = """() => [...document.querySelectorAll(".demo")].map((stage) => {
  // Without what is in English, and says so.
  const copy = stage.cloneNode(true);
  copy.querySelectorAll("[lang=en]").forEach((e) => e.remove());
  return copy.outerHTML;
}).join("")"""


@pytest.mark.parametrize("lang", OTHERS)
def test_the_models_on_a_page_speak_its_language(open_page, lang):
    """
    Whatever a reader sees or hears of them, and whatever is pressed: no English is left but what
    the models read and write, which says that it is.
    """
    page = open_page(f"{lang}/demo.html")
    page.set_default_timeout(180_000)
    page.emulate_media(reduced_motion="reduce")

    def say(text):
        said = LANGUAGES[lang].find("demo", text, text)
        assert said != text
        return said

    def press(text, then):
        """Presses a button; what is said then is said in the language."""
        page.get_by_role("button", name=say(text), exact=True).first.click()
        heard(then)

    def heard(text):
        """Waits until it is said, with some value at each name in braces."""
        words = "(.+)".join(re.escape(part) for part in re.split(r"\{\w+\}", say(text)))
        page.locator(".demo :is(p, button)").filter(has_text=re.compile(words)).first.wait_for()
        html = page.evaluate(STAGES)
        assert re.search(SCRIPT[lang], html) and not left_in_english(html, lang), text

    page.route("**/assets/a5.js", lambda route: route.abort())
    press("Shuffle here (0.6 MB)", then="It does not run: {error}.")
    page.unroute("**/assets/a5.js")
    press("Shuffle here (0.6 MB)", then="Press a shuffle. The model hears which, and nothing else.")
    page.locator(".shuffle").first.click()
    heard("After 1 shuffle the model says {order}: right. 1 of 1 answers were right.")
    page.locator(".demo .buttons button").nth(1).click()
    heard("After {n} shuffles the model says {order}: right. {right} of {n} answers were right.")
    press("Run the model here (2 MB)", then="It reads this text with {nats} nats a character.")
    page.get_by_label(say("Look back at a character")).press("Home")
    heard("at {character}, character {n} of {all}")
    other = "In colour: from here on the learned memory writes something else."
    press("Without layers 1 and 2", then=other)
    heard("With this memory {nats} nats a character, as with the learned one.")
    more = "With this memory {nats} nats a character, {difference} more than with the learned one."
    press("Two slots", then=more)
    page.get_by_label(say("Prompt")).fill("JULIET 7:")
    heard("Characters of the prompt that the model does not know are left out.")
    # Found and looked at in one call, since the text may be drawn anew at any time.
    tags = "(chosen) => [...document.querySelectorAll(chosen)].map((e) => e.closest('[lang]').lang)"
    assert page.evaluate(tags, ".demo") == [LANGUAGES[lang].tag] * 2
    english = ".demo :is(textarea, .text span, .read span, .unseen)"
    assert set(page.evaluate(tags, english)) == {"en"}


def drawn_by(page, selector: str) -> dict[str, int]:
    """The fonts that draw an element, and how many glyphs each draws."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    found: Counter[str] = Counter()
    nodes = session.send("DOM.querySelectorAll", {"nodeId": root, "selector": selector})["nodeIds"]
    for node in nodes:
        for font in session.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"]:
            found[font["familyName"]] += int(font["glyphCount"])
    session.detach()
    return dict(found)


@pytest.mark.parametrize("lang", OTHERS)
def test_the_script_has_its_font_and_the_rest_keeps_its_own(fonts, open_page, lang):
    """Prose, tables, bar, buttons and figures in the script's font; not code, formulas, numbers."""
    page = open_page(f"{lang}/index.html")
    for selector in ("main p", "header nav", ".menu li a", "h2", ".figure text", "footer p"):
        found = drawn_by(page, selector)
        assert max(found, key=found.get) == FONTS[lang], (selector, found)
        others = {font for other, font in FONTS.items() if other != lang}
        # The bar names the other languages in their scripts.
        assert selector == "header nav" or not others & set(found), (selector, found)
    family = "(s) => getComputedStyle(document.querySelector(s)).fontFamily"
    for name, selector in (
        ("index.html", "pre code"), ("attention.html", "p code"), ("attention.html", ".katex"),
        ("attention.html", ".katex .mathnormal"), ("attention.html", "a[data-n]"),
    ):  # fmt: skip
        kept = []
        for folder in ("", f"{lang}/"):
            page.goto((SITE / folder / name).as_uri())
            kept.append(page.evaluate(family, selector))
        assert kept[0] == kept[1] and "Noto" not in kept[1], selector


LINES = """() => {
  // The first character of each line of a block but the first line, by where it is drawn.
  const range = document.createRange(), blocks = "p, li, td, h1, h2, h3", first = [];
  for (const block of document.querySelectorAll("main :is(p, li, td, h1, h2, h3)")) {
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    let bottom = null;
    while (walker.nextNode()) {
      const node = walker.currentNode, parent = node.parentElement;
      if (parent.closest(blocks) !== block || parent.closest("code, .katex, pre, svg")) {
        bottom = null;
        continue;
      }
      for (let i = 0; i < node.data.length; i++) {
        range.setStart(node, i);
        range.setEnd(node, i + 1);
        const box = node.data[i].trim() && range.getClientRects()[0];
        if (!box || !box.width) continue;
        if (bottom !== null && box.top > bottom - 4) first.push(node.data[i]);
        bottom = box.bottom;
      }
    }
  }
  return first;
}"""


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("lang", OTHERS)
def test_lines_begin_where_they_may(fonts, open_page, lang, width):
    """Never with closing punctuation, a small kana, or a sign of the letter before it."""
    never = "。、，．：；）」』？！”’％…ーァィゥェォッャュョぁぃぅぇぉっゃゅょ々)]},.;:!?%"
    page, lines = open_page(f"{lang}/index.html", width=width), []
    for name in LOOKED_AT:
        page.goto((SITE / lang / name).as_uri())
        lines += page.evaluate(LINES)
    assert len(lines) > 50
    assert [c for c in lines if c in never or "\u0dca" <= c <= "\u0ddf" or c == "\u200d"] == []


def test_joined_letters_are_joined(fonts, open_page):
    """In Sinhala two consonants with a joiner are one shape, narrower than side by side."""
    page = open_page("si/index.html")
    width = """(text) => {
      const span = document.createElement("span");
      span.textContent = text;
      document.querySelector("main p").append(span);
      return span.getBoundingClientRect().width;
    }"""
    joined, apart = (page.evaluate(width, text) for text in ("ප්\u200dර", "ප්\u200cර"))
    assert joined < 0.8 * apart
    spaced = """[...document.querySelectorAll('*')].filter((e) =>
      !e.closest('.katex') && getComputedStyle(e).letterSpacing !== 'normal').length"""
    assert page.evaluate(spaced) == 0


def test_emphasis_is_not_slanted(open_page):
    """Dots in Japanese and Chinese, weight in Sinhala; a part in English keeps its own."""
    style = "getComputedStyle(document.querySelector('main em'))"
    for lang, key, value in (
        ("ja", "textEmphasisStyle", "dot"), ("zh", "textEmphasisStyle", "dot"),
        ("si", "fontWeight", "600"), ("en", "fontStyle", "italic"),
    ):  # fmt: skip
        page = open_page("index.html" if lang == "en" else f"{lang}/index.html")
        assert page.evaluate(f"{style}.{key}") == value
        assert page.evaluate(f"{style}.fontStyle") == ("italic" if lang == "en" else "normal")


@pytest.mark.parametrize("lang", OTHERS)
def test_what_the_scripts_say(open_page, lang):
    """The stepper, the search, the buttons and the copied line speak the language of the page."""
    page = open_page(f"{lang}/index.html")
    words = LANGUAGES[lang]
    page.get_by_label(words.say("How far the recurrence has come")).focus()
    page.keyboard.press("End")
    page.get_by_label(words.say("Search the site")).focus()
    page.keyboard.type("zzzz")
    page.get_by_text(words.say("Nothing found")).wait_for()
    page.get_by_role("button", name=words.say("Dark")).click()
    page.get_by_role("button", name=words.say("Light")).wait_for()
    assert not left_in_english(page.content(), lang)
    page.goto((SITE / lang / "layers.html").as_uri())
    page.evaluate("navigator.clipboard.writeText = async () => {}")
    page.locator("a[data-n]").nth(3).click()
    page.locator(".line [role=status]", has_text=words.say("Copied")).wait_for()
    assert not left_in_english(page.content(), lang)


@pytest.mark.parametrize(("lang", "word"), [("ja", "埋め込み"), ("zh", "残差"), ("si", "කාවැද්දුම")])
def test_the_search_finds_what_is_in_the_language(open_page, lang, word):
    """A word of the language leads to its pages; a symbol to the page that is only in English."""
    page = open_page(f"{lang}/index.html")
    page.keyboard.press("/")
    page.keyboard.insert_text(word)
    page.locator(".found a").first.wait_for()
    links = page.eval_on_selector_all(".found a", "(all) => all.map((a) => a.getAttribute('href'))")
    assert links and all(f"/{lang}/" in link for link in links)
    page.keyboard.press("Control+a")
    page.keyboard.type("GraphedStep")
    page.locator(".found a[hreflang=en]").first.wait_for()
    page.keyboard.press("Control+a")
    page.keyboard.type("layermix")
    page.locator(".found a", has_text="LayerMix").first.click()
    page.wait_for_url(f"**/{lang}/layers.html#LayerMix")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("lang", OTHERS)
def test_accessible_and_no_wider_than_the_window(open_page, lang, width):
    """axe finds nothing on a translated page, and nothing scrolls sideways."""
    test_browser.look_at(open_page, [f"{lang}/{name}" for name in PAGES[lang]], width)


@pytest.mark.parametrize("lang", OTHERS)
def test_a_page_takes_as_long_to_read_as_in_english(lang):
    """Minutes are counted in the English text: other scripts have no blanks, or longer words."""
    minutes = {folder: re.search(r"(\d+)", LANGUAGES["en" if not folder else lang].say("{n} min")
               .replace("{n}", "5")) for folder in ("", lang)}  # fmt: skip
    assert all(minutes.values())
    for name in PAGES[lang]:
        english, other = (
            re.search(r'<p class="facts">\s*\D*(\d+)', (SITE / f / name).read_text("utf-8"))[1]
            for f in ("", lang)
        )
        assert english == other


def test_check_names_what_is_stale(tmp_path):
    """A message that changed in English, and one that nobody has translated, by file and line."""
    path = tmp_path / "docs/locale/ja/LC_MESSAGES/x.po"
    path.parent.mkdir(parents=True)
    path.write_text(
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
        '#, fuzzy\nmsgctxt "a"\nmsgid "A"\nmsgstr "ア"\n\nmsgctxt "b"\nmsgid "B"\nmsgstr ""\n',
        encoding="utf-8",
    )
    catalogue = Catalogue.read(Settings(tmp_path, "x", "", "", "", {}), path)
    first, stale, missing = catalogue.coverage()
    assert first.endswith("x.po: 0 of 2 messages are translated")
    assert re.fullmatch(r".*x\.po:\d+: 'a' has changed in English since it was translated", stale)
    assert re.fullmatch(r".*x\.po:\d+: 'b' is missing", missing)
    assert catalogue.get("a", "A") is None
