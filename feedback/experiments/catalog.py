r"""
---
title: The catalogue
summary: The experiments by name: each a task, a course and its contestants.
---

# The catalogue

`python -m feedback experiment NAME` runs what is listed here. Nearly all of it is small on purpose:
some two hundred thousand parameters and minutes on one core, so that whoever doubts a result can
repeat it. Only the paper's programs by its own recipe are for a GPU.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..config import FAIR
from ..support.checks import expect, require
from .course import Course
from .experiment import Contestant, Experiment, run_experiment, run_study
from .groups import WordProblem
from .languages import Arithmetic, Brackets, Language, MixedLengths, Parity
from .programs import Programs, WholePrograms
from .released import Recipe, follow, twice_as_deep
from .rivals import RIVALS, variant
from .studies import parallel_in_time, slips, text_ablations
from .task import Task, UpTo
from .toys import Copy, Counting, Recall, Walk

LENGTHS = (16, 32, 64, 128, 256, 512)
"""Where word problems are examined; training ends at 32."""

RATES = {
    "feedback": 3e-3,
    "no_feedback": 3e-3,
    "transformer_2": 1e-3,
    "transformer_2_no_positions": 1e-3,
    "transformer_8": 1e-3,
    "transformer_8_no_positions": 1e-3,
    "gru": 1e-2,
    "lstm": 1e-2,
    "slstm": 2e-2,
    "mamba": 3e-3,
    "delta_product": 3e-3,
}
"""
Learning rates, from a recorded search on A5 with a million tokens. `no_feedback`, the Transformers
of eight layers and Mamba have the rate of what is most like them, which a later search did not
change. Where a search on another task, or one with the whole budget, led to another rate, it is
named below.
"""

LOWER = {"gru": 5e-3, "lstm": 5e-3}
"""What the whole budget chose for recurrent networks on groups, with one exception."""

HIGHER = dict.fromkeys((who for who in RATES if who.startswith("transformer")), 3e-3)
"""With it a Transformer of two layers comes further in sums; the others have it there as well."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "all_layers": {},
    "top_only": {"memory": "top"},
    "embedding_only": {"memory": "embedding"},
    "plain_mean": {"memory": "mean"},
    "kv_of_each_layer": {"share_kv": False},
    "no_norm": {"norm_memory": False},
    "mem_len_2": {"mem_len": 2},
    "mem_len_8": {"mem_len": 8},
    "mem_len_32": {"mem_len": 32},
    "mem_len_256": {"mem_len": 256},
    "mem_len_32_no_positions": {"mem_len": 32, "positions": False},
    "two_layers": {"n_layers": 2},
    "four_layers": {"n_layers": 4},
}
"""What is changed of the Feedback Transformer, one thing at a time."""


def everybody(*names: str, **rates: float) -> dict[str, Contestant]:
    """These of the rivals, or all of them; with these `rates`, or with those of A5."""
    known = {**RATES, **rates}
    return {who: Contestant(RIVALS[who], known[who]) for who in names or RIVALS}


def word_problem(
    task: Task, tokens: int, rates: Mapping[str, float] | None = None, **changes: Any
) -> Experiment:
    """A word problem on the usual course, with a budget of `tokens`, and `rates` of its own."""
    course = replace(Course(tokens=tokens, batch_tokens=2048, ready=0.95, decay=0.6), **changes)
    sizes = {"d_model": 128, "n_layers": 1, "d_ff": 512}
    return Experiment(task, everybody(**(rates or {})), course, LENGTHS, sizes)


def language(task: Language, mem_len: int, ready: float) -> Experiment:
    """A formal language: many lengths at once, the last label alone, short sequences first."""
    low, high = task.trained
    course = Course(tokens=10_000_000, seq_len=high, start_len=5, ready=ready, decay=0.6)
    trained, exam = MixedLengths(task, low, high), MixedLengths(task, *task.tested)
    contestants = everybody("feedback", "transformer_2", "lstm", "slstm")
    lengths = (task.tested[1],)
    return Experiment(trained, contestants, course, lengths, {"mem_len": mem_len}, exam)


def toy(
    task: Task,
    seq_len: int,
    lengths: Sequence[int],
    mem_len: int,
    exam: Task | None = None,
    **rates: float,
) -> Experiment:
    """A toy, taught up to `seq_len`; what has to be found again is within `mem_len` steps."""
    course = Course(
        tokens=6_000_000, batch_tokens=2048, seq_len=seq_len, start_len=3, ready=0.95, decay=0.6
    )
    contestants = everybody("feedback", "no_feedback", "transformer_2", "lstm", **rates)
    return Experiment(task, contestants, course, tuple(lengths), {"mem_len": mem_len}, exam)


def copying(task: Copy, **rates: float) -> Experiment:
    """Copy or reverse, with sequences of all lengths."""
    return toy(UpTo(task, 3), 41, (21, 41, 61, 81), 128, exam=task, **rates)


def programs(
    n_variables: int,
    mem_len: int,
    who: Sequence[str] = ("feedback", "transformer_2", "lstm"),
    dense: bool = True,
    **rates: float,
) -> Experiment:
    """
    The paper's programs, taught with a label at every word, from the first words of a program to
    the whole; examined on the prints of whole programs alone. A variable can be looked up as long
    as a step that names it is among the last `mem_len`. Without `dense` only prints have labels,
    and training begins with 16 words, since the first print can end with the seventh.
    """
    start = 4 if dense else 16
    course = Course(10_000_000, 2048, seq_len=432, start_len=start, ready=0.95, decay=0.8)
    sizes = {"d_model": 128, "n_layers": 1, "d_ff": 512, "mem_len": mem_len}
    task, exam = Programs(n_variables, dense=dense), WholePrograms(n_variables)
    return Experiment(task, everybody(*who, **rates), course, (512,), sizes, exam)


def released(n_variables: int) -> Experiment:
    """The paper's programs by the authors' settings: 1.64 billion tokens, on a GPU if it can be."""
    sizes = {"d_model": 256, "n_layers": 4, "d_ff": 1024, "mem_len": 100}
    model = {**FAIR, **sizes, "share_kv": False, "dropout": 0.2}
    rate = Recipe.learning_rate
    contestants = {
        "feedback": Contestant(RIVALS["feedback"], rate),
        "twice_as_deep": Contestant(twice_as_deep, rate),
    }
    task, exam = Programs(n_variables), WholePrograms(n_variables)
    return Experiment(task, contestants, Recipe(), (512,), model, exam, follow, "auto")


def ablations() -> Experiment:
    """A5 with one thing changed at a time."""
    variants = {
        name: Contestant(partial(variant, **changes), RATES["feedback"])
        for name, changes in ABLATIONS.items()
    }
    return replace(EXPERIMENTS["a5"](), contestants=variants)


EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "a5": lambda: word_problem(WordProblem("a5"), 6_000_000, LOWER),
    "a5_at_once": lambda: word_problem(WordProblem("a5"), 6_000_000, start_len=None),
    "a5_ablations": ablations,
    "z60": lambda: word_problem(WordProblem("z60"), 6_000_000, {**LOWER, **HIGHER}),
    "a4z5": lambda: word_problem(WordProblem("a4z5"), 6_000_000, {"gru": 5e-3}),
    "s5": lambda: word_problem(WordProblem("s5"), 24_000_000, LOWER),
    "swap_s5": lambda: word_problem(WordProblem("s5", only_swaps=True), 6_000_000, LOWER),
    "parity": lambda: language(Parity(), 1, 0.97),
    "arithmetic": lambda: language(Arithmetic(), 4, 0.9),
    "brackets": lambda: language(Brackets(), 4, 0.9),
    "copy": lambda: copying(Copy(), feedback=1e-3, transformer_2=3e-3),
    "reverse": lambda: copying(Copy(backwards=True)),
    "counting": lambda: toy(Counting(), 50, (50, 100, 200, 1000), 1),
    "walk": lambda: toy(Walk(), 50, (50, 100, 200), 2, lstm=2e-2),
    "programs_3": lambda: programs(3, 100),
    "programs_5": lambda: programs(5, 176, lstm=3e-3),
    "programs_3_near": lambda: programs(3, 64, ["feedback"]),
    "programs_3_prints": lambda: programs(3, 100, ["feedback"], dense=False),
    "programs_3_released": lambda: released(3),
    "programs_5_released": lambda: released(5),
    "recall": lambda: toy(Recall(), 48, (24, 48, 96, 192), 256, feedback=1e-2, transformer_2=3e-3),
}
"""Each is made when it is asked for."""

STUDIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "slips": lambda seed: slips.run(seed, {name: find(name) for name in ("z60", "a4z5")}),
    "parallel_in_time": parallel_in_time.run,
    "text_ablations": text_ablations.run,
    "text_slots": text_ablations.run_slots,
}
"""Experiments that are no contests: functions of the seed."""


def find(name: str) -> Experiment:
    """The contest of this name; raises `ValueError` if there is none."""
    expect(name in EXPERIMENTS, "experiment", name, f"one of {', '.join([*EXPERIMENTS, *STUDIES])}")
    return EXPERIMENTS[name]()


def describe(name: str) -> str:
    """An example of its task, with the labels below the tokens."""
    return find(name).task.describe()


@dataclass(frozen=True)
class Changes:
    """What is not as in the catalogue: contestants left out, a budget, a learning rate."""

    only: Sequence[str] = ()
    tokens: int | None = None
    learning_rate: float | None = None

    def apply(self, experiment: Experiment) -> Experiment:
        """The changed experiment; raises `ValueError` for a contestant that is not in it."""
        there = experiment.contestants
        for who in self.only:
            expect(who in there, "contestant", who, f"one of {', '.join(there)}")
        chosen = {who: c for who, c in there.items() if not self.only or who in self.only}
        if (rate := self.learning_rate) is not None:
            chosen = {who: c._replace(learning_rate=rate) for who, c in chosen.items()}
        tokens = experiment.course.tokens if self.tokens is None else self.tokens
        course = replace(experiment.course, tokens=tokens)
        return replace(experiment, contestants=chosen, course=course)


def run(name: str, seed: int, changes: Changes, out: Path, command: str) -> Path:
    """
    ## To run one

    Returns the path of the record. Raises `ValueError` for names that are not known, before
    anything is computed.
    """
    if name in STUDIES:
        require(changes == Changes(), f"{name} has no contestants, tokens or rate to be changed")
        return run_study(name, STUDIES[name], seed, out, command)
    return run_experiment(name, changes.apply(find(name)), seed, out, command)
