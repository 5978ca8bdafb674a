r"""
---
title: A divided model
summary: Weights, gradients and the optimiser's state shared out, for a model that does not fit.
---

# A divided model

[Several processes](distributed.py) make room for more rows, not for a larger model: each of them
holds the weights, their gradients, and the two moments that AdamW keeps for every weight. That is
four numbers for each parameter, and $N$ times the same. With `--sharded` they are shared out too. A
process keeps one part of each tensor, cut along its first dimension,

$$W = \begin{pmatrix} W_1 \\ \vdots \\ W_N \end{pmatrix}, \qquad
  \big(W_r,\; g_r,\; \mathrm{E}[g]_r,\; \mathrm{E}[g^2]_r\big) \text{ in process } r,$$

and only the optimiser can work on a part. So before the forward pass each process gathers all parts
of the weights; after the backward pass the gradients are averaged, every process receives $g_r$
alone, and the rest is let go. This is `fully_shard` of PyTorch; losses and weights are those of one
process, up to the last bits of a sum.

**Why the model as a whole, and not layer by layer?** A parallel Transformer computes one layer for
all steps, and then needs its weights no more. Here every step of time goes through every layer. A
layer that is let go after use would be gathered again $T$ times, or not at all: the
[sweeps](../fast/sequence.py) read weights and call no modules, so nothing would tell the layer that
it is needed, and they [refuse](../fast/border.py) such a model. So while a step lasts, each process
has all weights, and at its end all gradients; the moments stay where they are, and between two
steps everything does.

**What is written is whole.** For a checkpoint, which holds the same tensors as ever, the first
process gathers them one by one in the memory of its machine. So what was begun like this can go on
in one process, and the other way round.
"""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..support.checks import require
from .distributed import everywhere, first, reaching_all, size


def shard(model: nn.Module, device: torch.device) -> None:
    """
    Shares out the parameters of a model among all processes, which must have equal ones. Raises
    `ValueError` if there is only one process.
    """
    require(
        size() > 1,
        "sharded divides a model among processes, and there is only one; start several with "
        "torchrun --nproc-per-node=2 -m -- feedback train --sharded, or leave --sharded out",
    )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    # Asked for a mean, gloo of earlier versions gives a sum, in silence.
    sums_only = "set_force_sum_reduction_for_comms"
    require(
        hasattr(FSDPModule, sums_only),
        f"sharded needs PyTorch 2.9 or later, and this is {torch.__version__}; update PyTorch, or "
        "leave --sharded out",
    )
    # Nothing here writes into what a model returns.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view")
    # The backward pass follows at once, so the weights stay until it is over.
    mesh = init_device_mesh(device.type, (size(),))
    fully_shard(model, mesh=mesh, reshard_after_forward=False)
    getattr(model, sums_only)(True)


def is_part(tensor: Any) -> bool:
    """Whether the numbers of `tensor` are shared out, so that this process has only some."""
    return hasattr(tensor, "full_tensor")


def own(tensor: Any) -> Tensor:
    """Those numbers of `tensor` that are in this process; all of them if it is not divided."""
    with torch.no_grad():
        return tensor.to_local() if is_part(tensor) else tensor


def divide(tensor: Tensor, like: Any) -> Tensor:
    """A whole tensor, which all processes have, divided as `like` is, or left whole as that is."""
    if not is_part(like) or is_part(tensor):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    same = DTensor.from_local(tensor.to(like.device), like.device_mesh, [Replicate()])
    # A copy, or the part would keep the whole alive.
    return same.redistribute(placements=like.placements).clone()


def gather(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """
    ## Whole again

    In the first process all of `tensors`, those that were divided on the CPU; in the others, which
    help one tensor after the other, nothing.
    """
    found = {}
    for name, tensor in tensors.items():
        if is_part(tensor):
            with reaching_all():
                tensor = tensor.detach().full_tensor()  # type: ignore[attr-defined]
            tensor = tensor.cpu() if first() else tensor
        if first():
            found[name] = tensor
    return found


def unshard(model: Any) -> None:
    """Gathers all weights of a divided model in each process, to stay until its backward pass."""
    if is_sharded(model):
        with reaching_all():
            model.unshard()


def is_sharded(model: Any) -> bool:
    """Whether `shard` has divided this model."""
    return hasattr(model, "unshard")


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """
    Inside, each process has the whole model, and can use it without the others; all of them have to
    enter.
    """
    unshard(model)
    try:
        yield
    finally:
        if is_sharded(model):
            model.reshard()


def clip(parameters: Iterable[nn.Parameter], most: float) -> Tensor:
    r"""
    ## The norm of the whole gradient

    Scales the gradient to a norm of at most `most`, and returns the norm that it had. That of the
    whole follows from those of the parts,

    $$\|g\|^2 = \sum_{r=1}^{N} \|g_r\|^2 .$$
    """
    parameters = list(parameters)
    grads = [p.grad for p in parameters if p.grad is not None]
    if not any(map(is_part, grads)):
        return nn.utils.clip_grad_norm_(parameters, most)
    parts = [own(grad) for grad in grads]
    length = torch.linalg.vector_norm
    # $\|g_r\|$
    norm = length(torch.stack([length(part) for part in parts]))
    # $\|g\|$
    norm = length(everywhere(norm[None]))
    for part in parts:
        part.mul_((most / (norm + 1e-6)).clamp(max=1))
    return norm
