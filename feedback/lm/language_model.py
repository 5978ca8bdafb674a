r"""
---
title: The language model
summary: Tokens in, logits out: an embedding, a stack of layers, a head; and the loop that writes.
---

# The language model

```python
config = ModelConfig(vocab_size=65, d_model=128, n_layers=4, n_heads=4, mem_len=512)
model = FeedbackLM(config)
logits, memory = model(tokens)                # (B, T) -> (B, T, V)
logits, memory = model(more, memory=memory)   # continues where the first call stopped
```

The subclass decides which model stands in the middle; everything else is here, once. Both write
text in the same way: the ordinary forward pass reads the prompt, and after that each new token is
one step of decoding.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ..config import ModelConfig
from ..fast.append import transformed
from ..memory import Memory
from ..model import FeedbackTransformer, Implementation
from ..support.checks import require, require_batch
from ..transformer import Transformer
from .decode import Stack, decoder
from .generate import check_length, check_options, choose
from .pretrained import Pretrained
from .rotary import RotaryTransformer


class LanguageModel(Pretrained):
    r"""
    ## Tokens in, logits out
    """

    def __init__(self, config: ModelConfig, transformer: Stack):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.transformer = transformer
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, tokens: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
        """
        `tokens` is `(B, T)`, int64. Returns logits of the next token, `(B, T, V)`, and the memory.
        Raises `ValueError` for a token id outside the vocabulary.
        """
        require_batch(tokens, "B, T")
        self.check_tokens(tokens)
        # $x^0$
        y, memory = self.transformer(self.embedding(tokens), memory)
        return self.head(y), memory

    def check_tokens(self, tokens: Tensor) -> None:
        """Raises `ValueError` unless `tokens` are ids of this vocabulary."""
        require(
            not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool),
            f"tokens have the type {tokens.dtype}, expected int64",
        )
        if tokens.is_meta or torch.compiler.is_compiling() or transformed():
            return  # What a compiler or `vmap` passes in has a shape, but no numbers to ask for.
        if tokens.is_cuda and torch.cuda.is_current_stream_capturing():
            return  # While a graph is recorded, the GPU cannot be asked for a number.
        low, high = (v.item() for v in tokens.aminmax())
        require(
            low >= 0 and high < self.config.vocab_size,
            f"token id {low if low < 0 else high}, expected one from 0 to "
            f"vocab_size - 1 = {self.config.vocab_size - 1}",
        )

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
        `(B, T + max_new_tokens)`. After a `stop_token` the rest of a row is filled with it, and
        once all rows have stopped, generation ends early, with fewer columns. `memory` is that of
        the text before the prompt. Dropout is off during generation; afterwards the model is in the
        mode it was in before. Raises `ValueError` for an option out of its range.
        """
        require_batch(tokens, "B, T")
        check_length(self.config, tokens, max_new_tokens)
        check_options(self.config.vocab_size, temperature, top_k, top_p, stop_token)
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


class FeedbackLM(LanguageModel):
    r"""
    ## The Feedback Transformer as a language model

    `implementation` decides how the recurrence is computed, never what it computes.
    """

    def __init__(self, config: ModelConfig, implementation: Implementation = "auto"):
        super().__init__(config, FeedbackTransformer(config, implementation))


class RotaryLM(LanguageModel):
    r"""
    ## The rival as a language model

    A parallel Transformer with fused attention and rotary positions, or with none.
    """

    def __init__(self, config: ModelConfig, positions: bool = True):
        super().__init__(config, RotaryTransformer(config, positions))


class TransformerLM(LanguageModel):
    r"""
    ## The parallel Transformer as a language model

    The baseline, with the signature, the parameter names and the file format of `FeedbackLM`.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config, Transformer(config))


ARCHITECTURES: dict[str, Any] = {
    "feedback": FeedbackLM,
    "transformer": TransformerLM,
    "rotary": RotaryLM,
}
"""The language models, by the names that they have on the command line."""


def architecture(stored: dict[str, Any]) -> Any:
    """The class that a `config.json` names; `FeedbackLM` if it names none that is known."""
    names = {cls.__name__: cls for cls in ARCHITECTURES.values()}
    return names.get(str(stored.get("architecture")), FeedbackLM)
