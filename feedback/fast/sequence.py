r"""
---
title: The whole sequence
summary: Fast and exact: two sweeps and a handful of products, as one autograd function.
---

# The whole sequence

How fast can a model be trained that *must* go step by step? With autograd, each of the $T \cdot L$
layer steps costs three things: the operations, a node for each of them, and in the backward pass a
gradient of *every weight for that one step*. The last is the great waste. A product of a
handful of rows is the slowest kind there is, and its result is not needed yet: no step of the
recurrence waits for a weight gradient. Only the gradients of *activations* have to travel back in
time.

So the work divides into three parts, and the same division works for any recurrent model:

1. **Sweep forward**, writing what the backward pass will need into preallocated buffers.
2. **Sweep backward** over activations only, writing the gradient at the output of each weight.
3. **Weight gradients, many steps at once.** The backward sweep goes back stretch by stretch, each
   of some 200 rows, and for each stretch a weight gradient is one large matrix product, added to
   those before: $\partial\mathcal{L}/\partial W = \sum G^\top X$.

Nothing is approximated and nothing is truncated. This is backpropagation through time, reordered.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..layers import DropoutMasks
from ..reference import Recurrence
from ..support.checks import require
from .backward import AddProduct, Backward, add_product, add_weight_gradients, finish
from .border import PLAIN, check_call, objection
from .forward import sweep_forward
from .tape import Call, Gradients, Sizes, Stretch, Tape, slots_last
from .weights import Weights


class Sweeps(NamedTuple):
    """
    ## The two sweeps of a call

    In PyTorch, as here, or in C++; and the product that makes a weight gradient.
    """

    forward: Callable[[Call, Tensor], Tensor]
    backward: Callable[[Call, Gradients, Tensor, Tensor | None], Callable[[Stretch], None]]
    """Returns the function that goes back through one stretch and fills its adjoint."""
    add_product: AddProduct


PYTORCH = Sweeps(sweep_forward, Backward, add_product)


class Plan(NamedTuple):
    """What is decided before anything is computed."""

    sweeps: Sweeps
    sizes: Sizes
    masks: DropoutMasks | None
    recording: bool


def forms(tensors: Iterable[Tensor]) -> list[tuple]:
    """What the backward sweep relies on, of each tensor."""
    return [(type(t) in PLAIN, t.shape, t.dtype, t.device) for t in tensors]


class Sequence(torch.autograd.Function):
    """
    ## The autograd function

    Two sweeps and a set of products. All state is in the tape that belongs to this
    call, so calls can interleave, and backward can run twice.
    """

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: Tensor, k_past: Tensor, v_past: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`x` is `(T, B, D)`, the past `(P, H, B, K, S)`; returns $x_t^L$ and $m_t$."""
        n = plan.sizes
        w = Weights.from_tensors(weights, n.L).to(k_past.dtype)
        tape = Tape.make(n, x, k_past.dtype, plan.recording)
        tape.k[..., : n.S], tape.v[..., : n.S] = k_past, v_past
        out = plan.sweeps.forward(Call(n, w, tape, plan.masks), x)
        ctx.plan = plan
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tape, *weights)
        ctx.forms = forms((*tape, *weights))
        return out, tape.m

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor | None, dm: Tensor | None) -> tuple[Tensor | None, ...]:
        """The gradients of `x`, of the past, and of the weights."""
        # Read once: under checkpointing the second reading would be an error.
        n, tensors = ctx.plan.sizes, ctx.saved_tensors
        # A weight may have been replaced meanwhile, and hooks on saved tensors may change any.
        require(
            forms(tensors) == ctx.forms,
            "a tensor saved for the backward pass has another shape or type now; call backward "
            "before changing the model's parameters",
        )
        saved = iter(tensors)
        tape = Tape(*(next(saved) for _ in Tape._fields))
        weights = Weights.from_tensors(saved, n.L)
        call = Call(n, weights.to(tape.o.dtype), tape, ctx.plan.masks)
        total = Gradients.zeros(call, weights)
        dout = torch.zeros_like(tape.m) if dout is None else dout
        backward = ctx.plan.sweeps.backward(call, total, dout, dm)
        for stretch in Stretch.backwards(call):
            backward(stretch)
            add_weight_gradients(stretch, total.weights, ctx.plan.sweeps.add_product)
            total.x[stretch.first :][: stretch.steps] = stretch.adjoint.dx[0, : stretch.steps]
        finish(call.weights, total.weights)
        past = total.cache[..., : n.S].to(tape.k.dtype)
        return None, total.x, *past, *total.weights.tensors()


def run(
    sweeps: Sweeps, model: Recurrence, x: Tensor, past: Tensor, masks: DropoutMasks | None
) -> tuple[Tensor, Tensor]:
    """The whole sequence, computed by these sweeps."""
    k_past, v_past = slots_last(model.window(past))
    (T, B, _), S = x.shape, k_past.shape[-1]
    n = Sizes.of(model.config, T, B, S, masks)
    w = Weights.of(model, n.W)
    check_call(n, x, (k_past, v_past), masks, w)
    weights = w.tensors()
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        k_past, v_past = k_past.to(dtype), v_past.to(dtype)
    learned = any(tensor.requires_grad for tensor in (x, k_past, v_past, *weights))
    plan = Plan(sweeps, n, masks, torch.is_grad_enabled() and learned)
    with torch.autocast(x.device.type, enabled=False):
        y, m = Sequence.apply(plan, x, k_past, v_past, *weights)
    return y, torch.cat([past.to(m.dtype), m])


def sequence_forward(
    model: Recurrence, x: Tensor, past: Tensor, masks: DropoutMasks | None
) -> tuple[Tensor, Tensor]:
    r"""
    ## The whole sequence

    The same function of the same arguments as the reference. Raises `ValueError` for a model that
    the sweeps cannot compute, and says why.
    """
    why = objection(model, x)
    require(
        why is None,
        f"implementation 'sequence' cannot run here: {why}; use 'auto', which takes the fastest",
    )
    return run(PYTORCH, model, x, past, masks)
