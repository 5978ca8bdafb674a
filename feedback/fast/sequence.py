r"""
---
title: The whole sequence
summary: Fast and exact: two sweeps and a handful of products, as one autograd function.
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
Buffers are time first, `(L, T, B, ...)`, so that a layer's rows of all steps are one matrix.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..layers import Keep
from . import backward, forward, native
from .tape import Shape, Tape, slots_last
from .weights import Weights

if TYPE_CHECKING:
    from ..model import FeedbackTransformer


def sweeps(x: Tensor, w: Weights) -> tuple[Any, Any]:
    """The two sweeps: the native ones where they can be used, else those in PyTorch."""
    if native.usable(x, w):
        return native.sweep_forward, native.sweep_backward
    return forward.sweep_forward, backward.sweep_backward


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
            backward.add_weight_gradients(n, w, tape, stretch, keep, dw)
            first, (dx0, *_) = stretch[0], stretch[2]
            dx[first : first + len(dx0)] = dx0
            # Or else it would still be there while the next one is made.
            del stretch, dx0, _
        past = d_cache[..., : n.S].to(tape.k.dtype)
        return None, None, None, dx, *past, *dw.tensors()


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
