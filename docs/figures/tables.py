r"""
---
title: Tables of the experiments
summary: Markdown tables made from the records, to be pasted into a page and compared by a test.
---

# Tables of the experiments

A number that is typed is a number that may be wrong. So tables are made from the records, pasted
into a page, and a test makes them again and compares:

```
python -m docs.figures.tables          # all tables of all records that there are
python -m docs.figures.tables a5 z60   # those of some
```

How does the test find them? By the first cell of their first row, the *heading* of the table. No
two tables have the same, and a table on a page that has one of these headings must be the one made
here, to the last digit.

How a [cell](cells.py) is written, and which [learning rates](rates.py) were tried, have modules of
their own.
"""

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from feedback.experiments.catalog import EXPERIMENTS, STUDIES, find
from feedback.experiments.languages import scaled_accuracy
from feedback.experiments.studies.parallel_in_time import TOLERANCES
from feedback.support.checks import expect

from .cells import NAMES, TITLES, between, by_contestant, spread, table, title
from .experiments import MARKS, RECORDS, Record, read
from .rates import RATES_HEADINGS, rates_tables

CHANGES = {
    **NAMES,
    "all_layers": "nothing: memory of all layers, learnt weights, 4 layers, 48 slots",
    "own_past": "each layer has its own past: the parallel Transformer",
    "mem_len_1": "1 slot",
    "no_positions": "no positions",
    "one_layer": "1 layer",
    "eight_layers": "8 layers",
}
"""What was changed in the language model."""

LANGUAGES = {"parity": "parity", "arithmetic": "modulo 5", "brackets": "modulo 5, brackets"}
"""The columns of the formal languages."""
SOURCE = "[Grazzi et al., 2024](https://arxiv.org/abs/2411.12537), best of 3"
PUBLISHED = {
    "Transformer": (0.022, 0.031, 0.067),
    "sLSTM": (1.000, 0.787, 0.178),
    "Mamba[-1,1]": (1.000, 0.241, 0.116),
    "DeltaNet[-1,1]": (1.000, 0.971, 0.260),
}
"""
Their scaled accuracies, on the same three languages and lengths. They are not ours: other sizes,
other budgets.
"""

ROLES = {"cost": "parameters and cost", **{mark: f"{of} right, %" for mark, of in MARKS.items()}}
"""What a table is about."""
LANGUAGES_HEADING = "Formal languages, scaled accuracy"
PASSES_HEADINGS = {"trained": "Passes (visits), trained", "untrained": "Passes (visits), untrained"}
TEXT_HEADINGS = {
    "text_ablations": "Tiny Shakespeare, 400 steps: what is changed",
    "text_slots": "Tiny Shakespeare, 400 steps, memory carried on: what is changed",
}
SLIPS_HEADING = "First mistakes in 512 steps"
TASKS = {"text": "text", "a5": TITLES["a5"]}
"""What is read in parallel in time."""


def heading(name: str, role: str) -> str:
    """The heading of a table of this experiment; `role` is one of `ROLES`."""
    return f"{title(name)}: {ROLES[role]}"


HEADINGS = {
    *RATES_HEADINGS,
    *(heading(name, role) for name in EXPERIMENTS if name not in LANGUAGES for role in ROLES),
    LANGUAGES_HEADING,
    *PASSES_HEADINGS.values(),
    *TEXT_HEADINGS.values(),
    SLIPS_HEADING,
}
"""All that a table of a page can have."""


def lengths_table(record: Record, mark: str = "final") -> str:
    """
    ## Contestants and lengths

    What share of the answers is right, in percent; `mark` says of which, as in `MARKS`.
    """
    lengths = [str(T) for T in find(record["experiment"]).lengths]
    rows = [[heading(record["experiment"], mark), *lengths]]
    for who, runs in by_contestant(record).items():
        shares = ([100 * run["test"][T][mark] for run in runs] for T in lengths)
        rows.append([NAMES[who], *(spread(values, ".1f") for values in shares)])
    return table(rows)


def cost_table(record: Record) -> str:
    """
    ## What it took

    Seeds, parameters, learning rate; over all seeds, the seconds and the length that was reached.
    """
    head = "seeds", "parameters", "learning rate", "seconds", "length reached in training"
    rows = [[heading(record["experiment"], "cost"), *head]]
    for who, runs in by_contestant(record).items():
        first = runs[0]
        seconds = spread([run["seconds"] for run in runs], ",.0f")
        reached = between([run["curve"][-1]["seq_len"] for run in runs])
        rate = f"{first['learning_rate']:g}"
        size = f"{first['parameters']:,}"
        rows.append([NAMES[who], str(len(runs)), size, rate, seconds, reached])
    return table(rows)


def languages_table(records: Mapping[str, Record]) -> str:
    """
    ## Formal languages

    From `records` by name, which may lack some of the three; and below ours what is published.
    """
    cells: dict[str, dict[str, str]] = {}
    seeds: dict[str, list[int]] = {}
    for name, record in records.items():
        experiment = find(name)
        T = str(experiment.lengths[0])
        for who, runs in by_contestant(record).items():
            values = [scaled_accuracy(run["test"][T]["final"], experiment.task) for run in runs]
            cells.setdefault(who, {})[name] = spread(values, ".3f")
            seeds.setdefault(who, []).append(len(runs))
    rows = [[LANGUAGES_HEADING, "measured", *LANGUAGES.values()]]
    for who in (who for who in NAMES if who in cells):
        counts = between(seeds[who])
        here = f"here, {counts} seed{'s' * (counts != '1')}"
        rows.append([NAMES[who], here, *(cells[who].get(name, "") for name in LANGUAGES)])
    for who, published in PUBLISHED.items():
        rows.append([who, SOURCE, *(f"{share:.3f}" for share in published)])
    return table(rows)


def passes_table(record: Record, model: str = "trained") -> str:
    """
    ## Parallel in time

    For the `model`, "trained" or "untrained", of each task, how many passes until the error of
    states and of the gradient is below each of the tolerances, from the window with the fewest to
    that with the most; in brackets visits, one after the other: as many to a pass as there are
    groups.
    """
    results = [r for run in record["runs"] for r in run["results"] if r["model"] == model]
    parts = [(part, e) for part in ("states", "gradient") for e in TOLERANCES]
    # 0.01 is written $10^{-2}$.
    powers = [f"{part}, $10^{{{round(math.log10(e))}}}$" for part, e in parts]
    rows = [[PASSES_HEADINGS[model], "groups", "steps", *powers]]
    order = list(TASKS)
    groups: dict[tuple[int, int, int], list[dict[str, Any]]] = {}
    for result in results:
        for row in result["iterations"]:
            key = order.index(result["task"]), result["T"], row["groups"]
            groups.setdefault(key, []).append(row["passes"])
    for (task, T, G), windows in sorted(groups.items()):
        line = [TASKS[order[task]], "1, Jacobi" if G == 1 else str(G), str(T)]
        for part, tolerance in parts:
            passes = [counts[part][f"{tolerance:g}"] for counts in windows]
            line.append(f"{between(passes)} ({between([n * G for n in passes])})")
        rows.append(line)
    return table(rows)


def text_table(record: Record) -> str:
    """
    ## Ablations on a text

    For each variant its validation loss in nats per character, and how far it is above that of the
    unchanged model with the same seed.
    """
    columns = "parameters", "validation loss", "above the unchanged model"
    rows = [[TEXT_HEADINGS[record["experiment"]], *columns]]
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for run in record["runs"]:
        for row in run["results"]:
            found.setdefault(row["variant"], {})[run["seed"]] = row
    plain = found["all_layers"]
    for what, by_seed in found.items():
        losses = [row["loss"] for row in by_seed.values()]
        above = [row["loss"] - plain[seed]["loss"] for seed, row in by_seed.items()]
        size = next(iter(by_seed.values()))["parameters"]
        difference = "" if what == "all_layers" else spread(above, "+.3f")
        rows.append([CHANGES[what], f"{size:,}", spread(losses, ".3f"), difference])
    return table(rows)


def slips_table(record: Record) -> str:
    """
    ## Where a lost state goes

    For each group and seed, how many sequences have a mistake; in how many of them the first is one
    of the nearest elements; and how many are right at their end.
    """
    near = {1: "nearest", 4: "4 nearest", 10: "10 nearest"}
    head = "seed", "sequences", "with a mistake", *(f"to the {words}" for words in near.values())
    rows = [[SLIPS_HEADING, *head, "right at the end"]]
    for run in record["runs"]:
        for found in run["results"]:
            ranks = found["ranks"]
            counts = found["sequences"], sum(ranks), *(sum(ranks[:n]) for n in near)
            numbers = (run["seed"], *counts, found["returned"])
            rows.append([TITLES[found["group"]], *(f"{n:,}" for n in numbers)])
    return table(rows)


def tables(name: str, folder: Path = RECORDS) -> list[str]:
    """
    ## All tables of a record

    None, if there is no record. The three languages share one table. Raises `ValueError` if there
    is no such experiment.
    """
    known = [*EXPERIMENTS, *STUDIES]
    expect(name in known, "experiment", name, f"one of {', '.join(known)}")
    record = read(name, folder)
    if record is None:
        return []
    if name == "parallel_in_time":
        return [passes_table(record, model) for model in PASSES_HEADINGS]
    if name in TEXT_HEADINGS:
        return [text_table(record)]
    if name == "slips":
        return [slips_table(record)]
    if name in LANGUAGES:
        records = {other: read(other, folder) for other in LANGUAGES}
        return [languages_table({other: r for other, r in records.items() if r})]
    return [cost_table(record), *(lengths_table(record, mark) for mark in MARKS)]


def heading_of(text: str) -> str:
    """The first cell of a table."""
    return text.split("|")[1].strip()


def every_table(folder: Path = RECORDS, names: Iterable[str] = ()) -> dict[str, str]:
    """The tables of these experiments, or of all that have a record, by their headings."""
    chosen = list(names) or [*EXPERIMENTS, *STUDIES]
    found = [text for name in chosen for text in tables(name, folder)]
    if not names:
        found += rates_tables(folder)
    return {heading_of(text): text for text in found}


if __name__ == "__main__":
    print("\n\n".join(every_table(names=sys.argv[1:]).values()))
