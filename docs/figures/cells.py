r"""
---
title: Names and cells
summary: What experiments and contestants are called in a table, and how its cells are written.
---

# Names and cells

A cell has the mean of the seeds, and in brackets the least and the greatest of them, which for
right answers are the worst and the best; one number alone if they do not differ.
"""

from collections.abc import Iterable, Sequence

from feedback.experiments.catalog import find

from .experiments import WHO, Record, Run

TITLES = {
    "a5": "$A_5$",
    "a5_at_once": "$A_5$ at full length at once",
    "a5_ablations": "$A_5$ with one thing changed",
    "z60": r"$\mathbb{Z}_{60}$",
    "a4z5": r"$A_4 \times \mathbb{Z}_5$",
    "s5": "$S_5$",
    "swap_s5": "$S_5$, swaps only",
    "arithmetic": "Arithmetic modulo 5",
    "brackets": "Arithmetic modulo 5, with brackets",
    "programs_3": "The paper's programs, 3 variables",
    "programs_5": "The paper's programs, 5 variables",
    "programs_3_near": "The paper's programs, 64 slots",
    "programs_3_prints": "The paper's programs, labels at prints alone",
    "programs_3_released": "The paper's programs, 3 variables, released settings",
    "programs_5_released": "The paper's programs, 5 variables, released settings",
}
"""What an experiment is called, if it is not by its name."""

NAMES = {
    **{who: look.name for who, look in WHO.items()},
    "transformer_2_no_positions": "Transformer, 2 layers, without positions",
    "transformer_8_no_positions": "Transformer, 8 layers, without positions",
    "twice_as_deep": "Transformer, 8 layers of the same width",
    "all_layers": "nothing: memory of all layers, learnt weights, 1 slot",
    "top_only": "memory of the top layer alone",
    "embedding_only": "memory of the embedding alone",
    "plain_mean": "memory of all layers in equal parts",
    "kv_of_each_layer": "keys and values of each layer",
    "no_norm": "memory without its norm",
    **{f"mem_len_{n}": f"{n} slots" for n in (2, 4, 8, 16, 32, 128, 256)},
    "mem_len_32_no_positions": "32 slots without positions",
    "two_layers": "2 layers",
    "four_layers": "4 layers",
}
"""Contestants, and what was changed."""


def title(name: str) -> str:
    """What this experiment is called."""
    return TITLES.get(name, name.replace("_", " ").capitalize())


def table(rows: Iterable[Sequence[str]]) -> str:
    """Markdown; the first row is that of the headings."""
    head, *rest = rows
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rest)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])


def spread(values: Sequence[float], show: str) -> str:
    """The mean, and from the least to the greatest, each as the format `show` has it."""
    mean, least, most = (
        format(value, show) for value in (sum(values) / len(values), min(values), max(values))
    )
    return mean if mean == least == most else f"{mean} ({least} to {most})"


def between(values: Sequence[int]) -> str:
    """From the least to the greatest."""
    least, most = min(values), max(values)
    return str(least) if least == most else f"{least} to {most}"


def by_contestant(record: Record) -> dict[str, list[Run]]:
    """The runs of each contestant, in the order of the catalogue."""
    runs = record["runs"]
    order = find(record["experiment"]).contestants
    there = {who: [run for run in runs if run["contestant"] == who] for who in order}
    return {who: mine for who, mine in there.items() if mine}
