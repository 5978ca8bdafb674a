r"""
---
title: Configuration
summary: A frozen dataclass that says everything about a model.
---

# Configuration

What has to be written down so that somebody else can rebuild exactly your model? Here it is
`ModelConfig`. (A training run also has a `TrainConfig`.)

It is frozen: a configuration that cannot change after it was checked needs to be checked only
once, and can be compared with `==`, stored in a file, or carried along by a memory, which has to
know which model made it.

The names are the usual ones, and each of these stands for one letter in the formulas:

| name | letter | meaning |
|---|---|---|
| `d_model` | $D$ | width of the residual stream and of a memory vector |
| `n_layers` | $L$ | layers |
| `n_heads` | $H$ | attention heads |
| `d_k` | $K$ | width of one head |
| `d_ff` | $F$ | inner width of the feed-forward sublayer |
| `mem_len` | $S \le$ `mem_len` | memory slots a step can read |
| `vocab_size` | $V$ | distinct tokens |
"""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from .support.checks import expect, require, require_kinds, require_positive


@dataclass(frozen=True)
class ModelConfig:
    r"""
    ## The model

    Raises `ValueError` for values that describe no valid model, and names the value at fault.

    Two fields settle questions on which earlier implementations differ.
    `empty_memory`: what does the very first step attend to? `"skip"` leaves the attention
    sublayer out; `"zeros"` attends to `mem_len` memory vectors of zeros, as the authors' code
    does. `norm_memory`: are memory vectors normalised before they become keys and values? The
    authors' code does so, the zeros included: an empty slot then holds $W \beta$, which is zero
    only until training changes the norm's $\beta$. It is the default, because without it a model
    that is trained with carried memory learns badly ([log](../docs/pages/log.md)).
    """

    vocab_size: int = 65
    """Distinct tokens."""
    d_model: int = 128
    """Width of the residual stream and of a memory vector."""
    n_layers: int = 4
    """Layers; each reads the same memory."""
    n_heads: int = 4
    """Attention heads."""
    d_k: int | None = None
    """Width of one head; d_model / n_heads if not given."""
    d_ff: int = 512
    """Inner width of the feed-forward sublayer."""
    mem_len: int = 48
    """Memory slots a step can read: how many steps back attention reaches."""
    share_kv: bool = True
    """One key and value projection of the memory for all layers, instead of one for each."""
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    """Nonlinearity of the feed-forward sublayer."""
    dropout: float = 0.0
    """Probability of dropping an attention weight or a feed-forward unit."""
    empty_memory: Literal["skip", "zeros"] = "skip"
    """With no memory yet: skip attention, or attend to mem_len memory vectors of zeros."""
    norm_memory: bool = True
    """Normalise memory vectors before they become keys and values."""
    adaptive_span: bool = False
    """Each head learns how far back it looks, at most mem_len slots."""
    span_ramp: int = 32
    """Slots over which the weights at the end of an adaptive span fall to zero."""

    def __post_init__(self) -> None:
        require_positive(self, "vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "mem_len")
        require_positive(self, "span_ramp")
        if self.d_k is None:
            require(
                self.d_model % self.n_heads == 0,
                f"d_model is {self.d_model}, expected a multiple of n_heads = {self.n_heads}; "
                "change either, or give the width of a head as d_k",
            )
        else:
            require_positive(self, "d_k")
        require_kinds(self)
        words = "a probability from 0 up to but not including 1"
        expect(0.0 <= self.dropout < 1.0, "dropout", self.dropout, words)

    @property
    def head_dim(self) -> int:
        """$K$: `d_k` if given, else `d_model / n_heads`."""
        return self.d_model // self.n_heads if self.d_k is None else self.d_k

    @classmethod
    def fair(cls, **changes: Any) -> Self:
        """The `fair` preset: the two choices of the authors' code; `changes` override it."""
        return cls(**{**FAIR, **changes})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`; ignores keys that are not fields."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


FAIR: dict[str, Any] = {"empty_memory": "zeros", "norm_memory": True}
