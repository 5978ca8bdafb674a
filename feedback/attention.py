r"""
---
title: Attention over the memory
summary: One query reads the memory vectors of the past, with relative positions.
---

# Attention over the memory

In a parallel Transformer $T$ queries meet $T$ keys at once. Here there is **one** query:
the present step asks, and the memory vectors of past steps answer. What does a step need to
know about a slot? What it holds, and how long ago it was written. The score combines exactly
these two, in the four terms of Transformer-XL[^xl]:

$$\mathrm{score}_j = \frac{1}{\sqrt{K}} \Big(
    \underbrace{q^\top k_j}_{\text{content}}
  + \underbrace{u^\top k_j}_{\text{content, for any query}}
  + \underbrace{q^\top p_{t-j}}_{\text{distance}}
  + \underbrace{s_{t-j}}_{\text{distance, for any query}} \Big)$$

$q$ is the query, $k_j$ the key of slot $j$. Each head learns $p_d$, $s_d$ and $u$: a vector and
a number for each distance $d = 1 \dots$ `mem_len`, and one vector for all distances. All three
start at zero, so an untrained model ignores distance.

No absolute position appears anywhere. That is what lets a memory slide along
a text of any length.

Shapes use the letters `B S D H K`. Keys and values are `(B, H, S, K)`: the rows of one
head lie side by side, the layout that suits the small matrix products of a single query.

[^xl]: Dai et al., 2019, [arXiv:1901.02860](https://arxiv.org/abs/1901.02860). The Feedback
    Transformer, Fan et al., 2020, [arXiv:2002.09402](https://arxiv.org/abs/2002.09402),
    follows it in using relative positions.
"""

import math

import torch
from torch import Tensor, nn

from .config import ModelConfig


class KeyValue(nn.Module):
    r"""
    ## Keys and values of memory vectors

    $$k_j = W_k\, m_j, \qquad v_j = W_v\, m_j$$

    Neither has a bias, because a bias would add nothing new. On the values, it would pass through
    attention unchanged, because the attention weights sum to one (dropout aside), and merge with
    the output bias. On the keys, a bias $c$ would add $q^\top c$ to the score of *every* slot, and
    a softmax ignores a constant added to all its inputs. ($u$ is different: $u^\top k_j$ varies
    from slot to slot.)
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_heads, self.d_k = config.n_heads, config.head_dim
        self.key = nn.Linear(config.d_model, self.n_heads * self.d_k, bias=False)
        self.value = nn.Linear(config.d_model, self.n_heads * self.d_k, bias=False)

    def forward(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """`m` is `(..., D)`; returns `k` and `v`, both `(..., H, K)`."""
        split = (*m.shape[:-1], self.n_heads, self.d_k)
        # $k_j = W_k\, m_j$
        k = self.key(m).view(split)
        # $v_j = W_v\, m_j$
        v = self.value(m).view(split)
        return k, v


class FeedbackAttention(nn.Module):
    r"""
    ## One query against the memory

    The rows of `pos_key` and `pos_bias` are stored oldest first, like the memory:
    row `-d` belongs to distance $d$, so the last $S$ rows line up with $S$ slots.

    How far back should a head look? With `adaptive_span` each head learns it, as a *span* from 0
    to 1, a fraction of `mem_len`[^span]. The weight of a slot is multiplied by a number $\rho_d$
    that depends on its distance, and then the weights are made to sum to one again:

    $$a_j = \frac{\rho_{t-j}\, e^{\mathrm{score}_j}}{\sum_i \rho_{t-i}\, e^{\mathrm{score}_i}}$$

    $$\rho_d = \min\Big(1, \max\Big(0,
        \frac{R + \mathrm{span} \cdot \mathtt{mem\_len} - (d - 1)}{R}\Big)\Big)$$

    $R$ is `span_ramp`: behind the span, $\rho$ falls from 1 to 0 over $R$ slots, and only a slot on
    this ramp gives a gradient that moves the span. The distance is counted from the latest slot, as
    $d - 1$, as in the authors' code, so that slot always has $\rho = 1$. All spans start at 0,
    which leaves the nearest $R$ slots, with $\rho = 1, 1 - \frac1R, \dots, \frac1R$; with a span of
    1 the whole memory is seen, as without one.

    [^span]: Sukhbaatar et al., 2019, [arXiv:1905.07799](https://arxiv.org/abs/1905.07799).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        H, K = config.n_heads, config.head_dim
        self.n_heads, self.d_k, self.dropout = H, K, config.dropout
        self.query = nn.Linear(config.d_model, H * K, bias=False)
        self.output = nn.Linear(H * K, config.d_model)
        # $u$
        self.query_bias = nn.Parameter(torch.zeros(H, K))
        # $p_d$
        self.pos_key = nn.Parameter(torch.zeros(config.mem_len, H, K))
        # $s_d$
        self.pos_bias = nn.Parameter(torch.zeros(config.mem_len, H))
        self.span = nn.Parameter(torch.zeros(H)) if config.adaptive_span else None
        self.span_ramp = config.span_ramp

    def scores(self, q: Tensor, k: Tensor) -> Tensor:
        """`q` is `(B, H, K)`, `k` is `(B, H, S, K)`; returns `(B, H, S)`."""
        S = k.shape[-2]
        # $(q + u)^\top k_j$
        content = ((q + self.query_bias).unsqueeze(-2) @ k.mT).squeeze(-2)
        # $q^\top p_{t-j} + s_{t-j}$
        distance = torch.einsum("bhk,shk->bhs", q, self.pos_key[-S:]) + self.pos_bias[-S:].T
        return (content + distance) / math.sqrt(self.d_k)

    def within_span(self, span: Tensor, S: int) -> Tensor:
        r"""$\rho_d$ of the last `S` slots, oldest first, for each of the spans `(H,)`: `(H, S)`."""
        R, mem_len = self.span_ramp, len(self.pos_key)
        d = torch.arange(S, 0, -1, device=span.device)
        # A span that some optimiser has moved out of its range counts as the end that it passed.
        span = span.clamp(0, 1)[:, None]
        return ((R + span * mem_len - (d - 1)) / R).clamp(0, 1)

    def weights(self, scores: Tensor) -> Tensor:
        """The attention weights of `scores`, both `(B, H, S)`."""
        if self.span is None:
            # $a = \mathrm{softmax}_j(\mathrm{score}_j)$
            return scores.softmax(dim=-1)
        # $\rho_{t-j}$
        ramp = self.within_span(self.span, scores.shape[-1])
        # What is out of sight is left out before the softmax: it could have so high a score that
        # everything in sight would round to zero.
        attn = scores.masked_fill(ramp == 0, -math.inf).softmax(dim=-1) * ramp
        return attn / attn.sum(dim=-1, keepdim=True)

    def forward(
        self,
        z: Tensor,
        k: Tensor,
        v: Tensor,
        keep: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        r"""
        `z` is the normalised state of the present step, `(B, D)`; `k` and `v` are the window of
        the memory it reads, `(B, H, S, K)`; `keep` says which attention weights survive dropout,
        `(B, H, S)`; and `mask`, `(S,)`, is added to the scores: $-\infty$ for an empty slot.
        Returns $W_o \sum_j a_j v_j + b_o$, `(B, D)`.
        """
        q = self.query(z).unflatten(-1, (self.n_heads, self.d_k))
        scores = self.scores(q, k)
        if mask is not None:
            scores = scores + mask
        # $a$
        attn = self.weights(scores)
        if keep is not None:
            attn = attn * keep / (1 - self.dropout)
        # $\sum_j a_j v_j$
        heads = torch.einsum("bhs,bhsk->bhk", attn.to(v.dtype), v)
        return self.output(heads.flatten(1))
