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
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from html import escape
from pathlib import Path

from .glossary import Glossary, Term, glossaries
from .highlight import highlight
from .labels import relabel
from .locale import Language, languages
from .markup import Formulas, Where, renderer, slug
from .mistake import Mistake
from .notebook import notebook_path, source_path
from .order import imported_files, module_files, reading_order
from .outline import entries, used
from .outputs import asset, drawing, figure, notebook_sections, picture, render_outputs, width
from .parts import SOLUTION, Outline, Page, Row, Source
from .sections import Module, Section, front_matter, read_module, trimmed
from .settings import Settings
from .symbols import Symbols
from .texts import first_two, run_text, split_cpp, split_text

NOTATION = "notation"
"""The page whose tables say what symbols are."""

START, NOTEBOOKS, TEXTS = "Start here", "Notebooks", "Notes"
"""The parts of the table of contents that no module belongs to."""

ENGLISH = Language()


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
        self.anchors: dict[tuple[str, int], str] = {}
        """Of each heading of a page, as the English page has them."""
        texts = {name: self.text(name, path) for name, path in settings.pages.items()}
        self.sources = [texts.pop("index")]
        self.sources += self.part(START, [texts.pop(name) for name in settings.first])
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
        self.used = used(self.sources, settings)
        self.imported = {
            source.path: imported_files(source.module.tree, settings)
            for source in self.sources if source.kind == "notebook" and source.module
        }  # fmt: skip
        """Of each notebook, the files of the package that it imports."""
        self.glossaries = {}
        for source in self.sources:
            if source.name == NOTATION:
                self.glossaries = glossaries(source.sections, NOTATION, languages(settings))

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
        files = self.imported
        return [other for other in self.sources
                if other.path in files.get(source.path, ())
                or source.path in files.get(other.path, ())]  # fmt: skip

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

    def link(self, path: str, language: Language, target: str) -> str:
        """
        The address that a link in the file `path` has on the site: the page of another source, in
        the same language if there is one, a file in the repository, or an address on another site.
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
        return language.locate(f"{name}.html") + (f"#{anchor}" if anchor else "")

    def image(self, path: str, language: Language, target: str, alt: str, caption: str) -> str:
        """
        A drawing becomes part of the page, and so takes on its colours and its language; a picture
        is an asset.
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
            svg = relabel(svg, language.label)
            svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
            box = f'<div class="figure" tabindex="0" style="--width: {width(svg) / 16:g}rem">'
            return figure(f"{box}{svg}</div>", caption)
        address = language.locate(asset(whole))
        return figure(picture(address, alt, whole.read_bytes()), caption)

    def resolve(self, module: str | None, language: Language, text: str) -> str | None:
        """The address of a name in backticks, as seen from a page."""
        address = self.symbols.resolve(text, module)
        file = re.fullmatch(r"(?:.*/)?(\w+)\.(cpp|h)", text)
        if file and f"{file[1]}-{file[2]}" in {source.name for source in self.sources}:
            address = f"{file[1]}-{file[2]}.html"
        return address and language.locate(address)

    def page(self, source: Source, language: Language = ENGLISH) -> Page:
        """The page of a source, in English or as the catalogue of a language translates it."""
        translate = partial(language.find, source.name)
        summary = translate("summary", source.meta["summary"]) or source.meta["summary"]
        page = Page(source, language, language.title(source), summary, [], [])
        seen, notes = set[Term](), 0
        for i, section in enumerate(source.sections):
            text = translate(section.anchor, section.prose) if section.prose.strip() else ""
            prose = section.prose if text is None else text
            spoken = ENGLISH if text is None else language
            where = self.where(page, source, section.line, section.anchor, spoken)
            where.heading, where.notes = partial(self.heading, page, section), notes
            html = self.render(prose, where)
            notes += html.count('class="footnote-item"')
            # If the prose begins with a heading, the heading has the anchor.
            anchor = "" if f'id="{section.anchor}"' in html else section.anchor
            row = Row(anchor, html, [], prose, text is None)
            if source.kind == "module":
                row.words = self.words(page, section, seen)
            if i == 0 and prose and source.kind != "module":
                # The introduction has the whole width; what is imported stands below it.
                page.rows.append(row)
                row = Row("", "", [])
            self.put_code(row, source, section, language)
            if row.prose or row.code:
                page.rows.append(row)
        if source.kind == "module":
            page.outline = self.outline(page, translate)
        return page

    def where(
        self, page: Page, source: Source, line: int, name: str, spoken: Language = ENGLISH
    ) -> Where:
        """
        Where a piece of prose from a source is: its names and links lead on from a page. It is
        `spoken` in the language of the page, or not translated.
        """
        module = source.module
        return Where(
            source.path, line, name,
            partial(self.resolve, module.name if module else None, page.language),
            partial(self.link, source.path, page.language),
            partial(self.image, source.path, spoken),
            say=spoken.say,
        )  # fmt: skip

    def words(self, page: Page, section: Section, seen: set[Term]) -> list[tuple[str, str, bool]]:
        """What the symbols of a section are, if it has only a formula."""
        glossary = self.glossaries.get(page.lang, self.glossaries.get("en", Glossary()))
        name = (section.symbol or "").split(".")[-1]
        terms, found = glossary.terms(section.prose, name, seen), []
        for term in terms:
            notation = next(source for source in self.sources if source.name == NOTATION)
            where = self.where(page, notation, term.line, "words")
            just = len(terms) == 1 and glossary.just(section.prose)
            symbols = "" if just else self.inline(term.symbols, where)
            found.append((symbols, self.inline(term.words, where), term.english))
        return found

    def inline(self, text: str, where: Where) -> str:
        """A piece of Markdown that is less than a paragraph, as HTML."""
        return self.render(text, where).strip().removeprefix("<p>").removesuffix("</p>")

    def outline(self, page: Page, translate: Callable[[str, str], str | None]) -> Outline:
        """What the file of a page of code defines, what it uses, and what uses it."""
        source = page.source
        found = entries(source, translate)
        for entry in found:
            where = self.where(page, source, 1, "outline")
            entry.summary = self.inline(entry.summary, where)
            if not entry.name:
                # It is a link itself, and so can have none within.
                entry.summary = re.sub("</?a[^>]*>", "", entry.summary)
        by = [s for s in self.sources if source in self.used.get(s.name, [])]
        return Outline(found, self.used[source.name], by)

    def put_code(self, row: Row, source: Source, section: Section, language: Language) -> None:
        """Adds the code of a section, and its outputs, to a row."""
        parts = [section, *section.more]
        row.more = [Row("", "") for _ in section.more]
        name = f"{source.name}-{section.anchor}"

        def describe(key: str, text: str) -> str | None:
            return language.find(source.name, f"{section.anchor} {key}", text)

        try:
            outputs, files = render_outputs(
                [part.outputs for part in parts], language.locate(""), name, language.say, describe
            )
        except ValueError as error:
            what = f"it has an output that cannot be shown ({error})"
            raise Mistake(source.path, 1, what, "restore it") from None
        self.files |= files
        for part, shown, html in zip(parts, (row, *row.more), outputs, strict=True):
            self.put_lines(shown, source, part, language)
            shown.outputs = html

    def put_lines(self, row: Row, source: Source, section: Section, language: Language) -> None:
        """Adds the code of a section to a row."""
        row.path, row.hides = section.path or source.path, section.folded == SOLUTION
        row.folded = language.say(section.folded) if section.folded else ""
        row.place = f"{Path(section.path).stem}-" if section.path else ""
        if section.code:
            code = self.lines(row.path, source, language)
            row.code = [(n, code[n - 1]) for n, _ in trimmed(section.code)]

    def lines(self, path: str, source: Source, language: Language) -> list[str]:
        """All lines of a file as HTML, with links as seen from a page in a language."""
        if (path, language.lang) not in self.highlighted:
            module = self.modules.get(path, source.module)
            links = self.symbols.links(module) if module else {}
            links = {place: language.locate(address) for place, address in links.items()}
            text = module.source if module else source.text
            kind = "cpp" if path.endswith((".cpp", ".h")) else "python"
            self.highlighted[path, language.lang] = highlight(text, links, kind)
        return self.highlighted[path, language.lang]

    def heading(self, page: Page, section: Section, text: str, level: int) -> str:
        """
        Records a heading. Its anchor is that of the section it begins, or else of its words in
        English, so that a link leads to the same place in every language.
        """
        taken = [anchor for _, _, anchor in page.headings]
        key = page.source.name, len(taken)
        anchor = section.anchor if section.anchor not in taken else slug(text)
        while anchor in taken:
            anchor += "-2"
        anchor = self.anchors.setdefault(key, anchor)
        page.headings.append((level, text, anchor))
        return anchor
