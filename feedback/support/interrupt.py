r"""
---
title: Interrupts
summary: Ctrl-C that lets the step finish.
---

# Interrupts

A Ctrl-C can arrive at any moment: between two parameters of an optimiser step, or in the middle of
writing a file. Whoever presses it rarely means to stop exactly *there*.
"""

import signal
from contextlib import suppress
from types import FrameType
from typing import Any


class Interrupt:
    """
    ## Ask first, stop later

    Inside `with Interrupt() as interrupt`, the first Ctrl-C (or SIGTERM) only sets
    `Interrupt.requested`; a second one stops at once.
    """

    requested = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __enter__(self) -> "Interrupt":
        self._previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread may set handlers; in others, signals keep their usual effect.
            with suppress(ValueError):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
