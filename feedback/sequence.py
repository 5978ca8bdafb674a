r"""
---
title: The whole sequence
summary: Fast and exact: one autograd function, its backward pass derived by hand.
---

# The whole sequence

How fast can a model be trained that *must* go step by step? Autograd makes three things of each
of the $T \cdot L$ layer steps: the operations, a node for each of them, and in the backward pass a
gradient of *every weight for that one step*. The last is the great waste. A product of a
handful of rows is the slowest kind there is, and nobody needs it: no step of the recurrence waits
for a weight gradient. Only the gradients of *activations* have to travel back in time.

So the work divides in three, and the same division serves any recurrent model:

1. **Sweep forward**, writing what the backward pass will need into buffers made beforehand.
2. **Sweep backward** over activations only, writing the gradient at the output of each weight.
   What can be had again without walking through time is not kept but recomputed first.
3. **All weight gradients at once.** With rows of all $T \cdot B$ steps, each is one large
   matrix product: $\partial\mathcal{L}/\partial W = G^\top X$.

Nothing is approximated and nothing truncated. This is backpropagation through time, reordered.
Below, $\hat x = (x - \mu)/\sigma$ is a norm without its parameters and
$z = \gamma \odot \hat x + \beta$ one with them; $1/\sqrt{K}$ is part of the $\gamma$ and
$\beta$ before the query.

## The backward pass

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

and what makes it recurrent is the gradient of a memory slot, to which every later step and layer
that read it has contributed:

$$\delta k_j = \sum_{t > j} \sum_l \delta s_{tlj}\, (q_{tl} + u_l), \qquad
  \delta v_j = \sum_{t > j} \sum_l a_{tlj}\, \delta o_{tl}, \qquad
  \delta m_j = W_k^\top \delta k_j + W_v^\top \delta v_j .$$

These sums are not added up layer by layer, $T \cdot L$ times over a whole window: each step adds
those of all its layers as one product. When the sweep reaches step $j$, nobody is left who could
have read it, and $\delta k_j$ and $\delta v_j$ are complete.

Buffers are time first, `(L, T, B, ...)`, so that a layer's rows of all steps are one matrix.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import Keep
from .reference import Pairs
from .tape import Adjoint, Recomputed, Shape, Tape
from .weights import Weights

if TYPE_CHECKING:
    from .model import FeedbackTransformer

EPS = 1e-5
"""Added to the variance by LayerNorm, as `nn.LayerNorm` does."""


def normalise(
    x: Tensor, gain: Tensor | None = None, offset: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""$z = \gamma \odot (x - \mu)/\sigma + \beta$ over the last dimension, $\mu$, $1/\sigma$."""
    return torch.native_layer_norm(x, x.shape[-1:], gain, offset, EPS)


def normalise_backward(
    dz: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, gain: Tensor | None = None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    r"""
    $\delta x = \frac1\sigma\big(g - \overline{g} - \hat x\, \overline{g \hat x}\big)$ of
    $g = \gamma \odot \delta z$; and, if there is a $\gamma$, the gradients of $\gamma$ and $\beta$,
    the sums of $\delta z \odot \hat x$ and $\delta z$.
    """
    wanted = [True, gain is not None, gain is not None]
    return torch.ops.aten.native_layer_norm_backward(
        dz.to(x.dtype), x, x.shape[-1:], mean, rstd, gain, gain, wanted
    )


def heads(x: Tensor, n: Shape) -> Tensor:
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


def activate_backward(grad: Tensor, pre: Tensor, activation: str) -> Tensor:
    r"""$\phi'(\mathrm{pre}) \odot \delta h$"""
    if activation == "relu":
        return torch.ops.aten.threshold_backward(grad, pre, 0)
    if activation == "gelu":
        return torch.ops.aten.gelu_backward(grad, pre)
    up, gate = pre.chunk(2, dim=-1)
    return torch.cat([torch.ops.aten.silu_backward(grad * gate, up), grad * F.silu(up)], dim=-1)


def sweep_forward(n: Shape, w: Weights, tape: Tape, x: Tensor, keep: Keep | None) -> Tensor:
    r"""
    ## Forward sweep

    `x` is `(T, B, D)`. Fills `tape` and returns $x_t^L$ of all steps, `(T, B, D)`.
    """
    dtype, out = w.wkv.dtype, tape.outputs()
    for t in range(n.T):
        start, end = n.window(t)
        S = end - start
        states, answers, ys, pres = (tape.row(it, t) for it in (tape.x, tape.o, tape.y, tape.pre))
        x_l = states[0].copy_(x[t])
        for l in range(n.L):
            y = x_l
            if S > 0:
                # $q = W_q z$
                z = F.layer_norm(x_l, (n.D,), w.gain_attn[l], w.offset_attn[l], EPS)
                q = z.to(dtype) @ w.wq[l].mT
                # $s_{t-j} + q^\top p_{t-j} + (q + u)^\top k_j$
                k, v = (kv[l % n.P, ..., start:end].flatten(0, 1) for kv in (tape.k, tape.v))
                qu = heads(q + w.u[l], n).reshape(-1, 1, n.K)
                distance = torch.baddbmm(w.s[l, :, None, -S:], heads(q, n), w.p[l, :, :, -S:])
                scores = torch.baddbmm(distance.view(-1, 1, S), qu, k)
                # $a = \mathrm{softmax}(\mathrm{score})$
                attn = torch.softmax(scores, -1, dtype=x.dtype).view(n.H, n.B, S)
                tape.weights(n, t)[l] = attn
                attn = drop(attn, keep, n, t, l, S)
                # $o = \sum_j a_j v_j$
                o = torch.bmm(attn.view(-1, 1, S).to(dtype), v.mT).view(n.H, n.B, n.K)
                o = answers[l].copy_(o.transpose(0, 1).flatten(1))
                # $y = x + W_o o + b_o$
                y = x_l + torch.addmm(w.bo[l], o, w.wo[l].mT)
            ys[l] = y
            # $\mathrm{pre} = W_1 z + b_1$
            z = F.layer_norm(y, (n.D,), w.gain_ff[l], w.offset_ff[l], EPS)
            pre = torch.addmm(w.b1[l], z.to(dtype), w.w1[l].mT, out=pres[l])
            # $h = \phi(\mathrm{pre})$
            h = pre.relu_() if n.relu_only else activate(pre, n.activation)
            if keep is not None:
                h = h * keep.at(t, l, S)[1] / (1 - n.dropout)
            # $x^l = y + W_2 h + b_2$
            x_l = torch.add(y, torch.addmm(w.b2[l], h, w.w2[l].mT), out=states[l + 1])
        out[t] = x_l
        # $m_t = \sum_l \alpha_l x_t^l$
        m = tape.m[t] = torch.einsum("l,lbd->bd", w.alpha, states)
        if n.norm_memory:
            m, _, _ = normalise(m)
        # $k_t = W_k m_t, \; v_t = W_v m_t$
        kv = torch.addmm(w.bkv, m.to(dtype), w.wkv.mT).view(n.B, n.P, 2, n.H, n.K)
        tape.k[..., end], tape.v[..., end] = kv.permute(2, 1, 3, 0, 4)
    return out


def drop(attn: Tensor, keep: Keep | None, n: Shape, t: int, l: int, S: int) -> Tensor:
    """Dropout of attention weights `(H, B, S)`, or of their gradient."""
    if keep is None:
        return attn
    return attn * keep.at(t, l, S)[0].transpose(0, 1) / (1 - n.dropout)


def recompute(n: Shape, w: Weights, tape: Tape, first: int, count: int) -> Recomputed:
    r"""
    ## What nothing has to wait for

    With all $x_t^l$ and $y_t^l$ on the tape, the rest of `count` steps from `first` on is a
    few large operations.
    """
    x, y, m = tape.x[:, first:][:, :count], tape.y[:, first:][:, :count], tape.m[first:][:count]
    pre = tape.pre[:, first:][:, :count]
    if n.lean:
        pre = pre.new_empty(n.L, count, n.B, n.wide)
    stats = [m.new_empty(n.L, count, n.B, 1) for _ in range(4)]
    q, z_attn, z_ff = pre.new_empty(n.L, count, n.B, n.H * n.K), [], []
    for l in range(n.L):
        z, stats[0][l], stats[1][l] = normalise(x[l], w.gain_attn[l], w.offset_attn[l])
        z_attn.append(z)
        # $q = W_q z$
        torch.mm(z.flatten(0, 1).to(q.dtype), w.wq[l].mT, out=q[l].flatten(0, 1))
        z, stats[2][l], stats[3][l] = normalise(y[l], w.gain_ff[l], w.offset_ff[l])
        z_ff.append(z)
        if n.lean:
            # $\mathrm{pre} = W_1 z + b_1$
            inner = pre[l].flatten(0, 1)
            torch.addmm(w.b1[l], z.flatten(0, 1).to(pre.dtype), w.w1[l].mT, out=inner)
            if n.relu_only:
                inner.relu_()
    memory = normalise(m) if n.norm_memory else (m, m, m)
    return Recomputed(tuple(z_attn), tuple(z_ff), *stats, q, pre, *memory)


Stretch = tuple[int, Recomputed, Adjoint]
"""A stretch of the backward sweep: the number of its first step, and what belongs to it."""


def sweep_backward(
    n: Shape,
    w: Weights,
    tape: Tape,
    dout: Tensor,
    dm_out: Tensor | None,
    keep: Keep | None,
    dw: Weights,
    d_cache: Tensor,
) -> Iterator[Stretch]:
    r"""
    ## Backward sweep

    `dout` and `dm_out`, `(T, B, D)`, are the gradients of the outputs $x_t^L$ and of the $m_t$, if
    these have any. Yields stretches of the sequence, the last one first. Adds the gradients of the
    small weights to `dw`, and those of keys and values to `d_cache`, `(2, P, H, B, K, S + T)`.
    """
    for first, steps in n.stretches():
        back = Backward(n, w, tape, keep, first, recompute(n, w, tape, first, steps), dw, d_cache)
        for t in reversed(range(first, first + steps)):
            back.step(t, dout[t], None if dm_out is None else dm_out[t])
        back.add_small_gradients()
        yield first, back.again, back.g
        del back
    finish_small_gradients(w, dw)


class Backward:
    """
    ## One stretch of it

    Line by line the equations above, for a step and its layers from the last to the first.
    """

    def __init__(
        self, n: Shape, w: Weights, tape: Tape, keep: Keep | None, first: int, again: Recomputed,
        dw: Weights, d_cache: Tensor,
    ):  # fmt: skip
        self.n, self.w, self.tape, self.keep, self.first = n, w, tape, keep, first
        self.again, self.dw, self.d_cache = again, dw, d_cache
        self.g = Adjoint.make(n._replace(T=again.q.shape[1]), tape)
        # Where nothing is attended to, nothing else is written.
        for sometimes in (self.g.ds, self.g.dy, self.g.dq):
            sometimes.zero_()

    def step(self, t: int, dout: Tensor, dm_out: Tensor | None) -> None:
        """All layers of step `t`."""
        n, w, g, r = self.n, self.w, self.g, t - self.first
        start, end = n.window(t)
        # $\delta m_t = W_k^\top \delta k_t + W_v^\top \delta v_t$, to which all readers have added
        dkv = g.dkv[r].copy_(self.d_cache[..., end].permute(3, 1, 0, 2, 4).flatten(1))
        dm = dkv @ w.wkv
        if n.norm_memory:
            norm = self.tape.m[t], self.again.m_mean[r], self.again.m_rstd[r]
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
        n, w, r, again, dw = self.n, self.w, t - self.first, self.again, self.dw
        # $\delta h = W_2^\top \delta x$
        dh = dx.to(w.wkv.dtype) @ w.w2[l]
        if self.keep is not None:
            dh = dh * self.keep.ff[t, l] / (1 - n.dropout)
        # $\delta\mathrm{pre} = \phi'(\mathrm{pre}) \odot \delta h$
        dpre = activate_backward(dh, again.pre[l, r], n.activation)
        self.g.dpre[l, r] = dpre
        # $\delta y = \delta x + \mathrm{LN}'(W_1^\top \delta\mathrm{pre})$
        norm = self.tape.y[l, t], again.y_mean[l, r], again.y_rstd[l, r], w.gain_ff[l]
        dy, gain, offset = normalise_backward(dpre @ w.w1[l], *norm)
        dw.gain_ff[l] += gain
        dw.offset_ff[l] += offset
        return dx + dy

    def attention(self, l: int, t: int, dy: Tensor, answer: Tensor) -> Tensor:
        r"""From $\delta y$ to $\delta x^{l-1}$; sets `answer` to $\delta o$, `(H, B, K)`."""
        n, w, r, again, dw = self.n, self.w, t - self.first, self.again, self.dw
        start, end = n.window(t)
        S, dtype, g = end - start, w.wkv.dtype, self.g
        g.dy[l, r] = dy
        # $\delta o = W_o^\top \delta y$
        do = answer.copy_(heads(dy.to(dtype) @ w.wo[l], n))
        # $\delta a_j = \delta o^\top v_j$
        caches = self.tape.k, self.tape.v
        k, v = (cache[l % n.P, ..., start:end].flatten(0, 1) for cache in caches)
        da = torch.bmm(do.reshape(-1, 1, n.K), v).view(n.H, n.B, S)
        da = drop(da, self.keep, n, t, l, S).to(dy.dtype)
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
        norm = self.tape.x[l, t], again.x_mean[l, r], again.x_rstd[l, r], w.gain_attn[l]
        dx, gain, offset = normalise_backward(dq @ w.wq[l], *norm)
        dw.gain_attn[l] += gain
        dw.offset_attn[l] += offset
        return dy + dx

    def read(self, t: int, answers: Tensor) -> None:
        r"""Adds what step `t` has asked of each slot of its window, in all layers at once."""
        n, r, (start, end) = self.n, t - self.first, self.n.window(t)
        S = end - start
        queries = (self.again.q[:, r] + self.w.u.unsqueeze(1)).unflatten(-1, (n.H, n.K))
        attn = self.tape.weights(n, t)
        if self.keep is not None:
            kept = self.keep.attn[t, ..., self.keep.attn.shape[-1] - S :].transpose(1, 2)
            attn = attn * kept / (1 - n.dropout)
        # $\delta k_j \mathrel{+}= \sum_l \delta s_{lj} (q_l + u_l)$
        scores = self.g.ds[:, :, r, :, n.W - S :]
        for d, rows, weights in (0, queries.transpose(1, 2), scores), (1, answers, attn):
            # Layer $l = q P + p$ reads the projection $p$.
            rows = rows.unflatten(0, (-1, n.P)).permute(1, 2, 3, 4, 0).flatten(0, 2)
            weights = weights.unflatten(0, (-1, n.P)).permute(1, 2, 3, 0, 4).flatten(0, 2)
            sums = torch.bmm(rows, weights.to(rows.dtype))
            self.d_cache[d, ..., start:end] += sums.view(n.P, n.H, n.B, n.K, S)

    def add_small_gradients(self) -> None:
        """The sums over all rows of the stretch."""
        g, dw, T = self.g, self.dw, len(self.g.dm)
        for total, grad in zip((dw.bo, dw.b1, dw.b2), (g.dy, g.dpre, g.dx), strict=True):
            total.add_(grad.sum(dim=(1, 2)))
        dw.bkv.add_(g.dkv.sum(dim=(0, 1)))
        # $\partial\mathcal{L}/\partial s_d = \sum_{t,b} \delta s$
        dw.s.add_(g.ds.sum(dim=(2, 3)))
        dw.u.add_(g.dq.sum(dim=(1, 2)))
        # $m = \sum_l \alpha_l x^l$
        x = self.tape.x[:, self.first :][:, :T]
        dw.alpha.add_(torch.stack([(x_l * g.dm).sum() for x_l in x]))


def finish_small_gradients(w: Weights, dw: Weights) -> None:
    r"""
    So far `dw.u` is the sum of all $\delta q$, of $\delta s\,(k + p)$ that is, but
    $\delta u$ is only that of $\delta s\, k$: take the $p$ away.
    """
    dw.u.sub_((dw.s.unsqueeze(-2) * w.p).sum(-1).flatten(1))


def add_weight_gradients(
    n: Shape, w: Weights, tape: Tape, stretch: Stretch, keep: Keep | None, dw: Weights
) -> None:
    r"""
    ## All weight gradients at once

    Each is one product over the rows of all steps of a stretch, $G^\top X$, added to `dw`.
    """
    first, again, g = stretch
    T, dtype = len(g.dm), w.wkv.dtype
    o = tape.o[:, first:][:, :T]

    def add(total: Tensor, grad: Tensor, rows: Tensor) -> None:
        # $\partial\mathcal{L}/\partial W = G^\top X$
        grad, rows = grad.flatten(0, 1).to(dtype), rows.flatten(0, 1).to(dtype)
        if total.dtype == dtype:
            total.addmm_(grad.mT, rows)
        else:
            total += grad.mT @ rows

    for l in range(n.L):
        add(dw.wq[l], g.dq[l], again.z_attn[l])
        add(dw.wo[l], g.dy[l], o[l])
        add(dw.w1[l], g.dpre[l], again.z_ff[l])
        h = again.pre[l]
        if not n.relu_only:
            h = activate(h, n.activation)
        if keep is not None:
            h = h * keep.ff[first : first + T, l] / (1 - n.dropout)
        add(dw.w2[l], g.dx[l], h)
    add(dw.wkv, g.dkv, again.m_hat)
    # $\partial\mathcal{L}/\partial p_d = \sum_{t,b} \delta s\; q$, `(L, H, K, W)`
    q = again.q.flatten(1, 2).unflatten(-1, (n.H, n.K)).transpose(1, 2)
    dw.p.add_(q.mT @ g.ds.flatten(2, 3).to(dtype))


def sweeps(x: Tensor, w: Weights) -> tuple[Any, Any]:
    """The two sweeps: the native ones where they can be used, else those above."""
    from . import native

    if native.usable(x, w):
        return native.sweep_forward, native.sweep_backward
    return sweep_forward, sweep_backward


class Sequence(torch.autograd.Function):
    """
    ## The autograd function

    Two sweeps and a set of products. All state is in the tape that belongs to this
    call, so calls can interleave, and backward can run twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        n: Shape,
        keep: Keep | None,
        recording: bool,
        x: Tensor,
        k_past: Tensor,
        v_past: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`x` is `(T, B, D)`, the past `(P, H, B, K, S)`; returns $x_t^L$ and $m_t$."""
        w = Weights.from_tensors(weights, n.L).to(k_past.dtype)
        tape = Tape.make(n, x, k_past.dtype, recording)
        tape.k[..., : n.S], tape.v[..., : n.S] = k_past, v_past
        out = sweeps(x, w)[0](n, w, tape, x, keep)
        ctx.n, ctx.keep = n, keep
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*weights, *tape)
        return out, tape.m

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor | None, dm: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, of the past, and of the weights."""
        n, keep, count = ctx.n, ctx.keep, -len(Tape._fields)
        weights, tape = ctx.saved_tensors[:count], Tape(*ctx.saved_tensors[count:])
        if dout is None:
            dout = torch.zeros_like(tape.m)
        dx = torch.empty_like(tape.m)
        dw = Weights.from_tensors([torch.zeros_like(weight) for weight in weights], n.L)
        w = Weights.from_tensors(weights, n.L).to(tape.o.dtype)
        d_cache = tape.x.new_zeros(2, *tape.k.shape)
        for stretch in sweeps(tape.x, w)[1](n, w, tape, dout, dm, keep, dw, d_cache):
            add_weight_gradients(n, w, tape, stretch, keep, dw)
            first, (dx0, *_) = stretch[0], stretch[2]
            dx[first : first + len(dx0)] = dx0
            # Or else it would still be there while the next one is made.
            del stretch, dx0, _
        past = d_cache[..., : n.S].to(tape.k.dtype)
        return None, None, None, dx, *past, *dw.tensors()


def slots_last(pairs: Pairs) -> Iterator[Tensor]:
    """Keys and values `(B, H, S, K)` of each projection as two tensors `(P, H, B, K, S)`."""
    return (torch.stack(kv).permute(0, 2, 1, 4, 3) for kv in zip(*pairs, strict=True))


def sequence_forward(
    model: "FeedbackTransformer", x: Tensor, past: Tensor, keep: Keep | None
) -> tuple[Tensor, Tensor]:
    r"""
    ## The whole sequence

    The same function of the same arguments as the reference.
    """
    c, (T, B, _) = model.config, x.shape
    k_past, v_past = slots_last(model.window(past))
    S = k_past.shape[-1]
    dropout = 0.0 if keep is None else c.dropout
    n = Shape.of(c, T, B, S, W=min(c.mem_len, S + T), dropout=dropout)
    weights = Weights.of(model, n.W).tensors()
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        k_past, v_past = k_past.to(dtype), v_past.to(dtype)
    recording = torch.is_grad_enabled() and any(
        tensor.requires_grad for tensor in (x, k_past, v_past, *weights)
    )
    with torch.autocast(x.device.type, enabled=False):
        y, m = Sequence.apply(n, keep, recording, x, k_past, v_past, *weights)
    return y, torch.cat([past.to(m.dtype), m])
