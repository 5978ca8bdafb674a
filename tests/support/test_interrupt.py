"""A signal asks first, and only the second one insists."""

import os
import signal
import threading

import pytest

from feedback.support.interrupt import SIGNALS, Interrupt, Interrupted, StopNow


@pytest.mark.parametrize("number", SIGNALS)
def test_ask_first_stop_later(number):
    """The first is noted, the second raises; both tell the exit code; then all is as before."""
    before = [signal.getsignal(n) for n in SIGNALS]
    with Interrupt() as interrupt:
        interrupt.check()
        os.kill(os.getpid(), number)
        assert interrupt.requested and interrupt.exit_code == 128 + number
        with pytest.raises(Interrupted):
            interrupt.check()
        with pytest.raises(StopNow) as stop:
            os.kill(os.getpid(), number)
            signal.pause()
        assert stop.value.args == (128 + number,)
    assert [signal.getsignal(n) for n in SIGNALS] == before


def test_nohup():
    """A process that is to outlive its terminal does."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_another_thread():
    """Only the main thread may have handlers; elsewhere nothing breaks."""
    found = []

    def work():
        with Interrupt() as interrupt:
            found.append(interrupt.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
