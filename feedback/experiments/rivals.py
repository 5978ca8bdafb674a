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

from collections.abc import Callable
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
    """The parallel Transformer of the Tiny Shakespeare runs, with `n_layers` layers."""
    return RotaryLM(replace(config, n_layers=n_layers, mem_len=WINDOW), positions)


def recurrent(config: ModelConfig, kind: str) -> nn.Module:
    """A GRU or LSTM of two layers that is wide enough to have our parameters."""
    ours = sum(p.numel() for p in FeedbackLM(config).parameters())
    width = config.d_model
    while True:
        model = RecurrentLM(replace(config, n_layers=2, d_model=width, d_k=32), kind)
        if sum(p.numel() for p in model.parameters()) >= ours:
            return model
        width += 8


RIVALS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "feedback": feedback,
    "no_feedback": no_feedback,
    "transformer_2": partial(transformer, n_layers=2),
    "transformer_2_no_positions": partial(transformer, n_layers=2, positions=False),
    "transformer_8": partial(transformer, n_layers=8),
    "transformer_8_no_positions": partial(transformer, n_layers=8, positions=False),
    "gru": partial(recurrent, kind="GRU"),
    "lstm": partial(recurrent, kind="LSTM"),
}
"""Each is made from the configuration of the Feedback Transformer."""
