r"""
---
title: Training
summary: One visible loop, from text to a trained model, that can stop and resume at any step.
---

# Training

A training loop is a dozen lines: batch, loss, gradient, clip, step. Those lines are in
`gradients` and `train_step`, and nothing hides them. Around them is what makes a run reliable.

**What does step 400 depend on?** On the weights, the optimiser and the memory, which the
checkpoint holds, and on nothing else: the number of a step seeds its random numbers, and decides
its place in the text. Hence a run that was stopped and resumed equals the run that was never
stopped, bit for bit.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..config import ModelConfig
from ..data.text import Batch, carried_batch, load_corpus, random_batch, require_enough
from ..fast.graphs import GraphedStep, training_state
from ..lm.language_model import ARCHITECTURES, LanguageModel, TransformerLM
from ..lm.pretrained import load_weights
from ..memory import Memory
from ..support.checks import require
from ..support.files import write_whole
from ..support.interrupt import Interrupt
from .evaluate import evaluate, loss_of
from .plot import plot_runs
from .runs import PLOT, SAMPLE, Run, event_writer
from .schedule import learning_rate, make_optimizer, sequence_lengths
from .train_config import TrainConfig
from .warm_start import require_same_tokens, warm_start

SEEDS = 2**63
"""Seeds are taken modulo this number, so that PyTorch accepts all of them."""

BAR: Any = {"unit": "token", "unit_scale": True, "dynamic_ncols": True, "disable": None}
"""How the progress bar looks; it is left out where nobody would see it."""


class Trainer:
    """
    ## A run

    Holds what a step changes: `model`, `optimizer`, `memory`, `step` and `seconds`.
    """

    def __init__(self, model_config: ModelConfig, config: TrainConfig):
        """Loads the text and builds the model; writes nothing."""
        self.tokenizer, self.corpus = load_corpus(config.data, config.tokenizer)
        require_enough(self.corpus, config.seq_len)
        self.config, self.run = config, Run(config.run)
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed % SEEDS)
        model_config = replace(model_config, vocab_size=len(self.tokenizer))
        own = (config.implementation,) if config.architecture == "feedback" else ()
        self.model: LanguageModel = ARCHITECTURES[config.architecture](model_config, *own)
        self.model.to(self.device)
        self.spans = [p for n, p in self.model.named_parameters() if n.endswith(".attn.span")]
        require(
            config.span_loss == 0 or bool(self.spans),
            f"span_loss is {config.span_loss}, expected 0, as the model has no adaptive spans; set "
            "adaptive_span, or leave span_loss out",
        )
        self.seq_lens = sequence_lengths(config)
        self.optimizer = make_optimizer(self.model, config, self.device)
        on_gpu = self.device.type == "cuda"
        state = partial(training_state, self.model, self.optimizer)
        self.graphed = GraphedStep(self.update, state) if on_gpu else None
        self.memory: Memory | None = None
        self.step, self.seconds = 0, 0.0
        self.val_loss: float | None = None
        # A text that is too short fails here, before anything is written.
        self.batch_at(config.max_steps - 1)

    def seed_at(self, step: int) -> int:
        """The seed of everything random in a step: its windows of the text, and its dropout."""
        return (self.config.seed * 1_000_003 + step) % SEEDS

    def batch_at(self, step: int) -> Batch:
        """The batch of a step; depends on the seed and the step, and on nothing else."""
        c, T = self.config, self.seq_lens[step]
        if c.segments == "carried":
            return carried_batch(self.corpus.train, c.batch_size, T, sum(self.seq_lens[:step]))
        generator = torch.Generator().manual_seed(self.seed_at(step))
        return random_batch(self.corpus.train, c.batch_size, T, generator)

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
            with torch.autocast(self.device.type, torch.bfloat16, c.precision == "bfloat16"):
                logits, memory = model(inputs, memory)
            loss = loss_of(logits, labels) / c.accumulate
            loss.backward()
            losses.append(loss.detach())
            memories.append(memory.m.detach())
        if c.span_loss > 0:
            self.span_penalty().backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), c.grad_clip or math.inf)
        return torch.stack(losses).sum(), norm, torch.cat(memories)

    def span_penalty(self) -> Tensor:
        r"""
        `span_loss` times the mean span of a layer's heads in slots, the layers added up:
        $\lambda \cdot \mathtt{mem\_len} \sum_l \frac1H \sum_h \mathrm{span}_{lh}$, as in the
        authors' code.
        """
        slots = self.model.config.mem_len * torch.stack(self.spans).mean(1)
        return self.config.span_loss * slots.sum()

    def step_optimizer(self) -> None:
        """A step of the optimiser; a span that it moved out of its range goes back to the end."""
        self.optimizer.step()
        for span in self.spans:
            span.data.clamp_(0, 1)

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
        # Dropout draws from the global generator.
        torch.manual_seed(self.seed_at(self.step))
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
            require(
                math.isfinite(value),
                f"the {name.replace('_', ' ')} is {float(value)} at step {step}, expected a finite "
                "number; start again with a lower learning_rate, or a smaller grad_clip above 0; "
                f"{self.run.folder} keeps its last checkpoint, if it had one",
            )

    def tokens(self) -> int:
        """Tokens trained on so far."""
        return self.config.batch_size * sum(self.seq_lens[: self.step])

    def save(self) -> None:
        """
        Writes the checkpoint, and the model for others to load. If a weight is not finite it raises
        `ValueError` before it writes, so a good checkpoint is kept.
        """
        largest = torch.stack([p.detach().abs().max() for p in self.model.parameters()]).max()
        self.check_finite(self.step, largest_weight=largest)
        memory = None if self.memory is None else self.memory.m
        parts = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        own = {name: getattr(self, name) for name in ("step", "seconds", "val_loss")}
        digest = self.corpus.digest
        self.run.save_checkpoint({**own, **parts, "memory": memory, "digest": digest})
        self.write_model()

    def write_model(self) -> None:
        """Writes `model.safetensors` and `config.json`."""
        ratio = {"bytes_per_token": self.corpus.bytes_per_token}
        extra = {"train": self.config.to_dict(), **self.tokenizer.to_dict(), **ratio}
        self.model.tokenizer_json = self.tokenizer.json
        self.model.save_pretrained(self.run.folder, extra=extra)

    def resume(self) -> None:
        """Restores the last checkpoint; raises `ValueError` if it is not of this run."""
        self.run.check_same(self.model.config, self.config)
        state = self.run.load_checkpoint()
        origin = f"the checkpoint in {self.run.folder}"
        require(
            state["digest"] == self.corpus.digest,
            f"{origin} was made with a different text from {self.config.data!r} as it is now, or "
            "with a different tokenizer; restore what it was, or start again with --overwrite",
        )
        require(
            state["step"] <= self.config.max_steps,
            f"{origin} is from step {state['step']}, but max_steps is {self.config.max_steps}; "
            f"expected at least {state['step']}",
        )
        load_weights(self.model, state["model"], origin)
        here = [{k: g[k] for k in ("lr", "capturable")} for g in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, here, strict=True):
            # What was loaded may be for another device; the rate is set at every step anyway.
            group.update(values)
        if state["memory"] is not None:
            self.memory = Memory(state["memory"].to(self.device), self.model.config)
        self.step, self.seconds, self.val_loss = state["step"], state["seconds"], state["val_loss"]
        self.run.truncate_metrics(self.step)

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
        return reached or self.step >= self.config.max_steps

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


def choose_device(name: str) -> torch.device:
    """The named device, a GPU for `auto` if there is one; `ValueError` if it is not usable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device is {name!r}, unusable here; use cpu or auto") from error
    return device


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    resume: bool = False,
    overwrite: bool = False,
    show: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Trainer:
    """
    ## The run, from beginning to end

    Trains until it is finished or interrupted by Ctrl-C, writes the run folder, and returns the
    trainer. Raises `ValueError` for unsuitable settings, text or folder, before anything is
    written; and later for a loss that is not finite.
    """
    run = Run(config.run)
    if not (resume or overwrite):
        run.refuse_to_overwrite()
    trainer = Trainer(model_config, config)
    if resume:
        trainer.resume()
    elif config.warm_start is not None:
        trained = TransformerLM.from_pretrained(config.warm_start)
        require_same_tokens(trained, trainer.tokenizer, config.warm_start)
        warm_start(trainer.model, trained)
    parameters = sum(p.numel() for p in trainer.model.parameters())
    writer = event_writer(config)
    with Interrupt() as interrupt:
        if overwrite:
            run.clear()
        if not resume:
            trainer.write_model()
        show(
            f"{parameters:,} parameters, {len(trainer.corpus.train):,} tokens for training, "
            f"{len(trainer.corpus.val):,} for validation, device {trainer.device}"
        )
        with writer() as events:
            run_steps(trainer, events, interrupt)
    trainer.save()
    if trainer.step > 0:
        plot_runs([run.folder], run / PLOT)
    write_whole(run / SAMPLE, trainer.sample())
    return trainer


def run_steps(trainer: Trainer, events: Any, interrupt: Interrupt) -> None:
    """Takes steps, evaluates and saves checkpoints, until the last step or an interrupt."""
    config, started = trainer.config, time.perf_counter() - trainer.seconds
    total = config.batch_size * sum(trainer.seq_lens)
    with tqdm(total=total, initial=trainer.tokens(), **BAR) as bar:
        while not (trainer.finished or interrupt.requested):
            metrics = trainer.train_step()
            if trainer.step % config.eval_steps == 0 or trainer.step == config.max_steps:
                trainer.val_loss = evaluate(trainer.model, trainer.corpus.val, config.seq_len)
                trainer.check_finite(trainer.step, validation_loss=trainer.val_loss)
                metrics["val_loss"] = trainer.val_loss
            metrics["seconds"] = trainer.seconds = time.perf_counter() - started
            trainer.run.append_metrics(metrics)
            for name in ("train_loss", "val_loss", "learning_rate"):
                if events is not None and metrics[name] is not None:
                    events.add_scalar(name, metrics[name], metrics["step"])
            bar.update(trainer.tokens() - bar.n)
            validation = "" if trainer.val_loss is None else f", validation {trainer.val_loss:.3f}"
            bar.set_postfix_str(f"loss {metrics['train_loss']:.3f}{validation}")
            if trainer.step % config.checkpoint_steps == 0:
                trainer.save()
