r"""
---
title: The contestants
summary: The models compared: ours, the strongest Transformers, and other people's code.
---

# The contestants

A ratio is only worth as much as its denominator. So the parallel Transformer that everything here
is measured against is the *fastest* of three: `TransformerLM`, our own layers without the feedback,
each with key and value projections of its own; the rival of our training runs, `RotaryLM`, with
PyTorch's fused causal attention; and the `FusedTransformer` below, which has that too and gives up
relative positions altogether. All have the widths and the number of layers of the Feedback
Transformer.

Other people's implementations, the peers, take part where they are installed.
"""

import importlib.util
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..lm.language_model import FeedbackLM, LanguageModel, RotaryLM, TransformerLM
from ..model import Implementation


class FusedLayer(nn.Module):
    r"""
    ## The strongest baseline, one layer

    Queries, keys and values come from one product, $D \times 3HK$, and go to the fused kernel. With
    the output and the feed-forward sublayer, $4DHK + 2DF$ parameters take part in products.
    """

    def __init__(self, c: ModelConfig):
        super().__init__()
        D, HK = c.d_model, c.n_heads * c.head_dim
        self.n_heads = c.n_heads
        self.norm_attn, self.norm_ff = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.output = nn.Linear(D, 3 * HK, bias=False), nn.Linear(HK, D)
        self.up, self.down = nn.Linear(D, c.d_ff), nn.Linear(c.d_ff, D)

    def forward(self, x: Tensor, cache: Tensor | None = None, t: int = 0) -> Tensor:
        """`x` is `(B, T, D)`; with a `cache`, `(2, B, H, N, K)`, it is the single step `t`."""
        qkv = self.qkv(self.norm_attn(x)).unflatten(-1, (3, self.n_heads, -1))
        q, k, v = qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, T, K)
        if cache is not None:
            cache[..., t : t + 1, :] = qkv[1:]
            k, v = cache[..., : t + 1, :]
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=cache is None)
        x = x + self.output(heads.transpose(1, 2).flatten(2))
        return x + self.down(self.up(self.norm_ff(x)).relu())


class FusedTransformer(nn.Module):
    """
    ## The strongest baseline

    Tokens to logits, with learned absolute positions, up to `mem_len` of them.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position = nn.Embedding(config.mem_len, config.d_model)
        self.layers = nn.ModuleList(FusedLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, tokens: Tensor, caches: Sequence[Tensor] = (), t: int = 0) -> Tensor:
        """`(B, T)` to `(B, T, V)`; with `caches`, `tokens` is the single step `t`."""
        x = self.embedding(tokens) + self.position.weight[t : t + tokens.shape[1]]
        for layer, cache in itertools.zip_longest(self.layers, caches):
            x = layer(x, cache, t)
        return self.head(self.norm(x))

    def caches(self, B: int) -> list[Tensor]:
        """Room for the keys and values of `mem_len` steps, `(2, B, H, N, K)` a layer."""
        c, new = self.config, self.head.weight.new_empty
        return [new(2, B, c.n_heads, c.mem_len, c.head_dim) for _ in self.layers]

    @torch.no_grad()
    def generate(self, tokens: Tensor, max_new_tokens: int, temperature: float = 0) -> Tensor:
        """The likeliest continuation of `tokens`, `(B, 1)`."""
        caches, out = self.caches(len(tokens)), [tokens]
        for t in range(max_new_tokens):
            out.append(self(out[-1], caches, t).argmax(-1))
        return torch.cat(out, dim=1)


class Logits(nn.Module):
    """Our models without the memory they return: tokens to logits."""

    def __init__(self, model: LanguageModel):
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, T)` to `(B, T, V)`."""
        return self.model(tokens)[0]


class Surrounded(nn.Module):
    """A bare stack that expects time first, with the embedding and the head that it lacks."""

    def __init__(self, config: ModelConfig, stack: nn.Module):
        super().__init__()
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.stack = stack
        self.head = nn.Linear(config.d_model, config.vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, T)` to `(B, T, V)`."""
        return self.head(self.stack(self.embedding(tokens).transpose(0, 1)).transpose(0, 1))


def labml(config: ModelConfig, shared: bool) -> nn.Module:
    """labml-nn's two models; `shared` is its `FeedbackTransformerKV`."""
    from labml_nn.transformers import feedback as theirs
    from labml_nn.transformers.feed_forward import FeedForward

    D, L, H = config.d_model, config.n_layers, config.n_heads
    layer = theirs.FeedbackTransformerLayer(
        d_model=D,
        attn=theirs.FeedbackAttention(H, D, 0.0, is_kv_precomputed=shared),
        feed_forward=FeedForward(D, config.d_ff, 0.0),
        dropout_prob=0.0,
    )
    if shared:
        return Surrounded(config, theirs.FeedbackTransformerKV(layer, L, D, H))
    return Surrounded(config, theirs.FeedbackTransformer(layer, L))


def lucidrains(config: ModelConfig) -> nn.Module:
    """feedback-transformer-pytorch, one step at a time."""
    from feedback_transformer_pytorch import FeedbackTransformer

    c = config
    widths = {"dim": c.d_model, "depth": c.n_layers, "heads": c.n_heads, "dim_head": c.head_dim}
    return FeedbackTransformer(num_tokens=c.vocab_size, mem_len=c.mem_len, seq_len=1, **widths)


class Contestant(NamedTuple):
    """
    ## The contestants

    `build` makes a module that maps tokens to logits. If a `peer` fails, that is a result, and the
    benchmark goes on. The peers do a little more than we ask for: labml's have positions for
    4096 steps, and lucidrains' has a gate in the feed-forward sublayer.
    """

    name: str
    build: Callable[[ModelConfig], nn.Module]
    kind: Literal["feedback", "parallel", "peer"]


FUSED = Contestant("fused Transformer", FusedTransformer, "parallel")
TRANSFORMER = Contestant("TransformerLM", lambda config: Logits(TransformerLM(config)), "parallel")
RIVAL = Contestant("RotaryLM", lambda config: Logits(RotaryLM(config)), "parallel")
PEERS = {
    "labml-nn": [
        Contestant("labml FeedbackTransformer", partial(labml, shared=False), "peer"),
        Contestant("labml FeedbackTransformerKV", partial(labml, shared=True), "peer"),
    ],
    "feedback-transformer-pytorch": [
        Contestant("lucidrains FeedbackTransformer", lucidrains, "peer")
    ],
}


def installed(package: str) -> bool:
    """Whether a package of PyPI is installed; its name in Python has underscores for dashes."""
    return importlib.util.find_spec(package.replace("-", "_")) is not None


def feedback(implementation: Implementation) -> Contestant:
    """The Feedback Transformer, by one of our implementations."""
    name = f"FeedbackLM {implementation}"
    return Contestant(name, lambda c: Logits(FeedbackLM(c, implementation)), "feedback")


class Size(NamedTuple):
    """A configuration; $F = 4D$, and the memory reaches back over the whole sequence."""

    D: int
    L: int
    H: int
    T: int
    B: int

    def __str__(self) -> str:
        return f"d{self.D} L{self.L} H{self.H} T{self.T} B{self.B}"

    def config(self) -> ModelConfig:
        """The model, for a vocabulary like that of Tiny Shakespeare."""
        D, L, H, T, _ = self
        return ModelConfig(65, d_model=D, n_layers=L, n_heads=H, d_ff=4 * D, mem_len=T)

    def tiny(self) -> "Size":
        """The same for a smoke test."""
        return Size(self.D // 8, 2, 2, self.T // 16, 2)
