r"""
---
title: From a notebook back
summary: An edit that was made in Jupyter or on Colab, brought back to the walkthrough.
---

# From a notebook back

Readers of a notebook find mistakes in it, and correct them there. The cells then have to become a
walkthrough again. Nothing may be lost or changed on the way, so each cell is written, read back and
compared, and a cell that comes back different is reported by its number.

Not every cell has a place in the walkthrough. The build makes the badge and the installation, and a
definition that a cell shows comes from the package: an edit of these belongs elsewhere. And if the
walkthrough has changed since the notebook was made, one of the two edits would be lost: the user
has to say which.
"""

import ast
import re
from pathlib import Path

from . import notebook
from .mistake import Mistake
from .notebook import BUILD, LINK, notebook_path, source_path
from .settings import Settings
from .walkthrough import TITLE, Cell, read_cells, write_cells

SHOWS = re.compile(r"# (\w+), from ([\w/]+)/(\w+)\.py\n")
"""The first line of a cell that shows a definition of the package."""


def tidy(path: str, n: int, cell: Cell) -> Cell:
    """
    The cell without blanks at the ends of lines. In a paragraph of Markdown two of them mean a line
    break, so a backslash, which means the same, replaces them. Raises `Mistake` for code that does
    not parse.
    """
    lines = cell.text.strip("\n").split("\n")
    text = "\n".join(line.rstrip() for line in lines)
    if cell.kind == "prose":
        broken = re.sub(r"(?<=\S) {2,}\n(?=\S)", "\\\\\n", "\n".join(lines))
        return Cell("prose", "\n".join(line.rstrip() for line in broken.split("\n")))
    try:
        if ast.dump(ast.parse(text)) != ast.dump(ast.parse(cell.text)):
            what = f"cell {n} has a string with blanks at the end of a line"
            raise Mistake(path, 1, what, "write them as \\x20")
    except SyntaxError as error:
        wrong = lines[min(error.lineno or 1, len(lines)) - 1].strip()
        magic = wrong.startswith(("%", "!", "?"))
        raise Mistake(
            path, 1, f"cell {n} is no Python at {wrong!r} ({error.msg})",
            "write plain Python, without magics" if magic else "correct the cell",
        ) from None  # fmt: skip
    return Cell("code", text)


def survives(path: str, n: int, cell: Cell) -> None:
    """Raises `Mistake` for a cell that would come back changed from the walkthrough."""
    before = [Cell("prose", "# Title")] + [Cell("code", "x = 1")] * (cell.kind == "prose")
    try:
        again = read_cells(path, write_cells([*before, cell], path))[len(before) :]
    except ValueError:
        again = []
    if [(c.kind, c.text) for c in again] != [(cell.kind, cell.text)]:
        raise Mistake(
            path, 1, f"cell {n} would come back changed from a walkthrough",
            "indent with spaces, begin prose with words, and let a comment touch the code: with "
            "blank lines around it, it would be prose",
        )  # fmt: skip


def as_written(settings: Settings, name: str, n: int, cell: Cell, known: bool) -> Cell | None:
    """The cell as the walkthrough has it, `None` if it has no place there; raises `Mistake`."""
    path = notebook_path(name)
    if cell.kind not in ("prose", "code"):
        raise Mistake(path, 1, f"cell {n} is {cell.kind}", "make it a cell of Markdown or code")
    made = ("[![Open in Colab]", notebook.install(settings).split("\n")[0])
    if cell.text.startswith(made):
        if not known:
            raise Mistake(
                path, 1, f"cell {n}, which the build makes, was edited",
                "restore it; it follows from [tool.annotate] in pyproject.toml",
            )  # fmt: skip
        return None
    shows = SHOWS.match(cell.text)
    if shows and cell.kind == "code":
        what, folder, module = shows.groups()
        if not known:
            raise Mistake(
                path, 1, f"cell {n} shows {what} of {folder}/{module}.py, and was edited",
                "edit the module instead",
            )  # fmt: skip
        return Cell("code", f"from {folder.replace('/', '.')}.{module} import {what}  # shown")
    return tidy(path, n, cell) if cell.text.strip() else None


def links_back(settings: Settings, name: str, source: list[Cell]) -> dict[str, str]:
    """Maps the address of a link in the notebook to the file that the walkthrough names for it."""
    return {
        notebook.address(settings, name, cell, target): target
        for cell in source
        if cell.kind == "prose"
        for target in LINK.findall(cell.text)
    }


def append(path: str, n: int, cell: Cell, cells: list[Cell]) -> None:
    """Adds a cell; adjacent prose becomes one cell. Raises `Mistake` if it may not come next."""
    if not cells and (cell.kind != "prose" or not cell.text.startswith("# ")):
        raise Mistake(path, 1, f"cell {n} comes first and is no title", "begin with '# ...'")
    survives(path, n, cell)
    titled = cell.kind == "code" and cell.text.startswith(TITLE)
    if not cells or cell.kind != cells[-1].kind or titled:
        cells.append(cell)
    elif cell.kind == "prose":
        cells[-1].text += f"\n\n{cell.text}"
    else:
        what = f"cell {n} is code and follows code"
        raise Mistake(path, 1, what, "write a sentence between them")


def walkthrough_of(settings: Settings, name: str, force: bool) -> str:
    """
    The walkthrough of an edited notebook. Raises `Mistake` if there is no notebook, if an edit has
    no place in a walkthrough, and, unless `force`, if both were edited.
    """
    path, stored = notebook_path(name), notebook.read(settings, name)
    if stored is None:
        raise Mistake(path, 1, "there is no such notebook", BUILD)
    source = notebook.read_source(settings, name)
    made_from = notebook.new(settings, name, source).metadata.made_from
    made_from = stored.metadata.get("made_from", made_from)
    there = notebook.stored_cells(stored)
    if notebook.hashes(there) == made_from["cells"]:
        raise Mistake(path, 1, "no cell of it was edited", BUILD)
    back = links_back(settings, name, source)
    cells: list[Cell] = []
    for n, (edited, key) in enumerate(zip(there, notebook.hashes(there), strict=True), 1):
        cell = as_written(settings, name, n, edited, key in made_from["cells"])
        if cell is not None:
            for page, target in back.items() if cell.kind == "prose" else ():
                cell.text = cell.text.replace(f"]({page}", f"]({target}")
            append(path, n, cell, cells)
    if not cells:
        raise Mistake(path, 1, "it has no cell of a walkthrough", f"restore it, or {BUILD}")
    changed = made_from["source"] != notebook.source_of(source)
    if changed and notebook.source_of(cells) != notebook.source_of(source) and not force:
        raise Mistake(
            source_path(name), 1, f"both this and {path} were edited since the notebook was made",
            f"undo one edit, or lose that of the walkthrough: python -m docs pull {name} --force",
        )  # fmt: skip
    return write_cells(cells, path)


def pull(settings: Settings, name: str, force: bool = False) -> Path:
    """Brings an edit back to the walkthrough, and returns its path; `force` as above."""
    path = settings.root / source_path(name)
    notebook.replace(path, walkthrough_of(settings, name, force))
    return path
