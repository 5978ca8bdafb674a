r"""
---
title: The rivals
summary: The networks that are given the same tasks, each with at least our parameters.
---

# The rivals

What would somebody use who has never heard of feedback memory? A Transformer, shallow or deep; a
recurrent network, of the old kind or of today's, which carries a state anyway; or one that is
linear in its state, so that training can be parallel. Each of them is here in a form that is as
strong as can be had in a few lines, and with at least as many parameters as the Feedback
Transformer. Each is a module that takes tokens, `(B, T)`, and returns logits, `(B, T, V)`, and
whatever state it has.

One rival is our own model with the feedback cut: `no_feedback` has all the weight of the mix
on the embedding, so a memory vector holds what a step has read and nothing that it has computed.
If it can do a task, then feedback was not what the task needed.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import ModelConfig
from ..layers import FeedForward
from ..lm.language_model import FeedbackLM, RotaryLM


class RecurrentLM(nn.Module):
    r"""
    ## The recurrent networks of PyTorch

    An embedding, layers of a `"GRU"` or an `"LSTM"` of width `d_model`, and the head.
    """

    def __init__(self, config: ModelConfig, kind: str):
        super().__init__()
        D = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, D)
        cell = {"GRU": nn.GRU, "LSTM": nn.LSTM}[kind]
        self.layers = cell(D, D, config.n_layers, batch_first=True)
        self.head = nn.Linear(D, config.vocab_size)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """`tokens` is `(B, T)`; returns logits, `(B, T, V)`, and the state after the last step."""
        y, state = self.layers(self.embedding(tokens), state)
        return self.head(y), state


class MambaLM(nn.Module):
    r"""
    ## A state-space model

    An embedding, the layers of Mamba as the package `mambapy` has them, in plain PyTorch, and the
    head. Its state is updated linearly, by numbers that depend on the token, so that training can
    be parallel; that is also what limits it. Raises `ValueError` without the package.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        try:
            from mambapy.mamba import Mamba, MambaConfig
        except ImportError as error:
            raise ValueError(
                "the contestant 'mamba' needs a package: pip install mambapy; or name others "
                "with --only"
            ) from error
        D = config.d_model
        self.embedding = nn.Embedding(config.vocab_size, D)
        self.layers = Mamba(MambaConfig(d_model=D, n_layers=config.n_layers))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, config.vocab_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        """`tokens` is `(B, T)`; returns logits, `(B, T, V)`, and no state."""
        return self.head(self.norm(self.layers(self.embedding(tokens)))), None


class DeltaProduct(nn.Module):
    r"""
    ## Products of reflections

    A recurrence that is linear in its state, as Mamba's is, but moves it by more than a diagonal.
    The state of a head is a matrix $Z$, $K \times K$. A token changes it `n_updates` times, each
    time by the delta rule: what $Z$ holds for the key $k$ moves towards $v$[^product],

    $$Z \leftarrow Z + \beta\, k\, (v - Z^\top k)^\top
    = (I - \beta\, k k^\top)\, Z + \beta\, k v^\top,$$

    with $\lVert k \rVert = 1$ and $0 < \beta < 2$. With $\beta$ near two the matrix in front of $Z$
    is a reflection. Two reflections make a rotation, and the even permutations of five things are
    the rotations of an icosahedron; so in a single layer there is room for a product of $A_5$. It
    takes part with four updates a token, as many as any permutation of five things needs swaps.
    With two it did not find those rotations ([log](../../docs/pages/log.md)). The published code
    adds short convolutions and lets the state fade; here is neither.

    [^product]: DeltaProduct, Siems et al., 2025, [arXiv:2502.10297](https://arxiv.org/abs/2502.10297).
        Why $\beta$ has to go beyond one: Grazzi et al., 2024,
        [arXiv:2411.12537](https://arxiv.org/abs/2411.12537).
    """

    def __init__(self, config: ModelConfig, n_updates: int, chunk: int = 32):
        super().__init__()
        D, self.n_heads, self.n_updates = config.d_model, config.n_heads, n_updates
        self.chunk = chunk
        self.query, self.out = (nn.Linear(D, D, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(D, n_updates * D, bias=False) for _ in range(2))
        self.strength = nn.Linear(D, n_updates * config.n_heads)
        self.norm = nn.LayerNorm(D // config.n_heads)

    def forward(self, x: Tensor) -> Tensor:
        """`x` and what is returned are `(B, T, D)`; the state begins as zero."""
        B, _, D = x.shape
        H, K = self.n_heads, D // self.n_heads

        def heads(y: Tensor, width: int = K) -> Tensor:
            # One update after the other, $(B, H, R\,T, K)$ with $R$ updates for a step.
            return y.view(B, -1, H, width).transpose(1, 2)

        Z, y = x.new_zeros(B, H, K, K), []
        for part in x.split(self.chunk, 1):
            q, v = heads(self.query(part)), heads(self.value(part))
            # $\lVert k \rVert = 1$
            k = F.normalize(heads(self.key(part)), dim=-1)
            # $0 < \beta < 2$
            beta = 2 * heads(self.strength(part), 1).sigmoid()
            read, Z = self.read_and_update(q, k, v, beta, Z)
            y.append(read)
        return self.out(self.norm(torch.cat(y, 2)).transpose(1, 2).reshape(x.shape))

    def read_and_update(
        self, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, Z: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""
        ## All steps at once

        What each query reads after the updates of its step, and the state after all of them. No
        step has to wait for another[^chunk]. With $Z_0$ before a chunk of steps, and $e_i$ for what
        the $i$-th update finds missing at its key,

        $$e_i = v_i - Z_{i-1}^\top k_i = v_i - Z_0^\top k_i
        - \sum_{j<i} (k_i^\top k_j)\, \beta_j e_j$$

        is a triangular system for all $e_i$ of the chunk. Its last state is
        $Z_0 + \sum_j \beta_j k_j e_j^\top$.

        [^chunk]: Yang et al., 2024, [arXiv:2406.06484](https://arxiv.org/abs/2406.06484).
        """
        # $(k_i^\top k_j)\, \beta_j$ for $j < i$
        A = (k @ (beta * k).mT).tril(-1)
        # $e_i + \sum_j A_{ij}\, e_j = v_i - Z_0^\top k_i$
        e = torch.linalg.solve_triangular(A, v - k @ Z, upper=False, unitriangular=True)
        step = torch.arange(k.shape[-2], device=k.device) // self.n_updates
        seen = step <= step[:: self.n_updates, None]
        # $q_t^\top \bigl( Z_0 + \sum_j \beta_j k_j e_j^\top \bigr)$
        y = q @ Z + (q @ (beta * k).mT * seen) @ e
        return y, Z + (beta * k).mT @ e


class SLSTM(nn.Module):
    r"""
    ## An LSTM that can revise what it holds

    In an LSTM the input gate is at most one, so what is new can outweigh a large state only if the
    forget gate lets go of that in the same step. The sLSTM[^xlstm] has an exponential input gate,
    which can do it alone, and divides by the sum of what the gates have let in. The four inputs of
    the gates, $g$, depend on the token and, within a head, on what the step before gave out,
    $r_{t-1}$:

    $$\begin{aligned}
    c_t &= \sigma(g^{\mathrm{forget}})\, c_{t-1} + e^{g^{\mathrm{in}}} \tanh g^{\mathrm{new}} \\
    n_t &= \sigma(g^{\mathrm{forget}})\, n_{t-1} + e^{g^{\mathrm{in}}} \\
    r_t &= \sigma(g^{\mathrm{out}})\, c_t / n_t
    \end{aligned}$$

    So that nothing overflows, $c_t$ and $n_t$ are kept divided by $e^{\lambda_t}$, where
    $\lambda_t$ is the larger one of $g^{\mathrm{in}}$ and
    $\lambda_{t-1} + \ln \sigma(g^{\mathrm{forget}})$; in $c_t / n_t$ it cancels. As in the
    published code the recurrent weights begin as zero, and the biases of the forget gate with
    values from $5$ to $-7$, here evenly spaced. The published block can have a short convolution in
    front; here is none.

    [^xlstm]: xLSTM, Beck et al., 2024, [arXiv:2405.04517](https://arxiv.org/abs/2405.04517).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        D, H = config.d_model, config.n_heads
        K = D // H
        self.gates = nn.Linear(D, 4 * D)
        self.recurrent = nn.Parameter(torch.zeros(H, K, 4 * K))
        self.norm = nn.LayerNorm(K)
        self.gates.bias.data.view(H, 4, K)[:, 1] = torch.linspace(5, -7, K)

    def forward(self, x: Tensor) -> Tensor:
        """`x` and what is returned are `(B, T, D)`; the state begins as zero."""
        r = torch.stack(self.steps(self.gates(x)))
        return self.norm(r).permute(2, 0, 1, 3).reshape(x.shape)

    def steps(self, gates: Tensor) -> list[Tensor]:
        """
        What each step gives out, `(H, B, K)`. `gates` is the part of their inputs that the tokens
        have, `(B, T, 4D)`.
        """
        B, T, _ = gates.shape
        H, K, _ = self.recurrent.shape
        r = c = n = gates.new_zeros(H, B, K)
        scale, steps = gates.new_full((H, B, K), -torch.inf), []
        for token in gates.view(B, T, H, 4 * K).permute(1, 2, 0, 3):
            g = torch.baddbmm(token, r, self.recurrent)
            g_in, g_forget, g_new, g_out = g.chunk(4, -1)
            # $\lambda_{t-1} + \ln \sigma(g^{\mathrm{forget}})$
            forget = F.logsigmoid(g_forget) + scale
            scale = torch.maximum(g_in, forget)
            let_in, keep = (g_in - scale).exp(), (forget - scale).exp()
            c, n = keep * c + let_in * g_new.tanh(), keep * n + let_in
            # $\sigma(g^{\mathrm{out}})\, c_t / n_t$
            r = g_out.sigmoid() * c / n
            steps.append(r)
        return steps


class MixerLM(nn.Module):
    """
    Layers of `DeltaProduct` or `SLSTM`, each followed by a feed-forward sublayer, both pre-norm,
    between an embedding and the head. `mixer` makes such a layer.
    """

    def __init__(self, config: ModelConfig, mixer: Callable[[ModelConfig], nn.Module]):
        super().__init__()
        D, L = config.d_model, range(config.n_layers)
        self.embedding = nn.Embedding(config.vocab_size, D)
        self.mixers = nn.ModuleList(mixer(config) for _ in L)
        self.ffs = nn.ModuleList(FeedForward(config) for _ in L)
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(2 * len(L) + 1))
        self.head = nn.Linear(D, config.vocab_size)

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        """`tokens` is `(B, T)`; returns logits, `(B, T, V)`, and no state."""
        x, (*norms, last) = self.embedding(tokens), self.norms
        for mixer, ff, first, second in zip(
            self.mixers, self.ffs, norms[::2], norms[1::2], strict=True
        ):
            x = x + mixer(first(x))
            x = x + ff(second(x))
        return self.head(last(x)), None


def first_as_large(models: Iterable[nn.Module], config: ModelConfig) -> nn.Module:
    """The first of these with at least the parameters of the Feedback Transformer."""
    ours = sum(p.numel() for p in FeedbackLM(config).parameters())
    return next(m for m in models if sum(p.numel() for p in m.parameters()) >= ours)


def feedback(config: ModelConfig) -> nn.Module:
    """The Feedback Transformer."""
    return FeedbackLM(config)


def variant(
    config: ModelConfig,
    memory: Literal["learned", "top", "embedding", "mean"] = "learned",
    positions: bool = True,
    **changes: Any,
) -> nn.Module:
    """
    The Feedback Transformer with something changed: fields of its configuration; what `memory` is
    made of, weights that are learned as always, one layer alone, or all in equal parts; or with
    relative `positions` that stay at zero, so that a step cannot tell slots apart by distance.
    """
    config = replace(config, **changes)
    model, L = FeedbackLM(config), config.n_layers
    stack: Any = model.transformer
    if memory != "learned":
        weights = {"mean": [0.0] * (L + 1)}
        weights["embedding"] = [0.0] + [-1e4] * L
        weights["top"] = weights["embedding"][::-1]
        mix = stack.mix.weight.requires_grad_(False)
        # A softmax with such differences is one and zeros, exactly.
        mix.data.copy_(torch.tensor(weights[memory]))
    for layer in stack.layers:
        for place in (layer.attn.pos_key, layer.attn.pos_bias):
            place.requires_grad_(positions)
    return model


WINDOW = 512
"""How far back a network without a state can look: as far as any experiment here goes."""


def no_feedback(config: ModelConfig) -> nn.Module:
    """The same model without feedback; it needs a memory of many slots to see the past."""
    return variant(config, memory="embedding", mem_len=WINDOW)


def transformer(config: ModelConfig, n_layers: int, positions: bool = True) -> nn.Module:
    """
    The parallel Transformer of the Tiny Shakespeare runs, with `n_layers` layers, just wide enough
    to have our parameters.
    """
    steps = 4 * config.n_heads
    sizes = (
        replace(config, n_layers=n_layers, mem_len=WINDOW, d_model=width, d_ff=4 * width, d_k=None)
        for width in range(steps, 100 * steps, steps)
    )
    return first_as_large((RotaryLM(size, positions) for size in sizes), config)


def recurrent(config: ModelConfig, kind: str, n_layers: int) -> nn.Module:
    """A GRU or LSTM with `n_layers` layers, wide enough to have our parameters."""
    widths = range(config.d_model, 100 * config.d_model, 8)
    sizes = (replace(config, n_layers=n_layers, d_model=width, d_k=32) for width in widths)
    return first_as_large((RecurrentLM(size, kind) for size in sizes), config)


def mixing(config: ModelConfig, mixer: Callable[[ModelConfig], nn.Module]) -> nn.Module:
    """DeltaProduct or the sLSTM, with enough layers to have our parameters."""
    sizes = (replace(config, n_layers=n) for n in range(1, 100))
    return first_as_large((MixerLM(size, mixer) for size in sizes), config)


def mamba(config: ModelConfig) -> nn.Module:
    """Mamba, with enough layers to have our parameters."""
    sizes = (replace(config, n_layers=n) for n in range(1, 100))
    return first_as_large(map(MambaLM, sizes), config)


RIVALS: dict[str, Callable[[ModelConfig], nn.Module]] = {
    "feedback": feedback,
    "no_feedback": no_feedback,
    "transformer_2": partial(transformer, n_layers=2),
    "transformer_2_no_positions": partial(transformer, n_layers=2, positions=False),
    "transformer_8": partial(transformer, n_layers=8),
    "transformer_8_no_positions": partial(transformer, n_layers=8, positions=False),
    "gru": partial(recurrent, kind="GRU", n_layers=1),
    "lstm": partial(recurrent, kind="LSTM", n_layers=2),
    "mamba": mamba,
    "slstm": partial(mixing, mixer=SLSTM),
    "delta_product": partial(mixing, mixer=partial(DeltaProduct, n_updates=4)),
}
"""Each is made from the configuration of the Feedback Transformer."""
