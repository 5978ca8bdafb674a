"""The sweeps as operators: what PyTorch is told of them is true, and what they get is checked."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import NATIVE, SMALL, same_models
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

from feedback import ModelConfig
from feedback.fast.sequence import Plan

SWEEPS = ["sequence", NATIVE]


class Spy(TorchDispatchMode):
    """Keeps the arguments of each call of our operators."""

    def __init__(self):
        super().__init__()
        self.calls = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "feedback":
            self.calls[func] = tuple(map(detached, args))
        return func(*args, **(kwargs or {}))


def detached(argument):
    """A tensor, or a list of them, without a past."""
    if isinstance(argument, list):
        return [detached(item) for item in argument]
    return argument.detach() if isinstance(argument, torch.Tensor) else argument


@functools.cache
def calls(name, T=2, carried=0, last=True, **options):
    """What a step of training passes to the operators forward and backward."""
    (model,) = same_models(ModelConfig(**SMALL, **options), name)
    memory = None
    if carried:
        _, memory = model(torch.arange(2 * carried).view(2, carried) % 11)
    with Spy() as spy:
        logits, new = model(torch.arange(2 * T).view(2, T) % 11, memory and memory.detach())
        (logits.sum() + (new.m.sum() if last else 0)).backward()
    found = {op.name(): (op, args) for op, args in spy.calls.items()}
    assert found.keys() == {f"feedback::{name}", f"feedback::{name}_backward"}
    return found[f"feedback::{name}"], found[f"feedback::{name}_backward"]


VARIANTS = {
    "plain": {},
    "dropout": {"dropout": 0.2, "norm_memory": False, "activation": "gelu", "last": False},
    "carried": {"carried": 9, "share_kv": False, "activation": "swiglu", "dropout": 0.2},
}


@pytest.mark.parametrize("name", SWEEPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_pytorch_is_told_is_true(name, variant):
    """
    `opcheck` of both operators: nothing is written to or shared that the schema does not name,
    shapes are those of the fake kernel, and traced gradients are those of eager mode.
    """
    (forward, args), (backward, back) = calls(name, **VARIANTS[variant])
    x, past, weights, *rest = args
    learned = [t.clone().requires_grad_() for t in (x, *past, *weights)]
    opcheck(forward, (learned[0], learned[1:3], learned[3:], *rest))
    with torch.no_grad():
        opcheck(forward, (*args[:-1], False), test_utils=("test_schema", "test_faketensor"))
    opcheck(backward, back)


@pytest.mark.parametrize("name", SWEEPS)
@given(data=st.data())
@settings(max_examples=40)
def test_wrong_tensors(name, data):
    """
    An operator can be called by anybody. Any tensor of another shape, type or number, forward or
    backward: a ValueError and never a crash.
    """
    op, args = data.draw(st.sampled_from(calls(name, carried=2, dropout=0.2)))
    args = list(args)
    at = data.draw(st.sampled_from([i for i, a in enumerate(args) if holds_tensors(a)]))
    if isinstance(args[at], list):
        items = list(args[at])
        i = data.draw(st.integers(0, len(items) - 1))
        items[i], changed = data.draw(other(items[i]))
        args[at] = items
    else:
        args[at], changed = data.draw(other(args[at]))
    if changed:
        with pytest.raises(ValueError, match=r"has the shape|is torch|has another shape"):
            op(*args)


def holds_tensors(argument):
    """Whether it is a tensor or a list of tensors."""
    items = argument if isinstance(argument, list) else [argument]
    return bool(items) and all(isinstance(item, torch.Tensor) for item in items)


@st.composite
def other(draw, tensor):
    """A tensor of another shape or type, and whether it is one."""
    if draw(st.booleans()):
        return tensor.to(torch.float16), True
    shape = draw(st.tuples(*(st.integers(0, size + 2) for size in tensor.shape)))
    return torch.zeros(shape, dtype=tensor.dtype), shape != tuple(tensor.shape)


@pytest.mark.parametrize("name", SWEEPS)
def test_numbers_that_do_not_fit(name):
    """Sizes that the tensors do not have, tensors that are missing: a ValueError."""
    for op, args in calls(name):
        at = len(args) - len(Plan._fields)
        for i in range(len(args[at])):
            numbers = [n + (i == j) for j, n in enumerate(args[at])]
            with pytest.raises(ValueError):
                op(*args[:at], numbers, *args[at + 1 :])
        for i, argument in enumerate(args):
            if isinstance(argument, list) and i != at:
                for wrong in (argument[:-1], [*argument, torch.zeros(2)]):
                    if argument:
                        with pytest.raises(ValueError):
                            op(*args[:i], wrong, *args[i + 1 :])


def test_a_plan_is_its_sizes():
    """What a schema can carry holds all sizes."""
    _, (_, args) = calls("sequence", dropout=0.2)
    plan = Plan(*args[-6:])
    assert plan.sizes._replace(T=5).T == 5
    assert Plan.of(plan.sizes, plan.mixed, plan.recording) == plan
