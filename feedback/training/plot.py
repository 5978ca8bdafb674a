r"""
---
title: The loss, drawn
summary: One picture of one or several runs.
---

# The loss, drawn

Two curves per run: the training loss, noisy and pale, and the validation loss, its points marked.
Against what? Steps flatter the large batch, tokens flatter the slow model, and seconds the
fast one. So the axis can be chosen, and tokens are the default.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..support.checks import require
from ..support.files import write_whole
from .runs import Run

Axis = Literal["tokens", "seconds", "step"]
LABELS = {"tokens": "{}s seen", "seconds": "time (seconds)", "step": "optimiser steps"}

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


def smooth(values: Sequence[float], span: int) -> list[float]:
    """Each value averaged with up to `span - 1` values before it."""
    windows = (values[max(0, i + 1 - span) : i + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def draw_runs(folders: Sequence[Path], x: Axis = "tokens") -> Figure:
    """The figure; raises `ValueError` for a folder without a run, or a run without a step."""
    require(len(folders) > 0, "no run to plot, expected at least one folder")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for i, folder in enumerate(folders):
        rows = Run(Path(folder)).metrics()
        require(len(rows) > 0, f"{folder} has no step to plot yet")
        colour, name = COLOURS[i % len(COLOURS)], Path(folder).resolve().name
        losses = smooth([row["train_loss"] for row in rows], max(1, len(rows) // 50))
        axes.plot([row[x] for row in rows], losses, color=colour, alpha=0.45, linewidth=1.2)
        val = [(row[x], row["val_loss"]) for row in rows if row["val_loss"] is not None]
        label = f"{name}: validation {val[-1][1]:.3f}" if val else f"{name}: training"
        axes.plot(*zip(*val, strict=True) if val else ([], []), "o-", color=colour, label=label)
    units = {Run(Path(folder)).unit() for folder in folders}
    unit = units.pop() if len(units) == 1 else "token"
    axes.set_xlabel(LABELS[x].format(unit))
    axes.set_ylabel(f"loss (nats per {unit})")
    axes.set_title("Training (pale) and validation loss", loc="left", fontsize=11)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure


def plot_runs(folders: Sequence[Path], out: Path, x: Axis = "tokens") -> None:
    """Draws the runs and writes the picture, PNG, to `out`."""
    buffer = io.BytesIO()
    draw_runs(folders, x).savefig(buffer, format="png", dpi=150)
    write_whole(out, buffer.getvalue())
