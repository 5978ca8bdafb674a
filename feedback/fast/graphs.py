r"""
---
title: One graph a step
summary: On a GPU, a whole training step captured once and replayed.
---

# One graph a step

On a GPU the Feedback Transformer has the same problem as on a CPU, only worse. A layer step is
a few microseconds of arithmetic, and launching a kernel from Python takes as long; $T \cdot L$
layer steps of more than fifty kernels each, forward and backward, leave the GPU waiting for
Python.

The cure needs no GPU code at all. The sequence of kernels is the same at every
training step: same shapes, same order, only the numbers differ. CUDA can record such a
sequence as a *graph* and replay it with a single launch. The whole step is recorded:
forward, loss, backward, clipping, and the optimiser.

The price is that all tensors must stay where they are. Tokens are copied into static buffers, the
learning rate is a tensor, and the step must not ask the GPU for a number: whether the loss is
finite is checked after the replay. There is one graph for each pair of a sequence length and a
number of carried slots, two or three in a run. A step of decoding is recorded in the same way.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

WARMUP_STEPS = 3
"""Steps before the recording, which must not contain what CUDA libraries allocate on first use."""


class Graph(NamedTuple):
    """A recording, the tensors it reads, and those it writes."""

    graph: torch.cuda.CUDAGraph
    static: list[Tensor | None]
    results: Any

    def __call__(self, *inputs: Tensor | None) -> Any:
        """Replays it on these inputs; the next call overwrites the results."""
        for there, here in zip(self.static, inputs, strict=True):
            if there is not None and here is not None:
                there.copy_(here)
        self.graph.replay()
        return self.results


def record(
    step: Callable, inputs: Sequence[Tensor | None], state: Callable[[], list[Tensor]]
) -> Graph:
    """
    ## Record a step

    `state` lists all tensors that a step changes; the recording restores their values.
    """
    static = [None if x is None else x.clone() for x in inputs]
    before = state()
    saved = [tensor.clone() for tensor in before]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARMUP_STEPS):
            step(*static)
    torch.cuda.current_stream().wait_stream(side)
    # The warm-up changed the state: undo that. What the optimiser has newly created starts at zero.
    with torch.no_grad():
        for tensor, old in zip(before, saved, strict=True):
            tensor.copy_(old)
        known = {id(tensor) for tensor in before}
        for tensor in state():
            if id(tensor) not in known:
                tensor.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = step(*static)
    return Graph(graph, static, results)


class GraphedStep:
    """
    ## A step that is recorded at its first call with each shape

    `step` must not synchronise with the host, and `state` must list all tensors that it changes,
    those created by its first call included.
    """

    def __init__(self, step: Callable, state: Callable[[], list[Tensor]]):
        self.step, self.state = step, state
        self.graphs: dict[tuple, Graph] = {}

    def __call__(self, *inputs: Tensor | None) -> Any:
        """
        Runs `step` on these inputs. The results are the static tensors of the graph: the next
        call with the same shapes overwrites them.
        """
        key = tuple(None if x is None else (x.shape, x.dtype) for x in inputs)
        if key not in self.graphs:
            self.graphs[key] = record(self.step, inputs, self.state)
        return self.graphs[key](*inputs)


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """
    All tensors that a training step changes: parameters, and the state of the optimiser, which must
    be `capturable`, with a tensor as its learning rate.
    """
    states = optimizer.state.values()
    return [*model.parameters(), *(t for s in states for t in s.values())]
