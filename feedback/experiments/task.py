r"""
---
title: What a task is
summary: A stream of sequences with labels, drawn by a generator of its own.
---

# What a task is

An experiment needs a task that never runs out, whose every label is certain, and that can be made
longer than anything seen in training. So a task here is a small object that draws batches: tokens,
and a label for each step at which an answer is asked for. All other steps have the label `IGNORE`.

Whatever is random comes from the `generator` that is passed in, so that a seed reproduces a
stream, whatever else draws random numbers in the same program.
"""

from typing import Protocol

import torch
from torch import Tensor

from ..data.text import IGNORE, Batch
from ..support.checks import require


class Task(Protocol):
    """
    ## The task

    Tokens are numbers below `vocab_size`, labels numbers below `n_labels`.
    """

    @property
    def vocab_size(self) -> int:
        """Distinct tokens."""
        ...

    @property
    def n_labels(self) -> int:
        """Distinct labels."""
        ...

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """`B` new sequences of `T` steps; raises `ValueError` for sizes that make no sense."""
        ...

    def describe(self) -> str:
        """One example, as a person would write it: tokens above, labels below."""
        ...


def two_lines(tokens: list[str], labels: list[str]) -> str:
    """Words in columns, those of a label below those of its token."""
    widths = [max(len(a), len(b)) for a, b in zip(tokens, labels, strict=True)]
    lines = (zip(words, widths, strict=True) for words in (tokens, labels))
    return "\n".join(" ".join(w.rjust(n) for w, n in line).rstrip() for line in lines)


def chance(task: Task) -> float:
    """The share of right answers of somebody who draws one of the labels, all equally likely."""
    return 1 / task.n_labels


def right(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Which answers are right, and which were asked for, both `(B, T)`; logits `(B, T, V)`."""
    return logits.argmax(-1) == targets, targets != IGNORE


class UpTo:
    """
    ## Not one length alone

    The same task, but each batch has a length of its own, drawn uniformly from `shortest` to the
    one asked for. Whoever always copies twenty digits learns to look back by twenty-one steps, and
    knows nothing of copying ten.
    """

    def __init__(self, task: Task, shortest: int):
        self.task, self.shortest = task, shortest
        self.vocab_size, self.n_labels = task.vocab_size, task.n_labels

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """`B` sequences of at most `T` steps; raises `ValueError` if `T` is below `shortest`."""
        require(self.shortest <= T, f"T = {T}, expected at least {self.shortest}")
        length = torch.randint(self.shortest, T + 1, (), generator=generator)
        return self.task.draw(B, int(length), generator)

    def describe(self) -> str:
        """An example of the task."""
        return self.task.describe()
