r"""
---
title: Configuration
summary: Two frozen dataclasses that say everything about a model and a training run.
---

# Configuration

What has to be written down so that somebody else can rebuild exactly your model?
Here it is `ModelConfig`; and to rebuild your *run*, `TrainConfig`.

Both are frozen: a configuration that cannot change after it was checked needs to be
checked only once, and can be compared with `==`, stored in a file, or carried along by
a memory that wants to know which model made it.

The names are those of the field, and each stands for one letter of the mathematics:

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

import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from tyro.conf import Suppress


def require(condition: bool, message: str) -> None:
    """Raises `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def _require_positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(
            isinstance(value, int) and not isinstance(value, bool) and value > 0,
            f"{name} is {value!r}, expected a whole number of at least 1",
        )


KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    NoneType: "nothing",
}
"""What the fields of a configuration may be, in words."""


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _require_kinds(config: Any) -> None:
    """A file may hold anything: each value must be of the kind that its field is annotated with."""
    for name, hint in get_type_hints(type(config)).items():
        value, choices = getattr(config, name), get_args(hint) or (hint,)
        if get_origin(hint) is Literal:
            require(value in choices, f"{name} is {value!r}, expected one of {', '.join(choices)}")
        else:
            words = " or ".join(KINDS[kind] for kind in choices)
            known = any(_is_a(value, kind) for kind in choices)
            require(known, f"{name} is {value!r}, expected {words}")


@dataclass(frozen=True)
class ModelConfig:
    r"""
    ## The model

    Raises `ValueError` for a combination that describes no model, naming the value.

    Two fields settle questions on which earlier implementations differ.
    `empty_memory`: what does the very first step attend to? `"skip"` leaves the attention
    sublayer out; `"zeros"` attends to `mem_len` memory vectors of zeros, as the authors' code
    does. `norm_memory`: are memory vectors normalised before they become keys and values? The
    authors' code does so, the zeros included: an empty slot then holds $W \beta$, which is zero
    only until the norm's $\beta$ has learnt.
    """

    # Training takes this from the data, so the command line does not offer it.
    vocab_size: Annotated[int, Suppress] = 65
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
    mem_len: int = 64
    """Memory slots a step can read: how many steps back attention reaches."""
    share_kv: bool = True
    """One key and value projection of the memory for all layers, instead of one for each."""
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    """Nonlinearity of the feed-forward sublayer."""
    dropout: float = 0.0
    """Probability of dropping an attention weight or a feed-forward unit."""
    empty_memory: Literal["skip", "zeros"] = "skip"
    """With no memory yet: skip attention, or attend to mem_len memory vectors of zeros."""
    norm_memory: bool = False
    """Normalise memory vectors before they become keys and values."""

    def __post_init__(self) -> None:
        _require_positive(self, "vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "mem_len")
        if self.d_k is None:
            require(
                self.d_model % self.n_heads == 0,
                f"d_model is {self.d_model}, which n_heads = {self.n_heads} does not divide; "
                "choose a multiple, or give the width of a head as d_k",
            )
        else:
            _require_positive(self, "d_k")
        _require_kinds(self)
        require(
            0.0 <= self.dropout < 1.0,
            f"dropout is {self.dropout!r}, expected a probability from 0 up to but not including 1",
        )

    @property
    def head_dim(self) -> int:
        """$K$: `d_k` if it was given, else `d_model / n_heads`."""
        return self.d_model // self.n_heads if self.d_k is None else self.d_k

    @classmethod
    def fair(cls, **changes: Any) -> "ModelConfig":
        """The `fair` preset: the two choices of the authors' code; `changes` go on top."""
        return cls(**{**FAIR, **changes})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The inverse of `dataclasses.asdict`; keys that are not its own are left alone."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})


FAIR: dict[str, Any] = {"empty_memory": "zeros", "norm_memory": True}


def short_lengths(seq_len: int) -> list[int]:
    """The lengths below `seq_len` that reach it by doubling, shortest first."""
    lengths = []
    while seq_len % 2 == 0:
        seq_len //= 2
        lengths.insert(0, seq_len)
    return lengths


@dataclass(frozen=True)
class TrainConfig:
    r"""
    ## The run

    Everything that decides which numbers a run produces. Raises `ValueError` for a value
    that makes no sense, naming it. Durations carry their unit in their name.
    """

    run: Path = Path("runs/tiny_shakespeare")
    """Folder that receives the run."""
    data: str = "tiny_shakespeare"
    """tiny_shakespeare, a UTF-8 text file, or a folder of .txt files."""
    architecture: Literal["feedback", "transformer"] = "feedback"
    """The Feedback Transformer, or the parallel Transformer to compare it with."""
    implementation: Literal["reference", "stack", "sequence"] = "sequence"
    """How the recurrence is computed; the function is the same."""
    batch_size: int = 32
    """Sequences trained on at once."""
    seq_len: int = 64
    """Tokens in one training sequence."""
    start_seq_len: int | None = None
    """Short to long: begin with sequences of this length and double it, over half the run."""
    warm_start: Path | None = None
    """Run folder of a parallel Transformer of the same sizes, whose weights to begin with."""
    segments: Literal["random", "carried"] = "random"
    """random windows of the text; or each sequence continues the last, its memory carried on."""
    max_steps: int = 700
    """Optimiser steps."""
    learning_rate: float = 3e-3
    """Peak of the schedule; it ends at a tenth of this."""
    warmup_steps: int = 50
    """Steps of linear warm-up before the cosine."""
    weight_decay: float = 0.1
    """AdamW weight decay of the matrices."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 never clips."""
    eval_steps: int = 175
    """Steps between two evaluations on the whole validation split."""
    checkpoint_steps: int = 350
    """Steps between two checkpoints."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 computes the matrix products under autocast."""
    device: str = "auto"
    """auto takes a GPU if there is one; or cpu, cuda, cuda:1, ..."""
    seed: int = 1
    """Decides the initial weights, the random windows and the dropout masks."""
    tensorboard: bool = False
    """Write TensorBoard events too (pip install tensorboard)."""

    def __post_init__(self) -> None:
        _require_positive(
            self, "batch_size", "seq_len", "max_steps", "eval_steps", "checkpoint_steps"
        )
        start = self.start_seq_len
        require(
            start is None or start in short_lengths(self.seq_len),
            f"start_seq_len is {start!r}, expected a length that doubles to seq_len = "
            f"{self.seq_len}: "
            f"{', '.join(map(str, short_lengths(self.seq_len))) or 'there is none'}",
        )
        _require_kinds(self)
        for name in ("learning_rate", "weight_decay", "grad_clip", "warmup_steps", "seed"):
            value = getattr(self, name)
            require(value >= 0, f"{name} is {value!r}, expected a number of at least 0")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON knows them."""
        warm_start = None if self.warm_start is None else str(self.warm_start)
        return {**asdict(self), "run": str(self.run), "warm_start": warm_start}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """The inverse of `to_dict`."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        paths = {k: Path(known[k]) for k in ("run", "warm_start") if isinstance(known.get(k), str)}
        return cls(**{**known, **paths})
