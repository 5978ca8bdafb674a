r"""
---
title: The loss, drawn
summary: One picture of one or several runs.
---

# The loss, drawn

Two curves per run: the training loss, noisy and pale, and the validation loss, its points marked.
Against what? Steps flatter the large batch, tokens flatter the slow model, and seconds the
fast one. So the axis can be chosen, and tokens are the default.

A run has the colour of its kind of model, with feedback or without. Only where several of a kind
are drawn together do the others take what colours are left.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..support.checks import require
from ..support.figures import COLOURS, DOTS, FEEDBACK, STYLE, TRANSFORMER
from ..support.files import write_whole
from .runs import Run

Axis = Literal["tokens", "seconds", "step"]
LABELS = {"tokens": "{}s seen", "seconds": "time (seconds)", "step": "optimiser steps"}


def smooth(values: Sequence[float], span: int) -> list[float]:
    """Each value averaged with up to `span - 1` values before it."""
    windows = (values[max(0, i + 1 - span) : i + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def colours(runs: Sequence[Run]) -> list[str]:
    """A colour for each run; they repeat once all have been given out."""
    given: list[str] = []
    for run in runs:
        own = FEEDBACK if run.has_feedback() else TRANSFORMER
        others = [c for c in COLOURS if c not in {*given, FEEDBACK, TRANSFORMER}]
        if own in given:
            own = others[0] if others else COLOURS[len(given) % len(COLOURS)]
        given.append(own)
    return given


@rc_context(STYLE)
def draw_runs(folders: Sequence[Path], x: Axis = "tokens") -> Figure:
    """The figure; raises `ValueError` for a folder without a run, or a run without a step."""
    require(len(folders) > 0, "no run to plot, expected at least one folder")
    figure = Figure(figsize=(6, 3.6))
    FigureCanvasAgg(figure)
    axes, runs = figure.add_subplot(), [Run(Path(folder)) for folder in folders]
    for run, colour in zip(runs, colours(runs), strict=True):
        rows, name = run.metrics(), run.folder.resolve().name
        require(len(rows) > 0, f"{run.folder} has no step to plot yet")
        losses = smooth([row["train_loss"] for row in rows], max(1, len(rows) // 50))
        axes.plot([row[x] for row in rows], losses, color=colour, alpha=0.45, linewidth=1.2)
        val = [(row[x], row["val_loss"]) for row in rows if row["val_loss"] is not None]
        label = f"{name}: validation {val[-1][1]:.3f}" if val else f"{name}: training"
        axes.plot(*zip(*val, strict=True) if val else ([], []), "o-", color=colour, label=label)
    units = {run.unit() for run in runs}
    unit = units.pop() if len(units) == 1 else "token"
    axes.set_xlabel(LABELS[x].format(unit))
    axes.set_ylabel(f"loss (nats per {unit})")
    axes.set_title("Training (pale) and validation loss", loc="left")
    axes.grid(alpha=0.25)
    axes.legend()
    return figure


def plot_runs(folders: Sequence[Path], out: Path, x: Axis = "tokens") -> None:
    """Draws the runs and writes the picture, PNG, to `out`."""
    buffer = io.BytesIO()
    draw_runs(folders, x).savefig(buffer, format="png", dpi=DOTS)
    write_whole(out, buffer.getvalue())
