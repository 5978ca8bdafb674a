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

**Who decides which code runs?** A file in a cache folder is code that nobody has read. So the
library is kept only where nobody else can write, and its name ends with the SHA-256 of what was
built: what has another content, because it was cut short or replaced, is deleted and built again.
Both are one `os.replace`, so several processes can build at once. Nothing is kept of a build that
was interrupted, not even one that then succeeded with fewer flags.
"""

import ctypes
import functools
import hashlib
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import warnings
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from ..config import ModelConfig
from ..support.files import cache_folder
from ..support.trust import make_private, printable, untrusted
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


STOPPED = re.compile(r"\b(signal|[Kk]illed|[Ii]nterrupted|No space left)\b")
"""What a compiler says that was stopped, and did not refuse a flag."""


def compiler() -> tuple[str, ...]:
    """
    The compiler: `$CXX`, or else the installed `c++` or `g++`; empty if there is none. `$CXX` may
    be several words, as in `ccache g++`, and its options come after ours, so that
    `CXX="c++ -march=x86-64"` builds for a processor other than this one. Raises `ValueError` if a
    quotation mark in it is never closed.
    """
    there = shutil.which("c++") or shutil.which("g++")
    return tuple(shlex.split(os.environ.get("CXX", ""))) or ((there,) if there else ())


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """
    Runs a compiler in a session of its own, so that a Ctrl-C in the terminal reaches only Python,
    which decides: if it raises `KeyboardInterrupt` here, the compiler and all that it started end.
    """
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    english = {**os.environ, "LC_ALL": "C"}
    with subprocess.Popen(command, env=english, start_new_session=True, **pipes) as process:
        try:
            said = process.communicate(timeout=300)[1].decode(errors="replace")
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, "", said)


def build(words: tuple[str, ...], target: Path) -> None:
    """
    Compiles the loop with the first of `CHOICES` that this compiler accepts, with OpenMP if it can:
    then the loop runs on PyTorch's own threads. Separate threads would have to share the cores with
    PyTorch's, which spin for a while after each operation, waiting for the next. Raises
    `CalledProcessError` if no choice can be compiled, or if the compiler was stopped, which says
    nothing about the flags.
    """
    first = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    for choice in CHOICES:
        command = [*words[:first], *choice, *FLAGS, *words[first:], str(SOURCE), "-o", str(target)]
        done = run(command)
        if done.returncode == 0:
            return
        if done.returncode < 0 or STOPPED.search(done.stderr):
            break
    done.check_returncode()


def processor(*names: str) -> str:
    """What the system says of the processor under one of these names, or else its plain name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    said = (line.partition(":")[2].strip() for line in lines if line.startswith(names))
    return next(said, platform.processor() or platform.machine())


def key(words: tuple[str, ...]) -> str:
    """What the library depends on, as a hash: sources, compiler, flags, processor."""
    sources = [path.read_bytes() for path in (SOURCE, *sorted(SOURCE.parent.glob("cpp/*.h")))]
    # `-march=native` builds for this processor, so the processor's features are part of the key.
    features = torch.backends.cpu.get_cpu_capability(), processor("flags", "Features")
    parts = repr([sources, words, CHOICES, FLAGS, platform.machine(), features])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def file_name(words: tuple[str, ...], content: bytes) -> str:
    """The library's file name: what it was built from, and the SHA-256 of what was built."""
    return f"native-{key(words)}-{hashlib.sha256(content).hexdigest()}.so"


def kept(words: tuple[str, ...], folder: Path) -> Path | None:
    """The library in `folder` that has the content its name says; one that has not is deleted."""
    for path in sorted(folder.glob(f"native-{key(words)}-*.so")):
        if untrusted(path) is None and path.name == file_name(words, path.read_bytes()):
            return path
        path.unlink(missing_ok=True)
    return None


def keep(words: tuple[str, ...], folder: Path) -> Path:
    """Builds the library, and keeps it in `folder`, completely or not at all."""
    with tempfile.TemporaryDirectory(dir=folder) as building:
        built = Path(building) / "native.so"
        build(words, built)
        built.chmod(0o700)
        path = folder / file_name(words, built.read_bytes())
        os.replace(built, path)
    return path


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
            raise OSError(f"{path} lays out its arguments differently from this Python")

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


def trusted(folder: Path) -> Path:
    """The folder itself, without links, made if need be; `OSError` if others can write to it."""
    make_private(folder)
    folder = folder.resolve()
    if why := untrusted(folder):
        raise OSError(f"{why}, or name another folder in $FEEDBACK_CACHE")
    return folder


@functools.cache
def load(words: tuple[str, ...], folder: Path) -> tuple[Library | None, str | None]:
    """
    The library of this compiler, from `folder` if it is there; or `None` and the reason, which is
    also given as a warning, once, unless it is that there is no compiler.
    """
    if not words:
        return None, "there is no C++ compiler here; install one, or name it in $CXX"
    try:
        folder = trusted(folder)
        return opened(kept(words, folder) or keep(words, folder)), None
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip().splitlines() or [f"exit code {error.returncode}"])[0]
        why = f"{words[0]} could not compile the C++ loop: {said}"
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = f"the C++ loop could not be built or loaded: {error}"
    return None, warned(why)


def opened(path: Path) -> Library:
    """The library at `path`, which is deleted if it cannot be loaded."""
    try:
        return Library(path)
    except (OSError, AttributeError) as error:
        path.unlink(missing_ok=True)
        raise OSError(str(error)) from error


def warned(why: str) -> str:
    """The reason, safe to print, after a warning that there is a slower way."""
    why = " ".join(printable(why).split())
    warnings.warn(f"PyTorch is used, which is slower: {why}", RuntimeWarning, stacklevel=2)
    return why


@functools.cache
def look_up(*environment: str | None) -> tuple[Library | None, str | None]:
    """`load` for the compiler and folder that these variables choose; cached, as it runs often."""
    try:
        return load(compiler(), cache_folder())
    except OSError as error:
        return None, warned(f"the C++ loop cannot be kept anywhere: {error}")
    except ValueError as error:
        return None, warned(f"$CXX is {os.environ.get('CXX')!r}, expected a command: {error}")


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
