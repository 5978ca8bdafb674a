r"""
---
title: The weights
summary: What the sweeps read, layer by layer or as one tensor, and what is folded in beforehand.
---

# The weights

A recurrence repeats each of its operations $T$ times, so it pays to have few of them, with every
operand laid out as it is needed. The large matrices are used as they are, one per layer: with a
small batch, a copy of them would take most of the memory. The small tensors of all layers are
joined into one, and what is constant over time is multiplied into them once, in ordinary operations
that autograd differentiates. So $1/\sqrt{K}$ is folded into the norm before the query, because
$W_q\,(z / \sqrt{K}) = q / \sqrt{K}$, and the norm of the memory is folded into its projection:

$$W\big(\gamma \odot \hat m + \beta\big) = (W \odot \gamma)\,\hat m + W\beta .$$
"""

import math
from collections.abc import Iterable
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..reference import Recurrence

MATRICES = ("wq", "wo", "w1", "w2")
"""The large matrices, kept as one tensor per layer."""

SMALL = (
    *("gain_attn", "offset_attn", "gain_ff", "offset_ff", "alpha"),
    *("u", "s", "bo", "b1", "b2", "bkv"),
)
"""Weights that are vectors, except the position vectors: their gradients are sums over all rows."""

Matrices = tuple[Tensor, ...]
"""One matrix for each layer."""


class Weights(NamedTuple):
    r"""
    ## All that is learned, as the sweeps read it

    Queries and scores are scaled by $1/\sqrt{K}$. `P` is the number of key and value
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
    gain_attn: Tensor
    r"""$\gamma$ of the norm before attention, `(L, D)`, and its $\beta$, both times $1/\sqrt{K}$"""
    offset_attn: Tensor
    gain_ff: Tensor
    r"""$\gamma$ of the norm before the feed-forward sublayer, `(L, D)`, and its $\beta$"""
    offset_ff: Tensor
    alpha: Tensor
    """`(L+1,)`"""
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
    wkv: Tensor
    """`(P * 2HK, D)`: keys, then values, of each projection"""
    bkv: Tensor
    """`(P * 2HK)`"""

    @classmethod
    def of(cls, model: Recurrence, W: int) -> "Weights":
        """The weights of `model`, for a call whose windows are at most `W` wide."""
        layers, c = model.layers, model.config

        def each(name: str) -> Matrices:
            return tuple(attrgetter(name)(layer) for layer in layers)

        def stack(name: str) -> Tensor:
            return torch.stack(each(name))

        w1, b1 = each("ff.up.weight"), stack("ff.up.bias")
        if c.activation == "swiglu":
            w1 = tuple(map(torch.cat, zip(w1, each("ff.gate.weight"), strict=True)))
            b1 = torch.cat([b1, stack("ff.gate.bias")], dim=1)
        scale = 1 / math.sqrt(c.head_dim)
        wkv, bkv = project_memory(model)
        return cls(
            wq=each("attn.query.weight"),
            wo=each("attn.output.weight"),
            w1=w1,
            w2=each("ff.down.weight"),
            gain_attn=scale * stack("norm_attn.weight"),
            offset_attn=scale * stack("norm_attn.bias"),
            gain_ff=stack("norm_ff.weight"),
            offset_ff=stack("norm_ff.bias"),
            alpha=model.mix.weight.softmax(0),
            u=scale * stack("attn.query_bias").flatten(1),
            p=stack("attn.pos_key")[:, -W:].permute(0, 2, 3, 1),
            s=scale * stack("attn.pos_bias")[:, -W:].mT,
            bo=stack("attn.output.bias"),
            b1=b1,
            b2=stack("ff.down.bias"),
            wkv=wkv,
            bkv=bkv,
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
        """The weights in `dtype`, except those of the norms and the mix, which keep theirs."""
        cast = type(self).from_tensors([w.to(dtype) for w in self.tensors()], len(self.wq))
        names = ("gain_attn", "offset_attn", "gain_ff", "offset_ff", "alpha")
        return cast._replace(**{name: getattr(self, name) for name in names})


def project_memory(model: Recurrence) -> tuple[Tensor, Tensor]:
    """The projections of the memory, keys and then values, with the memory's norm folded in."""
    c = model.config
    owners: list[Any] = [model] if c.share_kv else list(model.layers)
    wkv = torch.stack([torch.cat([o.kv.key.weight, o.kv.value.weight]) for o in owners])
    bkv = wkv.new_zeros(wkv.shape[:2])
    if c.norm_memory:
        norms = [model.norm_memory] if c.share_kv else [layer.norm_attn for layer in model.layers]
        gain, offset = (torch.stack([getattr(n, s) for n in norms]) for s in ("weight", "bias"))
        # $W \odot \gamma, \; W\beta$
        wkv, bkv = wkv * gain.unsqueeze(-2), (wkv @ offset.unsqueeze(-1)).squeeze(-1)
    return wkv.flatten(0, 1), bkv.flatten()
