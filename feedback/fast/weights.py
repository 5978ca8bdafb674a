r"""
---
title: The weights
summary: What the sweeps read, layer by layer or as one tensor, and what is folded in beforehand.
---

# The weights

A recurrence repeats each of its operations $T$ times, so it pays to have few of them, with every
operand laid out as it is needed. What is constant over time is multiplied in once, beforehand, by
ordinary operations that autograd differentiates. Each norm is followed by a linear map, so its
parameters can be folded into that map,

$$W\big(\gamma \odot \hat x + \beta\big) + b = (W \odot \gamma)\,\hat x + (W\beta + b) ,$$

and no sweep ever sees a $\gamma$ or a $\beta$: it only normalises. The factor $1/\sqrt{K}$ of the
scores goes into $W_q$ and $b_q$, $u$ and $s$ in the same way; $p$ meets a query that is scaled
already. The small tensors of all layers are joined into one. The large matrices stay one tensor per
layer, and those that follow no norm, $W_o$ and $W_2$, are not copied at all: with a small batch,
copies would take most of the memory.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..reference import Recurrence

MATRICES = ("wq", "wo", "w1", "w2")
"""The large matrices, kept as one tensor per layer."""

Matrices = tuple[Tensor, ...]
"""One matrix for each layer."""


class Weights(NamedTuple):
    r"""
    ## All that is learned, as the sweeps read it

    Norms and the factor $1/\sqrt{K}$ are folded in. `P` is the number of key and value
    projections: 1 if they are shared, else $L$.
    """

    wq: Matrices
    """`(HK, D)`"""
    wo: Matrices
    """`(D, HK)`"""
    w1: Matrices
    """`(F, D)`; with a gate `(2F, D)`, the rows of the gate last"""
    w2: Matrices
    """`(D, F)`"""
    bq: Tensor
    """`(L, HK)`"""
    u: Tensor
    """`(L, HK)`"""
    p: Tensor
    """`(L, H, K, W)`, the position vectors within reach, oldest first"""
    s: Tensor
    """`(L, H, W)`"""
    bo: Tensor
    """`(L, D)`"""
    b1: Tensor
    """`(L, F)` or `(L, 2F)`"""
    b2: Tensor
    """`(L, D)`"""
    alpha: Tensor
    """`(L+1,)`"""
    wkv: Tensor
    """`(P * 2HK, D)`: keys, then values, of each projection"""
    bkv: Tensor
    """`(P * 2HK)`"""

    @classmethod
    def of(cls, model: Recurrence, W: int) -> "Weights":
        """The weights of `model`, for a call whose windows are at most `W` wide."""
        layers, c = model.layers, model.config
        scale = 1 / math.sqrt(c.head_dim)

        def each(name: str) -> Matrices:
            return tuple(attrgetter(name)(layer) for layer in layers)

        def stack(name: str) -> Tensor:
            return torch.stack(each(name))

        w1, b1 = each("ff.up.weight"), stack("ff.up.bias")
        if c.activation == "swiglu":
            w1 = tuple(map(torch.cat, zip(w1, each("ff.gate.weight"), strict=True)))
            b1 = torch.cat([b1, stack("ff.gate.bias")], dim=1)
        wq, bq = fold(each("attn.query.weight"), each("norm_attn"), scale)
        w1, bias = fold(w1, each("norm_ff"))
        owners: list[Any] = [model] if c.share_kv else list(layers)
        wkv = tuple(torch.cat([owner.kv.key.weight, owner.kv.value.weight]) for owner in owners)
        bkv = wkv[0].new_zeros(len(wkv), len(wkv[0]))
        if c.norm_memory:
            wkv, bkv = fold(wkv, [model.norm_memory] if c.share_kv else each("norm_attn"))
        return cls(
            wq=wq,
            wo=each("attn.output.weight"),
            w1=w1,
            w2=each("ff.down.weight"),
            bq=bq,
            u=scale * stack("attn.query_bias").flatten(1),
            p=stack("attn.pos_key")[:, -W:].permute(0, 2, 3, 1),
            s=scale * stack("attn.pos_bias")[:, -W:].mT,
            bo=stack("attn.output.bias"),
            b1=b1 + bias,
            b2=stack("ff.down.bias"),
            alpha=model.mix.weight.softmax(0),
            wkv=torch.cat(wkv),
            bkv=bkv.flatten(),
        )

    def tensors(self) -> list[Tensor]:
        """All of them in one flat list, as an autograd function takes them."""
        fields = self._asdict().items()
        return [w for name, field in fields for w in (field if name in MATRICES else [field])]

    @classmethod
    def from_tensors(cls, tensors: Iterable[Tensor], L: int) -> "Weights":
        """The inverse of `tensors`."""
        rest = iter(tensors)
        fields: Any = (tuple(islice(rest, L)) if n in MATRICES else next(rest) for n in cls._fields)
        return cls(*fields)

    def to(self, dtype: torch.dtype) -> "Weights":
        """The weights in `dtype`, except the mix, which keeps its own."""
        cast = type(self).from_tensors([w.to(dtype) for w in self.tensors()], len(self.wq))
        return cast._replace(alpha=self.alpha)


def fold(matrices: Matrices, norms: Sequence[Any], scale: float = 1.0) -> tuple[Matrices, Tensor]:
    r"""$W \odot \gamma$ of each matrix and the norm before it, and all $W\beta$, both scaled."""
    pairs = list(zip(matrices, norms, strict=True))
    folded = tuple(W * (scale * norm.weight) for W, norm in pairs)
    return folded, torch.stack([W @ (scale * norm.bias) for W, norm in pairs])
