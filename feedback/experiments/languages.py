r"""
---
title: Formal languages
summary: Read an expression to its end, then say what it is worth: parity and arithmetic modulo 5.
---

# Formal languages

How much must you keep in mind to work out $3 - 1 \times 4 + 2$ modulo 5, if you see one symbol at a
time and never again? The sum of the terms that are finished, the product that may still grow, and
the sign read last: a few dozen states, whatever the length. Now put brackets in, as in
$((3 - (2 - 4)) + 1)$, and that is over. At each bracket that opens a sign has to be put aside until
it closes, and brackets may stand in brackets to any depth: what is needed is a *stack*.

That is the line between regular and context-free languages, and these three tasks lie on either
side of it[^chomsky]. Each asks one question, at the end:

- `Parity`: is the number of ones odd?
- `Arithmetic`: what is an expression of $+$, $-$ and $\times$ worth, modulo 5?
- `Brackets`: what is one of $+$, $-$ and brackets worth?

**The protocol.** Training at 3 to 40 symbols, examination at 40 to 256, all lengths equally
likely[^xlstm]. What is reported is how far a model is from chance to perfection, see
`scaled_accuracy`. The definitions are those of the code that Grazzi et al. released with their
table[^signs], in the details as well: where there are brackets, there is no multiplication. Their
lengths count the answer as a symbol, and with brackets a padding symbol too. Here a step is a
symbol that is read, and the answer is the label of the last. So their 3 to 40 is our 2 to 39, or 3
to 38 with brackets, where they draw the shortest three times as often as any other and we do not.

With one answer to a sequence there is little to learn from. That is the difficulty of this
protocol: a state has to be invented that nobody ever asks for.

[^chomsky]: Delétang et al., 2022, [arXiv:2207.02098](https://arxiv.org/abs/2207.02098): parity and
    arithmetic among their regular tasks, brackets among the deterministic context-free.
[^xlstm]: Beck et al., 2024, [arXiv:2405.04517](https://arxiv.org/abs/2405.04517).
[^signs]: Grazzi et al., 2024, [arXiv:2411.12537](https://arxiv.org/abs/2411.12537), with code at
    [automl/unlocking_state_tracking](https://github.com/automl/unlocking_state_tracking).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from ..data.text import IGNORE, Batch
from ..support.checks import require
from .task import Task, chance, two_lines

MODULUS = 5
"""Numbers are 0 to 4, and each is its own token."""


class Language(ABC):
    """
    ## What the three have in common

    A task whose sequences, `(B, T)`, may differ in length: the one label of each is at its last
    step, and what comes after that is padding, token 0, which no step before it can see.
    """

    symbols: str
    """What each token looks like."""
    n_labels: int
    """Distinct answers."""
    shortest = 2
    """The fewest steps of a sequence."""
    stride = 1
    """Lengths are multiples of this."""
    trained, tested = (2, 39), (39, 255)
    """Least and greatest length in the protocol."""

    @property
    def vocab_size(self) -> int:
        """Distinct tokens."""
        return len(self.symbols)

    @abstractmethod
    def write(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sequences of these lengths, padded, and the answer to each: `(B, T)` and `(B,)`."""

    def sample(self, lengths: Tensor, generator: torch.Generator) -> Batch:
        """A sequence for each of `lengths`, `(B,)`, or the nearest length below that there is."""
        lengths = lengths - lengths % self.stride
        tokens, answers = self.write(lengths, generator)
        targets = torch.full_like(tokens, IGNORE)
        targets[torch.arange(len(lengths)), lengths - 1] = answers
        return Batch(tokens, targets, new=True)

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """`B` sequences of `T` steps, or the nearest length below that there is."""
        good = B > 0 and self.shortest <= T
        require(good, f"B = {B}, T = {T}, expected at least 1 and at least {self.shortest}")
        return self.sample(torch.full((B,), T), generator)

    def describe(self) -> str:
        """A dozen steps and the answer."""
        batch = self.draw(1, 12, torch.Generator().manual_seed(1))
        labels = ["." if i == IGNORE else str(i) for i in batch.targets[0].tolist()]
        return two_lines([self.symbols[i] for i in batch.tokens[0]], labels)


def inside(lengths: Tensor) -> Tensor:
    """Which of the steps belong to a sequence, not to its padding: `(B, T)`."""
    return torch.arange(int(lengths.max())) < lengths[:, None]


class Parity(Language):
    r"""
    ## Parity

    Random bits, and whether the sum of all of them is odd. `parity` in [tasks](../data/tasks.py)
    asks after every step; this one only after the last.
    """

    symbols = "01"
    n_labels = 2
    shortest = 1

    def write(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Bits and the parity of each row."""
        there = inside(lengths)
        bits = torch.randint(2, there.shape, generator=generator) * there
        return bits, bits.sum(1) % 2


def values(numbers: Tensor, signs: Tensor) -> Tensor:
    r"""
    ## Arithmetic from left to right

    The value of `numbers`, `(B, N)`, up to each of them; `signs`, `(B, N)`, are the operations that
    follow them, 0 to 2 for $+$, $-$, $\times$, and the last is not read. Multiplication comes
    first, as usual, and yet one pass is enough. With $s$ the sum of the finished terms and $p$ the
    term that may still grow, reading an operation and the number $n$ does

    $$(s, p) \leftarrow \begin{cases} (s + p, \pm n) & \text{for } \pm \\
      (s, p \cdot n) & \text{for } \times \end{cases}$$

    and the value is $s + p$, all modulo 5.
    """
    s, p = torch.zeros_like(numbers[:, 0]), numbers[:, 0]
    y = [p]
    for sign, n in zip(signs[:, :-1].unbind(1), numbers[:, 1:].unbind(1), strict=True):
        times = sign == 2
        s = torch.where(times, s, s + p)
        p = torch.where(times, p, 1 - 2 * sign) * n % MODULUS
        y.append((s + p) % MODULUS)
    return torch.stack(y, dim=1)


class Arithmetic(Language):
    """
    ## Arithmetic without brackets

    Numbers and operations in turn, both drawn uniformly, and `=` at the end. Lengths are even.
    """

    symbols = "01234+-*="
    n_labels = MODULUS
    stride = 2
    trained, tested = (2, 39), (38, 255)

    def write(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Expressions and their values."""
        there = inside(lengths)
        B, N = there.shape[0], there.shape[1] // 2
        numbers = torch.randint(MODULUS, (B, N), generator=generator)
        signs = torch.randint(3, (B, N), generator=generator)
        tokens = torch.stack([numbers, MODULUS + signs], dim=2).flatten(1) * there
        tokens[torch.arange(B), lengths - 1] = self.symbols.index("=")
        # The last number stands before the sign of equality.
        return tokens, values(numbers, signs).gather(1, lengths[:, None] // 2 - 1).squeeze(1)


class Brackets(Language):
    r"""
    ## Arithmetic with brackets

    An expression $E_n$ of $n$ symbols, and `=` at the end. The shortest have one number $d$, and
    from five symbols on an expression is two smaller ones in brackets:

    $$\begin{aligned} E_1 &= d, \quad E_2 = {-d}, \quad E_3 = (d), \quad E_4 = (-d) \\
      E_n &= (E_k \pm E_{n-3-k}), \qquad 1 \le k \le n - 4 \end{aligned}$$

    Numbers, the sign and $k$ are drawn uniformly. The longest sequences of training are nested 5
    deep on average, and the longest of the examination 11 deep.
    """

    symbols = "01234+-=()"
    n_labels = MODULUS
    trained, tested = (3, 38), (38, 254)

    def write(self, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Expressions and their values."""
        tokens = torch.zeros(len(lengths), int(lengths.max()), dtype=torch.long)
        starts = torch.arange(len(lengths)) * tokens.shape[1]
        row = tokens.view(-1)
        row[starts + lengths - 1] = self.symbols.index("=")
        return tokens, self.expressions(row, starts, lengths - 1, generator)

    def expressions(self, row: Tensor, at: Tensor, n: Tensor, generator: torch.Generator) -> Tensor:
        """
        Writes an expression of `n` symbols to each place `at` of the row, returns the values. All
        that are equally deep are written at once, so there are as many calls as brackets in
        brackets, however many sequences there are.
        """
        plus, minus, opening, closing = (self.symbols.index(s) for s in "+-()")
        row[at[n > 2]] = opening
        row[(at + n - 1)[n > 2]] = closing
        value = torch.randint(MODULUS, n.shape, generator=generator)
        # $d$, in the middle; a minus sign makes the number of symbols even.
        negative = (n < 5) & (n % 2 == 0)
        row[(at + n // 2)[n < 5]] = value[n < 5]
        row[(at + n // 2 - 1)[negative]] = minus
        value = torch.where(negative, -value, value) % MODULUS
        if (n > 4).any():
            at, n, two = at[n > 4] + 1, n[n > 4], n > 4
            # $k$ and the other $n - 3 - k$
            k = 1 + (torch.rand(n.shape, generator=generator) * (n - 4)).long()
            sign = torch.randint(2, n.shape, generator=generator)
            row[at + k] = torch.where(sign == 0, plus, minus)
            places, sizes = torch.cat([at, at + k + 1]), torch.cat([k, n - 3 - k])
            left, right = self.expressions(row, places, sizes, generator).chunk(2)
            value[two] = (left + (1 - 2 * sign) * right) % MODULUS
        return value


class MixedLengths:
    """
    ## Many lengths in one batch

    The same language, but each sequence has a length of its own, drawn uniformly from `low` to
    `high`. So `MixedLengths(language, *language.trained)` is what the protocol trains on. Raises
    `ValueError` for lengths that the language does not have.
    """

    def __init__(self, language: Language, low: int, high: int):
        good = language.shortest <= low <= high
        words = f"low = {low}, high = {high}, expected low at least {language.shortest}"
        require(good, f"{words} and high no less than low")
        self.language, self.low, self.high = language, low, high

    @property
    def vocab_size(self) -> int:
        """Distinct tokens."""
        return self.language.vocab_size

    @property
    def n_labels(self) -> int:
        """Distinct answers."""
        return self.language.n_labels

    def draw(self, B: int, T: int, generator: torch.Generator) -> Batch:
        """`B` sequences of `low` to `high` steps, none of more than `T`, padded to the longest."""
        require(B > 0 and self.low <= T, f"B = {B}, T = {T}, expected at least 1 and {self.low}")
        lengths = torch.randint(self.low, min(T, self.high) + 1, (B,), generator=generator)
        return self.language.sample(lengths, generator)

    def describe(self) -> str:
        """A sequence of the language."""
        return self.language.describe()


def scaled_accuracy(accuracy: float, task: Task) -> float:
    r"""
    ## From chance to perfection

    0 for somebody who guesses, 1 for somebody who is always right, with $c$ the `chance` of a right
    guess: $(a - c) / (1 - c)$.
    """
    return (accuracy - chance(task)) / (1 - chance(task))
