r"""
---
title: Loss against seconds
summary: A drawing of recorded runs, of the model with feedback and of its rivals.
---

# Loss against seconds

`python -m docs figures` draws the validation losses of the recorded runs against the time they had
taken. Every point is the mean of three runs, one for each seed, that were planned to end there, so
that their learning rate has fallen to its end. A bar goes from the best of the three to the worst.
Lines join runs on two cores of one machine. Hollow points stand by themselves: those runs had a
single core of another machine.
"""

import json
import math
from pathlib import Path
from typing import Any

from .drawing import ACCENT, BLUE, LINE, PAPER, label

RECORDS = Path(__file__).parents[1] / "runs" / "seconds.jsonl"
"""One run a line: who, the command, the seed, its seconds and its loss; `machine` if another."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 324, 44, 8, 30, 44
WHO = {
    "feedback": ("with feedback", ACCENT, ""),
    "rotary": ("rotary positions", BLUE, ""),
    "rotary_small": ("rotary, as many parameters", BLUE, "5 4"),
    "transformer": ("relative positions", BLUE, "2 3"),
}
"""Names, colours and dashes."""


def read() -> dict[str, list[list[dict[str, Any]]]]:
    """
    For each of `WHO` its runs, in groups that differ only in the seed, shortest first. A run whose
    seconds are those of another machine is left out.
    """
    rows = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if "machine" not in row]
    groups: dict[str, list[list[dict[str, Any]]]] = {}
    for who in WHO:
        mine = [row for row in rows if row["who"] == who]
        steps = sorted({row["steps"] for row in mine})
        groups[who] = [[row for row in mine if row["steps"] == n] for n in steps]
    return groups


def mean(runs: list[dict[str, Any]], key: str) -> float:
    """The mean of a number over runs."""
    return sum(run[key] for run in runs) / len(runs)


class Scales:
    """Where seconds, on a logarithmic axis, and losses stand in the picture."""

    def __init__(self, runs: list[dict[str, Any]]):
        seconds, losses = ([run[key] for run in runs] for key in ("seconds", "loss"))
        self.seconds = min(seconds) / 1.15, max(seconds) * 1.15
        self.losses = math.floor(20 * min(losses)) / 20, math.ceil(20 * max(losses)) / 20

    def x(self, seconds: float) -> float:
        """The place of a number of seconds."""
        low, high = map(math.log, self.seconds)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (math.log(seconds) - low) / (high - low), 1)

    def y(self, loss: float) -> float:
        """The place of a loss; smaller ones are lower."""
        low, high = self.losses
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - loss) / (high - low), 1)


def draw_axes(scales: Scales) -> list[str]:
    """A line and a number for each twentieth of a nat, and numbers for the seconds."""
    lines, right, bottom = [], WIDTH - RIGHT, HEIGHT - BOTTOM
    low, high = (round(20 * loss) for loss in scales.losses)
    for loss in (n / 20 for n in range(low, high + 1)):
        y = scales.y(loss)
        lines.append(f'<path d="M{LEFT} {y} H{right}" stroke="{LINE}"/>')
        lines.append(label(LEFT - 8, y + 4, f"{loss:.2f}", "end"))
    ticks = [n for n in (15, 30, 60, 120, 240, 480, 960) if scales.seconds[0] < n]
    for seconds in (n for n in ticks if n < scales.seconds[1]):
        lines.append(label(scales.x(seconds), bottom + 18, str(seconds)))
    lines.append(label(LEFT - 40, 14, "validation loss (nats per character)", "start"))
    lines.append(
        label(
            (LEFT + right) / 2,
            HEIGHT - 6,
            "seconds of training (filled: two cores; hollow: one core)",
        )
    )
    return lines


def draw_seconds() -> str:
    """The picture, SVG."""
    groups = read()
    every = [run for mine in groups.values() for runs in mine for run in runs]
    scales = Scales(every)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'data-figure="seconds">'
    ]
    lines += draw_axes(scales)
    for i, (who, (name, colour, dash)) in enumerate(WHO.items()):
        style = f'stroke="{colour}" stroke-width="2" fill="none"'
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        points = []
        for runs in groups[who]:
            x, y = scales.x(mean(runs, "seconds")), scales.y(mean(runs, "loss"))
            alone = runs[0].get("cores") == 1
            points += [] if alone else [f"{x},{y}"]
            inside = f'fill="{PAPER}" stroke="{colour}" stroke-width="2"{dashed}'
            look = inside if alone else f'fill="{colour}"'
            ends = [scales.y(pick(run["loss"] for run in runs)) for pick in (max, min)]
            lines.append(f'<path d="M{x} {ends[0]} V{ends[1]}" {style}/>')
            lines.append(f'<circle cx="{x}" cy="{y}" r="3.5" {look}/>')
        lines.append(f'<polyline points="{" ".join(points)}" {style}{dashed}/>')
        y = TOP + 12 + 17 * i
        lines.append(f'<path d="M{WIDTH - 228} {y - 4} h24" {style}{dashed}/>')
        lines.append(label(WIDTH - 198, y, name, "start"))
    return "\n".join([*lines, "</svg>"]) + "\n"
