r"""
---
title: The trainer
summary: One step, all that it depends on, and how that is saved and restored.
---

# The trainer

A training step is a dozen lines: batch, loss, gradient, clip, step. Those lines are in
`gradients` and `train_step`, and nothing hides them. Around them is what makes a run reliable.

**What does step 400 depend on?** On the weights, the optimiser and the memory, which the
checkpoint holds, and on nothing else: the number of a step seeds its random numbers, and decides
its place in the text. Hence a run that was stopped and resumed equals the run that was never
stopped, bit for bit. If [several processes](distributed.py) share the rows of a batch, only the
dropout masks and the last bits of the sums depend on how many they are.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..data.text import Batch, carried_batch, load_corpus, random_batch, require_enough
from ..fast.graphs import GraphedStep, training_state
from ..lm.language_model import ARCHITECTURES, LanguageModel
from ..memory import Memory
from ..support.checks import expect, require
from ..support.interrupt import Interrupt, Interrupted
from .checkpoint import Checkpoint, Progress, require_memory, restore, state_tensors
from .distributed import (
    agreed,
    average,
    choose_device,
    everywhere,
    first,
    from_first,
    here,
    rank,
    size,
)
from .evaluate import evaluate, loss_of
from .runs import Run
from .schedule import learning_rate, make_optimizer, sequence_lengths
from .sharded import clip, gather, is_part, own, shard, unshard, whole
from .train_config import TrainConfig

SEEDS = 2**63
"""Seeds are taken modulo this number, so that PyTorch accepts all of them."""

APART = 2_654_435_761
r"""
How far apart the seeds of two processes are: $2^{32} / \varphi$. On a CPU only 32 bits of a seed
count, and in those, multiples of this number keep away from each other, so a process would need
very many steps to meet the masks of another.
"""


class Trainer:
    """
    ## A run

    Holds what a step changes: `model`, `optimizer`, `memory`, `step` and `seconds`; and with which
    `exit_code` a program should end, if a signal stopped the run.
    """

    def __init__(self, model_config: ModelConfig, config: TrainConfig):
        """Loads the text and builds the model; writes nothing."""
        self.tokenizer, self.corpus = load_corpus(config.data, config.tokenizer)
        require_enough(self.corpus, config.seq_len)
        words = f"a multiple of {size()} processes times accumulate = {config.accumulate}"
        good = config.batch_size % (size() * config.accumulate) == 0
        expect(good, "batch_size", config.batch_size, words)
        config.require_fits(replace(model_config, vocab_size=len(self.tokenizer)))
        self.config, self.run = config, Run(config.run)
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed % SEEDS)
        model_config = replace(model_config, vocab_size=len(self.tokenizer))
        choice = (config.implementation,) if config.architecture == "feedback" else ()
        self.model: LanguageModel = ARCHITECTURES[config.architecture](model_config, *choice)
        self.model.to(self.device)
        if config.sharded:
            shard(self.model, self.device)
        self.spans = [p for n, p in self.model.named_parameters() if n.endswith(".attn.span")]
        require(
            config.span_loss == 0 or bool(self.spans),
            f"span_loss is {config.span_loss}, expected 0, as the model has no adaptive spans; set "
            "adaptive_span, or leave span_loss out",
        )
        self.seq_lens = sequence_lengths(config)
        self.optimizer = make_optimizer(self.model, config, self.device)
        # What the processes of a divided model send each other cannot be recorded.
        graphs = self.device.type == "cuda" and not config.sharded
        state = partial(training_state, self.model, self.optimizer)
        self.graphed = GraphedStep(self.update, state) if graphs else None
        self.memory: Memory | None = None
        self.step, self.seconds = 0, 0.0
        self.val_loss: float | None = None
        self.val_step, self.exit_code = 0, 0
        # A text that is too short fails here, before anything is written.
        self.batch_at(config.max_steps - 1)

    def seed_at(self, step: int) -> int:
        """The seed of everything random in a step: its windows of the text, and its dropout."""
        return (self.config.seed * 1_000_003 + step) % SEEDS

    def batch_at(self, step: int) -> Batch:
        """
        The rows of this process in the batch of a step. The batch depends on the seed and the step,
        and on nothing else.
        """
        c, T = self.config, self.seq_lens[step]
        if c.segments == "carried":
            batch = carried_batch(self.corpus.train, c.batch_size, T, sum(self.seq_lens[:step]))
        else:
            generator = torch.Generator().manual_seed(self.seed_at(step))
            batch = random_batch(self.corpus.train, c.batch_size, T, generator)
        return Batch(here(batch.tokens), here(batch.targets), batch.new)

    def gradients(
        self, tokens: Tensor, targets: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """
        The loss, the norm of its gradient before clipping, and the memory after the batch. The
        rows are read in `accumulate` parts: the mean of their losses is the loss of the batch, and
        so its gradient is the sum of what they leave (but dropout draws other masks). What
        `span_loss` adds is in the gradient, not in the loss that is returned.
        """
        c, model = self.config, self.model
        self.optimizer.zero_grad()
        losses, memories = [], []
        parts = [x.chunk(c.accumulate) for x in (tokens, targets)]
        pasts = [None] * c.accumulate if past is None else past.chunk(c.accumulate)
        for inputs, labels, m in zip(*parts, pasts, strict=True):
            memory = None if m is None else Memory(m, model.config)
            unshard(model)
            with torch.autocast(self.device.type, torch.bfloat16, c.precision == "bfloat16"):
                logits, memory = model(inputs, memory)
            loss = loss_of(logits, labels) / c.accumulate
            loss.backward()
            losses.append(loss.detach())
            memories.append(memory.m.detach())
        if c.span_loss > 0:
            self.charge_for_spans()
        loss, grads = torch.stack(losses).sum(), (p.grad for p in model.parameters())
        # The gradient of a divided model is averaged in its backward pass.
        average([loss, *(g for g in grads if g is not None and not is_part(g))])
        norm = clip(model.parameters(), c.grad_clip or math.inf)
        return loss, norm, torch.cat(memories)

    def charge_for_spans(self) -> None:
        r"""
        Adds to the gradient that of `span_loss` times the mean span of a layer's heads in slots,
        the layers added up, as in the authors' code:
        $\lambda \cdot \mathtt{mem\_len} \sum_l \frac1H \sum_h \mathrm{span}_{lh}$. It is the same
        number for each span.
        """
        c = self.model.config
        for span in self.spans:
            slope = torch.full_like(span, self.config.span_loss * c.mem_len / c.n_heads)
            span.grad = slope if span.grad is None else span.grad + slope

    def step_optimizer(self) -> None:
        """A step of the optimiser; a span that it moved out of its range goes back to the end."""
        self.optimizer.step()
        for span in self.spans:
            own(span).data.clamp_(0, 1)

    def update(
        self, tokens: Tensor, targets: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `gradients`, then a step of the optimiser: what a GPU records as one graph."""
        results = self.gradients(tokens, targets, past)
        self.step_optimizer()
        return results

    def train_step(self) -> dict[str, Any]:
        """
        ### One step

        Raises `ValueError` if the loss or its gradient is not finite; on a CPU before any
        parameter has changed.
        """
        rate = learning_rate(self.step, self.config)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        batch = self.batch_at(self.step)
        # Dropout draws from the global generator, in each process other masks.
        torch.manual_seed((self.seed_at(self.step) + rank() * APART) % SEEDS)
        past = None if batch.new or self.memory is None else self.memory.m
        inputs = batch.tokens.to(self.device), batch.targets.to(self.device), past
        loss, norm, m = (self.graphed or self.gradients)(*inputs)
        self.check_finite(self.step + 1, loss=loss, gradient_norm=norm)
        if self.graphed is None:
            self.step_optimizer()
        self.memory = Memory(m.clone(), self.model.config)
        self.step += 1
        return {
            "step": self.step,
            "tokens": self.tokens(),
            "train_loss": loss.item(),
            "val_loss": None,
            "learning_rate": rate,
            "seq_len": batch.tokens.shape[1],
        }

    def check_finite(self, step: int, **values: Tensor | float) -> None:
        """Raises `ValueError`, naming the step, if one of `values` is not finite."""
        for name, value in values.items():
            if math.isfinite(value):
                continue
            steps = self.run.checkpoints.steps()
            kept = f"keeps the checkpoint of step {steps[0]}" if steps else "has no checkpoint"
            raise ValueError(
                f"the {name.replace('_', ' ')} is {float(value)} at step {step}, expected a finite "
                "number; start again with a lower learning_rate, or a smaller grad_clip above 0; "
                f"{self.run.folder} {kept}"
            )

    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.config.batch_size * sum(self.seq_lens[: self.step])

    def save(self) -> None:
        """
        Writes the checkpoint, and the model for others to load. If a weight is not finite it raises
        `ValueError` before it writes, so a good checkpoint is kept.
        """
        with whole(self.model):
            largest = torch.stack([p.detach().abs().max() for p in self.model.parameters()]).max()
        self.check_finite(self.step, largest_weight=largest)
        names = ("step", "seconds", "val_loss", "val_step")
        progress = Progress(**{n: getattr(self, n) for n in names}, digest=self.corpus.digest)
        tensors = gather(state_tensors(self.model, self.optimizer))
        if self.memory is not None:
            tensors["memory"] = everywhere(self.memory.m)
        if first():
            self.run.save_checkpoint(Checkpoint(progress, tensors))
        with whole(self.model):
            if first():
                self.write_model()

    def write_model(self) -> None:
        """Writes `model.safetensors` and `config.json` of a model that is whole."""
        model = self.model
        if self.config.sharded:
            # `shard` has made it a class of its own, which nobody could load.
            with torch.device("meta"):
                model = ARCHITECTURES[self.config.architecture](model.config)
            model.load_state_dict(dict(self.model.named_parameters()), assign=True)
        ratio = {"bytes_per_token": self.corpus.bytes_per_token}
        extra = {"train": self.config.to_dict(), **self.tokenizer.to_dict(), **ratio}
        model.tokenizer_json = self.tokenizer.json
        model.save_pretrained(self.run.folder, extra=extra)

    def resume(self, show: Callable[[str], None]) -> None:
        """Restores the last checkpoint; raises `ValueError` if it is not of this run."""
        checkpoint = from_first(lambda: self.run.load_checkpoint(show))
        saved, origin = checkpoint.progress, f"the checkpoint in {self.run.folder}"
        require(
            saved.digest == self.corpus.digest,
            f"{origin} was made with a different text from {self.config.data!r} as it is now, or "
            "with a different tokenizer; restore what it was, or start again with --overwrite",
        )
        require(
            saved.step <= self.config.max_steps,
            f"{origin} is from step {saved.step}, but max_steps is {self.config.max_steps}; "
            f"expected at least {saved.step}",
        )
        rows = self.run.metrics_until(saved.step) if first() else []
        restore(self.model, self.optimizer, checkpoint, origin)
        c, m = self.model.config, checkpoint.tensors.get("memory")
        require(
            (m is None) == (saved.step == 0),
            f"{origin} is of step {saved.step} with{'out' * (m is None)} a memory; it was not made "
            "by a run",
        )
        if m is not None:
            layers = () if self.config.architecture == "feedback" else (c.n_layers,)
            require_memory(m, (self.config.batch_size, *layers, c.mem_len, c.d_model), origin)
            self.memory = Memory(here(m).to(self.device), c)
        self.step, self.seconds = saved.step, saved.seconds
        self.val_loss, self.val_step = saved.val_loss, saved.val_step
        if first():
            self.run.write_metrics(rows)

    def validate(self, interrupt: Interrupt) -> None:
        """The validation loss, if it is due after this step and no signal comes meanwhile."""
        c = self.config

        def check() -> None:
            """Stops in all processes at once."""
            if agreed(interrupt):
                raise Interrupted

        if self.step % c.eval_steps == 0 or self.step == c.max_steps:
            with suppress(Interrupted), whole(self.model):
                loss = evaluate(self.model, self.corpus.val, c.seq_len, check=check)
                self.check_finite(self.step, validation_loss=loss)
                self.val_loss, self.val_step = loss, self.step

    def validate_again(self, interrupt: Interrupt) -> None:
        """Makes up for a validation that was due after the last step, but interrupted."""
        if self.val_step < self.step:
            self.validate(interrupt)
            if self.val_step == self.step and first():
                rows = self.run.metrics_until(self.step)
                rows[-1]["val_loss"] = self.val_loss
                self.run.write_metrics(rows)

    @property
    def bits_per_byte(self) -> float | None:
        """The last validation loss, so that it can be compared across tokenizers."""
        if self.val_loss is None:
            return None
        return self.val_loss / math.log(2) / self.corpus.bytes_per_token

    @property
    def finished(self) -> bool:
        """Whether the last step is taken, or the loss reached at which to stop."""
        goal, loss = self.config.until_loss, self.val_loss
        reached = goal is not None and loss is not None and loss <= goal
        # A validation that a signal interrupted is still to be made.
        return reached or min(self.step, self.val_step) >= self.config.max_steps

    def describe(self) -> str:
        """One line on what is about to be trained."""
        parameters = sum(p.numel() for p in self.model.parameters())
        return (
            f"{parameters:,} parameters, {len(self.corpus.train):,} tokens for training, "
            f"{len(self.corpus.val):,} for validation, device {self.device}"
        )

    def sample(self, length: int = 400) -> str:
        """What the model writes after a line break, if the text has one, at temperature 0.8."""
        try:
            prompt = self.tokenizer.encode("\n")
        except ValueError:
            prompt = self.corpus.train[:0]
        prompt = prompt if len(prompt) else self.corpus.train[:1]
        generator = torch.Generator(self.device).manual_seed(self.config.seed % SEEDS)
        tokens = prompt[None].to(self.device)
        out = self.model.generate(tokens, length, temperature=0.8, generator=generator)
        return self.tokenizer.decode(out[0, len(prompt) :])
