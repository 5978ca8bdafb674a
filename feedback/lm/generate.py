r"""
---
title: Sampling
summary: The ways to choose the next token.
---

# Sampling

A language model says how likely each token is to come next, but not which one to take. Always
taking the most likely gives a text that soon repeats itself. Drawing from all tokens gives one that
goes astray, since many unlikely tokens together are likely. In between are the usual restrictions
of the draw.
"""

import torch
from torch import Tensor

from ..config import ModelConfig
from ..support.checks import expect, is_a, require, require_fits

TINY = torch.finfo(torch.float32).tiny
"""The smallest number that is not rounded to zero."""


def choose(
    logits: Tensor,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""
    ## Choose the next token

    `logits` is `(B, V)`; returns `(B,)`. `temperature=0` takes the most likely token. Otherwise
    $p \propto \exp(\mathrm{logit} / \mathrm{temperature})$, restricted to the `top_k` most
    likely tokens and to the smallest set whose probability reaches `top_p`[^nucleus].
    Raises `ValueError` if the largest logit is not a finite number.

    [^nucleus]: Holtzman et al., 2019, [arXiv:1904.09751](https://arxiv.org/abs/1904.09751).
    """
    largest = logits.amax(-1, keepdim=True)
    finite = bool(largest.isfinite().all())
    require(finite, "the logits are not finite; the weights are not those of a trained model")
    if temperature == 0:
        return logits.argmax(-1)
    # Relative to the largest logit, so that no temperature is too small to divide by: at most it is
    # as small as a number of this type can be, and the others are then infinitely unlikely.
    logits = (logits - largest).float() / max(temperature, TINY)
    # From most to least likely, so that both restrictions cut off the tail.
    probs, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        probs[:, min(top_k, probs.shape[-1]) :] = 0
    if top_p is not None:
        probs = probs / probs.sum(-1, keepdim=True)
        # A token stays if those before it do not yet reach `top_p`, so the first always stays.
        before = probs.cumsum(-1) - probs
        probs = probs.masked_fill(before >= max(top_p, TINY), 0)
    # The first token at which the sum of the probabilities exceeds a uniform number. What PyTorch's
    # own `multinomial` draws depends on the version; this draws the same token in all of them.
    up_to = probs.cumsum(-1)
    u = torch.rand(len(probs), 1, generator=generator, device=probs.device)
    # Stays below the whole sum, whatever the rounding.
    u = u * (1 - torch.finfo(u.dtype).eps)
    chosen = torch.searchsorted(up_to, u * up_to[:, -1:], right=True)
    return order.gather(-1, chosen).squeeze(-1)


def check_options(
    vocab_size: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    stop_token: int | None,
) -> None:
    """Raises `ValueError` for an option that is out of its range."""
    good = is_a(temperature, float) and temperature >= 0
    expect(good, "temperature", temperature, "0 (greedy) or a positive number")
    good = top_k is None or (is_a(top_k, int) and top_k >= 1)
    expect(good, "top_k", top_k, "at least 1, or None")
    words = "a probability above 0 and at most 1, or None"
    expect(top_p is None or (is_a(top_p, float) and 0 < top_p <= 1), "top_p", top_p, words)
    known, words = range(vocab_size), f"a token id from 0 to {vocab_size - 1}, or None"
    expect(stop_token is None or stop_token in known, "stop_token", stop_token, words)


def check_length(config: ModelConfig, tokens: Tensor, max_new_tokens: int) -> None:
    """
    Raises `ValueError` if so many tokens are less than none, or if they and what is computed of the
    prompt `tokens`, `(B, T)`, are larger than the memory of this machine.
    """
    good = is_a(max_new_tokens, int) and max_new_tokens >= 0
    expect(good, "max_new_tokens", max_new_tokens, "at least 0")
    size = 8 * len(tokens) * max_new_tokens + config.bytes_of(tokens.numel())
    require_fits(size, "a text of so many tokens")
