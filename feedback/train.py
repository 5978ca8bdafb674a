r"""
---
title: Training
summary: One visible loop, from text to a trained model, that can stop and go on at any step.
---

# Training

A training loop is a dozen lines: batch, loss, gradient, clip, step. Those lines are in
`train_step`, and nothing hides them. Around them is what a run needs so that it can be trusted.

**What does step 400 depend on?** On the weights, the optimiser and the memory, which the
checkpoint holds, and on nothing else: the random numbers of a step are seeded by its number, and
so is the place in the text. Hence a run that was stopped and resumed is the run that was
never stopped, bit for bit.

**What is the validation loss?** The mean over *all* of the last tenth of the text, each character
predicted once, with the memory carried along. Not a batch, lucky or not.

The loss is in nats a character: $-\frac1N \sum_i \ln p(x_i \mid x_{<i})$.
"""

import hashlib
import math
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .config import ModelConfig, TrainConfig, require
from .data import (
    IGNORE,
    Tokenizer,
    carried_batch,
    load_text,
    random_batch,
    split,
    validation_batches,
)
from .files import write_whole
from .memory import Memory
from .model import FeedbackLM, LanguageModel
from .plot import plot_runs
from .pretrained import load_weights
from .runs import PLOT, SAMPLE, Run


def learning_rate(step: int, config: TrainConfig) -> float:
    r"""
    ## The schedule

    Linear warm-up to the peak $\eta$, then half a cosine down to $\eta / 10$:

    $$\eta_i = \eta \Big( 0.1 + 0.9 \cdot \tfrac12
        \big(1 + \cos(\pi\, \tfrac{i - w}{n - w})\big) \Big)$$
    """
    w, n = config.warmup_steps, config.max_steps
    if step < w:
        return config.learning_rate * (step + 1) / w
    fraction = (step - w) / max(1, n - w)
    return config.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * fraction)))


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; only the matrices of the linear maps decay, not biases, norms, or positions."""
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)


def loss_of(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats; `logits` is `(B, T, V)`, `targets` `(B, T)`."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), reduction=reduction, ignore_index=IGNORE
    )


@torch.no_grad()
def evaluate(model: LanguageModel, tokens: Tensor, seq_len: int, batch_size: int = 64) -> float:
    """
    ## The mean loss over all of `tokens`

    In nats. The text is cut into `batch_size` rows that are read at once, each with
    its memory carried from beginning to end. The model is left in the mode it was in.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    total, memory = 0.0, None
    for batch in validation_batches(tokens, batch_size, seq_len):
        logits, memory = model(batch.tokens.to(device), memory)
        total += loss_of(logits, batch.targets.to(device), "sum").item()
    model.train(training)
    return total / (len(tokens) - 1)


class Interrupt:
    """
    ## Ctrl-C that lets the step finish

    Inside `with Interrupt() as interrupt`, the first Ctrl-C (or SIGTERM) only sets
    `interrupt.requested`; a second one stops at once.
    """

    requested = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> "Interrupt":
        self._previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread may set handlers; elsewhere signals keep their meaning.
            with suppress(ValueError):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Trainer:
    """
    ## A run

    Holds what a step changes: `model`, `optimizer`, `memory`, `step` and `seconds`.
    """

    def __init__(self, model_config: ModelConfig, config: TrainConfig):
        """Loads the text and builds the model; writes nothing."""
        text = load_text(config.data)
        self.tokenizer = Tokenizer.of(text)
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self.train_tokens, self.val_tokens = split(self.tokenizer.encode(text), config.seq_len)
        self.config, self.run = config, Run(config.run)
        self.device = choose_device(config.device)
        torch.manual_seed(config.seed)
        self.model = FeedbackLM(
            replace(model_config, vocab_size=len(self.tokenizer)), config.implementation
        ).to(self.device)
        self.optimizer = make_optimizer(self.model, config)
        self.memory: Memory | None = None
        self.step, self.seconds = 0, 0.0
        self.val_loss: float | None = None
        # The first batch, made now, finds out whether the text is long enough.
        self.next_batch()

    def next_batch(self) -> Any:
        """The batch of the present step; depends only on the seed and the step."""
        c = self.config
        torch.manual_seed(c.seed * 1_000_003 + self.step)
        if c.segments == "random":
            return random_batch(self.train_tokens, c.batch_size, c.seq_len)
        return carried_batch(self.train_tokens, c.batch_size, c.seq_len, self.step)

    def train_step(self) -> dict[str, Any]:
        """
        ### One step

        Raises `ValueError`, before anything is changed, if the loss or its gradient is
        not finite.
        """
        c, model = self.config, self.model
        rate = learning_rate(self.step, c)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.next_batch()
        memory = None if batch.new or self.memory is None else self.memory.detach()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=c.precision == "bfloat16"):
            logits, self.memory = model(batch.tokens.to(self.device), memory)
        loss = loss_of(logits, batch.targets.to(self.device))
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), c.grad_clip or math.inf)
        for name, value in (("loss", loss.item()), ("gradient", norm.item())):
            require(
                math.isfinite(value),
                f"the {name} is {value} at step {self.step + 1}; the last good checkpoint in "
                f"{self.run.folder} is kept; try a lower learning_rate or grad_clip",
            )
        self.optimizer.step()
        self.step += 1
        return {
            "step": self.step,
            "tokens": self.step * c.batch_size * c.seq_len,
            "train_loss": loss.item(),
            "val_loss": None,
            "learning_rate": rate,
            "seq_len": c.seq_len,
        }

    def save(self) -> None:
        """Writes the checkpoint, and the model as others load it."""
        self.run.save_checkpoint(
            {
                "step": self.step,
                "seconds": self.seconds,
                "val_loss": self.val_loss,
                "digest": self.digest,
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "memory": None if self.memory is None else self.memory.m,
            }
        )
        self.write_model()

    def write_model(self) -> None:
        """Writes `model.safetensors` and `config.json`."""
        extra = {"train": self.config.to_dict(), "characters": self.tokenizer.characters}
        self.model.save_pretrained(self.run.folder, extra=extra)

    def resume(self) -> None:
        """Goes back to the last checkpoint; raises `ValueError` if it is not of this run."""
        self.run.check_same(self.model.config, self.config)
        state = self.run.load_checkpoint()
        origin = f"the checkpoint in {self.run.folder}"
        require(
            state["digest"] == self.digest,
            f"{origin} was made with another text than {self.config.data!r} now holds",
        )
        load_weights(self.model, state["model"], origin)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["memory"] is not None:
            self.memory = Memory(state["memory"].to(self.device), self.model.config)
        self.step, self.seconds, self.val_loss = state["step"], state["seconds"], state["val_loss"]
        self.run.truncate_metrics(self.step)

    def sample(self, length: int = 400) -> str:
        """What the model writes after a line break, at temperature 0.8."""
        prompt = "\n" if "\n" in self.tokenizer.characters else self.tokenizer.characters[0]
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        tokens = self.tokenizer.encode(prompt)[None].to(self.device)
        out = self.model.generate(tokens, length, temperature=0.8, generator=generator)
        return self.tokenizer.decode(out[0, 1:])


def choose_device(name: str) -> torch.device:
    """The device of that name, `auto` a GPU if there is one; `ValueError` for one that is not."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device is {name!r}, which PyTorch cannot use here; expected auto, cpu or cuda"
        ) from error
    return device


@contextmanager
def event_writer(config: TrainConfig) -> Any:
    """Yields a function that records metrics for TensorBoard, or does nothing."""
    if not config.tensorboard:
        yield lambda metrics: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard needs a package: pip install tensorboard") from error
    with SummaryWriter(str(config.run)) as writer:

        def write(metrics: dict[str, Any]) -> None:
            for name in ("train_loss", "val_loss", "learning_rate"):
                if metrics[name] is not None:
                    writer.add_scalar(name, metrics[name], metrics["step"])

        yield write


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    resume: bool = False,
    overwrite: bool = False,
    show: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Trainer:
    """
    ## The run, from beginning to end

    Trains until `config.max_steps` or Ctrl-C, writes the run folder, and returns the trainer.
    Raises `ValueError` for settings, text or folder that do not fit, before anything
    is written; and for a loss that is not finite.
    """
    run = Run(config.run)
    if not (resume or overwrite):
        run.refuse_to_overwrite()
    trainer = Trainer(model_config, config)
    if resume:
        trainer.resume()
    else:
        run.clear()
        trainer.write_model()
    parameters = sum(p.numel() for p in trainer.model.parameters())
    show(
        f"{parameters:,} parameters, {len(trainer.train_tokens):,} characters to train on, "
        f"{len(trainer.val_tokens):,} to validate, {trainer.device}"
    )
    with event_writer(config) as record, Interrupt() as interrupt:
        run_steps(trainer, record, interrupt)
    trainer.save()
    if trainer.step > 0:
        plot_runs([run.folder], run / PLOT)
    write_whole(run / SAMPLE, trainer.sample())
    return trainer


def run_steps(
    trainer: Trainer, record: Callable[[dict[str, Any]], None], interrupt: Interrupt
) -> None:
    """Steps, evaluations and checkpoints, until the last step or an interrupt."""
    config, started = trainer.config, time.perf_counter() - trainer.seconds
    size = config.batch_size * config.seq_len
    with tqdm(
        total=config.max_steps * size,
        initial=trainer.step * size,
        unit="token",
        unit_scale=True,
        dynamic_ncols=True,
        disable=None,
    ) as bar:
        while trainer.step < config.max_steps and not interrupt.requested:
            metrics = trainer.train_step()
            if trainer.step % config.eval_steps == 0 or trainer.step == config.max_steps:
                trainer.val_loss = evaluate(trainer.model, trainer.val_tokens, config.seq_len)
                metrics["val_loss"] = trainer.val_loss
            metrics["seconds"] = trainer.seconds = time.perf_counter() - started
            trainer.run.append_metrics(metrics)
            record(metrics)
            bar.update(size)
            validation = "" if trainer.val_loss is None else f", validation {trainer.val_loss:.3f}"
            bar.set_postfix_str(f"loss {metrics['train_loss']:.3f}{validation}")
            if trainer.step % config.checkpoint_steps == 0:
                trainer.save()
