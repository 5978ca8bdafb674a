r"""
---
title: The tape
summary: What the forward sweep leaves for the backward sweep, and that one for the weights.
---

# The tape

A hand-written backward pass has to decide what autograd decides for us otherwise: what is kept.
Here are the two lists. The *tape* is written by the forward sweep and read by the backward sweep;
the *adjoint* is written by the backward sweep and read by the products that make the weight
gradients. Both are time first, `(L, T, B, ...)`, so that the rows of a layer at all steps
are one matrix, and both belong to one call.
"""

from typing import NamedTuple

import torch
from torch import Tensor

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

    @property
    def relu_only(self) -> bool:
        """Whether the units that fired are all that the derivative of the activation needs."""
        return self.activation == "relu" and self.dropout == 0

    def window(self, t: int) -> tuple[int, int]:
        """The slots that step `t` reads: from, to."""
        return max(0, self.S + t - self.W), self.S + t


class Tape(NamedTuple):
    r"""
    ## What the forward sweep leaves for the backward sweep

    Everything is preallocated. Without gradients a tape has a single row of time, which each
    step writes over.
    """

    x: Tensor
    """$x_t^l$, `(L+1, T, B, D)`"""
    m: Tensor
    """$m_t$, `(T, B, D)`"""
    m_hat: Tensor
    """$m_t$ as it is projected: normalised, or the same"""
    m_rstd: Tensor
    x_hat: Tensor
    r"""$\hat x$ of the attention norm, `(L, T, B, D)`, and $1/\sigma$"""
    x_rstd: Tensor
    y_hat: Tensor
    """The same of the feed-forward norm"""
    y_rstd: Tensor
    q: Tensor
    """`(L, T, B, HK)`"""
    attn: Tensor
    """`(L, H, T, B, W)`; a window ends at the right: column $-d$ is the slot at distance $d$"""
    o: Tensor
    """`(L, T, B, HK)`"""
    pre: Tensor
    r"""Before $\phi$, `(L, T, B, F)`; for a ReLU without dropout, after it, which says as much"""
    h: Tensor
    """What $W_2$ reads, `(L, T, B, F)`"""
    k: Tensor
    """Keys of all slots, carried and new, `(P, H, B, K, S + T)`, and a margin of zeros"""
    v: Tensor

    @classmethod
    def make(cls, n: Shape, like: Tensor, dtype: torch.dtype, recording: bool) -> "Tape":
        """Room for `T` steps, or for one; matrix products are of `dtype`, the rest as `like`."""
        make, T = like.new_empty, n.T if recording else 1
        m = make(n.T, n.B, n.D)
        pre = make(n.L, T, n.B, n.F * (1 + (n.activation == "swiglu")), dtype=dtype)
        tape = cls(
            x=make(n.L + 1, T, n.B, n.D),
            m=m,
            m_hat=make(T, n.B, n.D) if n.norm_memory else m,
            m_rstd=make(T, n.B, 1),
            x_hat=make(n.L, T, n.B, n.D),
            x_rstd=make(n.L, T, n.B, 1),
            y_hat=make(n.L, T, n.B, n.D),
            y_rstd=make(n.L, T, n.B, 1),
            q=make(n.L, T, n.B, n.H * n.K, dtype=dtype),
            attn=like.new_zeros(n.L, n.H, T, n.B, n.W),
            o=make(n.L, T, n.B, n.H * n.K, dtype=dtype),
            pre=pre,
            h=pre if n.relu_only else make(n.L, T, n.B, n.F, dtype=dtype),
            k=like.new_zeros(n.P, n.H, n.B, n.K, n.S + n.T + MARGIN, dtype=dtype),
            v=like.new_zeros(n.P, n.H, n.B, n.K, n.S + n.T + MARGIN, dtype=dtype),
        )
        if n.S == 0:
            # The first step attends to nothing; what it did not compute must be nothing.
            for unwritten in (tape.q, tape.o, tape.x_hat):
                unwritten[:, 0].zero_()
        return tape

    def steps(self, first: int, count: int) -> "Tape":
        """What belongs to `count` steps from `first` on, of all that weight gradients need."""
        by_layer = ("x", "x_hat", "y_hat", "q", "o", "h")
        views = {name: getattr(self, name).narrow(1, first, count) for name in by_layer}
        return self._replace(m_hat=self.m_hat.narrow(0, first, count), **views)

    def row(self, t: int) -> int:
        """The row of time in which step `t` is written."""
        return t if self.x.shape[1] > 1 else 0


class Adjoint(NamedTuple):
    r"""
    ## What the backward sweep leaves for the weights

    For each weight the gradient of what it produced, for all steps; `dx` is $\delta x_t^l$ of
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
    """`(L, H, T, B, W)`, aligned like `attn`"""
    dq: Tensor
    """`(L, T, B, HK)`"""
    dm: Tensor
    """`(T, B, D)`"""
    dkv: Tensor
    """`(T, B, P * 2HK)`"""
    dk_past: Tensor
    """`(P, H, B, K, S)`"""
    dv_past: Tensor

    @classmethod
    def make(cls, n: Shape, tape: Tape) -> "Adjoint":
        """Room for it all."""
        x, q = tape.x.new_empty, tape.q.new_empty
        adjoint = cls(
            dx0=x(n.T, n.B, n.D),
            dx=x(n.L, n.T, n.B, n.D),
            dpre=q(n.L, n.T, n.B, tape.pre.shape[-1]),
            dy=x(n.L, n.T, n.B, n.D),
            ds=tape.attn.new_zeros(n.L, n.H, n.T, n.B, n.W),
            dq=q(n.L, n.T, n.B, n.H * n.K),
            dm=x(n.T, n.B, n.D),
            dkv=q(n.T, n.B, n.P * 2 * n.H * n.K),
            dk_past=q(n.P, n.H, n.B, n.K, n.S),
            dv_past=q(n.P, n.H, n.B, n.K, n.S),
        )
        if n.S == 0:
            for unwritten in (adjoint.dy, adjoint.dq):
                unwritten[:, 0].zero_()
        return adjoint
