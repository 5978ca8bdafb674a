r"""
---
title: Notebooks
summary: From a walkthrough to a notebook and back, and whether the two are in step.
---

# Notebooks

A notebook is made from a walkthrough: its cells, a badge that opens it on Colab, and a cell that
installs the package where there is none. It is stored with its outputs, so it
can be read without being run, and it carries two hashes: of its cells, and of the code of the
package that they import. So it can be said of each notebook, without running it, whether it
is what its source would give now. Docstrings and comments are not code: rewriting the prose of a
module does not make a notebook stale, unless it shows that prose.

What if somebody edits the notebook, in Jupyter or on Colab? Then its cells are neither what the
source says nor what was recorded. The build does not write over it, and `python -m docs pull`
brings the edit back to the source.
"""

import ast
import hashlib
import json
import re
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from .markup import Mistake
from .settings import Settings
from .walkthrough import Cell, definition, read_cells, write_cells

BUILD = "run: python -m docs build"
TIMES = "# NBVAL_IGNORE_OUTPUT"
"""The first line of a cell whose output is a measurement, and so never the same twice."""

SOLUTION = "# @title "
"""The first line of a cell that is folded: what follows is what stands there instead."""

LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")
"""The target of a link to a file."""

Notebook = Any
"""What nbformat reads and writes."""


class Edited(Mistake):
    """A notebook that somebody edited, and that nothing may be written over."""


def source_path(name: str) -> str:
    """The walkthrough of a notebook."""
    return f"notebooks/src/{name}.py"


def notebook_path(name: str) -> str:
    """The file of a notebook."""
    return f"notebooks/{name}.ipynb"


def badge(settings: Settings, name: str) -> str:
    """What opens the notebook on Colab."""
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return f"[![Open in Colab]({picture})]({settings.colab(name)})"


def install(settings: Settings) -> str:
    """The cell after the title: the package of this repository, an installed one, or a release."""
    package = settings.package
    return f'''# The package: that of the repository around this notebook, or else the release.
import importlib.util
import subprocess
import sys
from pathlib import Path

if Path("../{package}/__init__.py").exists():
    sys.path.insert(0, "..")
elif importlib.util.find_spec("{package}") is None:
    release = "git+{settings.repository}@{settings.tag}"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", release], check=True)'''


def read_source(settings: Settings, name: str) -> list[Cell]:
    """The cells of the walkthrough; raises `Mistake`."""
    path = settings.root / source_path(name)
    if not path.exists():
        raise Mistake(
            "pyproject.toml", 1, f"there is no {source_path(name)}",
            "correct the name under [tool.annotate.notebooks]",
        )  # fmt: skip
    return read_cells(source_path(name), path.read_bytes().decode())


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
    if (
        relative in pages
        or path.parent.name == settings.package
        or relative in map(source_path, settings.notebooks)
    ):
        return f"{settings.site}{pages.get(relative, path.stem)}.html"
    return settings.source(relative)


def convert(settings: Settings, name: str, cells: list[Cell]) -> list[Cell]:
    """The cells as the notebook has them, with the two that are made for it."""
    made = []
    for cell in cells:
        text = cell.text
        if cell.kind == "prose":
            text = LINK.sub(lambda m, c=cell: address(settings, name, c, m[1]), text)
        elif cell.shown:
            file, _, text = definition(settings.root, source_path(name), cell)
            text = f"# {cell.shown[3]}, from {file}\n{text}"
        made.append(Cell(cell.kind, text, cell.line))
    return [
        Cell("prose", badge(settings, name)),
        made[0],
        Cell("code", install(settings)),
        *made[1:],
    ]


def cells_sha256(cells: list[Cell]) -> str:
    """Of the kinds and texts of cells."""
    texts = json.dumps([(cell.kind, cell.text) for cell in cells])
    return hashlib.sha256(texts.encode()).hexdigest()


def imports(tree: ast.AST, package: str) -> set[str]:
    """The modules of the package that are imported somewhere in `tree`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level == 0:
                if module.split(".")[0] != package:
                    continue
                module = module.removeprefix(package).lstrip(".")
            found |= {module} if module else {alias.name for alias in node.names} | {"__init__"}
    return found


def package_sha256(settings: Settings, cells: list[Cell]) -> str:
    """Of the code that the cells import, directly or not, and of the data of the package."""
    folder, todo, seen = settings.root / settings.package, set(), {}
    for cell in cells:
        if cell.kind == "code":
            todo |= imports(ast.parse(cell.text), settings.package)
    while todo:
        name = todo.pop()
        path = folder / f"{name}.py"
        if name in seen or not path.exists():
            continue
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            if isinstance(getattr(node, "body", None), list):
                node.body = [
                    child for child in node.body
                    if not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))
                ]  # fmt: skip
        seen[name] = ast.dump(tree)
        todo |= imports(tree, settings.package) - seen.keys()
    code = [f"{name}\n{seen[name]}" for name in sorted(seen)]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            code.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return hashlib.sha256("\n".join(code).encode()).hexdigest()


def new(settings: Settings, name: str, cells: list[Cell]) -> Notebook:
    """The notebook of a walkthrough, not executed yet."""
    converted, nodes, number = convert(settings, name, cells), [], 0
    for i, cell in enumerate(converted):
        make = new_markdown_cell if cell.kind == "prose" else new_code_cell
        number += i not in (0, 2)
        node = make(cell.text, id={0: "colab", 2: "install"}.get(i, f"cell-{number:02}"))
        if cell.text.startswith(SOLUTION):
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
            "cells": cells_sha256(converted),
            "package": package_sha256(settings, cells),
        },
    }
    return new_notebook(cells=nodes, metadata=metadata)


def read(settings: Settings, name: str) -> Notebook | None:
    """The notebook as it is stored; `None` if there is none. Raises `Mistake` if it is none."""
    path = settings.root / notebook_path(name)
    if not path.exists():
        return None
    try:
        stored = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(stored)
    except Exception as error:
        reason = str(error).split("\n")[0]
        raise Mistake(
            notebook_path(name), 1, f"this is no notebook ({reason})",
            f"restore it, or remove it and {BUILD}",
        ) from None  # fmt: skip
    return stored


def stored_cells(stored: Notebook) -> list[Cell]:
    """The cells of a stored notebook."""
    kinds = {"markdown": "prose", "code": "code"}
    return [Cell(kinds[c.cell_type], c.source) for c in stored.cells if c.cell_type in kinds]


def problem(
    settings: Settings, name: str, stored: Notebook | None, wanted: Notebook
) -> Mistake | None:
    """Why a stored notebook is not what its source and the package would give now."""
    path = notebook_path(name)
    if stored is None:
        return Mistake(path, 1, "there is no such notebook yet", BUILD)
    there, here = stored_cells(stored), stored_cells(wanted)
    made_from = stored.metadata.get("made_from", {})
    if there != here:
        same = zip(there, here, strict=False)
        n = next((n for n, (a, b) in enumerate(same) if a != b), min(len(there), len(here))) + 1
        if cells_sha256(there) != made_from.get("cells"):
            what = f"cell {n} was edited in the notebook"
            return Edited(path, 1, what, f"run: python -m docs pull {name}")
        return Mistake(path, 1, f"cell {n} is not what {source_path(name)} says", BUILD)
    if made_from.get("cells") != wanted.metadata.made_from["cells"]:
        return Mistake(path, 1, "it has not been run since it was edited", BUILD)
    if made_from.get("package") != wanted.metadata.made_from["package"]:
        return Mistake(path, 1, f"it ran with other code of {settings.package}", BUILD)
    for n, cell in enumerate(stored.cells, 1):
        if cell.cell_type == "code" and cell.execution_count is None:
            return Mistake(path, 1, f"cell {n} has not been run", BUILD)
    return None


def pull(settings: Settings, name: str) -> str:
    """
    The walkthrough of a notebook as it was edited. Raises `Mistake` where it has no notebook, and
    for an edit that belongs elsewhere: to a definition of the package, or to what the build makes.
    """
    path, stored = notebook_path(name), read(settings, name)
    if stored is None:
        raise Mistake(path, 1, "there is no such notebook", BUILD)
    source = read_source(settings, name)
    back = {}
    for cell in source:
        for target in LINK.findall(cell.text) if cell.kind == "prose" else ():
            back[address(settings, name, cell, target)] = target
    cells: list[Cell] = []
    for n, cell in enumerate(stored_cells(stored), 1):
        text = "\n".join(line.rstrip() for line in cell.text.strip("\n").split("\n"))
        first = text.split("\n")[0]
        if text == install(settings) or text.startswith("[![Open in Colab]") or not text:
            continue
        shown = re.fullmatch(r"# (\w+), from ([\w/]+)/(\w+)\.py", first)
        if shown and cell.kind == "code":
            package, module = shown[2].replace("/", "."), shown[3]
            text = f"from {package}.{module} import {shown[1]}  # shown"
            _, _, now = definition(settings.root, source_path(name), Cell("code", text, 1))
            if f"{first}\n{now}" != cell.text:
                raise Mistake(
                    path, 1, f"cell {n} shows {shown[1]} of {shown[2]}/{module}.py, and was edited",
                    "edit the module instead",
                )  # fmt: skip
        if first == install(settings).split("\n")[0]:
            raise Mistake(
                path, 1, f"cell {n}, which installs the package, was edited",
                "restore it; it follows from [tool.annotate] in pyproject.toml",
            )  # fmt: skip
        if cell.kind == "prose":
            for there, here in back.items():
                text = text.replace(f"]({there}", f"]({here}")
        if cells and cell.kind == cells[-1].kind == "prose":
            cells[-1].text += f"\n\n{text}"
        else:
            cells.append(Cell(cell.kind, text))
    result = write_cells(cells, path)
    read_cells(source_path(name), result)
    return result
