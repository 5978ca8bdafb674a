r"""
---
title: Symbols
summary: What each name in the code and in the prose stands for, and where it is defined.
---

# Symbols

A name on a page is a link to its definition: in the code, where the syntax tree says what the name
stands for, and in prose, where it is in backticks. In the code, a name that cannot be resolved
stays plain. In prose, it is an error if it *looks* like a name of the package: if it is dotted and
begins with one of the package's modules or classes, or is written in CamelCase. Prose goes stale
silently; this error makes it heard.
"""

import ast
import builtins
import re
from dataclasses import dataclass, field
from typing import Any

from .sections import Module, qualified
from .settings import Settings

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
FILE = re.compile(r".*\.(py|cpp|json|jsonl|md|png|pt|safetensors|toml|tsv|txt)")
CAMEL = re.compile(r"[A-Z][a-z0-9]+([A-Z][A-Za-z0-9]*)+")


@dataclass
class Symbols:
    """Where each definition of the package is: maps a dotted name to the address of its section."""

    settings: Settings
    modules: dict[str, Module] = field(default_factory=dict)
    address: dict[str, str] = field(default_factory=dict)
    """Maps `module.Qualified.name` to `page#anchor`."""
    short: dict[str, list[str]] = field(default_factory=dict)
    """Maps `Qualified.name` to the full names that end with it."""

    @classmethod
    def of(cls, settings: Settings, modules: list[Module]) -> "Symbols":
        """Indexes all modules; the address of a definition without prose is that of its line."""
        symbols = cls(settings)
        for module in modules:
            symbols.modules[module.name] = module
            page = f"{module.name}.html"
            symbols.address[module.name] = page
            anchors = {s.symbol: s.anchor for s in module.sections if s.symbol is not None}
            for name, node in qualified(module.tree):
                full = f"{module.name}.{name}"
                if full not in symbols.address:
                    anchor = anchors.get(name, f"L{node.lineno}")
                    symbols.address[full] = f"{page}#{anchor}"
                    symbols.short.setdefault(name, []).append(full)
        return symbols

    def resolve(self, text: str, module: str | None = None) -> str | None:
        """
        The address of a name in backticks; `None` if it is not a name of the package. Raises
        `LookupError` if it looks like one but is not.
        """
        name = text.removesuffix("()")
        if not DOTTED.fullmatch(name) or FILE.fullmatch(name) or name in self.settings.known:
            return None
        if hasattr(builtins, name):
            return None
        # A module may be named with or without its folder.
        *folders, last = name.removeprefix(f"{self.settings.package}.").split(".")
        while folders and folders[0] in self.folders():
            folders.pop(0)
        name = ".".join([*folders, last])
        if module is not None and f"{module}.{name}" in self.address:
            return self.address[f"{module}.{name}"]
        if name in self.address and (name not in self.short or "." in name):
            return self.address[name] if "." in name or text != name or name == module else None
        found = self.short.get(name, [])
        if len(found) == 1 and ("." in name or CAMEL.fullmatch(name)):
            return self.address[found[0]]
        first = name.split(".")[0]
        ours = first in self.modules or first in self.short
        if ("." in name and ours) or (CAMEL.fullmatch(name) and not found):
            raise LookupError(
                f"`{text}` looks like a name of {self.settings.package}, which has none such"
            )
        return None

    def folders(self) -> set[str]:
        """The folders of the package that do not share their name with a module."""
        files = (module.path.split("/")[1:-1] for module in self.modules.values())
        return {folder for folders in files for folder in folders} - self.modules.keys()

    def links(self, module: Module) -> dict[tuple[int, int], str]:
        """For each name in the code of `module`, by line and column, the address it links to."""
        meaning = self.imported(module)
        for name, _ in qualified(module.tree):
            if "." not in name:
                meaning[name] = f"{module.name}.{name}"
        found: dict[tuple[int, int], str] = {}
        lines = module.source.split("\n")

        def column(line: int, offset: int) -> int:
            return len(lines[line - 1].encode()[:offset].decode())

        def visit(node: Any, cls: str | None) -> None:
            if isinstance(node, ast.ClassDef):
                cls = node.name
            loaded = isinstance(getattr(node, "ctx", None), ast.Load)
            if isinstance(node, ast.Name) and loaded and node.id in meaning:
                self.put(found, meaning[node.id], node.lineno, column(node.lineno, node.col_offset))
            if isinstance(node, ast.alias) and node.name in meaning:
                self.put(
                    found, meaning[node.name], node.lineno, column(node.lineno, node.col_offset)
                )
            if isinstance(node, ast.Attribute) and loaded:
                full = self.attribute(node, meaning, module.name, cls)
                if full is not None:
                    end: Any = node
                    start = end.end_col_offset - len(node.attr.encode())
                    self.put(found, full, end.end_lineno, column(end.end_lineno, start))
            for child in ast.iter_child_nodes(node):
                visit(child, cls)

        visit(module.tree, None)
        return found

    def put(self, found: dict[tuple[int, int], str], full: str, line: int, column: int) -> None:
        """Records a link, if there is anything to link to."""
        if full in self.address:
            found[line, column] = self.address[full]

    def imported(self, module: Module) -> dict[str, str]:
        """What each name that a module imports from the package stands for."""
        meaning = {}
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            package, source = self.settings.package, node.module or ""
            if node.level == 0 and source.split(".")[0] != package:
                continue
            # Modules have names without folders.
            source = source.split(".")[-1]
            source = source if source in self.modules else ""
            for alias in node.names:
                full = f"{source}.{alias.name}" if source else alias.name
                if full not in self.address and len(self.short.get(alias.name, [])) == 1:
                    full = self.short[alias.name][0]
                meaning[alias.asname or alias.name] = full
        return meaning

    def attribute(
        self, node: ast.Attribute, meaning: dict[str, str], module: str, cls: str | None
    ) -> str | None:
        """The full name of `base.attr`: a member of a module, of a class, or of `self`."""
        if not isinstance(node.value, ast.Name):
            return None
        base = node.value.id
        if base in ("self", "cls") and cls is not None:
            return f"{module}.{cls}.{node.attr}"
        return f"{meaning[base]}.{node.attr}" if base in meaning else None
