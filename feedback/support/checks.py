r"""
---
title: Checks
summary: Errors that name the value, what was expected, and what to do.
---

# Checks

A mistake is cheapest to correct where it is made. So whatever comes in from outside, a setting, a
file or a tensor, is checked at once, and a mistake raises a `ValueError` of one sentence.

**How large may a number be?** A model with `d_model` = 1,000,000,000 is described in a line, and
could never be made. There is one rule: what a description asks for must fit into the memory of this
machine. `require_fits` applies it before anything is allocated: to the weights of a model, the
tokens of a batch, a text, a text to be written. The rule is about what cannot be, not about what
will be: training needs several times the memory of the weights alone.
"""

import os
import reprlib
import sys
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from torch import Tensor

KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    Path: "a path",
    NoneType: "None",
}
"""The types that a field of a configuration may have, in words."""

MOST = 10**9
"""The largest number of steps, slots or the like that is not limited by memory."""

SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = SHORT.maxlong = 160
"""Values in error messages; a very long one is cut in its middle."""


def require(condition: bool, message: str) -> None:
    """Raises `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def expect(good: bool, name: str, value: object, expected: str) -> None:
    """Raises a `ValueError` that names the value, and says what was expected, unless it is good."""
    require(good, f"{name} is {shown(value)}, expected {expected}")


def shown(value: object) -> str:
    """A value as Python writes it, but not at any length: values from a file may be of any."""
    try:
        return SHORT.repr(value)
    except ValueError:  # Python does not write out numbers of thousands of digits.
        return "a number of thousands of digits"


def machine_memory() -> int:
    """The memory of this machine in bytes; 2^40 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 2**40


def require_fits(size: int, what: str) -> None:
    """Raises `ValueError` if `what`, of `size` bytes, is larger than this machine's memory."""
    there = machine_memory()
    require(
        size <= there,
        f"{what} would take {in_gib(size)}, but this machine has {in_gib(there)} of memory",
    )


def in_gib(size: int) -> str:
    """A number of bytes in words."""
    return f"{size / 2**30:,.1f} GiB" if size < 2**60 else "more than a billion GiB"


def require_positive(config: Any, *names: str) -> None:
    """Raises `ValueError` unless each of these fields is a whole number of at least 1."""
    for name in names:
        value = getattr(config, name)
        expect(is_a(value, int) and value > 0, name, value, "a whole number of at least 1")


def is_a(value: Any, kind: type) -> bool:
    """Whether a value is of a kind; here `True` is not a number, and neither is infinity."""
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def require_at_most(most: int, config: Any, *names: str) -> None:
    """Raises `ValueError` if one of these fields is larger than `most`."""
    for name in names:
        value = getattr(config, name)
        expect(value is None or value <= most, name, value, f"at most {most:,}")


def require_kinds(config: Any) -> None:
    """
    For values read from a file, which may hold anything. Raises `ValueError` unless each field of a
    dataclass is of the kind in its annotation or, where that lists choices, one of them.
    """
    for name, hint in get_type_hints(type(config)).items():
        value, choices = getattr(config, name), get_args(hint) or (hint,)
        if get_origin(hint) is Literal:
            expect(value in choices, name, value, f"one of {', '.join(choices)}")
        else:
            words = " or ".join(KINDS[kind] for kind in choices)
            expect(any(is_a(value, kind) for kind in choices), name, value, words)


def require_batch(x: Tensor, shape: str) -> None:
    """Raises `ValueError` unless `x` has as many dimensions as `shape` and at least one step."""
    good = x.dim() == len(shape.split(",")) and min(x.shape[:2]) > 0
    expected = f"({shape}), at least one sequence of at least one step"
    require(good, f"input of shape {tuple(x.shape)}, expected {expected}")
