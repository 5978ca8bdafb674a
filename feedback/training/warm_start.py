r"""
---
title: Warm start
summary: A Feedback Transformer that begins with the weights of a parallel one.
---

# Warm start

Short sequences are one way to shorten training; the paper has another. Most of what there is to
learn about a language needs no feedback, and is learnt faster without. So train a parallel
Transformer first, and go on from its weights.
"""

import torch
from torch import Tensor

from ..lm.language_model import LanguageModel, TransformerLM
from ..lm.pretrained import load_weights


@torch.no_grad()
def warm_start(model: LanguageModel, trained: TransformerLM) -> None:
    r"""
    ## The weights

    Every parameter goes where its name says. Where one projection of the memory serves all layers,
    it starts as the mean of theirs,

    $$W_k = \frac1L \sum_l W_k^l, \qquad W_v = \frac1L \sum_l W_v^l,$$

    and a norm of the memory as the mean of their norms. The mix stays uniform, the only thing
    that a Transformer cannot know. Raises `ValueError` if the sizes differ.
    """
    learnt, own, L = trained.state_dict(), model.state_dict(), trained.config.n_layers

    def start(name: str) -> Tensor:
        """Its own value, the mean over the layers, or, for the mix, what it is already."""
        part = name.removeprefix("transformer.").replace("norm_memory.", "norm_attn.")
        layers = [f"transformer.layers.{l}.{part}" for l in range(L)]
        if name in learnt or not learnt.keys() >= set(layers):
            return learnt.get(name, own[name])
        return torch.stack([learnt[layer] for layer in layers]).mean(0)

    # What else the Transformer has is of other sizes, and named as a mistake.
    rest = {name: weight for name, weight in learnt.items() if ".kv." not in name}
    load_weights(model, rest | {name: start(name) for name in own}, "the parallel Transformer")
