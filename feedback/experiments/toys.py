r"""
---
title: Toys
summary: Copy, reverse, count, walk and recall, each defined in full.
---

# Toys

What can a memory be used for? To keep things in their order, to keep one number up to date, to find
one thing among many. A toy asks for one of these and nothing else, so whoever fails at it has
failed at just that.

The authors of the Feedback Transformer have such tasks as well: copying, reversing, counting, and a
random walk. Their data is not public. Ours, defined by this file alone, are made in the same
spirit, and their numbers are not to be compared.

- `Copy`: say again what you have read, in order or backwards. The answers are not shown to the
  model, so it must know how far it has come.
- `Counting`: how many events since the last bell?
- `Walk`: where on the grid is the walker?
- `Recall`: which value went with this key?

Counting and walking have a small *state*, and all that has to be remembered fits in it, however
long the sequence is. For copying and recall what has to be kept grows with the length. A recurrent
network must press it into one vector; attention leaves each thing where it is, and looks for it.
The Feedback Transformer has both a state and a memory to look into, as far as `mem_len` reaches.
"""

import torch
from torch import Tensor

from ..data.tasks import ACTIONS, walk
from ..data.text import IGNORE, Batch
from ..support.checks import expect, require
from .task import two_lines

DIGITS = 10
"""What is copied: ten digits, each its own token and label."""
NOW, BLANK = 10, 11
"""Tokens of `Copy`: answer from the next step on; a step with nothing to read."""
EVENT, PAUSE, BELL = range(3)
"""Tokens of `Counting`."""


def words(labels: Tensor) -> list[str]:
    """Labels as numbers, and a dot where there is none."""
    return ["." if i == IGNORE else str(i) for i in labels.tolist()]


class Copy:
    """
    ## Copy and reverse

    Random digits, the word `now`, and as many blanks as there were digits. At each blank the next
    digit is asked for, from the first to the last, or with `backwards` from the last to the first.

    Reversing asks at first for what was just read and then for what lies further and further back;
    copying always for what lies equally far back, but how far differs from length to length.
    """

    vocab_size = DIGITS + 2
    n_labels = DIGITS

    def __init__(self, backwards: bool = False):
        self.backwards = backwards

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """$n$ digits in $2n + 1$ steps, or one step less than `T` if that is even."""
        require(B > 0 and T > 2, f"B = {B}, T = {T}, expected at least 1 and at least 3")
        n = (T - 1) // 2
        digits = torch.randint(DIGITS, (B, n), generator=generator)
        rest = torch.tensor([NOW] + n * [BLANK]).expand(B, -1)
        silence = torch.full((B, n + 1), IGNORE)
        answers = digits.flip(1) if self.backwards else digits
        return Batch(torch.cat([digits, rest], 1), torch.cat([silence, answers], 1), new=True)

    def describe(self) -> str:
        """Four digits; a blank is an underscore."""
        batch = self.draw(1, 9, torch.Generator().manual_seed(1))
        names = [*map(str, range(DIGITS)), "now", "_"]
        return two_lines([names[i] for i in batch.tokens[0]], words(batch.targets[0]))


def count(tokens: Tensor) -> Tensor:
    """How many events since the last bell, or since the beginning, after each step; `(B, T)`."""
    events = (tokens == EVENT).cumsum(1)
    # Events never become fewer, so the largest number seen at a bell is that at the last one.
    before = torch.where(tokens == BELL, events, 0).cummax(1).values
    return events - before


class Counting:
    r"""
    ## Counting

    Each step is an event, a pause or a bell. The label is the last digit of the number of events
    since the last bell,

    $$y_t = \begin{cases} 0 & \text{at a bell} \\ y_{t-1} + 1 \bmod 10 & \text{at an event} \\
      y_{t-1} & \text{at a pause} \end{cases}$$

    **Why the last digit?** If the number itself were asked for, the vocabulary would have to grow
    with the length, and large numbers would be labels that training never showed. All last digits
    are seen in short sequences, and yet not one event may be missed: there are ten states, and what
    is tested is whether they survive. The pauses are there so that a position does not give the
    number away, and the bells because a counter has to be reset.

    A bell rings with probability $1/T$, about once in a sequence, so what has to be counted grows
    with the length; events and pauses are equally likely.
    """

    vocab_size = 3
    n_labels = DIGITS

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """Random steps and the count after each."""
        require(B > 0 and T > 0, f"B = {B}, T = {T}, expected both to be at least 1")
        tokens = torch.randint(2, (B, T), generator=generator)
        tokens[torch.rand(B, T, generator=generator) < 1 / T] = BELL
        return Batch(tokens, count(tokens) % DIGITS, new=True)

    def describe(self) -> str:
        """A stroke for an event, an underscore for a pause."""
        batch = self.draw(1, 12, torch.Generator().manual_seed(3))
        names = ["|", "_", "bell"]
        return two_lines([names[i] for i in batch.tokens[0]], words(batch.targets[0]))


class Walk:
    """
    ## The random walk

    Steps from `ACTIONS`, drawn uniformly, on a grid of `size` by `size` cells whose opposite edges
    are joined; the label is the cell after each, see `walk`. The state is the cell and where the
    walker faces. Raises `ValueError` for a size below one.
    """

    vocab_size = len(ACTIONS)

    def __init__(self, size: int = 3):
        expect(size > 0, "size", size, "a grid of at least one cell")
        self.size = size

    @property
    def n_labels(self) -> int:
        """Cells."""
        return self.size**2

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """Random steps and the cell after each."""
        require(B > 0 and T > 0, f"B = {B}, T = {T}, expected both to be at least 1")
        actions = torch.randint(len(ACTIONS), (B, T), generator=generator)
        return Batch(actions, walk(actions, self.size), new=True)

    def describe(self) -> str:
        """Eight steps; cells are numbered row by row."""
        batch = self.draw(1, 8, torch.Generator().manual_seed(2))
        return two_lines([ACTIONS[i] for i in batch.tokens[0]], words(batch.targets[0]))


class Recall:
    r"""
    ## Recall

    First pairs, a key and its value; then keys, and at each of them its value is asked for. A third
    of the steps are keys with a value, a third values, a third or a little more questions. So with
    the length grow both how far back the answer lies and how many pairs have to be kept: for $n$
    pairs $n \log_2$ `n_values` bits at least, in a state that does not grow. No key occurs in two
    pairs; questions are drawn uniformly, so a key may be asked for twice or never.

    Nothing says where the questions begin, nor has to: a key that has been seen is a question.
    """

    def __init__(self, n_keys: int = 128, n_values: int = 16):
        good = n_keys > 0 and n_values > 1
        require(good, f"n_keys = {n_keys}, n_values = {n_values}, expected at least 1 and 2")
        self.n_keys, self.n_values = n_keys, n_values

    @property
    def vocab_size(self) -> int:
        """Keys, and values after them."""
        return self.n_keys + self.n_values

    @property
    def n_labels(self) -> int:
        """Values."""
        return self.n_values

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """`T` // 3 pairs, and questions in the steps that are left."""
        require(B > 0 and T > 2, f"B = {B}, T = {T}, expected at least 1 and at least 3")
        n, most = T // 3, 3 * self.n_keys + 2
        require(n <= self.n_keys, f"T = {T}, expected at most {most} for n_keys = {self.n_keys}")
        keys = torch.rand(B, self.n_keys, generator=generator).argsort(1)[:, :n]
        values = torch.randint(self.n_values, (B, n), generator=generator)
        pairs = torch.stack([keys, self.n_keys + values], dim=2).flatten(1)
        asked = torch.randint(n, (B, T - 2 * n), generator=generator)
        tokens = torch.cat([pairs, keys.gather(1, asked)], dim=1)
        silence = torch.full_like(pairs, IGNORE)
        return Batch(tokens, torch.cat([silence, values.gather(1, asked)], dim=1), new=True)

    def describe(self) -> str:
        """Three pairs and three questions: keys are k0, k1 and so on, values are numbers."""
        batch = self.draw(1, min(9, 3 * self.n_keys), torch.Generator().manual_seed(1))
        K = self.n_keys
        names = [f"k{i}" if i < K else str(i - K) for i in batch.tokens[0].tolist()]
        return two_lines(names, words(batch.targets[0]))
