r"""
---
title: The tape
summary: What the forward sweep leaves for the backward sweep, and that one for the weights.
---

# The tape

A hand-written backward pass has to decide what autograd decides for us otherwise: what is kept.
The surprise is how little it has to be. Only what the recurrence had to *wait* for is worth
keeping: the states, before and after attention, what attention answered, and the weights with
which it did. Once these are known nothing waits any more, and all else comes again, for many steps
at a time, as a few large operations. The norms and queries always do. The inner units of the
feed-forward sublayer take more room than anything else, but are also two fifths of the work of the
products: they are kept, unless the weights need the room more. Then the tape is *lean*.

Here are the three lists. The *tape* is written by the forward sweep. Of it, *recomputed* is made
for a stretch of steps at a time. And the *adjoint* of a stretch is written by the
backward sweep and read by the products that make the weight gradients. All are time first,
`(L, T, B, ...)`, so that the rows of a layer at all steps are one matrix.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ModelConfig
from ..reference import Pairs

ROWS = 384
"""Rows of a stretch: enough for a fast product, and not many of them in memory at once."""

MARGIN = 16
"""Zero slots behind the last one, so that a loop over whole vectors may read past it."""


class Shape(NamedTuple):
    """All sizes of one call; `S` is the number of slots carried in, `W` the widest window."""

    T: int
    B: int
    D: int
    H: int
    K: int
    L: int
    F: int
    P: int
    S: int
    W: int
    activation: str
    norm_memory: bool
    dropout: float

    @classmethod
    def of(cls, c: ModelConfig, T: int, B: int, S: int, W: int, dropout: float = 0.0) -> "Shape":
        """The sizes of a call of a model with configuration `c`."""
        return cls(
            T=T, B=B, D=c.d_model, H=c.n_heads, K=c.head_dim, L=c.n_layers, F=c.d_ff,
            P=1 if c.share_kv else c.n_layers, S=S, W=W,
            activation=c.activation, norm_memory=c.norm_memory, dropout=dropout,
        )  # fmt: skip

    @property
    def relu_only(self) -> bool:
        """Whether the units that fired are all that the derivative of the activation needs."""
        return self.activation == "relu" and self.dropout == 0

    @property
    def wide(self) -> int:
        """The width of what the activation reads."""
        return self.F * (1 + (self.activation == "swiglu"))

    @property
    def matrices(self) -> int:
        """The numbers in all large matrices."""
        HK = self.H * self.K
        return self.D * (self.L * (2 * HK + self.wide + self.F) + self.P * 2 * HK)

    @property
    def lean(self) -> bool:
        """Whether the inner units are fewer than the weights, which then need the room more."""
        return self.T * self.B * self.L * self.wide < self.matrices

    def window(self, t: int) -> tuple[int, int]:
        """The slots that step `t` reads: from, to."""
        return max(0, self.S + t - self.W), self.S + t

    def stretches(self) -> Iterator[tuple[int, int]]:
        """
        The parts of the sequence in which the backward sweep goes back, the last one first: the
        first step of each, and how many there are.
        """
        # Where the tape is lean, the rest should be.
        size = -(-ROWS // (self.B * (1 + self.lean)))
        for first in reversed(range(0, self.T, size)):
            yield first, min(size, self.T - first)

    def before(self, t: int) -> int:
        """The number of slots that all steps before `t` read."""
        # Windows grow from S to W, and then they slide.
        growing = min(t, self.W - self.S)
        return growing * self.S + growing * (growing - 1) // 2 + (t - growing) * self.W


class Tape(NamedTuple):
    r"""
    ## What the forward sweep leaves

    Everything is preallocated. Without gradients a tape has a single row of time, which each
    step writes over.
    """

    x: Tensor
    """$x_t^l$, `(L+1, T, B, D)`"""
    m: Tensor
    """$m_t$, `(T, B, D)`"""
    attn: Tensor
    """`(L, H, ...)`: for each step the weights of its window, `(B, S)`, one after the other"""
    o: Tensor
    """`(L, T, B, HK)`"""
    y: Tensor
    """`(L, T, B, D)`"""
    pre: Tensor
    r"""
    Before $\phi$, `(L, T, B, F)`, or `2F` with a gate; for a ReLU without dropout, after it, which
    says as much. Only of one step on a lean tape.
    """
    k: Tensor
    """Keys of all slots, carried and new, `(P, H, B, K, S + T)`, and a margin of zeros"""
    v: Tensor

    @classmethod
    def make(cls, n: Shape, like: Tensor, dtype: torch.dtype, recording: bool) -> "Tape":
        """Room for `T` steps, or for one; matrix products are of `dtype`, the rest as `like`."""
        make, T = like.new_empty, n.T if recording else 1
        cache = (n.P, n.H, n.B, n.K, n.S + n.T + MARGIN)
        tape = cls(
            x=make(n.L + 1, T, n.B, n.D),
            m=make(n.T, n.B, n.D),
            attn=make(n.L, n.H, n.B * (n.before(n.T) if recording else n.W)),
            o=make(n.L, T, n.B, n.H * n.K, dtype=dtype),
            y=make(n.L, T, n.B, n.D),
            pre=make(n.L, 1 if n.lean else T, n.B, n.wide, dtype=dtype),
            k=like.new_zeros(cache, dtype=dtype),
            v=like.new_zeros(cache, dtype=dtype),
        )
        if n.S == 0:
            # The first step attends to nothing; what it did not compute must be nothing.
            tape.o[:, 0].zero_()
        return tape

    @property
    def recording(self) -> bool:
        """Whether there is a row for each step (a single step needs no more than a row)."""
        return self.x.shape[1] == len(self.m)

    def row(self, tensor: Tensor, t: int) -> Tensor:
        """The row of time of a `tensor` of the tape in which step `t` is written, `(..., B, D)`."""
        return tensor[:, t if tensor.shape[1] > 1 else 0]

    def outputs(self) -> Tensor:
        """Where the outputs of all steps go, `(T, B, D)`: on the tape, if they fit."""
        return self.x[-1] if self.recording else torch.empty_like(self.m)

    def weights(self, n: Shape, t: int) -> Tensor:
        """The attention weights of step `t`, `(L, H, B, S)`."""
        start, end = n.window(t)
        first, size = n.before(t) if self.recording else 0, end - start
        return self.attn.narrow(-1, n.B * first, n.B * size).unflatten(-1, (n.B, size))


def slots_last(pairs: Pairs) -> Iterator[Tensor]:
    """Keys and values `(B, H, S, K)` of each projection as two tensors `(P, H, B, K, S)`."""
    return (torch.stack(kv).permute(0, 2, 1, 4, 3) for kv in zip(*pairs, strict=True))


class Recomputed(NamedTuple):
    r"""
    ## What is made again

    For a stretch of steps, as large operations: $z = \gamma \odot \hat x + \beta$ of the norms,
    with the mean and $1/\sigma$ that they divided by, queries, and, for a lean tape, inner units.
    """

    z_attn: tuple[Tensor, ...]
    """`(T, B, D)`, one a layer"""
    z_ff: tuple[Tensor, ...]
    x_mean: Tensor
    """`(L, T, B, 1)`"""
    x_rstd: Tensor
    y_mean: Tensor
    y_rstd: Tensor
    q: Tensor
    """`(L, T, B, HK)`"""
    pre: Tensor
    """`(L, T, B, F)`, or `2F` with a gate"""
    m_hat: Tensor
    """$m_t$ as it is projected, `(T, B, D)`: normalised, or the same"""
    m_mean: Tensor
    m_rstd: Tensor


class Adjoint(NamedTuple):
    r"""
    ## What the backward sweep leaves for the weights

    For each weight the gradient of what it produced. `dx` is $\delta x_t^l$ of
    $l = 1 \dots L$, and `dx0` that of the embeddings.
    """

    dx0: Tensor
    """`(T, B, D)`"""
    dx: Tensor
    """`(L, T, B, D)`"""
    dpre: Tensor
    """`(L, T, B, F)`, or `2F` with a gate"""
    dy: Tensor
    """`(L, T, B, D)`"""
    ds: Tensor
    """`(L, H, T, B, W)`; a window ends at the right: column $-d$ is the slot at distance $d$"""
    dq: Tensor
    """`(L, T, B, HK)`"""
    dm: Tensor
    """`(T, B, D)`"""
    dkv: Tensor
    """`(T, B, P * 2HK)`"""

    @classmethod
    def make(cls, n: Shape, tape: Tape) -> "Adjoint":
        """Room for `T` steps."""
        x, q = tape.x.new_empty, tape.o.new_empty
        return cls(
            dx0=x(n.T, n.B, n.D),
            dx=x(n.L, n.T, n.B, n.D),
            dpre=q(n.L, n.T, n.B, n.wide),
            dy=x(n.L, n.T, n.B, n.D),
            ds=tape.attn.new_empty(n.L, n.H, n.T, n.B, n.W),
            dq=q(n.L, n.T, n.B, n.H * n.K),
            dm=x(n.T, n.B, n.D),
            dkv=q(n.T, n.B, n.P * 2 * n.H * n.K),
        )
