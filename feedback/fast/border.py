r"""
---
title: The border
summary: Whether a model and its tensors are what the sweeps take them for.
---

# The border

Why are the sweeps fast? Because they read the parameters and call no modules. So what happens to a
model whose modules have become something else: a layer with a hook, a matrix wrapped for
fine-tuning, a feed-forward sublayer made narrower? A sweep that noticed nothing would compute
another function in silence, and C++, to which a tensor is an address, might write past its end.

So before each call the model is compared with the one that its configuration describes, part by
part. Nothing is listed by hand: that model is built once, without memory for its parameters. Where
they differ, `objection` says how, and the steps are left to an implementation that calls the
modules. After that, `check_call` compares all tensors of the call with the sizes that the sweeps
will use, in one place for both the sweeps in PyTorch and those in C++.

One change is allowed. A parametrised weight, from `torch.nn.utils.parametrize`, is computed when it
is read, as it should be: once a call instead of once a step.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.nn.modules import module as torch_module
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations
from torch.utils._python_dispatch import _disable_current_modes

from ..config import ModelConfig
from ..layers import DropoutMasks
from ..reference import Recurrence
from ..support.checks import require
from .append import transformed
from .tape import Sizes, Tape
from .weights import MATRICES, Weights

PLAIN = (Tensor, nn.Parameter, FakeTensor, FunctionalTensor)
"""
The types of tensors that consist of their numbers and nothing else. The last two stand for such
tensors where PyTorch traces: they have no numbers, and operators only ask for their shapes.
"""

HOOKS = {
    "_forward_pre_hooks": "a forward pre-hook",
    "_forward_hooks": "a forward hook",
    "_backward_pre_hooks": "a backward pre-hook",
    "_backward_hooks": "a backward hook",
}
"""Where a module keeps what is called along with it."""


class Part(NamedTuple):
    """
    ## A module as the configuration describes it
    """

    path: str
    parent: int
    """The index of the part that it belongs to."""
    name: str
    kind: type
    called: bool
    """Whether it is called, and not just a list."""
    settings: dict[str, Any]
    shapes: dict[str, torch.Size | None]
    size: int
    """How many modules it has, if it is a list."""


@functools.cache
def parts(config: ModelConfig) -> tuple[Part, ...]:
    """All modules of the recurrence with this configuration, the whole first."""
    # Made once, perhaps while a model is traced, of which this one is no part.
    with _disable_current_modes(), torch.device("meta"):
        model = Recurrence(config)
    paths = {path: index for index, (path, _) in enumerate(model.named_modules())}
    found = []
    for path, module in model.named_modules():
        parent, _, name = path.rpartition(".")
        own = {key: value for key, value in vars(module).items() if key[0] != "_"}
        own.pop("training")
        shapes = {key: None if p is None else p.shape for key, p in module._parameters.items()}
        # The recurrence itself is a part of the model that calls the sweeps, and is called.
        called = bool(path) and not isinstance(module, nn.ModuleList)
        size = len(module) if isinstance(module, nn.ModuleList) else 0
        found.append(Part(path, paths[parent], name, type(module), called, own, shapes, size))
    return tuple(found)


def objection(model: Recurrence, x: Tensor) -> str | None:
    """Why the sweeps cannot compute this, in words; `None` if they can."""
    if transformed():
        return (
            "vmap, torch.func and forward mode have to see each operation, which the sweeps hide "
            "and implementation='reference' shows"
        )
    if model.config.adaptive_span:
        return "it has no adaptive spans, which implementation='append' has"
    if type(x) not in PLAIN:
        return f"the input is a {type(x).__name__}, expected a plain tensor"
    # Under autocast each operation chooses its own precision.
    dtype = None if mixed_precision(x) else x.dtype
    found = odd_model(model, dtype, x.device)
    callers = "implementation='append' and implementation='reference'"
    return found and f"{found}; it calls no modules, as {callers} do"


def mixed_precision(x: Tensor) -> bool:
    """Whether autocast is on, where it is known."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


# A compiler need not read how a model is looked over, only what came out: it does not change.
@torch.compiler.assume_constant_result
def odd_model(model: Recurrence, dtype: torch.dtype | None, device: torch.device) -> str | None:
    """How a model is not what its configuration describes, in words; `None` if it is."""
    found = next((words for kind, words in HOOKS.items() if is_hooked(kind)), None)
    return f"all modules have {found}" if found else difference(model, dtype, device)


def is_hooked(kind: str) -> bool:
    """Whether there is a hook of this kind for all modules, as `register_module_forward_hook`."""
    return bool(getattr(torch_module, f"_global{kind}", None))


def difference(model: Recurrence, dtype: torch.dtype | None, device: torch.device) -> str | None:
    """The first difference between the model and what its configuration describes, in words."""
    modules: list[Any] = []
    for part in parts(model.config):
        module = modules[part.parent]._modules.get(part.name) if modules else model
        modules.append(module)
        found = f"{part.path} is missing" if module is None else changed(part, module)
        found = found or odd_parameter(part, module, dtype, device)
        if found:
            return found
    return None


def changed(part: Part, module: nn.Module) -> str | None:
    """How a module differs from its part of the configuration, parameters aside."""
    own, kind = vars(module), type(module)
    if part.called:
        if hasattr(kind, "unshard"):
            return f"{part.path} is divided by fully_shard, expected only the model as a whole"
        if kind is not part.kind and type_before_parametrizations(module) is not part.kind:
            return f"{part.path} is a {kind.__name__}, expected a {part.kind.__name__}"
        for name, words in HOOKS.items():
            if own.get(name):
                return f"{part.path} has {words}"
        if "forward" in own:
            return f"{part.path} has a forward of its own"
    if part.size and part.size != len(module._modules):
        return f"{part.path} has {len(module._modules)} modules, expected {part.size}"
    for name, value in part.settings.items():
        # What was None may have become a module, which is kept elsewhere.
        if own.get(name, module) != value:
            words = getattr(module, name, "missing")
            return f"{part.path or 'the model'} has {name} = {words}, expected {value}"
    return None


def odd_parameter(
    part: Part, module: nn.Module, dtype: torch.dtype | None, device: torch.device
) -> str | None:
    """What is wrong with one of the module's parameters, in words; `None` if nothing is."""
    for name, shape in part.shapes.items():
        p, path = module._parameters.get(name), f"{part.path}.{name}"
        if p is None and name not in module._parameters and is_parametrized(module, name):
            continue  # `check_call` sees what is made of it.
        if p is None or shape is None:
            if p is not shape:
                return f"{path} is {'missing' if p is None else 'there'}, expected otherwise"
            continue
        if p.shape != shape:
            return f"{path} has the shape {tuple(p.shape)}, expected {tuple(shape)}"
        if (why := odd(p, dtype or p.dtype, device)) is not None:
            return f"{path} {why}"
    return None


def odd(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why these numbers cannot be read as they lie in memory, in words; `None` if they can."""
    if type(tensor) not in PLAIN:
        return f"is a {type(tensor).__name__}, expected a plain tensor"
    if tensor.layout is not torch.strided:
        return f"has the layout {tensor.layout}, expected {torch.strided}"
    if tensor.device != device:
        return f"is on {tensor.device}, but the input is on {device}"
    if tensor.dtype != dtype or tensor.is_quantized:
        return f"is {tensor.dtype}, but the input is {dtype}"
    return None


def check_divided(model: Recurrence) -> None:
    """
    Raises `ValueError` for layers that gather their weights when they are called, if each has its
    own projection of the memory: that is read without calling the layer, however it is computed.
    """
    require(
        model.config.share_kv or not any(hasattr(layer, "unshard") for layer in model.layers),
        "layers are divided by fully_shard, expected only the model as a whole: with "
        "share_kv=False even implementation='reference' reads a part of a layer by itself",
    )


def check_call(
    n: Sizes, x: Tensor, past: Sequence[Tensor], masks: DropoutMasks | None, w: Weights, mixed: bool
) -> None:
    """
    ## The tensors of a call

    Raises `ValueError` unless each tensor has the shape that `n` gives it, in the type of `x`, or
    with `mixed` precision any.
    """
    require(n.S <= n.W, f"a memory of {n.S} slots, more than the {n.W} that a step can read")
    require(len(past) == 2, f"{len(past)} tensors of the past, expected keys and values")
    dtype = None if mixed else x.dtype
    check_tensor("the input", x, (n.T, n.B, n.D), dtype, x.device)
    for kv in past:
        check_tensor("the memory", kv, (n.P, n.H, n.B, n.K, n.S), dtype, x.device)
    check_weights(n, w, dtype, x.device)
    check_masks(n, masks, x.device)


def check_weights(n: Sizes, w: Weights, dtype: torch.dtype | None, device: torch.device) -> None:
    """Raises `ValueError` unless each of the weights has the shape that `n` gives it."""
    HK, HKs = n.H * n.K, n.P * 2 * n.H * n.K
    shapes = {
        "wq": (HK, n.D), "wo": (n.D, HK), "w1": (n.wide, n.D), "w2": (n.D, n.F),
        "bq": (n.L, HK), "u": (n.L, HK), "p": (n.L, n.H, n.K, n.W), "s": (n.L, n.H, n.W),
        "bo": (n.L, n.D), "b1": (n.L, n.wide), "b2": (n.L, n.D), "alpha": (n.L + 1,),
        "wkv": (HKs, n.D), "bkv": (HKs,),
    }  # fmt: skip
    for name, field in w._asdict().items():
        if name in MATRICES:
            require(len(field) == n.L, f"{name} has {len(field)} layers, expected {n.L}")
        for tensor in field if name in MATRICES else [field]:
            check_tensor(f"the weight {name}", tensor, shapes[name], dtype, device)


def check_masks(n: Sizes, masks: DropoutMasks | None, device: torch.device) -> None:
    """Raises `ValueError` unless the masks, if there are any, are those of such a call."""
    if masks is not None:
        slots = max(n.W, masks.attn.shape[-1])
        of_attn, of_ff = (n.T, n.L, n.B, n.H, slots), (n.T, n.L, n.B, n.F)
        check_tensor("the mask of attention", masks.attn, of_attn, torch.bool, device)
        check_tensor("the mask of inner units", masks.ff, of_ff, torch.bool, device)


def check_saved(
    n: Sizes, tape: Tape, grads: Sequence[Tensor | None], masks: DropoutMasks | None, w: Weights,
    mixed: bool,
) -> None:  # fmt: skip
    """
    ## The tensors of a backward pass

    A weight may have been replaced since the forward pass, and hooks on saved tensors may have
    changed any. Raises `ValueError` then.
    """
    device, shapes = tape.m.device, Tape.shapes(n, recording=True)
    like = next((grad for grad in grads if grad is not None), tape.m)
    dtype = None if mixed else like.dtype
    try:
        for grad in grads:
            if grad is not None:
                check_tensor("a gradient", grad, shapes["m"], like.dtype, device)
        for name, tensor in tape._asdict().items():
            half = name in ("q", "o", "pre", "k", "v")
            check_tensor(name, tensor, shapes[name], dtype if half else like.dtype, device)
        check_weights(n, w, dtype, device)
        check_masks(n, masks, device)
    except ValueError as error:
        raise ValueError(
            "a tensor saved for the backward pass has another shape or type now; call backward "
            f"before changing the model's parameters ({error})"
        ) from None


def check_tensor(
    name: str,
    tensor: Tensor,
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device,
) -> None:
    """Raises `ValueError` unless a tensor is plain, and of this shape, type and device."""
    require(
        tensor.shape == shape,
        f"{name} has the shape {tuple(tensor.shape)}, expected {tuple(shape)}",
    )
    why = odd(tensor, dtype or tensor.dtype, device)
    require(why is None, f"{name} {why}")
