r"""
---
title: The site, from the command line
summary: python -m docs build, check, pull, serve, extract, figures.
---

# The site, from the command line

```
python -m docs build     # runs the notebooks that are stale, and makes docs/site
python -m docs build 02_attention  # runs this one again
python -m docs check     # says what is stale, wrong or broken, and how to repair it
python -m docs pull 02_attention   # brings an edit of the notebook back to its walkthrough
python -m docs pull 02_attention --force  # even if the walkthrough was edited: that edit is lost
python -m docs extract   # brings the catalogues of translations into step
python -m docs figures   # draws all figures again, from the records
python -m docs serve     # shows docs/site at http://localhost:8000
```
"""

import argparse
import functools
import http.server
import sys
from pathlib import Path

from .annotate import execute
from .annotate.check import check
from .annotate.locale import catalogues
from .annotate.pull import pull
from .annotate.settings import Settings
from .annotate.site import build, extract

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "site"


def serve(port: int) -> None:
    """Shows the site, on this machine only, until Ctrl-C; `ValueError` if the port is taken."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(SITE))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or "there is no such port"
        raise ValueError(f"port {port} cannot be used ({why}); choose another: --port") from None
    with server:
        print(f"http://localhost:{port}")
        server.serve_forever()


def run(command: str, names: list[str], port: int, force: bool) -> int:
    """Runs a command; returns 1 if a check finds something, else 0. Raises `ValueError`."""
    settings = Settings.read(ROOT)
    # Error messages name files, so a file is accepted in place of a name.
    names = [Path(name).stem for name in names]
    unknown = [name for name in names if name not in settings.notebooks]
    if unknown or (names and command not in ("build", "pull")) or (command == "pull" and not names):
        raise ValueError(
            f"{command} was given {unknown or names}, but build and pull take names of notebooks: "
            f"{', '.join(settings.notebooks)}"
        )
    if command == "serve":
        serve(port)
    elif command == "figures":
        # The package is imported only here: the other commands work even if it does not parse.
        from .figures.benchmark import BENCHMARK, draw_benchmark
        from .figures.demo import draw_runs
        from .figures.experiments import draw_experiments
        from .figures.inside import HERE, draw
        from .figures.seconds import draw_seconds

        figures = {**draw(), "seconds.svg": draw_seconds(), **draw_experiments(), **draw_runs()}
        for name, svg in figures.items():
            (HERE / name).write_text(svg, encoding="utf-8")
        for name, png in draw_benchmark().items():
            (BENCHMARK.parent / name).write_bytes(png)
    elif command == "extract":
        print("\n".join(extract(settings)))
    elif command == "pull":
        for name in names:
            path = pull(settings, name, force)
            print(f"{path.relative_to(ROOT)}; now run: python -m docs build")
    elif command == "build":
        execute.update(settings, set(names))
        site = build(settings)
        site.write(SITE)
        print(f"{len(site.files)} files in {SITE.relative_to(ROOT)}")
    else:
        problems = check(settings, SITE)
        print("\n".join(problems) or "notebooks and docs/site are in step with their sources")
        print("\n".join(catalogue.coverage() for catalogue in catalogues(settings)))
        return 1 if problems else 0
    return 0


def main(args: list[str] | None = None) -> int:
    """Runs a command; returns 1 if a check finds something, 2 if a source is wrong."""
    parser = argparse.ArgumentParser(prog="docs", description="Notebooks and the annotated site.")
    commands = ["build", "check", "pull", "serve", "extract", "figures"]
    parser.add_argument("command", choices=commands)
    parser.add_argument("names", nargs="*", help="of notebooks: for pull, and to run one again")
    parser.add_argument("--port", type=int, default=8000, help="for serve")
    parser.add_argument("--force", action="store_true",
                        help="for pull: lose an edit of the walkthrough")  # fmt: skip
    options = parser.parse_args(args)
    try:
        return run(options.command, options.names, options.port, options.force)
    except (ValueError, OSError) as error:
        print(f"docs: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print()
        return 130


if __name__ == "__main__":
    sys.exit(main())
