r"""
---
title: The native loop
summary: The two sweeps in C++, where there is a compiler.
---

# The native loop

Half of the time that the whole-sequence function takes on a CPU is not arithmetic. With a width of
128 and a batch of 32, a layer step is some twenty-five operations forward and thirty backward, each
a few microseconds of work. Each also has overhead of about the same size, again at every step:
dispatch, a newly allocated output, or weights packed anew for the cache.

The remedy is old: write the loop in a compiled language. `native.cpp` is the two sweeps again,
with the same buffers and the same names; this module packs the weights, once for each sweep. Around
the sweeps only the products of the weight gradients are in C++, where that is faster.
"""

import ctypes
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..layers import DropoutMasks
from ..reference import Pairs, Recurrence
from ..support.checks import expect, require
from . import backward
from .border import check_call, objection
from .compiled import ACTIVATIONS, library, missing
from .sequence import Sweeps, operator, run
from .tape import MARGIN, Call, Gradients, Sizes, Stretch, Tape, slots_last
from .weights import MATRICES, Weights

KINDS = {torch.float32: "float", torch.float64: "double"}
"""The types of numbers that the loop supports, with their names in C++."""


def obstacle(model: Recurrence, x: Tensor) -> str | None:
    """Why the loop cannot compute this, in words; `None` if it can."""
    others = {str(p.dtype) for p in model.parameters() if p.dtype != x.dtype}
    if x.device.type != "cpu":
        return f"it runs only on the CPU, but the input is on {x.device}"
    if x.dtype not in KINDS:
        return f"it computes only in float32 or float64, but the input is {x.dtype}"
    if others:
        return f"the input is {x.dtype}, but some parameters are {', '.join(sorted(others))}"
    if torch.is_autocast_enabled("cpu"):
        return "it computes in one precision, but autocast asks for two"
    return objection(model, x) or missing()


def pack(matrices: Sequence[Tensor], transpose: bool) -> Tensor:
    """
    Packs matrices of one shape as panels of columns, in the order in which a product reads them;
    each matrix becomes one row. They are packed for `x W^T`, or, with `transpose=False`, for `g W`.
    """
    first, call = matrices[0], library().call
    kind, (rows, columns) = KINDS[first.dtype], first.shape
    # The distances to the next row and column, and the numbers of rows and columns.
    layout = (1, columns, columns, rows) if transpose else (columns, 1, rows, columns)
    packed = first.new_empty(len(matrices), packed_size(first, *layout[2:]))
    for matrix, row in zip(matrices, packed, strict=True):
        call("pack", kind, matrix.contiguous(), *layout, row)
    return packed


def packed_size(like: Tensor, depth: int, columns: int) -> int:
    """How many numbers a packed `(depth, columns)` matrix has: its last panel may be padded."""
    panel = library().call("panel", KINDS[like.dtype])
    return -(-columns // panel) * panel * depth


def add_product(total: Tensor, grad: Tensor, rows: Tensor) -> None:
    """
    The product of a weight gradient, in C++ if that is faster there than PyTorch's.
    """
    if not library().functions.faster_products():
        return backward.add_product(total, grad, rows)
    (depth, height), width = grad.shape, rows.shape[1]
    room = rows.new_empty(packed_size(rows, depth, width))
    library().call("add_product", KINDS[rows.dtype], grad, rows, depth, height, width, room, total)


def in_order(w: Weights, transpose: bool) -> dict[str, Tensor]:
    """
    The weights as the C++ code reads them, forward, or, with `transpose=False`, backward: matrices
    packed, and positions by rows of slots, or slot by slot, padded so that a loop may read one
    vector past the end.
    """
    p = F.pad(w.p, (0, MARGIN)) if transpose else F.pad(w.p.mT, (0, 0, 0, MARGIN))
    tensors = w._replace(p=p)._asdict()
    packed = {name: pack(tensors[name], transpose) for name in MATRICES}
    packed |= {"wkv": pack([w.wkv], transpose)}
    rest = {name: tensors[name].contiguous() for name in tensors if name not in packed}
    return packed | rest


def choose_groups(n: Sizes, threads: int, bytes_per_number: int) -> int:
    """
    How many groups the threads form: as many as divide the threads and leave each four rows of the
    batch or more; a single one if the weights are more than 16 MiB, too much for each group to read
    at every step.
    """
    matrices = n.D * (n.L * (2 * n.H * n.K + n.wide + n.F) + n.P * 2 * n.H * n.K)
    if matrices * bytes_per_number > 16 * 2**20:
        return 1
    return next(g for g in range(min(threads, max(1, n.B // 4)), 0, -1) if threads % g == 0)


class Loop:
    """
    ## One call of the library

    Holds the struct of arguments, and the tensors that it points to for its whole life.
    """

    def __init__(self, n: Sizes, tensors: dict[str, Tensor], masks: DropoutMasks | None = None):
        """`tensors` maps the names of tensors in the C++ code to the tensors."""
        x, threads, self.library = tensors["x"], torch.get_num_threads(), library()
        self.kind, sizes = KINDS[x.dtype], n._asdict()
        sizes["activation"] = ACTIVATIONS.index(n.activation)
        self.arguments = self.library.arguments(
            **sizes,
            slots=n.S + n.T + MARGIN,
            relu_only=n.relu_only,
            rows=x.shape[1],
            longest=n.longest,
            attn_slots=tensors["attn"].shape[-1] // n.B,
            mask_slots=0 if masks is None else masks.attn.shape[-1],
            threads=threads,
            groups=choose_groups(n, threads, x.element_size()),
        )
        if masks is not None:
            tensors = {**tensors, "mask_attn": masks.attn, "mask_ff": masks.ff}
        size = self.library.call("scratch", self.kind, ctypes.byref(self.arguments))
        self.tensors = {**tensors, "scratch": x.new_empty(size), "windows": n.windows()}
        self.point(self.tensors)

    def point(self, tensors: dict[str, Tensor]) -> None:
        """Makes the arguments of these names point to these tensors."""
        for name, tensor in tensors.items():
            assert name in self.library.names, name
            require(
                tensor.is_contiguous() and tensor.is_cpu and not tensor.is_neg(),
                f"the C++ loop cannot read {name} where it is; pass tensors that own their numbers",
            )
            setattr(self.arguments, name, tensor.data_ptr())

    def run(self, sweep: str, first: int, steps: int, tensors: dict[str, Tensor]) -> None:
        """Runs a sweep over `steps` steps from `first` on, with `tensors` for this run only."""
        self.point(tensors)
        self.arguments.first, self.arguments.steps = first, steps
        self.library.call(sweep, self.kind, ctypes.byref(self.arguments))


def sweep_forward(call: Call, x: Tensor) -> Tensor:
    """The sweep of `forward`, in C++."""
    n, w, tape, masks = call
    x, out = x.contiguous(), tape.outputs()
    tensors = {**in_order(w, transpose=True), **tape._asdict(), "v": tape.v.mT}
    Loop(n, tensors, masks).run("forward", 0, n.T, {"in": x, "out": out})
    return out


def sweep_backward(
    call: Call, total: Gradients, dout: Tensor, dm_out: Tensor | None
) -> Callable[[Stretch], None]:
    """The sweep of `backward`, in C++."""
    n, w, tape, masks = call
    tensors = {**in_order(w, transpose=False), **tape._asdict(), "dout": dout.contiguous()}
    # Back along the other side: keys slot by slot, and values by rows of slots.
    tensors |= {"k": tape.k.mT.contiguous(), "v": tape.v.contiguous()}
    tensors |= dict(zip(("dk", "dv"), total.cache, strict=True))
    if dm_out is not None:
        tensors["dm_out"] = dm_out.contiguous()
    loop = Loop(n, tensors, masks)
    return lambda s: loop.run("backward", s.first, s.steps, s.adjoint._asdict())


NATIVE = operator("native", Sweeps(sweep_forward, sweep_backward, add_product))


def native_forward(
    model: Recurrence, x: Tensor, past: Tensor, masks: DropoutMasks | None
) -> tuple[Tensor, Tensor]:
    r"""
    ## The whole sequence

    The same function of the same arguments as the reference. Raises `ValueError` where the loop
    cannot run, and says why.
    """
    why = obstacle(model, x)
    require(
        why is None,
        f"implementation 'native' cannot run here: {why}; use 'auto', which takes the fastest",
    )
    return run(NATIVE, model, x, past, masks)


class NativeSteps:
    """
    ## One step at a time

    For decoding: a forward sweep of a single step, over a tape with room for one. The weights are
    packed once. There is room for as many new slots as may be needed, but at most `mem_len`; when
    these are used up, the last window moves to a new tape.
    """

    def __init__(self, model: Recurrence, pairs: Pairs, steps: int):
        """Continues after the windows `pairs`, `(B, H, S, K)`, for at most `steps` steps."""
        self.config, self.left = model.config, steps
        past, weights = list(slots_last(pairs)), Weights.of(model, model.config.mem_len)
        B, S = past[0].shape[2], past[0].shape[-1]
        n = Sizes.of(self.config, 1, B, S, None)._replace(W=self.config.mem_len)
        check_call(n, past[0].new_empty(1, B, n.D), past, None, weights, mixed=False)
        self.weights = in_order(weights, transpose=True)
        self.begin(torch.stack(past))

    def begin(self, past: Tensor) -> None:
        """Makes a tape that begins with the slots `past`, `(2, P, H, B, K, S)`."""
        c, (B, S) = self.config, (past.shape[3], past.shape[-1])
        n = Sizes.of(c, max(1, min(self.left, c.mem_len)), B, S, None)
        self.n, self.at = n._replace(W=c.mem_len), 0
        self.tape = Tape.make(self.n, past, past.dtype, recording=False)
        self.tape.k[..., :S], self.tape.v[..., :S] = past
        out = past.new_empty(B, c.d_model)
        tensors = {**self.weights, **self.tape._asdict(), "v": self.tape.v.mT, "out": out}
        self.loop = Loop(self.n, tensors)

    def __call__(self, x: Tensor) -> Tensor:
        """One step, from $x_t^0$ to $x_t^L$, both `(B, D)`; the next step overwrites the result."""
        if self.at == self.n.T:
            start, end = self.n.window(self.n.T)
            self.begin(torch.stack([self.tape.k, self.tape.v])[..., start:end])
        there = self.loop.tensors["out"].shape
        expect(x.shape == there, "the shape of the input", tuple(x.shape), f"{tuple(there)}")
        self.loop.run("forward", self.at, 1, {"in": x.to(self.tape.x.dtype).contiguous()})
        self.at += 1
        self.left -= 1
        return self.loop.tensors["out"]
