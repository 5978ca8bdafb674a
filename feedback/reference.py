r"""
---
title: The reference
summary: One step of the recurrence, and the plain loop that every faster form must match.
---

# The reference

This file is the specification. It is meant to be obviously right, and it is slow on purpose:
lists, `torch.stack`, and every key and value computed anew at every step. Every faster
implementation in this package must give the same outputs *and the same gradients*.

Why is the model slow at all? A Transformer computes layer 1 of all steps, then layer 2 of all
steps, and so on: $L$ large operations. Here even the first layer of step $t$ reads $m_{t-1}$,
which includes the *last* layer of step $t-1$. So there is no choice but to walk through the steps,
$T \cdot L$ small operations, in this order:

$$z_t^l = \mathrm{Attn}\big(x_t^{l-1};\; m_{t-S}, \dots, m_{t-1}\big) \quad l = 1 \dots L,
  \qquad m_t = \sum_{l=0}^{L} \alpha_l\, x_t^l$$

In return, a step can use the highest-level representations of every step before it, at every
layer. Information can travel through the whole stack once per step, so the depth of a computation
grows with the length of the sequence.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KeyValue
from .config import ModelConfig
from .layers import DropoutMasks, FeedbackTransformerLayer, LayerMix, scale_outputs

Pairs = Sequence[tuple[Tensor, Tensor]]
"""One `(k, v)` for each projection of the memory: a single one if shared, else one per layer."""


def as_window(rows: Tensor) -> Tensor:
    """Rows `(S, B, H, K)` as a window `(B, H, S, K)`."""
    return rows.permute(1, 2, 0, 3)


class Recurrence(nn.Module):
    r"""
    ## What is learned

    The layers, the weights of their mix, and the projections that turn memory into keys and
    values: one pair for all layers, or one in each.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        layers = (FeedbackTransformerLayer(config) for _ in range(config.n_layers))
        self.layers: Any = nn.ModuleList(layers)
        self.mix = LayerMix(config.n_layers)
        self.kv = KeyValue(config) if config.share_kv else None
        self.norm_memory = (
            nn.LayerNorm(config.d_model) if config.norm_memory and config.share_kv else None
        )
        scale_outputs(self.layers)

    def project(self, m: Tensor) -> Pairs:
        r"""
        Keys and values of memory vectors `m`, `(..., D)`: one pair of `(..., H, K)` if they are
        shared, else one per layer. With `norm_memory` the vectors are normalised first: shared
        projections have a norm of their own, and a layer's projections use its attention norm.
        """
        if self.kv is not None:
            # $k = W_k m, \; v = W_v m$
            return [self.kv(m if self.norm_memory is None else self.norm_memory(m))]
        # $k^l = W_k^l m, \; v^l = W_v^l m$
        return [
            layer.kv(layer.norm_attn(m) if self.config.norm_memory else m) for layer in self.layers
        ]

    def window(self, m: Tensor) -> Pairs:
        r"""
        Keys and values that a step with the memory `m`, `(S, B, D)`, attends to, `(B, H, S, K)`.
        They come from `project`. With `empty_memory="zeros"` the slots not yet filled are included
        as memory vectors of zeros, projected like any other. If the memory is normalised, the norm
        maps zero to its $\beta$, so such a slot holds $k = W_k \beta$ and $v = W_v \beta$.
        """
        if self.config.empty_memory == "zeros":
            m = F.pad(m, (0, 0, 0, 0, self.config.mem_len - len(m), 0))
        return [(as_window(k), as_window(v)) for k, v in self.project(m)]


def recurrent_step(
    model: Recurrence,
    x: Tensor,
    pairs: Pairs,
    masks: DropoutMasks | None = None,
    t: int = 0,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""
    ## One step of time

    `x` is the embedding $x_t^0$, `(B, D)`; `pairs` hold the keys and values of the slots that step
    `t` may read, `(B, H, S, K)`; a `mask`, `(S,)`, is added to all scores. Returns $x_t^L$ and the
    memory vector $m_t$, both `(B, D)`.
    """
    states = [x]
    for l, layer in enumerate(model.layers):
        # Shared keys and values: the same pair for every layer.
        k, v = pairs[0] if model.config.share_kv else pairs[l]
        kept = masks.at(t, l, k.shape[-2]) if masks is not None else (None, None)
        # $x_t^l$
        x = layer(x, k, v, *kept, mask)
        states.append(x)
    # $m_t = \sum_l \alpha_l\, x_t^l$
    return x, model.mix(torch.stack(states))


def reference_forward(
    model: Recurrence, x: Tensor, past: Tensor, masks: DropoutMasks | None
) -> tuple[Tensor, Tensor]:
    r"""
    ## The whole sequence

    `x` is `(T, B, D)`, `past` the memory vectors carried in, `(S, B, D)`. Returns the outputs
    $x_t^L$, `(T, B, D)`, and all memory vectors, carried and new, `(S + T, B, D)`.
    """
    memory, outputs = list(past), []
    for t, x_t in enumerate(x):
        # $m_{t-S} \dots m_{t-1}$, never $m_t$ itself
        window = memory[-model.config.mem_len :]
        m = torch.stack(window) if window else past
        # $k_j = W_k m_j, \; v_j = W_v m_j$ for each slot of the window
        pairs = model.window(m)
        # $x_t^L, \; m_t$
        y, m_t = recurrent_step(model, x_t, pairs, masks, t)
        outputs.append(y)
        memory.append(m_t)
    return torch.stack(outputs), torch.stack(memory)
