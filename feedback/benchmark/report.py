r"""
---
title: The report
summary: The benchmark's numbers as tables and as three pictures.
---

# The report

Tables for the terminal, and three pictures, each for one question: how long a training step takes,
what longer sequences cost, and how fast a text is written. The tables have more. The numbers are
those in the benchmark's JSON file; nothing is measured here.
"""

import io
from collections.abc import Iterable
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ..support.figures import DOTS, FEEDBACK, OTHER, STYLE, TRANSFORMER
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
KINDS = {"feedback": FEEDBACK, "parallel": TRANSFORMER, "peer": OTHER}
MARKS = "os^Dv"
"""A mark for each size, or for each contestant."""


def across(axes: Axes, numbers: Iterable[float]) -> None:
    """A logarithmic horizontal axis on which these numbers are named, and no others."""
    axes.set_xscale("log")
    axes.set_xticks(list(numbers), [f"{number:g}" for number in numbers])
    axes.xaxis.set_minor_locator(NullLocator())


def draw_train(axes: Axes, results: dict[str, Any]) -> None:
    """
    ## Pictures

    How long does a training step take? A row for each contestant, and in it a mark for each size,
    none where it failed.
    """
    names = list(dict.fromkeys(name for rows in results.values() for name in rows))
    shown = [row["ratio"] for rows in results.values() for row in rows.values() if row["ratio"]]
    for mark, (size, rows) in zip(MARKS, results.items(), strict=False):
        axes.plot([], [], mark, color=OTHER, label=size)
        for name, row in rows.items():
            if row["ratio"]:
                axes.plot(row["ratio"], name, mark, color=KINDS[row["kind"]], markersize=7)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color=TRANSFORMER, linewidth=1)
    axes.invert_yaxis()
    low, high = min(shown), max(shown)
    across(axes, [n for n in (0.5, 1, 2, 5, 10, 20, 50) if low / 2 < n < 2 * high])
    axes.set_xlabel("training step, over the fastest\nTransformer's (ratio)")
    axes.figure.legend(loc="outside lower center", ncols=2, title="size", alignment="left")


def draw_growth(axes: Axes, results: dict[str, Any]) -> None:
    """What does a longer sequence cost? Time and memory of a training step, against the length."""
    lengths = [int(T) for T in results["T"]]
    for key, label, look in (("median", "time", "o-"), ("peak_bytes", "peak memory", "s--")):
        ours, theirs = zip(
            *([row[key] for row in rows.values()] for rows in results["T"].values()), strict=True
        )
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        axes.plot(lengths, ratios, look, color=FEEDBACK, label=f"with feedback, {label}")
    axes.axhline(1, color=TRANSFORMER, label="the fused Transformer")
    across(axes, lengths)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("length of the sequences (steps)")
    axes.set_ylabel("over the fused\nTransformer's (ratio)")
    axes.legend()


def draw_decode(axes: Axes, results: dict[str, Any]) -> None:
    """How fast does it write? Tokens a second against the length, for each batch size."""
    dashes = ("-", "--", ":")
    looks = dict(zip(next(iter(next(iter(results.values())).values())), MARKS, strict=False))
    for (B, lengths), dash in zip(reversed(results.items()), dashes, strict=False):
        axes.plot([], [], dash, color=OTHER, label=f"batch of {B}")
        for name, mark in looks.items():
            rows = [rows[name] for rows in lengths.values()]
            speeds = [row["tokens_per_second"] for row in rows]
            axes.plot([int(T) for T in lengths], speeds, mark + dash, color=KINDS[rows[0]["kind"]])
    for name, mark in looks.items():
        kind = next(iter(next(iter(results.values())).values()))[name]["kind"]
        axes.plot([], [], mark, color=KINDS[kind], label=name)
    across(axes, [int(T) for T in lengths])
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("length of the text (tokens)")
    axes.set_ylabel("tokens a second")
    axes.figure.legend(loc="outside lower center", ncols=2)


PICTURES = {"train": draw_train, "growth": draw_growth, "decode": draw_decode}


@rc_context(STYLE)
def draw_part(part: str, results: dict[str, Any]) -> Figure:
    """The picture of one part."""
    figure = Figure(figsize=(5, 2.8 if part == "growth" else 4))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    PICTURES[part](axes, results)
    return figure


def draw(results: dict[str, Any]) -> dict[str, bytes]:
    """A picture of each part that was measured, as PNG, by the names of their files."""
    pictures = {}
    for part in (part for part in PICTURES if part in results):
        buffer = io.BytesIO()
        draw_part(part, results[part]).savefig(buffer, format="png", dpi=DOTS)
        pictures[f"{part}.png"] = buffer.getvalue()
    return pictures
