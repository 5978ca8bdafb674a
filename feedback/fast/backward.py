r"""
---
title: The backward sweep
summary: Gradients of activations travel back in time; those of the weights need not.
---

# The backward sweep

What does it take to go back through a recurrence by hand? Fewer lines than you might fear: each
line of the forward sweep has a counterpart, and the counterparts come in reverse order. One thing
has no such counterpart: a memory slot, which is written once and read many times.

With $\delta x^l = \partial\mathcal{L}/\partial x_t^l$ and so on, and $\mathrm{LN}'$ the derivative
of a norm, whose parameters are part of the matrix after it, one layer step backwards is

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
  \delta m_j = \frac{\partial\mathcal{L}}{\partial m_j}
    + \mathrm{LN}'\big(W_k^\top \delta k_j + W_v^\top \delta v_j\big) ,$$

where the first term comes from outside, and $\mathrm{LN}'$ is left out if the memory is not
normalised.

These sums are not added up layer by layer, $T \cdot L$ times over a whole window: each step adds
the terms of all its layers as one product. When the sweep reaches step $j$, all readers of its slot
have been processed, so $\delta k_j$ and $\delta v_j$ are complete.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .forward import activate, heads
from .tape import Call, Gradients, Stretch
from .weights import Weights

AddProduct = Callable[[Tensor, Tensor, Tensor], None]
r"""A function of the sum, `G` and `X` that adds $G^\top X$ to the sum."""


def activate_backward(grad: Tensor, pre: Tensor, activation: str) -> Tensor:
    r"""$\phi'(\mathrm{pre}) \odot \delta h$"""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, pre, 0)
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad, pre)
    up, gate = pre.chunk(2, dim=-1)
    return torch.cat([torch.ops.aten.silu_backward(grad * gate, up), grad * F.silu(up)], dim=-1)


class Backward:
    r"""
    ## Backward sweep

    Goes back through one stretch after the other, the last one first. `dout` and `dm_out`,
    `(T, B, D)`, are the gradients of the outputs $x_t^L$ and of the $m_t$; `dm_out` is `None` if
    the $m_t$ have none. Adds the gradients of keys and values to `total`.
    """

    def __init__(self, call: Call, total: Gradients, dout: Tensor, dm_out: Tensor | None):
        self.call, self.total, self.dout, self.dm_out = call, total, dout, dm_out
        self.n, self.w, self.tape, self.masks = call
        ones = torch.ones_like(self.tape.y_rstd[0, 0])
        self.unit = torch.zeros_like(ones), ones

    def __call__(self, stretch: Stretch) -> None:
        """Goes back through one stretch and fills its adjoint."""
        self.g, self.first = stretch.adjoint, stretch.first
        for t in reversed(range(stretch.first, stretch.first + stretch.steps)):
            self.step(t)

    def step(self, t: int) -> None:
        """All layers of step `t`, the top one first, each in the order of the equations."""
        n, w, g, r = self.n, self.w, self.g, t - self.first
        start, end = n.window(t)
        # $\delta k_t, \; \delta v_t$, complete after all their readers
        dkv = g.dkv[r].copy_(self.total.cache[..., end].permute(3, 1, 0, 2, 4).flatten(1))
        # $\delta m_t = \dots + \mathrm{LN}'(W_k^\top \delta k_t + W_v^\top \delta v_t)$
        dm = dkv @ w.wkv
        if n.norm_memory:
            dm = self.normalise(dm, self.tape.m_hat[t], self.tape.m_rstd[t])
        dm = torch.add(0 if self.dm_out is None else self.dm_out[t], dm, out=g.dm[r])
        # $\delta x^L = \partial\mathcal{L}/\partial x_t^L + \alpha_L\, \delta m_t$
        dx = torch.add(self.dout[t], w.alpha[n.L] * dm, out=g.dx[n.L, r])
        answers = dm.new_zeros(n.L, n.H, n.B, n.K, dtype=dkv.dtype)
        for l in reversed(range(n.L)):
            dx = self.feed_forward(l, t, dx)
            if end > start:
                dx = self.attention(l, t, dx, answers[l])
            # $\dots + \alpha_{l-1}\, \delta m_t$
            dx = torch.add(dx, w.alpha[l] * dm, out=g.dx[l, r])
        if end > start:
            self.read(t, answers)

    def normalise(self, g: Tensor, x_hat: Tensor, rstd: Tensor) -> Tensor:
        r"""$\frac1\sigma\big(g - \overline{g} - \hat x\, \overline{g \hat x}\big)$"""
        # PyTorch's function takes the input, its mean and $1/\sigma$: $\hat x$ has 0 and 1.
        wanted, g = [True, False, False], g.to(x_hat.dtype)
        grad, _, _ = torch.ops.aten.native_layer_norm_backward(
            g, x_hat, x_hat.shape[-1:], *self.unit, None, None, wanted
        )
        return grad * rstd

    def feed_forward(self, l: int, t: int, dx: Tensor) -> Tensor:
        r"""From $\delta x^l$ to $\delta y$, `(B, D)`."""
        w, tape = self.w, self.tape
        # $\delta h = W_2^\top \delta x$
        dh = dx.to(w.wkv.dtype) @ w.w2[l]
        if self.masks is not None:
            dh = dh * self.masks.ff[t, l] / (1 - self.masks.rate)
        # $\delta\mathrm{pre} = \phi'(\mathrm{pre}) \odot \delta h$
        dpre = activate_backward(dh, tape.pre[l, t], self.n.activation)
        self.g.dpre[l, t - self.first] = dpre
        # $\delta y = \delta x + \mathrm{LN}'(W_1^\top \delta\mathrm{pre})$
        return dx + self.normalise(dpre @ w.w1[l], tape.y_hat[l, t], tape.y_rstd[l, t])

    def attention(self, l: int, t: int, dy: Tensor, answer: Tensor) -> Tensor:
        r"""
        From $\delta y$ to $\delta x^{l-1}$, without the term of $\delta m_t$; sets `answer` to
        $\delta o$, `(H, B, K)`.
        """
        n, w, tape, g, r = self.n, self.w, self.tape, self.g, t - self.first
        start, end = n.window(t)
        S, dtype = end - start, w.wkv.dtype
        g.dy[l, r] = dy
        # $\delta o = W_o^\top \delta y$
        do = answer.copy_(heads(dy.to(dtype) @ w.wo[l], n))
        # $\delta a_j = \delta o^\top v_j$
        k, v = (cache[l % n.P, ..., start:end].flatten(0, 1) for cache in (tape.k, tape.v))
        da = torch.bmm(do.reshape(-1, 1, n.K), v).view(n.H, n.B, S)
        da = self.call.dropped(da, t, l).to(dy.dtype)
        # $\delta s_j = a_j (\delta a_j - \sum_i a_i \delta a_i)$
        attn = tape.weights(n, t)[l]
        ds = torch.ops.aten._softmax_backward_data(da, attn, -1, da.dtype)
        g.ds[l, :, r] = F.pad(ds, (n.W - S, 0))
        # $\delta q = \sum_j \delta s_j (k_j + p_{t-j})$
        ds = ds.to(dtype)
        dq = torch.bmm(ds.view(-1, 1, S), k.mT).view(n.H, n.B, n.K)
        dq = torch.baddbmm(dq, ds, w.p[l, :, :, -S:].mT)
        dq = g.dq[l, r].copy_(dq.transpose(0, 1).flatten(1))
        # $\delta x = \delta y + \mathrm{LN}'(W_q^\top \delta q)$
        return dy + self.normalise(dq @ w.wq[l], tape.x_hat[l, t], tape.x_rstd[l, t])

    def read(self, t: int, answers: Tensor) -> None:
        r"""Adds to the gradients of all slots that step `t` read, for all layers at once."""
        n, (start, end) = self.n, self.n.window(t)
        S = end - start
        queries = (self.tape.q[:, t] + self.w.u.unsqueeze(1)).unflatten(-1, (n.H, n.K))
        attn = self.tape.weights(n, t)
        if self.masks is not None:
            kept = self.masks.attn[t, ..., self.masks.attn.shape[-1] - S :].transpose(1, 2)
            attn = attn * kept / (1 - self.masks.rate)
        # $\delta k_j \mathrel{+}= \sum_l \delta s_{lj} (q_l + u_l), \;
        # \delta v_j \mathrel{+}= \sum_l a_{lj}\, \delta o_l$
        scores = self.g.ds[:, :, t - self.first, :, n.W - S :]
        for d, rows, weights in (0, queries.transpose(1, 2), scores), (1, answers, attn):
            # Layer $l = i P + p$ reads projection $p$.
            rows = rows.unflatten(0, (-1, n.P)).permute(1, 2, 3, 4, 0).flatten(0, 2)
            weights = weights.unflatten(0, (-1, n.P)).permute(1, 2, 3, 0, 4).flatten(0, 2)
            sums = torch.bmm(rows, weights.to(rows.dtype))
            self.total.cache[d, ..., start:end] += sums.view(n.P, n.H, n.B, n.K, S)


def add_product(total: Tensor, grad: Tensor, rows: Tensor) -> None:
    r"""Adds $G^\top X$ to `total`, in whose precision the sum is."""
    if total.dtype == rows.dtype:
        total.addmm_(grad.mT, rows)
    else:
        total += grad.mT @ rows


def add_weight_gradients(stretch: Stretch, dw: Weights, add_product: AddProduct) -> None:
    r"""
    ## All weight gradients of a stretch

    That of a matrix is one product over the rows of all steps of a stretch, $G^\top X$, added to
    `dw`; that of a bias is the sum of the rows of $G$.
    """
    (n, w, tape, masks), first, steps, g = stretch
    x_hat, y_hat, o, pre = map(stretch.of, (tape.x_hat, tape.y_hat, tape.o, tape.pre))
    dtype = w.wkv.dtype

    def add(total: Tensor, grad: Tensor, rows: Tensor) -> None:
        # $\partial\mathcal{L}/\partial W = G^\top X$
        add_product(total, grad[:steps].flatten(0, 1).to(dtype), rows.flatten(0, 1).to(dtype))

    for l in range(n.L):
        add(dw.wq[l], g.dq[l], x_hat[l])
        add(dw.wo[l], g.dy[l], o[l])
        add(dw.w1[l], g.dpre[l], y_hat[l])
        h = pre[l] if n.relu_only else activate(pre[l], n.activation)
        if masks is not None:
            h = h * masks.ff[first : first + steps, l] / (1 - masks.rate)
        add(dw.w2[l], g.dx[l + 1], h)
    add(dw.wkv, g.dkv, tape.m_hat[first : first + steps])
    # $\partial\mathcal{L}/\partial b = \sum_{t,b} G$
    for total, grad in (dw.bq, g.dq), (dw.bo, g.dy), (dw.b1, g.dpre), (dw.b2, g.dx[1:]):
        total.add_(grad[:, :steps].sum(dim=(1, 2)))
    dw.bkv.add_(g.dkv[:steps].sum(dim=(0, 1)))
    # $\partial\mathcal{L}/\partial s_d = \sum_{t,b} \delta s$
    ds = g.ds[:, :, :steps].flatten(2, 3)
    dw.s.add_(ds.sum(dim=2))
    # $\partial\mathcal{L}/\partial p_d = \sum_{t,b} \delta s\; q$, `(L, H, K, W)`
    q = stretch.of(tape.q).flatten(1, 2).unflatten(-1, (n.H, n.K)).transpose(1, 2)
    dw.p.add_(q.mT @ ds.to(dtype))
    # $\partial\mathcal{L}/\partial\alpha_l = \sum_{t,b} \delta m^\top x^l$
    dw.alpha.add_(stretch.of(tape.x).flatten(1) @ g.dm[:steps].flatten())


def finish(w: Weights, dw: Weights) -> None:
    r"""
    The gradient of $u$ is that of $b_q$, the sum of all $\delta q$, without the terms
    $\delta s \cdot p$ in it.
    """
    dw.u.copy_(dw.bq - (dw.s.unsqueeze(-2) * w.p).sum(-1).flatten(1))
