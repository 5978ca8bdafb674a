r"""
---
title: Schedules
summary: How the learning rate and the length of the sequences change, and what decays.
---

# Schedules

Three decisions that a training run makes before its first step: how the learning rate rises and
falls, how long the sequences are, and which parameters the optimiser pulls towards zero.
"""

import math

import torch
from torch import nn

from .train_config import TrainConfig, short_lengths

CPU = torch.device("cpu")


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


def sequence_lengths(config: TrainConfig) -> list[int]:
    r"""
    ## Short to long

    The length of the sequence at every step. The paper shortens training by beginning with short
    sequences, which need fewer steps through time. From `start_seq_len` the length doubles until it
    reaches `seq_len` in the middle of the run. The shorter lengths have equal shares of the first
    half, rounded so that the text read so far always ends where a longer segment can begin.
    """
    lengths = short_lengths(config.seq_len)
    lengths = lengths[lengths.index(config.start_seq_len) :] if config.start_seq_len else []
    schedule: list[int] = []
    for length in lengths:
        times = config.seq_len // length
        schedule += [length] * (config.max_steps // (2 * len(lengths)) // times * times)
    return schedule + [config.seq_len] * (config.max_steps - len(schedule))


def make_optimizer(
    model: nn.Module, config: TrainConfig, device: torch.device = CPU
) -> torch.optim.AdamW:
    """AdamW; only the matrices of linear maps decay, no biases, norms, positions or embeddings."""
    matrices = [m.weight for m in model.modules() if isinstance(m, nn.Linear)]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    graphs = device.type == "cuda" and not config.sharded
    # A CUDA graph reads the learning rate from a fixed place, so there it must be a tensor.
    rate = torch.tensor(config.learning_rate, device=device) if graphs else config.learning_rate
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True, capturable=graphs)
