r"""
---
title: Notebooks
summary: From a walkthrough to a notebook and back, and whether the two are in step.
---

# Notebooks

A notebook is made from a walkthrough: its cells, a badge that opens it on Colab, and a cell that
installs the package where there is none. It is stored with its outputs, so it can be read without
being run, and with a record of what it was made from: a hash of each cell, of the walkthrough, of
each file of the package that the cells import, and of everything that the build stored. From this
record it follows, without running a notebook, whether it is what its source would give now, and if
not, which cell and which file are to blame. Docstrings and comments are not code: rewriting the
prose of a module does not make a notebook stale, unless the notebook shows that prose.

What if somebody edits the notebook, in Jupyter or on Colab? Then its cells match neither the source
nor the record. The build refuses to overwrite the notebook, and `python -m docs pull` brings the
edit back to the source. If the notebook was only run again and saved, the build runs it once more,
and no edit is lost.
"""

import ast
import functools
import hashlib
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .mistake import Mistake
from .order import imported_files, module_files
from .settings import Settings
from .walkthrough import TITLE, Cell, definition, first_difference, read_cells

BUILD = "run: python -m docs build"
TIMES = "# NBVAL_IGNORE_OUTPUT"
"""
The first line, after a title, of a cell whose output is never the same twice: a time that was
measured, or a text that the last digits of a training decide.
"""

WORDS = {
    kind: re.compile(rf"^# {kind}: (.*(?:\n# (?!alt: |caption: ).*)*)", re.M)
    for kind in ("alt", "caption")
}
"""
The words for a picture, in the cell that draws it, over as many lines as they need: `alt`, what it
shows, in place of the picture, and `caption`, what it is about, below it.
"""

LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")
"""The target of a link to a file."""

Notebook = Any
"""What nbformat reads and writes."""


class Edited(Mistake):
    """A notebook that somebody edited, and that must not be overwritten."""


def source_path(name: str) -> str:
    """The walkthrough of a notebook."""
    return f"notebooks/src/{name}.py"


def notebook_path(name: str) -> str:
    """The file of a notebook."""
    return f"notebooks/{name}.ipynb"


def badge(settings: Settings, name: str) -> str:
    """The badge that opens the notebook on Colab."""
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({settings.colab(name)})"


def install(settings: Settings) -> str:
    """The cell after the title: finds the package here or installed, or else installs a release."""
    package = settings.package
    return f'''# The package: that of the repository around this notebook, or else the release.
import importlib.util
import subprocess
import sys
from pathlib import Path

if Path("../{package}/__init__.py").exists():
    sys.path.insert(0, "..")
elif importlib.util.find_spec("{package}") is None:
    release = "git+{settings.repository}@{settings.release}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", release], check=True)'''


def read_source(settings: Settings, name: str) -> list[Cell]:
    """The cells of the walkthrough; raises `Mistake`."""
    path = settings.root / source_path(name)
    if not path.exists():
        raise Mistake(
            source_path(name), 1, "there is no such walkthrough", "write it, or correct the name",
        )  # fmt: skip
    try:
        source = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise Mistake(source_path(name), line, "this is no UTF-8", "save it as UTF-8") from None
    return read_cells(source_path(name), source)


def address(settings: Settings, name: str, cell: Cell, target: str) -> str:
    """Where a link to a file leads from a notebook: to its page if it has one, or to the file."""
    path = (settings.root / source_path(name)).parent.joinpath(target).resolve()
    root = settings.root.resolve()
    if not path.is_relative_to(root) or not path.exists():
        line = cell.line + cell.text[: cell.text.index(target)].count("\n")
        raise Mistake(
            source_path(name), line, f"the link to {target} leads nowhere",
            "correct the path; it starts from the walkthrough",
        )  # fmt: skip
    relative = path.relative_to(root).as_posix()
    pages = {file: page for page, file in settings.pages.items()}
    modules = module_files(settings).values()
    if relative in (*pages, *modules, *map(source_path, settings.notebooks)):
        return f"{settings.site}{pages.get(relative, path.stem)}.html"
    return settings.source(relative)


def linked(settings: Settings, name: str, cell: Cell, target: re.Match[str]) -> str:
    """The address of a link that was found in a cell."""
    return address(settings, name, cell, target[1])


def convert(settings: Settings, name: str, cells: list[Cell]) -> list[Cell]:
    """The cells as the notebook has them, with the badge and the installation added."""
    made = []
    for cell in cells:
        text = cell.text
        if cell.kind == "prose":
            text = LINK.sub(partial(linked, settings, name, cell), text)
        elif cell.shown:
            file, _, text = definition(settings, source_path(name), cell)
            text = f"# {cell.shown[3]}, from {file}\n{text}"
        made.append(Cell(cell.kind, text, cell.line, cell.id))
    title, *rest = made
    first = Cell("prose", badge(settings, name), id="colab")
    return [first, title, Cell("code", install(settings), id="install"), *rest]


def sha256(content: Any) -> str:
    """A hash of bytes, or of what JSON can express; half of it suffices to tell versions apart."""
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(content).hexdigest()[:32]


def hashes(cells: list[Cell]) -> list[str]:
    """A hash of each cell, from its kind and its text."""
    return [sha256([cell.kind, cell.text]) for cell in cells]


def tree_of(node: Any) -> Any:
    """A syntax tree as lists, without empty fields, so that all versions of Python agree on it."""
    if isinstance(node, ast.AST):
        fields = ast.iter_fields(node)
        return [type(node).__name__, *([k, tree_of(v)] for k, v in fields if v not in (None, []))]
    return [tree_of(child) for child in node] if isinstance(node, list) else repr(node)


@functools.cache
def code_of(path: str, source: bytes) -> tuple[str, ast.AST]:
    """A hash of a module without its prose, and its tree; raises `Mistake` if it does not parse."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise Mistake(path, error.lineno or 1, error.msg, "correct the module") from None
    node: Any
    for node in ast.walk(tree):
        if isinstance(getattr(node, "body", None), list):
            node.body = [
                child for child in node.body
                if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
            ]  # fmt: skip
    return sha256(tree_of(tree)), tree


def package_files(settings: Settings, cells: list[Cell]) -> dict[str, str]:
    """A hash of each module that the cells import, directly or not, and of each data file."""
    trees = [ast.parse(cell.text) for cell in cells if cell.kind == "code"]
    todo = {file for tree in trees for file in imported_files(tree, settings)}
    found = {}
    if todo:
        for path in sorted((settings.root / settings.package).rglob("*")):
            data = path.is_file() and path.suffix not in (".py", ".pyc")
            if data and not path.name.startswith("."):
                found[path.relative_to(settings.root).as_posix()] = sha256(path.read_bytes())
    while todo:
        file = todo.pop()
        if file not in found:
            found[file], tree = code_of(file, (settings.root / file).read_bytes())
            todo |= imported_files(tree, settings, file)
    return found


def measures(text: str) -> bool:
    """Whether the output of a cell is never the same twice."""
    first, *rest = text.split("\n")
    return TIMES in (first, *rest[:1]) and (first == TIMES or first.startswith(TITLE))


def source_of(cells: list[Cell]) -> str:
    """A hash of a walkthrough."""
    return sha256(hashes(cells))


def new(settings: Settings, name: str, cells: list[Cell]) -> Notebook:
    """The notebook of a walkthrough, not executed yet."""
    converted, nodes = convert(settings, name, cells), []
    for cell in converted:
        make = new_markdown_cell if cell.kind == "prose" else new_code_cell
        node = make(cell.text, id=cell.id)
        if cell.text.startswith(TITLE):
            # Folded: on Colab, in JupyterLab, and by tools that know the tag.
            node.metadata.update(
                cellView="form", jupyter={"source_hidden": True}, tags=["hide-input"]
            )
        nodes.append(node)
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "colab": {"provenance": [], "toc_visible": True},
        "made_from": {
            "source": source_of(cells),
            "cells": hashes(converted),
            "package": package_files(settings, cells),
        },
    }
    return new_notebook(cells=nodes, metadata=metadata)


def check_cells(stored: Notebook) -> None:
    """Raises `ValueError` for cells that nbformat lets pass where it does not know the version."""
    for n, cell in enumerate(stored.cells, 1):
        if not all(isinstance(cell.get(key), str) for key in ("cell_type", "source")):
            raise ValueError(f"cell {n} has no kind, or no text")


def check_record(record: Any) -> None:
    """Raises `ValueError` for a record that the build cannot have written."""
    kinds = {"source": str, "cells": list, "package": dict}
    whole = isinstance(record, dict) and all(isinstance(record.get(k), kinds[k]) for k in kinds)
    if record is not None and not whole:
        raise ValueError("its record of what it was made from is damaged")


def read(settings: Settings, name: str) -> Notebook | None:
    """The stored notebook, or `None`. Raises `Mistake` if the file is not a notebook."""
    path = settings.root / notebook_path(name)
    if not path.exists():
        return None
    try:
        stored = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(stored)
        check_cells(stored)
        check_record(stored.metadata.get("made_from"))
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise Mistake(
            notebook_path(name), 1, f"this is no notebook ({reason})",
            f"restore it, or remove it and {BUILD}",
        ) from None  # fmt: skip
    return stored


def replace(path: Path, text: str) -> None:
    """Writes a new file beside the old one, then renames it: no file is ever half-written."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def stored_cells(stored: Notebook) -> list[Cell]:
    """The cells of a stored notebook; one that is neither prose nor code keeps its kind."""
    kinds = {"markdown": "prose"}
    return [Cell(kinds.get(c.cell_type, c.cell_type), c.source) for c in stored.cells]


def all_of(stored: Notebook) -> str:
    """
    A hash of all that is stored: the cells, their ids and execution counts, and their outputs.
    """
    return sha256(nbformat.reads(nbformat.writes(stored), as_version=4).cells)


def foreign(name: str, stored: Notebook) -> Mistake | None:
    """The `Mistake` to report if something other than the build saved the notebook, or `None`."""
    if stored.metadata.get("made_from", {}).get("stored") == all_of(stored):
        return None
    what = "it was saved by another program, and its outputs are not those of the build"
    return Mistake(notebook_path(name), 1, what, BUILD)


def problem(
    settings: Settings, name: str, stored: Notebook | None, wanted: Notebook
) -> Mistake | None:
    """Why a stored notebook is not what its source and the package would give now."""
    path = notebook_path(name)
    if stored is None:
        return Mistake(path, 1, "there is no such notebook yet", BUILD)
    there, here = stored_cells(stored), stored_cells(wanted)
    record = stored.metadata.get("made_from", wanted.metadata.made_from)
    edited = first_difference(hashes(there), record["cells"])
    n = first_difference(there, here)
    if edited and n:
        what = f"cell {edited} was edited in the notebook"
        return Edited(path, 1, what, f"run: python -m docs pull {name}")
    if n:
        return Mistake(path, 1, f"cell {n} is not what {source_path(name)} says", BUILD)
    if edited:
        return Mistake(path, 1, f"cell {edited} has not been run since it was edited", BUILD)
    now = wanted.metadata.made_from["package"]
    files = sorted(now.keys() | record["package"].keys())
    for file in (file for file in files if now.get(file) != record["package"].get(file)):
        users = {c.id for c in read_source(settings, name) if file in package_files(settings, [c])}
        n = next((n for n, cell in enumerate(stored.cells, 1) if cell.id in users), 1)
        return Mistake(path, 1, f"cell {n} ran with another {file}", BUILD)
    return foreign(name, stored)
