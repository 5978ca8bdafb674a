r"""
---
title: The memory
summary: The explicit state that one call hands to the next.
---

# The memory

What is the state of a Feedback Transformer? Not a hidden activation per layer, as in
Transformer-XL, and not keys and values per layer, as in a cache for decoding: only the last
`mem_len` memory vectors. They are all it takes to continue the sequence
as if it had never been interrupted.

So the state is a value that goes in and comes out, `model(tokens, memory=memory)`, and
never an attribute of the model. Two sequences can be interleaved, and an autograd graph can be
kept and differentiated twice, because no call leaves hidden state behind for the next one.

The memory keeps $m_j$ and not $k_j, v_j$. Keys and values are computed anew
when a segment starts, so they always belong to the current weights, and
$W_k$, $W_v$ learn from old memory too, even from memory that was detached.
"""

from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import Tensor
from torch.utils import _pytree

from .config import ModelConfig
from .support.checks import require


@dataclass(frozen=True, eq=False)
class Memory:
    r"""
    ## Memory vectors, and the model that made them

    `m` is `(B, S, D)`, oldest first, with $S \le$ `mem_len`. A parallel Transformer remembers
    the input of every layer instead, so there `m` is `(B, L, S, D)`.
    """

    m: Tensor
    config: ModelConfig

    def __len__(self) -> int:
        """$S$, the slots filled so far."""
        return self.m.shape[-2]

    def detach(self) -> "Memory":
        """The same memory, through which no gradient flows back into earlier segments."""
        return replace(self, m=self.m.detach())

    def check(self, config: ModelConfig, like: Tensor, layers: tuple[int, ...] = ()) -> None:
        """
        Raises `ValueError` unless this memory can continue the batch `like`, `(B, T, D)`, in a
        model with `config` whose memory has the extra dimensions `layers`.
        """
        for name in (field.name for field in fields(config) if field.name != "dropout"):
            ours, theirs = getattr(config, name), getattr(self.config, name)
            if ours != theirs:
                raise ValueError(
                    f"this memory was made by a model with {name} = {theirs!r}, but this model "
                    f"has {ours!r}; use the model that made it, or pass memory=None"
                )
        shape = tuple(self.m.shape)
        require(
            len(shape) == 3 + len(layers),
            f"this memory has the shape {shape}, expected {3 + len(layers)} dimensions; it comes "
            "from another kind of model",
        )
        B, S, D = like.shape[0], len(self), config.d_model
        require(
            config.mem_len >= S,
            f"this memory has {S} slots, more than mem_len = {config.mem_len}; keep the last "
            f"{config.mem_len}, which are all that a step can read",
        )
        require(
            self.m.shape[0] == B,
            f"this memory holds a batch of {self.m.shape[0]}, but the input is a batch of {B}; "
            "pass memory=None to start new sequences",
        )
        expected = (B, *layers, S, D)
        require(
            shape == expected,
            f"this memory has the shape {shape}, expected {expected}; it comes "
            "from another kind of model",
        )
        require(
            self.m.device == like.device,
            f"this memory is on {self.m.device}, but the input is on {like.device}; use one device",
        )
        require(
            self.m.dtype == like.dtype or torch.is_autocast_enabled(like.device.type),
            f"this memory is {self.m.dtype}, but the input is {like.dtype}; convert one of them",
        )


def flat(memory: Memory) -> tuple[list[Tensor], ModelConfig]:
    """Its one tensor, and the rest."""
    return [memory.m], memory.config


# To PyTorch's own tools, `torch.export` and `vmap` among them, a memory is a container of a tensor.
_pytree.register_pytree_node(
    Memory,
    flat,
    lambda tensors, config: Memory(next(iter(tensors)), config),
    serialized_type_name="feedback.Memory",
    to_dumpable_context=asdict,
    from_dumpable_context=lambda fields: ModelConfig(**fields),
    flatten_with_keys_fn=lambda memory: (
        [(_pytree.GetAttrKey("m"), memory.m)],
        memory.config,
    ),
)
