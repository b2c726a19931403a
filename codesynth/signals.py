"""Signals -> a clean stop: what is answered is kept, and the process ends in time."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from codesynth.pipeline import Stop

LANDING_SECONDS = 3.0
"""After a signal, what is in flight gets this long to land: it is paid for."""
EXIT_SECONDS = 4.5
"""After a signal, the process ends whatever happens."""


@contextlib.contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """Turn a signal into a stop; a second one ends the process at once.

    What was ignored from the start (SIGHUP under nohup, SIGINT in the background) stays ignored.
    """

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.signal is not None:
            os._exit(128 + number)
        stop.signal = number
        stop.ask(LANDING_SECONDS)
        watchdog = threading.Timer(EXIT_SECONDS, os._exit, (128 + number,))
        watchdog.daemon = True
        watchdog.start()

    before = {
        number: signal.signal(number, on_signal)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
