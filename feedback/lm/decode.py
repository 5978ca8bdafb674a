r"""
---
title: Decoding
summary: One step at a time: windows of keys and values, and three ways to take the step.
---

# Decoding

In training the Feedback Transformer pays for its recurrence. In generation it is the other way
round: every model has to go step by step, and one memory for all layers becomes an advantage.
With shared projections a step leaves behind one key and one value, $2HK$ numbers, where a
Transformer of $L$ layers leaves $2LHK$.

The keys and values of the prompt are kept, each new token costs exactly one step, and the
prefix is never computed again. A step is so little work that dispatch dominates its cost: some
eighty calls of PyTorch, each of a few microseconds. So there are three ways to take it, which
differ only in how those calls are made. On a GPU all calls are recorded once and replayed. On a CPU
the Feedback Transformer's step is a single call of the C++ loop. Otherwise `Windows` makes the
calls one by one.

Each way is a function from $x_t^0$, `(B, D)`, to the output, `(B, D)`, that keeps the memory
between calls.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..fast.graphs import GraphedStep
from ..fast.native import NativeSteps, obstacle
from ..memory import Memory
from ..model import FeedbackTransformer
from ..transformer import Transformer
from .rotary import RotaryTransformer

Stack = FeedbackTransformer | Transformer | RotaryTransformer
"""The models that can be decoded: both can continue from a memory, and take a single step."""


class Window:
    r"""
    ## The last `mem_len` rows, without copying at each step

    A buffer of twice the length: rows are written one after the other, and only when the end is
    reached do the last `mem_len - 1` move to the front. On average that is one row copied per
    row written, and the rows to read are always a single slice, in the order of time.
    """

    def __init__(self, past: Tensor, mem_len: int, steps: int):
        r"""`past` is `(B, H, S, K)`, $S \le$ `mem_len`; at most `steps` rows will be added."""
        B, H, S, K = past.shape
        self.mem_len, self.end = mem_len, S
        self.buffer = past.new_empty(B, H, min(2 * mem_len, S + steps), K)
        self.buffer[:, :, :S] = past

    def read(self) -> Tensor:
        """The rows a step may read, `(B, H, S, K)`, oldest first."""
        return self.buffer[:, :, max(0, self.end - self.mem_len) : self.end]

    def append(self, row: Tensor) -> None:
        """Adds a row `(B, H, K)`, forgetting the oldest if there are `mem_len` already."""
        if self.end == self.buffer.shape[2]:
            kept = self.buffer[:, :, self.end - self.mem_len + 1 :].clone()
            self.end = kept.shape[2]
            self.buffer[:, :, : self.end] = kept
        self.buffer[:, :, self.end] = row
        self.end += 1


class Windows:
    """
    ## The step as it stands

    For each pair that the stack has, one window for the keys and one for the values, with only as
    many slots as have been written.
    """

    def __init__(self, stack: Stack, memory: Memory, steps: int):
        mem_len = stack.config.mem_len
        self.stack = stack
        self.windows = [
            [Window(kv, mem_len, steps) for kv in pair] for pair in stack.remembered(memory)
        ]

    def __call__(self, x: Tensor) -> Tensor:
        """One step, `(B, D)` to `(B, D)`."""
        y, rows = self.stack.decode(x, [(k.read(), v.read()) for k, v in self.windows])
        for pair, new in zip(self.windows, rows, strict=True):
            for window, row in zip(pair, new, strict=True):
                window.append(row)
        return y


class StaticWindows:
    r"""
    ## The step with tensors that never move or grow

    A recorded step must find every tensor where it was. So each window has `mem_len` slots from the
    beginning, and its contents move one slot to the left at each step; slots not yet filled get a
    score of $-\infty$.
    """

    def __init__(self, stack: Stack, memory: Memory):
        pairs, mem_len = stack.remembered(memory), stack.config.mem_len
        B, H, S, K = pairs[0][0].shape
        self.stack = stack
        self.buffers = [[kv.new_zeros(B, H, mem_len, K) for kv in pair] for pair in pairs]
        self.mask = memory.m.new_full((mem_len,), -math.inf)
        self.mask[mem_len - S :] = 0
        for buffers, pair in zip(self.buffers, pairs, strict=True):
            for buffer, kv in zip(buffers, pair, strict=True):
                buffer[:, :, mem_len - S :] = kv

    def __call__(self, x: Tensor) -> Tensor:
        """One step, `(B, D)` to `(B, D)`."""
        y, rows = self.stack.decode(x, [(k, v) for k, v in self.buffers], self.mask)
        for pair, new in zip(self.buffers, rows, strict=True):
            for buffer, row in zip(pair, new, strict=True):
                buffer.copy_(torch.cat([buffer[:, :, 1:], row.unsqueeze(2)], dim=2))
        self.mask.copy_(torch.cat([self.mask[1:], self.mask.new_zeros(1)]))
        return y

    def state(self) -> list[Tensor]:
        """All tensors that a step changes."""
        return [self.mask, *(buffer for pair in self.buffers for buffer in pair)]


def native_steps(stack: Stack, memory: Memory, steps: int) -> Callable | None:
    """The step in the C++ loop; `None` if it cannot run, or another implementation was chosen."""
    if not isinstance(stack, FeedbackTransformer) or obstacle(stack, memory.m):
        return None
    if stack.implementation not in ("auto", "native"):
        return None
    take = NativeSteps(stack, stack.remembered(memory), steps)
    return lambda x: stack.norm(take(x))


def decoder(model: Any, memory: Memory, steps: int) -> Callable[[Tensor], Tensor]:
    """
    ## Whichever is fastest here

    Continues a language model after `memory`, at most `steps` times: a function from the token
    chosen last, `(B,)`, to the logits of the next one, `(B, V)`, which are valid until it is
    called again.
    """
    stack = model.transformer
    static = StaticWindows(stack, memory) if memory.m.is_cuda else None
    step = static or native_steps(stack, memory, steps) or Windows(stack, memory, steps)

    def decode(token: Tensor) -> Tensor:
        return model.head(step(model.embedding(token)))

    return GraphedStep(decode, static.state) if static else decode
