r"""
---
title: Generation
summary: The ways to choose a token, and the loop that writes.
---

# Generation

A language model says how likely each token is to be next, and somebody has to choose. Always the
likeliest gives a text that soon repeats itself; a fair draw gives one that goes astray, since many
unlikely tokens together are likely. In between lie the usual restrictions of the draw.

The prompt is read once, by the ordinary forward pass. After that each new token is one step
of decoding.
"""

import torch
from torch import Tensor

from ..config import require
from ..memory import Memory
from .decode import decoder


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

    [^nucleus]: Holtzman et al., 2019, [arXiv:1904.09751](https://arxiv.org/abs/1904.09751).
    """
    if temperature == 0:
        return logits.argmax(-1)
    # Relative to the largest logit, so that no temperature is too small to divide by.
    logits = (logits - logits.amax(-1, keepdim=True)).float() / temperature
    # From most to least likely, so that both restrictions are a cut of the tail.
    probs, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        probs[:, top_k:] = 0
    if top_p is not None:
        probs = probs / probs.sum(-1, keepdim=True)
        # A token stays if those before it do not reach `top_p` yet, so one always stays.
        before = probs.cumsum(-1) - probs
        probs = probs.masked_fill(before >= top_p, 0)
    chosen = torch.multinomial(probs, 1, generator=generator)
    return order.gather(-1, chosen).squeeze(-1)


class Generation:
    """
    ## What a language model needs to write

    A mixin over the forward pass of the model and the steps of `decoder`.
    """

    @torch.no_grad()
    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_token: int | None = None,
        generator: torch.Generator | None = None,
        memory: Memory | None = None,
    ) -> Tensor:
        r"""
        Continues `tokens`, `(B, T)`, and returns prompt and continuation,
        `(B, T + max_new_tokens)`. After a `stop_token` a row is filled up with it, and
        generation ends early, with fewer columns, once all rows have stopped. `memory`
        is what came before the prompt. Dropout is off meanwhile, and the model is left in the
        mode it was in. Raises `ValueError` for an option out of its range.
        """
        self._check_options(max_new_tokens, temperature, top_k, top_p, stop_token)
        training = self.training
        self.eval()
        try:
            logits, memory = self(tokens, memory)
            decode = decoder(self, memory, max_new_tokens)
            logits, out = logits[:, -1], [tokens]
            stopped = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
            for i in range(max_new_tokens):
                token = choose(logits, temperature, top_k, top_p, generator)
                if stop_token is not None:
                    token = token.masked_fill(stopped, stop_token)
                    stopped = stopped | (token == stop_token)
                out.append(token[:, None])
                if i + 1 < max_new_tokens and not stopped.all():
                    logits = decode(token)
                elif stopped.all():
                    break
            return torch.cat(out, dim=1)
        finally:
            self.train(training)

    def _check_options(
        self,
        max_new_tokens: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        stop_token: int | None,
    ) -> None:
        V = self.config.vocab_size
        require(max_new_tokens >= 0, f"max_new_tokens is {max_new_tokens}, expected at least 0")
        require(
            temperature >= 0,
            f"temperature is {temperature}, expected 0 (greedy) or a positive number",
        )
        require(top_k is None or top_k >= 1, f"top_k is {top_k}, expected at least 1, or None")
        require(
            top_p is None or 0 < top_p <= 1,
            f"top_p is {top_p}, expected a probability above 0 and at most 1, or None",
        )
        require(
            stop_token is None or 0 <= stop_token < V,
            f"stop_token is {stop_token}, expected a token id from 0 to {V - 1}, or None",
        )
