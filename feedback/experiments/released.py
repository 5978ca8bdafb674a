r"""
---
title: The released recipe
summary: The authors' settings for their programs: one corpus, read again and again in blocks.
---

# The released recipe

What would it take to repeat the paper's result on [programs](programs.py) without any help of ours?
No labels but those of the prints, no short programs to begin with: the settings that the authors
released[^code], for our model and for programs of our generator.

- **A corpus.** 10,000 programs are written once, one after the other, and cut into 512 rows.
- **In blocks.** A step of the optimiser reads 64 words of each row, and takes over the memory that
  the step before has left, without its gradient. A program has some 432 words, and attention
  reaches back by 100. So the assignment of a variable is often out of reach, and its value must
  have been written into the memory of a later step.
- **Again and again.** Where the rows end, a new pass begins with an empty memory, at one of the
  first 64 words, so that the blocks of two passes are cut at different words. After 50,000 steps
  1.64 billion words have been read, each of them some 380 times.
- **Adam**, with a learning rate of 0.0001 after 1000 steps of warm-up, and gradients of norm 0.1 at
  the most.

Their model has four layers, and the Transformer next to it eight of the same width, which here is
the [parallel Transformer](../transformer.py) of this package. All of that is work for a GPU, and
for long. So after each hundredth of the steps [all that the run needs](../training/checkpoint.py)
is written to a file, and the same command goes on from there. On a CPU it then ends, to the last
bit, where an uninterrupted run would have ended; on a GPU, as far as its operations can be
repeated.

[^code]: [transformer-sequential](https://github.com/facebookresearch/transformer-sequential). How
    our model differs from theirs: [differences](../../docs/pages/differences.md).
"""

import hashlib
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..data.text import IGNORE, Batch
from ..lm.language_model import LanguageModel, TransformerLM
from ..memory import Memory
from ..support.checks import expect, require, require_kinds, require_positive
from ..training.checkpoint import Checkpoint, Checkpoints, Progress, restore, state_tensors
from ..training.evaluate import loss_of
from ..training.trainer import SEEDS
from .programs import TRAIN_PROGRAMS, Programs
from .task import right

COLUMNS = ("step", "tokens", "seconds", "seq_len", "loss", "accuracy")
"""What a row of the curve tells of a stretch, a hundredth of the steps."""


@dataclass(frozen=True)
class Recipe:
    """
    ## What is released

    Raises `ValueError` for a value that makes no sense, naming it.
    """

    tokens: int = 50_000 * 512 * 64
    """The budget: tokens read in training."""
    rows: int = 512
    """Rows into which the corpus is cut."""
    seq_len: int = 64
    """Tokens of each row that one step reads."""
    programs: int = TRAIN_PROGRAMS
    """Programs in the corpus."""
    learning_rate: float = 1e-4
    """Adam's learning rate after the warm-up."""
    warmup_steps: int = 1000
    """Steps of linear warm-up."""
    grad_clip: float = 0.1
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        require_positive(self, "tokens", "rows", "seq_len", "programs")
        require_kinds(self)
        for name in ("learning_rate", "grad_clip"):
            value = getattr(self, name)
            expect(value > 0, name, value, "a number above 0")
        expect(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "a number of at least 0")

    @property
    def steps(self) -> int:
        """Steps of the optimiser, the last of which completes the budget."""
        return math.ceil(self.tokens / (self.rows * self.seq_len))

    @property
    def stretches(self) -> list[int]:
        """The steps with which a hundredth of the budget ends."""
        return sorted({math.ceil(self.steps * n / 100) for n in range(1, 101)})


def seed_of(seed: int, n: int) -> int:
    """A seed of its own for the `n`-th pass, or for the dropout of the `n`-th step."""
    return (seed * 1_000_003 + n) % SEEDS


class Corpus:
    """
    ## One corpus, in blocks

    `tokens` and `targets` are `(rows, n)`. A pass has as many `blocks` as fit wherever it begins.
    Raises `ValueError` if that is none.
    """

    def __init__(self, task: Programs, recipe: Recipe, seed: int):
        corpus = task.corpus(recipe.programs, torch.Generator().manual_seed(seed))
        T, words, self.seed = recipe.seq_len, len(corpus[0]), seed
        n = words // recipe.rows
        # A pass begins at a word from 0 to $T - 1$.
        self.seq_len, self.blocks = T, (n - T + 1) // T
        most = words // (2 * T - 1)
        expected = f"at most {most} for {words} words in blocks of {T}; or take more programs"
        expect(self.blocks > 0, "rows", recipe.rows, expected)
        self.tokens, self.targets = (x[: n * recipe.rows].view(recipe.rows, n) for x in corpus)

    def block(self, step: int) -> Batch:
        """
        What a step reads, `(rows, seq_len)`: `new` where a pass begins. Raises `ValueError` if
        there is no label in it.
        """
        number, i = divmod(step, self.blocks)
        generator = torch.Generator().manual_seed(seed_of(self.seed, number))
        offset = int(torch.randint(self.seq_len, (), generator=generator))
        part = slice(offset + i * self.seq_len, offset + (i + 1) * self.seq_len)
        tokens, targets = self.tokens[:, part], self.targets[:, part]
        good = bool((targets != IGNORE).any())
        require(good, f"step {step + 1} reads no label; use more rows, or a larger seq_len")
        return Batch(tokens, targets, new=i == 0)

    def digest(self, *more: object) -> str:
        """Identifies the corpus, and what `more` there is."""

        def data(x: Tensor) -> bytes:
            return x.contiguous().numpy().tobytes()

        parts = data(self.tokens), data(self.targets), repr(more).encode()
        return hashlib.sha256(b"".join(parts)).hexdigest()


class Reading:
    """
    ## A run, and all that a step changes
    """

    def __init__(self, model: LanguageModel, recipe: Recipe, seed: int):
        self.device = next(model.parameters()).device
        self.model, self.recipe, self.seed = model.train(), recipe, seed
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.memory: Memory | None = None
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, Any]] = []

    def learn(self, batch: Batch) -> tuple[float, float]:
        """
        One step; returns the loss, and the share of right answers before it. Raises `ValueError`
        for a loss that is not finite.
        """
        recipe, parameters = self.recipe, self.model.parameters()
        rate = recipe.learning_rate * min(1, (self.step + 1) / max(1, recipe.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # The masks of dropout depend on the seed and the step alone.
        torch.manual_seed(seed_of(self.seed, self.step))
        tokens, targets = batch.tokens.to(self.device), batch.targets.to(self.device)
        past = None if batch.new or self.memory is None else self.memory
        logits, memory = self.model(tokens, past)
        loss = loss_of(logits, targets)
        expect(
            bool(loss.isfinite()),
            f"the loss at step {self.step + 1}",
            loss.item(),
            "a finite number",
        )
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
        self.optimizer.step()
        self.memory, self.step = memory.detach(), self.step + 1
        good, asked = right(logits, targets)
        return loss.item(), ((good & asked).sum() / asked.sum()).item()

    def stretch(self, corpus: Corpus, end: int) -> None:
        """All steps up to `end`, and one more row for the curve."""
        started, seen = time.perf_counter(), []
        while self.step < end:
            seen.append(self.learn(corpus.block(self.step)))
        self.seconds += time.perf_counter() - started
        means = [sum(column) / len(seen) for column in zip(*seen, strict=True)]
        T, tokens = self.recipe.seq_len, self.step * self.recipe.rows * self.recipe.seq_len
        row = (self.step, tokens, self.seconds, T, *means)
        self.curve.append(dict(zip(COLUMNS, row, strict=True)))

    def checkpoint(self, digest: str) -> Checkpoint:
        """Everything that a step changes, as one checkpoint."""
        rows = [[float(row[name]) for name in COLUMNS] for row in self.curve]
        curve = torch.tensor(rows, dtype=torch.float64)
        assert self.memory is not None
        tensors = {**state_tensors(self.model, self.optimizer), "memory": self.memory.m}
        progress = Progress(self.step, self.seconds, None, 0, digest)
        return Checkpoint(progress, {**tensors, "curve": curve})

    def resume(self, kept: Checkpoints, digest: str) -> None:
        """
        The inverse. Raises `ValueError` if it is another run that was kept, or if every checkpoint
        is damaged.
        """
        origin = str(kept.folder)
        try:
            saved = kept.load(lambda line: print(line, file=sys.stderr))
        except ValueError as error:
            words = f"{origin}: every checkpoint is damaged; remove the folder to begin again"
            raise ValueError(words) from error
        words = f"{origin} has a run with other settings or of another version; move it away"
        require(saved.progress.digest == digest, words)
        restore(self.model, self.optimizer, saved, origin)
        self.memory = Memory(saved.tensors["memory"].to(self.device), self.model.config)
        self.step, self.seconds = saved.progress.step, saved.progress.seconds
        rows = (dict(zip(COLUMNS, row, strict=True)) for row in saved.tensors["curve"].tolist())
        counts = ("step", "tokens", "seq_len")
        self.curve = [row | {name: int(row[name]) for name in counts} for row in rows]


def follow(
    model: Any,
    task: Any,
    recipe: Recipe,
    seed: int,
    show: Callable[[dict[str, Any]], None] = lambda row: None,
    folder: Path | None = None,
) -> list[dict[str, Any]]:
    """
    ## The loop

    Trains `model` on a corpus of the `task`, and returns the curve, as `teach` does. Checkpoints
    are in `folder`, the last of them with all that was learnt; without a folder nothing is kept.
    Raises `ValueError` if the loss is not finite, or if there is another run in the folder.
    """
    corpus, run = Corpus(task, recipe, seed), Reading(model, recipe, seed)
    # By which the run knows itself again.
    digest = corpus.digest(recipe, model.config)
    kept = None if folder is None else Checkpoints(folder)
    if kept and kept.steps():
        run.resume(kept, digest)
    for end in recipe.stretches:
        if end > run.step:
            run.stretch(corpus, end)
            show(run.curve[-1])
            if kept:
                kept.save(run.checkpoint(digest))
    return run.curve


def twice_as_deep(config: ModelConfig) -> nn.Module:
    """The parallel Transformer of the same width with twice the layers."""
    return TransformerLM(replace(config, n_layers=2 * config.n_layers))
