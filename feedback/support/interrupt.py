r"""
---
title: Interrupts
summary: A signal that lets the step finish.
---

# Interrupts

A Ctrl-C can arrive at any moment: between two parameters of an optimiser step, or in the middle of
writing a file. Whoever presses it rarely means to stop exactly *there*. The same is true of a
machine that is about to shut down (SIGTERM), and of a terminal that was closed (SIGHUP).
"""

import signal
from contextlib import suppress
from types import FrameType
from typing import Any

SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


class Interrupted(Exception):
    """Work that nothing depends on was left, because a signal asked to stop."""


class StopNow(KeyboardInterrupt):
    """The second signal; its argument is the exit code of a process that ends with it."""


class Interrupt:
    """
    ## Ask first, stop later

    Inside `with Interrupt() as interrupt`, the first signal only sets `Interrupt.requested`; a
    second one stops at once. Programs end with `exit_code`, 128 and the number of the signal.
    """

    requested = False
    exit_code = 128 + signal.SIGINT

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.exit_code = 128 + number
        if self.requested:
            raise StopNow(self.exit_code)
        self.requested = True

    def check(self) -> None:
        """Raises `Interrupted` if a signal has come: for work that can be left at any place."""
        if self.requested:
            raise Interrupted

    def __enter__(self) -> "Interrupt":
        self._previous = {}
        for number in SIGNALS:
            # That is what nohup does: the run is to outlive its terminal.
            if number != signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                continue
            # Only the main thread may set handlers; in others, signals keep their usual effect.
            with suppress(ValueError):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
