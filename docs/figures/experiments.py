r"""
---
title: What the experiments show
summary: Drawings of the records: how long a state holds, how soon it is learnt, how many passes.
---

# What the experiments show

A table of nine contestants, six lengths and three seeds has 162 numbers. What does it say? That
some lines stay at the top of a picture and others fall to its bottom, and where they begin to fall.
`python -m docs figures` draws those pictures, for the records that there are.

The same contestant looks the same in each of them: feedback has the colour of the site, recurrent
networks that of the text, Transformers that of links. Dashes tell apart who shares a colour.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from feedback.experiments.catalog import find
from feedback.experiments.task import chance
from feedback.support.checks import expect

from .drawing import ACCENT, BLUE, INK, LINE, SOFT, label

RECORDS = Path(__file__).parents[1] / "runs" / "experiments"
"""Where `python -m feedback experiment NAME --out docs/runs/experiments` writes."""

WIDTH, LEFT, RIGHT = 420, 44, 8
TOP, BOTTOM, LEGEND = 44, 183, 16
"""Where the lines are, and how far apart the lines of the legend."""

Record = dict[str, Any]
Run = dict[str, Any]


class Look(NamedTuple):
    """A line of the picture, and its name in the legend."""

    name: str
    colour: str
    dash: str = ""
    width: float = 2

    def style(self) -> str:
        """The attributes of a path."""
        dashed = f' stroke-dasharray="{self.dash}"' if self.dash else ""
        return f'fill="none" stroke="{self.colour}" stroke-width="{self.width}"{dashed}'


WHO = {
    "feedback": Look("with feedback", ACCENT, width=2.5),
    "no_feedback": Look("feedback cut", SOFT, "8 3 2 3"),
    "gru": Look("GRU", INK),
    "lstm": Look("LSTM", INK, "7 4"),
    "slstm": Look("sLSTM", INK, "8 3 2 3"),
    "mamba": Look("Mamba", INK, "2 3"),
    "delta_product": Look("DeltaProduct", INK, "3 3", 3),
    "transformer_2": Look("Transformer, 2 layers", BLUE, width=1.5),
    "transformer_2_no_positions": Look("... without positions", BLUE, "2 3", 1.5),
    "transformer_8": Look("Transformer, 8 layers", BLUE, width=3),
    "transformer_8_no_positions": Look("... without positions", BLUE, "3 4", 3),
}
"""Rivals in the order of the legend."""

MARKS = {"token": "answers", "final": "last answers", "sequence": "whole sequences"}
"""What of an examination is counted."""

PASSES = {
    ("a5", 1): Look("A₅, Jacobi", ACCENT),
    ("a5", 16): Look("A₅, 16 groups", ACCENT, "3 3"),
    ("text", 1): Look("text, Jacobi", INK),
    ("text", 16): Look("text, 16 groups", INK, "3 3"),
}
"""Tasks and numbers of groups of which the passes are drawn; others are in the tables."""


class Axis:
    """
    ## An axis

    From numbers, `low` to `high`, to places in the picture, `start` to `end`.
    """

    def __init__(
        self, numbers: tuple[float, float], places: tuple[float, float], logarithmic: bool = False
    ):
        self.change: Callable[[float], float] = math.log if logarithmic else float
        self.low, self.high = map(self.change, numbers)
        self.start, self.end = places

    def __call__(self, number: float) -> float:
        """The place of a number."""
        share = (self.change(number) - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * share, 1)


def across(low: float, high: float, logarithmic: bool = False) -> Axis:
    """The horizontal axis; lines end a little inside of the frame."""
    return Axis((low, high), (LEFT + 10, WIDTH - RIGHT - 10), logarithmic)


def up(low: float, high: float, logarithmic: bool = False) -> Axis:
    """The vertical axis."""
    return Axis((low, high), (BOTTOM, TOP), logarithmic)


def frame(x: dict[float, str], y: dict[float, str], title: str, below: str) -> list[str]:
    """The words at places on both axes, lines across for those on the vertical, and both titles."""
    lines = []
    for place, words in y.items():
        lines.append(f'<path d="M{LEFT} {place} H{WIDTH - RIGHT}" stroke="{LINE}"/>')
        lines.append(label(LEFT - 8, place + 4, words, "end"))
    lines += [label(place, BOTTOM + 20, words) for place, words in x.items()]
    lines.append(label(LEFT - 40, 14, title, "start"))
    lines.append(label((LEFT + WIDTH - RIGHT) / 2, BOTTOM + 38, below))
    return lines


def path(points: Iterable[tuple[float, float]], look: Look, more: str = "") -> str:
    """A line through points."""
    places = " L".join(f"{x} {y}" for x, y in points)
    return f'<path d="M{places}" {look.style()}{more}/>'


def finish(name: str, lines: list[str], columns: Sequence[Sequence[Look]]) -> str:
    """The picture, with a legend in two columns below it."""
    for x, column in zip((LEFT - 40, LEFT + 180), columns, strict=True):
        for i, look in enumerate(column):
            y = BOTTOM + 60 + LEGEND * i
            if look.colour:
                lines.append(f'<path d="M{x} {y - 4} h26" {look.style()}/>')
            lines.append(label(x + 34, y, look.name, "start"))
    height = BOTTOM + 50 + LEGEND * max(map(len, columns))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'data-figure="{name}">'
    )
    return "\n".join([head, *lines, "</svg>"]) + "\n"


def contestants(record: Record) -> dict[str, list[Run]]:
    """
    The runs of each that takes part, in the order of `WHO`; `ValueError` for one not there. Who has
    fewer seeds than others is in the tables and not in a picture, whose caption says how many.
    """
    runs: dict[str, list[Run]] = {who: [] for who in WHO}
    for run in record["runs"]:
        who = run["contestant"]
        expect(who in WHO, "contestant", who, f"one of {', '.join(WHO)}; give it a line in WHO")
        runs[who].append(run)
    seeds = max(map(len, runs.values()))
    return {who: mine for who, mine in runs.items() if mine and len(mine) == seeds}


def legend(there: Iterable[str], *more: Look) -> list[list[Look]]:
    """Those who take part and what is `more`, in two columns of about the same height."""
    looks = [*(WHO[who] for who in there), *more]
    half = (len(looks) + 1) // 2
    return [looks[:half], looks[half:]]


def free_height(there: dict[str, list[Run]], T: int, mark: str) -> int:
    """Where words that reach beyond length `T` are not crossed by its bars, in percent."""
    bars = ([100 * run["test"][str(T)][mark] for run in runs] for runs in there.values())
    return 8 if any(min(shares) < 56 and max(shares) > 46 for shares in bars) else 48


def draw_lengths(record: Record, mark: str = "final") -> str:
    """
    ## How long does it hold?

    For each contestant and length the share of right answers, of right last answers, or of
    sequences without a mistake, as `mark` says: the mean of the seeds, and a bar from the worst to
    the best of them. A line stands at the length at which training ended.
    """
    there = contestants(record)
    lengths = sorted({int(T) for runs in there.values() for run in runs for T in run["test"]})
    x, y = across(lengths[0], lengths[-1], True), up(0, 100)
    ticks = {y(n): str(n) for n in range(0, 101, 20)}
    title = f"{MARKS[mark]} right (%)"
    lines = frame({x(T): str(T) for T in lengths}, ticks, title, "length of the sequence")
    name = record["experiment"]
    trained, guess = next(iter(there.values()))[0]["course"]["seq_len"], Look("chance", SOFT, "1 4")
    lines.append(f'<path d="M{x(trained)} {TOP} V{BOTTOM}" stroke="{SOFT}" stroke-width="1"/>')
    height = y(free_height(there, min(T for T in lengths if trained < T), mark))
    lines.append(label(x(trained) + 6, height, f"trained up to {trained}", "start"))
    place = y(100 * chance(find(name).task))
    lines.append(path([(LEFT, place), (WIDTH - RIGHT, place)], guess))
    # Feedback is drawn last, so that nothing lies on top of it.
    for i, (who, runs) in reversed(list(enumerate(there.items()))):
        look, points = WHO[who], []
        # Bars of different contestants stand side by side.
        aside = round(1.6 * (i - (len(there) - 1) / 2), 1)
        for T in lengths:
            shares = [100 * run["test"][str(T)][mark] for run in runs]
            points.append((x(T) + aside, y(sum(shares) / len(shares))))
            ends = f"M{points[-1][0]:.1f} {y(min(shares))} V{y(max(shares))}"
            lines.append(f'<path d="{ends}" stroke="{look.colour}" stroke-width="1.5"/>')
        points = [(round(a, 1), b) for a, b in points]
        lines.append(path(points, look))
        lines += [f'<circle cx="{a}" cy="{b}" r="3" fill="{look.colour}"/>' for a, b in points]
    return finish(name, lines, legend(there, guess))


def draw_curve(record: Record, key: str = "seq_len") -> str:
    """
    ## How soon?

    Against the tokens of training the length that sequences have reached, for `key` "seq_len", or
    the share of right answers, for "accuracy". The line is the middle one of the seeds at each
    moment; at each fifth of the budget a bar goes from the worst to the best. Lengths that several
    contestants have reached are drawn one above the other.
    """
    there = contestants(record)
    course = next(iter(there.values()))[0]["course"]
    x, aside = across(0, course["tokens"]), 0.0
    if key == "seq_len":
        low, high = course["start_len"] or 1, course["seq_len"]
        y, aside = up(low, high, logarithmic=True), 1.3
        doubled = [high >> i for i in range(high.bit_length()) if high >> i >= low]
        ticks, title = {y(T): str(T) for T in doubled}, "length reached in training"
    else:
        y = up(0, 1)
        ticks, title = {y(n / 5): str(20 * n) for n in range(6)}, "answers right in training (%)"
    millions = course["tokens"] / 1e6
    step = next(n for n in (1, 2, 5, 10, 20, 50, 100) if millions / n <= 6)
    marks = {x(1e6 * n): str(n) for n in range(0, int(millions) + 1, step)}
    lines = frame(marks, ticks, title, "million tokens of training")
    for i, (who, runs) in reversed(list(enumerate(there.items()))):
        look, points = WHO[who], []
        # All runs of a contestant have as many rows, evenly spread over the budget.
        curve = list(zip(*(run["curve"] for run in runs), strict=True))
        for n, rows in enumerate(curve, start=1):
            values = sorted(row[key] for row in rows)
            worst, middle, best = (
                round(y(value) - aside * i, 1)
                for value in (values[0], values[len(values) // 2], values[-1])
            )
            points.append((x(sum(row["tokens"] for row in rows) / len(rows)), middle))
            if n % max(1, len(curve) // 5) == 0:
                ends = f"M{points[-1][0] - 2 * i} {worst} V{best}"
                lines.append(f'<path d="{ends}" stroke="{look.colour}" stroke-width="1.5"/>')
        lines.append(path(points, look))
    return finish(f"{record['experiment']}_curve", lines, legend(there))


def draw_passes(record: Record, of: str = "states", T: int = 64) -> str:
    """
    ## How many passes?

    The relative error after each pass over `T` steps, from the record `parallel_in_time`, `of` the
    states or of the gradient, for the trained model of each task. A line for each window. Errors
    below the lowest line are drawn on it.
    """
    results = [r for run in record["runs"] for r in run["results"] if r["model"] == "trained"]
    lines_of = [
        (PASSES[key], row["errors"][of])
        for r in results
        for row in r["iterations"]
        if r["T"] == T and (key := (r["task"], row["groups"])) in PASSES
    ]
    x, y = across(1, T, logarithmic=True), up(1e-7, 1, logarithmic=True)
    powers = {1.0: "1", 1e-1: "10⁻¹", 1e-2: "10⁻²", 1e-3: "10⁻³", 1e-4: "10⁻⁴", 1e-5: "10⁻⁵",
              1e-6: "10⁻⁶", 1e-7: "10⁻⁷"}  # fmt: skip
    passes = {x(1 << n): str(1 << n) for n in range(T.bit_length())}
    ticks = {y(power): words for power, words in powers.items()}
    lines = frame(passes, ticks, f"relative error of the {of}", f"passes over {T} steps")
    for look, errors in lines_of:
        points = [(x(n), y(max(1e-7, e))) for n, e in enumerate(errors, start=1)]
        lines.append(path(points, look._replace(width=1.5), ' stroke-opacity="0.8"'))
    looks = list(PASSES.values())
    return finish("passes", lines, [looks[:2], looks[2:]])


FIGURES: dict[str, tuple[str, Callable[[Record], str]]] = {
    "a5": ("a5", draw_lengths),
    "a5_curve": ("a5", draw_curve),
    "programs_3_curve": ("programs_3", draw_curve),
    "s5": ("s5", draw_lengths),
    "parallel_in_time": ("parallel_in_time", draw_passes),
}
"""The names of the drawings; the record of each, and who draws it."""


def read(name: str, folder: Path = RECORDS) -> Record | None:
    """The record of an experiment; `None` if there is none."""
    file = folder / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def draw_experiments(folder: Path = RECORDS) -> dict[str, str]:
    """Those drawings whose records there are, by the names of their files."""
    drawn = {}
    for figure, (name, draw) in FIGURES.items():
        if record := read(name, folder):
            drawn[f"{figure}.svg"] = draw(record)
    return drawn
