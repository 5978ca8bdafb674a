r"""
---
title: Colours of drawings
summary: The colours of the site's style sheet, for drawings that become part of its pages.
---

# Colours of drawings

A drawing takes its colours from the page it stands on, and so follows it into the dark. Opened by
itself it has those that the page has in the light. A test compares both with the style sheet.
"""

from feedback.support import figures

LIGHT = {
    "accent": figures.FEEDBACK,
    "link": figures.TRANSFORMER,
    "ink": figures.INK,
    "soft": "#545d68",
    "line": "#d8dde3",
    "paper": "#fff",
}
"""Names of the style sheet, and what they mean in the light."""

ACCENT, BLUE, INK, SOFT, LINE, PAPER = (f"var(--{name}, {value})" for name, value in LIGHT.items())


def label(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Words in the picture."""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{INK}">{words}</text>'
