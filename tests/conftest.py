"""What all tests share."""

import importlib
import os
import signal
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

# Whoever starts the tests in the background, or under nohup, may have told them to ignore signals,
# and programs that are started here would take that over. Some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Threads that wait for work may spin or sleep. Spinning is faster on an idle machine; on one that
# is shared it makes these tiny models eight times slower. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Tests start processes in folders of their own; there too the package is the one tested here.
os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)

# How long an example takes says something about the machine, nothing about the code.
settings.register_profile("feedback", deadline=None)
settings.load_profile("feedback")


def skip_or_fail(message: str) -> None:
    """Skips a test; with `FEEDBACK_REQUIRE_ALL=1`, where everything is meant to be here, fails."""
    if os.environ.get("FEEDBACK_REQUIRE_ALL") == "1":
        raise AssertionError(message)
    pytest.skip(message)


def require_or_skip(module: str) -> ModuleType:
    """Imports an optional package, or skips the test and says why."""
    try:
        return importlib.import_module(module)
    except ImportError:
        skip_or_fail(f"{module} is not installed; see the two requirements.txt below tests")
        raise
