r"""
---
title: Settings of a run
summary: A frozen dataclass that describes everything about a training run except the model.
---

# Settings of a run

Everything that decides which numbers a run produces, apart from the model itself. The fields are
the options of the command line, and the text below each is its help.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from ..config import ModelConfig
from ..model import ALIASES, Implementation
from ..support.checks import (
    MOST,
    expect,
    require_at_most,
    require_fits,
    require_kinds,
    require_positive,
)

MOST_STEPS = 10**8
"""A step leaves a line of metrics, and so many are more than can be kept."""
BATCH = "a batch of this batch_size and seq_len"


def short_lengths(seq_len: int) -> list[int]:
    """The lengths below `seq_len` that reach it by doubling, shortest first."""
    lengths: list[int] = []
    while seq_len % 2 == 0:
        seq_len //= 2
        lengths.insert(0, seq_len)
    return lengths


@dataclass(frozen=True)
class TrainConfig:
    """
    ## The run

    Raises `ValueError` for a value that makes no sense, naming it. Durations carry their unit in
    their name.
    """

    run: Path = Path("runs/tiny_shakespeare")
    """Folder that receives the run."""
    data: str = "tiny_shakespeare"
    """tiny_shakespeare, a UTF-8 text file, or a folder of .txt; with bytes, any file or enwik8."""
    tokenizer: str = "characters"
    """characters, bytes, or the tokenizer.json of Hugging Face's tokenizers."""
    architecture: Literal["feedback", "transformer", "rotary"] = "feedback"
    """feedback; transformer: the same layers in parallel; rotary: with fused attention."""
    implementation: Implementation = "auto"
    """How the recurrence is computed; all choices give the same results up to rounding."""
    batch_size: int = 32
    """Sequences in one step of the optimiser."""
    accumulate: int = 1
    """Parts of a batch that are read in turn, their gradients added up: needs less memory."""
    seq_len: int = 64
    """Tokens in one training sequence; longer than mem_len, so that every slot is trained."""
    start_seq_len: int | None = None
    """Short to long: begin with this length, which doubles until it is seq_len halfway through."""
    warm_start: Path | None = None
    """Run folder of a parallel Transformer of the same sizes; training begins with its weights."""
    segments: Literal["random", "carried"] = "random"
    """random: windows of the text; carried: each sequence continues the last, with its memory."""
    max_steps: int = 1400
    """Optimiser steps."""
    until_loss: float | None = None
    """Stop at the first validation with this loss or a lower one."""
    learning_rate: float = 5e-3
    """Peak of the schedule; it ends at a tenth of this."""
    warmup_steps: int = 50
    """Steps of linear warm-up; then the learning rate falls along a cosine."""
    weight_decay: float = 0.1
    """AdamW weight decay of the matrices."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 never clips."""
    span_loss: float = 0.0
    """Added to the loss for each slot of a layer's mean span; needs adaptive_span."""
    eval_steps: int = 350
    """Steps between two evaluations on the whole validation split."""
    checkpoint_steps: int = 700
    """Steps between two checkpoints."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products in bfloat16 by autocast, weights kept in float32."""
    sharded: bool = False
    """With torchrun: divide weights, gradients and optimiser among processes, for a large model."""
    device: str = "auto"
    """auto takes a GPU if there is one; or cpu, cuda, cuda:1, ..."""
    seed: int = 1
    """Decides the initial weights, the random windows and the dropout masks."""
    tensorboard: bool = False
    """Write TensorBoard events too (pip install tensorboard)."""

    def __post_init__(self) -> None:
        require_positive(self, "batch_size", "accumulate", "seq_len")
        require_positive(self, "max_steps", "eval_steps", "checkpoint_steps")
        words = f"a divisor of batch_size = {self.batch_size}"
        expect(self.batch_size % self.accumulate == 0, "accumulate", self.accumulate, words)
        start, lengths = self.start_seq_len, short_lengths(self.seq_len)
        words = f"a length that reaches seq_len = {self.seq_len} by doubling: "
        words += ", ".join(map(str, lengths)) or "there is none, as seq_len is odd"
        expect(start is None or start in lengths, "start_seq_len", start, words)
        require_kinds(self)
        require_at_most(MOST_STEPS, self, "max_steps")
        require_at_most(MOST, self, "warmup_steps", "eval_steps", "checkpoint_steps")
        # Each token is a number of eight bytes, twice: as an input and as a target.
        require_fits(16 * self.batch_size * self.seq_len, BATCH)
        rates = ("learning_rate", "weight_decay", "grad_clip", "span_loss")
        for name in (*rates, "warmup_steps", "seed"):
            value = getattr(self, name)
            expect(value >= 0, name, value, "a number of at least 0")

    def require_fits(self, model: ModelConfig) -> None:
        """Raises `ValueError` if what this model makes of a batch is larger than the memory."""
        tokens = self.batch_size // self.accumulate * self.seq_len
        require_fits(model.bytes_of(tokens), BATCH)

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON can hold."""
        warm_start = None if self.warm_start is None else str(self.warm_start)
        return {**asdict(self), "run": str(self.run), "warm_start": warm_start}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """The inverse of `to_dict`."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        for before, now in ALIASES.items():
            if known.get("implementation") == before:
                known["implementation"] = now
        paths = {k: Path(known[k]) for k in ("run", "warm_start") if isinstance(known.get(k), str)}
        return cls(**{**known, **paths})
