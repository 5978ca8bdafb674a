r"""
---
title: Parts of a page
summary: The source of a page, its rows, and the page itself.
---

# Parts of a page

A page is a column of rows. In a row, prose is on the left; on the right is code with its line
numbers and, on the page of a notebook, the outputs of the code.
"""

import hashlib
from dataclasses import dataclass, field

from .locale import Language, Message, scripts, spoken
from .sections import Module, Section

SOLUTION = "Solution"
"""What the folded answer to an exercise is called."""


@dataclass
class Source:
    """What a page is made of."""

    name: str
    path: str
    """The file, from the root of the repository."""
    kind: str
    meta: dict[str, str]
    sections: list[Section]
    text: str
    module: Module | None = None
    part: str = ""
    """The part of the table of contents that it belongs to."""

    def messages(self) -> list[Message]:
        """All texts that can be translated, each with its place on the page."""
        messages = [(key, self.meta[key]) for key in ("title", "summary")]
        messages += [(s.anchor, s.prose) for s in self.sections if s.prose.strip()]
        for section in self.sections:
            messages += [
                (f"{section.anchor} {key}", text) for key, text in section.pictures.items()
            ]
        return messages + [(text, text) for text in spoken(scripts(self.meta))]


@dataclass
class Row:
    """Prose, and beside it lines of code."""

    anchor: str
    prose: str
    code: list[tuple[int, str]] = field(default_factory=list)
    text: str = ""
    """The prose as it was written, for the search."""
    english: bool = False
    """Whether the page is translated, but this row is not."""
    path: str = ""
    """The file that the lines of code come from."""
    place: str = ""
    """A prefix for the anchors of lines that come from another file than the rest of the page."""
    outputs: list[str] = field(default_factory=list)
    """The outputs of the code, as HTML."""
    folded: str = ""
    """The words shown in place of the code until a reader unfolds it."""
    words: list[tuple[str, str, bool]] = field(default_factory=list)
    """
    What the symbols are if the prose has no words: each symbol, empty if the prose is just that,
    its words, and whether these are in English on a translated page.
    """
    more: list["Row"] = field(default_factory=list)
    """Further code beside the same prose, each with its outputs."""
    hides: bool = False
    """Whether its outputs are folded too, as those of a solution are, which would tell it."""

    @property
    def parts(self) -> list["Row"]:
        """All code beside this prose, part by part."""
        return [part for part in (self, *self.more) if part.code]


@dataclass
class Entry:
    """A definition of a file, or a heading of it."""

    name: str
    anchor: str
    summary: str
    """Markdown and, on the page, HTML."""
    english: bool = False
    """Whether the page is translated, but the summary is not."""
    members: list[tuple[str, str]] = field(default_factory=list)
    """The names within, each with its anchor."""


@dataclass
class Outline:
    """What a file defines, and the pages of the files that it uses and that use it."""

    entries: list[Entry]
    uses: list[Source]
    used_by: list[Source]


@dataclass
class Page:
    """One page, without what all pages share."""

    source: Source
    language: Language
    title: str
    summary: str
    rows: list[Row]
    headings: list[tuple[int, str, str]]
    """Level, text and anchor of each."""
    outline: Outline | None = None
    """What the file of a page of code defines and uses."""

    @property
    def prefix(self) -> str:
        """The relative path from the page to the top of the site."""
        return "" if self.lang == "en" else "../"

    @property
    def lang(self) -> str:
        """The folder of its language, and the name of the language except in HTML."""
        return self.language.lang

    @property
    def path(self) -> str:
        """The name of the file."""
        return ("" if self.lang == "en" else f"{self.lang}/") + f"{self.source.name}.html"

    @property
    def sha256(self) -> str:
        """The hash of the English source."""
        return hashlib.sha256(self.source.text.encode()).hexdigest()

    @property
    def minutes(self) -> int:
        """
        About how long it takes to read, at 200 words of English or 30 lines of unfolded code a
        minute; in another language as long.
        """
        words = sum(len(section.prose.split()) for section in self.source.sections)
        parts = [part for row in self.rows for part in row.parts if not part.folded]
        return max(1, round(words / 200 + sum(len(part.code) for part in parts) / 30))
