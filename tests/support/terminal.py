"""A pseudo-terminal in the place of streams of the command."""

import errno
import os
import pty
import threading
from typing import Any

from support.command import Finished, codesynth


def on_a_terminal(
    *args: object, streams: tuple[str, ...], screen: bytearray | None = None, **more: Any
) -> tuple[Finished, bytes]:
    """Run the command in this process with a terminal for some of its streams.

    Returns what it left behind and what the terminal received; ``screen`` has that meanwhile.
    """
    screen = bytearray() if screen is None else screen
    person, tty = pty.openpty()
    watcher = threading.Thread(target=_watch, args=(person, screen), daemon=True)
    watcher.start()
    try:
        done = codesynth(*args, **dict.fromkeys(streams, tty), **more)
    finally:
        os.close(tty)
        watcher.join()
        os.close(person)
    return done, bytes(screen)


def _watch(person: int, screen: bytearray) -> None:
    """Read all that is written to a terminal until its other end is closed."""
    try:
        while data := os.read(person, 1 << 16):
            screen += data
    except OSError as exc:
        if exc.errno != errno.EIO:  # how a terminal tells that nobody writes to it any more
            raise
