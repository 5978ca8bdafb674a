r"""
---
title: The site
summary: From sources to pages: which pages there are, in which order, and how they are written.
---

# The site

The whole site is first made in memory, as a dictionary from file names to contents. Only then is it
written to disk or, by `check`, compared with what is there. Nothing in it depends on the time, the
machine, or the order in which a folder is listed, so two builds are byte for byte the same.
"""

import base64
import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import jinja2

from . import formulas as katex
from . import outputs
from .demo import models
from .labels import all_labels
from .locale import INTERFACE, NAMES, Catalogue, Language, Message, languages, scripts, spoken
from .mistake import Mistake
from .pages import Builder
from .parts import Page, Source
from .settings import Settings

THEME = katex.THEME

FIRST = """
document.documentElement.classList.add("script");
try { const t = localStorage.theme; if (t) document.documentElement.dataset.theme = t } catch {}
"""
"""The one script in a page itself, which runs before anything is drawn."""


def policy() -> str:
    """
    ## What a page may do

    The content security policy: scripts and pictures come from the site's own files, one script is
    known by its hash, and nothing goes anywhere else. So a script that somebody smuggles into a
    picture or into the output of a notebook does not run. (Formulas are laid out by styles in their
    elements, so these are allowed.)
    """
    own = base64.b64encode(hashlib.sha256(FIRST.encode()).digest()).decode()
    return "; ".join((
        "default-src 'none'", f"script-src 'self' 'sha256-{own}'",
        "style-src 'self' 'unsafe-inline'", "img-src 'self' data:", "font-src 'self'",
        "base-uri 'self'", "form-action 'none'",
    ))  # fmt: skip


@dataclass
class Site:
    """All files of a site."""

    files: dict[str, bytes]

    def write(self, target: Path) -> None:
        """Replaces the folder `target`, once the new folder has been written beside it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".site-") as folder:
            new, old = Path(folder) / "new", Path(folder) / "old"
            for name, content in self.files.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(content)
            if target.exists():
                target.rename(old)
            new.rename(target)


def assets() -> dict[str, bytes]:
    """Style, script, and KaTeX with its fonts: everything that pages load."""
    katex_folder = THEME / "node_modules/katex"
    files = {f"assets/{p.name}": p.read_bytes() for p in sorted(THEME.glob("*.*"))
             if p.suffix in (".css", ".js", ".svg", ".png") }  # fmt: skip
    files["assets/katex/katex.min.css"] = (katex_folder / "dist/katex.min.css").read_bytes()
    files["assets/katex/LICENSE"] = (katex_folder / "LICENSE").read_bytes()
    for font in sorted((katex_folder / "dist/fonts").glob("*.woff2")):
        files[f"assets/katex/fonts/{font.name}"] = font.read_bytes()
    return files


def plain(markdown: str) -> str:
    """A text without headings, formulas and markup."""
    text = re.sub(r"^#.*$", "", markdown, flags=re.M)
    text = re.sub(r"\$\$.*?\$\$|\[\^\w+\]:?", " ", text, flags=re.S)
    text = re.sub(r"\$[^$]*\$", "…", text)
    return " ".join(re.sub(r"\]\([^)]*\)|[*`|\[\]!]", " ", text).split())


def search_index(pages: list[Page], name: str = "INDEX") -> bytes:
    """What the search looks through: for each heading or symbol, its page and its text."""
    entries = []
    for page in pages:
        headings = {anchor: heading for _, heading, anchor in page.headings}
        title = page.title
        for row in page.rows:
            at = next((a for a in re.findall(r'id="([^"]+)"', row.prose)), row.anchor)
            # A section is named after its symbol or its heading, or else like the one before it.
            title = headings.get(at, title)
            symbol = page.source.module is not None and page.source.kind == "module" and row.code
            named = at if symbol and at != page.source.name else title
            if re.search(r"\w", text := plain(row.text)):
                entries.append([page.path, at, page.title, named, text])
    return f"const {name} = {json.dumps(entries, ensure_ascii=False)};\n".encode()


WORDS = ["template.html", "contents.html", "outline.html", "page.js"]
"""The files of the theme that say something on every page."""


def interface(sources: list[Source], language: Language | None = None) -> list[Message]:
    """The words around the text of pages, and the titles of those that a language does not have."""
    words = list(dict.fromkeys([*INTERFACE, *spoken(WORDS), *(s.part for s in sources if s.part)]))
    titles = [s for s in sources if s.kind != "run" and not (language and language.has(s.name))]
    return [(w, w) for w in words] + [(f"title {s.name}", s.meta["title"]) for s in titles]


def translated(builder: Builder, language: Language) -> list[Page]:
    """The pages of a language; raises `Mistake` if a catalogue belongs to another version."""
    sources, pages = {source.name: source for source in builder.sources}, []
    for name, catalogue in language.catalogues.items():
        if name == "interface":
            catalogue.check(interface(builder.sources))
        elif name == "drawings":
            catalogue.check((text, text) for text in all_labels(builder.settings, builder.sources))
        elif name in sources:
            catalogue.check(sources[name].messages())
            pages.append(builder.page(sources[name], language))
        else:
            raise Mistake(catalogue.path, 1, f"there is no page {name}", "remove the file")
    return pages


def script_words(page: Page) -> dict[str, str]:
    """What the scripts of a page say, in its language."""
    own = {text: page.language.find(page.source.name, text, text) or text
           for text in spoken(scripts(page.source.meta))}  # fmt: skip
    return {text: page.language.say(text) for text in spoken(["page.js"])} | own


def build(settings: Settings) -> Site:
    """
    ## The build

    Reads all sources and returns all files. Raises `Mistake` if something is wrong in a source, and
    `ValueError` if something is not installed.
    """
    builder, (english, *others) = Builder(settings), languages(settings).values()
    pages = [builder.page(source) for source in builder.sources]
    foreign = {language.lang: translated(builder, language) for language in others}
    every = pages + [page for mine in foreign.values() for page in mine]
    rendered = katex.render(builder.formulas)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(THEME), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    shared = {
        "settings": settings, "policy": policy(), "first_script": FIRST, "names": NAMES,
        "sources": builder.sources, "pages": every,
    }  # fmt: skip
    template = environment.get_template("template.html")
    files = assets() | outputs.assets(settings) | builder.files
    files |= models(settings, builder.sources)
    files["assets/search.js"] = search_index(pages)
    for lang, mine in foreign.items():
        files[f"assets/search-{lang}.js"] = search_index(mine, "TRANSLATED")
    for page in every:
        i = builder.sources.index(page.source)
        html = template.render(
            shared, page=page, language=page.language, say=page.language.say,
            words=script_words(page), related=builder.related(page.source),
            versions=[p for p in every if p.source is page.source],
            previous=builder.sources[i - 1] if i > 0 else None,
            next=builder.sources[i + 1] if i + 1 < len(builder.sources) else None,
        )  # fmt: skip
        files[page.path] = builder.formulas.fill(html, rendered).encode()
    for run in sorted((settings.root / "docs/runs").glob("*/*.png")):
        files[outputs.asset(run)] = run.read_bytes()
    for name in ("404.html", "sitemap.xml"):
        text = environment.get_template(name).render(shared, language=english, say=english.say)
        files[name] = text.encode()
    for before, now in settings.moved.items():
        moved = environment.get_template("moved.html").render(now=now, settings=settings)
        files[f"{before}.html"] = moved.encode()
    files[".nojekyll"] = b""
    return Site(files)


def extract(settings: Settings) -> list[str]:
    """Brings all catalogues into step with the sources; returns how much of each is translated."""
    every = Builder(settings).sources
    sources = {source.name: source for source in every}
    lines = []
    for language in languages(settings).values():
        for name, catalogue in language.catalogues.items():
            if name == "interface":
                messages = interface(every, language)
            elif name == "drawings":
                mine = [source for source in every if language.has(source.name)]
                messages = [(text, text) for text in all_labels(settings, mine)]
            elif name in sources:
                messages = sources[name].messages()
            else:
                raise Mistake(catalogue.path, 1, f"there is no page {name}", "remove the file")
            catalogue.update(messages)
            path = settings.root / catalogue.path
            catalogue.file.save(str(path))
            lines += Catalogue.read(settings, path).coverage()
    return lines
