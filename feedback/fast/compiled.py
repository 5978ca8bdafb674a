r"""
---
title: The compiled library
summary: The C++ loop, compiled on first use, and the one struct that Python and C++ share.
---

# The compiled library

The loop is compiled on first use by whatever `c++` is installed, which takes a few seconds, and is
kept in the cache folder. No constant, field or table that both have to know is written twice.
Constants are passed to the compiler, and the struct of arguments is listed only in C++: the
library tells Python the names and kinds of its fields, and its size.
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
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from ..config import ModelConfig
from ..support.files import cache_folder
from .forward import EPSILON
from .tape import MARGIN

SOURCE = Path(__file__).with_name("native.cpp")
ACTIVATIONS = get_args(get_type_hints(ModelConfig)["activation"])
CONSTANTS = {
    "MARGIN": MARGIN,
    "EPSILON": EPSILON,
    **{name.upper(): number for number, name in enumerate(ACTIVATIONS)},
}
FLAGS = (
    *("-O3", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC", "-pthread"),
    *(f"-D{name}={value}" for name, value in CONSTANTS.items()),
)
CHOICES = (
    ("-march=native", "-fopenmp"),
    ("-march=native", "-fopenmp-simd"),
    ("-mcpu=native", "-fopenmp-simd"),
    (),
)
"""Flags that not every compiler accepts, the best first."""

FIELD_KINDS: dict[str, Any] = {"Int": ctypes.c_int64, "double": ctypes.c_double}
"""The `ctypes` types of the kinds of fields in the struct; all others are pointers."""


def compiler() -> tuple[str, ...]:
    """
    The compiler: `$CXX`, or else the installed `c++` or `g++`; empty if there is none. `$CXX` may
    be several words, as in `ccache g++`, and its options come after ours, so that
    `CXX="c++ -march=x86-64"` builds for a processor other than this one.
    """
    there = shutil.which("c++") or shutil.which("g++")
    return tuple(shlex.split(os.environ.get("CXX", ""))) or ((there,) if there else ())


def build(words: tuple[str, ...], target: Path) -> None:
    """
    Compiles the loop with the first of `CHOICES` that this compiler accepts, with OpenMP if it can:
    then the loop runs on PyTorch's own threads. Separate threads would have to share the cores with
    PyTorch's, which spin for a while after each operation, waiting for the next. Raises
    `CalledProcessError` if no choice can be compiled.
    """
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    for choice in CHOICES:
        command = [*words[:first], *choice, *FLAGS, *words[first:], str(SOURCE), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode == 0:
            return
    done.check_returncode()


def processor(*names: str) -> str:
    """What the system says of the processor under one of these names, or else its plain name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    said = (line.partition(":")[2].strip() for line in lines if line.startswith(names))
    return next(said, platform.processor() or platform.machine())


def file_name(words: tuple[str, ...]) -> str:
    """The library's file name: a hash of its sources, the compiler, its flags, the processor."""
    sources = [path.read_bytes() for path in (SOURCE, *sorted(SOURCE.parent.glob("cpp/*.h")))]
    # `-march=native` builds for this processor, so the processor's features are part of the name.
    features = torch.backends.cpu.get_cpu_capability(), processor("flags", "Features")
    key = repr([sources, words, CHOICES, FLAGS, platform.machine(), features])
    return f"native-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"


class Library:
    """
    ## The loaded library
    """

    def __init__(self, path: Path):
        self.functions = ctypes.CDLL(str(path))
        for name in ("scratch_float", "scratch_double", "arguments_size"):
            getattr(self.functions, name).restype = ctypes.c_int64
        self.functions.arguments_fields.restype = ctypes.c_char_p
        words = self.functions.arguments_fields().decode().split()
        pairs = [word.split(":") for word in words]

        class Arguments(ctypes.Structure):
            """The struct of the same name in C++."""

            _fields_ = tuple((name, FIELD_KINDS.get(kind, ctypes.c_void_p)) for kind, name in pairs)

        self.names = frozenset(name for _, name in pairs)
        self.Arguments = Arguments
        if ctypes.sizeof(Arguments) != self.functions.arguments_size():
            raise OSError(f"{path} lays out its arguments differently from this Python; delete it")

    def arguments(self, **values: object) -> ctypes.Structure:
        """The struct with these values; an unknown name is an error."""
        unknown = values.keys() - self.names
        assert not unknown, f"the library knows no {', '.join(sorted(unknown))}"
        return self.Arguments(**values)

    def call(self, name: str, kind: str, *arguments: object) -> int:
        """
        Calls the version of a function for one kind of numbers, `float` or `double`. Tensors, which
        must be contiguous, are passed by their address.
        """
        return getattr(self.functions, f"{name}_{kind}")(*map(passed, arguments))


def passed(argument: Any) -> Any:
    """An argument as C++ takes it."""
    if isinstance(argument, torch.Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_int64(argument) if isinstance(argument, int) else argument


@functools.cache
def load(words: tuple[str, ...], folder: Path) -> tuple[Library | None, str | None]:
    """The library of this compiler, from `folder` if it is there; or `None` and the reason."""
    if not words:
        return None, "there is no C++ compiler here; install one, or name it in $CXX"
    name = file_name(words)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            with tempfile.TemporaryDirectory(dir=folder) as building:
                built = Path(building) / name
                build(words, built)
                os.replace(built, folder / name)
        return Library(folder / name), None
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[0]
        return None, f"{words[0]} could not compile the C++ loop: {said}"
    except (OSError, subprocess.SubprocessError) as error:
        return None, f"the C++ loop could not be built or loaded: {error}"


@functools.cache
def look_up(*environment: str | None) -> tuple[Library | None, str | None]:
    """`load` for the compiler and folder that these variables choose; cached, as it runs often."""
    try:
        return load(compiler(), cache_folder())
    except OSError as error:
        return None, f"the C++ loop cannot be kept anywhere: {error}"


def found() -> tuple[Library | None, str | None]:
    """The compiled loop, or why there is none."""
    return look_up(
        *map(os.environ.get, ("CXX", "PATH", "FEEDBACK_CACHE", "HOME", "XDG_CACHE_HOME"))
    )


def library() -> Library:
    """The compiled loop; raises `ValueError` if there is none."""
    loop, why = found()
    if loop is None:
        raise ValueError(why)
    return loop


@torch.compiler.assume_constant_result
def missing() -> str | None:
    """Why there is no compiled loop; `None` if there is one."""
    return found()[1]
