r"""
---
title: Word problems
summary: Multiply the elements of a group, one a step: is the product known after each?
---

# Word problems

Shuffle five cards. Each step names a permutation, and you carry it out. After every step: in which
order do the cards lie? A child can do it with five cards on a table. The table is the state; each
step changes it, and no step may be forgotten or taken out of turn.

Written down it is a *word problem*. Each token is an element $x_t$ of a finite group $G$, and the
label is the product of all so far:

$$y_t = x_t \cdot y_{t-1}, \qquad y_1 = x_1$$

Which group it is decides how hard it is. In a *solvable* group, such as the integers modulo 60, the
product can be taken apart into a few sums that are taken in parallel, whatever the length. In
$A_5$, the 60 even permutations of five things, or in $S_5$, all 120 of them, this is impossible:
the problem is complete for the class $\mathrm{NC}^1$ of circuits whose depth grows with the
logarithm of the length (Barrington's theorem), and it is widely believed that a Transformer of
fixed depth cannot solve it for all lengths[^illusion]. With feedback a step only has to do one
multiplication.

So $A_5$ comes with controls of the same size: $\mathbb{Z}_{60}$, in which even the order of the
factors does not matter, and $A_4 \times \mathbb{Z}_5$, in which it does, but which is solvable.

[^illusion]: Merrill, Petty and Sabharwal, 2024,
    [arXiv:2404.08819](https://arxiv.org/abs/2404.08819). Their tasks are these groups.
"""

from functools import cache

import torch
from torch import Tensor

from ..data.text import IGNORE, Batch
from ..support.checks import expect, require
from .task import two_lines

Permutation = tuple[int, ...]
"""Where each of the points $0, 1, \\dots$ goes."""

GENERATORS: dict[str, list[Permutation]] = {
    "a5": [(1, 2, 0, 3, 4), (1, 2, 3, 4, 0)],
    "s5": [(1, 0, 2, 3, 4), (1, 2, 3, 4, 0)],
    # Cycles of three, four and five points, side by side.
    "z60": [(1, 2, 0, 4, 5, 6, 3, 8, 9, 10, 11, 7)],
    "a4z5": [(1, 2, 0, 3, 4, 5, 6, 7, 8), (1, 0, 3, 2, 5, 6, 7, 8, 4)],
}
"""Permutations from which all others of a group follow."""


def compose(second: Permutation, first: Permutation) -> Permutation:
    """The permutation that does `first`, then `second`."""
    return tuple(second[i] for i in first)


def closure(generators: list[Permutation]) -> list[Permutation]:
    """All products of the generators, in the order of a dictionary: the identity is the first."""
    found = {tuple(range(len(generators[0])))}
    new = list(found)
    while new:
        new = [p for p in {compose(g, a) for a in new for g in generators} if p not in found]
        found.update(new)
    return sorted(found)


@cache
def elements(name: str) -> list[Permutation]:
    """The elements of a group; raises `ValueError` for one that is not known."""
    expect(name in GENERATORS, "group", name, f"one of {', '.join(GENERATORS)}")
    return closure(GENERATORS[name])


@cache
def table(name: str) -> Tensor:
    """$x \\cdot y$ at row $x$ and column $y$, as numbers of `elements`, `(G, G)`."""
    group = elements(name)
    number = {p: i for i, p in enumerate(group)}
    return torch.tensor([[number[compose(x, y)] for y in group] for x in group])


def products(table: Tensor, x: Tensor) -> Tensor:
    r"""
    ## The product after each step

    `x` are elements, `(B, T)`; returns $y_t = x_t \cdot y_{t-1}$, `(B, T)`.
    """
    y = [x[:, 0]]
    for x_t in x[:, 1:].unbind(1):
        y.append(table[x_t, y[-1]])
    return torch.stack(y, dim=1)


def swaps(name: str) -> Tensor:
    """The numbers of the elements that move at most two points: the identity and the swaps."""
    moved = [sum(i != j for i, j in enumerate(p)) for p in elements(name)]
    return torch.tensor([i for i, n in enumerate(moved) if n <= 2])


class WordProblem:
    """
    ## The task

    `group` is a name from `GENERATORS`; with `only_swaps` the tokens are the identity and the
    swaps of two points, so that a step changes little. The first label is left out: it is the
    first token itself. Raises `ValueError` for a group that is not known or has no swaps.
    """

    def __init__(self, group: str, only_swaps: bool = False):
        self.group, self.table = group, table(group)
        self.tokens = swaps(group) if only_swaps else torch.arange(len(self.table))
        require(len(self.tokens) > 1, f"group {group!r} has no swaps; use 's5' with only_swaps")

    @property
    def vocab_size(self) -> int:
        """Elements that can be read."""
        return len(self.tokens)

    @property
    def n_labels(self) -> int:
        """Elements of the group."""
        return len(self.table)

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """Tokens drawn uniformly, and their products."""
        require(B > 0 and T > 1, f"B = {B}, T = {T}, expected at least 1 and at least 2")
        tokens = torch.randint(len(self.tokens), (B, T), generator=generator)
        labels = products(self.table, self.tokens[tokens])
        labels[:, 0] = IGNORE
        return Batch(tokens, labels, new=True)

    def describe(self) -> str:
        """Six steps: where each point goes by this step, and by all steps together."""
        batch = self.draw(1, 6, torch.Generator().manual_seed(1))
        names = ["".join(f"{i:x}" for i in p) for p in elements(self.group)]
        words = [names[self.tokens[i]] for i in batch.tokens[0]]
        return two_lines(words, ["." if i == IGNORE else names[i] for i in batch.targets[0]])
