r"""
---
title: The rival
summary: The parallel Transformer to beat, with fused attention and rotary positions.
---

# The rival

Does feedback pay for its time? That depends on what else the time could buy. `TransformerLM`
differs from the Feedback Transformer in as little as possible, which makes it the right control
and a slow rival: its relative positions keep it from PyTorch's fused causal attention. This is
the parallel Transformer to choose if all you want is a low loss soon. It has the usual
pre-norm layers, one product for queries, keys and values, and positions that cost almost nothing:
each pair of numbers in a query or a key is turned by an angle that grows with its
step[^rotary], so that their product depends on the distance alone:

$$(R_t q)^\top (R_j k) = q^\top R_{j-t}\, k$$

As usual, a step also attends to itself, besides the `mem_len` steps before.

[^rotary]: Su et al., 2021, [arXiv:2104.09864](https://arxiv.org/abs/2104.09864).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..layers import FeedForward, scale_outputs
from ..memory import Memory
from ..reference import Pairs
from ..support.checks import expect, require_batch


def rotate(x: Tensor, steps: Tensor) -> Tensor:
    r"""
    ## Turn by an angle

    `x` is `(..., T, K)`, `steps` `(T,)`. Numbers $i$ and $i + K/2$ are one pair, which turns by
    $t \cdot 10000^{-2i/K}$.
    """
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angles = steps[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


class RotaryAttention(nn.Module):
    """
    ## Attention
    """

    def __init__(self, c: ModelConfig, positions: bool = True):
        super().__init__()
        D, HK = c.d_model, c.n_heads * c.head_dim
        self.n_heads, self.mem_len, self.dropout = c.n_heads, c.mem_len, c.dropout
        self.positions = positions
        self.qkv, self.output = nn.Linear(D, 3 * HK, bias=False), nn.Linear(HK, D)

    def heads(self, z: Tensor) -> Tensor:
        """Queries, keys and values, `(3, B, H, N, K)`, of normalised inputs `(B, N, D)`."""
        qkv = self.qkv(z).unflatten(-1, (3, self.n_heads, -1))
        return qkv.permute(2, 0, 3, 1, 4)

    def forward(self, z: Tensor, T: int) -> Tensor:
        """`z` is `(B, N, D)`; returns what the last `T` of the $N$ steps read, `(B, T, D)`."""
        N, qkv = z.shape[1], self.heads(z)
        # $R_t q, \; R_j k$
        steps = torch.arange(N, device=z.device)
        q, k = rotate(qkv[:2], steps) if self.positions else qkv[:2]
        # $0 \le t - j \le$ `mem_len`; where each step reads all before it, no mask is needed.
        whole = T == N <= self.mem_len + 1
        distance = steps[N - T :, None] - steps
        mask = None if whole else (distance >= 0) & (distance <= self.mem_len)
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(
            q[:, :, N - T :], k, qkv[2], attn_mask=mask, dropout_p=dropout, is_causal=whole
        )
        return self.output(x.transpose(1, 2).flatten(2))

    def step(
        self, z: Tensor, k: Tensor, v: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """
        The last step alone: `z` is `(B, D)`, `k` and `v` the windows before it, not turned yet,
        `(B, H, S, K)`. Returns what it reads, `(B, D)`, and the rows to append, `(B, H, K)`.
        """
        q, new_k, new_v = self.heads(z[:, None])
        k, v = torch.cat([k, new_k], dim=2), torch.cat([v, new_v], dim=2)
        steps = torch.arange(k.shape[2], device=z.device)
        if self.positions:
            q, k = rotate(q, steps[-1:]), rotate(k, steps)
        mask = None if mask is None else F.pad(mask, (0, 1))[None].to(q.dtype)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.output(x.flatten(1)), (new_k[:, :, 0], new_v[:, :, 0])


class RotaryLayer(nn.Module):
    """
    ## One layer
    """

    def __init__(self, config: ModelConfig, positions: bool = True):
        super().__init__()
        self.norm_attn, self.attn = nn.LayerNorm(config.d_model), RotaryAttention(config, positions)
        self.norm_ff, self.ff = nn.LayerNorm(config.d_model), FeedForward(config)

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        """`x` is `(B, T, D)`, `past` the inputs of this layer before it, `(B, S, D)`."""
        inputs = torch.cat([past, x], dim=1) if past.shape[1] else x
        return self.add(x, self.attn(self.norm_attn(inputs), x.shape[1]))

    def add(self, x: Tensor, z: Tensor) -> Tensor:
        """Adds what attention read, and then what the feed-forward sublayer makes of the sum."""
        x = x + z
        return x + self.ff(self.norm_ff(x), self.ff.draw(x))


class RotaryTransformer(nn.Module):
    r"""
    ## The bare stack

    It has the signature of `Transformer`, and like there the memory holds the inputs of all
    layers, `(B, L, S, D)`. `share_kv` and `norm_memory` have no effect. Raises `ValueError` if the
    width of a head is odd, for `empty_memory="zeros"`, and for `adaptive_span`. With
    `positions=False` nothing is turned: what remains of the order is that each step reads only the
    steps before it.
    """

    def __init__(self, config: ModelConfig, positions: bool = True):
        super().__init__()
        words = "an even number, since rotary positions turn pairs"
        expect(config.head_dim % 2 == 0, "d_k", config.head_dim, words)
        words = "'skip': with rotary positions a step always has itself to read"
        expect(config.empty_memory == "skip", "empty_memory", config.empty_memory, words)
        words = "False: only a Feedback Transformer learns spans here"
        expect(not config.adaptive_span, "adaptive_span", config.adaptive_span, words)
        self.config = config
        self.layers: Any = nn.ModuleList(
            RotaryLayer(config, positions) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(config.d_model)
        scale_outputs(self.layers)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """`x` is `(B, T, D)`; returns `(B, T, D)` and the memory, `(B, L, S, D)`."""
        require_batch(x, "B, T, D")
        B, _, D = x.shape
        if memory is not None:
            memory.check(self.config, x, layers=(len(self.layers),))
        past = x.new_empty(B, len(self.layers), 0, D) if memory is None else memory.m
        inputs = []
        for l, layer in enumerate(self.layers):
            inputs.append(torch.cat([past[:, l], x], dim=1)[:, -self.config.mem_len :])
            x = layer(x, past[:, l])
        return self.norm(x), Memory(torch.stack(inputs, dim=1), self.config)

    def remembered(self, memory: Memory) -> Pairs:
        """Keys and values from which decoding continues after `memory`, `(B, H, S, K)`."""
        pairs = []
        for layer, m in zip(self.layers, memory.m.unbind(1), strict=True):
            _, k, v = layer.attn.heads(layer.norm_attn(m))
            pairs.append((k, v))
        return pairs

    def decode(self, x: Tensor, pairs: Pairs, mask: Tensor | None = None) -> tuple[Tensor, Pairs]:
        """One step of decoding, as in `FeedbackTransformer.decode`, with one pair per layer."""
        rows = []
        for layer, (k, v) in zip(self.layers, pairs, strict=True):
            z, new = layer.attn.step(layer.norm_attn(x), k, v, mask)
            x = layer.add(x, z)
            rows.append(new)
        return self.norm(x), rows
