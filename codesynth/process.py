"""Exit codes and standard streams of the process, and a clean stop when a signal comes."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing alone would take as long to load as --help does
if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from types import FrameType

    from codesynth.pipeline import Stop

EXIT_OK, EXIT_USAGE, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 2, 3, 5
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141
DRAIN_SECONDS = 3.0
"""After a signal, requests in flight have this long to be answered: they are paid for."""
EXIT_SECONDS = 4.5
"""After a signal, a run ends after this time in any case."""


def redirect_to_devnull(fd: int) -> None:
    """Discard what is still written to a stream, so that flushing it raises no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def occupy_standard_streams() -> None:
    """Open descriptors 0 to 2 where they are closed, so that no other file gets their numbers.

    Standard input is opened for writing and standard output for reading, so that using them fails
    as if they were closed. What is written to standard error is discarded.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stderr is None:
        sys.stderr = open(2, "w")


def stop_on_signal(stop: Stop, exit_after: float = EXIT_SECONDS) -> AbstractContextManager[None]:
    """Trigger ``stop`` when a signal comes; a second signal ends the process at once.

    ``exit_after`` seconds after the first one, the process ends in any case.

    ``pipeline.responses`` sees the trigger and drains the serving's stream; the last stream that
    ends closes the connections (``LoopThread.leave`` in serving/online.py). A signal that was
    ignored from the start (SIGHUP under nohup, SIGINT in the background) stays
    ignored.
    """
    import contextlib
    import signal
    import threading

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.signal is not None:
            os._exit(128 + number)
        stop.signal = number
        stop.trigger(DRAIN_SECONDS)
        watchdog = threading.Timer(exit_after, os._exit, (128 + number,))
        watchdog.daemon = True
        watchdog.start()

    @contextlib.contextmanager
    def handled() -> Iterator[None]:
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

    return handled()
