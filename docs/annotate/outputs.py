r"""
---
title: Outputs
summary: What the cells of a notebook printed and drew, as HTML.
---

# Outputs

A notebook contains its outputs. On a page, text appears below the code that printed it, and a
picture is a file beside the page, with its alternative text and a caption.
"""

import ast
import base64
import itertools
import re
import struct
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from . import notebook
from .sections import Section, is_picture, pictured
from .segment import documentation
from .settings import Settings
from .texts import first_words, slug
from .walkthrough import TITLE, definition

DOCSTRING, LONG = "Docstring", 3
"""What is shown in place of a docstring of the package; and those with more lines are folded."""


def anchor_of(prose: str, before: list[Section]) -> str:
    """A name that no earlier section has, from the heading or else from the first words."""
    heading = prose.split("\n")[0]
    anchor = slug(heading) if heading.startswith("#") else first_words(prose)
    while any(section.anchor == anchor for section in before):
        anchor += "-2"
    return anchor


def notebook_sections(settings: Settings, name: str) -> list[Section]:
    """
    The sections of a notebook: each piece of prose with the code after it and its outputs. Raises
    `Mistake` if there is no notebook, or if something other than the build saved it.
    """
    stored, path = notebook.read(settings, name), notebook.notebook_path(name)
    if stored is None:
        raise notebook.Mistake(path, 1, "there is no such notebook", notebook.BUILD)
    wrong = notebook.foreign(name, stored)
    if wrong is not None:
        raise wrong
    outputs = {cell.id: cell.get("outputs", []) for cell in stored.cells}
    sections: list[Section] = []
    for cell in notebook.read_source(settings, name):
        if cell.kind == "prose":
            line = cell.line
            # The text before a heading has nothing to do with the code after it.
            for piece in re.split(r"\n(?=##)", cell.text):
                sections.append(Section(anchor_of(piece, sections), None, piece, line))
                line += piece.count("\n") + 1
            continue
        section, first, text = sections[-1], cell.line, cell.text
        if section.code:
            section.more.append(Section("", None))
            section = section.more[-1]
        if cell.shown:
            section.path, first, text = definition(settings, path, cell)
        # First lines that mark the kind of cell and the words for a picture are not shown as code:
        # the page has them elsewhere.
        words = (m for kind in notebook.WORDS.values() for m in kind.finditer(text))
        hidden = {n for m in words for n in lines_of(text, m)}
        lines = text.split("\n")
        marks = (notebook.TIMES, TITLE)
        hidden |= {n for n, line in enumerate(lines[:2]) if line.startswith(marks)}
        code = [(first + n, line) for n, line in enumerate(lines) if n not in hidden]
        if text.startswith(TITLE):
            section.folded = lines[0].removeprefix(TITLE)
        runs = without_docstrings(text) if cell.shown else [(range(len(lines)), "")]
        for lines_of_run, folded in runs:
            if section.code:
                sections[-1].more.append(Section("", None, path=section.path))
                section = sections[-1].more[-1]
            section.code = [(n, line) for n, line in code if n - first in lines_of_run]
            section.folded = section.folded or folded
        section.outputs = outputs.get(cell.id, [])
    return sections


def without_docstrings(text: str) -> list[tuple[range, str]]:
    """
    A definition in pieces: the numbers, from 0, of the lines of each, and the words shown in place
    of it if it is a long docstring. The page of the definition has that typeset.
    """
    cuts, end = [0], text.count("\n") + 1
    spans = sorted((e.lineno, e.end_lineno) for e, _ in documentation(ast.parse(text)))
    for begin, last in spans:
        if last - begin >= LONG:
            cuts += [begin - 1, last]
    pieces = zip(cuts, [*cuts[1:], end], itertools.cycle(["", DOCSTRING]), strict=False)
    return [(range(begin, end), folded) for begin, end, folded in pieces]


def lines_of(text: str, match: re.Match[str]) -> range:
    """The numbers, from 0, of the lines of `text` that a match covers."""
    begin = text.count("\n", 0, match.start())
    return range(begin, begin + match[0].count("\n") + 1)


TAGS = {
    *("svg", "g", "defs", "marker", "path", "line", "polyline", "polygon", "rect", "circle"),
    *("ellipse", "text", "tspan", "title", "desc"),
}
"""What a drawing may be made of; none of them can run code or fetch anything."""

ACTIVE = re.compile(
    r"<[!?]|[\s\"'/]on\w{3,}\s*=|(href|src)\s*=|url\((?!#)|@import|javascript:", re.I
)
"""What could: comments hide text from one parser and not from another, handlers, addresses."""


def drawing(svg: str) -> str:
    """
    A drawing as part of a page, where it could do all that the page can. Raises `LookupError` if it
    has anything but shapes and text. The text of the file is searched, not a tree made from it:
    browsers read it by other rules than a parser of XML.
    """
    tags = {name.lower() for name in re.findall(r"<([^\s/>!?]+)", svg)}
    found = ACTIVE.search(svg)
    if other := sorted(tags - TAGS) or (found and [found[0].strip()]):
        raise LookupError(f"a drawing may have only shapes and text, but this has {other[0]!r}")
    if not svg.lstrip().startswith("<svg"):
        raise LookupError("a drawing begins with <svg")
    return svg


def width(svg: str) -> float:
    """The width of a drawing; shown with it, the letters are as large as those of the caption."""
    found = re.search(r'viewBox="\S+ \S+ ([\d.]+) ', svg)
    if found is None:
        raise LookupError("a drawing needs a viewBox")
    return float(found[1])


def size(png: bytes) -> tuple[int, int]:
    """A PNG begins with its width and height; raises `ValueError` for what is none."""
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 24:
        raise ValueError("this is no PNG")
    return struct.unpack(">II", png[16:24])


SMALLEST = 0.7
"""Where the page is too narrow, a picture becomes smaller down to this factor, then scrolls."""


def picture(address: str, alt: str, png: bytes, lang: str = "") -> str:
    """
    A picture that can be enlarged, in a box that scrolls. It has two pixels for each one of the
    page, so that it is sharp. With its size the page can reserve room for it. `lang` is the
    language of its description, if that is not the page's.
    """
    width, height = ((pixels + 1) // 2 for pixels in size(png))
    where = f'src="{address}" alt="{escape(alt)}" style="min-width: {SMALLEST * width:.0f}px"'
    where += f' lang="{lang}"' if lang else ""
    image = f'<img {where} class="zoom" width="{width}" height="{height}">'
    return f'<div class="picture">{image}</div>'


def figure(shown: str, caption: str, lang: str = "") -> str:
    """A picture or drawing with its caption below it."""
    words = f' lang="{lang}"' if lang else ""
    return f"<figure>{shown}<figcaption{words}>{escape(caption, quote=False)}</figcaption></figure>"


def asset(file: Path) -> str:
    """The name that a picture of a recorded run has on the site."""
    return f"assets/runs/{file.parent.name}-{file.name}"


def render_outputs(
    cells: list[list[dict[str, Any]]], top: str, name: str,
    say: Callable[[str], str] = str,
    describe: Callable[[str, str], str | None] = lambda key, text: text,
) -> tuple[list[list[str]], dict[str, bytes]]:  # fmt: skip
    """
    The outputs of the cells of a section as HTML, cell by cell, and the pictures among them as
    files, named after `name`. `say` translates a word, and `describe` the words for a picture.
    Raises `ValueError` for an output that the build would not have stored.
    """
    files: dict[str, bytes] = {}

    def render(output: dict[str, Any]) -> str:
        """One output."""
        data = output.get("data", {})
        if "image/png" in data:
            if not isinstance(data["image/png"], str) or not is_picture(output):
                raise ValueError("a picture without data, its description or its caption")
            n = len(files) + 1
            file = f"assets/notebooks/{name}-{n}.png"
            files[file] = base64.b64decode(data["image/png"])
            # What is not translated says so.
            (alt, spoken), (caption, written) = (
                (found or english, "" if found else "en")
                for key, english in pictured(output, n).items()
                for found in [describe(key, english)]
            )
            return figure(picture(f"{top}{file}", alt, files[file], spoken), caption, written)
        said = output.get("text") or data.get("text/plain")
        if not isinstance(said, str):
            raise ValueError("an output that is neither text nor a picture")
        text, label = escape(said, quote=False).rstrip(), escape(say("Output"))
        return f'<pre class="out" tabindex="0" aria-label="{label}">{text}\n</pre>'

    return [[render(output) for output in outputs] for outputs in cells], files


def assets(settings: Settings) -> dict[str, bytes]:
    """The notebooks themselves, for download."""
    paths = [notebook.notebook_path(name) for name in settings.notebooks]
    return {f"assets/{path}": (settings.root / path).read_bytes() for path in paths}
