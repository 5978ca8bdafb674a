r"""
---
title: Translations
summary: Prose in other languages, one message a section; code is never translated.
---

# Translations

The prose of a page is a list of messages: its title, its summary, and one for each section. A
translation is a gettext catalogue of these messages, such as `docs/locale/si/LC_MESSAGES/index.po`
for the page `index` in Sinhala; any gettext editor can open it. Code does not come from a
catalogue, so a translated page cannot show outdated code.

Two catalogues of a language belong to no page. `interface` has the words around the text: those of
the templates and of the script that all pages have, wherever they say `say("…")`, and the titles of
pages that are not translated. `drawings` has the words in the drawings. What a script says that one
page loads is in the catalogue of that page.

When a section changes, its translation no longer matches it. `python -m docs extract` updates the
catalogues: a new message is empty, a changed one is marked fuzzy, and both appear in English on the
page, with a note, until somebody translates them. `python -m docs check` names them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import polib

from .formulas import THEME
from .mistake import Mistake
from .settings import Settings

NAMES = {"en": "English", "si": "සිංහල", "zh": "简体中文", "ja": "日本語"}
"""The name of each language, in that language."""

TAGS = {"zh": "zh-Hans"}
"""What a language is called in HTML, where that is not the name of its folder."""

SAY = re.compile(r'\bsay\(\s*"((?:[^"\\]|\\.)+)"')
"""A text that a template or a script says in the language of its page."""

INTERFACE = ["Formula", "Table", "Output", "Imports", "Drawing code", "Solution", "Docstring"]
"""The words that are neither in a template nor in a script, but in a page around its own text."""

EXTRACT = "run: python -m docs extract"

Message = tuple[str, str]
"""The place of a text on the page, and the text in English."""


@dataclass
class Catalogue:
    """The translation of one page."""

    lang: str
    page: str
    path: str
    file: polib.POFile

    @classmethod
    def read(cls, settings: Settings, path: Path) -> "Catalogue":
        """Raises `Mistake` if the file is not a catalogue."""
        relative = path.relative_to(settings.root).as_posix()
        try:
            file = polib.pofile(str(path))
        except (OSError, ValueError, UnicodeDecodeError) as error:
            raise Mistake(relative, 1, f"this is no catalogue ({error})", "correct it") from None
        return cls(path.parent.parent.name, path.stem, relative, file)

    def check(self, messages: Iterable[Message]) -> None:
        """Raises `Mistake` if the catalogue belongs to another version of the page."""
        known = set(messages)
        for entry in self.file:
            if not entry.obsolete and (entry.msgctxt, entry.msgid) not in known:
                raise Mistake(
                    self.path, entry.linenum or 1,
                    f"the page {self.page} has no section {entry.msgctxt!r} that says this",
                    EXTRACT,
                )  # fmt: skip

    def get(self, context: str, text: str) -> str | None:
        """The translation of a message; `None` if there is none, or only one of an earlier text."""
        entry = self.file.find(text, msgctxt=context)
        return entry.msgstr if entry and entry.msgstr and not entry.fuzzy else None

    def coverage(self) -> list[str]:
        """A line that says how much is translated, and one for each message that is not."""
        entries = [entry for entry in self.file if not entry.obsolete]
        left = [entry for entry in entries if not entry.translated()]
        first = f"{len(entries) - len(left)} of {len(entries)} messages are translated"
        return [f"{self.path}: {first}"] + [
            f"{self.path}:{entry.linenum or 1}: {entry.msgctxt!r} "
            + ("has changed in English since it was translated" if entry.fuzzy else "is missing")
            for entry in left
        ]

    def update(self, messages: Iterable[Message]) -> None:
        """Brings the catalogue into step with the page."""
        old = {entry.msgctxt: entry for entry in self.file if not entry.obsolete}
        new = polib.POFile(wrapwidth=98)
        new.metadata = {
            "Language": self.lang,
            "MIME-Version": "1.0",
            "Content-Type": "text/plain; charset=UTF-8",
            "Content-Transfer-Encoding": "8bit",
        }
        for context, text in messages:
            entry = polib.POEntry(msgctxt=context, msgid=text)
            before = old.get(context)
            if before is not None:
                entry.msgstr = before.msgstr
                if before.fuzzy or (before.msgid != text and before.msgstr):
                    entry.flags = ["fuzzy"]
            new.append(entry)
        self.file = new


def catalogues(settings: Settings) -> list[Catalogue]:
    """All catalogues, by language and page."""
    paths = sorted((settings.root / "docs/locale").glob("*/LC_MESSAGES/*.po"))
    return [Catalogue.read(settings, path) for path in paths]


def spoken(files: Iterable[str]) -> list[str]:
    """All that these templates and scripts of the theme say, each text once."""
    texts = (SAY.findall((THEME / name).read_text(encoding="utf-8")) for name in files)
    return list(dict.fromkeys(text for found in texts for text in found))


def scripts(meta: dict[str, str]) -> list[str]:
    """The scripts that a page loads besides the one that all pages have."""
    return [name for name in meta.get("loads", "").split() if name.endswith(".js")]


class Titled(Protocol):
    """What has a name and, in its front matter, a title: the source of a page."""

    name: str
    meta: dict[str, str]


@dataclass
class Language:
    """
    ## A language

    What a page needs to know of the language that it is in: its words, and which pages it has.
    """

    lang: str = "en"
    catalogues: dict[str, Catalogue] = field(default_factory=dict)
    """By the name of the page."""

    @property
    def tag(self) -> str:
        """Its name in HTML."""
        return TAGS.get(self.lang, self.lang)

    def find(self, page: str, context: str, text: str) -> str | None:
        """A message of a catalogue; in English, and where there is no catalogue, the text."""
        return self.catalogues[page].get(context, text) if page in self.catalogues else text

    def say(self, text: str) -> str:
        """A word around the text of a page."""
        return self.find("interface", text, text) or text

    def label(self, text: str) -> str | None:
        """A word in a drawing."""
        return self.find("drawings", text, text)

    def own_title(self, source: Titled) -> str | None:
        """The translated title, of a page in this language or only in English; or `None`."""
        own = source.name in self.catalogues
        page, context = (source.name, "title") if own else ("interface", f"title {source.name}")
        return self.find(page, context, source.meta["title"])

    def title(self, source: Titled) -> str:
        """The title of a page, in this language if possible."""
        return self.own_title(source) or source.meta["title"]

    def has(self, page: str) -> bool:
        """Whether a page can be read in this language."""
        return self.lang == "en" or page in self.catalogues

    def locate(self, address: str) -> str:
        """An address on the English site, as seen from a page in this language."""
        return address if self.has(address.partition(".html")[0]) else f"../{address}"


def languages(settings: Settings) -> dict[str, Language]:
    """All languages, English first."""
    found = {"en": Language()}
    for catalogue in catalogues(settings):
        mine = found.setdefault(catalogue.lang, Language(catalogue.lang))
        mine.catalogues[catalogue.page] = catalogue
    return found
