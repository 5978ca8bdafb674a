r"""
---
title: Walkthroughs
summary: A Python file read as the cells of a notebook, and cells written as a Python file.
---

# Walkthroughs

A walkthrough is a Python file in pylit's convention. A paragraph of comments with a blank line
before and after it is prose, and becomes a Markdown cell; everything between is code. A comment
that touches code is a note in the code. So there are always some words between two code cells, a
good rule for a text that explains.

There is one exception. A line with a title begins a cell of its own, which is folded: readers see
its title and what it puts out, and unfold the code if they want it.

```python
# @title Drawing code
ax.plot(losses)
```

On Colab this is the title of a form, and Jupyter shows the line. It stands above code that a text
can do without: long imports, the drawing of a picture, the solution of an exercise.

pylit converts in both directions, by way of a text in which code is indented and announced by a
marker. A few inputs, two blank lines after prose for example, would come back changed. They are not
in normal form and are refused, so whatever is converted comes back byte for byte.

One kind of cell is shorter in the source than on the page:

```python
from feedback.layers import LayerMix  # shown
```

The notebook and its page show the definition itself, as the package has it.
"""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Literal

from .mistake import Mistake
from .sections import first_line
from .settings import Settings

with warnings.catch_warnings():
    # pylit 0.8.0 has an invalid escape sequence in a docstring.
    warnings.simplefilter("ignore")
    import pylit

MARKER = "<!-- code -->"
OPTIONS = {"codeindent": 4, "code_block_marker": MARKER, "header_string": "<!-- header -->"}
TITLE = "# @title "
"""The beginning of a cell that is folded: the rest of this line is shown in its place."""

SHOWN = re.compile(r"from ([\w.]+)\.(\w+) import (\w+)  # shown")


class ToText(pylit.Code2Text):
    """pylit's converter; filters that are registered for its own class do not apply to this one."""


class ToCode(pylit.Text2Code):
    """The converter for the way back."""


@dataclass
class Cell:
    """A piece of prose, as Markdown, or of code."""

    kind: Literal["prose", "code"]
    text: str
    line: int = 0
    """The line of the source at which it begins."""
    id: str = ""
    """The id of the cell in the notebook; it does not count the cells that the build adds."""

    @property
    def shown(self) -> re.Match[str] | None:
        """If the cell shows a definition of the package: the package, the module and the name."""
        return SHOWN.fullmatch(self.text) if self.kind == "code" else None


def drop_markers(lines: Iterable[str]) -> Iterator[str]:
    """The lines without the markers and the empty comments before them."""
    empty: list[str] = []
    for line in lines:
        if line.strip() == f"# {MARKER}":
            while empty and empty[-1].strip() == "#":
                empty.pop()
        elif line.strip() == "#":
            empty.append(line)
        else:
            yield from empty
            empty = []
            yield line
    yield from empty


def to_text(source: str) -> str:
    """The walkthrough as Markdown."""
    return str(ToText(source.splitlines(keepends=True), **OPTIONS))


def to_source(text: str) -> str:
    """Markdown as the walkthrough."""
    return "".join(drop_markers(ToCode(text.splitlines(keepends=True), **OPTIONS)))


def read_cells(path: str, source: str) -> list[Cell]:
    """
    The cells of a walkthrough. Raises `Mistake` if it is not in normal form, if it begins with
    code, or if the code of a cell does not parse.
    """
    demand_same(path, source, to_source(to_text(source)))
    cells: list[Cell] = []
    for block in re.split(rf"^{MARKER}$", to_text(source), flags=re.M):
        lines = block.strip("\n").split("\n")
        # After a marker, indented lines are code.
        code = list(takewhile(lambda line: not line or line[:4] == "    ", lines)) if cells else []
        if code:
            text = "\n".join(line[4:] for line in code).strip("\n")
            cells += [Cell("code", part) for part in re.split(rf"\n\n(?={TITLE})", text)]
        rest = "\n".join(lines[len(code) :]).strip("\n")
        if rest:
            cells.append(Cell("prose", rest))
    demand_same(path, source, write_cells(cells, path))
    number(cells, source.split("\n"))
    for cell in cells:
        if cell.kind == "code":
            after = cell.text.find(f"\n{TITLE}")
            if after >= 0 or cell.text.endswith("\n"):
                line = cell.line + cell.text.count("\n", 0, after) + 1
                raise Mistake(path, line, "a title begins a cell", "leave one blank line above it")
            try:
                ast.parse(cell.text)
            except SyntaxError as error:
                line = cell.line + (error.lineno or 1) - 1
                raise Mistake(path, line, error.msg, "correct the cell") from None
    return cells


def first_difference(these: list[Any], those: list[Any]) -> int | None:
    """The number of the first item that differs, counted from 1; `None` if there is none."""
    pairs = zip([*these, None], [*those, None], strict=False)
    return next((n for n, (a, b) in enumerate(pairs, 1) if a != b), None)


def demand_same(path: str, source: str, again: str) -> None:
    """Raises `Mistake`, with the line, if a walkthrough came back as another text, `again`."""
    wrong = first_difference(source.split("\n"), again.split("\n"))
    if wrong is not None or not source.startswith("# # "):
        raise Mistake(
            path, wrong or 1, "the walkthrough is not in normal form",
            "begin with a title, '# # ...', keep one blank line before and after prose, and end "
            "with a line end",
        )  # fmt: skip


def number(cells: list[Cell], lines: list[str]) -> None:
    """Gives each cell its id, and the line of the source at which it begins."""
    at = 0
    for n, cell in enumerate(cells, 1):
        cell.id = f"cell-{n:02}"
        first = cell.text.split("\n")[0]
        wanted = f"# {first}" if cell.kind == "prose" else first
        at = lines.index(wanted, at)
        cell.line = at + 1
        at += cell.text.count("\n") + 1


def write_cells(cells: list[Cell], path: str) -> str:
    """
    The walkthrough that has these cells. Raises `Mistake` for two pieces of code with no prose
    between them, the second without a title, which the convention cannot express.
    """
    parts, before = [], "code"
    for n, cell in enumerate(cells):
        folded = cell.text.startswith(TITLE)
        if cell.kind == "code" == before and not folded:
            raise Mistake(
                path, 1, f"cell {n + 1} is code and follows code", "write a sentence between them"
            )
        indented = re.sub(r"^(?=.)", "    ", cell.text, flags=re.M)
        marker = "" if cell.kind == before else f"{MARKER}\n\n"
        parts.append(cell.text if cell.kind == "prose" else f"{marker}{indented}")
        before = cell.kind
    return to_source("\n\n".join(parts) + "\n")


def definition(settings: Settings, path: str, cell: Cell) -> tuple[str, int, str]:
    """
    For a cell that shows a definition: the file that has it, its first line, and its text. Raises
    `Mistake` if there is no such definition.
    """
    package, module, name = cell.shown.groups() if cell.shown else ("", "", "")
    file = f"{package.replace('.', '/')}/{module}.py"
    if (settings.root / file).exists():
        source = (settings.root / file).read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if getattr(node, "name", None) == name:
                first = first_line(node)
                return file, first, "\n".join(source.split("\n")[first - 1 : node.end_lineno])
    raise Mistake(path, cell.line, f"{file} defines no {name}", "correct the import")
