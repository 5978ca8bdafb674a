r"""
---
title: Formulas
summary: KaTeX, run once for all formulas.
---

# Formulas

KaTeX turns a formula into HTML that needs a style sheet and fonts but no script, and into MathML
beside it, which screen readers read. It is started only once, with all the formulas of the site.
"""

import json
import shutil
import subprocess
from pathlib import Path

from .markup import Formulas, Mistake

THEME = Path(__file__).parent.parent / "theme"
SCRIPT = Path(__file__).with_name("katex.js")
INSTALL = "npm ci --prefix docs/theme"


def render(formulas: Formulas) -> list[str]:
    """
    The HTML of all formulas, in their order. Raises `Mistake` for one that cannot be parsed, with
    its file and line, and `ValueError` if Node.js or KaTeX is not installed.
    """
    if not formulas.places:
        return []
    node = shutil.which("node")
    if node is None:
        raise ValueError("formulas need node, which is not installed; install Node.js 20 or newer")
    modules = THEME / "node_modules"
    if not (modules / "katex").is_dir():
        raise ValueError(f"formulas need KaTeX, which is not installed; run: {INSTALL}")
    result = subprocess.run(
        [node, str(SCRIPT)],
        input=json.dumps([list(key) for key in formulas.places]),
        env={"NODE_PATH": str(modules), "PATH": str(Path(node).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    html = []
    for ((tex, _), (path, line)), answer in zip(
        formulas.places.items(), json.loads(result.stdout), strict=True
    ):
        if "error" in answer:
            raise Mistake(path, line, f"the formula {tex!r} does not parse", answer["error"])
        html.append(answer["html"])
    return html
