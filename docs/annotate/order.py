r"""
---
title: Order
summary: Which modules there are, what each imports, and in which order they are read.
---

# Order

The reading order is written down once, in the docstring of the package: numbered lines that name
modules, under headings. The table of contents and the links from page to page follow from it. A
module is named without its folder, so no two modules may have the same name.
"""

import ast
import re
from pathlib import Path

from .mistake import Mistake
from .settings import Settings


def module_files(settings: Settings) -> dict[str, str]:
    """The modules of the package, from their names to their files."""
    paths = sorted((settings.root / settings.package).rglob("*.py"))
    return {p.stem: p.relative_to(settings.root).as_posix() for p in paths if p.stem != "__init__"}


def reading_order(settings: Settings) -> dict[str, list[str]]:
    """The names of the modules, part by part, as the docstring of the package lists them."""
    package = settings.package
    text = (settings.root / package / "__init__.py").read_text(encoding="utf-8")
    parts: dict[str, list[str]] = {"": []}
    for line in (ast.get_docstring(ast.parse(text)) or "").split("\n"):
        if heading := re.fullmatch(r"## (.+)", line):
            parts[heading[1]] = []
        elif re.match(r"\d+\. ", line):
            parts[list(parts)[-1]] += re.findall(r"`(\w+)`", line)
    names, files = [name for part in parts.values() for name in part], module_files(settings)
    missing, extra = sorted(files.keys() - set(names)), sorted(set(names) - files.keys())
    if missing or extra or len(names) > len(files):
        raise Mistake(
            f"{package}/__init__.py", 1,
            f"the reading order lacks {missing} and has {extra} too many",
            "name each module once in the numbered lines",
        )  # fmt: skip
    return {part: names for part, names in parts.items() if names}


def imports(tree: ast.AST, package: str, path: str = "") -> set[str]:
    """
    All modules of the package that are imported somewhere in `tree`, by their dotted names within
    the package; `path` is the file, from which relative imports are resolved. Functions and classes
    that are imported by name are included too: the caller knows which names are files.
    """
    found, folder = set(), Path(path).parent.parts[1:]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".") if node.module else []
            if node.level:
                base = [*folder[: len(folder) + 1 - node.level], *base]
            elif base[:1] == [package]:
                base = base[1:]
            else:
                continue
            found |= {".".join(base)} | {".".join([*base, alias.name]) for alias in node.names}
    return found


def imported_files(tree: ast.AST, settings: Settings, path: str = "") -> set[str]:
    """The files of the package that `tree` imports somewhere; for a folder, its `__init__`."""
    found = set()
    for name in imports(tree, settings.package, path):
        base = f"{settings.package}/{name.replace('.', '/')}".rstrip("/")
        found |= {f for f in (f"{base}.py", f"{base}/__init__.py") if (settings.root / f).exists()}
    return found
