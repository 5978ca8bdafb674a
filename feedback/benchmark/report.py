r"""
---
title: The report
summary: The benchmark's numbers as tables and as a picture.
---

# The report

Tables for the terminal, and a picture. The numbers are those in the benchmark's JSON file; nothing
is measured here.
"""

import io
from collections.abc import Iterable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure

from ..training.plot import COLOURS
from .contestants import PEERS, installed


def table(header: list[str], lines: list[list[str]]) -> str:
    """
    ## Tables

    Each column is as wide as its widest cell; a line of a single cell is not counted.
    """
    cells = [line for line in [header, *lines] if len(line) > 1]
    first, *widths = (max(map(len, column)) for column in zip(*cells, strict=True))
    return "\n".join(
        "  ".join(
            [line[0].ljust(first), *(c.rjust(w) for c, w in zip(line[1:], widths, strict=False))]
        ).rstrip()
        for line in [header, *lines]
    )


def milliseconds(row: dict[str, Any]) -> list[str]:
    """Median, quartiles, ratio, and peak memory, for a table."""
    low, high = (1000 * quartile for quartile in row["quartiles"])
    median, peak = 1000 * row["median"], row["peak_bytes"] / 2**20
    return [f"{median:.1f}", f"{low:.1f} to {high:.1f}", f"{row['ratio']:.2f}", f"{peak:.0f}"]


def table_train(results: dict[str, Any]) -> str:
    """Training: a section for each configuration, a line for each contestant."""
    lines: list[list[str]] = []
    for size, rows in results.items():
        lines += [[""], [size]]
        for name, row in rows.items():
            failed = row["error"] is not None
            lines.append([f"{name}: {row['error']}"] if failed else [name, *milliseconds(row)])
        for package, peers in PEERS.items():
            missing = [] if installed(package) else peers
            lines += [[f"{peer.name}: not installed (pip install {package})"] for peer in missing]
    return table(["training step", "ms", "quartiles", "ratio", "peak MiB"], lines)


def table_growth(results: dict[str, Any]) -> str:
    """Growth: a line for each value, with both contestants."""
    lines = []
    for letter, values in results.items():
        lines.append([""])
        for value, rows in values.items():
            ours, theirs = map(milliseconds, rows.values())
            lines.append([f"{letter} {value}", ours[0], theirs[0], ours[2], ours[3], theirs[3]])
    ours, theirs = next(iter(values.values()))
    header = ["growth", f"{ours} ms", f"{theirs} ms", "ratio", "peak MiB", "peak MiB"]
    return table(header, lines)


def table_decode(results: dict[str, Any]) -> str:
    """Decoding: a section for each batch size, tokens per second and (ratio) for each length."""
    lines: list[list[str]] = []
    for B, lengths in results.items():
        lines += [[""], [f"batch {B}"]]
        for name, any_row in next(iter(lengths.values())).items():
            rows = [rows[name] for rows in lengths.values()]
            speeds = [f"{row['tokens_per_second']:.0f} ({row['ratio']:.2f})" for row in rows]
            lines.append([name, *speeds, f"{any_row['cache_bytes_per_token']:.0f}"])
    header = ["tokens/s (ratio of times)", *(f"length {T}" for T in lengths), "cache bytes/token"]
    return table(header, lines)


TABLES = {"train": table_train, "growth": table_growth, "decode": table_decode}
KINDS = {"feedback": COLOURS[0], "parallel": COLOURS[1], "peer": COLOURS[2]}


def draw_train(figure: SubFigure, results: dict[str, Any]) -> None:
    """
    ## Pictures

    Training: a bar for each contestant, of length zero if it failed.
    """
    every = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (size, rows) in zip(every, results.items(), strict=True):
        ratios = [row["ratio"] or 0 for row in rows.values()]
        colours = [KINDS[row["kind"]] for row in rows.values()]
        bars = axes.barh(list(rows), ratios, color=colours)
        axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3, fontsize=8)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.margins(x=0.15)
        axes.set_title(size, loc="left", fontsize=10)
        axes.set_xlabel("training step over the fastest\nparallel Transformer's (ratio)")
    every[0].invert_yaxis()


def double(axes: Axes, values: Iterable[str]) -> None:
    """An axis on which each doubling has the same width, with a tick at each of `values`."""
    axes.set_xscale("log", base=2)
    axes.set_xticks([int(value) for value in values], list(values), minor=False)


def draw_growth(figure: SubFigure, results: dict[str, Any]) -> None:
    """Growth: the ratio against what grows."""
    labels = {"T": "length T (steps)", "B": "batch B (sequences)", "L": "layers L"}
    every = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, (letter, values) in zip(every, results.items(), strict=True):
        ratios = [next(iter(rows.values()))["ratio"] for rows in values.values()]
        axes.plot([int(value) for value in values], ratios, "o-", color=KINDS["feedback"])
        axes.axhline(1, color=KINDS["parallel"], linewidth=1)
        double(axes, values)
        axes.set_xlabel(labels[letter])
    every[0].set_ylim(bottom=0)
    every[0].set_ylabel("training step over the\nfused Transformer's (ratio)")


def draw_decode(figure: SubFigure, results: dict[str, Any]) -> None:
    """Decoding: tokens per second against the length."""
    every = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (B, lengths) in zip(every, results.items(), strict=True):
        for colour, name in zip(COLOURS, next(iter(lengths.values())), strict=False):
            speeds = [rows[name]["tokens_per_second"] for rows in lengths.values()]
            axes.plot([int(T) for T in lengths], speeds, "o-", color=colour, label=name)
        double(axes, lengths)
        axes.set_ylim(bottom=0)
        axes.set_title(f"decoding, batch {B}", loc="left", fontsize=10)
        axes.set_xlabel("length (tokens)")
    every[0].set_ylabel("speed (tokens a second)")
    every[0].legend(frameon=False, fontsize=8)


PICTURES = {"train": draw_train, "growth": draw_growth, "decode": draw_decode}


def draw(results: dict[str, Any]) -> bytes:
    """The parts that were measured, one below the other, as PNG."""
    parts = [part for part in PICTURES if part in results]
    figure = Figure(figsize=(12, 3.6 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    for part, below in zip(
        parts, figure.subfigures(len(parts), 1, squeeze=False)[:, 0], strict=True
    ):
        PICTURES[part](below, results[part])
        for axes in below.axes:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()
