"""Values in a temporary file, which is deleted with its object."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from codesynth.errors import OutputError


class Scratch:
    """Keeps values on the disk; each is read again by its place.

    Raises:
        OutputError: the file cannot be made, written or read.

    >>> scratch = Scratch()
    >>> places = [scratch.append(value) for value in ("one", "two")]
    >>> scratch.read(places[0])
    'one'
    """

    def __init__(self) -> None:
        with _translated():
            self._file = tempfile.TemporaryFile(prefix="codesynth-")

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # nobody misses what was not written
            self._file.close()

    def append(self, value: object) -> int:
        """Write a value; return its place."""
        with _translated():
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(pickle.dumps(value))
        return place

    def read(self, place: int) -> Any:
        """Read a value."""
        with _translated():
            self._file.seek(place)
            return pickle.load(self._file)  # noqa: S301 - nobody else can write to the file


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """Open a temporary file without a name; OutputError where it cannot be used."""
    with _translated(), tempfile.TemporaryFile(prefix="codesynth-") as file:
        yield file


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        words = f"cannot use a temporary file: {exc.strerror}"
        raise OutputError(f"{words}. Set TMPDIR to a folder with room") from exc
