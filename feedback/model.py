r"""
---
title: The model
summary: The stack of layers, and the language model around it.
---

# The model

One set of parameters, several ways to compute: `FeedbackTransformer` owns the parameters and
lets `implementation=` choose who walks through time. Since every implementation is the same
function, a `state_dict` saved under one loads under any other.

```python
config = ModelConfig(vocab_size=65, d_model=128, n_layers=4, n_heads=4, mem_len=512)
model = FeedbackLM(config)
logits, memory = model(tokens)                # (B, T) -> (B, T, V)
logits, memory = model(more, memory=memory)   # continues where the first call stopped
```
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import KeyValue
from .config import ModelConfig, require
from .fast.append import stack_forward
from .fast.sequence import sequence_forward
from .layers import FeedbackTransformerLayer, Keep, LayerMix
from .lm.generate import Generation
from .lm.pretrained import Pretrained
from .memory import Memory
from .reference import Pairs, recurrent_step, reference_forward

Implementation = Literal["reference", "stack", "sequence"]

IMPLEMENTATIONS: dict[str, Callable] = {
    "reference": reference_forward,
    "stack": stack_forward,
    "sequence": sequence_forward,
}


def scale_outputs(layers: nn.ModuleList) -> None:
    r"""
    Divides the matrices that write to the residual stream by $\sqrt{2L}$: $2L$ sublayers
    add to it, and so their sum starts out no larger than one of them would be.
    """
    for layer in layers:
        for matrix in (layer.attn.output.weight, layer.ff.down.weight):
            matrix.data.div_(math.sqrt(2 * len(layers)))


def check_input(x: Tensor, shape: str, config: ModelConfig) -> None:
    """Raises `ValueError` unless `x` is a batch of at least one step."""
    require(
        x.dim() == len(shape.split(",")), f"input of shape {tuple(x.shape)}, expected ({shape})"
    )
    require(
        x.shape[0] > 0 and x.shape[1] > 0,
        f"input of shape {tuple(x.shape)}, expected at least one sequence of at least one step",
    )


def as_window(rows: Tensor) -> Tensor:
    """Rows `(S, B, H, K)` as a window `(B, H, S, K)`."""
    return rows.permute(1, 2, 0, 3)


class FeedbackTransformer(nn.Module):
    r"""
    ## The bare stack

    For those who bring their own embeddings: `(B, T, D)` to `(B, T, D)`, and the memory.
    The output is the top layer after a final LayerNorm; the memory mixes the layers
    before it.
    """

    def __init__(self, config: ModelConfig, implementation: Implementation = "sequence"):
        super().__init__()
        require(
            implementation in IMPLEMENTATIONS,
            f"implementation is {implementation!r}, expected one of {', '.join(IMPLEMENTATIONS)}",
        )
        self.config, self.implementation = config, implementation
        self.layers = nn.ModuleList(
            FeedbackTransformerLayer(config) for _ in range(config.n_layers)
        )
        self.mix = LayerMix(config.n_layers)
        self.kv = KeyValue(config) if config.share_kv else None
        self.norm_memory = (
            nn.LayerNorm(config.d_model) if config.norm_memory and config.share_kv else None
        )
        self.norm = nn.LayerNorm(config.d_model)
        scale_outputs(self.layers)

    def project(self, m: Tensor) -> Pairs:
        r"""
        Keys and values of memory vectors `m`, `(..., D)`: one pair of `(..., H, K)` if they are
        shared, else one a layer. With `norm_memory` the vectors are normalised first, by a
        norm of their own or, where the layers project, by each layer's attention norm.
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
        They are those of `project`. With `empty_memory="zeros"` the slots not yet filled are there
        too: memory vectors of zeros, projected like any other. So with a norm of the memory such a
        slot holds what the norm makes of zero, $k = W_k \beta$ and $v = W_v \beta$.
        """
        if self.config.empty_memory == "zeros":
            m = F.pad(m, (0, 0, 0, 0, self.config.mem_len - len(m), 0))
        return [(as_window(k), as_window(v)) for k, v in self.project(m)]

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """
        `x` is `(B, T, D)`, with $T$ of any length. Returns the outputs, `(B, T, D)`, and the
        memory for the next segment. Raises `ValueError` for a memory of another model or batch.
        """
        check_input(x, "B, T, D", self.config)
        B, T, D = x.shape
        if memory is None:
            past = x.new_empty(0, B, D)
        else:
            memory.check(self.config, x)
            past = memory.m.transpose(0, 1)
        y, m = IMPLEMENTATIONS[self.implementation](
            self, x.transpose(0, 1), past, self.draw_keep(T, len(past), x)
        )
        # A copy of the last rows, not a view that would keep the whole segment alive.
        m = m[-self.config.mem_len :].transpose(0, 1).contiguous()
        return self.norm(y).transpose(0, 1), Memory(m, self.config)

    def draw_keep(self, T: int, S: int, x: Tensor) -> Keep | None:
        """Dropout masks for `T` steps after `S` carried slots; `None` when nothing is dropped."""
        if not self.training or self.config.dropout == 0:
            return None
        slots = self.config.mem_len
        if self.config.empty_memory == "skip":
            slots = min(slots, S + T)
        return Keep.draw(self.config, T, slots, x.shape[0], x.device)

    def remembered(self, memory: Memory) -> Pairs:
        """Keys and values with which decoding goes on after `memory`, `(B, H, S, K)`."""
        return self.window(memory.m.transpose(0, 1))

    def decode(self, x: Tensor, pairs: Pairs, mask: Tensor | None = None) -> tuple[Tensor, Pairs]:
        """
        One step of decoding: `x` is `(B, D)`, `pairs` the windows it reads, and `mask`, `(S,)`, is
        added to the scores. Returns the output, `(B, D)`, and the rows that the windows
        grow by, `(B, H, K)`.
        """
        x, m = recurrent_step(self, x, pairs, mask=mask)
        return self.norm(x), self.project(m)


class LanguageModel(Generation, Pretrained, nn.Module):
    r"""
    ## Tokens in, logits out

    An embedding below, a stack in the middle, a linear head on top. What the
    stack is, the subclass decides; all else is here, once.
    """

    def __init__(self, config: ModelConfig, transformer: nn.Module):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.transformer = transformer
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, tokens: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """
        `tokens` is `(B, T)`, int64. Returns logits of the next token, `(B, T, V)`, and the memory.
        Raises `ValueError` for a token id outside the vocabulary.
        """
        check_input(tokens, "B, T", self.config)
        self.check_tokens(tokens)
        # $x^0$
        y, memory = self.transformer(self.embedding(tokens), memory)
        return self.head(y), memory

    def check_tokens(self, tokens: Tensor) -> None:
        """Raises `ValueError` unless `tokens` are ids of this vocabulary."""
        require(
            not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool),
            f"tokens have the type {tokens.dtype}, expected int64",
        )
        if tokens.is_cuda and torch.cuda.is_current_stream_capturing():
            return  # A graph that is being recorded cannot be asked for a number.
        low, high = (v.item() for v in tokens.aminmax())
        require(
            low >= 0 and high < self.config.vocab_size,
            f"token id {low if low < 0 else high}, expected one from 0 to "
            f"vocab_size - 1 = {self.config.vocab_size - 1}",
        )


class FeedbackLM(LanguageModel):
    r"""
    ## The Feedback Transformer as a language model

    `implementation` is how the recurrence is computed, never what.
    """

    def __init__(self, config: ModelConfig, implementation: Implementation = "sequence"):
        super().__init__(config, FeedbackTransformer(config, implementation))
