"""Standard streams of the process, and its exit codes."""

from __future__ import annotations

import os
import sys

EXIT_OK, EXIT_USAGE, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 2, 3, 5
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141


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
