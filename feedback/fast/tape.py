r"""
---
title: The tape
summary: What the forward sweep keeps for the backward sweep, and what the weight gradients need.
---

# The tape

A hand-written backward pass has to make a decision that autograd otherwise makes for us: what to
keep. Whatever is kept need not be computed again. At the default sizes everything together is
twelve numbers for each unit of width, in each layer, step and sequence of the batch; four of them
are the inner units of the feed-forward sublayer, and two the attention weights, which grow with the
window. So the tape keeps what a layer step computes on its way: the normalised inputs of both
sublayers, queries, attention weights, what attention returned, and the inner units. Only $\phi$ is
applied a second time, where it is not a plain ReLU.

There are two collections of tensors. The forward sweep writes the *tape*. The backward sweep goes
stretch by stretch, and for each it writes the *adjoint*, from which products make the weight
gradients. Most of them are `(L, T, B, ...)`, so that the rows of one layer at all steps are one
matrix, and those of one step lie together. In the shape of a single step, `S` is the width of its
window.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import ModelConfig
from ..layers import DropoutMasks
from ..reference import Pairs
from .weights import Weights

ROWS = 224
"""Rows of a stretch: enough for a fast product, and few enough to need little memory."""

MARGIN = 16
"""Zero slots after the last one, so that a loop over whole vectors may read past it."""


class Sizes(NamedTuple):
    """All sizes of one call: `S` slots are carried in, and no window is wider than `W`."""

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
        """Whether $h$ can replace its input on the tape: it says which units fired."""
        return self.activation == "relu" and self.dropout == 0

    @property
    def wide(self) -> int:
        """The width of the input to the activation."""
        return self.F * (1 + (self.activation == "swiglu"))

    @property
    def longest(self) -> int:
        """The steps of the longest stretch of the backward sweep."""
        return min(self.T, -(-ROWS // self.B))

    def window(self, t: int) -> tuple[int, int]:
        """The slots that step `t` reads: from, to."""
        return max(0, self.S + t - self.W), self.S + t

    def windows(self) -> Tensor:
        """For each step the first slot that it reads, and how many all steps before it read."""
        rows = [(self.window(t)[0], self.before(t)) for t in range(self.T)]
        return torch.tensor(rows, dtype=torch.int64, device="cpu")

    def before(self, t: int) -> int:
        """How many slots all steps before `t` read in total."""
        # Windows grow from S to W, and then they slide.
        growing = min(t, self.W - self.S)
        return growing * self.S + growing * (growing - 1) // 2 + (t - growing) * self.W


class Tape(NamedTuple):
    r"""
    ## What the forward sweep leaves

    Everything is allocated beforehand. Without gradients, only memory, keys and values have room
    for all steps; the rest has room for one, and each step overwrites the last.
    """

    x: Tensor
    """$x_t^l$, `(L+1, T, B, D)`"""
    x_hat: Tensor
    r"""$\hat x$ of the norm before attention, `(L, T, B, D)`"""
    x_rstd: Tensor
    r"""Its $1/\sigma$, `(L, T, B, 1)`"""
    q: Tensor
    """`(L, T, B, HK)`"""
    attn: Tensor
    """`(L, H, ...)`: the attention weights of each step's window, `(B, S)`, step after step"""
    o: Tensor
    """`(L, T, B, HK)`"""
    y_hat: Tensor
    """The norm before the feed-forward sublayer, in the same way"""
    y_rstd: Tensor
    pre: Tensor
    r"""
    The input of $\phi$, `(L, T, B, F)`, or `2F` with a gate; for a ReLU without dropout its output,
    which is all that the backward sweep needs.
    """
    m: Tensor
    """$m_t$, `(T, B, D)`"""
    m_hat: Tensor
    """$m_t$ as it is projected, `(T, B, D)`: normalised, or $m_t$ itself"""
    m_rstd: Tensor
    """`(T, B, 1)`"""
    k: Tensor
    """Keys of all slots, carried and new, `(P, H, B, K, S + T)`, and a margin of zeros"""
    v: Tensor
    """Values in the same way, but slot by slot in memory: each is read along its rows"""

    @classmethod
    def shapes(cls, n: Sizes, recording: bool) -> dict[str, tuple[int, ...]]:
        """Their shapes, with room for `T` steps, or for one."""
        rows, cache = (n.T if recording else 1, n.B), (n.P, n.H, n.B, n.K, n.S + n.T + MARGIN)
        wide, units, one = (n.L, *rows, n.D), (n.L, *rows, n.H * n.K), (n.L, *rows, 1)
        read = n.before(n.T) if rows[0] > 1 else n.W
        return {
            "x": (n.L + 1, *rows, n.D), "x_hat": wide, "x_rstd": one, "q": units,
            "attn": (n.L, n.H, n.B * read), "o": units, "y_hat": wide, "y_rstd": one,
            "pre": (n.L, *rows, n.wide), "m": (n.T, n.B, n.D), "m_hat": (n.T, n.B, n.D),
            "m_rstd": (n.T if n.norm_memory else 0, n.B, 1), "k": cache, "v": cache,
        }  # fmt: skip

    @classmethod
    def make(cls, n: Sizes, like: Tensor, dtype: torch.dtype, recording: bool) -> "Tape":
        """Room for `T` steps, or for one; matrix products use `dtype`, the rest that of `like`."""
        shapes = cls.shapes(n, recording)
        *cache, K, slots = shapes.pop("k")
        half = {name: dtype for name in ("q", "o", "pre")}
        tensors = {
            name: like.new_empty(shape, dtype=half.get(name, like.dtype))
            for name, shape in shapes.items()
            if name != "v" and (name != "m_hat" or n.norm_memory)
        }
        # Without a norm, what is projected is $m_t$ itself.
        tensors.setdefault("m_hat", tensors["m"])
        k = like.new_zeros(*cache, K, slots, dtype=dtype)
        tape = cls(**tensors, k=k, v=like.new_zeros(*cache, slots, K, dtype=dtype).mT)
        if n.S == 0:
            # The first step attends to nothing and never writes these, so they start at zero.
            for sometimes in (tape.x_hat, tape.x_rstd, tape.q, tape.o):
                sometimes[:, 0].zero_()
        return tape

    def rest(self, n: Sizes) -> list[Tensor]:
        """All but `m`, each once."""
        once = self._asdict()
        del once["m"]
        if not n.norm_memory:
            del once["m_hat"]
        return list(once.values())

    @classmethod
    def restored(cls, n: Sizes, tensors: list[Tensor]) -> "Tape":
        """The tape again, from `m` and what `rest` returned."""
        names = [name for name in cls._fields if name != "m" and (name != "m_hat" or n.norm_memory)]
        tape = dict(zip(["m", *names], tensors, strict=True))
        return cls(**{"m_hat": tape["m"], **tape})

    def weights(self, n: Sizes, t: int) -> Tensor:
        """The attention weights of step `t`, `(L, H, B, S)`."""
        start, end = n.window(t)
        first, size = n.before(t % self.x.shape[1]), end - start
        return self.attn.narrow(-1, n.B * first, n.B * size).unflatten(-1, (n.B, size))

    def outputs(self) -> Tensor:
        """Where the outputs of all steps go, `(T, B, D)`: on the tape, if they fit."""
        return self.x[-1] if self.x.shape[1] == len(self.m) else torch.empty_like(self.m)


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


class Adjoint(NamedTuple):
    r"""
    ## What the backward sweep leaves for the weights

    For each weight, the gradient of its output. Made once, with `T` steps for the longest stretch;
    each stretch overwrites the one before, and a shorter one fills only the first steps.
    """

    dx: Tensor
    r"""$\delta x_t^l$, `(L+1, T, B, D)`"""
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

    @classmethod
    def make(cls, n: Sizes, tape: Tape) -> "Adjoint":
        """Room for the longest stretch, in the precisions of the tape."""
        make, half, rows = tape.x.new_empty, tape.o.new_empty, (n.longest, n.B)
        return cls(
            dx=make(n.L + 1, *rows, n.D),
            dpre=half(n.L, *rows, n.wide),
            dy=make(n.L, *rows, n.D),
            ds=make(n.L, n.H, *rows, n.W),
            dq=half(n.L, *rows, n.H * n.K),
            dm=make(*rows, n.D),
            dkv=half(*rows, n.P * 2 * n.H * n.K),
        )


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
        """
        Zeros to add to, and room for the gradient of `x`. The gradients of the weights have the
        precision of `weights`, and are contiguous whatever those are.
        """
        tape = call.tape
        zeros = (weight.new_zeros(weight.shape) for weight in weights.tensors())
        return cls(
            x=torch.empty_like(tape.m),
            cache=tape.x.new_zeros(2, *tape.k.shape),
            weights=Weights.from_tensors(zeros, call.sizes.L),
        )


class Stretch(NamedTuple):
    """
    ## A stretch of the backward sweep

    Some steps, from `first` on, and room for their adjoint.
    """

    call: Call
    first: int
    steps: int
    adjoint: Adjoint

    @classmethod
    def backwards(cls, call: Call) -> Iterator["Stretch"]:
        """The stretches of a call, the last one first."""
        n, adjoint = call.sizes, Adjoint.make(call.sizes, call.tape)
        for first in reversed(range(0, n.T, n.longest)):
            if first == n.S == 0:
                # The first step attends to nothing: these gradients are zero, and never written.
                for sometimes in (adjoint.dy, adjoint.dq, adjoint.ds.flatten(0, 1)):
                    sometimes[:, 0].zero_()
            yield cls(call, first, min(n.longest, n.T - first), adjoint)

    def of(self, rows: Tensor) -> Tensor:
        """The rows of these steps in a tensor of the tape, `(L, T, B, ...)`."""
        return rows[:, self.first : self.first + self.steps]
