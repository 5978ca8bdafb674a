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

## An operator like any other

To PyTorch, all of this is one operator, and going back is another; both are registered with
`torch.library`. An operator is told to the rest of PyTorch by what it does to shapes (a *fake*
kernel, which computes nothing) and by its derivative. That is enough for `torch.compile` and
`torch.export` to put the operator into their graphs without looking inside. They could not look
inside: C++ is not made of PyTorch's operations, and the sweeps in PyTorch write into buffers.

For the same reason nothing can be derived from the operator that we did not derive by hand: no
second derivative, no `vmap`, no forward mode. The reference has them all.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import custom_op

from ..layers import DropoutMasks
from ..reference import Recurrence
from ..support.checks import expect, require
from .backward import AddProduct, Backward, add_product, add_weight_gradients, finish
from .border import check_call, check_saved, mixed_precision, objection
from .forward import sweep_forward
from .tape import Call, Gradients, Sizes, Stretch, Tape, slots_last
from .weights import MATRICES, Weights


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
    """
    ## What an operator is told besides tensors

    In the types that a schema has: numbers, a word, and whether something is so.
    """

    numbers: list[int]
    """The sizes from `T` to `W`, in the order of `Sizes`."""
    activation: str
    norm_memory: bool
    dropout: float
    mixed: bool
    """Whether autocast chose the precision of matrix products."""
    recording: bool
    """Whether there will be a backward pass."""

    @classmethod
    def of(cls, n: Sizes, mixed: bool, recording: bool) -> "Plan":
        """The plan of a call of these sizes."""
        *numbers, activation, norm_memory, dropout = n
        return cls(numbers, activation, norm_memory, dropout, mixed, recording)

    @property
    def sizes(self) -> Sizes:
        """All sizes of the call."""
        return Sizes._make([*self.numbers, self.activation, self.norm_memory, self.dropout])


PLAN = (
    "SymInt[] numbers, str activation, bool norm_memory, float dropout, bool mixed, bool recording"
)
FORWARD = (
    f"(Tensor x, Tensor[] past, Tensor[] weights, Tensor[] masks, {PLAN})"
    " -> (Tensor, Tensor, Tensor[])"
)
BACKWARD = (
    f"(Tensor? dout, Tensor? dm, Tensor[] tape, Tensor[] weights, Tensor[] masks, {PLAN})"
    " -> (Tensor, Tensor, Tensor[])"
)
"""What goes in and what comes out, in PyTorch's language for it."""


def forward(
    sweeps: Sweeps,
    x: Tensor,
    past: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    *plan: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    r"""
    ## The operator

    `x` is `(T, B, D)`, the past two tensors `(P, H, B, K, S)`. Returns $x_t^L$, $m_t$, and the rest
    of the tape. All state is in there: so calls can interleave, and backward can run twice.
    """
    n, mixed, recording = Plan(*plan).sizes, *plan[-2:]
    w, kept = unpack(n, weights, masks)
    check_call(n, x, past, kept, w, mixed)
    with torch.autocast(x.device.type, enabled=False):
        tape = Tape.make(n, x, past[0].dtype, recording)
        tape.k[..., : n.S], tape.v[..., : n.S] = past
        out = sweeps.forward(Call(n, w.to(past[0].dtype), tape, kept), x)
    # What an operator returns may not share memory, and on the tape this is the last layer.
    return (out.clone(), tape.m, tape.rest(n)) if recording else (out, tape.m, [])


def unpack(
    n: Sizes, weights: list[Tensor], masks: list[Tensor]
) -> tuple[Weights, DropoutMasks | None]:
    """The weights of a call, and the masks, if anything is dropped."""
    count = len(Weights._fields) + (n.L - 1) * len(MATRICES)
    expect(len(weights) == count, "the number of weights", len(weights), f"{count}")
    expect(len(masks) in (0, 2), "the number of masks", len(masks), "none or two")
    dropped = DropoutMasks(masks[0], masks[1], n.dropout) if masks else None
    return Weights.from_tensors(weights, n.L), dropped


def forward_shapes(
    x: Tensor, past: list[Tensor], weights: list[Tensor], masks: list[Tensor], *plan: Any
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The fake kernel: what `forward` returns, with nothing in it."""
    n, recording = Plan(*plan).sizes, plan[-1]
    tape = Tape.make(n, x, past[0].dtype, recording)
    return torch.empty_like(tape.m), tape.m, tape.rest(n) if recording else []


def remember(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor, list[Tensor]]) -> None:
    """What the backward pass will need: the tape, the weights and the masks."""
    _, past, weights, masks, *plan = inputs
    _, m, rest = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*rest)
    ctx.counts, ctx.plan, ctx.dtype = (len(rest) + 1, len(weights)), plan, past[0].dtype
    ctx.save_for_backward(m, *rest, *weights, *masks)


def differentiate(
    backward: Callable, ctx: Any, dout: Tensor | None, dm: Tensor | None, _: Any
) -> tuple:
    """The gradients of `x`, of the past, and of the weights."""
    # Read once: under checkpointing the second reading would be an error.
    saved, (rows, count) = list(ctx.saved_tensors), ctx.counts
    tape, weights, masks = saved[:rows], saved[rows : rows + count], saved[rows + count :]
    dx, dcache, dw = backward(dout, dm, tape, weights, masks, *ctx.plan)
    S = Plan(*ctx.plan).sizes.S
    past = list(dcache[..., :S].to(ctx.dtype))
    return dx, past, dw, [None] * len(masks), *(None for _ in ctx.plan)


def backward(
    sweeps: Sweeps,
    dout: Tensor | None,
    dm: Tensor | None,
    saved: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    *plan: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """
    ## The operator of the backward pass

    Returns the gradients of `x`, of all keys and values, and of the weights.
    """
    n, mixed = Plan(*plan).sizes, plan[-2]
    tape, (w, kept) = Tape.restored(n, saved), unpack(n, weights, masks)
    check_saved(n, tape, (dout, dm), kept, w, mixed)
    with torch.autocast(tape.m.device.type, enabled=False):
        call = Call(n, w.to(tape.o.dtype), tape, kept)
        total = Gradients.zeros(call, w)
        dout = torch.zeros_like(tape.m) if dout is None else dout
        go_back = sweeps.backward(call, total, dout, dm)
        for stretch in Stretch.backwards(call):
            go_back(stretch)
            add_weight_gradients(stretch, total.weights, sweeps.add_product)
            total.x[stretch.first :][: stretch.steps] = stretch.adjoint.dx[0, : stretch.steps]
        finish(call.weights, total.weights)
    return total.x, total.cache, total.weights.tensors()


def backward_shapes(
    dout: Tensor | None,
    dm: Tensor | None,
    saved: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    *plan: Any,
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The fake kernel: what `backward` returns, with nothing in it."""
    n = Plan(*plan).sizes
    w = Weights.from_tensors(weights, n.L)
    total = Gradients.zeros(Call(n, w, Tape.restored(n, saved), None), w)
    return total.x, total.cache, total.weights.tensors()


def refuse(*_: Any) -> None:
    """There is no derivative of the derivative."""
    raise ValueError(
        "the sweeps of 'sequence' and 'native' can be differentiated only once; a second "
        "derivative needs implementation='reference'"
    )


def operator(name: str, sweeps: Sweeps) -> Callable:
    """Registers `feedback::name` and the operator of its backward pass; returns the first."""
    there: Any = partial(custom_op, mutates_args=())
    back = there(f"feedback::{name}_backward", partial(backward, sweeps), schema=BACKWARD)
    back.register_fake(backward_shapes)
    back.register_autograd(refuse)
    forth = there(f"feedback::{name}", partial(forward, sweeps), schema=FORWARD)
    forth.register_fake(forward_shapes)
    forth.register_autograd(partial(differentiate, back), setup_context=remember)
    return forth


SEQUENCE = operator("sequence", PYTORCH)


def run(
    operator: Callable, model: Recurrence, x: Tensor, past: Tensor, masks: DropoutMasks | None
) -> tuple[Tensor, Tensor]:
    """The whole sequence, computed by this operator."""
    kv = list(slots_last(model.window(past)))
    n = Sizes.of(model.config, len(x), x.shape[1], kv[0].shape[-1], masks)
    weights = Weights.of(model, n.W).tensors()
    mixed = mixed_precision(x)
    if mixed:
        kv = [tensor.to(torch.get_autocast_dtype(x.device.type)) for tensor in kv]
    learned = any(tensor.requires_grad for tensor in (x, *kv, *weights))
    recording = torch.is_grad_enabled() and learned
    drawn = [] if masks is None else [masks.attn, masks.ff]
    y, m, _ = operator(x, kv, weights, drawn, *Plan.of(n, mixed, recording))
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
    return run(SEQUENCE, model, x, past, masks)
