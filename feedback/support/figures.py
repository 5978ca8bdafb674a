r"""
---
title: Figures
summary: One colour for feedback in every figure, and one look for all of them.
---

# Figures

Whoever has learnt from one figure which line is the model with feedback should not have to learn
it again from the next. So each kind of model has a colour, the same in the notebooks, on the site
and in the pictures that training and the benchmark write. This is the only place that says which:
drawings of the site take their colours from here, and tests compare its style sheet and the stored
pictures.

A picture is drawn on white, in colours dark enough for white. On a dark page the site turns light
into dark and keeps the hue, which makes these colours bright enough for black.
"""

from typing import Any

from cycler import cycler
from matplotlib.colors import LinearSegmentedColormap

FEEDBACK = "#b3541e"
"""Models with feedback, and what is found in one."""

TRANSFORMER = "#0b5cad"
"""Parallel Transformers."""

OTHER = "#6b7480"
"""Recurrent networks, other people's code, and whatever a figure compares with."""

COLOURS = (FEEDBACK, TRANSFORMER, OTHER, "#00917c", "#8b1a6b", "#c19a00")
"""The order in which lines take their colours, "C0" to "C5"."""

HEAT = LinearSegmentedColormap.from_list("heat", ["white", FEEDBACK, "#3d1600"])
"""For heat maps: from nothing, through the colour of feedback, to dark."""

INK = "#1d2329"
DOTS = 200
"""Pixels to the inch of a stored picture. The site shows half as many, so letters are sharp."""

STYLE: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "figure.dpi": DOTS / 2,
    # As wide as the screen of a telephone, once the site has made it a little smaller.
    "figure.figsize": (5, 3),
    "font.size": 10,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "xtick.labelsize": 9,
    "ytick.color": INK,
    "ytick.labelsize": 9,
}
"""Settings of matplotlib, which has a type of its own for their names."""


def use_style() -> None:
    """Gives all figures of a notebook this look, with two pixels for each one that is shown."""
    # What only writes files does without pyplot, which looks for a screen.
    import matplotlib.pyplot as plt

    plt.style.use(STYLE)
    try:
        from IPython import get_ipython
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    shell = get_ipython()
    if shell is not None:
        InlineBackend.instance(parent=shell).figure_formats = {"retina"}
