r"""
---
title: Tables of learning rates
summary: Which learning rates were tried, briefly and with the whole budget.
---

# Tables of learning rates

What a contestant can do depends on its learning rate, so beside each result belongs what else was
tried. `docs/runs/experiments/search` holds those runs. With seed 0 they are short, and all rates of
a contestant have the same few tokens; with another seed they have the whole budget of an
experiment, and stand beside the runs of its record.
"""

from collections.abc import Sequence
from pathlib import Path

from feedback.experiments.catalog import EXPERIMENTS, find
from feedback.experiments.groups import WordProblem

from .cells import NAMES, between, by_contestant, spread, table, title
from .experiments import RECORDS, WHO, Run, read

SEARCH_HEADING = "$A_5$: learning rates tried"
RATES_HEADING = "Learning rates tried elsewhere"
WHOLE_HEADING = "Learning rates tried with the whole budget"
RATES_HEADINGS = {SEARCH_HEADING, RATES_HEADING, WHOLE_HEADING}
"""What these tables can have as the first cell of their first row."""


def search_table(folder: Path = RECORDS) -> str | None:
    """
    ## Which learning rates were tried

    One run each, on a smaller budget: the length it reached, and the right answers at the end.
    None, if there is no record of a search.
    """
    record = read("a5", folder / "search")
    if record is None:
        return None
    rows = [[SEARCH_HEADING, "parameters", "rate", "length reached", "right at that length, %"]]
    order = list(WHO)
    runs = sorted(
        # Runs of other seeds have the whole budget.
        (run for run in record["runs"] if run["seed"] == 0),
        key=lambda r: (order.index(r["contestant"]), r["parameters"], r["learning_rate"]),
    )
    for run in runs:
        end, size, rate = run["curve"][-1], f"{run['parameters']:,}", f"{run['learning_rate']:g}"
        name = NAMES[run["contestant"]]
        rows.append([name, size, rate, str(end["seq_len"]), f"{100 * end['accuracy']:.1f}"])
    return table(rows)


def rates_table(folder: Path = RECORDS) -> str | None:
    """
    For the other tasks with a record of a search: how far each contestant came with each rate, and
    what share of the answers was right in the end, in training. None, if there is no such record.
    """
    records = (read(name, folder / "search") for name in EXPERIMENTS if name != "a5")
    rows = [[RATES_HEADING, "contestant", "a lower rate", "first chosen on $A_5$", "a higher rate"]]
    for record in filter(None, records):
        for who, runs in by_contestant(record).items():
            ends = {run["learning_rate"]: run["curve"][-1] for run in runs if run["seed"] == 0}
            cells = (
                f"{rate:g}: {end['seq_len']} ({100 * end['accuracy']:.1f} %)"
                for rate, end in sorted(ends.items())
            )
            if ends:
                rows.append([title(record["experiment"]), NAMES[who], *cells])
    return table(rows) if len(rows) > 1 else None


def whole_table(folder: Path = RECORDS) -> str | None:
    """
    The runs with the whole budget of each contestant that has some with another rate than that of
    the tables, in order of the rates; right answers as the pages have them, of groups the last
    ones. None, if there are no such runs.
    """
    head = "contestant", "rate", "seeds", "length reached", "right at that of training, %"
    rows = [[WHOLE_HEADING, *head, "right at the greatest, %"]]
    for name in EXPERIMENTS:
        search, record = read(name, folder / "search"), read(name, folder)
        if search is None or record is None:
            continue
        taken = by_contestant(record)
        for who, tried in by_contestant(search).items():
            others = [run for run in tried if run["seed"]]
            runs = [*others, *taken.get(who, [])] if others else []
            for rate in sorted({run["learning_rate"] for run in runs}):
                mine = [run for run in runs if run["learning_rate"] == rate]
                rows.append([title(name), NAMES[who], f"{rate:g}", *whole_cells(name, mine)])
    return table(rows) if len(rows) > 1 else None


def whole_cells(name: str, runs: Sequence[Run]) -> list[str]:
    """The seeds of these runs, the length they reached, and their right answers at two lengths."""
    experiment = find(name)
    mark = "final" if isinstance(experiment.task, WordProblem) else "token"
    seeds = ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
    reached = between([run["curve"][-1]["seq_len"] for run in runs])
    taught, greatest = experiment.course.seq_len, experiment.lengths[-1]
    lengths = [T if T in experiment.lengths else greatest for T in (taught, greatest)]
    shares = ([100 * run["test"][str(T)][mark] for run in runs] for T in lengths)
    return [seeds, reached, *(spread(values, ".1f") for values in shares)]


def rates_tables(folder: Path = RECORDS) -> list[str]:
    """All of them that there are."""
    made = (make(folder) for make in (search_table, rates_table, whole_table))
    return [text for text in made if text]
