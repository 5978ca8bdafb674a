r"""
---
title: Code
summary: Lines of code as HTML: coloured, numbered, and each name a link to its definition.
---

# Code

A file is coloured as a whole and then cut into lines, so that a string over many lines keeps its
colour. The number of a line is a link to that line in the repository. It is drawn by the style
sheet, so it is not copied along with the code.
"""

from functools import cache
from html import escape
from typing import Any

from pygments.lexers import CppLexer, PythonLexer
from pygments.token import STANDARD_TYPES, Token

PLAIN = {"", "p", "o", "w", "nn"}
"""Kinds of token that look like the text around them."""


def css_class(kind: Any) -> str:
    """The short name of a kind of token, or that of its nearest ancestor that has one."""
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    return STANDARD_TYPES[kind]


@cache
def tokens(source: str, language: str) -> list[tuple[Any, str]]:
    """The tokens of `source`, each with its kind: once, however often a file is shown."""
    lexer = {"python": PythonLexer, "cpp": CppLexer}[language](ensurenl=False, stripnl=False)
    return [(kind, value) for _, kind, value in lexer.get_tokens_unprocessed(source)]


def highlight(
    source: str, links: dict[tuple[int, int], str] | None = None, language: str = "python"
) -> list[str]:
    """The lines of `source` as HTML. `links` maps the line and column of a name to its address."""
    links = links or {}
    lines, line, column = [""], 1, 0
    for kind, value in tokens(source, language):
        name = css_class(kind)
        for i, part in enumerate(value.split("\n")):
            if i > 0:
                lines.append("")
                line, column = line + 1, 0
            if not part:
                continue
            html = escape(part, quote=False)
            if (line, column) in links and kind in Token.Name:
                html = f'<a href="{links[line, column]}">{html}</a>'
            elif name not in PLAIN:
                html = f'<span class="{name}">{html}</span>'
            lines[-1] += html
            column += len(part)
    return lines
