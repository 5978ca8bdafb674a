"""Translations are whole, and what is not language in them is as in the original."""

import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest

from docs.annotate import notebook
from docs.annotate.labels import IMAGE
from docs.annotate.locale import NAMES, Catalogue, catalogues
from docs.annotate.settings import Settings

ROOT = Path(__file__).parents[2]
SETTINGS = Settings.read(ROOT)
FOUND = catalogues(SETTINGS)
PAGES = {
    "interface", "index", "short", "notation", "attention", "layers", "memory", "reference",
    "append", "model", "transformer", "train", "worth", "01_why_feedback", "02_attention",
    "03_memory", "demo",
    "drawings",
}  # fmt: skip
"""What can be read in every language."""

FENCED = re.compile(r"^```.*?^```", re.M | re.S)
KEPT = {
    "code": re.compile(r"`[^`\n]+(?:\n[^`\n]+)*`"),
    "formulas": re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.S),
    "links": re.compile(r"\]\(([^)\s]+)\)"),
    "headings": re.compile(r"^#+(?= )", re.M),
    "footnotes": re.compile(r"^\[\^\w+\]:|\[\^\w+\]", re.M),
    "tables": re.compile(r"^\|(?:---\|)+$", re.M),
}
"""What a translation leaves as it is."""


def kept(text: str) -> dict[str, Counter[str]]:
    """How often each thing that is no language occurs in a text; line breaks do not matter."""
    blocks = Counter(FENCED.findall(text))
    prose, things = FENCED.sub("", text), {}
    for name, pattern in KEPT.items():
        things[name] = Counter(" ".join(thing.split()) for thing in pattern.findall(prose))
        # What stands in code is no formula, and what stands in a formula no link.
        if name in ("code", "formulas"):
            prose = pattern.sub("", prose)
    return {"blocks": blocks, **things}


def difference(original: str, translation: str) -> dict[str, tuple]:
    """By kind: what only the original has, and what only the translation has."""
    pairs = {k: (v, kept(translation)[k]) for k, v in kept(original).items()}
    return {k: (dict(a - b), dict(b - a)) for k, (a, b) in pairs.items() if a != b}


@pytest.mark.parametrize("lang", [lang for lang in NAMES if lang != "en"])
def test_every_language_has_all_pages(lang):
    """All messages of the pages that are promised, and a glossary."""
    mine = {catalogue.page: catalogue for catalogue in FOUND if catalogue.lang == lang}
    assert mine.keys() >= PAGES
    assert (ROOT / "docs" / "locale" / lang / "glossary.md").read_text(encoding="utf-8").count("|")
    for page in PAGES:
        missing = [e.msgctxt for e in mine[page].file if not e.obsolete and not e.translated()]
        assert not missing, f"{mine[page].path}: {missing}"


@pytest.mark.parametrize("catalogue", FOUND, ids=lambda c: f"{c.lang}-{c.page}")
def test_what_is_not_language_stays(catalogue: Catalogue):
    """Formulas, code, links, headings, footnotes and tables are those of the English text."""
    entries = [entry for entry in catalogue.file if entry.translated()]
    wrong = {e.msgctxt: d for e in entries if (d := difference(e.msgid, e.msgstr))}
    assert not wrong


@pytest.mark.parametrize("catalogue", FOUND, ids=lambda c: f"{c.lang}-{c.page}")
def test_line_breaks_at_both_ends_stay(catalogue: Catalogue):
    """Without them `msgfmt --check`, and editors that call it, refuse a catalogue."""
    for e in catalogue.file:
        if e.translated() and not e.obsolete:
            ends = [(text.startswith("\n"), text.endswith("\n")) for text in (e.msgid, e.msgstr)]
            assert ends[0] == ends[1], e.msgctxt


ROW = re.compile(r"^\|(.*[^-|\n].*)\|$", re.M)
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")


def cells(text: str) -> list[list[str]]:
    """The cells of all tables of a text, row by row, without the lines below the headings."""
    return [[cell.strip() for cell in row.split("|")] for row in ROW.findall(text)]


def mistakes(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """
    Cells of tables, and what their translations have: other rows, a number that is missing (a
    translation may write "one" as 1), a name that is also that of something else, or a second name.
    """
    wrong: list[tuple[str, str]] = []
    names: dict[str, str] = {}
    translated: dict[str, str] = {}
    for original, translation in pairs:
        table, other = cells(original), cells(translation)
        if list(map(len, table)) != list(map(len, other)):
            wrong.append((original, translation))
            continue
        for cell, said in zip(chain(*table), chain(*other), strict=True):
            numbers, there = Counter(NUMBER.findall(cell)), Counter(NUMBER.findall(said))
            words = re.search("[a-zA-Z]", cell.replace(" to ", ""))
            other_numbers = numbers - there or (not words and numbers != there)
            pair = names.setdefault(said, cell), translated.setdefault(cell, said)
            if other_numbers or (words and pair != (cell, said)):
                wrong.append((cell, said))
    return wrong


@pytest.mark.parametrize("catalogue", FOUND, ids=lambda c: f"{c.lang}-{c.page}")
def test_tables_have_the_same_rows(catalogue: Catalogue):
    """Cell by cell the numbers of the English table, and nobody has the name of somebody else."""
    entries = [e for e in catalogue.file if e.translated() and not e.obsolete]
    assert not mistakes((entry.msgid, entry.msgstr) for entry in entries)


def test_a_shifted_row_is_seen():
    """Somebody else's numbers, a row or a cell less, a sign, a name that two have, two names."""
    table = "| a | b |\n|---|---|\n| one | 1.5 (1.2 to 2) |\n| two | -2.5 |"
    good = "| x | y |\n|---|---|\n| 1 eins | 1.5（1.2〜2） |\n| zwei | -2.5 |"
    assert not mistakes([(table, good)])
    assert mistakes([(table, good), (table, good.replace("zwei", "beide"))])
    for old, new in (
        ("-2.5", "1.5"),
        ("-", ""),
        ("\n| zwei | -2.5 |", ""),
        ("zwei", "1 eins"),
        (" | y", ""),
    ):
        assert mistakes([(table, good.replace(old, new))]), new


# Pictures stay in English: a translated caption ends with a key of the words in its picture.

KEY = {
    "ja": ("図中の語：", "、", "＝"),
    "zh": ("图中文字：", "；", "＝"),
    "si": ("රූපයේ වචන: ", "; ", " = "),
}
"""What begins the key, what stands between two words of it, and between a word and its meaning."""

LABEL = re.compile(r"""(?:label|title|text)(?:\(|": | ?= ?)[^"=\n]*"([^"\n]+)\"""")
"""Most words of a picture: what its code writes as the label or the title of something."""


def meanings(lang: str, caption: str) -> dict[str, str]:
    """The English words that a caption explains, and what they mean."""
    begin, between, means = KEY[lang]
    _, found, words = caption.partition(begin)
    pairs = words.rstrip("。.").split(between) if found else []
    return {english: meaning for english, _, meaning in (pair.partition(means) for pair in pairs)}


def plain(code: str) -> str:
    """What code draws, without the signs of formulas and of values: "layer {l}" is "layer"."""
    return " ".join(re.sub(r'\{[^{}"]*\}|\$', "", code.replace(r"\n", " ")).split())


@pytest.mark.parametrize("lang", [lang for lang in NAMES if lang != "en"])
def test_words_in_pictures_have_a_key(lang):
    """The caption of every picture says what its words mean, and explains no others."""
    seen = 0
    for catalogue in FOUND:
        if catalogue.lang != lang or catalogue.page not in SETTINGS.notebooks:
            continue
        cells = [c for c in notebook.read(SETTINGS, catalogue.page).cells if c.cell_type == "code"]
        drawn = plain("\n".join(cell.source for cell in cells))
        for entry in catalogue.file:
            if entry.obsolete or not entry.msgctxt.endswith(" caption"):
                continue
            said, where = meanings(lang, entry.msgstr), f"{catalogue.path}: {entry.msgctxt}"
            assert said and all(said.values()), where
            assert [english for english in said if english not in drawn] == [], where
            cell = next(c for c in cells if entry.msgid in " ".join(c.source.split("\n# ")))
            labels = map(plain, LABEL.findall(cell.source))
            # Neither symbols nor the names of settings are words.
            drawn_here, explained = (
                set(re.findall(r"\b[A-Za-z]{2,}\b", " ".join(texts))) for texts in (labels, said)
            )
            assert drawn_here <= explained, where
            seen += 1
    assert seen >= 7


def test_a_change_is_seen():
    """Each kind of thing that is compared, and an order that may differ."""
    text = (
        "# A\n\nThe `x` is $x$, see [this](a.py).[^n]\n\n| a |\n|---|\n\n```\nx\n```\n\n[^n]: note"
    )
    assert not difference(text, text.replace("The `x` is $x$", "$x$ is `x`"))
    for old, new, kind in (
        ("`x`", "`y`", "code"), ("$x$", "$y$", "formulas"), ("a.py", "b.py", "links"),
        ("# A", "## A", "headings"), (".[^n]", ".", "footnotes"), ("|---|", "| |", "tables"),
        ("\nx\n", "\ny\n", "blocks"),
    ):  # fmt: skip
        assert list(difference(text, text.replace(old, new, 1))) == [kind]


def test_every_drawing_is_asked_for_its_words():
    """Whatever stands in the brackets beside its address; or its labels would stay English."""
    for page in ("index", "worth", "demo"):
        text = (ROOT / "docs" / "pages" / f"{page}.md").read_text(encoding="utf-8")
        found = IMAGE.findall(text)
        assert len(found) == text.count(".svg") > 1
