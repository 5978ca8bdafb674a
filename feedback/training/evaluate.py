r"""
---
title: Evaluation
summary: The loss, and its mean over a whole text.
---

# Evaluation

**What is the validation loss?** The mean over *all* of the last tenth of the text, each character
predicted once, with the memory carried along. It is not the loss of one batch, lucky or unlucky.

The loss is in nats per character: $-\frac1N \sum_i \ln p(x_i \mid x_{<i})$. (If the run has
another [tokenizer](../data/tokenizer.py), the same is per token, and the bits per byte are given
beside it.)
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.text import IGNORE, validation_batches
from ..lm.language_model import LanguageModel
from .distributed import here, total


def loss_of(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats; `logits` is `(B, T, V)`, `targets` `(B, T)`."""
    # At least float32, also under autocast.
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), reduction=reduction, ignore_index=IGNORE
    )


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    tokens: Tensor,
    seq_len: int,
    batch_size: int = 64,
    check: Callable[[], None] = lambda: None,
) -> float:
    """
    ## The mean loss over all of `tokens`

    In nats. The text is cut into `batch_size` rows that are read at once, each with
    its memory carried from beginning to end. The model is left in the mode it was in. `check` is
    called before each batch, and may raise an exception to stop. Several processes share the rows.
    """
    device, training = next(model.parameters()).device, model.training
    model.eval()
    loss, memory = 0.0, None
    try:
        for batch in validation_batches(tokens, batch_size, seq_len):
            check()
            inputs, targets = (here(x).to(device) for x in (batch.tokens, batch.targets))
            if len(inputs) > 0:  # A short text may have fewer rows than there are processes.
                logits, memory = model(inputs, memory)
                loss += loss_of(logits, targets, "sum").item()
    finally:
        model.train(training)
    return total(loss) / (len(tokens) - 1)
