"""Standard streams of the process, and its exit codes."""

from __future__ import annotations

import os
import sys

EXIT_OK, EXIT_USAGE, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 2, 3, 5
EXIT_INTERRUPTED, EXIT_PIPE = 130, 141


def refuse_closed_streams() -> None:
    """Exit if standard input, output or error is closed: a file would get its number."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            sys.exit("codesynth: standard input, output or error is closed. Try /dev/null for it")


def redirect_to_devnull(fd: int) -> None:
    """Discard what is still written to a stream, so that flushing it raises no error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def print_error(line: str) -> None:
    """Print a line to standard error. If it takes none, the exit code says enough."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        redirect_to_devnull(2)
