r"""
---
title: Layers
summary: The feed-forward sublayer, one layer of the stack, and the mix that becomes memory.
---

# Layers

A layer of the Feedback Transformer is a pre-norm Transformer layer with one change: its
attention reads the *memory*, not the outputs of the layer below. What is
new comes after the top layer: the outputs of all layers are mixed into one vector,
the only trace of this step that any later step will ever see.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import FeedbackAttention, KeyValue
from .config import ModelConfig


class FeedForward(nn.Module):
    r"""
    ## Feed-forward sublayer

    $$\mathrm{FF}(z) = W_2\, \phi(W_1 z + b_1) + b_2$$

    with $\phi$ a ReLU or a GELU. A third option, SwiGLU[^glu], gates the
    inner units: $\phi$ is a SiLU, and its output is multiplied by $W_3 z + b_3$.

    [^glu]: Shazeer, 2020, [arXiv:2002.05202](https://arxiv.org/abs/2002.05202).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation, self.dropout = config.activation, config.dropout
        self.up = nn.Linear(config.d_model, config.d_ff)
        self.gate = nn.Linear(config.d_model, config.d_ff) if self.activation == "swiglu" else None
        self.down = nn.Linear(config.d_ff, config.d_model)

    def forward(self, z: Tensor, keep: Tensor | None = None) -> Tensor:
        """`z` is `(..., D)`, `keep` the units that survive dropout, `(..., F)`."""
        phi: Callable[[Tensor], Tensor]
        phi = {"relu": torch.relu, "gelu": F.gelu, "swiglu": F.silu}[self.activation]
        # $\phi(W_1 z + b_1)$
        inner = phi(self.up(z))
        if self.gate is not None:
            inner = inner * self.gate(z)
        if keep is not None:
            inner = inner * keep / (1 - self.dropout)
        # $W_2 \,\cdot + b_2$
        return self.down(inner)

    def draw(self, z: Tensor) -> Tensor | None:
        """Units of `z`, `(..., D)`, that survive dropout, `(..., F)`; `None` if none is dropped."""
        if not self.training or self.dropout == 0:
            return None
        shape = (*z.shape[:-1], self.up.out_features)
        return torch.empty(shape, dtype=torch.bool, device=z.device).bernoulli_(1 - self.dropout)


class FeedbackTransformerLayer(nn.Module):
    r"""
    ## One layer

    $$y = x + \mathrm{Attn}(\mathrm{LN}(x);\, k, v), \qquad
      x' = y + \mathrm{FF}(\mathrm{LN}(y))$$

    With `share_kv=False` the layer owns the projections `kv` that turn memory vectors into
    *its* keys and values; with `share_kv=True` the model owns one pair for all layers.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.norm_attn = nn.LayerNorm(config.d_model)
        self.attn = FeedbackAttention(config)
        self.kv = None if config.share_kv else KeyValue(config)
        self.norm_ff = nn.LayerNorm(config.d_model)
        self.ff = FeedForward(config)

    def forward(
        self,
        x: Tensor,
        k: Tensor,
        v: Tensor,
        keep_attn: Tensor | None = None,
        keep_ff: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """`x` is `(B, D)`, `k` and `v` are `(B, H, S, K)`; returns `(B, D)`."""
        # With no slot to read there is nothing to attend to: the sublayer is skipped.
        if k.shape[-2] > 0:
            # $y = x + \mathrm{Attn}(\mathrm{LN}(x);\, k, v)$
            x = x + self.attn(self.norm_attn(x), k, v, keep_attn, mask)
        # $x' = y + \mathrm{FF}(\mathrm{LN}(y))$
        return x + self.ff(self.norm_ff(x), keep_ff)


def scale_outputs(layers: Any) -> None:
    r"""
    Divides the matrices that write to the residual stream by $\sqrt{2L}$: $2L$ sublayers add
    to it, and with this scale their sum starts out no larger than one of them would be alone.
    """
    for layer in layers:
        for matrix in (layer.attn.output.weight, layer.ff.down.weight):
            matrix.data.div_(math.sqrt(2 * len(layers)))


class LayerMix(nn.Module):
    r"""
    ## Mix $L + 1$ layer outputs into one memory vector

    $$m_t = \sum_{l=0}^{L} \alpha_l \, x_t^l, \qquad \alpha = \mathrm{softmax}(w)$$

    $x_t^0$ is the token embedding, so $L$ layers have $L + 1$ weights.
    The surprise is how little it takes: these few numbers are all that the idea adds to
    a Transformer.
    """

    def __init__(self, n_layers: int):
        super().__init__()
        # $w = 0$ makes $\alpha$ uniform, so no layer is favoured before training.
        self.weight = nn.Parameter(torch.zeros(n_layers + 1))

    def forward(self, x: Tensor) -> Tensor:
        """`x` is `(L+1, B, D)`; returns the memory vector, `(B, D)`."""
        # $m = \sum_l \alpha_l \, x^l$
        return torch.einsum("l,lbd->bd", self.weight.softmax(0).to(x.dtype), x)


class DropoutMasks(NamedTuple):
    r"""
    ## Dropout, drawn before the recurrence starts

    If every implementation drew its own masks as it went along, no two would agree, and "they
    compute the same function" could not be tested where it matters, in training. So the masks of
    a whole sequence are drawn once, beforehand, and handed to whichever implementation runs.
    """

    attn: Tensor
    """Attention weights that survive, `(T, L, B, H, S)`, with the latest slot last."""
    ff: Tensor
    """Feed-forward units that survive, `(T, L, B, F)`."""
    rate: float
    """The probability with which each of them was dropped."""

    @classmethod
    def draw(
        cls, config: ModelConfig, T: int, S: int, B: int, device: torch.device
    ) -> "DropoutMasks":
        """Draws the masks for `T` steps that read at most `S` slots, from the global generator."""
        L, H = config.n_layers, config.n_heads
        shapes = (T, L, B, H, S), (T, L, B, config.d_ff)
        attn, ff = (torch.empty(s, dtype=torch.bool, device=device) for s in shapes)
        survive = 1 - config.dropout
        return cls(attn.bernoulli_(survive), ff.bernoulli_(survive), config.dropout)

    def at(self, t: int, layer: int, S: int) -> tuple[Tensor, Tensor]:
        """The masks of one step and layer that reads `S` slots: `(B, H, S)` and `(B, F)`."""
        return self.attn[t, layer, ..., self.attn.shape[-1] - S :], self.ff[t, layer]
