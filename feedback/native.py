r"""
---
title: The native loop
summary: The two sweeps in C++, compiled on first use, where there is a compiler.
---

# The native loop

Most of the time that the whole-sequence function takes on a CPU is not arithmetic. At
128 wide and a batch of 32, a layer step is thirty operations of a few microseconds of work each,
and each of them costs about as much again to be dispatched, to get its output
allocated, or to have its weights packed for the cache, anew at every step.

The remedy is old: write the loop in a compiled language. `native.cpp` is the two sweeps again,
with the same buffers and the same names; the weights are packed once a training step, here.
Everything around them, folding, saving, and all weight gradients, stays in PyTorch.

It is compiled by whatever `c++` there is, in a few seconds, on first use, and kept in the user's
cache. Where that fails, on a GPU, or under autocast, the sweeps in PyTorch do the same.
`FEEDBACK_NATIVE=0` in the environment asks for those.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import torch
import torch.nn.functional as F
from torch import Tensor

from .folding import Weights
from .layers import Keep
from .tape import Adjoint, Shape, Tape

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
ROWS = 512
"""Rows of a stretch of the backward sweep."""

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
    "keep_slots",
    "threads",
    "groups",
    "first",
    "steps",
]
POINTERS = (
    *Weights._fields,
    *Tape._fields,
    *(name for name in Adjoint._fields if not name.endswith("_past")),
    *("dk", "dv", "in", "dout", "dm_out", "out", "keep_attn", "keep_ff", "scratch"),
)


class Arguments(ctypes.Structure):
    """What the C++ code is told: the struct of the same name there."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in INTEGERS),
        ("dropout", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in POINTERS),
    )


def build(compiler: str, target: Path) -> None:
    """
    Compiles the loop, with OpenMP if there is any: then it runs on PyTorch's own threads. Its own
    would have to share the cores with PyTorch's, which spin for a while after each
    operation, waiting for the next. Raises `CalledProcessError` if it cannot be compiled.
    """
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(target)]
    options = {"check": True, "capture_output": True, "timeout": 300}
    try:
        subprocess.run([*command, "-fopenmp"], **options)
    except subprocess.CalledProcessError:
        subprocess.run([*command, "-fopenmp-simd"], **options)


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled loop, or `None` where there is no compiler, or it is not wanted."""
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if os.environ.get("FEEDBACK_NATIVE") == "0" or compiler is None:
        return None
    # `-march=native` makes a library for this processor, so its features are part of the name.
    features = [platform.machine(), torch.backends.cpu.get_cpu_capability(), platform.processor()]
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features += [line for line in lines if line.startswith(("flags", "Features"))][:1]
    key = repr([SOURCE.read_bytes(), compiler, FLAGS, features])
    name = f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    folder = Path(platformdirs.user_cache_dir("feedback-transformer", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            with tempfile.TemporaryDirectory(dir=folder) as building:
                built = Path(building) / name
                build(compiler, built)
                os.replace(built, folder / name)
        return ctypes.CDLL(str(folder / name))
    except (OSError, subprocess.SubprocessError):
        return None


def usable(x: Tensor, w: Weights) -> bool:
    """Whether the native loop can compute this: on the CPU, all in one precision that it knows."""
    return (
        x.device.type == "cpu"
        and x.dtype in NAMES
        and w.wq.dtype == x.dtype
        and library() is not None
    )


def pack(matrix: Tensor, panel: int) -> Tensor:
    """
    `(..., R, C)` as panels of `panel` columns, `(..., C / panel, R, panel)`: in the order
    in which a product reads them. The last panel is filled up with zeros.
    """
    padded = F.pad(matrix, (0, -matrix.shape[-1] % panel))
    return padded.unflatten(-1, (-1, panel)).transpose(-3, -2).contiguous()


def choose_groups(n: Shape, threads: int, bytes_per_number: int) -> int:
    """
    Into how many groups the threads divide. All by themselves, each with some rows of the batch, as
    long as there are rows enough and every core can afford to read all weights at each step.
    """
    matrices = n.L * n.D * (2 * n.H * n.K + 2 * n.F) + n.P * 2 * n.H * n.K * n.D
    if matrices * bytes_per_number > 16 * 2**20:
        return 1
    return next(g for g in range(min(threads, max(1, n.B // 4)), 0, -1) if threads % g == 0)


def call(
    sweep: str,
    n: Shape,
    packed: dict[str, Tensor],
    tensors: dict[str, Any],
    keep: Keep | None,
    first: int,
    steps: int,
) -> None:
    """
    Runs a sweep over `steps` steps from `first` on; `tensors` are given by the names that they have
    in the C++ code.
    """
    x = tensors["x"]
    loop, kind = library(), NAMES[x.dtype]
    threads = torch.get_num_threads()
    arguments = Arguments(
        **{name: getattr(n, name) for name in ["T", "B", "D", "H", "K", "L", "F", "P", "S", "W"]},
        slots=tensors["k"].shape[-1],
        activation=ACTIVATIONS.index(n.activation),
        norm_memory=n.norm_memory,
        relu_only=n.relu_only,
        recording=x.shape[1] == n.T,
        keep_slots=0 if keep is None else keep.attn.shape[-1],
        threads=threads,
        groups=choose_groups(n, threads, x.element_size()),
        first=first,
        steps=steps,
        dropout=n.dropout,
    )
    if keep is not None:
        tensors = {**tensors, "keep_attn": keep.attn, "keep_ff": keep.ff}
    size = getattr(loop, f"scratch_{kind}")
    size.restype = ctypes.c_int64
    scratch = x.new_empty(size(ctypes.byref(arguments)))
    tensors = {**tensors, **packed, "scratch": scratch}
    for name, tensor in tensors.items():
        assert tensor.is_contiguous(), name
        setattr(arguments, name, tensor.data_ptr())
    getattr(loop, f"{sweep}_{kind}")(ctypes.byref(arguments))


def panel_width(w: Weights) -> int:
    """Columns of a panel: two vectors of this processor."""
    return getattr(library(), f"panel_{NAMES[w.wq.dtype]}")()


def panels(w: Weights, n: Shape, transpose: bool) -> dict[str, Tensor]:
    """The matrices packed for `x W^T`, or, with `transpose=False`, for `g W`."""
    panel = panel_width(w)
    matrices = {name: getattr(w, name) for name in ("wq", "wo", "w1", "w2", "wkv")}
    return {
        name: pack(matrix.mT if transpose else matrix, panel) for name, matrix in matrices.items()
    }


def in_order(w: Weights) -> dict[str, Tensor]:
    """The weights as the C++ code reads them; a row of positions has room for one vector more."""
    w = w._replace(p=F.pad(w.p, (0, panel_width(w) // 2)))
    return {name: tensor.contiguous() for name, tensor in w._asdict().items()}


def sweep_forward(n: Shape, w: Weights, tape: Tape, x: Tensor, keep: Keep | None) -> Tensor:
    """The forward sweep of `sequence`, native."""
    x = x.contiguous()
    out = torch.empty_like(x)
    weights = in_order(w)
    tensors = {**weights, **tape._asdict(), "in": x, "out": out}
    call("forward", n, panels(w, n, transpose=True), tensors, keep, 0, n.T)
    return out


def sweep_backward(
    n: Shape, w: Weights, tape: Tape, dout: Tensor, dm_out: Tensor, keep: Keep | None
) -> Iterator[tuple[int, Adjoint]]:
    """
    The backward sweep of `sequence`, native, in stretches of about `ROWS` rows: enough for a fast
    product, and the adjoint of a whole sequence is never in memory at once.
    """
    dk, dv = torch.zeros_like(tape.k), torch.zeros_like(tape.v)
    fixed = {**in_order(w), **tape._asdict(), "dk": dk, "dv": dv}
    fixed |= {"dout": dout.contiguous(), "dm_out": dm_out.contiguous()}
    packed, size = panels(w, n, transpose=False), -(-ROWS // n.B)
    for first in reversed(range(0, n.T, size)):
        steps = min(size, n.T - first)
        g = Adjoint.make(n._replace(T=steps), tape)
        parts = {k: v for k, v in g._asdict().items() if not k.endswith("_past")}
        call("backward", n, packed, {**fixed, **parts}, keep, first, steps)
        yield first, g._replace(dk_past=dk[..., : n.S], dv_past=dv[..., : n.S])
