"""The site: no line lost, two builds the same, and errors that name the wrong source."""

import json
import posixpath
import re
import shutil
from pathlib import Path

import polib
import pytest
from conftest import skip_or_fail
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.__main__ import main
from docs.annotate.check import Reader, check
from docs.annotate.formulas import INSTALL, THEME
from docs.annotate.glossary import Glossary
from docs.annotate.highlight import highlight
from docs.annotate.locale import NAMES
from docs.annotate.markup import NUMBER, Formulas, Where, renderer
from docs.annotate.mistake import Mistake
from docs.annotate.notebook import read_source
from docs.annotate.order import module_files, reading_order
from docs.annotate.outline import definitions, first_sentence
from docs.annotate.pages import Builder
from docs.annotate.sections import Section, read_module
from docs.annotate.segment import segments
from docs.annotate.settings import Settings
from docs.annotate.site import build, extract
from docs.annotate.walkthrough import definition
from docs.figures.inside import TEXT, draw
from docs.figures.seconds import draw_seconds, mean, read
from feedback import FeedbackLM

ROOT = Path(__file__).parents[2]
PARTS = "pages", "runs", "figures", "locale"
SITE, FIGURES = ROOT / "docs" / "site", ROOT / "docs" / "figures"
FILES = module_files(Settings.read(ROOT))
MODULES = [ROOT / path for path in FILES.values()] + sorted((ROOT / "docs/annotate").glob("*.py"))


@pytest.fixture(scope="session")
def katex():
    """Skips where formulas cannot be rendered."""
    if shutil.which("node") is None or not (THEME / "node_modules/katex").is_dir():
        skip_or_fail(f"formulas need Node.js and KaTeX; with the former run: {INSTALL}")


def whole(source: str) -> list[str]:
    """All lines of all segments."""
    parts = segments(source)
    lines = [(n, line) for s in parts for n, line in enumerate(s.lines, s.start)]
    assert [n for n, _ in lines] == list(range(1, len(lines) + 1))
    return [line for _, line in lines]


def lines_of(source: str) -> list[str]:
    lines = source.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


@pytest.mark.parametrize("path", MODULES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_segments_are_the_file(path):
    """Every line of every module, once, in order; and every line of code is in one section."""
    source = path.read_bytes().decode()
    assert whole(source) == lines_of(source)
    module = read_module(path.stem, str(path), source)
    code = sorted(n for section in module.sections for n, _ in section.code)
    assert len(code) == len(set(code))
    anchors = [section.anchor for section in module.sections]
    assert len(anchors) == len(set(anchors))


ODD = st.sampled_from(
    [
        *("# a comment", "    # an indented comment", "#", "#!no prose", "x = '# none'", "", "\t"),
        *('y = """', '"""', "s = r'''\n# not prose\n'''", "x = 1  # behind code", "é = 'ü'"),
        *("def f():", '    """Says."""', "    '''Says\n    more.'''", "    return 1"),
        *("@decorator", "class C:", '    """x."""', "    a: int", "    pass", '"""Alone."""'),
        *("if x:", "    x = [", "    ]", "async def g():", '    r"""$x$"""'),
        *("    def inner():", '        """Deep."""'),
    ]
)


@given(st.lists(ODD, max_size=14), st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(deadline=None, max_examples=300)
def test_segments_of_odd_files_are_the_file(parts, end, final):
    """Whatever Python accepts is cut without loss: any line ends, with or without a final one."""
    source = end.join(part.replace("\n", end) for part in parts) + (end if final else "")
    try:
        compile(source, "odd.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return
    assert whole(source) == lines_of(source)


def test_prose_and_the_code_it_is_about():
    """Docstrings get the definition before them, fields their assignment, comments what follows."""
    source = '''"""
---
title: T
summary: S
---

# T
"""

import os


@decorated
class C:
    """About C."""

    field: int = 1
    """About the field."""

    def f(self):
        r"""About $f$."""
        # why
        return os.sep
'''
    module = read_module("m", "m.py", source)
    assert module.meta == {"title": "T", "summary": "S"}
    found = [
        (s.anchor, s.prose.strip(), [line.strip() for _, line in s.code if line.strip()])
        for s in module.sections
    ]
    assert found == [
        ("m", "# T", ["import os"]),
        ("C", "About C.", ["@decorated", "class C:"]),
        ("C.field", "About the field.", ["field: int = 1"]),
        ("C.f", "About $f$.", ["def f(self):"]),
        ("C.f-2", "why", ["return os.sep"]),
    ]


def test_highlighting_changes_no_character():
    """Without its tags, highlighted code is the code."""
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        text = "\n".join(re.sub(r"<[^>]+>", "", line) for line in highlight(source))
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert text == source


@pytest.fixture(scope="session")
def site(katex):
    """The site of this repository."""
    return build(Settings.read(ROOT))


def test_two_builds_are_the_same(site):
    """Byte for byte."""
    assert build(Settings.read(ROOT)).files == site.files


def test_the_site_is_in_step(katex):
    """docs/site is what the sources give now: each file, each line of code, each link."""
    assert check(Settings.read(ROOT), SITE) == []


def test_every_line_of_code_is_on_a_page(site):
    """All lines of code, not a sample, each with its own number."""
    for name, path in FILES.items():
        source = (ROOT / path).read_text(encoding="utf-8")
        shown = Reader(site.files[f"{name}.html"].decode()).lines
        lines = source.split("\n")
        code = {(path, n) for s in segments(source) if s.kind == "code"
                for n, line in enumerate(s.lines, s.start) if line.strip()}  # fmt: skip
        assert code <= shown.keys()
        assert all(lines[n - 1] == text.rstrip("\n") for (_, n), text in shown.items())
    folder = ROOT / "feedback/fast"
    for path in (folder / "native.cpp", *folder.glob("cpp/*.h")):
        shown = Reader(site.files[f"{path.stem}-{path.suffix[1:]}.html"].decode()).lines
        for n, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if line.strip() and not line.lstrip().startswith("//"):
                assert shown[path.relative_to(ROOT).as_posix(), n].rstrip("\n") == line
    # Beside each line of C++ stands what was last said of it.
    html = site.files["sweeps-h.html"].decode()
    row = html[html.index('<section class="row" id="q-w_q-hat-x"') :]
    row = row[: row.index("</section>")]
    assert 'encoding="application/x-tex">q = W_q \\hat x + b_q<' in row
    assert re.search(r"<span class=\"l\"[^>]*><a[^>]*></a> *(?:<[^>]*>)*linear", row)


def test_notebook_pages(site):
    """Every line of every walkthrough; definitions of the package at the lines they have there."""
    settings = Settings.read(ROOT)
    for name in settings.notebooks:
        html = site.files[f"{name}.html"].decode()
        shown = Reader(html).lines
        for cell in read_source(settings, name):
            if cell.kind == "code":
                path, first, text = f"notebooks/src/{name}.py", cell.line, cell.text
                if cell.shown:
                    path, first, text = definition(settings, path, cell)
                for n, line in enumerate(text.split("\n"), first):
                    if (path, n) in shown:
                        assert shown[path, n].rstrip("\n") == line
                    else:
                        # For tools: what kind of cell it is, and the words for a picture.
                        assert re.match(r"# (alt: |caption: |NBVAL|@title )|#  ?\w|$", line), (
                            path,
                            n,
                        )
        assert not re.search("# (alt|caption): |NBVAL", html)
        assert settings.colab(name) in html and f"assets/notebooks/{name}.ipynb" in html
        assert html.count("<img ") == html.count("assets/notebooks/") - 1 > 0
        assert html.count("<summary>Solution</summary>") >= 2
    order = re.findall(r'<li[^>]*><a href="(\w+)\.html"', site.files["index.html"].decode())
    # The notebooks one after the other, then the modules as the package lists them.
    names = [name for part in reading_order(settings).values() for name in part]
    assert [name for name in order if name in {*settings.notebooks, *names}] == [
        *settings.notebooks,
        *names,
    ]
    attention = site.files["attention.html"].decode()
    assert 'href="02_attention.html"' in attention


def test_pages_are_light_and_load_nothing_from_elsewhere(site):
    """Under 300 KB each, and each load is a file of the site."""
    for name, content in site.files.items():
        if name.endswith(".html"):
            assert len(content) < 300_000, name
            for load in Reader(content.decode()).loads:
                whole = posixpath.normpath(posixpath.join(posixpath.dirname(name), load))
                assert whole in site.files, (name, load)


@pytest.fixture
def copy(tmp_path, katex):
    """A copy of the sources that a test may damage, with one page in one other language."""
    parts = "feedback", "notebooks", "tests", *(f"docs/{part}" for part in PARTS)
    for part in parts:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for catalogue in (tmp_path / "docs" / "locale").glob("*/LC_MESSAGES/*.po"):
        if "si" not in catalogue.parts or catalogue.stem not in ("index", "interface"):
            catalogue.unlink()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("feedback/layers.py", "$m = \\sum_l", "$m = \\summ_l", "layers.py:{line}: the formula"),
        ("feedback/layers.py", "`share_kv=True`", "`LayerMixx`", "`LayerMixx` looks like a name"),
        ("feedback/layers.py", "class LayerMix(", "class LayerMix((", "layers.py:"),
        ("docs/pages/index.md", "(log.md)", "(lost.md)", "index.md:{line}: the link to lost.md"),
        ("docs/pages/index.md", "memory.svg", "lost.svg", "the image ../figures/lost.svg"),
        ("docs/pages/notation.md", "title: Notation", "titel: Notation", "there is no title"),
        ("feedback/__init__.py", "`memory`", "`memori`", "the reading order lacks ['memory']"),
    ],
)
def test_mistakes(copy, file, old, new, words):
    """Each is an error with the file, the line and what to do."""
    text = (copy / file).read_text(encoding="utf-8")
    assert old in text
    (copy / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(Mistake) as error:
        build(Settings.read(copy))
    words = words.format(line=text[: text.index(old)].count("\n") + 1)
    assert words in str(error.value) and "; " in str(error.value)


def test_html_in_prose_is_shown_and_not_run(copy):
    """Angle brackets are shown as characters."""
    path = copy / "docs/pages/notation.md"
    path.write_text(path.read_text() + "\n<script>alert(1)</script> and <b>bold</b>\n")
    page = build(Settings.read(copy)).files["notation.html"].decode()
    assert "&lt;script&gt;alert(1)" in page and "&lt;b&gt;bold" in page
    assert "<script>alert" not in page


def test_check_names_what_is_stale(copy):
    """A page whose source has changed, one that is missing, one without a source, a broken link."""
    folder = copy / "docs/site"
    build(Settings.read(copy)).write(folder)
    assert check(Settings.read(copy), folder) == []
    path = copy / "feedback/memory.py"
    path.write_text(path.read_text().replace("# The memory\n", "# The memory!\n"))
    (folder / "log.html").unlink()
    (folder / "old.html").write_text("")
    assert check(Settings.read(copy), folder) == [
        "docs/site/assets/search.js is stale; run: python -m docs build",
        "docs/site/log.html is missing; run: python -m docs build",
        "docs/site/memory.html is stale; run: python -m docs build",
        "docs/site/old.html has no source any more; run: python -m docs build",
    ]


def test_a_failed_build_leaves_the_old_site(copy, monkeypatch, capsys):
    """Exit code 2, one line, and docs/site as it was."""
    monkeypatch.setattr("docs.__main__.ROOT", copy)
    monkeypatch.setattr("docs.__main__.SITE", copy / "docs/site")
    assert main(["build"]) == 0
    before = {p: p.read_bytes() for p in (copy / "docs/site").rglob("*") if p.is_file()}
    (copy / "docs/pages/log.md").write_text("# Log\n\nSee [this](nowhere.md).\n")
    capsys.readouterr()
    assert main(["build"]) == 2
    err = capsys.readouterr().err
    assert (
        err.startswith("docs: docs/pages/log.md:3: the link to nowhere.md") and err.count("\n") == 1
    )
    assert {p: p.read_bytes() for p in (copy / "docs/site").rglob("*") if p.is_file()} == before


def test_a_fork_changes_one_line(copy):
    """Every address of the repository and of the site follows from pyproject.toml."""
    path = copy / "pyproject.toml"
    old = Settings.read(ROOT)
    text = path.read_text().replace(old.repository, "https://github.com/me/mine")
    path.write_text(text)
    assert Settings.read(copy).site == "https://me.github.io/mine/"
    for name, content in build(Settings.read(copy)).files.items():
        if name.endswith((".html", ".xml")):
            assert old.repository.encode() not in content and old.site.encode() not in content
    with pytest.raises(ValueError, match=r"expected .https://github.com/OWNER/NAME'"):
        path.write_text(text.replace("me/mine", "me/mine/"))
        Settings.read(copy)
    path.write_text(text)
    with pytest.raises(ValueError, match="must have the keys"):
        path.write_text(path.read_text().replace("branch = ", "brunch = "))
        Settings.read(copy)


def test_another_package(tmp_path, katex):
    """The generator makes the site of any package, from five settings and without notebooks."""
    head = "---\ntitle: {0}\nsummary: {0}s.\n---\n\n# {0}\n"
    files = {
        "pyproject.toml": '[tool.annotate]\npackage = "mini"\nbranch = "main"\ntag = "v1"\n'
        'repository = "https://github.com/me/mini"\npages = {index = "docs/index.md"}\n',
        "mini/__init__.py": '"""\n1. `one`\n2. `two`\n"""\n\n__version__ = "1"\n',
        "mini/one.py": f'"""\n{head.format("One")}\nSee `two`: $x^2$.\n"""\n\nx = 1\n',
        "mini/two.py": f'"""\n{head.format("Two")}"""\n\nfrom .one import x\n\ny = x\n',
        "docs/index.md": "# Mini\n\nIt begins with [one](../mini/one.py).\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    site = build(Settings.read(tmp_path))
    site.write(tmp_path / "docs/site")
    assert check(Settings.read(tmp_path), tmp_path / "docs/site") == []
    assert "<title>One · Mini</title>" in site.files["one.html"].decode()
    assert '<a href="one.html#L12">x</a>' in site.files["two.html"].decode()
    assert not any(b"eedback" in text for name, text in site.files.items() if "html" in name)


@pytest.fixture
def sinhala(copy):
    """The catalogue of the home page."""
    return polib.pofile(str(copy / "docs/locale/si/LC_MESSAGES/index.po"))


def test_translated(site):
    """The Sinhala page is its own canonical, and both languages link to each other."""
    english, other = (site.files[n].decode() for n in ("index.html", "si/index.html"))
    assert '<html lang="si">' in other and "ප්‍රතිපෝෂණ" in other
    base = Settings.read(ROOT).site
    assert f'<link rel="canonical" href="{base}si/index.html">' in other
    for page in (english, other):
        for lang, path in (("en", ""), ("si", "si/"), ("x-default", "")):
            line = f'<link rel="alternate" hreflang="{lang}" href="{base}{path}index.html">'
            assert line in page
    assert f"<loc>{base}si/index.html</loc>" in site.files["sitemap.xml"].decode()
    assert '<p class="note"' not in other and "hreflang" not in site.files["tape.html"].decode()


def test_what_is_not_translated_stands_in_english(copy, sinhala):
    """An empty message, and one that is fuzzy: the English text, its own language, and a note."""
    sinhala.find("two-commands", by="msgctxt").msgstr = ""
    sinhala.find("to-cite", by="msgctxt").flags = ["fuzzy"]
    sinhala.save()
    page = build(Settings.read(copy)).files["si/index.html"].decode()
    assert page.count('<div class="prose" lang="en">') == 2
    assert "Train one on Tiny Shakespeare" in page and "Please cite the paper" in page
    assert page.count('<p class="note" lang="si">') == 2
    assert any("6 of 8 messages" in line for line in extract(Settings.read(copy)))


def test_a_catalogue_of_another_version(copy, sinhala, capsys, monkeypatch):
    """
    A changed section is an error until the catalogue is updated; then its translation is stale.
    """
    path = copy / "docs/pages/index.md"
    path.write_text(path.read_text().replace("Please cite the paper", "Please do cite the paper"))
    with pytest.raises(Mistake, match=r"index.po:\d+: .*'to-cite'.*; run: python -m docs extract"):
        build(Settings.read(copy))
    monkeypatch.setattr("docs.__main__.ROOT", copy)
    assert main(["extract"]) == 0
    assert "index.po: 7 of 8 messages are translated" in capsys.readouterr().out
    assert "Please do cite the paper" in build(Settings.read(copy)).files["si/index.html"].decode()
    (copy / "docs/locale/si/LC_MESSAGES/nothing.po").write_text('msgid ""\nmsgstr ""\n')
    with pytest.raises(Mistake, match=r"nothing.po:1: there is no page nothing"):
        build(Settings.read(copy))


def test_code_does_not_come_from_a_translation(copy):
    """A module page in another language has the lines of the module."""
    path = copy / "docs/locale/si/LC_MESSAGES/memory.po"
    path.write_text('msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n')
    extract(Settings.read(copy))
    catalogue = polib.pofile(str(path))
    for entry in catalogue:
        entry.msgstr = "පෙළ ```python\nx = 1\n```"
    catalogue.save()
    site = build(Settings.read(copy))
    ours, theirs = (Reader(site.files[f"{lang}memory.html"].decode()) for lang in ("", "si/"))
    assert ours.lines == theirs.lines and ours.lines
    site.write(copy / "docs/site")
    assert check(Settings.read(copy), copy / "docs/site") == []


def test_names_link_to_their_definitions():
    """In code, names are found by the syntax tree; in prose, by their backticks."""
    symbols = Builder(Settings.read(ROOT)).symbols
    assert symbols.resolve("FeedbackAttention") == "attention.html#FeedbackAttention"
    assert symbols.resolve("Sizes.longest") == "tape.html#Sizes.longest"
    assert symbols.resolve("native.choose_groups") == "native.html#choose_groups"
    assert symbols.resolve("feedback.fast.native") == "native.html"
    assert symbols.resolve("x") is None and symbols.resolve("LayerNorm") is None
    with pytest.raises(LookupError, match=r"native\.choose_grups"):
        symbols.resolve("native.choose_grups")
    links = symbols.links(symbols.modules["layers"]).values()
    assert {"attention.html#FeedbackAttention", "config.html#ModelConfig"} <= set(links)


GLOSSARY = """| symbol | in the code | is |
|---|---|---|
| $x_t^l$ | `x` | the state |
| $y$ | `y` | after attention |
| $p_d$ | `pos_key`, `p` | the position vector |
| $W_2$, $b_2$ | `w2` | the last map |
| $\\delta x$ | `dx` | the gradient |
| $\\delta s_j$ | `ds` | that of a score |
| $\\mathrm{LN}$ | | a norm |
| $\\mathrm{LN}'$ | | its derivative |
| $1/\\sigma$ | `x_rstd` | one over the deviation |

| letter | in the code | is |
|---|---|---|
| $T$ | `seq_len` | steps |
"""


@pytest.mark.parametrize(
    ("prose", "name", "words"),
    [
        ("$p_{t-j}$", "", ["the position vector"]),
        ("$x_t^l$, `(B, D)`", "", ["the state"]),
        (r"$W_2^\top \delta y$", "", ["the last map", "the gradient", "after attention"]),
        (r"$\sum_j \delta s_j, \; \delta x^L$", "", ["that of a score", "the gradient"]),
        (r"$\mathrm{LN}'(x)$, or $\mathrm{LN}$", "", ["its derivative", "the state", "a norm"]),
        (r"$\frac1\sigma \mathtt{xyp}$", "", ["one over the deviation"]),
        ("`(D, F)`", "w2", ["the last map"]),
        ("`(T, B, D)`", "dy", ["the gradient", "after attention"]),
        # No such symbol, no such name, a letter of another table, and words of its own.
        ("$W_q = W^T$", "", []), ("`(T, B)`", "dz", []), ("$T$", "", []), ("$y$, as is", "", []),
    ],
)  # fmt: skip
def test_words_for_symbols(prose, name, words):
    """What symbols are, whatever their index; and of what a name has the shape."""
    glossary = Glossary.of([Section("symbols", None, GLOSSARY, 1)], lambda context, text: text)
    assert [term.words for term in glossary.terms(prose, name, set())] == words


def test_words_are_said_once():
    """But always where a symbol is all there is."""
    glossary, seen = (
        Glossary.of([Section("s", None, GLOSSARY, 1)], lambda context, text: text),
        set(),
    )
    said = [[t.symbols for t in glossary.terms(prose, "", seen)]
            for prose in ("$y = x$", "$y + p_j$", "$y = x$", "$y$")]  # fmt: skip
    assert said == [["$y$", "$x_t^l$"], ["$p_d$"], [], ["$y$"]]


def test_words_on_pages(site):
    """They are those of the page of notation, in the language of the page."""
    glossaries = Builder(Settings.read(ROOT)).glossaries
    found = {lang: glossary.symbols["u"].words for lang, glossary in glossaries.items()}
    assert len(set(found.values())) == len(NAMES)
    for lang, words in found.items():
        html = site.files[f"{'' if lang == 'en' else lang + '/'}attention.html"].decode()
        beside = html.split(">u</annotation>")
        # A bracket or a formula may follow the first words.
        assert any(f"<dd>{words.split('(')[0]}" in part[:300] for part in beside), lang
    assert "the position vector for distance" in site.files["attention-h.html"].decode()
    for name in ("index", "worth", "02_attention"):
        assert 'class="words"' not in site.files[f"{name}.html"].decode()


def test_first_sentences():
    """A heading, or what stands before the first mark that ends a sentence or half of one."""
    for prose, first in (
        ("## Mix $L + 1$ outputs\n\nText.", "Mix $L + 1$ outputs"),
        ("The rows; `None` if\nthere are none.", "The rows"),
        ("Version 0.1, `a: b. c`, $d. e$.[^n] More.", "Version 0.1, `a: b. c`, $d. e$"),
        ("いま。あと。", "いま"), ("The sum $$x$$ of all", "The sum"), ("No stop[^n]", "No stop"),
    ):  # fmt: skip
        assert first_sentence(prose) == first


def test_definitions_in_cpp():
    """Those that begin in the first column; a call, a keyword and a comment are none."""
    code = """#define SIZES(X) X(T)
struct Worker {
  void inner();
constexpr int PANEL = 2 * width;
inline void Worker<Real>::attend(Int l) {
inline __attribute__((always_inline)) void rows(Each f) {
const char *fields() { return NAMES; }
typedef int64_t Int;
run(x);
} // end of (it)""".split("\n")
    section = Section("a", None, "", 1, list(enumerate(code, 1)))
    found = [("SIZES", "L1"), ("Worker", "L2"), ("PANEL", "L4"), ("attend", "L5"), ("rows", "L6"),
             ("fields", "L7")]  # fmt: skip
    assert definitions(section) == found


def test_outlines(site):
    """Beside each introduction: all definitions with prose, what is used, and what uses it."""
    symbols = Builder(Settings.read(ROOT)).symbols
    for name, module in symbols.modules.items():
        html = site.files[f"{name}.html"].decode()
        outline = html[html.index('<nav class="outline"') :]
        outline = outline[: outline.index("</nav>")]
        top = {s.symbol for s in module.sections if s.symbol and "." not in s.symbol}
        listed = re.findall(r'<li><a href="#[^"]+"><code>(\w+)</code>', outline)
        assert set(listed) == top and len(listed) == len(top), name
        used = outline.partition("<p>Uses")[2].partition("</p>")[0]
        for other in symbols.modules:
            html = site.files[f"{other}.html"].decode()
            by = html.partition("<p>Used by")[2].partition("</p>")[0]
            assert (f'"{other}.html"' in used) == (f'"{name}.html"' in by), (name, other)
    # From a translated page to translated pages, where there are any.
    says = polib.pofile(str(ROOT / "docs/locale/zh/LC_MESSAGES/interface.po"))
    by = says.find("Used by", by="msgctxt").msgstr
    used = site.files["zh/attention.html"].decode().partition(f"<p>{by}")[2].partition("</p>")[0]
    assert 'href="layers.html"' in used
    assert 'href="../tape.html"' in site.files["zh/layers.html"].decode()
    assert 'class="outline"' not in site.files["02_attention.html"].decode()


def test_the_tests_that_are_named_exist():
    """Each test that the page of differences names is in the file that it names."""
    text = (ROOT / "docs/pages/differences.md").read_text(encoding="utf-8")
    named = re.findall(r"\[`(test_\w+)`\]\(\.\./\.\./(tests/[\w/]+\.py)\)", text)
    assert len(named) > 8
    for name, file in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_the_search_finds_symbols(site):
    """The index is a script with an entry for each section that has prose."""
    index = json.loads(site.files["assets/search.js"].decode()[len("const INDEX = ") : -2])
    assert any(e[0] == "tape.html" and e[1] == "Sizes.longest" for e in index)
    english = {n for n in site.files if n.endswith(".html") and "/" not in n} - {"404.html"}
    english -= {f"{name}.html" for name in Settings.read(ROOT).moved}
    assert {e[0] for e in index} == english
    # By the heading of their section, without marks, and whole.
    assert ["layers.html", "LayerMix", "Layers", "LayerMix"] in [e[:4] for e in index]
    assert any(
        e[3] == "What each layer looks back at" and "heads are averaged" in e[4] for e in index
    )
    assert not any(re.search(r"`|\*\*|\]\(|\\frac", e[4]) for e in index)


def test_columns_of_numbers():
    """They are marked, headings included; a column with a word in it is not."""
    html = renderer(Formulas())(
        "| a | b | c |\n|---|---|---|\n| 1,433.5 | 2 s | x |\n| **7** | | 3 |\n",
        Where("x.md", 1, "x", lambda text: None, str, None),
    )
    assert html.count('<th class="number">') == 2 and html.count('<td class="number">') == 4
    assert "<th>c</th>" in html


def test_options_and_formulas_stay_together():
    """No line break within an option of a command, nor between a formula and its punctuation."""
    formulas = Formulas()
    html = renderer(formulas)(
        "`train --eval-steps 50 --lean` and $x$, or $y$ alone",
        Where("x.md", 1, "x", lambda text: None, str, None),
    )
    together = '<span class="together">'
    assert f"{together}--eval-steps 50</span> {together}--lean</span></code>" in html
    assert f"{together}X,</span> or Y alone" in formulas.fill(html, ["X", "Y"])


def test_ranges_stay_together():
    """No line break between two numbers that are a range, in any language."""
    html = renderer(Formulas())(
        "| a |\n|---|\n| 99.9 (99.8 to 100.0) |\n\n16 から 512、1–2, 3 or 4",
        Where("x.md", 1, "x", lambda text: None, str, None),
    )
    for text in ("(99.8 to 100.0)", "16 から 512", "1–2"):
        assert f'<span class="together">{text}</span>' in html
    assert html.count("together") == 3


def test_footnotes_are_counted_through_the_page(site):
    """Each number once, though a footnote stands at the end of its section."""
    page = site.files["attention.html"].decode()
    assert re.findall(r'id="fnref-[^>]*>\[(\d)\]', page) == ["1", "2"]
    lists = re.findall(r'<section class="footnotes">\s*<ol start="(\d)"', page)
    assert lists == ["1", "2"]


def test_parts_of_the_contents(copy):
    """They are the headings in the package's docstring; a text that does not exist is named."""
    page = build(Settings.read(copy)).files["log.html"].decode()
    assert re.search(r'<li class="part">The recurrence</li>\s*<li><a href="config.html"', page)
    assert page.count('<li class="part">') == len(set(re.findall(r'"part">([^<]+)', page)))
    path = copy / "pyproject.toml"
    path.write_text(path.read_text().replace("pages/log.md", "lag.md"))
    with pytest.raises(Mistake, match=r"there is no docs/lag.md; correct the path"):
        build(Settings.read(copy))


def test_moved_pages_lead_to_their_new_address(site):
    """At each address that a page once had, a page that leads on, with and without a script."""
    moved = Settings.read(ROOT).moved
    assert moved["stack"] == "append"
    for before, now in moved.items():
        html = site.files[f"{before}.html"].decode()
        assert f'content="0; url={now}.html"' in html and f'<a href="{now}.html">' in html
        assert f"{now}.html" in site.files


def test_ranges_are_numbers_too():
    """Numbers with their ranges, in the words of four languages, and nothing that is not one."""
    numbers = ["", "12", "**0.80**", "1,234", "95 %", "99.9 (99.8 to 100.0)", "3 to 5"]
    numbers += ["99.9（99.8〜100.0）", "1.7（1.7 至 1.8）", "1.7 (1.7–1.8)"]
    assert [text for text in numbers if not NUMBER.fullmatch(text)] == []
    assert not any(NUMBER.fullmatch(text) for text in ("3 seeds", "here", "x 1", "1 to many"))


def test_long_docstrings_of_the_package_are_folded_in_a_notebook(site):
    """They are typeset on a page of their own; here every line is there, once, in order."""
    html = site.files["04_shared_keys_and_values.html"].decode()
    lines = (ROOT / "feedback/fast/append.py").read_text(encoding="utf-8").splitlines()
    first = lines.index("class Append(torch.autograd.Function):") + 1
    shown = [int(n) for n in re.findall(r'id="append-L(\d+)"', html)]
    last = next(n for n in range(first, len(lines)) if lines[n].startswith("class "))
    written = [n for n in range(first, last) if lines[n - 1].strip()]
    assert [n for n in shown if n < last and lines[n - 1].strip()] == written
    folds = html.split('<details class="folded"><summary>Docstring</summary>')[1:]
    folded = [
        int(n) for f in folds for n in re.findall(r'id="append-L(\d+)"', f.split("</details>")[0])
    ]
    assert folded[0] == first + 1 and lines[folded[0] - 1].strip() == 'r"""'
    assert all(
        lines[n - 1].strip().startswith("#")
        for n in shown
        if n not in folded and "$" in lines[n - 1]
    )


def test_the_picture_of_seconds_is_that_of_the_runs():
    """It is drawn from the record, and in it the model with feedback is below both rivals."""
    assert (FIGURES / "seconds.svg").read_text(encoding="utf-8") == draw_seconds()
    groups = read()
    # Runs on one core, of ours and of one rival, come last.
    alone = [mine.pop() for mine in groups.values() if mine[-1][0].get("cores") == 1]
    assert len({len(mine) for mine in groups.values()}) == 1
    for ours, *rivals in [*zip(*groups.values(), strict=True), alone]:
        assert len(ours) == 3
        for theirs in rivals:
            assert [run["seed"] for run in theirs] == [run["seed"] for run in ours]
            assert max(run["loss"] for run in ours) < min(run["loss"] for run in theirs)
            assert mean(ours, "seconds") < 1.05 * mean(theirs, "seconds")


def test_the_figures_show_the_trained_model():
    """The weights of the mix, and attention in percent, are those of the model in the package."""
    fresh = draw()
    drawn = {name: (FIGURES / name).read_text(encoding="utf-8") for name in fresh}
    model = FeedbackLM.from_pretrained("tiny_shakespeare")
    alpha = model.transformer.mix.weight.softmax(0).tolist()
    shown = [float(x) for x in re.findall(r">(\d\.\d{3})</text>", drawn["mix.svg"])]
    assert shown == pytest.approx(alpha, abs=2e-3)
    says, again = (
        re.search(r'data-says="([^"]+)"', svg["mix.svg"])[1].split("|") for svg in (drawn, fresh)
    )
    assert says == again
    # As the page `inside` says.
    losses = [float(re.search(r" is (?:above )?([\d.]+)", words)[1]) for words in says]
    missed = [loss - losses[0] for loss in losses[1:]]
    assert 0.4 < alpha[0] < 0.5 and 1.5 * alpha[4] < alpha[0] and max(alpha[1:3]) < 0.05
    assert abs(missed[4] - missed[0]) < 0.02 and max(missed[1:3]) <= 0.01
    assert max(missed) < 0.2
    stored, now = (
        json.loads(re.search(r'data-weights="([^"]+)"', svg["attention.svg"])[1])
        for svg in (drawn, fresh)
    )
    T = len(TEXT)
    for layer, again in zip(stored, now, strict=True):
        assert [len(row) for row in layer] == list(range(T))
        for row, other in zip(layer[1:], again[1:], strict=True):
            assert abs(sum(row) - 100) <= T / 2
            assert max(abs(a - b) for a, b in zip(row, other, strict=True)) <= 1
