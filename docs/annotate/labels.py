r"""
---
title: Words in drawings
summary: The labels of a drawing, and the same drawing with labels in another language.
---

# Words in drawings

A drawing is part of the page that shows it, so its words are text, and can be translated like the
rest. A language has one catalogue for the words of all drawings, `figures`, since the same words
stand in many. Not everything in a drawing is language: symbols, numbers and the names of models are
not, nor is what stands in the letters of code, which is quoted from a model.
"""

import re
from collections.abc import Callable, Iterable
from html import escape, unescape

from .parts import Source
from .settings import Settings

TEXT = re.compile(r"(<(?:text|tspan|title|desc)\b(?![^>]*monospace)[^>]*>)([^<]+)")
SAYS = re.compile(r'(data-says=")([^"]+)')
"""What the steps of a drawing say, one after the other."""

WORD = re.compile(r"[a-z]{2}")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.svg)(?:\s+\"[^\"]*\")?\)")


def general(text: str) -> tuple[str, dict[str, str]]:
    """A text with a name in place of each number, such as `layer {a}`, and the numbers."""
    numbers: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        key = "abcdefgh"[len(numbers)]
        numbers[key] = match[0]
        return f"{{{key}}}"

    return NUMBER.sub(name, unescape(text).strip()), numbers


def labels(svg: str) -> list[str]:
    """The words in a drawing, each text once, without its numbers."""
    texts = [text for _, text in TEXT.findall(svg)]
    texts += [text for _, says in SAYS.findall(svg) for text in says.split("|")]
    return list(dict.fromkeys(general(text)[0] for text in texts if WORD.search(text)))


def relabel(svg: str, translate: Callable[[str], str | None]) -> str:
    """The drawing with its words translated; a text that is not says that it is in English."""

    def put(text: str) -> str | None:
        if not WORD.search(text):
            return text
        words, numbers = general(text)
        translation = translate(words)
        return translation and escape(translation.format(**numbers))

    def text(match: re.Match[str]) -> str:
        word = put(match[2])
        return match[1] + word if word else f'{match[1][:-1]} lang="en">{match[2]}'

    def says(match: re.Match[str]) -> str:
        return match[1] + "|".join(put(step) or step for step in match[2].split("|"))

    return SAYS.sub(says, TEXT.sub(text, svg))


def all_labels(settings: Settings, sources: Iterable[Source]) -> list[str]:
    """The words of all drawings that these pages show."""
    found: dict[str, None] = {}
    for source in sources:
        for target in IMAGE.findall("\n".join(section.prose for section in source.sections)):
            path = (settings.root / source.path).parent / target
            if path.is_file():
                found |= dict.fromkeys(labels(path.read_text(encoding="utf-8")))
    return list(found)
