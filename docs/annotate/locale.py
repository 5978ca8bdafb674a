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

When a section changes, its translation no longer matches it. `python -m docs extract` updates the
catalogues: a new message is empty, a changed one is marked fuzzy, and both appear in English on the
page, with a note, until somebody translates them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polib

from .mistake import Mistake
from .settings import Settings

NAMES = {"en": "English", "si": "සිංහල", "zh": "简体中文", "ja": "日本語"}
"""The name of each language, in that language."""

INTERFACE = [
    "Skip to the text", "Contents", "Home", "On this page", "min", "Repository", "MIT licence",
    "Modules", "Notebooks", "Search", "Search the site", "Nothing found", "Dark", "Light", "Copy",
    "Copied", "Show the picture large", "Close", "Skip the code", "Notebook", "Chapter", "Page",
    "Begin", "Read", "Open in Colab", "Train it", "Play", "Stop",
    "Download the notebook", "No native speaker has checked this translation yet.",
    "Correct a sentence",
    "This section is not translated yet.", "Imports", "Drawing code", "Solution",
]  # fmt: skip
"""The words that every page has besides its own text."""

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

    def coverage(self) -> str:
        """A line that says how much is translated."""
        entries = [entry for entry in self.file if not entry.obsolete]
        done = sum(bool(entry.msgstr) and not entry.fuzzy for entry in entries)
        return f"{self.path}: {done} of {len(entries)} messages are translated"

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
