r"""
---
title: Pages
summary: What each page is made of, in English and in other languages.
---

# Pages

A page is made of one source: a module, a notebook, a text, or the folder of a recorded run. All of
them are cut into sections: prose, perhaps with code. A translated page has the same sections with
translated prose; where a translation is missing, the English text appears, with a note.
"""

import ast
import re
from collections.abc import Iterable, Iterator
from functools import partial
from html import escape
from pathlib import Path

from .highlight import highlight
from .locale import Catalogue
from .markup import Formulas, Where, renderer, slug
from .mistake import Mistake
from .notebook import notebook_path, source_path
from .order import imported_files, module_files, reading_order
from .outputs import asset, drawing, figure, notebook_sections, picture, render_outputs
from .parts import Page, Row, Source
from .sections import Module, Section, front_matter, read_module
from .settings import Settings
from .symbols import Symbols
from .texts import run_text, split_cpp, split_text

NOTEBOOKS, TEXTS = "Notebooks", "Notes"
"""The parts of the table of contents that no module belongs to."""


class Builder:
    """Turns sources into pages."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.formulas = Formulas()
        self.render = renderer(self.formulas)
        parts = reading_order(settings)
        files = module_files(settings)
        modules = {name: self.read(name, file) for name, file in files.items()}
        self.symbols = Symbols.of(settings, list(modules.values()))
        self.modules = {module.path: module for module in modules.values()}
        self.files: dict[str, bytes] = {}
        """The contents of pictures, by their names on the site."""
        self.highlighted: dict[tuple[str, str], list[str]] = {}
        texts = {name: self.text(name, path) for name, path in settings.pages.items()}
        self.sources = [texts.pop("index")]
        self.sources += self.part(NOTEBOOKS, map(self.notebook, settings.notebooks))
        for part, names in parts.items():
            self.sources += self.part(part, (s for n in names for s in self.code(modules[n])))
        self.sources += self.part(TEXTS, texts.values())
        self.sources += self.runs()
        for source in self.sources:
            for key in ("title", "summary"):
                if not source.meta.get(key):
                    raise Mistake(
                        source.path, 1, f"there is no {key}", f"add `{key}:` to the front matter"
                    )

    def part(self, title: str, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources, each assigned to a part of the table of contents."""
        for source in sources:
            source.part = title
            yield source

    def read(self, name: str, path: str) -> Module:
        """A module; raises `Mistake` if it does not parse."""
        source = (self.settings.root / path).read_bytes().decode()
        try:
            return read_module(name, path, source)
        except SyntaxError as error:
            raise Mistake(path, error.lineno or 1, error.msg, "correct the module") from None

    def code(self, module: Module) -> Iterator[Source]:
        """
        A page for a module and, if there is a C++ file of the same name, one for that file and one
        for each file of the repository that it includes.
        """
        yield Source(
            module.name, module.path, "module", module.meta, module.sections, module.source, module
        )
        path = Path(module.path).with_suffix(".cpp")
        if (self.settings.root / path).exists():
            text = (self.settings.root / path).read_text(encoding="utf-8")
            included = re.findall(r'^#include "(.+)"$', text, re.M)
            for file in (path, *(path.parent / name for name in included)):
                yield self.cpp(file)

    def cpp(self, path: Path) -> Source:
        """A C++ file; its first two paragraphs are the title and the summary."""
        text = (self.settings.root / path).read_text(encoding="utf-8")
        sections = split_cpp(text)
        if not sections[0].prose.startswith("# "):
            sections[0].prose = f"# {path.name}\n\n{sections[0].prose}"
        name, meta = f"{path.stem}-{path.suffix[1:]}", first_two(sections[0].prose)
        return Source(name, path.as_posix(), "module", meta, sections, text)

    def notebook(self, name: str) -> Source:
        """A notebook with its outputs; its first two paragraphs are the title and the summary."""
        path = source_path(name)
        text = (self.settings.root / path).read_text(encoding="utf-8")
        sections = notebook_sections(self.settings, name)
        meta = first_two(sections[0].prose)
        module = Module(name, path, text, ast.parse(text), meta, sections)
        return Source(name, path, "notebook", meta, sections, text, module)

    def related(self, source: Source) -> list[Source]:
        """For a notebook, the modules it imports; for a module, the notebooks that import it."""
        found = []
        for other in self.sources:
            pair = {source.kind: source.module, other.kind: other.module}
            notebook, module = pair.get("notebook"), pair.get("module")
            if notebook and module and module.path in imported_files(notebook.tree, self.settings):
                found.append(other)
        return found

    def text(self, name: str, path: str) -> Source:
        """A text; without front matter, its first two paragraphs are the title and the summary."""
        if not (self.settings.root / path).exists():
            raise Mistake(
                "pyproject.toml", 1, f"there is no {path}",
                "correct the path under [tool.annotate.pages]",
            )  # fmt: skip
        text = (self.settings.root / path).read_text(encoding="utf-8")
        meta, body, before = front_matter(text)
        if not meta:
            meta = first_two(body)
        return Source(name, path, "page", meta, split_text(body, before + 1), text)

    def runs(self) -> Iterator[Source]:
        """A page for each recorded run: its curves, what it writes, and its settings."""
        for config in sorted((self.settings.root / "docs/runs").glob("*/config.json")):
            path, text = config.relative_to(self.settings.root).as_posix(), run_text(config.parent)
            meta, body, _ = front_matter(text)
            name = f"run-{config.parent.name}"
            yield Source(name, path, "run", meta, split_text(body, 1), text)

    def link(self, path: str, prefix: str, target: str) -> str:
        """
        The address that a link in the file `path` has on the site: the page of another source, a
        file in the repository, or an address on another site.
        """
        if re.match(r"[a-z]+:", target) or target.startswith("#"):
            return target
        file, _, anchor = target.partition("#")
        root = self.settings.root.resolve()
        whole = (root / path).parent.joinpath(file).resolve()
        if not whole.is_relative_to(root) or not whole.exists():
            raise LookupError(f"there is no file {file}; correct the path")
        relative = whole.relative_to(root).as_posix()
        pages = {source.path: source.name for source in self.sources}
        pages |= {notebook_path(name): name for name in self.settings.notebooks}
        # A link to the folder of a recorded run leads to its page.
        name = pages.get(relative, pages.get(f"{relative}/config.json"))
        if name is None:
            return self.settings.source(relative)
        return f"{prefix}{name}.html" + (f"#{anchor}" if anchor else "")

    def image(self, path: str, prefix: str, target: str, alt: str, caption: str) -> str:
        """
        A drawing becomes part of the page, and so takes on its colours; a picture is an asset.
        """
        whole, root = (self.settings.root / path).parent / target, self.settings.root.resolve()
        if not alt:
            raise LookupError("an image needs a text that says what it shows")
        if not caption:
            raise LookupError('an image needs a caption: ![text](file "caption")')
        if not whole.is_file() or not whole.resolve().is_relative_to(root):
            raise LookupError("correct the path; it must be a file of the repository")
        if whole.suffix == ".svg":
            svg = drawing(whole.read_text(encoding="utf-8"))
            svg = svg.replace("<svg", f'<svg role="img" lang="en" aria-label="{escape(alt)}"', 1)
            return figure(f'<div class="figure" tabindex="0">{svg}</div>', caption)
        address = f"{prefix}{asset(whole)}"
        return figure(picture(address, alt, whole.read_bytes()), caption)

    def resolve(self, module: str | None, prefix: str, text: str) -> str | None:
        """The address of a name in backticks, as seen from a page."""
        address = self.symbols.resolve(text, module)
        file = re.fullmatch(r"(?:.*/)?(\w+)\.(cpp|h)", text)
        if file and f"{file[1]}-{file[2]}" in {source.name for source in self.sources}:
            address = f"{file[1]}-{file[2]}.html"
        return address and prefix + address

    def page(self, source: Source, catalogue: Catalogue | None = None) -> Page:
        """The page of a source, in English or as a catalogue translates it."""
        lang = catalogue.lang if catalogue else "en"
        translate = catalogue.get if catalogue else lambda context, text: text
        module = source.module
        title, summary = (
            translate(key, source.meta[key]) or source.meta[key] for key in ("title", "summary")
        )
        page = Page(source, lang, title, summary, [], [])
        for i, section in enumerate(source.sections):
            text = translate(section.anchor, section.prose) if section.prose.strip() else ""
            prose = section.prose if text is None else text
            where = Where(
                source.path, section.line, section.anchor,
                partial(self.resolve, module.name if module else None, page.prefix),
                partial(self.link, source.path, page.prefix),
                partial(self.image, source.path, page.prefix),
                partial(self.heading, page, section),
            )  # fmt: skip
            html = self.render(prose, where)
            # If the prose begins with a heading, the heading has the anchor.
            anchor = "" if f'id="{section.anchor}"' in html else section.anchor
            row = Row(anchor, html, [], prose, text is None)
            if i == 0 and prose:
                # The introduction has the whole width; the imports stand below it.
                page.rows.append(row)
                row = Row("", "", [])
            self.put_code(row, source, section, page.prefix)
            if row.prose or row.code:
                page.rows.append(row)
        return page

    def put_code(self, row: Row, source: Source, section: Section, prefix: str) -> None:
        """Adds the code of a section, and its outputs, to a row."""
        self.put_lines(row, source, section, prefix)
        name = f"{source.name}-{section.anchor}"
        for part in section.more:
            row.more.append(Row("", ""))
            self.put_lines(row.more[-1], source, part, prefix)
        pictures = 0
        for part, shown in zip((section, *section.more), (row, *row.more), strict=True):
            try:
                shown.outputs, files = render_outputs(part.outputs, prefix, name, pictures)
            except ValueError as error:
                what = f"it has an output that cannot be shown ({error})"
                raise Mistake(source.path, 1, what, "restore it") from None
            self.files |= files
            pictures += len(files)

    def put_lines(self, row: Row, source: Source, section: Section, prefix: str) -> None:
        """Adds the code of a section to a row."""
        row.path, row.folded = section.path or source.path, section.folded
        row.place = f"{Path(section.path).stem}-" if section.path else ""
        if section.code:
            code = self.lines(row.path, source, prefix)
            row.code = [(n, code[n - 1]) for n, _ in trimmed(section.code)]

    def lines(self, path: str, source: Source, prefix: str) -> list[str]:
        """All lines of a file as HTML, with links as seen from a page."""
        if (path, prefix) not in self.highlighted:
            module = self.modules.get(path, source.module)
            links = self.symbols.links(module) if module else {}
            links = {place: prefix + address for place, address in links.items()}
            text = module.source if module else source.text
            language = "cpp" if path.endswith((".cpp", ".h")) else "python"
            self.highlighted[path, prefix] = highlight(text, links, language)
        return self.highlighted[path, prefix]

    def heading(self, page: Page, section: Section, text: str, level: int) -> str:
        """Records a heading; its anchor is that of the section it begins, in every language."""
        taken = {anchor for _, _, anchor in page.headings}
        anchor = section.anchor if section.anchor not in taken else slug(text)
        while anchor in taken:
            anchor += "-2"
        page.headings.append((level, text, anchor))
        return anchor


def first_two(text: str) -> dict[str, str]:
    """The first two paragraphs of a text are its title and its summary."""
    heading, first = (part.strip() for part in f"{text}\n\n".split("\n\n")[:2])
    return {"title": heading.lstrip("# "), "summary": " ".join(first.split())}


def trimmed(code: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The code without the blank lines at both ends."""
    filled = [i for i, (_, line) in enumerate(code) if line.strip()]
    return code[filled[0] : filled[-1] + 1] if filled else []
