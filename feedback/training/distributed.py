r"""
---
title: Several processes
summary: One run on many cores, GPUs or machines, whose loss does not depend on how many.
---

# Several processes

A batch of 32 rows can be read by one process, or by four with 8 rows each. Should anyone be able to
tell afterwards? Here the answer is no. What a step reads is a function of the seed, the step and
the *global row*, and a process is told only which rows are its own. So the loss does not depend on
the number of processes $N$, and what $N$ of them saved, $M$ can resume.

Each process holds its rows of the batch, the memory of its rows, and the whole model (unless that
is [divided](sharded.py) too). After the backward pass the gradients are averaged,

$$g = \frac1N \sum_{r=1}^{N} g_r,$$

which is the gradient of the whole batch, since all processes have equally many rows. From equal
weights and equal gradients all of them take the same step, so the weights are never sent again.

**Who does what?** The first process also writes: metrics, checkpoints, the lock, the progress bar.
When it saves, it gathers the memory of all rows. The rows of the validation text are shared out,
and their losses added up.

**What does it cost?** Each step sends as many numbers as the model has parameters, and one flag:
whether some process was asked to stop. It is agreed upon, so all of them stop after the same step.

**Why one plain sum after the backward pass,** and not `DistributedDataParallel`, which sends
gradients while others are still being computed? A feedback model learns all its weight gradients at
the very end, when the sweep back through time is done, so there is little to send earlier. And a
plain sum does not mind a step in which some parameter has no gradient, as with sequences of one
token.

What may depend on $N$ is dropout: each process draws masks of its own.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..support.interrupt import Interrupt

T = TypeVar("T")

SAID = "said"
"""The key under which the processes count who has reported the end of the run."""


def several() -> bool:
    """Whether this process has joined others."""
    return dist.is_available() and dist.is_initialized()


def size() -> int:
    """$N$, how many processes train together."""
    return dist.get_world_size() if several() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if several() else 0


def first() -> bool:
    """Whether this is the process that writes."""
    return rank() == 0


def local_rank() -> int:
    """The number of this process on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if several() else 0


def choose_device(name: str) -> torch.device:
    """The named device, a GPU for `auto` if there is one; `ValueError` if it is not usable."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and size() > 1:
        name = f"cuda:{local_rank()}"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).tolist()  # No device without numbers, such as meta.
        if device.type == "cuda":
            torch.cuda.set_device(device)  # Where NCCL allocates.
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device is {name!r}, unusable here; use cpu or auto") from error
    return device


def job() -> str:
    """
    Names the torchrun that started this process, the same after each restart; empty without one.
    The identifier alone would not do: unless it is given, that of several machines is `none`.
    """
    number = os.environ.get("TORCHELASTIC_RUN_ID")
    return "" if number is None else f"{number} {socket.gethostname()} {os.getppid()}"


@contextmanager
def joined() -> Iterator[Callable[[], bool]]:
    """
    ## Together until the end

    Joins the other processes, if torchrun started several. Gives a function that tells whether this
    process is the first to report why the run ends: a mistake that all of them notice is one line.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        yield lambda: True
        return
    use_threads()
    on_gpu = torch.cuda.is_available() and dist.is_nccl_available()
    store, number, processes = next(iter(dist.rendezvous("env://")))
    # The store outlives a restart, and must not give the addresses of processes that are gone.
    store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    # What is said on the CPU goes through gloo, which notices at once if a process is gone.
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=processes)

    def first_to_tell() -> bool:
        """Counts in the store, which belongs to torchrun and outlives the processes."""
        try:
            return bool(store.add(SAID, 1) == 1)
        except RuntimeError:
            return True

    try:
        yield first_to_tell
    finally:
        dist.destroy_process_group()


def use_threads() -> None:
    """
    Shares the cores of the machine among its processes; more threads than cores would wait for each
    other. `OMP_NUM_THREADS` wins, except 1: that is what torchrun sets if nobody has set it.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


@contextmanager
def reaching_all() -> Iterator[None]:
    """Raises `ConnectionError` if another process has ended."""
    try:
        yield
    except RuntimeError as error:
        raise ConnectionError(
            "another process of this run has ended; torchrun --max-restarts goes on from the last "
            "checkpoint by itself, --resume does so by hand"
        ) from error


def here(x: Tensor) -> Tensor:
    """The rows of this process among those of all."""
    return x.tensor_split(size())[rank()]


def everywhere(x: Tensor) -> Tensor:
    """The inverse of `here`, where all have equally many rows: each process gets all of them."""
    if not several():
        return x
    x = x.detach().cpu().contiguous()
    parts = [torch.empty_like(x) for _ in range(size())]
    with reaching_all():
        dist.all_gather(parts, x)
    return torch.cat(parts)


def average(tensors: list[Tensor]) -> None:
    """Replaces each tensor by its mean over the processes, all of them in one message."""
    if not several():
        return
    flat = torch.cat([x.flatten() for x in tensors])
    with reaching_all():
        dist.all_reduce(flat)
    flat /= size()
    for x, mean in zip(tensors, flat.split([x.numel() for x in tensors]), strict=True):
        x.copy_(mean.view_as(x))


def total(value: float) -> float:
    """The sum over the processes."""
    if not several():
        return value
    whole = torch.tensor(value, dtype=torch.float64)
    with reaching_all():
        dist.all_reduce(whole)
    return whole.item()


def copy_from_first(tensors: list[Tensor]) -> None:
    """Gives each process the values that the first one has."""
    for x in tensors if several() else []:
        with reaching_all():
            dist.broadcast(x.detach(), 0)


def from_first(action: Callable[[], T]) -> T:
    """What `action` returns in the first process, which is the only one that calls it."""
    if not several():
        return action()
    box = [action() if first() else None]
    with reaching_all():
        dist.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]  # type: ignore[return-value]


def agreed(interrupt: Interrupt) -> bool:
    """
    Whether a signal has asked any of the processes to stop. Then all of them will, after this step,
    with one exit code.
    """
    if not several():
        return interrupt.requested
    code = torch.tensor(interrupt.exit_code if interrupt.requested else 0)
    with reaching_all():
        dist.all_reduce(code, dist.ReduceOp.MAX)
    if code.item() > 0:
        interrupt.requested, interrupt.exit_code = True, int(code.item())
    return code.item() > 0
