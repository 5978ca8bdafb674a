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
from .locale import INTERFACE, NAMES, catalogues
from .mistake import Mistake
from .pages import Builder
from .parts import Page
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


def search_index(pages: list[Page]) -> bytes:
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
    return f"const INDEX = {json.dumps(entries, ensure_ascii=False)};\n".encode()


def translated(builder: Builder) -> tuple[list[Page], dict[str, dict[str, str]]]:
    """The translated pages, and for each language the words that every page has."""
    sources = {source.name: source for source in builder.sources}
    pages, interface = [], {"en": {text: text for text in INTERFACE}}
    for catalogue in catalogues(builder.settings):
        if catalogue.page == "interface":
            catalogue.check((text, text) for text in INTERFACE)
            interface[catalogue.lang] = {
                text: catalogue.get(text, text) or text for text in INTERFACE
            }
            continue
        if catalogue.page not in sources:
            raise Mistake(
                catalogue.path, 1, f"there is no page {catalogue.page}", "remove the file"
            )
        catalogue.check(sources[catalogue.page].messages())
        pages.append(builder.page(sources[catalogue.page], catalogue))
    return pages, interface


def build(settings: Settings) -> Site:
    """
    ## The build

    Reads all sources and returns all files. Raises `Mistake` if something is wrong in a source, and
    `ValueError` if something is not installed.
    """
    builder = Builder(settings)
    english = [builder.page(source) for source in builder.sources]
    others, interface = translated(builder)
    rendered = katex.render(builder.formulas)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(THEME), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("template.html")
    files = assets() | outputs.assets(settings) | builder.files
    files |= models(settings, builder.sources)
    files["assets/search.js"] = search_index(english)
    for page in english + others:
        i = [p.source.name for p in english].index(page.source.name)
        html = template.render(
            page=page, pages=english, settings=settings, languages=NAMES, policy=policy(),
            paths={p.path for p in english + others},
            first_script=FIRST,
            related=builder.related(page.source), titles={p.source.name: p.title for p in english},
            say=interface.get(page.lang, interface["en"]),
            versions=[p for p in english + others if p.source.name == page.source.name],
            previous=english[i - 1] if i > 0 else None,
            next=english[i + 1] if i + 1 < len(english) else None,
        )  # fmt: skip
        files[page.path] = builder.formulas.fill(html, rendered).encode()
    for run in sorted((settings.root / "docs/runs").glob("*/*.png")):
        files[outputs.asset(run)] = run.read_bytes()
    for name in ("404.html", "sitemap.xml"):
        text = environment.get_template(name).render(
            pages=english + others, settings=settings, policy=policy(), first_script=FIRST,
            say=interface["en"],
        )  # fmt: skip
        files[name] = text.encode()
    for before, now in settings.moved.items():
        moved = environment.get_template("moved.html").render(now=now, settings=settings)
        files[f"{before}.html"] = moved.encode()
    files[".nojekyll"] = b""
    return Site(files)


def extract(settings: Settings) -> list[str]:
    """Brings all catalogues into step with the sources; returns how much of each is translated."""
    sources = {source.name: source for source in Builder(settings).sources}
    lines = []
    for catalogue in catalogues(settings):
        messages = [(text, text) for text in INTERFACE]
        if catalogue.page != "interface":
            if catalogue.page not in sources:
                raise Mistake(
                    catalogue.path, 1, f"there is no page {catalogue.page}", "remove the file"
                )
            messages = sources[catalogue.page].messages()
        catalogue.update(messages)
        catalogue.file.save(str(settings.root / catalogue.path))
        lines.append(catalogue.coverage())
    return lines
