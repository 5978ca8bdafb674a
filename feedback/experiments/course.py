r"""
---
title: The course
summary: One loop that teaches any contestant any task, short sequences first, on a fixed budget.
---

# The course

Everybody who takes part in an experiment takes the same course: the same stream of sequences, the
same number of tokens, the same rule by which sequences become longer. Only the learning rate is
each one's own, chosen from a small search.

**Short to long.** A sequence of two steps has nothing to it but the table of the task: what does
this event do to that state? It is learnt there, where the gradient has one step to travel. A course
that begins at full length has to find the table and the recurrence at once. So sequences begin at
`start_len`, and become half as long again whenever the share of right answers passes `ready`. It is
the learner who decides, so whoever cannot learn to compose two events does not get to see three.
`start_len=None` is the course without this: full length from the first step.

**To the end.** The learning rate is constant, and falls to zero over the last part of the budget.
There a model that is nearly right becomes right: a state has to survive hundreds of steps, and what
counts is how small the error of one step is.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..data.text import Batch
from ..support.checks import expect, require_kinds, require_positive
from ..training.evaluate import loss_of
from .task import Task, right


@dataclass(frozen=True)
class Course:
    """
    ## What is taught

    Raises `ValueError` for a value that makes no sense, naming it.
    """

    tokens: int = 10_000_000
    """The budget: tokens read in training."""
    batch_tokens: int = 4096
    """Tokens in one step of the optimiser."""
    seq_len: int = 32
    """The length at which training ends."""
    start_len: int | None = 2
    """The length at which it begins; None: it has its full length from the first step."""
    ready: float = 0.97
    """The share of right answers after which sequences become half as long again."""
    learning_rate: float = 1e-3
    """Adam's learning rate before it falls."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    decay: float = 0.4
    """The share of the budget, its end, in which the learning rate falls to zero."""
    weight_decay: float = 0.01
    """AdamW weight decay."""
    grad_clip: float = 1.0
    """Largest norm of the gradient."""

    def __post_init__(self) -> None:
        require_positive(self, "tokens", "batch_tokens", "seq_len")
        require_kinds(self)
        expect(0 < self.decay <= 1, "decay", self.decay, "a share above 0, at most 1")
        words = f"a length from 1 to seq_len = {self.seq_len}, or None"
        good = self.start_len is None or 1 <= self.start_len <= self.seq_len
        expect(good, "start_len", self.start_len, words)
        words = f"at least seq_len = {self.seq_len}, a whole sequence"
        expect(self.batch_tokens >= self.seq_len, "batch_tokens", self.batch_tokens, words)

    def rate(self, step: int, tokens: int) -> float:
        """The learning rate of a step that begins after `tokens`."""
        left = (1 - tokens / self.tokens) / self.decay
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps, left)


def learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, grad_clip: float
) -> tuple[float, float]:
    """One step of the optimiser; returns the loss, and the share of right answers before it."""
    logits, *_ = model(batch.tokens)
    loss = loss_of(logits, batch.targets)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    good, asked = right(logits, batch.targets)
    return loss.item(), (good & asked).sum().item() / asked.sum().item()


def teach(
    model: nn.Module,
    task: Task,
    course: Course,
    seed: int,
    show: Callable[[dict[str, Any]], None] = lambda row: None,
) -> list[dict[str, Any]]:
    r"""
    ## The loop

    Trains `model`, whose initial weights are the caller's business, and returns the curve: a row
    for each of about a hundred stretches of the budget, with `step`, `tokens`, `seconds`,
    `seq_len`, and `loss` and `accuracy`, means over the stretch. Raises `ValueError` if the loss is
    not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        learned, betas=(0.9, 0.99), weight_decay=course.weight_decay, fused=True
    )
    T = course.start_len or course.seq_len
    step, tokens, recent = 0, 0, 0.0
    curve: list[dict[str, Any]] = []
    seen: list[tuple[float, float]] = []
    started = time.perf_counter()
    model.train()
    while tokens < course.tokens:
        for group in optimizer.param_groups:
            group["lr"] = course.rate(step, tokens)
        batch = task.draw(course.batch_tokens // T, T, generator)
        loss, accuracy = learn(model, optimizer, batch, course.grad_clip)
        expect(math.isfinite(loss), f"the loss at step {step + 1}", loss, "a finite number")
        step, tokens = step + 1, tokens + batch.tokens.numel()
        seen.append((loss, accuracy))
        if tokens >= course.tokens * (len(curve) + 1) / 100:
            means = [sum(column) / len(seen) for column in zip(*seen, strict=True)]
            row = {"step": step, "tokens": tokens, "seconds": time.perf_counter() - started}
            curve.append({**row, "seq_len": T, "loss": means[0], "accuracy": means[1]})
            show(curve[-1])
            seen = []
        recent = 0.9 * recent + 0.1 * accuracy
        if course.seq_len > T and recent > course.ready:
            T, recent = min(course.seq_len, math.ceil(1.5 * T)), 0.0
    return curve


@torch.no_grad()
def examine(
    model: nn.Module, task: Task, lengths: Iterable[int], seed: int, sequences: int = 1024
) -> dict[str, dict[str, float]]:
    """
    ## The examination

    New sequences of each length. For each: the share of right answers, of right last answers, and
    of sequences without a mistake. The model is left in the mode it was in.
    """
    training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    results = {}
    for T in lengths:
        parts = []
        for _ in range(max(1, sequences // 128)):
            batch = task.draw(min(sequences, 128), T, generator)
            logits, *_ = model(batch.tokens)
            good, asked = right(logits, batch.targets)
            last = asked.int().cumsum(1).argmax(1, keepdim=True)
            parts.append((
                (good & asked).sum(1) / asked.sum(1),
                good.gather(1, last).float().squeeze(1),
                (good | ~asked).all(1).float(),
            ))  # fmt: skip
        means = [torch.cat(column).mean().item() for column in zip(*parts, strict=True)]
        results[str(T)] = dict(zip(("token", "final", "sequence"), means, strict=True))
    model.train(training)
    return results
