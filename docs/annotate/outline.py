r"""
---
title: Outlines
summary: What a file defines and which other files it uses, beside the introduction of its page.
---

# Outlines

A page of code begins with a list of what the file defines: each name with the first sentence of its
documentation, in the language of the page. Below it are the files that this one uses, and those
that use it. All of it is read from the source, so there is nothing to keep in step by hand.
"""

import re
from collections.abc import Callable
from pathlib import Path

from .order import imported_files
from .parts import Entry, Source
from .sections import Section
from .settings import Settings

HEADING = re.compile(r"##+ (.+)")
END = re.compile(r"[.:;!?](?=\s|$)|[。：；]|,?\s*\$\$|```")
"""Where a first sentence or its first half ends: a displayed formula is too much for an outline."""

DEFINED = re.compile(
    r"#define (\w+)|(?:struct|class) (\w+)|"
    r"(?!typedef|return|template|extern|using)[A-Za-z][^=;(]*?[\s*](?:\w+<Real>::)?(\w+)(?:<Real>)?"
    r"(?:\(| = )"
)
"""A definition in C++ that begins in the first column."""

INCLUDE = re.compile(r'^#include "(.+)"$', re.M)


def first_sentence(prose: str) -> str:
    """The heading of a piece of prose or, if it has none, its first sentence or half of it."""
    text = prose.strip()
    if heading := HEADING.match(text):
        return heading[1]
    paragraph = re.sub(r"\[\^\w+\]", "", " ".join(text.split("\n\n")[0].split()))
    # A full stop within code or a formula ends nothing.
    hidden = re.sub(r"`[^`]*`|(?<!\$)\$[^$]+\$", lambda m: "x" * len(m[0]), paragraph)
    end = END.search(hidden)
    return paragraph[: end.start()] if end else paragraph


def entries(source: Source, translate: Callable[[str, str], str | None]) -> list[Entry]:
    """What the file of a page defines, or its headings, one after the other."""
    found: list[Entry] = []
    for section in source.sections[1:]:
        text = translate(section.anchor, section.prose)
        prose = section.prose if text is None else text
        outer, _, inner = (section.symbol or "").rpartition(".")
        if source.module is None:
            names = definitions(section)
            if HEADING.match(section.prose) or (names and not found):
                found.append(Entry("", section.anchor, first_sentence(prose)))
            for name, anchor in names:
                # A function may be defined for several types.
                if name not in dict(found[-1].members):
                    found[-1].members.append((name, anchor))
        elif outer and found and found[-1].name == outer:
            if not inner.startswith("__"):
                found[-1].members.append((inner, section.anchor))
        elif inner and not outer:
            found.append(Entry(inner, section.anchor, first_sentence(prose), text is None))
        elif HEADING.match(section.prose.strip()) and not section.symbol:
            found.append(Entry("", section.anchor, first_sentence(prose), text is None))
    return found


def definitions(section: Section) -> list[tuple[str, str]]:
    """The names that lines of C++ define, each with the anchor of its line."""
    found: dict[str, str] = {}
    for number, line in section.code:
        if match := DEFINED.match(re.sub(r"__attribute__\(\(.*?\)\) ", "", line)):
            found.setdefault(next(filter(None, match.groups())), f"L{number}")
    return list(found.items())


def used(sources: list[Source], settings: Settings) -> dict[str, list[Source]]:
    """For each page of code, the pages of the files that its own imports or includes."""
    pages = {source.path: source for source in sources if source.kind == "module"}
    found = {}
    for path, source in pages.items():
        if source.module:
            files = imported_files(source.module.tree, settings, path)
            files |= {str(Path(path).with_suffix(".cpp"))}
        else:
            files = {str(Path(path).parent / name) for name in INCLUDE.findall(source.text)}
        found[source.name] = [page for file, page in pages.items() if file in files]
    return found
