r"""
---
title: The reference
summary: The recurrence in its plainest form, which every faster form must equal.
---

# The reference

This file is the specification. It is meant to be obviously right, and it is slow on purpose:
lists, `torch.stack`, and every key and value computed anew at every step. Whatever is faster
elsewhere in this package must give the same outputs *and the same gradients*.

Why is the model slow at all? A Transformer computes layer 1 of all steps,
then layer 2 of all steps, and so on: $L$ large operations. Here even the first layer of step $t$
reads $m_{t-1}$, into which the *last* layer of step $t-1$ went. So there is no choice
but to walk through the steps, $T \cdot L$ small operations, in this order:

$$z_t^l = \mathrm{Attn}\big(x_t^{l-1};\; m_{t-S}, \dots, m_{t-1}\big) \quad l = 1 \dots L,
  \qquad m_t = \sum_{l=0}^{L} \alpha_l\, x_t^l$$

In return, a step can use the highest-level thoughts of every step before
it, at every layer. Information can travel through the whole stack once per step, so the
depth of a computation grows with the length of the sequence.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .layers import Keep

if TYPE_CHECKING:
    from .model import FeedbackTransformer

Pairs = Sequence[tuple[Tensor, Tensor]]
"""One `(k, v)` for each projection of the memory: one if shared, else one a layer."""


def recurrent_step(
    model: "FeedbackTransformer",
    x: Tensor,
    pairs: Pairs,
    keep: Keep | None = None,
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
        masks = keep.at(t, l, k.shape[-2]) if keep is not None else (None, None)
        # $x_t^l$
        x = layer(x, k, v, *masks, mask)
        states.append(x)
    # $m_t = \sum_l \alpha_l\, x_t^l$
    return x, model.mix(torch.stack(states))


def reference_forward(
    model: "FeedbackTransformer", x: Tensor, past: Tensor, keep: Keep | None
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
        y, m_t = recurrent_step(model, x_t, pairs, keep, t)
        outputs.append(y)
        memory.append(m_t)
    return torch.stack(outputs), torch.stack(memory)
