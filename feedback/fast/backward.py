r"""
---
title: The backward sweep
summary: Gradients of activations travel back in time; those of the weights need not.
---

# The backward sweep

What does it take to go back through a recurrence by hand? Fewer lines than you might fear: each
line of the forward sweep has a counterpart, and the counterparts come in reverse order. One thing
has no such counterpart: a memory slot, which is written once and read many times.

Below, $\hat x = (x - \mu)/\sigma$ is the output of a norm without its parameters, and
$z = \gamma \odot \hat x + \beta$ with them; $1/\sqrt{K}$ is folded into the $\gamma$ and
$\beta$ of the norm before the query.

With $\delta x^l = \partial\mathcal{L}/\partial x_t^l$ and so on, one layer step backwards is

$$\begin{aligned}
\delta h &= W_2^\top \delta x^l & \delta\mathrm{pre} &= \phi'(\mathrm{pre}) \odot \delta h \\
\delta y &= \delta x^l + \mathrm{LN}'\big(W_1^\top \delta\mathrm{pre}\big) &
\delta o &= W_o^\top \delta y \\
\delta a_j &= \delta o^\top v_j &
\delta s_j &= a_j \Big(\delta a_j - \sum_i a_i\, \delta a_i\Big) \\
\delta q &= \sum_j \delta s_j\, (k_j + p_{t-j}) &
\delta x^{l-1} &= \delta y + \mathrm{LN}'\big(W_q^\top \delta q\big) + \alpha_{l-1}\, \delta m_t
\end{aligned}$$

and the recurrence is in the gradient of a memory slot, to which every layer of every later step
that read the slot contributes:

$$\delta k_j = \sum_{t > j} \sum_l \delta s_{tlj}\, (q_{tl} + u_l), \qquad
  \delta v_j = \sum_{t > j} \sum_l a_{tlj}\, \delta o_{tl}, \qquad
  \delta m_j = W_k^\top \delta k_j + W_v^\top \delta v_j .$$

These sums are not added up layer by layer, $T \cdot L$ times over a whole window: each step adds
the terms of all its layers as one product. When the sweep reaches step $j$, all readers of its slot
have been processed, so $\delta k_j$ and $\delta v_j$ are complete.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .forward import activate, heads, normalise
from .tape import Call, Gradients, Recomputed, Stretch
from .weights import Weights


def normalise_backward(
    dz: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, gain: Tensor | None = None
) -> tuple[Tensor, Any, Any]:
    r"""
    $\delta x = \frac1\sigma\big(g - \overline{g} - \hat x\, \overline{g \hat x}\big)$ with
    $g = \gamma \odot \delta z$; and, if there is a $\gamma$, the gradients of $\gamma$ and $\beta$,
    which are the sums of $\delta z \odot \hat x$ and $\delta z$.
    """
    wanted = [True, gain is not None, gain is not None]
    return torch.ops.aten.native_layer_norm_backward(
        dz.to(x.dtype), x, x.shape[-1:], mean, rstd, gain, gain, wanted
    )


def activate_backward(grad: Tensor, pre: Tensor, activation: str) -> Tensor:
    r"""$\phi'(\mathrm{pre}) \odot \delta h$"""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, pre, 0)
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad, pre)
    up, gate = pre.chunk(2, dim=-1)
    return torch.cat([torch.ops.aten.silu_backward(grad * gate, up), grad * F.silu(up)], dim=-1)


def recompute(call: Call, first: int, count: int) -> Recomputed:
    r"""
    ## What is recomputed in bulk

    With all $x_t^l$ and $y_t^l$ on the tape, everything else about the `count` steps from `first`
    on takes only a few large operations.
    """
    n, w, tape, _ = call
    x, y, m = tape.x[:, first:][:, :count], tape.y[:, first:][:, :count], tape.m[first:][:count]
    pre = tape.pre[:, first:][:, :count]
    if n.lean:
        pre = pre.new_empty(n.L, count, n.B, n.wide)
    x_mean, x_rstd, y_mean, y_rstd = (m.new_empty(n.L, count, n.B, 1) for _ in range(4))
    q, z_attn, z_ff = pre.new_empty(n.L, count, n.B, n.H * n.K), [], []
    for l in range(n.L):
        z, x_mean[l], x_rstd[l] = normalise(x[l], w.gain_attn[l], w.offset_attn[l])
        z_attn.append(z)
        # $q = W_q z$
        torch.mm(z.flatten(0, 1).to(q.dtype), w.wq[l].mT, out=q[l].flatten(0, 1))
        z, y_mean[l], y_rstd[l] = normalise(y[l], w.gain_ff[l], w.offset_ff[l])
        z_ff.append(z)
        if n.lean:
            # $\mathrm{pre} = W_1 z + b_1$
            inner = pre[l].flatten(0, 1)
            torch.addmm(w.b1[l], z.flatten(0, 1).to(pre.dtype), w.w1[l].mT, out=inner)
            if n.relu_only:
                inner.relu_()
    m_hat, m_mean, m_rstd = normalise(m) if n.norm_memory else (m, m, m)
    return Recomputed(
        tuple(z_attn), tuple(z_ff), x_mean, x_rstd, y_mean, y_rstd, q, pre, m_hat, m_mean, m_rstd
    )


class Backward:
    r"""
    ## Backward sweep

    Goes back through one stretch after the other, the last one first. `dout` and `dm_out`,
    `(T, B, D)`, are the gradients of the outputs $x_t^L$ and of the $m_t$; `dm_out` is `None` if
    the $m_t$ have none. Adds the gradients of the small weights, keys and values to `total`.
    """

    def __init__(self, call: Call, total: Gradients, dout: Tensor, dm_out: Tensor | None):
        self.call, self.total, self.dout, self.dm_out = call, total, dout, dm_out

    def sweep(self, stretch: Stretch) -> None:
        """Goes back through one stretch and fills its adjoint."""
        back = BackwardStretch(stretch, self.total)
        for t in reversed(range(stretch.first, stretch.first + stretch.steps)):
            back.step(t, self.dout[t], None if self.dm_out is None else self.dm_out[t])
        back.add_small_gradients()

    def finish(self) -> None:
        """Completes the gradients of the small weights when all stretches are done."""
        finish_small_gradients(self.call.weights, self.total.weights)


class BackwardStretch:
    """
    ## One stretch

    The equations above, line by line: steps and their layers, each from the last to the first.
    """

    def __init__(self, stretch: Stretch, total: Gradients):
        self.stretch, self.total = stretch, total
        self.call, self.first, self.recomputed, self.g = stretch
        self.n, self.w, self.tape, self.masks = self.call
        # Steps without memory never write these, so they start at zero.
        for sometimes in (self.g.ds, self.g.dy, self.g.dq):
            sometimes.zero_()

    def step(self, t: int, dout: Tensor, dm_out: Tensor | None) -> None:
        """All layers of step `t`."""
        n, w, g, r = self.n, self.w, self.g, t - self.first
        start, end = n.window(t)
        # $\delta m_t = W_k^\top \delta k_t + W_v^\top \delta v_t$, complete after all its readers
        dkv = g.dkv[r].copy_(self.total.cache[..., end].permute(3, 1, 0, 2, 4).flatten(1))
        dm = dkv @ w.wkv
        if n.norm_memory:
            norm = self.tape.m[t], self.recomputed.m_mean[r], self.recomputed.m_rstd[r]
            dm, _, _ = normalise_backward(dm, *norm)
        dm = torch.add(0 if dm_out is None else dm_out, dm, out=g.dm[r])
        dx = torch.add(dout, w.alpha[n.L] * dm, out=g.dx[n.L - 1, r])
        answers = dout.new_zeros(n.L, n.H, n.B, n.K, dtype=dkv.dtype)
        for l in reversed(range(n.L)):
            dx = self.feed_forward(l, t, dx)
            if end > start:
                dx = self.attention(l, t, dx, answers[l])
            # $\dots + \alpha_{l-1}\, \delta m_t$
            below = g.dx[l - 1, r] if l > 0 else g.dx0[r]
            dx = torch.add(dx, w.alpha[l] * dm, out=below)
        if end > start:
            self.read(t, answers)

    def feed_forward(self, l: int, t: int, dx: Tensor) -> Tensor:
        r"""From $\delta x^l$ to $\delta y$, `(B, D)`."""
        n, w, recomputed, dw = self.n, self.w, self.recomputed, self.total.weights
        r = t - self.first
        # $\delta h = W_2^\top \delta x$
        dh = dx.to(w.wkv.dtype) @ w.w2[l]
        if self.masks is not None:
            dh = dh * self.masks.ff[t, l] / (1 - self.masks.rate)
        # $\delta\mathrm{pre} = \phi'(\mathrm{pre}) \odot \delta h$
        dpre = activate_backward(dh, recomputed.pre[l, r], n.activation)
        self.g.dpre[l, r] = dpre
        # $\delta y = \delta x + \mathrm{LN}'(W_1^\top \delta\mathrm{pre})$
        norm = self.tape.y[l, t], recomputed.y_mean[l, r], recomputed.y_rstd[l, r], w.gain_ff[l]
        dy, gain, offset = normalise_backward(dpre @ w.w1[l], *norm)
        dw.gain_ff[l] += gain
        dw.offset_ff[l] += offset
        return dx + dy

    def attention(self, l: int, t: int, dy: Tensor, answer: Tensor) -> Tensor:
        r"""From $\delta y$ to $\delta x^{l-1}$; sets `answer` to $\delta o$, `(H, B, K)`."""
        n, w, recomputed, dw = self.n, self.w, self.recomputed, self.total.weights
        r = t - self.first
        start, end = n.window(t)
        S, dtype, g = end - start, w.wkv.dtype, self.g
        g.dy[l, r] = dy
        # $\delta o = W_o^\top \delta y$
        do = answer.copy_(heads(dy.to(dtype) @ w.wo[l], n))
        # $\delta a_j = \delta o^\top v_j$
        caches = self.tape.k, self.tape.v
        k, v = (cache[l % n.P, ..., start:end].flatten(0, 1) for cache in caches)
        da = torch.bmm(do.reshape(-1, 1, n.K), v).view(n.H, n.B, S)
        da = self.call.dropped(da, t, l).to(dy.dtype)
        # $\delta s_j = a_j (\delta a_j - \sum_i a_i \delta a_i)$
        attn = self.tape.weights(n, t)[l]
        ds = torch.ops.aten._softmax_backward_data(da, attn, -1, da.dtype)
        g.ds[l, :, r, :, n.W - S :] = ds
        # $\delta q = \sum_j \delta s_j (k_j + p_{t-j})$
        ds = ds.to(dtype)
        dq = torch.bmm(ds.view(-1, 1, S), k.mT).view(n.H, n.B, n.K)
        dq = torch.baddbmm(dq, ds, w.p[l, :, :, -S:].mT)
        dq = g.dq[l, r].copy_(dq.transpose(0, 1).flatten(1))
        # $\delta x = \delta y + \mathrm{LN}'(W_q^\top \delta q)$
        norm = self.tape.x[l, t], recomputed.x_mean[l, r], recomputed.x_rstd[l, r], w.gain_attn[l]
        dx, gain, offset = normalise_backward(dq @ w.wq[l], *norm)
        dw.gain_attn[l] += gain
        dw.offset_attn[l] += offset
        return dy + dx

    def read(self, t: int, answers: Tensor) -> None:
        r"""Adds to the gradients of all slots that step `t` read, for all layers at once."""
        n, r, (start, end) = self.n, t - self.first, self.n.window(t)
        S = end - start
        queries = (self.recomputed.q[:, r] + self.w.u.unsqueeze(1)).unflatten(-1, (n.H, n.K))
        attn = self.tape.weights(n, t)
        if self.masks is not None:
            kept = self.masks.attn[t, ..., self.masks.attn.shape[-1] - S :].transpose(1, 2)
            attn = attn * kept / (1 - self.masks.rate)
        # $\delta k_j \mathrel{+}= \sum_l \delta s_{lj} (q_l + u_l)$
        scores = self.g.ds[:, :, r, :, n.W - S :]
        for d, rows, weights in (0, queries.transpose(1, 2), scores), (1, answers, attn):
            # Layer $l = q P + p$ reads projection $p$.
            rows = rows.unflatten(0, (-1, n.P)).permute(1, 2, 3, 4, 0).flatten(0, 2)
            weights = weights.unflatten(0, (-1, n.P)).permute(1, 2, 3, 0, 4).flatten(0, 2)
            sums = torch.bmm(rows, weights.to(rows.dtype))
            self.total.cache[d, ..., start:end] += sums.view(n.P, n.H, n.B, n.K, S)

    def add_small_gradients(self) -> None:
        """Adds the gradients that are sums over all rows of the stretch."""
        g, dw = self.g, self.total.weights
        for total, grad in zip((dw.bo, dw.b1, dw.b2), (g.dy, g.dpre, g.dx), strict=True):
            total.add_(grad.sum(dim=(1, 2)))
        dw.bkv.add_(g.dkv.sum(dim=(0, 1)))
        # $\partial\mathcal{L}/\partial s_d = \sum_{t,b} \delta s$
        dw.s.add_(g.ds.sum(dim=(2, 3)))
        dw.u.add_(g.dq.sum(dim=(1, 2)))
        # $m = \sum_l \alpha_l x^l$
        dw.alpha.add_(torch.stack([(x_l * g.dm).sum() for x_l in self.stretch.of(self.tape.x)]))


def finish_small_gradients(w: Weights, dw: Weights) -> None:
    r"""
    So far `dw.u` is the sum of all $\delta q$, which includes the terms $\delta s \cdot p$. The
    gradient of $u$ does not, so they are subtracted.
    """
    dw.u.sub_((dw.s.unsqueeze(-2) * w.p).sum(-1).flatten(1))


def add_weight_gradients(stretch: Stretch, dw: Weights) -> None:
    r"""
    ## All weight gradients at once

    Each is one product over the rows of all steps of a stretch, $G^\top X$, added to `dw`.
    """
    (n, w, tape, masks), first, recomputed, g = stretch
    dtype, o = w.wkv.dtype, stretch.of(tape.o)

    def add(total: Tensor, grad: Tensor, rows: Tensor) -> None:
        # $\partial\mathcal{L}/\partial W = G^\top X$
        grad, rows = grad.flatten(0, 1).to(dtype), rows.flatten(0, 1).to(dtype)
        if total.dtype == dtype:
            total.addmm_(grad.mT, rows)
        else:
            total += grad.mT @ rows

    for l in range(n.L):
        add(dw.wq[l], g.dq[l], recomputed.z_attn[l])
        add(dw.wo[l], g.dy[l], o[l])
        add(dw.w1[l], g.dpre[l], recomputed.z_ff[l])
        h = recomputed.pre[l]
        if not n.relu_only:
            h = activate(h, n.activation)
        if masks is not None:
            h = h * masks.ff[first : first + stretch.steps, l] / (1 - masks.rate)
        add(dw.w2[l], g.dx[l], h)
    add(dw.wkv, g.dkv, recomputed.m_hat)
    # $\partial\mathcal{L}/\partial p_d = \sum_{t,b} \delta s\; q$, `(L, H, K, W)`
    q = recomputed.q.flatten(1, 2).unflatten(-1, (n.H, n.K)).transpose(1, 2)
    dw.p.add_(q.mT @ g.ds.flatten(2, 3).to(dtype))
