r"""
---
title: Segments
summary: A module, cut into prose and code, and each piece of prose beside the code it is about.
---

# Segments

What is prose in a Python file? Docstrings, the strings below a field that say what the field is,
and comments that have a line to themselves. Everything else is code. `pylit` cuts a file in this
way, but it recognises comments in the first column only. So a filter runs first, through a hook
that `pylit` provides: it lifts all prose to the first column and keeps the number of each line.

Then each piece of prose is put beside the code that follows it, up to the next piece. Some code
comes before its prose: the `class` or `def` line, and the assignment that a string documents.
"""

import ast
import io
import re
import textwrap
import tokenize
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

with warnings.catch_warnings():
    # pylit 0.8.0 has an invalid escape sequence in a docstring.
    warnings.simplefilter("ignore")
    import pylit

Kind = Literal["prose", "code"]

NUMBER, END, ESCAPE = "\ue000", "\ue001", "\ue002"
MARKED = re.compile(f"{NUMBER}(\\d+){END}")


@dataclass
class Segment:
    """Lines of one kind, one after the other."""

    kind: Kind
    start: int
    """The number of the first line."""
    lines: list[str] = field(default_factory=list)
    """As they stand in the file."""


def documentation(tree: ast.AST) -> Iterator[tuple[Any, Any]]:
    """
    All strings that stand alone, and what each is about: the class, function or module that it
    begins, or the assignment that it follows.
    """
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            body = getattr(node, name, None)
            if not isinstance(body, list):
                continue
            for i, child in enumerate(body):
                value = child.value if isinstance(child, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield child, body[i - 1] if i > 0 else node


def prose_lines(source: str) -> dict[int, str]:
    """The text of each line of prose, by the number of the line."""
    lines, prose = source.split("\n"), {}
    for token in tokenize.generate_tokens(io.StringIO(source, newline="").readline):
        alone = token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip()
        if alone and not token.string.startswith(("#!", "#:", "#%")):
            prose[token.start[0]] = token.string[1:].removeprefix(" ").rstrip("\r")
    for node, _ in documentation(ast.parse(source)):
        first, last = lines[node.lineno - 1], lines[node.end_lineno - 1]
        before = first.encode()[: node.col_offset].strip()
        after = last.encode()[node.end_col_offset :].strip()
        raw = first.encode()[node.col_offset :].decode()
        quotes = re.match(r"[rR]?(\"\"\"|''')", raw)
        if before or after or quotes is None:
            continue
        # The quotes, and not the prose, give the indentation of the block.
        body = [line.rstrip("\r") for line in lines[node.lineno - 1 : node.end_lineno]]
        body[0] = " " * node.col_offset + raw[quotes.end() :].rstrip("\r")
        body[-1] = body[-1].rstrip().removesuffix(quotes[1])
        text = textwrap.dedent("\n".join(body)).split("\n")
        prose.update((node.lineno + i, line) for i, line in enumerate(text))
    return prose


def lift(data: Iterable[str]) -> Iterator[str]:
    """
    The filter before pylit: each line replaced by its number, prose as comments in the first
    column, and a blank line wherever prose and code meet.
    """
    source, previous = "".join(data), None
    prose = prose_lines(source)
    lines = source.split("\n")
    if lines[-1] == "":
        lines.pop()
    for n, line in enumerate(lines, 1):
        mark = f"{NUMBER}{n}{END}\n"
        kind = "prose" if n in prose else "code" if line.strip() else "blank"
        if previous is not None and kind not in ("blank", previous):
            yield "\n"
        if kind != "blank":
            previous = kind
        if kind == "prose" or (kind == "blank" and previous == "prose"):
            yield f"# {mark}"
        else:
            # Escaped: code may begin with a number sign in the first column too, as `#!` does.
            yield ESCAPE + mark


pylit.defaults.preprocessors["python2text"] = lift


def segments(source: str) -> list[Segment]:
    """
    The lines of `source` in segments of prose and code, in order. Joined, they are the file again.
    Raises `SyntaxError` if it does not parse.
    """
    lines = source.split("\n")
    if lines[-1] == "":
        lines.pop()
    converter = pylit.Code2Text(
        source.splitlines(keepends=True), codeindent=0, add_missing_marker=False, header_string=""
    )
    result: list[Segment] = []
    for line in converter:
        kind: Kind = "code" if converter.state in ("header", "code_block") else "prose"
        for number in map(int, MARKED.findall(line)):
            if not result or result[-1].kind != kind:
                result.append(Segment(kind, number))
            result[-1].lines.append(lines[number - 1])
    return result
