r"""
---
title: Warm start
summary: A Feedback Transformer that begins with the weights of a parallel one.
---

# Warm start

Short sequences are one way to shorten training; the paper has another. Most of what there is to
learn about a language needs no feedback, and is learnt faster without it. So train a parallel
Transformer first, and continue from its weights.
"""

from pathlib import Path

import torch
from torch import Tensor

from ..data.tokenizer import Tokenizer, stored_tokenizer
from ..lm.language_model import LanguageModel, TransformerLM
from ..lm.pretrained import load_weights
from ..support.checks import require
from .sharded import divide


def require_same_tokens(trained: TransformerLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Raises `ValueError` unless the model of the run in `folder` has the tokens of `tokenizer`."""
    theirs = stored_tokenizer(dict(trained.extra), folder)
    require(
        (theirs.to_dict(), theirs.json) == (tokenizer.to_dict(), tokenizer.json),
        f"the warm_start model in {folder} was trained with other tokens than those of this run; "
        "use the same text and tokenizer",
    )


@torch.no_grad()
def warm_start(model: LanguageModel, trained: TransformerLM) -> None:
    r"""
    ## The weights

    Every parameter is copied to the one of the same name. Where one projection of the memory serves
    all layers, it starts as the mean of the Transformer's projections,

    $$W_k = \frac1L \sum_l W_k^l, \qquad W_v = \frac1L \sum_l W_v^l,$$

    and a norm of the memory starts as the mean of the layers' norms. The mix stays uniform: it is
    the only parameter that a Transformer does not have. Raises `ValueError` if the sizes differ.
    """
    learnt, own, L = trained.state_dict(), model.state_dict(), trained.config.n_layers

    def start(name: str) -> Tensor:
        """The trained value, the mean over the layers, or, for the mix, the value it has."""
        part = name.removeprefix("transformer.").replace("norm_memory.", "norm_attn.")
        layers = [f"transformer.layers.{l}.{part}" for l in range(L)]
        if name in learnt or not learnt.keys() >= set(layers):
            return learnt.get(name, own[name])
        return torch.stack([learnt[layer] for layer in layers]).mean(0)

    # Any other parameter of the Transformer means other sizes, and is reported as a mistake.
    rest = {name: weight for name, weight in learnt.items() if ".kv." not in name}
    weights = rest | {name: start(name) for name in own}
    weights = {name: divide(weight, own.get(name)) for name, weight in weights.items()}
    load_weights(model, weights, "the warm_start model")
