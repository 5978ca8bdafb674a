r"""
---
title: Checks
summary: Errors that name the value, what was expected, and what to do.
---

# Checks

A mistake is cheapest to correct where it is made. So whatever comes in from outside, a setting, a
file or a tensor, is checked at once, and a mistake raises a `ValueError` of one sentence.
"""

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


def require(condition: bool, message: str) -> None:
    """Raises `ValueError(message)` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def expect(good: bool, name: str, value: object, expected: str) -> None:
    """Raises a `ValueError` that names the value, and says what was expected, unless it is good."""
    require(good, f"{name} is {value!r}, expected {expected}")


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
