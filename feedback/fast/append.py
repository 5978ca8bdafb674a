r"""
---
title: Appending without copies
summary: A custom autograd function that appends to a memory without copying it.
---

# Appending without copies

The reference computes every key and value of the window at every step: projecting $S$ vectors,
$T$ times over. But $k_j$ never changes once $m_j$ is known. So compute it once, when $m_j$ is
made, and keep it. With `share_kv=True` this is the second half of the paper's idea: one pair
$(k_j, v_j)$ per step serves all the layers, and the cache is $L$ times smaller.

What remains is a growing list that each step reads as one tensor. `torch.stack` copies
all of it each time: $1 + 2 + \dots + T$ rows, $\mathcal{O}(T^2)$ memory, all kept alive for
the backward pass. Could all those prefixes be views of *one* buffer? Autograd would object: an
earlier step has saved a tensor, and then it is written to. Yet the write is harmless, because no
earlier step has read the row that is written. A custom function can tell autograd so.

Autograd is not the only one who looks. A compiler and the transforms of `torch.func` follow values
from operation to operation, and a write behind their back would escape them. They get the list in
the ordinary way, with copies.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import forward_ad

from ..layers import DropoutMasks
from ..reference import Recurrence, recurrent_step
from ..support.checks import expect, require


def check_window(window: Tensor, row: Tensor, buffer: Tensor, end: int, mem_len: int) -> None:
    """Raises `ValueError` unless `window` is the last `mem_len` rows of `buffer` before `end`."""
    B, H, rows, K = buffer.shape
    S = min(end, mem_len)
    expect(0 <= end < rows, "end", end, f"a row of the buffer, 0 to {rows - 1}")
    for name, tensor, shape in (("window", window, (B, H, S, K)), ("row", row, (B, H, K))):
        require(
            tensor.shape == shape,
            f"the {name} has the shape {tuple(tensor.shape)}, expected {shape}: "
            f"mem_len is {mem_len}, and the buffer holds {end} rows",
        )
    if torch.compiler.is_compiling():
        return  # A compiler sees shapes but no addresses.
    if window.is_cuda and torch.cuda.is_current_stream_capturing():
        return  # While a graph is recorded, the GPU cannot be asked for a number.
    there = buffer[:, :, end - S : end]
    if window.data_ptr() != there.data_ptr():
        # The first window is not yet a view, but holds the same numbers.
        same = torch.allclose(window, there, rtol=0, atol=0, equal_nan=True)
        require(same, f"the window is not what rows {end - S} to {end - 1} of the buffer hold")


class Append(torch.autograd.Function):
    r"""
    ## Append one row, as a function that has a gradient

    Takes the window $P$ that the last step read and a new row $r$; returns the next window:
    the last `mem_len` rows of $[P; r]$, as a view of `buffer`.

    **Invariant.** Row `end` is written once, before any step reads it, and the buffer
    belongs to one sequence. So a view that a step has saved never changes, and
    no call can disturb another.
    """

    @staticmethod
    def forward(
        ctx: Any, window: Tensor, row: Tensor, buffer: Tensor, end: int, mem_len: int
    ) -> Tensor:
        """
        `window` is `(B, H, S, K)`, `row` `(B, H, K)`; `buffer` has room for row `end`. Raises
        `ValueError` for a window that is not the last rows before `end`: its gradients would go to
        the wrong rows.
        """
        check_window(window, row, buffer, end, mem_len)
        start = max(0, end + 1 - mem_len)
        ctx.dropped = window.shape[2] + 1 - (end + 1 - start)
        # Through `.data`, because a plain write would raise the version number that all
        # views share, and autograd would then refuse every view saved before. The
        # invariant makes it safe to bypass this check.
        buffer.data[:, :, end] = row
        return buffer[:, :, start : end + 1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        r"""
        Appending is linear. With $G$ the gradient of the new window,

        $$\frac{\partial \mathcal{L}}{\partial P} = [\,0;\, G_{<\mathrm{end}}\,], \qquad
          \frac{\partial \mathcal{L}}{\partial r} = G_{\mathrm{end}}$$

        where the zero row stands for the slot that slid out of the window, if one did. The sum over
        all the steps that read a row is left to autograd, which adds up all that a window received
        before it moves on to the previous window. Nothing is stored
        between calls, so a second backward pass is as correct as the first, and since the
        rule is made of ordinary operations it can be differentiated again.
        """
        kept = F.pad(grad[:, :, :-1], (0, 0, ctx.dropped, 0))
        return kept, grad[:, :, -1], None, None, None


class GrowingWindow:
    r"""
    ## A window that grows by one row a step

    Starts with `past`, `(B, H, S, K)`, has room for `T` more rows, and offers the last `mem_len` as
    `rows`.
    """

    def __init__(self, past: Tensor, T: int, mem_len: int):
        B, H, S, K = past.shape
        self.end, self.mem_len, self.rows = S, mem_len, past
        self.buffer = past.new_empty(B, H, S + T, K)
        self.buffer[:, :, :S] = past.detach()

    def append(self, row: Tensor) -> None:
        """Adds `row`, `(B, H, K)`; the window then ends with it."""
        self.rows = Append.apply(self.rows, row, self.buffer, self.end, self.mem_len)
        self.end += 1


class JoinedWindow:
    """
    ## The same with copies

    For those who follow values and not memory.
    """

    def __init__(self, past: Tensor, T: int, mem_len: int):
        self.rows, self.mem_len = past, mem_len

    def append(self, row: Tensor) -> None:
        """Adds `row`, `(B, H, K)`; the window then ends with it."""
        joined = torch.cat([self.rows, row.unsqueeze(2)], dim=2)
        self.rows = joined[:, :, -self.mem_len :]


def transformed() -> bool:
    """Whether a transform of `torch.func` is at work, or forward mode."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def append_forward(
    model: Recurrence, x: Tensor, past: Tensor, masks: DropoutMasks | None
) -> tuple[Tensor, Tensor]:
    r"""
    ## The whole sequence

    The same function of the same arguments as the reference, with keys and values computed only
    once per step.
    """
    T, mem_len = len(x), model.config.mem_len
    followed = torch.compiler.is_compiling() or transformed()
    make: Any = JoinedWindow if followed else GrowingWindow
    windows = [[make(kv, T, mem_len) for kv in pair] for pair in model.window(past)]
    memory, outputs = list(past), []
    for t, x_t in enumerate(x):
        pairs = [(k.rows, v.rows) for k, v in windows]
        y, m_t = recurrent_step(model, x_t, pairs, masks, t)
        # $k_t = W_k m_t, \; v_t = W_v m_t$, once
        for pair, rows in zip(windows, model.project(m_t), strict=True):
            for window, row in zip(pair, rows, strict=True):
                window.append(row)
        outputs.append(y)
        memory.append(m_t)
    return torch.stack(outputs), torch.stack(memory)
