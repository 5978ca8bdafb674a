r"""
---
title: Training
summary: One visible loop, from text to a trained model, that can stop and resume at any step.
---

# Training

The whole loop is `run_steps`: take a step, validate now and then, write a line, save now and then.
What a step is, the [trainer](trainer.py) says.

**What can stop it?** A signal: Ctrl-C, SIGTERM from a machine that is about to shut down, SIGHUP
from a terminal that was closed. Then the step is finished, and all is saved. A crash, or no power:
then the run goes on from its last checkpoint. There is one from the beginning on, and either
way the run that is resumed ends with the bits of the run that was never stopped.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

from tqdm import tqdm

from ..config import ModelConfig
from ..lm.language_model import TransformerLM
from ..support.files import write_whole
from ..support.interrupt import Interrupt
from .distributed import agreed, copy_from_first, first, from_first
from .plot import plot_runs
from .runs import PLOT, SAMPLE, Run, event_writer
from .sharded import whole
from .train_config import TrainConfig
from .trainer import Trainer
from .warm_start import require_same_tokens, warm_start

BAR: Any = {"unit": "token", "unit_scale": True, "dynamic_ncols": True}
"""How the progress bar looks."""


def prepare(
    model_config: ModelConfig, config: TrainConfig, resume: bool, show: Callable[[str], None]
) -> tuple[Trainer, bool]:
    """A trainer that is ready for its next step, and whether that is the first of the run."""
    trainer, run = Trainer(model_config, config), Run(config.run)
    if resume:
        run.check_same(trainer.model.config, config)
        if not from_first(run.is_new):
            trainer.resume(show)
            return trainer, False
    if config.warm_start is not None:
        trained = TransformerLM.from_pretrained(config.warm_start)
        require_same_tokens(trained, trainer.tokenizer, config.warm_start)
        warm_start(trainer.model, trained)
    if not config.sharded:
        copy_from_first([*trainer.model.parameters()])
    return trainer, True


def train(
    model_config: ModelConfig,
    config: TrainConfig,
    resume: bool = False,
    overwrite: bool = False,
    show: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Trainer:
    """
    ## The run, from beginning to end

    Trains until it is finished or a signal such as Ctrl-C interrupts it, writes the run folder, and
    returns the trainer. Raises `ValueError` for unsuitable settings, text or folder, before
    anything is written; and later for a loss that is not finite. Of several processes that
    [train together](distributed.py) all call this, and the first one writes.
    """
    run = Run(config.run)
    resume, overwrite = from_first(lambda: run.how_to_begin(resume, overwrite))
    writer = event_writer(config)
    with ExitStack() as stack:
        if first() and (exists := run.folder.is_dir()):
            stack.enter_context(run.lock())
        trainer, fresh = prepare(model_config, config, resume, show)
        interrupt = stack.enter_context(Interrupt())
        agreed(interrupt)  # Nothing is written before all processes have come this far.
        if first():
            if not exists:
                stack.enter_context(run.lock())
            make_room(run, resume, overwrite)
            show(trainer.describe())
        if fresh:
            # A run that is killed before its first step can be resumed too.
            with whole(trainer.model):
                if first():
                    trainer.write_model()
            trainer.save()
        with writer() if first() else nullcontext() as events:
            run_steps(trainer, events, interrupt)
        trainer.save()
        if not trainer.finished:
            trainer.exit_code = interrupt.exit_code
            return trainer
        with whole(trainer.model):
            if first():
                plot_runs([run.folder], run / PLOT)
                write_whole(run / SAMPLE, trainer.sample())
    return trainer


def make_room(run: Run, resume: bool, overwrite: bool) -> None:
    """Removes what is in the way; raises `ValueError` if it is a run that is to stay."""
    if not (resume or overwrite):
        run.refuse_to_overwrite()  # Another process may have begun meanwhile.
    run.remove_leftovers()
    if overwrite:
        run.clear()
    run.sign()


def run_steps(trainer: Trainer, events: Any, interrupt: Interrupt) -> None:
    """Takes steps, evaluates and saves checkpoints, until the last step or an interrupt."""
    config, started = trainer.config, time.perf_counter() - trainer.seconds
    total = config.batch_size * sum(trainer.seq_lens)
    # `None` hides the bar where nobody would see it.
    hidden = None if first() else True
    with tqdm(total=total, initial=trainer.tokens(), disable=hidden, **BAR) as bar:
        if trainer.step > 0:
            trainer.validate_again(interrupt)
        while not (trainer.finished or agreed(interrupt)):
            metrics = trainer.train_step()
            trainer.validate(interrupt)
            if trainer.val_step == trainer.step:
                metrics["val_loss"] = trainer.val_loss
            metrics["seconds"] = trainer.seconds = time.perf_counter() - started
            if first():
                trainer.run.append_metrics(metrics)
            for name in ("train_loss", "val_loss", "learning_rate"):
                if events is not None and metrics[name] is not None:
                    events.add_scalar(name, metrics[name], metrics["step"])
            bar.update(trainer.tokens() - bar.n)
            validation = "" if trainer.val_loss is None else f", validation {trainer.val_loss:.3f}"
            bar.set_postfix_str(f"loss {metrics['train_loss']:.3f}{validation}")
            if trainer.step % config.checkpoint_steps == 0:
                trainer.save()
