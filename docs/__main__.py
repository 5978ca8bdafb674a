r"""
---
title: The site, from the command line
summary: python -m docs build, check, serve, extract, figures.
---

# The site, from the command line

```
python -m docs build   # makes docs/site from the sources
python -m docs check   # says what is stale, wrong or broken, and how to repair it
python -m docs extract # brings the catalogues of translations in step
python -m docs figures # looks into the trained model anew
python -m docs serve   # shows docs/site at http://localhost:8000
```
"""

import argparse
import functools
import http.server
import sys
from pathlib import Path

from .annotate.check import check
from .annotate.locale import catalogues
from .annotate.site import build, extract
from .figures.inside import HERE, draw

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"


def serve(port: int) -> None:
    """Shows the site, on this machine only, until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"http://localhost:{port}")
        server.serve_forever()


def main(args: list[str] | None = None) -> int:
    """Runs a command; 1 if a check finds something, 2 if a source is wrong."""
    parser = argparse.ArgumentParser(prog="docs", description="The annotated site.")
    parser.add_argument("command", choices=["build", "check", "serve", "extract", "figures"])
    parser.add_argument("--port", type=int, default=8000, help="for serve")
    options = parser.parse_args(args)
    try:
        if options.command == "serve":
            serve(options.port)
        elif options.command == "figures":
            for name, svg in draw().items():
                (HERE / name).write_text(svg, encoding="utf-8")
        elif options.command == "extract":
            print("\n".join(extract(ROOT)))
        elif options.command == "build":
            site = build(ROOT)
            site.write(SITE)
            print(f"{len(site.files)} files in {SITE.relative_to(ROOT)}")
        else:
            problems = check(ROOT, SITE)
            print("\n".join(problems) or "docs/site is in step with its sources")
            print("\n".join(catalogue.coverage() for catalogue in catalogues(ROOT)))
            return 1 if problems else 0
    except ValueError as error:
        print(f"docs: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
