r"""
---
title: The forward sweep
summary: The recurrence once more, written into preallocated buffers.
---

# The forward sweep

The reference again, line by line, with two differences. The parameters of the norms are in the
matrices already. And nothing is appended, stacked or sliced into copies: keys, values and all that
the backward sweep will need have their place on the tape, where each step writes them once. Layers,
heads and rows of the batch share one product wherever they can.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .tape import Call, Sizes

EPSILON = 1e-5
"""Added to the variance in each norm, as in `nn.LayerNorm`."""


def normalise(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""$\hat x = (x - \mu)/\sigma$ over the last dimension, and $1/\sigma$."""
    x_hat, _, rstd = torch.native_layer_norm(x, x.shape[-1:], None, None, EPSILON)
    return x_hat, rstd


def heads(x: Tensor, n: Sizes) -> Tensor:
    """`(B, HK)` as `(H, B, K)`."""
    return x.view(n.B, n.H, n.K).transpose(0, 1)


def activate(pre: Tensor, activation: str) -> Tensor:
    r"""$\phi$ of the feed-forward sublayer; the gate, if any, is the second half of `pre`."""
    if activation == "relu":
        return pre.relu()
    if activation == "gelu":
        return F.gelu(pre)
    up, gate = pre.chunk(2, dim=-1)
    return F.silu(up) * gate


def sweep_forward(call: Call, x: Tensor) -> Tensor:
    r"""
    ## Forward sweep

    `x` is `(T, B, D)`. Fills the tape and returns $x_t^L$ of all steps, `(T, B, D)`.
    """
    n, w, tape, masks = call
    dtype, out = w.wkv.dtype, tape.outputs()
    for t in range(n.T):
        start, end = n.window(t)
        S, r = end - start, t % tape.x.shape[1]
        x_l = tape.x[0, r].copy_(x[t])
        for l in range(n.L):
            y = x_l
            if S > 0:
                # $q = W_q \hat x + b_q$
                x_hat, tape.x_rstd[l, r] = normalise(x_l)
                tape.x_hat[l, r] = x_hat
                q = torch.addmm(w.bq[l], x_hat.to(dtype), w.wq[l].mT, out=tape.q[l, r])
                # $s_{t-j} + q^\top p_{t-j} + (q + u)^\top k_j$
                k, v = (kv[l % n.P, ..., start:end].flatten(0, 1) for kv in (tape.k, tape.v))
                qu = heads(q + w.u[l], n).reshape(-1, 1, n.K)
                distance = torch.baddbmm(w.s[l, :, None, -S:], heads(q, n), w.p[l, :, :, -S:])
                scores = torch.baddbmm(distance.view(-1, 1, S), qu, k)
                # $a = \mathrm{softmax}(\mathrm{score})$
                attn = torch.softmax(scores, -1, dtype=x.dtype).view(n.H, n.B, S)
                tape.weights(n, t)[l] = attn
                attn = call.dropped(attn, t, l)
                # $o = \sum_j a_j v_j$
                o = torch.bmm(attn.view(-1, 1, S).to(dtype), v.mT).view(n.H, n.B, n.K)
                o = tape.o[l, r].copy_(o.transpose(0, 1).flatten(1))
                # $y = x + W_o o + b_o$
                y = x_l + torch.addmm(w.bo[l], o, w.wo[l].mT)
            # $\mathrm{pre} = W_1 \hat y + b_1$
            y_hat, tape.y_rstd[l, r] = normalise(y)
            tape.y_hat[l, r] = y_hat
            pre = torch.addmm(w.b1[l], y_hat.to(dtype), w.w1[l].mT, out=tape.pre[l, r])
            # $h = \phi(\mathrm{pre})$
            h = pre.relu_() if n.relu_only else activate(pre, n.activation)
            if masks is not None:
                h = h * masks.ff[t, l] / (1 - masks.rate)
            # $x^l = y + W_2 h + b_2$
            x_l = torch.add(y, torch.addmm(w.b2[l], h, w.w2[l].mT), out=tape.x[l + 1, r])
        out[t] = x_l
        # $m_t = \sum_l \alpha_l x_t^l$
        m = tape.m[t] = torch.einsum("l,lbd->bd", w.alpha, tape.x[:, r])
        if n.norm_memory:
            m, tape.m_rstd[t] = normalise(m)
            tape.m_hat[t] = m
        # $k_t = W_k \hat m_t + b_k, \; v_t = W_v \hat m_t + b_v$
        kv = torch.addmm(w.bkv, m.to(dtype), w.wkv.mT).view(n.B, n.P, 2, n.H, n.K)
        tape.k[..., end], tape.v[..., end] = kv.permute(2, 1, 3, 0, 4)
    return out
