r"""
---
title: The model
summary: The recurrence as a module, and the choice of how it is computed.
---

# The model

One set of parameters, several ways to compute: `FeedbackTransformer` gives the `Recurrence` a
memory that comes in and goes out, and `implementation=` chooses how the steps are computed. Since
all implementations share the parameters and compute the same function, a `state_dict` saved under
one loads under any other.

| name | is |
|---|---|
| `"reference"` | the plain loop, which is the specification |
| `"append"` | the loop with keys and values computed once and appended without copies |
| `"sequence"` | the whole sequence as one function: two sweeps and a handful of products |
| `"native"` | the same function, its sweeps in C++ |
| `"auto"` | `"native"` where that can run, else `"sequence"`; `"append"` where neither can |

Only the first two call the modules at each step. So only they learn adaptive spans, run hooks, and
can have modules replaced by others; the other two notice and refuse ([the border](fast/border.py)).

The last two are operators registered with PyTorch, so `torch.compile` and `torch.export` take them
as they are. Whatever has to see each operation, which is `vmap`, the transforms of `torch.func`,
forward mode and second derivatives, works with the first two. For all but the last, `"auto"` takes
`"append"`; a second derivative is asked for when the sweep is over, and then the error says so.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from .config import ModelConfig
from .fast.append import append_forward
from .fast.border import check_divided, objection
from .fast.native import native_forward, obstacle
from .fast.sequence import sequence_forward
from .layers import DropoutMasks
from .memory import Memory
from .reference import Pairs, Recurrence, recurrent_step, reference_forward
from .support.checks import expect, require_batch

Implementation = Literal["auto", "native", "sequence", "append", "reference"]

IMPLEMENTATIONS: dict[Implementation, Callable] = {
    "reference": reference_forward,
    "append": append_forward,
    "sequence": sequence_forward,
    "native": native_forward,
}

ALIASES: dict[str, Implementation] = {"stack": "append"}
"""Former names of implementations."""


class FeedbackTransformer(Recurrence):
    r"""
    ## The bare stack of layers

    For those who bring their own embeddings: `(B, T, D)` to `(B, T, D)`, and the memory.
    The output is the top layer after a final LayerNorm; the memory mixes the layers without it.
    """

    def __init__(self, config: ModelConfig, implementation: Implementation = "auto"):
        super().__init__(config)
        implementation = ALIASES.get(implementation, implementation)
        names = ["auto", *IMPLEMENTATIONS]
        words = f"one of {', '.join(names)}"
        expect(implementation in names, "implementation", implementation, words)
        self.implementation = implementation
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, x: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """
        `x` is `(B, T, D)`, with $T$ of any length. Returns the outputs, `(B, T, D)`, and the
        memory for the next segment. Raises `ValueError` for a memory from another model or batch,
        and for an implementation that cannot run here.
        """
        require_batch(x, "B, T, D")
        B, T, D = x.shape
        words = f"d_model = {self.config.d_model}"
        expect(self.config.d_model == D, "the width of the input", D, words)
        expect(x.is_floating_point(), "the type of the input", x.dtype, "floating-point numbers")
        check_divided(self)
        if memory is None:
            past = x.new_empty(0, B, D)
        else:
            memory.check(self.config, x)
            past = memory.m.transpose(0, 1)
        name = self.fastest(x) if self.implementation == "auto" else self.implementation
        masks = self.draw_masks(T, len(past), x)
        y, m = IMPLEMENTATIONS[name](self, x.transpose(0, 1), past, masks)
        # A copy of the last rows, not a view that would keep the whole segment alive.
        m = m[-self.config.mem_len :].transpose(0, 1).contiguous()
        return self.norm(y).transpose(0, 1), Memory(m, self.config)

    def fastest(self, x: Tensor) -> Implementation:
        """The implementation that `"auto"` stands for."""
        if obstacle(self, x) is None:
            return "native"
        return "append" if objection(self, x) else "sequence"

    def draw_masks(self, T: int, S: int, x: Tensor) -> DropoutMasks | None:
        """Dropout masks for `T` steps after `S` carried slots; `None` when nothing is dropped."""
        if not self.training or self.config.dropout == 0:
            return None
        slots = self.config.mem_len
        if self.config.empty_memory == "skip":
            slots = min(slots, S + T)
        return DropoutMasks.draw(self.config, T, slots, x.shape[0], x.device)

    def remembered(self, memory: Memory) -> Pairs:
        """Keys and values from which decoding continues after `memory`, `(B, H, S, K)`."""
        return self.window(memory.m.transpose(0, 1))

    def decode(self, x: Tensor, pairs: Pairs, mask: Tensor | None = None) -> tuple[Tensor, Pairs]:
        """
        One step of decoding: `x` is `(B, D)`, `pairs` the windows it reads, and `mask`, `(S,)`, is
        added to the scores. Returns the output, `(B, D)`, and the new rows to append to the
        windows, `(B, H, K)`.
        """
        x, m = recurrent_step(self, x, pairs, mask=mask)
        return self.norm(x), self.project(m)
