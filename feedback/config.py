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

from .support.checks import (
    MOST,
    expect,
    require,
    require_at_most,
    require_fits,
    require_kinds,
    require_positive,
)

MOST_LAYERS = 4096
"""More than anyone has trained; a layer takes memory and time even if it has few parameters."""


@dataclass(frozen=True)
class ModelConfig:
    r"""
    ## The model

    Raises `ValueError` for values that describe no valid model, and names the value at fault; and
    for a model whose weights, in float32, are larger than the memory of this machine.

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
        require_at_most(MOST_LAYERS, self, "n_layers")
        require_at_most(MOST, self, "span_ramp")
        sizes = "a model with these d_model, n_layers, n_heads, d_k, d_ff, mem_len and vocab_size"
        require_fits(4 * self.parameters, sizes)

    @property
    def head_dim(self) -> int:
        """$K$: `d_k` if given, else `d_model / n_heads`."""
        return self.d_model // self.n_heads if self.d_k is None else self.d_k

    @property
    def parameters(self) -> int:
        r"""
        How many numbers a `FeedbackLM` of this configuration learns:

        $$\underbrace{L\,(2 D H K + S H K)}_{\text{attention}} +
          \underbrace{L \cdot 2 D F}_{\text{feed-forward}} +
          \underbrace{2 D H K}_{\text{keys and values}} +
          \underbrace{2 V D}_{\text{tokens}} + \dots$$

        with biases, norms and the mix; a third map for SwiGLU; keys and values $L$ times if they
        are not shared.
        """
        D, L, H, F, V = self.d_model, self.n_layers, self.n_heads, self.d_ff, self.vocab_size
        HK, S = H * self.head_dim, self.mem_len
        attention = 2 * D * HK + D + HK + S * HK + S * H + H * self.adaptive_span
        maps = 3 if self.activation == "swiglu" else 2
        feed_forward = maps * D * F + (maps - 1) * F + D
        pairs = 2 * D * HK * (1 if self.share_kv else L)
        norms = 2 * D * (2 * L + 1 + (self.share_kv and self.norm_memory))
        return L * (attention + feed_forward) + pairs + norms + L + 1 + (2 * D + 1) * V

    def bytes_of(self, tokens: int) -> int:
        """
        What reading so many tokens takes at the very least: the states of all layers, and the
        logits, in float32.
        """
        return 4 * tokens * ((self.n_layers + 1) * self.d_model + self.vocab_size)

    @classmethod
    def fair(cls, **changes: Any) -> Self:
        """The `fair` preset: the two choices of the authors' code; `changes` override it."""
        return cls(**{**FAIR, **changes})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `dataclasses.asdict`; ignores keys that are not fields."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


FAIR: dict[str, Any] = {"empty_memory": "zeros", "norm_memory": True}
