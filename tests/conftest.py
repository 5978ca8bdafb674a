"""What all tests share."""

import importlib
import os
from types import ModuleType

import pytest


def require_or_skip(module: str) -> ModuleType:
    """
    Imports an optional package, or skips the test and says why. With `FEEDBACK_REQUIRE_ALL=1`,
    where everything is meant to be installed, a missing one is a failure instead.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{module} is not installed (see tests/requirements.txt and tests/judges.txt)"
        if os.environ.get("FEEDBACK_REQUIRE_ALL") == "1":
            raise AssertionError(message) from error
        pytest.skip(message)
