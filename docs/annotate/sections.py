r"""
---
title: Sections
summary: Prose and code side by side on a page, and the anchor that links to them.
---

# Sections

A section of a page is a piece of prose and the code it is about. If the prose documents a class, a
function or a field, the section includes the lines that define it. A section is named after the
symbol it belongs to, such as `FeedbackAttention.forward`, and later sections within the same symbol
are numbered, such as `FeedbackAttention.forward-2`. So a link still works when lines are added
above its target.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .segment import Segment, documentation, prose_lines, segments


def is_picture(output: dict[str, Any]) -> bool:
    """Whether an output is a picture with its description and its caption."""
    words = output.get("metadata", {}).get("image/png", {})
    kinds = ("alt", "caption")
    whole = isinstance(words, dict) and all(isinstance(words.get(kind), str) for kind in kinds)
    return "image/png" in output.get("data", {}) and whole


def pictured(output: dict[str, Any], n: int) -> dict[str, str]:
    """The words for the `n`-th picture of a section, by what a catalogue calls them."""
    words = output["metadata"]["image/png"]
    return {f"{n}": words["alt"], f"{n} caption": words["caption"]}


@dataclass
class Section:
    """Prose on the left, numbered lines of code on the right."""

    anchor: str
    symbol: str | None
    """The qualified name, if the section begins a class, a function or a field."""
    prose: str = ""
    line: int = 0
    """The line of the file at which the prose begins; 0 where there is none."""
    code: list[tuple[int, str]] = field(default_factory=list)
    path: str = ""
    """The file that the code comes from, if the prose comes from another."""
    outputs: list[dict[str, Any]] = field(default_factory=list)
    """The outputs of the code, as a notebook stores them."""
    folded: str = ""
    """The words shown in place of the code until a reader unfolds it."""
    more: list["Section"] = field(default_factory=list)
    """Further code beside the same prose, each with its outputs."""

    @property
    def pictures(self) -> dict[str, str]:
        """The words for the pictures among the outputs."""
        outputs = [output for part in (self, *self.more) for output in part.outputs]
        shown = enumerate(filter(is_picture, outputs), 1)
        return {key: text for n, output in shown for key, text in pictured(output, n).items()}


@dataclass
class Module:
    """One file: its front matter, its sections, and what it defines."""

    name: str
    path: str
    source: str
    tree: ast.Module
    meta: dict[str, str]
    sections: list[Section]


def qualified(tree: ast.Module) -> list[tuple[str, Any]]:
    """All classes, functions and assignments to a name, by their qualified names."""
    found: list[tuple[str, Any]] = []

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                found.append((prefix + node.name, node))
                walk(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in targets:
                    names = target.elts if isinstance(target, ast.Tuple) else [target]
                    found.extend((prefix + n.id, node) for n in names if isinstance(n, ast.Name))
            elif isinstance(node, ast.If | ast.Try | ast.With):
                walk(node.body, prefix)
                walk(getattr(node, "orelse", []), prefix)

    walk(tree.body, "")
    return found


def first_line(node: Any) -> int:
    """The line at which a definition begins, decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def front_matter(prose: str) -> tuple[dict[str, str], str, int]:
    """
    The `key: value` lines between two rules at the beginning, the rest, and the number of lines
    before the rest.
    """
    lines = prose.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    stripped = [line.strip() for line in lines]
    if stripped[first] != "---" or "---" not in stripped[first + 1 :]:
        return {}, prose, 0
    end = stripped.index("---", first + 1)
    pairs = (line.partition(":") for line in lines[first + 1 : end])
    meta = {key.strip(): value.strip() for key, _, value in pairs}
    return meta, "\n".join(lines[end + 1 :]), end + 1


def read_module(name: str, path: str, source: str) -> Module:
    """Cuts a module into sections. Raises `SyntaxError`, with `path`, if it does not parse."""
    tree = ast.parse(source, filename=path)
    prose, names = prose_lines(source), qualified(tree)
    by_node = {id(node): qualname for qualname, node in reversed(names)}
    heads: dict[int, tuple[str, int]] = {}
    ends: set[int] = set()
    for expression, about in documentation(tree):
        if expression.lineno in prose and id(about) in by_node:
            heads[expression.lineno] = by_node[id(about)], first_line(about)
            ends.add(expression.end_lineno + 1)
    sections: list[Section] = []
    used: dict[str, int] = {}

    def enclosing(line: int) -> str:
        """The innermost class or function around a line, or the module."""
        around = [
            (node.lineno, qualname)
            for qualname, node in names
            if not isinstance(node, ast.Assign | ast.AnnAssign)
            and first_line(node) <= line <= node.end_lineno
        ]
        return max(around)[1] if around else name

    def begin(line: int, symbol: str | None) -> Section:
        base = symbol or enclosing(line)
        used[base] = used.get(base, 0) + 1
        anchor = base if used[base] == 1 else f"{base}-{used[base]}"
        sections.append(Section(anchor, symbol))
        return sections[-1]

    for segment in segments(source):
        if segment.kind == "code":
            section = sections[-1] if sections else begin(segment.start, None)
            section.code += enumerate(segment.lines, segment.start)
        else:
            for part in split(segment, heads.keys() | ends):
                add_prose(part, prose, heads, begin, sections)
    meta: dict[str, str] = {}
    if sections:
        meta, sections[0].prose, before = front_matter(sections[0].prose)
        sections[0].line += before
    return Module(name, path, source, tree, meta, sections)


def split(segment: Segment, at: set[int]) -> list[Segment]:
    """
    Cuts prose at the lines `at`, where a docstring begins or has ended: comments may touch it.
    """
    parts = [Segment("prose", segment.start)]
    for number, line in enumerate(segment.lines, segment.start):
        if number in at and parts[-1].lines:
            parts.append(Segment("prose", number))
        parts[-1].lines.append(line)
    return parts


def add_prose(
    part: Segment,
    prose: dict[int, str],
    heads: dict[int, tuple[str, int]],
    begin: Callable[[int, str | None], Section],
    sections: list[Section],
) -> None:
    """A new section for a piece of prose, with the lines that define what it is about."""
    if not any(prose.get(n, "").strip() for n in range(part.start, part.start + len(part.lines))):
        return
    symbol, first = heads.get(part.start, (None, part.start))
    head: list[tuple[int, str]] = []
    if symbol is not None and sections:
        before = sections[-1].code
        while before and (before[-1][0] >= first):
            head.insert(0, before.pop())
    section = begin(part.start, symbol)
    section.line, section.code = part.start, head
    numbers = range(part.start, part.start + len(part.lines))
    section.prose = "\n".join(prose.get(n, "") for n in numbers).rstrip()


def trimmed(code: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The code without the blank lines at both ends."""
    filled = [i for i, (_, line) in enumerate(code) if line.strip()]
    return code[filled[0] : filled[-1] + 1] if filled else []
