r"""
---
title: Ablations on a text
summary: The default language model with one thing changed at a time, trained for a minute each.
---

# Ablations on a text

What of the model pays on ordinary text? Each variant of `text_ablations` reads the first 400
batches of the default run on Tiny Shakespeare, with the learning rate on its way to the end of a
schedule of 400 steps, and is then judged by its loss on the validation text. That is a third of the
default run: enough to tell apart what differs by more than a few hundredths of a nat, and no more.

The learning rate is that of the unchanged model for all of them. A variant that would like another
one is treated unfairly, so a small difference says little.

`own_past` is the parallel Transformer of this package: the same layers and positions, but each
layer attends to its own past. It is what the recurrence gives up to make feedback possible.

**How many slots?** In those batches each row of 64 characters begins with an empty memory, so there
is little to be remembered. In a second experiment, `text_slots`, rows go on where they ended in the
batch before, with the memory that they had then. Its variants differ in the number of slots alone.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn

from ...config import ModelConfig
from ...lm.language_model import TransformerLM
from ...training.evaluate import evaluate
from ...training.schedule import make_optimizer
from ...training.train_config import TrainConfig
from ...training.trainer import Trainer
from ..rivals import variant

MAX_STEPS = 400
"""The budget: 400 batches of 32 rows of 64 characters."""

VARIANTS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "all_layers": variant,
    "top_only": partial(variant, memory="top"),
    "embedding_only": partial(variant, memory="embedding"),
    "plain_mean": partial(variant, memory="mean"),
    "own_past": TransformerLM,
    "kv_of_each_layer": partial(variant, share_kv=False),
    "no_norm": partial(variant, norm_memory=False),
    "mem_len_1": partial(variant, mem_len=1),
    "mem_len_4": partial(variant, mem_len=4),
    "mem_len_16": partial(variant, mem_len=16),
    "no_positions": partial(variant, positions=False),
    "one_layer": partial(variant, n_layers=1),
    "two_layers": partial(variant, n_layers=2),
    "eight_layers": partial(variant, n_layers=8),
}
"""What is changed, and how the model is built from the default configuration."""

SLOTS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "all_layers": variant,
    **{f"mem_len_{n}": partial(variant, mem_len=n) for n in (1, 4, 16, 128, 256)},
}
"""The unchanged model, with 48 slots, and models with fewer and with more."""


def judge(what: str, config: TrainConfig) -> dict[str, Any]:
    """Trains a variant; its parameters, its validation loss in nats, its seconds."""
    trainer = Trainer(ModelConfig(vocab_size=1), config)  # The vocabulary is that of the text.
    torch.manual_seed(config.seed)
    model: Any = {**VARIANTS, **SLOTS}[what](trainer.model.config)
    trainer.model, trainer.optimizer = model, make_optimizer(model, config)
    started = time.perf_counter()
    for _ in range(config.max_steps):
        trainer.train_step()
    seconds = time.perf_counter() - started
    loss = evaluate(model, trainer.corpus.val, config.seq_len)
    size = sum(p.numel() for p in model.parameters())
    return {"variant": what, "parameters": size, "loss": loss, "seconds": seconds}


def run(seed: int, variants: Iterable[str] = VARIANTS, **changes: Any) -> dict[str, Any]:
    """
    ## The experiment

    The results of these variants. `changes` are settings of the training, for a smaller experiment.
    """
    config = TrainConfig(**{"max_steps": MAX_STEPS, "seed": seed, "device": "cpu", **changes})
    started = time.process_time()
    results = [judge(what, config) for what in variants]
    return {"seed": seed, "seconds": time.process_time() - started, "results": results}


def run_slots(seed: int, variants: Iterable[str] = SLOTS, **changes: Any) -> dict[str, Any]:
    """The same for `SLOTS`, with a memory that is carried from batch to batch."""
    return run(seed, variants, segments="carried", **changes)
