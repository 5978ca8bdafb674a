r"""
---
title: The parallel Transformer
summary: The same parameters without feedback, all steps at once; baseline and warm start.
---

# The parallel Transformer

What does feedback buy, and what does it cost? An honest answer takes a baseline that
differs in as little else as possible. This is the Feedback Transformer with one symbol
changed: layer $l$ reads the past *inputs of layer $l$* instead of the memory,

$$z_t^l = \mathrm{Attn}\big(x_t^{l-1};\; x_{t-S}^{l-1}, \dots, x_{t-1}^{l-1}\big)$$

and so no layer waits for an earlier step to finish, and all steps are computed at once.
The parameters have the names and shapes of a Feedback Transformer with `share_kv=False`, except
for the mix, which has no counterpart here. A Feedback Transformer with `share_kv=True` has fewer
parameters: one projection to keys and values instead of $L$.

As in the authors' code, the past is strictly past here too: step $t$ does not attend to itself.
Its own content is already in the residual stream. The layers are
pre-norm in the usual way: keys and values are made from $\mathrm{LN}(x_j)$, so `share_kv` and
`norm_memory`, which concern only feedback, have no effect.
"""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KeyValue
from .config import ModelConfig
from .layers import FeedbackTransformerLayer, scale_outputs
from .memory import Memory
from .reference import Pairs, as_window
from .support.checks import expect, require_batch


def align_distances(scores: Tensor, c: int, N: int) -> Tensor:
    r"""
    ## From distances to slots

    `scores` is `(..., Q, W)`: one number for each query and distance, with distance $d$ in column
    $-d$. The result is `(..., Q, N)`, with a column for each of `N` slots. Query $i$ stands at step
    $c + i$, so slot $j$ is at distance $c + i - j$, and from one query to the next each distance
    moves one column to the right. The trick of Transformer-XL does this without an index: pad the
    rows to width $M$, flatten, and read the numbers again in rows of width $M - 1$.
    Where the distance is not from 1 to $W$, the result is arbitrary and must be masked.
    """
    Q, W = scores.shape[-2:]
    M = N + Q
    left = (Q - 1) - (W - c)
    rows = F.pad(scores, (left, M - left - W)).flatten(-2)
    return rows[..., Q - 1 : Q - 1 + Q * (M - 1)].unflatten(-1, (Q, M - 1))[..., :N]


class TransformerLayer(FeedbackTransformerLayer):
    r"""
    ## One layer, all steps

    The parameters and the single step are inherited: decoding runs the layer as the
    Feedback Transformer does. What is added is the whole sequence at once.
    """

    kv: KeyValue

    def past_pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of layer inputs `x`, `(..., D)`, as `(..., H, K)`."""
        return self.kv(self.norm_attn(x))

    def sequence(self, x: Tensor, past: Tensor, empty: int) -> Tensor:
        """
        `x` is `(B, T, D)`, `past` the inputs of this layer carried in, `(B, S, D)`, and
        `empty` the number of slots of zeros in front of them. Returns `(B, T, D)`.
        """
        sources = F.pad(torch.cat([past, x[:, :-1]], dim=1), (0, 0, empty, 0))
        k, v = self.past_pairs(sources)
        # With no past, step 0 has nothing to read, and attention starts with step 1.
        first = 1 if k.shape[1] < x.shape[1] else 0
        if first < x.shape[1]:
            z = self.attention(self.norm_attn(x[:, first:]), k, v)
            x = x + F.pad(z, (0, 0, first, 0))
        return x + self.ff(self.norm_ff(x), self.ff.draw(x))

    def attention(self, z: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """`z` is `(B, Q, D)`, the last $Q$ steps; `k`, `v` are `(B, N, H, K)`."""
        attn, (B, Q, _), N = self.attn, z.shape, k.shape[1]
        mem_len, dropout = len(attn.pos_key), attn.dropout if self.training else 0.0
        q = attn.query(z).view(B, Q, attn.n_heads, attn.d_k).transpose(1, 2)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        # $q^\top p_{t-j} + s_{t-j}$
        W = min(mem_len, N)
        distance = torch.einsum("bhqk,whk->bhqw", q, attn.pos_key[-W:])
        distance = distance + attn.pos_bias[-W:].T[:, None]
        distance = align_distances(distance, N - Q + 1, N) / math.sqrt(attn.d_k)
        # $1 \le t - j \le$ `mem_len`
        t = torch.arange(N - Q + 1, N + 1, device=z.device)[:, None]
        j = torch.arange(N, device=z.device)
        mask = distance.masked_fill((j >= t) | (t - j > mem_len), -math.inf)
        # $\mathrm{softmax}\big((q + u)^\top k_j / \sqrt{K} + \dots\big)\, v_j$
        u = attn.query_bias[:, None]
        heads = F.scaled_dot_product_attention(
            (q + u).to(v.dtype), k, v, attn_mask=mask.to(v.dtype), dropout_p=dropout
        )
        return attn.output(heads.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    r"""
    ## The bare stack

    It has the signature of `FeedbackTransformer`, but its memory holds $L$ vectors per step where
    that of the Feedback Transformer holds one. Raises `ValueError` for `adaptive_span`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        words = "False: only a Feedback Transformer learns spans here"
        expect(not config.adaptive_span, "adaptive_span", config.adaptive_span, words)
        self.config = config
        per_layer = replace(config, share_kv=False)
        self.layers: Any = nn.ModuleList(
            TransformerLayer(per_layer) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(config.d_model)
        scale_outputs(self.layers)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """`x` is `(B, T, D)`; returns `(B, T, D)` and the memory, `(B, L, S, D)`."""
        require_batch(x, "B, T, D")
        B, _, D = x.shape
        L, mem_len = self.config.n_layers, self.config.mem_len
        if memory is None:
            past = x.new_empty(B, L, 0, D)
        else:
            memory.check(self.config, x, layers=(L,))
            past = memory.m
        empty = self.empty_slots(past.shape[2])
        inputs = []
        for l, layer in enumerate(self.layers):
            inputs.append(torch.cat([past[:, l], x], dim=1)[:, -mem_len:])
            x = layer.sequence(x, past[:, l], empty)
        return self.norm(x), Memory(torch.stack(inputs, dim=1), self.config)

    def empty_slots(self, S: int) -> int:
        """Slots of zeros that are attended to besides `S` filled ones."""
        return self.config.mem_len - S if self.config.empty_memory == "zeros" else 0

    def remembered(self, memory: Memory) -> Pairs:
        """Keys and values from which decoding continues after `memory`, `(B, H, S, K)`."""
        m = F.pad(memory.m, (0, 0, self.empty_slots(len(memory)), 0)).permute(1, 2, 0, 3)
        pairs = [layer.past_pairs(m_l) for layer, m_l in zip(self.layers, m, strict=True)]
        return [(as_window(k), as_window(v)) for k, v in pairs]

    def decode(self, x: Tensor, pairs: Pairs, mask: Tensor | None = None) -> tuple[Tensor, Pairs]:
        """One step of decoding, as in `FeedbackTransformer.decode`, with one pair per layer."""
        rows = []
        for layer, (k, v) in zip(self.layers, pairs, strict=True):
            rows.append(layer.past_pairs(x))
            x = layer(x, k, v, mask=mask)
        return self.norm(x), rows
