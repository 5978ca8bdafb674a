r"""
---
title: Tasks
summary: Small worlds whose state must be tracked, step by step: parity and a walk.
---

# Tasks

What is feedback good for? In text the difference is hard to see. So here are two worlds small
enough to understand completely. A sequence of events changes a state, and after each event the
model has to say what the state is. Nothing is hidden and nothing is noisy: the task is to keep
count.

The number of states is small, but the number of *histories* grows without bound, and that is the
point. A model that carries the state has to do one small thing at each step. A model that looks at
the events anew each time has to work through the whole history at once, and the longer the history
is, the more layers that takes.

Both tasks are defined by this file alone, and drawn from PyTorch's global generator, so a seed
reproduces them.
"""

import torch
from torch import Tensor

from ..support.checks import require
from .text import Batch

ACTIONS = ("left", "right", "forward", "stay")
"""What a walker can do; an action's index is its token."""


def parity(B: int, T: int) -> Batch:
    r"""
    ## Parity

    Tokens are random bits; the target of step $t$ says whether the number of ones so far, this step
    included, is odd:

    $$y_t = (x_1 + \dots + x_t) \bmod 2 = y_{t-1} \oplus x_t$$

    There is one bit of state, and each event matters for ever. Returns `B` sequences of `T` steps,
    from a vocabulary of two. Raises `ValueError` for sizes below one.
    """
    require(B > 0 and T > 0, f"B = {B}, T = {T}, expected both to be at least 1")
    bits = torch.randint(2, (B, T))
    return Batch(bits, bits.cumsum(1) % 2, new=True)


def walk(actions: Tensor, size: int) -> Tensor:
    r"""
    ## Where a walker is

    The grid has `size` by `size` cells, and opposite edges are joined. The walker starts in cell 0,
    facing along its row. A turn changes the heading, $h_t = h_{t-1} \pm 1 \bmod 4$, and `forward`
    moves one cell in that direction. `actions`, `(B, T)`, are indices into `ACTIONS`; returns the
    cell after each, `size` times the row plus the column.

    The heading is never a target, yet without it no step forward can be followed.
    """
    turn = (actions == 1).long() - (actions == 0).long()
    # $h_t$: 0 along the row, 1 down the column, 2 and 3 the other way
    heading = turn.cumsum(1) % 4
    step = (actions == 2).long() * (1 - 2 * (heading // 2))
    column = (step * (heading % 2 == 0)).cumsum(1) % size
    row = (step * (heading % 2 == 1)).cumsum(1) % size
    return size * row + column


def random_walk(B: int, T: int, size: int = 3) -> Batch:
    """
    ## A random walk

    Actions are drawn uniformly from `ACTIONS`; the target is the cell after each, see `walk`. There
    are four actions and `size` squared cells, and the larger number is the size of the vocabulary.
    Raises `ValueError` for sizes below one.
    """
    require(
        B > 0 and T > 0 and size > 0,
        f"B = {B}, T = {T}, size = {size}, expected all to be at least 1",
    )
    actions = torch.randint(len(ACTIONS), (B, T))
    return Batch(actions, walk(actions, size), new=True)
