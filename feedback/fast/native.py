r"""
---
title: The native loop
summary: The two sweeps in C++, compiled on first use, where there is a compiler.
---

# The native loop

Most of the time that the whole-sequence function takes on a CPU is not arithmetic. At
128 wide and a batch of 32, a layer step is some twenty operations forward and thirty-five back, of
a few microseconds of work each, and each of them costs about as much again to be dispatched, to get
its output allocated, or to have its weights packed for the cache, anew at every step.

The remedy is old: write the loop in a compiled language. `native.cpp` is the two sweeps again,
with the same buffers and the same names; the weights are packed once a training step, here.
Everything around them, what is saved and all weight gradients, stays in PyTorch.

It is compiled by whatever `c++` there is, in a few seconds, on first use, and kept in the user's
cache. Where that fails, on a GPU, or under autocast, the sweeps in PyTorch do the same.
`FEEDBACK_NATIVE=0` in the environment asks for those.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import Keep
from ..memory import Memory
from ..support.files import cache_folder
from .backward import Stretch, finish_small_gradients, recompute
from .tape import MARGIN, Adjoint, Shape, Tape, slots_last
from .weights import SMALL, Weights

if TYPE_CHECKING:
    from ..model import FeedbackTransformer

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = [
    "-O3",
    "-march=native",
    "-std=c++17",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
    "-pthread",
]

NAMES = {torch.float32: "float", torch.float64: "double"}
ACTIVATIONS = ("relu", "gelu", "swiglu")

INTEGERS = [
    "T",
    "B",
    "D",
    "H",
    "K",
    "L",
    "F",
    "P",
    "S",
    "W",
    "slots",
    "activation",
    "norm_memory",
    "relu_only",
    "recording",
    "lean",
    "keep_slots",
    "threads",
    "groups",
    "first",
    "steps",
]
RECOMPUTED = ("x_mean", "x_rstd", "y_mean", "y_rstd", "q", "m_mean", "m_rstd")
POINTERS = (
    *Weights._fields,
    *Tape._fields,
    *RECOMPUTED,
    *Adjoint._fields,
    *("dk", "dv"),
    *(f"d_{name}" for name in SMALL),
    *("in", "dout", "dm_out", "out", "keep_attn", "keep_ff", "scratch"),
)


class Arguments(ctypes.Structure):
    """What the C++ code is told: the struct of the same name there."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in INTEGERS),
        ("dropout", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in POINTERS),
    )


def compiler() -> list[str] | None:
    """
    What compiles: `$CXX`, or the `c++` there is; `None` if there is none. `$CXX` may be several
    words, as in `ccache g++`, and its options stand behind ours, so that
    `CXX="c++ -march=x86-64"` builds for another processor than this one.
    """
    words = shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or shutil.which("g++")]
    if words == [None]:
        return None
    options = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:options], *FLAGS, *words[options:]]


def build(command: list[str], target: Path) -> None:
    """
    Compiles the loop, with OpenMP if there is any: then it runs on PyTorch's own threads. Its own
    would have to share the cores with PyTorch's, which spin for a while after each
    operation, waiting for the next. Raises `CalledProcessError` if it cannot be compiled.
    """
    command = [*command, str(SOURCE), "-o", str(target)]
    options = {"check": True, "capture_output": True, "timeout": 300}
    try:
        subprocess.run([*command, "-fopenmp"], **options)
    except subprocess.CalledProcessError:
        subprocess.run([*command, "-fopenmp-simd"], **options)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loop, or `None` where there is no compiler, or it is not wanted."""
    command = compiler()
    if os.environ.get("FEEDBACK_NATIVE") == "0" or command is None:
        return None
    # `-march=native` makes a library for this processor, so its features are part of the name.
    features = [platform.machine(), torch.backends.cpu.get_cpu_capability(), platform.processor()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    key = repr([SOURCE.read_bytes(), command, features])
    name = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            with tempfile.TemporaryDirectory(dir=folder) as building:
                built = Path(building) / name
                build(command, built)
                os.replace(built, folder / name)
        return ctypes.CDLL(str(folder / name))
    except (OSError, subprocess.SubprocessError):
        return None


def usable(x: Tensor, w: Weights) -> bool:
    """Whether the native loop can compute this: on the CPU, all in one precision that it knows."""
    return (
        x.device.type == "cpu"
        and x.dtype in NAMES
        and all(weight.dtype == x.dtype for weight in w.tensors())
        and library() is not None
    )


def pack(matrices: Sequence[Tensor], transpose: bool) -> Tensor:
    """
    Matrices of one shape as panels of columns, a row for each: in the order in which a product
    reads them. They are packed for `x W^T`, or, with `transpose=False`, for `g W`.
    """
    first = matrices[0]
    kind, (rows, columns) = NAMES[first.dtype], first.shape
    panel = getattr(library(), f"panel_{kind}")()
    depth, width = (columns, rows) if transpose else (rows, columns)
    packed = first.new_empty(len(matrices), -(-width // panel) * panel * depth)
    sizes = [ctypes.c_int64(size) for size in (rows, columns, transpose)]
    for matrix, row in zip(matrices, packed, strict=True):
        matrix = matrix.contiguous()
        source, target = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (matrix, row))
        getattr(library(), f"pack_{kind}")(source, *sizes, target)
    return packed


def choose_groups(n: Shape, threads: int, bytes_per_number: int) -> int:
    """
    Into how many groups the threads divide. All by themselves, each with some rows of the batch, as
    long as there are rows enough and every core can afford to read all weights at each step.
    """
    if n.matrices * bytes_per_number > 16 * 2**20:
        return 1
    return next(g for g in range(min(threads, max(1, n.B // 4)), 0, -1) if threads % g == 0)


def arguments(
    n: Shape, tensors: dict[str, Tensor], keep: Keep | None, first: int, steps: int
) -> Arguments:
    """
    What a sweep over `steps` steps from `first` on is told; `tensors` are given by the names that
    they have in the C++ code.
    """
    x, names = tensors["x"], ("T", "B", "D", "H", "K", "L", "F", "P", "S", "W")
    threads = torch.get_num_threads()
    told = Arguments(
        **{name: getattr(n, name) for name in names},
        slots=tensors["k"].shape[-1],
        activation=ACTIVATIONS.index(n.activation),
        norm_memory=n.norm_memory,
        relu_only=n.relu_only,
        lean=n.lean,
        recording=x.shape[1] == len(tensors["m"]),
        keep_slots=0 if keep is None else keep.attn.shape[-1],
        threads=threads,
        groups=choose_groups(n, threads, x.element_size()),
        first=first,
        steps=steps,
        dropout=n.dropout,
    )
    if keep is not None:
        tensors = {**tensors, "keep_attn": keep.attn, "keep_ff": keep.ff}
    size = getattr(library(), f"scratch_{NAMES[x.dtype]}")
    size.restype = ctypes.c_int64
    tensors = {**tensors, "scratch": x.new_empty(size(ctypes.byref(told)))}
    for name, tensor in tensors.items():
        assert tensor.is_contiguous(), name
        setattr(told, name, tensor.data_ptr())
    # Or else nobody would know that they are in use.
    told.tensors = tensors
    return told


def call(sweep: str, told: Arguments) -> None:
    """Runs a sweep."""
    kind = NAMES[told.tensors["x"].dtype]
    getattr(library(), f"{sweep}_{kind}")(ctypes.byref(told))


def in_order(w: Weights, transpose: bool) -> dict[str, Tensor]:
    """
    The weights as the C++ code reads them: matrices packed, and a row of positions with room for
    one vector more.
    """
    matrices = {name: getattr(w, name) for name in ("wq", "wo", "w1", "w2")} | {"wkv": [w.wkv]}
    packed = {name: pack(those, transpose) for name, those in matrices.items()}
    rest = w._replace(p=F.pad(w.p, (0, MARGIN)))._asdict()
    return {name: packed[name] if name in packed else rest[name].contiguous() for name in rest}


def sweep_forward(n: Shape, w: Weights, tape: Tape, x: Tensor, keep: Keep | None) -> Tensor:
    """The sweep of `forward`, native."""
    x, out = x.contiguous(), tape.outputs()
    tensors = {**in_order(w, transpose=True), **tape._asdict(), "in": x, "out": out}
    call("forward", arguments(n, tensors, keep, 0, n.T))
    return out


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
    """The sweep of `backward`, native."""
    fixed = {**in_order(w, transpose=False), **tape._asdict(), "dk": d_cache[0], "dv": d_cache[1]}
    fixed["dout"] = dout.contiguous()
    if dm_out is not None:
        fixed["dm_out"] = dm_out.contiguous()
    # Each thread adds up its own, and they meet at the end.
    threads = torch.get_num_threads()
    small = {name: tape.x.new_zeros(threads, *getattr(w, name).shape) for name in SMALL}
    fixed |= {f"d_{name}": parts for name, parts in small.items()}
    g = None
    for first, steps in n.stretches():
        # The last stretch, which comes first, may be shorter than the others.
        if g is None or len(g.dm) != steps:
            g = None
            g = Adjoint.make(n._replace(T=steps), tape)
        again = recompute(n, w, tape, first, steps)
        names = (*RECOMPUTED, "pre") if n.lean else RECOMPUTED
        parts = {name: getattr(again, name) for name in names}
        parts |= {name: it for name, it in g._asdict().items() if name in POINTERS}
        call("backward", arguments(n, fixed | parts, keep, first, steps))
        yield first, again, g
        del again, parts
    for name, parts in small.items():
        getattr(dw, name).add_(parts.sum(0))
    finish_small_gradients(w, dw)


class NativeSteps:
    """
    ## One step at a time

    For decoding: a forward sweep of a single step, over a tape of a single row. The weights are
    packed once, and there is room for as many slots as may be needed, or for `mem_len` new ones;
    when these are used up the last slots move to a new tape.
    """

    def __init__(self, stack: "FeedbackTransformer", memory: Memory, steps: int):
        """Continues after `memory`, at most `steps` times."""
        self.stack, self.left = stack, steps
        w = Weights.of(stack, stack.config.mem_len)
        self.weights = in_order(w, transpose=True)
        self.begin(torch.stack(list(slots_last(stack.remembered(memory)))))

    @staticmethod
    def usable(stack: nn.Module) -> bool:
        """Whether the steps of a stack can be taken by the native loop."""
        if getattr(stack, "implementation", None) != "sequence" or torch.is_autocast_enabled("cpu"):
            return False
        return usable(stack.norm.weight, Weights.of(stack, 1))

    def begin(self, past: Tensor) -> None:
        """Makes a tape that begins with the slots `past`, `(2, P, H, B, K, S)`."""
        c, (B, S) = self.stack.config, (past.shape[3], past.shape[-1])
        self.n = Shape.of(c, T=max(1, min(self.left, c.mem_len)), B=B, S=S, W=c.mem_len)
        self.tape = Tape.make(self.n, past, past.dtype, recording=False)
        self.tape.k[..., :S], self.tape.v[..., :S] = past
        tensors = {**self.weights, **self.tape._asdict(), "out": past.new_empty(B, c.d_model)}
        self.told = arguments(self.n, tensors, None, first=0, steps=1)

    def __call__(self, x: Tensor) -> Tensor:
        """One step, `(B, D)` to `(B, D)`."""
        if self.told.first == self.n.T:
            start, end = self.n.window(self.n.T)
            self.begin(torch.stack([self.tape.k, self.tape.v])[..., start:end])
        x = x.to(self.tape.x.dtype).contiguous()
        setattr(self.told, "in", x.data_ptr())
        call("forward", self.told)
        self.told.first += 1
        self.left -= 1
        return self.stack.norm(self.told.tensors["out"])
