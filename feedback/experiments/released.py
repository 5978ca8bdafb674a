r"""
---
title: The released recipe
summary: The authors' settings for their programs: one corpus, read again and again in blocks.
---

# The released recipe

What would it take to repeat the paper's result on [programs](programs.py), with nothing of ours in
between? No labels but those of the prints, no short programs to begin with: the settings that the
authors released, as they are.

- **A corpus.** 10,000 programs are written once, one after the other, and cut into 512 rows.
- **In blocks.** A step of the optimiser reads 64 words of each row, and takes over the memory that
  the step before has left, without its gradient. Since a program has some 432 words and attention
  reaches back by 100, most values live on only if memory vectors pass them on.
- **Again and again.** Where the rows end they begin anew, with an empty memory. After 50,000 steps
  1.64 billion words have been read, each of them some 380 times.
- **Adam**, with a learning rate of 0.0001 after 1000 steps of warm-up, and gradients of norm 0.1 at
  the most.

Their model has four layers, and the Transformer next to it eight of the same width, which is the
[parallel Transformer](../transformer.py) of this package. This takes hours on a GPU, and days on a
processor. So after each hundredth of the steps [all that the run needs](../training/checkpoint.py)
is written to a file. The same command goes on from there, and ends where an uninterrupted run would
have ended.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..config import ModelConfig
from ..data.text import Batch
from ..lm.language_model import LanguageModel, TransformerLM
from ..memory import Memory
from ..support.checks import expect, require, require_kinds, require_positive
from ..training.checkpoint import Checkpoint, Checkpoints, Progress, restore, state_tensors
from ..training.evaluate import loss_of
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

    @property
    def steps(self) -> int:
        """Steps of the optimiser, the last of which completes the budget."""
        return math.ceil(self.tokens / (self.rows * self.seq_len))

    @property
    def stretches(self) -> list[int]:
        """The steps with which a hundredth of the budget ends."""
        return sorted({math.ceil(self.steps * n / 100) for n in range(1, 101)})


class Corpus:
    """
    ## One corpus, in blocks

    What is left over at the end of the rows, less than a block, is not read. Raises `ValueError`
    if there are more rows than the corpus has blocks.
    """

    def __init__(self, task: Programs, recipe: Recipe, seed: int):
        corpus = task.corpus(recipe.programs, torch.Generator().manual_seed(seed))
        words, n = len(corpus[0]), len(corpus[0]) // recipe.rows
        expected = f"at most {words // recipe.seq_len}, as many as blocks of {recipe.seq_len} words"
        expect(n >= recipe.seq_len, "rows", recipe.rows, expected)
        self.tokens, self.targets = (x[: n * recipe.rows].view(recipe.rows, n) for x in corpus)
        self.seq_len, self.blocks = recipe.seq_len, n // recipe.seq_len

    def block(self, step: int) -> Batch:
        """What a step reads, `(rows, seq_len)`: `new` where the corpus begins."""
        start = step % self.blocks * self.seq_len
        part = slice(start, start + self.seq_len)
        return Batch(self.tokens[:, part], self.targets[:, part], new=start == 0)

    @property
    def digest(self) -> str:
        """By which a run knows its corpus again, and with it the seed."""
        return hashlib.sha256(self.tokens.contiguous().numpy().tobytes()).hexdigest()


class Reading:
    """
    ## A run, and all that a step changes

    The model is moved to a GPU if there is one.
    """

    def __init__(self, model: LanguageModel, recipe: Recipe, seed: int):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.recipe, self.seed = model.to(self.device).train(), recipe, seed
        self.optimizer = torch.optim.Adam(self.model.parameters())
        self.memory: Memory | None = None
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, Any]] = []

    def learn(self, batch: Batch) -> tuple[float, float]:
        """One step; returns the loss, and the share of right answers before it."""
        recipe, parameters = self.recipe, self.model.parameters()
        rate = recipe.learning_rate * min(1, (self.step + 1) / max(1, recipe.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # Masks of dropout depend on the step alone, whether or not the run was interrupted.
        torch.manual_seed((self.seed << 24) + self.step)
        tokens, targets = batch.tokens.to(self.device), batch.targets.to(self.device)
        past = None if batch.new or self.memory is None else self.memory
        logits, memory = self.model(tokens, past)
        loss = loss_of(logits, targets)
        expect(bool(loss.isfinite()), f"the loss at step {self.step + 1}", loss.item(), "finite")
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
        """All of that, as it is kept."""
        rows = [[float(row[name]) for name in COLUMNS] for row in self.curve]
        curve = torch.tensor(rows, dtype=torch.float64)
        assert self.memory is not None
        tensors = {**state_tensors(self.model, self.optimizer), "memory": self.memory.m}
        progress = Progress(self.step, self.seconds, None, 0, digest)
        return Checkpoint(progress, {**tensors, "curve": curve})

    def resume(self, kept: Checkpoints, digest: str) -> None:
        """The inverse; raises `ValueError` if it is not this run that was kept."""
        saved, origin = kept.load(print), str(kept.folder)
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

    Trains `model` on a corpus of the `task`, and returns the curve, as `teach` does. What is needed
    to go on is in `folder` until the end, or nowhere. Afterwards the model is on the CPU. Raises
    `ValueError` if the loss is not finite, or if there is another run in the folder.
    """
    corpus, run = Corpus(task, recipe, seed), Reading(model, recipe, seed)
    # By which the run knows itself again.
    digest = hashlib.sha256(f"{recipe} {corpus.digest}".encode()).hexdigest()
    kept = None if folder is None else Checkpoints(folder)
    if kept and kept.steps():
        run.resume(kept, digest)
    for end in recipe.stretches:
        if end > run.step:
            run.stretch(corpus, end)
            show(run.curve[-1])
            if kept:
                kept.save(run.checkpoint(digest))
    model.cpu()
    if kept:
        kept.clear(all=True)
    return run.curve


def twice_as_deep(config: ModelConfig) -> nn.Module:
    """The parallel Transformer of the same width with twice the layers."""
    return TransformerLM(replace(config, n_layers=2 * config.n_layers))
