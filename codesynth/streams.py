"""The standard streams of a process that may have been started without them, or lose them."""

from __future__ import annotations

import os
import sys

EXIT_PIPE = 141


def turn_away(fd: int) -> None:
    """Let what is still written to a stream go nowhere, so that nobody stumbles over it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def occupy_standard_streams() -> None:
    """Fill closed descriptors 0 to 2, or the next file opened would be taken for a stream.

    Each is opened the wrong way round, so that using it fails as if it were closed; stderr is
    opened to write into nothing.
    """
    for fd, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, mode)
    if sys.stderr is None:
        sys.stderr = open(2, "w")
