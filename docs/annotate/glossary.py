r"""
---
title: Words for symbols
summary: Where a line of code has only a formula beside it, what its symbols are.
---

# Words for symbols

A short formula beside a line of code, such as $p_d$, says which line of the mathematics this is,
but not what the symbol stands for. The words come from the tables of the page `notation`, so they
are written once, and in each language where that page is translated. A symbol is found there
whatever its index: $p_{t-j}$ in the row of $p_d$. A subscript that is part of the name counts, as
in $W_q$; and so does what stands before a symbol: $\delta y$ is in the row of $\delta x$, and then
in that of $y$.

Words are shown once on a page, at the first formula that has the symbol and no words of its own. A
symbol that stands alone always has them.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from .locale import Language
from .sections import Section

FORMULA = re.compile(r"\$([^$]+)\$")
SYMBOL = re.compile(
    r"(?:(?P<before>\\hat|\\delta)\s*)?(?P<base>\\mathrm\{\w+\}|\\[A-Za-z]+|[A-Za-z])(?P<prime>'?)"
    r"(?P<after>(?:[_^](?:\{[^{}]*\}|\\?\w+))*)"
)
TEXT = re.compile(r"\\(?:mathtt|mathcal|text)\{[^{}]*\}")
"""Parts of a formula that are no symbols."""

INDICES = {"t", "j", "d", "l"}
"""Subscripts in the tables that stand for any other."""


@dataclass(frozen=True)
class Term:
    """A row of a table: the symbols as they are written there, and what they are."""

    symbols: str
    words: str
    line: int
    """The line of the page's file."""
    english: bool
    """Whether the page is translated, but these words are not."""


def spelled(match: re.Match[str]) -> tuple[str, str]:
    """What a symbol is called with its subscript, and without."""
    base, subscript = match["base"], re.search(r"_\{?([^{}^]+)\}?", match["after"])
    return (f"{base}_{subscript[1]}" if subscript else base), base


def only_a_formula(prose: str) -> bool:
    """Whether there are formulas or shapes but no words that say what they are."""
    rest = re.sub(r"`[^`]*`|\b(?:and|or)\b", "", FORMULA.sub("", prose))
    return bool(prose.strip()) and not re.search(r"[^\W\d_]", rest)


def alone(tex: str) -> bool:
    """Whether a formula is a symbol, or several between commas."""
    parts = (part.strip() for part in re.split(r",|\\;", tex))
    return all(SYMBOL.fullmatch(part) for part in parts if part)


@dataclass
class Glossary:
    """All terms, by what they are called in formulas and in code."""

    symbols: dict[str, Term] = field(default_factory=dict)
    names: dict[str, Term] = field(default_factory=dict)

    @classmethod
    def of(cls, sections: list[Section], translate: Callable[[str, str], str | None]) -> "Glossary":
        """Reads the tables whose first column is headed `symbol`, in a translation of the page."""
        glossary = cls()
        for section in sections:
            text, columns = translate(section.anchor, section.prose), [""]
            for (number, cells), (_, here) in zip(
                rows(section.prose), rows(text or section.prose), strict=False
            ):
                if not FORMULA.search(cells[0]):
                    columns = cells
                elif columns[0] == "symbol":
                    words = here[columns.index("is")]
                    term = Term(cells[0], words, section.line + number, text is None)
                    glossary.add(term, cells[1])
        return glossary

    def add(self, term: Term, code: str) -> None:
        """Enters a row under each of its symbols and of its names in the code."""
        for name in re.findall(r"`(\w+)`", code):
            self.names.setdefault(name, term)
        for tex in FORMULA.findall(term.symbols):
            match = SYMBOL.search(tex)
            if match is None:
                continue
            whole, base = spelled(match)
            before, prime = match["before"] or "", match["prime"]
            keys = [before + whole + prime]
            if whole == base or whole.removeprefix(f"{base}_") in INDICES:
                keys.append(before + base + prime)
            for key in keys + [before] * bool(before):
                self.symbols.setdefault(key, term)

    def first(self, keys: Iterable[str]) -> list[Term]:
        """The term of the first key that is known, if any."""
        return [self.symbols[key] for key in keys if key in self.symbols][:1]

    def found(self, match: re.Match[str]) -> list[Term]:
        """The terms of a symbol in a formula: one, or that of what stands before it and its own."""
        before, prime = match["before"] or "", match["prime"]
        keys = [name + mark for name in spelled(match) for mark in (prime, "")]
        whole = self.first(before + key for key in keys)
        return whole or (self.first([before]) + self.first(keys) if before else [])

    def just(self, prose: str) -> bool:
        """Whether a piece of prose is one symbol and nothing else."""
        symbols = [m for tex in FORMULA.findall(prose) for m in SYMBOL.finditer(tex)]
        return len(symbols) == 1

    def terms(self, prose: str, name: str, seen: set[Term]) -> list[Term]:
        """
        The terms for a piece of prose that has no words: those in its formulas or, if it has none,
        that of the `name` it documents. Those in `seen` are left out, unless a symbol stands alone.
        """
        if not only_a_formula(prose):
            return []
        formulas = [TEXT.sub(" ", tex) for tex in FORMULA.findall(prose)]
        found = [t for tex in formulas for m in SYMBOL.finditer(tex) for t in self.found(m)]
        if not formulas:
            # As in formulas, dy is the gradient of y.
            plain = name if name in self.names else name.removeprefix("d")
            names = [plain] if plain == name else ["dx", plain]
            found = [self.names[n] for n in names if plain in self.names]
        if not all(map(alone, formulas)):
            found = [term for term in found if term not in seen]
        seen.update(found)
        return list(dict.fromkeys(found))


def rows(text: str) -> list[tuple[int, list[str]]]:
    """The cells of all rows of tables, each with the number of lines before it."""
    return [
        (number, [cell.strip() for cell in line.strip().strip("|").split("|")])
        for number, line in enumerate(text.split("\n"))
        if line.startswith("|") and not re.fullmatch(r"[|:-]+", line.replace(" ", ""))
    ]


def glossaries(
    sections: list[Section], page: str, languages: dict[str, Language]
) -> dict[str, Glossary]:
    """What symbols are, in each language that the page with these sections has."""
    return {
        lang: Glossary.of(sections, partial(language.find, page))
        for lang, language in languages.items()
        if language.has(page)
    }
