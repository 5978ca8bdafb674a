r"""
---
title: The rivals
summary: The networks that are given the same tasks, each with at least our parameters.
---

# The rivals

What would somebody use who has never heard of feedback memory? A Transformer, shallow or deep; or a
recurrent network of the old kind, which has carried states since long before. Each of them is here
in a form that is as strong as can be had in a few lines, and with at least as many parameters as
the Feedback Transformer. Each is a module that takes tokens, `(B, T)`, and returns logits, `(B, T,
V)`, and whatever state it has.

One rival is our own model with the feedback cut: `no_feedback` has all the weight of the mix
on the embedding, so a memory vector holds what a step has read and nothing that it has computed.
If it can do a task, then feedback was not what the task needed.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..lm.language_model import FeedbackLM, RotaryLM


class RecurrentLM(nn.Module):
    r"""
    ## The recurrent networks of PyTorch

    An embedding, layers of a `"GRU"` or an `"LSTM"` of width `d_model`, and the head.
    """

    def __init__(self, config: ModelConfig, kind: str):
        super().__init__()
        D = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, D)
        cell = {"GRU": nn.GRU, "LSTM": nn.LSTM}[kind]
        self.layers = cell(D, D, config.n_layers, batch_first=True)
        self.head = nn.Linear(D, config.vocab_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """`tokens` is `(B, T)`; returns logits, `(B, T, V)`, and the state after the last step."""
        y, state = self.layers(self.embedding(tokens), state)
        return self.head(y), state


class MambaLM(nn.Module):
    r"""
    ## A state-space model

    An embedding, the layers of Mamba as the package `mambapy` has them, in plain PyTorch, and the
    head. Its state is updated linearly, by numbers that depend on the token, so that training can
    be parallel; that is also what limits it. Raises `ValueError` without the package.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        try:
            from mambapy.mamba import Mamba, MambaConfig
        except ImportError as error:
            raise ValueError(
                "the contestant 'mamba' needs a package: pip install mambapy; or name others "
                "with --only"
            ) from error
        D = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, D)
        self.layers = Mamba(MambaConfig(d_model=D, n_layers=config.n_layers))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, config.vocab_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        """`tokens` is `(B, T)`; returns logits, `(B, T, V)`, and no state."""
        return self.head(self.norm(self.layers(self.embedding(tokens)))), None


def first_as_large(models: Iterable[nn.Module], config: ModelConfig) -> nn.Module:
    """The first of these with at least the parameters of the Feedback Transformer."""
    ours = sum(p.numel() for p in FeedbackLM(config).parameters())
    return next(m for m in models if sum(p.numel() for p in m.parameters()) >= ours)


def feedback(config: ModelConfig) -> nn.Module:
    """The Feedback Transformer."""
    return FeedbackLM(config)


def variant(
    config: ModelConfig,
    memory: Literal["learned", "top", "embedding", "mean"] = "learned",
    positions: bool = True,
    **changes: Any,
) -> nn.Module:
    """
    The Feedback Transformer with something changed: fields of its configuration; what `memory` is
    made of, weights that are learned as always, one layer alone, or all in equal parts; or with
    relative `positions` that stay at zero, so that a step cannot tell slots apart by distance.
    """
    config = replace(config, **changes)
    model, L = FeedbackLM(config), config.n_layers
    stack: Any = model.transformer
    if memory != "learned":
        weights = {"mean": [0.0] * (L + 1)}
        weights["embedding"] = [0.0] + [-1e4] * L
        weights["top"] = weights["embedding"][::-1]
        mix = stack.mix.weight.requires_grad_(False)
        # A softmax with such differences is one and zeros, exactly.
        mix.data.copy_(torch.tensor(weights[memory]))
    for layer in stack.layers:
        for place in (layer.attn.pos_key, layer.attn.pos_bias):
            place.requires_grad_(positions)
    return model


WINDOW = 512
"""How far back a network without a state can look: as far as any experiment here goes."""


def no_feedback(config: ModelConfig) -> nn.Module:
    """The same model without feedback; it needs a memory of many slots to see the past."""
    return variant(config, memory="embedding", mem_len=WINDOW)


def transformer(config: ModelConfig, n_layers: int, positions: bool = True) -> nn.Module:
    """
    The parallel Transformer of the Tiny Shakespeare runs, with `n_layers` layers, just wide enough
    to have our parameters.
    """
    steps = 4 * config.n_heads
    sizes = (
        replace(config, n_layers=n_layers, mem_len=WINDOW, d_model=width, d_ff=4 * width, d_k=None)
        for width in range(steps, 100 * steps, steps)
    )
    return first_as_large((RotaryLM(size, positions) for size in sizes), config)


def recurrent(config: ModelConfig, kind: str, n_layers: int) -> nn.Module:
    """A GRU or LSTM with `n_layers` layers, wide enough to have our parameters."""
    widths = range(config.d_model, 100 * config.d_model, 8)
    sizes = (replace(config, n_layers=n_layers, d_model=width, d_k=32) for width in widths)
    return first_as_large((RecurrentLM(size, kind) for size in sizes), config)


def mamba(config: ModelConfig) -> nn.Module:
    """Mamba, with enough layers to have our parameters."""
    sizes = (replace(config, n_layers=n) for n in range(1, 100))
    return first_as_large(map(MambaLM, sizes), config)


RIVALS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "feedback": feedback,
    "no_feedback": no_feedback,
    "transformer_2": partial(transformer, n_layers=2),
    "transformer_2_no_positions": partial(transformer, n_layers=2, positions=False),
    "transformer_8": partial(transformer, n_layers=8),
    "transformer_8_no_positions": partial(transformer, n_layers=8, positions=False),
    "gru": partial(recurrent, kind="GRU", n_layers=1),
    "lstm": partial(recurrent, kind="LSTM", n_layers=2),
    "mamba": mamba,
}
"""Each is made from the configuration of the Feedback Transformer."""
