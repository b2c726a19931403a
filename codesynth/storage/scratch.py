"""Temporary files: for what neither memory nor the input can hold."""

import contextlib
import tempfile
from collections.abc import Iterator
from typing import IO

from codesynth.errors import OutputError


def scratch_file() -> IO[bytes]:
    """Open a file that is gone when it is closed.

    Raises:
        OutputError: it cannot be made.
    """
    with scratch():
        return tempfile.TemporaryFile(prefix="codesynth-")


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """Translate what goes wrong in the use of a temporary file.

    Raises:
        OutputError: it cannot be written or read.
    """
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"cannot use a temporary file: {exc.strerror}. Set TMPDIR to a folder with room"
        ) from exc
