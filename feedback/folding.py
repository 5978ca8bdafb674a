r"""
---
title: Folding
summary: What is constant over time is multiplied into the weights before time begins.
---

# Folding

A recurrence repeats its every operation $T$ times, so it pays to have few of them. What is
constant over time is multiplied into the weights once, by ordinary autograd, which will also take
it apart again: the gain $\gamma$ and offset $\beta$ of a LayerNorm into the matrix that
follows it, and $1/\sqrt{K}$ into the query,

$$W\big(\gamma \odot \hat x + \beta\big) = (W \odot \gamma)\,\hat x + W\beta .$$

Inside the sweeps a norm is then only $\hat x = (x - \mu)/\sigma$, without parameters.
"""

import math
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .model import FeedbackTransformer


class Weights(NamedTuple):
    r"""
    ## The folded weights, one tensor for all layers

    Queries and scores are scaled by $1/\sqrt{K}$. `P` is the number of key and value
    projections: 1 if they are shared, else $L$.
    """

    wq: Tensor
    """`(L, HK, D)`"""
    bq: Tensor
    """`(L, HK)`"""
    u: Tensor
    """`(L, HK)`"""
    p: Tensor
    """`(L, H, K, W)`, the positions within reach, oldest first"""
    s: Tensor
    """`(L, H, W)`"""
    wo: Tensor
    """`(L, D, HK)`"""
    bo: Tensor
    """`(L, D)`"""
    w1: Tensor
    """`(L, F, D)`; `(L, 2F, D)` with a gate below"""
    b1: Tensor
    """`(L, F)` or `(L, 2F)`"""
    w2: Tensor
    """`(L, D, F)`"""
    b2: Tensor
    """`(L, D)`"""
    wkv: Tensor
    """`(P * 2HK, D)`: keys, then values, of each projection"""
    bkv: Tensor
    """`(P * 2HK)`"""
    alpha: Tensor
    """`(L+1,)`"""

    @classmethod
    def fold(cls, model: "FeedbackTransformer", W: int) -> "Weights":
        """Folds the parameters of `model`, whose windows are at most `W` wide here."""
        layers, c = model.layers, model.config

        def stack(name: str) -> Tensor:
            return torch.stack([attrgetter(name)(layer) for layer in layers])

        def fold_norm(w: Tensor, gain: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
            # $(W \odot \gamma), \; W\beta$
            return w * gain.unsqueeze(-2), (w @ offset.unsqueeze(-1)).squeeze(-1)

        gain, offset = stack("norm_attn.weight"), stack("norm_attn.bias")
        scale = 1 / math.sqrt(c.head_dim)
        wq, bq = fold_norm(scale * stack("attn.query.weight"), gain, offset)

        w1, b1 = stack("ff.up.weight"), stack("ff.up.bias")
        if c.activation == "swiglu":
            w1 = torch.cat([w1, stack("ff.gate.weight")], dim=1)
            b1 = torch.cat([b1, stack("ff.gate.bias")], dim=1)
        w1, b1_offset = fold_norm(w1, stack("norm_ff.weight"), stack("norm_ff.bias"))

        if c.share_kv:
            wkv = torch.cat([model.kv.key.weight, model.kv.value.weight])[None]
            if c.norm_memory:
                gain, offset = model.norm_memory.weight[None], model.norm_memory.bias[None]
        else:
            wkv = torch.cat([stack("kv.key.weight"), stack("kv.value.weight")], dim=1)
        if c.norm_memory:
            wkv, bkv = fold_norm(wkv, gain, offset)
        else:
            bkv = wkv.new_zeros(wkv.shape[:2])
        return cls(
            wq=wq,
            bq=bq,
            u=scale * stack("attn.query_bias").flatten(1),
            p=stack("attn.pos_key")[:, -W:].permute(0, 2, 3, 1),
            s=scale * stack("attn.pos_bias")[:, -W:].mT,
            wo=stack("attn.output.weight"),
            bo=stack("attn.output.bias"),
            w1=w1,
            b1=b1 + b1_offset,
            w2=stack("ff.down.weight"),
            b2=stack("ff.down.bias"),
            wkv=wkv.flatten(0, 1),
            bkv=bkv.flatten(),
            alpha=model.mix.weight.softmax(0),
        )
