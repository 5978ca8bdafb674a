r"""
---
title: Checks
summary: Does the site match its sources, line by line and link by link?
---

# Checks

Annotated code goes stale silently: the page still looks right. So everything that can be compared
is compared, by content and never by date. Each notebook is what a build from its walkthrough and
the package would give now. The site on disk equals the one that a build would make now. Each line
of code on a page is the line of the file that has the number beside it. Each link within the site
leads to a page and an anchor that exist. And no page loads anything from another host.
"""

import posixpath
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from . import execute
from .mistake import Mistake
from .settings import Settings
from .site import build

REPAIR = "run: python -m docs build"
LOADS = {("script", "src"), ("img", "src"), ("link", "href"), ("source", "src"), ("iframe", "src")}


class Reader(HTMLParser):
    """What is read from a page: its anchors, its links, what it loads, and its lines of code."""

    def __init__(self, html: str):
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.lines: dict[tuple[str, int], str] = {}
        """The text of each line of code, by its file and its number."""
        self.path = ""
        self.number: int | None = None
        self.depth = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Records anchors, links and loads, and where a line of code begins."""
        given = {name: value or "" for name, value in attributes}
        if given.get("id"):
            self.anchors.add(given["id"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        for name, value in attributes:
            relation = given.get("rel", "")
            if (tag, name) in LOADS and value and relation not in ("canonical", "alternate"):
                self.loads.append(value)
        if tag == "pre" and given.get("data-file"):
            self.path = given["data-file"]
        if tag == "span":
            if self.number is not None:
                self.depth += 1
            elif given.get("class") == "l":
                self.number, self.depth = int(given["id"].rpartition("L")[2]), 0
                self.lines[self.path, self.number] = ""

    def handle_endtag(self, tag: str) -> None:
        """Records where a line of code ends."""
        if tag == "span" and self.number is not None:
            if self.depth == 0:
                self.number = None
            self.depth -= 1

    def handle_data(self, data: str) -> None:
        """Collects the text of a line of code."""
        if self.number is not None:
            self.lines[self.path, self.number] += data


def check_lines(name: str, reader: Reader, settings: Settings) -> list[str]:
    """A message for each line of code on the page that differs from the line of the file."""
    sources = {
        path: (settings.root / path).read_text(encoding="utf-8").split("\n")
        for path, _ in reader.lines
    }
    return [
        f"{name}: line {number} is not line {number} of {path}; {REPAIR}"
        for (path, number), text in reader.lines.items()
        if number > len(sources[path]) or text.rstrip("\n") != sources[path][number - 1]
    ]


def check_links(
    name: str, reader: Reader, readers: dict[str, Reader], files: set[str]
) -> list[str]:
    """A message for each broken link within the site, and for each load from another host."""
    problems = []
    for link in reader.links + reader.loads:
        if link.startswith(("http:", "https:", "mailto:")):
            if link in reader.loads:
                problems.append(f"{name}: loads {link} from another host; put it into docs/theme")
            continue
        file, _, anchor = link.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), file)) if file else name
        if target not in files:
            problems.append(f"{name}: links to {link}, but there is no {target}")
        elif anchor and unquote(anchor) not in readers[target].anchors:
            problems.append(f"{name}: links to {link}, but {target} has no such place")
    return problems


def check(settings: Settings, folder: Path) -> list[str]:
    """All that is wrong with the site in `folder`, one line per problem, with file and remedy."""
    problems = [str(why) for _, why in execute.stale(settings)]
    try:
        site = build(settings)
    except Mistake as error:
        return problems if str(error) in problems else [*problems, str(error)]
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    for name in sorted(site.files.keys() | there):
        if name not in there:
            problems.append(f"docs/site/{name} is missing; {REPAIR}")
        elif name not in site.files:
            problems.append(f"docs/site/{name} has no source any more; {REPAIR}")
        elif (folder / name).read_bytes() != site.files[name]:
            problems.append(f"docs/site/{name} is stale; {REPAIR}")
    pages = {
        n: c.decode() for n, c in site.files.items() if n.endswith(".html") and n != "404.html"
    }
    readers = {name: Reader(html) for name, html in pages.items()}
    for name, reader in readers.items():
        problems += check_lines(name, reader, settings)
        problems += check_links(name, reader, readers, set(site.files))
    return problems
