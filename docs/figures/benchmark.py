r"""
---
title: Pictures of the benchmark
summary: The recorded benchmark, drawn again as the benchmark itself would draw it.
---

# Pictures of the benchmark

`python -m feedback benchmark` measures and draws. `python -m docs figures` only draws: from the
numbers that were recorded once, with the same functions.
"""

import json
from pathlib import Path

from feedback.benchmark.report import draw

BENCHMARK = Path(__file__).parents[1] / "runs" / "benchmark" / "benchmark.json"


def draw_benchmark() -> dict[str, bytes]:
    """The pictures, PNG, by the names of their files beside the numbers."""
    return draw(json.loads(BENCHMARK.read_text(encoding="utf-8")))
