r"""
---
title: Programs
summary: Read a program once, a word at a time, and say what it prints.
---

# Programs

```
x = 3 ; x ++ ; y = 9 ; if x < y : y -- ; print y ;
```

What is printed? You read it with a finger on the page and two numbers in your head. Looking back
does not help: neither the 8 that is printed nor the 4 that decides about it stands in the text.
Each was made from a value before it, on the way.

This is the task on which the paper shows most clearly what feedback is for[^paper]: with three
variables the Feedback Transformer of 4 layers answers 99.1 % of the prints, a Transformer of 8
layers 33.7 %. With five variables it is 92.6 and 37.5 %. Whoever repeats what was printed last is
right in 29 and 23 % of the cases.

## The rules

A program is 100 statements and `END`. Each statement is one of five operations, all equally likely,
and a value is a whole number from 1 to 10.

| statement | when it may stand there |
|---|---|
| `v = N ;` | `v` has no value yet; `N` is any value |
| `v ++ ;` | `v` has a value, at most 9 |
| `v -- ;` | `v` has a value, at least 2 |
| `print v ;` | `v` has a value: it is the label of the `;` |
| `if v < c : S` | `v` has a value; so has `c`, another variable, or, half of the time, a number |

Half of the conditions have `>`. `S` is one more statement, neither `if` nor `print`. It obeys the
same rules; if the condition is false, it is drawn on a copy of the values, and so remains without
effect. *A draw that fails is drawn again*, operation and all.

These rules are those of the authors' released code. Among which variables one is drawn can be read
in several ways, and that changes how a program begins. Here `=` draws one of those without a value,
if there is any; `c` is one of the others that have a value, if there is any; and everywhere else
`v` may be any variable, and the draw fails if it has no value. So read, the rules agree with the
counts by which we go: 431.6 tokens and 25.5 prints in a program, and 28.9 and 22.9 % for whoever
repeats the last print, the first of a program not counted.

## What is ours

Three or five variables and 100 statements are the paper's. Shorter programs, more prints, and a
label at every word are *ours*, for a course that begins with something easier; what was learnt
with their help has to be told apart from the paper's task.

With a label at every word a program is read aloud, as one reads it with a finger:

```
x = 3 ; if x < 7   : x ++ ; print x ;
_ _ 3 3  _ 3 3 7 yes 3  4 4     _ 4 4
```

Each label is one thought away from those before it. A variable: what was its value? A condition:
say the one value, say the other, and only then compare. The labels of prints are the same as
without, and only they count in an examination.

Two more things turned out to matter, each in one short trial. *Whose value is it?* With one slot
of memory, nothing but `=` and `print` was too much: at 24 words half of the prints were wrong. Our
guess is that it is hard to tie names to values in a single vector. With 16 slots, programs of 32
words were learnt in seconds: nothing has to be tied, since attention can find the last step that
named the variable, and what was said there is its value now. That is also where mistakes come from
in the end. Of a model with 64 slots, its course completed, 256 programs were read up to the first
mistake: what was in reach was hardly ever missed, and all six looks beyond it failed. *One thought
at a time.* When the word after the sign had to say at once whether the condition was true, that
was still a guess after three million words, with `++` and `--` long known.

## How a thousand are written at once

A statement may only be drawn when the one before it is known, and a draw may fail. But programs do
not wait for each other: in each round every program draws once, and where the draw fails it stays
where it was. An `if` is two such draws, that of the condition and that of the statement after the
colon. Between them a program is *inside*, and it is *live* unless the condition was false.

[^paper]: Fan et al., 2020, [arXiv:2002.09402](https://arxiv.org/abs/2002.09402).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.text import IGNORE, Batch
from ..support.checks import expect, is_a, require
from .task import two_lines

TRAIN_PROGRAMS, VALID_PROGRAMS, TEST_PROGRAMS = 10_000, 1_000, 1_000
"""How many programs the paper has for each purpose."""

VARIABLES = "xyzpr"
"""The names of five variables; three are the first three."""

LARGEST = 10
"""The largest value."""

PIECES = {
    "v = c ;": (0, 0),
    "v ++ ;": (1, LARGEST - 1),
    "v -- ;": (2, LARGEST),
    "print v ;": (1, LARGEST),
    "if v < c :": (1, LARGEST),
    "if v > c :": (1, LARGEST),
    "END": (0, 0),
}
"""What one draw can write, and the values of `v`, from and to, at which it may; 0 is no value."""

TELLS = {
    "v = c ;": "_ _ after after",
    "v ++ ;": "before after after",
    "v -- ;": "before after after",
    "print v ;": "_ before after",
    "if v < c :": "_ before before other truth",
    "if v > c :": "_ before before other truth",
    "END": "_",
}
"""
The label of each word when all are asked for: the value of `v` before the piece or after it, that
of the `other` in a condition, a number or a variable, and whether the condition is true.
"""

FACTS = {word: i for i, word in enumerate("_ before after other truth".split())}
FALSE, TRUE = LARGEST, LARGEST + 1
"""The labels that are no value."""

ASSIGN, INCREMENT, DECREMENT, PRINT, IF_LESS, IF_MORE, END = range(len(PIECES))
LOW, HIGH = torch.tensor(list(PIECES.values())).T
NOTHING, IS_V, IS_C = -1, -2, -3
TOGETHER = 1000
"""Programs written at once, so that a corpus of any size takes little memory."""


class Draws(NamedTuple):
    """Draws of many programs, all of one shape."""

    piece: Tensor
    """Which of `PIECES`."""
    v: Tensor
    """The variable that is named first."""
    c: Tensor
    """The token of the number or the other variable."""
    value: Tensor
    """What the program has in `v` after this piece; 0 is no value."""
    before: Tensor
    """What it has in `v` before; 0 is no value."""
    other: Tensor
    """The number, or the value of the other variable."""
    holds: Tensor
    """Whether the condition is true, if the piece is one."""


class Writers:
    """
    ## Programs in the making

    `N` programs of so many `statements`, on `n` variables. All tensors are columns, `(N, 1)`, but
    for the values of the variables, `(N, n)`.
    """

    def __init__(self, N: int, n: int, statements: int):
        self.values = torch.zeros(N, n, dtype=torch.long)
        self.inside = torch.zeros(N, 1, dtype=torch.bool)
        self.live = ~self.inside
        self.left = torch.full((N, 1), statements)

    def rounds(
        self, weights: Tensor, generator: torch.Generator
    ) -> tuple[list[Draws], list[Tensor]]:
        """
        As many rounds as the slowest program needs at the least. Returns the draws of each, and
        which of them succeeded.
        """
        A, (N, n) = int(self.left.max()), self.values.shape
        piece = weights.multinomial(A * N, True, generator=generator).view(A, N, 1)
        number = torch.randint(1, LARGEST + 1, piece.shape, generator=generator)
        # In half of the conditions $c$ is no number but a variable, written as 0.
        half = torch.randint(2, piece.shape, generator=generator)
        number *= 1 - half * (piece >= IF_LESS)
        # Whoever comes first in a random order is a uniform choice among those who may be chosen.
        order = torch.rand(A, N, n, generator=generator)
        draws, good = [], []
        for row in zip(piece, number, order, *tables(piece, number), strict=True):
            draw, fits = self.draw(*row)
            draws.append(draw)
            good.append(fits)
        return draws, good

    def draw(
        self, piece: Tensor, number: Tensor, order: Tensor, bounds: Tensor, change: Tensor
    ) -> tuple[Draws, Tensor]:
        """One round: every program draws once. Returns the draws, and which of them succeeded."""
        assigned = self.values > 0
        v = (order * (~assigned | (piece != ASSIGN))).argmax(1, keepdim=True)
        first, other = (order * assigned).scatter(1, v, 0.0).max(1, keepdim=True)
        a = self.values.gather(1, v)
        b = number + (number == 0) * (first > 0) * self.values.gather(1, other)
        opens = piece >= IF_LESS
        fits = (bounds[:, :1] <= a) & (a <= bounds[:, 1:]) & (b > 0) & (self.left > 0)
        fits &= ~self.inside | (piece < PRINT)
        value = a + change * (fits & self.live)
        self.values.scatter_(1, v, value)
        self.inside = torch.where(fits, opens, self.inside)
        holds = torch.where(piece == IF_LESS, a < b, a > b)
        self.live = torch.where(fits, ~opens | holds, self.live)
        self.left = self.left - (fits & ~opens).long()
        c = torch.where(number > 0, self.values.shape[1] + number - 1, other)
        return Draws(piece, v, c, value, a, b, holds), fits


def tables(piece: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """What a piece asks of $v$, `(..., 2)`, and what it adds to it."""
    change = (piece == INCREMENT).long() - (piece == DECREMENT).long() + (piece == ASSIGN) * number
    return torch.cat((LOW[piece], HIGH[piece]), -1), change


def write(N: int, n: int, statements: int, weights: Tensor, generator: torch.Generator) -> Draws:
    """
    ## Whole programs

    The pieces of `N` programs, one after the other, each program with its `END`.
    """
    writers = Writers(N, n, statements)
    draws: list[Draws] = []
    good: list[Tensor] = []
    while writers.left.any():
        more, fits = writers.rounds(weights, generator)
        draws += more
        good += fits
    nothing = torch.zeros(N, 1, dtype=torch.long)
    draws.append(Draws(nothing + END, nothing, nothing, nothing, nothing, nothing, nothing > 0))
    keep = torch.cat([*good, torch.ones(N, 1, dtype=torch.bool)], 1)
    return Draws(*(torch.cat(column, 1)[keep] for column in zip(*draws, strict=True)))


def padded(rows: list[list[int]], filling: int) -> Tensor:
    """A row for each piece, as long as the longest of them has words."""
    return torch.tensor([row + [filling] * (5 - len(row)) for row in rows])


class Programs:
    """
    ## The task

    `n_variables` is 3 or 5, and a program has so many `statements`. Ours are `prints`, the share of
    `print` among the operations drawn, and `dense`, for which see `labels`. A label is a value less
    one, from 0 to 9; 10 and 11 are no and yes. Raises `ValueError` for what makes no sense.
    """

    def __init__(
        self,
        n_variables: int = 3,
        statements: int = 100,
        prints: float | None = None,
        dense: bool = False,
    ):
        expect(n_variables in (3, 5), "n_variables", n_variables, "3 or 5")
        words = "a whole number of at least 2: the first statement is no print"
        expect(is_a(statements, int) and statements > 1, "statements", statements, words)
        good = prints is None or (is_a(prints, float) and 0 < prints < 1)
        expect(good, "prints", prints, "a share between 0 and 1, or None for the paper's")
        self.n_variables, self.statements = n_variables, statements
        self.prints, self.dense = prints, dense
        numbers = [str(i + 1) for i in range(LARGEST)]
        signs = "= ++ -- if print < > : ; END _".split()
        self.words = [*VARIABLES[:n_variables], *numbers, *signs]
        share = 1 / 5 if prints is None else prints
        rest = (1 - share) / 4
        self.weights = torch.tensor([rest, rest, rest, share, rest / 2, rest / 2])
        token = {word: i for i, word in enumerate(self.words)} | {"v": IS_V, "c": IS_C}
        rows = [[token[word] for word in piece.split()] for piece in PIECES]
        self.forms = padded(rows, NOTHING)
        self.tells = padded([[FACTS[w] for w in piece.split()] for piece in TELLS.values()], 0)

    @property
    def vocab_size(self) -> int:
        """
        24 or 26: variables, ten numbers, ten signs, and `_`, which in the authors' files stands
        where there is no label, and is never read.
        """
        return len(self.words)

    @property
    def n_labels(self) -> int:
        """The values from 1 to 10; with `dense` also whether a condition is true."""
        return TRUE + 1 if self.dense else LARGEST

    def labels(self, draws: Draws) -> Tensor:
        """
        The labels of each piece, `(pieces, 5)`: what a print prints, at its `;`. With `dense` every
        word has the label that it has in `TELLS`. Values are counted before and after what is
        *carried out*, so after a false condition they are equal. Where a variable has no value
        there is no label.
        """
        zero = torch.zeros_like(draws.value)
        facts = [zero, draws.before, draws.value, draws.other, draws.holds + TRUE]
        tells = self.tells[draws.piece]
        if not self.dense:
            end = self.forms[draws.piece] == self.words.index(";")
            tells = tells * (end & (draws.piece == PRINT)[:, None])
        labels = torch.stack(facts, 1).gather(1, tells)
        return torch.where(labels > 0, labels - 1, IGNORE)

    def stream(
        self, programs: int, statements: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The tokens and labels of new programs, one after the other."""
        draws = write(programs, self.n_variables, statements, self.weights, generator)
        forms = self.forms[draws.piece]
        tokens = torch.where(forms == IS_V, draws.v[:, None], forms)
        tokens = torch.where(forms == IS_C, draws.c[:, None], tokens)
        return tokens[forms != NOTHING], self.labels(draws)[forms != NOTHING]

    def corpus(self, programs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """
        `programs` new ones, one after the other: tokens and labels, each of one dimension. The
        authors cut such a corpus into rows, and read these with the memory carried. Raises
        `ValueError` for fewer than one.
        """
        expect(is_a(programs, int) and programs > 0, "programs", programs, "at least 1")
        sizes = [min(TOGETHER, programs - i) for i in range(0, programs, TOGETHER)]
        parts = [self.stream(N, self.statements, generator) for N in sizes]
        tokens, labels = zip(*parts, strict=True)
        return torch.cat(tokens), torch.cat(labels)

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """
        `B` rows that begin with a program; where it ends before `T` tokens, others follow. Raises
        `ValueError` for fewer tokens than there are up to the first label.
        """
        least = 3 if self.dense else 7
        require(
            B > 0 and least <= T,
            f"B = {B}, T = {T}, expected at least 1 and at least {least}, where a label can be",
        )
        # No statement has fewer than three tokens.
        statements = min(self.statements, math.ceil(T / 3))
        programs = math.ceil(T / (3 * statements))
        tokens, labels = self.stream(B * programs, statements, generator)
        ends = (tokens == self.words.index("END")).nonzero().flatten() + 1
        starts = torch.cat((ends.new_zeros(1), ends[programs - 1 : -1 : programs]))
        where = starts[:, None] + torch.arange(T)
        return Batch(tokens[where], labels[where], new=True)

    def describe(self) -> str:
        """A program of six statements, and what it prints."""
        short = Programs(self.n_variables, min(6, self.statements), self.prints, self.dense)
        tokens, labels = short.corpus(1, torch.Generator().manual_seed(3))
        answers = {IGNORE: "_", FALSE: "no", TRUE: "yes"}
        below = [answers.get(i, str(i + 1)) for i in labels.tolist()]
        return two_lines([self.words[i] for i in tokens.tolist()], below)


class WholePrograms(Programs):
    """
    ## The examination

    A row is one program, to its end, and then nothing but `END`, which asks for nothing.
    """

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """
        `B` programs, in rows of `T` tokens; a longer program is cut. Raises `ValueError` for fewer
        tokens than there are up to the first label.
        """
        tokens, targets, new = super().draw(B, T, generator)
        over = (tokens == self.words.index("END")).cumsum(1) > 0
        return Batch(
            tokens.masked_fill(over, self.words.index("END")),
            targets.masked_fill(over, IGNORE),
            new,
        )
