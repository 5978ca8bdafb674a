r"""
---
title: Where a lost state goes
summary: The first mistake in a long product: is it any element, or one whose memory lies near?
---

# Where a lost state goes

A model that has learnt a group makes no mistake for hundreds of steps, and then one. What has
happened? It may have confused two tokens, or two memories: then the wrong answer might be any of
the 59 other elements, or one that shares something with the right one. But there is another way. A
memory vector is never rounded, so it may *drift*, a little at each step, until it lies nearer to
the place of another element. Then the first wrong answer is a neighbour.

So this experiment trains the model on a group as [usual](../catalog.py), with sequences of at most
32 steps, and asks two things. Where does the memory of each element lie? At the mean of the memory
vectors after 32 steps, where little has drifted yet. And which element is the first wrong answer in
sequences of 512? What is recorded is its *rank* among the 59 others, by their distance from the
right one: 1 is the nearest. Whoever guesses has a rank of 30 on average. A low rank tells that
mistakes lead to near states, not how they got there.

It is also counted how many of those sequences are right again at their end. A state that had become
another one for good would never be, but by chance.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...data.text import IGNORE
from ...support.checks import require
from ..experiment import TEST_SEED, Experiment, take_part

SEQUENCES = 1024
"""How many are read to the end, and how many for the places of the elements."""


@torch.no_grad()
def read(model: Any, task: Any, T: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """`SEQUENCES` of `T` steps: answers and labels, `(B, T)`, and the last memory, `(B, D)`."""
    parts = []
    for _ in range(SEQUENCES // 128):
        batch = task.draw(128, T, generator)
        logits, memory = model(batch.tokens)
        parts.append((logits.argmax(-1), batch.targets, memory.m[:, -1]))
    answers, labels, m = (torch.cat(column) for column in zip(*parts, strict=True))
    return answers, labels, m


def nearness(m: Tensor, y: Tensor, G: int) -> Tensor:
    r"""
    ## Who is near whom?

    From memory vectors `m`, `(B, D)`, and the elements `y` that they stand for, `(B,)`: at row $a$
    and column $b$ the rank of $b$ among the others, by the distance of its mean from that of $a$,
    `(G, G)`. Raises `ValueError` if an element is missing.
    """
    missing = sorted(set(range(G)) - set(y.tolist()))
    require(
        not missing, f"there is no memory vector of the elements {missing}; read more sequences"
    )
    # $\bar m_a$
    means = torch.stack([m[y == a].mean(0) for a in range(G)])
    # $\lVert \bar m_a - \bar m_b \rVert$, with $a$ itself in front of all others
    distance = (means[:, None] - means).norm(dim=-1).fill_diagonal_(-1.0)
    return distance.argsort(1).argsort(1)


def mistakes(answers: Tensor, labels: Tensor) -> Tensor:
    """Where an answer is wrong, of those that are asked for, `(B, T)`."""
    return (answers != labels) & (labels != IGNORE)


def first_mistakes(answers: Tensor, labels: Tensor) -> list[tuple[int, int]]:
    """
    The right and the wrong element at the first mistake of each sequence that has one; `answers`
    and `labels` are `(B, T)`.
    """
    wrong = mistakes(answers, labels)
    rows = wrong.any(1).nonzero().flatten()
    first = wrong.int().argmax(1)[rows]
    return list(zip(labels[rows, first].tolist(), answers[rows, first].tolist(), strict=True))


def slips(model: Any, task: Any, seed: int) -> dict[str, Any]:
    """
    ## What is recorded

    How many sequences were read; for each rank, from 1, how many first mistakes have it; and how
    many of the sequences with a mistake `returned`, so that their last answer is right. Leaves the
    model in evaluation mode. Raises `ValueError` if an element was never the product.
    """
    model.eval()
    G, generator = task.n_labels, torch.Generator().manual_seed(seed)
    _, labels, m = read(model, task, 32, generator)
    rank = nearness(m, labels[:, -1], G)
    answers, labels, _ = read(model, task, 512, generator)
    counts = [0] * G
    for right, given in first_mistakes(answers, labels):
        counts[rank[right, given]] += 1
    wrong = mistakes(answers, labels)
    returned = int((wrong.any(1) & ~wrong[:, -1]).sum())
    return {"sequences": SEQUENCES, "ranks": counts[1:], "returned": returned}


def run(seed: int, contests: Mapping[str, Experiment]) -> dict[str, Any]:
    """
    ## The experiment

    For each group its model is trained, as in the contest of that name, and asked; how far it has
    come is printed to stderr. The `seconds` are those of the processor, not of a clock.
    """
    started, results = time.process_time(), []
    for group, contest in contests.items():
        model, _ = take_part(contest, "feedback", seed, lambda line: print(line, file=sys.stderr))
        found = slips(model, contest.task, seed + TEST_SEED)
        results.append({"group": group, **found})
    return {"seed": seed, "seconds": time.process_time() - started, "results": results}
