"""A few hundred damaged inputs; `python tests/fuzz.py` has them by the thousand."""

import random
import sys

import fuzz
import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="the limits of the fuzzer are those of Linux")
@pytest.mark.parametrize("name", fuzz.NAMES)
def test_damaged_inputs(name):
    """Each is accepted or refused in one sentence, and some of them are refused."""
    outcomes, failures = fuzz.fuzz(name, 8 if name == "arguments" else 30)
    assert failures == [] and outcomes["failed"] == 0
    assert outcomes["refused"] > 0


def test_what_counts_as_a_failure():
    """Another exception, and a process without end."""

    def wrong(error):
        raise error

    for error in (KeyError("x"), fuzz.TookTooLong(), MemoryError()):
        outcome, what = fuzz.attempt(lambda rng, error=error: wrong(error), "x")
        assert outcome == "failed" and type(error).__name__ in what
    assert fuzz.attempt(lambda rng: wrong(ValueError("no")), "x") == ("refused", "no")
    assert fuzz.attempt(lambda rng: None, "x") == ("accepted", "")
    data = b"0123456789"
    assert any(fuzz.damaged(data, random.Random(n)) != data for n in range(9))
