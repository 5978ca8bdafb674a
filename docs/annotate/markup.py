r"""
---
title: Prose
summary: Markdown with formulas and names, as HTML.
---

# Prose

Markdown, with three additions. Formulas are written between dollar signs. They are collected here
and rendered by KaTeX all at once, when all pages are known, since starting KaTeX takes longer than
rendering a hundred formulas. A name in backticks becomes a link to its definition. And HTML is not
interpreted: it is shown as it is written, and never run.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin

from .highlight import highlight
from .mistake import Mistake

OPTION = re.compile(r"(?<= )(--?[a-z][^ ]*(?: [^- ][^ ]*)?)")
"""An option of a command, with its value."""

SHORT = 20
"""Code of so many characters stands on one line."""

RANGE = re.compile(r"[(（]?\d[\d.,]*(?: to | සිට | ?(?:から|到|至) ?|[–～〜])\d(?:[\d.,]*\d)?[)）]?")
"""From one number to another, in the words of any language."""

NUMBER = re.compile(
    rf"\**[−-]?\d[\d.,]*( ?[%×]| m?s| MiB| KB)?\**( ?{RANGE.pattern})?|{RANGE.pattern}|"
)
"""What a column of numbers may contain: numbers, ranges of them, and nothing."""


def slug(text: str) -> str:
    """A heading as the name of an anchor."""
    return re.sub(r"[^\w]+", "-", text.lower()).strip("-") or "section"


@dataclass
class Formulas:
    """All formulas of a site, each once; in HTML a placeholder stands for each."""

    places: dict[tuple[str, bool], tuple[str, int]] = field(default_factory=dict)
    """Maps a formula, and whether it is displayed, to the place where it is first used."""

    def hold(self, tex: str, display: bool, path: str, line: int) -> str:
        """A placeholder for a formula."""
        key = tex.strip(), display
        self.places.setdefault(key, (path, line))
        return f"\ue010{list(self.places).index(key)}\ue011"

    def fill(self, html: str, rendered: list[str]) -> str:
        """The HTML with all formulas in their places."""

        def put(match: re.Match[str]) -> str:
            # A punctuation mark after a formula must not begin the next line.
            whole = rendered[int(match[1])] + match[2]
            return f'<span class="together">{whole}</span>' if match[2] else whole

        return re.sub("\ue010(\\d+)\ue011([.,:;)?。、，．：；）？」』]*)", put, html)


@dataclass
class Where:
    """What the renderer needs to know about the place of a piece of prose."""

    path: str
    line: int
    name: str
    """A name that no other piece of the page has, for its footnotes."""
    resolve: Callable[[str], str | None]
    """Maps a name in backticks to its address; raises `LookupError`."""
    link: Callable[[str], str]
    """Maps the target of a link, as written, to its address; raises `LookupError`."""
    image: Callable[[str, str, str], str]
    """
    Maps the target of an image, its alternative text and its caption to HTML; raises `LookupError`.
    """
    heading: Callable[[str, int], str] | None = None
    """Records a heading, and returns its anchor."""
    say: Callable[[str], str] = str
    """Translates the words around the prose."""
    notes: int = 0
    """How many footnotes the page has before this piece of prose."""


def line_of(tokens: Any, i: int, env: dict[str, Any]) -> int:
    """The line of the file that a token is on; an inline token is found from its block's line."""
    if tokens[i].map:
        return env["where"].line + tokens[i].map[0]
    breaks = sum(token.type in ("softbreak", "hardbreak") for token in tokens[:i])
    return env.get("block", env["where"].line) + breaks


def pictures(inline: Any) -> int:
    """How many images a paragraph consists of; none if there is anything else in it."""
    kinds = [token.type for token in inline.children or ()]
    return 0 if set(kinds) - {"image", "softbreak"} else kinds.count("image")


class Prose(RendererHTML):
    """
    Renders each kind of token by the method of the same name. `env` holds the collected `formulas`
    and, as `where`, the place of the prose. Raises `Mistake` for a name, a link or an image that
    leads nowhere.
    """

    def text(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """Plain text; a line does not break within a range of numbers."""
        text = super().text(tokens, i, options, env)
        return RANGE.sub(r'<span class="together">\g<0></span>', text)

    def math_inline(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """An inline formula: a placeholder."""
        return env["formulas"].hold(
            tokens[i].content, False, env["where"].path, line_of(tokens, i, env)
        )

    def math_block(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """A displayed formula: a box that scrolls, since the formula may be wider than the page."""
        held = env["formulas"].hold(
            tokens[i].content, True, env["where"].path, line_of(tokens, i, env)
        )
        label = escape(env["where"].say("Formula"))
        return f'<div class="math" tabindex="0" role="group" aria-label="{label}">{held}</div>\n'

    math_inline_double = math_block

    def code_inline(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """Code, and a link if it is a name."""
        where, text = env["where"], tokens[i].content
        try:
            address = where.resolve(text)
        except LookupError as error:
            raise Mistake(
                where.path, line_of(tokens, i, env), str(error.args[0]),
                "correct the name, or list it under known in [tool.annotate] of pyproject.toml",
            ) from None  # fmt: skip
        # A line may break before an option, but not within it.
        code = OPTION.sub(r'<span class="together">\1</span>', escape(text, quote=False))
        together = ' class="together"' if len(text) <= SHORT else ""
        code = f"<code{together}>{code}</code>"
        return f'<a href="{escape(address)}">{code}</a>' if address else code

    def link_open(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """A link to the target's address on the site."""
        where, token = env["where"], tokens[i]
        target = str(token.attrs["href"])
        try:
            token.attrs["href"] = where.link(target)
        except LookupError as error:
            raise Mistake(
                where.path, line_of(tokens, i, env), f"the link to {target} leads nowhere",
                str(error.args[0]),
            ) from None  # fmt: skip
        return self.renderToken(tokens, i, options, env)

    def image(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """An image with its alternative text, and the title as its caption."""
        where, token = env["where"], tokens[i]
        target, alt = str(token.attrs["src"]), " ".join(token.content.split())
        try:
            return where.image(target, alt, " ".join(str(token.attrs.get("title", "")).split()))
        except LookupError as error:
            raise Mistake(
                where.path, line_of(tokens, i, env), f"the image {target} is not there",
                str(error.args[0]),
            ) from None  # fmt: skip

    def fence(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """A block of code, coloured if its language is known."""
        text, language = tokens[i].content.rstrip("\n"), tokens[i].info.strip()
        lines = [escape(line, quote=False) for line in text.split("\n")]
        if language in ("python", "cpp"):
            lines = highlight(text, language=language)
        code = "\n".join(lines)
        return f'<pre class="block" tabindex="0"><code>{code}\n</code></pre>\n'

    def code_block(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """An indented block of code, rendered in the same way."""
        return self.fence(tokens, i, options, env)

    def heading_open(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """A heading, which is recorded and gets its anchor."""
        where, token = env["where"], tokens[i]
        if where.heading is not None:
            inner = tokens[i + 1].children
            text = "".join(child.content for child in inner if child.type != "softbreak")
            token.attrs["id"] = where.heading(text, int(token.tag[1]))
        return self.renderToken(tokens, i, options, env)

    def table_open(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """A table, in a box that scrolls; columns that hold only numbers are marked."""
        rows: list[list[Any]] = []
        for token, inner in pairwise(tokens[i:]):
            if token.type == "table_close":
                break
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                rows[-1].append((token, inner.content))
        for column in zip(*rows, strict=True):
            if all(NUMBER.fullmatch(text) for _, text in column[1:]):
                for token, _ in column:
                    token.attrSet("class", "number")
        label = escape(env["where"].say("Table"))
        return f'<div class="wide" tabindex="0" role="group" aria-label="{label}"><table>\n'

    def table_close(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """The end of the table and its box."""
        return "</table></div>\n"

    def footnote_caption(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """The number of a footnote. They are counted through the page, not through a section."""
        return f"[{env['where'].notes + tokens[i].meta['id'] + 1}]"

    def footnote_block_open(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """The list of the footnotes of a section."""
        first = env["where"].notes + 1
        return f'<hr>\n<section class="footnotes">\n<ol start="{first}">\n'

    def paragraph_open(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """
        Records the line of the paragraph, since inline tokens do not know theirs. A figure is no
        part of a paragraph; several figures stand side by side.
        """
        env["block"] = line_of(tokens, i, env)
        if count := pictures(tokens[i + 1]):
            return '<div class="beside">\n' if count > 1 else ""
        return self.renderToken(tokens, i, options, env)

    def paragraph_close(self, tokens: Any, i: int, options: Any, env: Any) -> str:
        """The end of the paragraph, or of figures side by side."""
        if count := pictures(tokens[i - 1]):
            return "</div>\n" if count > 1 else "\n"
        return self.renderToken(tokens, i, options, env)


def renderer(formulas: Formulas) -> Callable[[str, Where], str]:
    """A function from Markdown to HTML; raises `Mistake` for a name or link that leads nowhere."""
    md = MarkdownIt("commonmark", {"html": False}, renderer_cls=Prose)
    md.enable(["table", "strikethrough"])
    md.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)
    md.use(footnote_plugin)
    math = "math_inline", "math_inline_double", "math_block"
    for name in (*math, "footnote_caption", "footnote_block_open"):
        # The plugins have replaced these methods with their own.
        md.add_render_rule(name, getattr(Prose, name))
    return lambda text, where: md.render(
        text, {"where": where, "docId": where.name, "formulas": formulas}
    )
