r"""
---
title: The tape
summary: What the forward sweep keeps for the backward sweep, and what the weight gradients need.
---

# The tape

A hand-written backward pass has to make a decision that autograd otherwise makes for us: what to
keep. The surprise is how little is needed. Only what the recurrence had to *wait* for is worth
keeping: the states before and after attention, the output of attention, and the attention weights.
Once these are known nothing waits any more, and all the rest can be recomputed for many steps at
a time, in a few large operations. Norms and queries always are. The inner units of the
feed-forward sublayer take more room than anything else, but are also two fifths of the work of the
products: they are kept, unless the weights need the room more. Then the tape is *lean*.

There are three collections of tensors. The forward sweep writes the *tape*. From the tape, the
*recomputed* tensors are made for one stretch of steps at a time. The backward sweep writes the
*adjoint* of a stretch, from which products make the weight gradients. All are time first,
`(L, T, B, ...)`, so that the rows of a layer at all steps form one matrix.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ModelConfig
from ..layers import DropoutMasks
from ..reference import Pairs
from .weights import Weights

ROWS = 384
"""Rows of a stretch: enough for a fast product, and few enough to need little memory."""

MARGIN = 16
"""Zero slots after the last one, so that a loop over whole vectors may read past it."""


class Sizes(NamedTuple):
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
    def of(cls, c: ModelConfig, T: int, B: int, S: int, masks: DropoutMasks | None) -> "Sizes":
        """The sizes of a call to a model with configuration `c`."""
        return cls(
            T=T, B=B, D=c.d_model, H=c.n_heads, K=c.head_dim, L=c.n_layers, F=c.d_ff,
            P=1 if c.share_kv else c.n_layers, S=S, W=min(c.mem_len, S + T),
            activation=c.activation, norm_memory=c.norm_memory,
            dropout=0.0 if masks is None else masks.rate,
        )  # fmt: skip

    @property
    def relu_only(self) -> bool:
        """Whether the derivative of the activation needs no more than which units fired."""
        return self.activation == "relu" and self.dropout == 0

    @property
    def wide(self) -> int:
        """The width of the input to the activation."""
        return self.F * (1 + (self.activation == "swiglu"))

    @property
    def matrices(self) -> int:
        """How many numbers all large matrices hold together."""
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
        The stretches through which the backward sweep goes back, the last one first: the first
        step of each, and its number of steps.
        """
        # A lean tape saves memory, and shorter stretches save more.
        size = -(-ROWS // (self.B * (1 + self.lean)))
        for first in reversed(range(0, self.T, size)):
            yield first, min(size, self.T - first)

    def before(self, t: int) -> int:
        """How many slots all steps before `t` read in total."""
        # Windows grow from S to W, and then they slide.
        growing = min(t, self.W - self.S)
        return growing * self.S + growing * (growing - 1) // 2 + (t - growing) * self.W


class Tape(NamedTuple):
    r"""
    ## What the forward sweep leaves

    Everything is preallocated. Without gradients there is room for a single step, which each step
    overwrites, of all but the memory, keys and values.
    """

    x: Tensor
    """$x_t^l$, `(L+1, T, B, D)`"""
    m: Tensor
    """$m_t$, `(T, B, D)`"""
    attn: Tensor
    """`(L, H, ...)`: the attention weights of each step's window, `(B, S)`, step after step"""
    o: Tensor
    """`(L, T, B, HK)`"""
    y: Tensor
    """`(L, T, B, D)`"""
    pre: Tensor
    r"""
    The input of $\phi$, `(L, T, B, F)`, or `2F` with a gate; for a ReLU without dropout its output,
    which is all that the backward sweep needs. A lean tape has room for one step only.
    """
    k: Tensor
    """Keys of all slots, carried and new, `(P, H, B, K, S + T)`, and a margin of zeros"""
    v: Tensor

    @classmethod
    def make(cls, n: Sizes, like: Tensor, dtype: torch.dtype, recording: bool) -> "Tape":
        """Room for `T` steps, or for one; matrix products use `dtype`, the rest that of `like`."""
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
            # The first step attends to nothing and never writes here, so this starts at zero.
            tape.o[:, 0].zero_()
        return tape

    @property
    def recording(self) -> bool:
        """Whether there is a row for each step (for a single step, one row is enough)."""
        return self.x.shape[1] == len(self.m)

    def row(self, tensor: Tensor, t: int) -> Tensor:
        """The part of a `tensor` of the tape that step `t` writes, `(..., B, D)`."""
        return tensor[:, t if tensor.shape[1] > 1 else 0]

    def outputs(self) -> Tensor:
        """Where the outputs of all steps go, `(T, B, D)`: on the tape, if they fit."""
        return self.x[-1] if self.recording else torch.empty_like(self.m)

    def weights(self, n: Sizes, t: int) -> Tensor:
        """The attention weights of step `t`, `(L, H, B, S)`."""
        start, end = n.window(t)
        first, size = n.before(t) if self.recording else 0, end - start
        return self.attn.narrow(-1, n.B * first, n.B * size).unflatten(-1, (n.B, size))


class Call(NamedTuple):
    """
    ## One call of the whole sequence

    What both sweeps need to know.
    """

    sizes: Sizes
    weights: Weights
    tape: Tape
    masks: DropoutMasks | None

    def dropped(self, attn: Tensor, t: int, l: int) -> Tensor:
        """Drops attention weights `(H, B, S)`, or their gradients, at one step and layer."""
        if self.masks is None:
            return attn
        kept, _ = self.masks.at(t, l, attn.shape[-1])
        return attn * kept.transpose(0, 1) / (1 - self.masks.rate)


def slots_last(pairs: Pairs) -> Iterator[Tensor]:
    """Keys and values `(B, H, S, K)` of each projection as two tensors `(P, H, B, K, S)`."""
    return (torch.stack(kv).permute(0, 2, 1, 4, 3) for kv in zip(*pairs, strict=True))


class Recomputed(NamedTuple):
    r"""
    ## What is recomputed

    For a stretch of steps, in large operations: the outputs $z = \gamma \odot \hat x + \beta$ of
    the norms, the mean and $1/\sigma$ of each, the queries, and, for a lean tape, the inner units.
    """

    z_attn: tuple[Tensor, ...]
    """`(T, B, D)`, one per layer"""
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
    """$m_t$ as it is projected, `(T, B, D)`: normalised, or unchanged"""
    m_mean: Tensor
    m_rstd: Tensor


class Adjoint(NamedTuple):
    r"""
    ## What the backward sweep leaves for the weights

    For each weight, the gradient of its output. `dx` is $\delta x_t^l$ for
    $l = 1 \dots L$, and `dx0` is that of the embeddings.
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
    """`(L, H, T, B, W)`; windows are aligned right: column $-d$ is the slot at distance $d$"""
    dq: Tensor
    """`(L, T, B, HK)`"""
    dm: Tensor
    """`(T, B, D)`"""
    dkv: Tensor
    """`(T, B, P * 2HK)`"""


class Workspace:
    """
    ## Room for the adjoint of a stretch

    Allocated once, for the longest stretch; shorter ones use the beginning of it.
    """

    def __init__(self, n: Sizes, tape: Tape):
        self.sizes = n
        longest = max(steps for _, steps in n.stretches())
        like = {"dpre": tape.o, "dq": tape.o, "dkv": tape.o, "ds": tape.attn}
        self.flat = {
            name: like.get(name, tape.x).new_empty(math.prod(shape))
            for name, shape in self.shapes(longest).items()
        }

    def shapes(self, T: int) -> dict[str, tuple[int, ...]]:
        """The shapes of an adjoint of `T` steps."""
        n, HK = self.sizes, self.sizes.H * self.sizes.K
        return {
            "dx0": (T, n.B, n.D),
            "dx": (n.L, T, n.B, n.D),
            "dpre": (n.L, T, n.B, n.wide),
            "dy": (n.L, T, n.B, n.D),
            "ds": (n.L, n.H, T, n.B, n.W),
            "dq": (n.L, T, n.B, HK),
            "dm": (T, n.B, n.D),
            "dkv": (T, n.B, n.P * 2 * HK),
        }

    def adjoint(self, T: int) -> Adjoint:
        """An adjoint of `T` steps, which the next one overwrites."""
        shapes = self.shapes(T).items()
        return Adjoint(**{k: self.flat[k][: math.prod(shape)].view(shape) for k, shape in shapes})


class Gradients(NamedTuple):
    """
    ## What the backward pass returns
    """

    x: Tensor
    """Of the input, `(T, B, D)`"""
    cache: Tensor
    """Of keys and values of all slots, `(2, P, H, B, K, S + T)`, and a margin"""
    weights: Weights

    @classmethod
    def zeros(cls, call: Call, weights: Weights) -> "Gradients":
        """Zeros to add to; the gradients of the weights have the precision of `weights`."""
        tape = call.tape
        zeros = (torch.zeros_like(weight) for weight in weights.tensors())
        return cls(
            x=torch.empty_like(tape.m),
            cache=tape.x.new_zeros(2, *tape.k.shape),
            weights=Weights.from_tensors(zeros, call.sizes.L),
        )


class Stretch(NamedTuple):
    """
    ## A stretch of the backward sweep

    Some steps, from `first` on, and what belongs to them.
    """

    call: Call
    first: int
    recomputed: Recomputed
    adjoint: Adjoint

    @property
    def steps(self) -> int:
        """How many steps there are."""
        return len(self.adjoint.dm)

    def of(self, rows: Tensor) -> Tensor:
        """The rows of these steps in a tensor of the tape, `(L, T, B, ...)`."""
        return rows[:, self.first : self.first + self.steps]
