"""Values in a temporary file, which is deleted with its object."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any

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
        with scratch_errors():
            self._file = tempfile.TemporaryFile(prefix="codesynth-")
        self._end = 0
        self._at_end = True  # seeking would flush what is buffered

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # nobody misses what was not written
            self._file.close()

    def append(self, value: object) -> int:
        """Write a value; return its place."""
        data, place = pickle.dumps(value), self._end
        with scratch_errors():
            if not self._at_end:
                self._file.seek(place)
            self._at_end = True
            self._file.write(data)
        self._end += len(data)
        return place

    def read(self, place: int) -> Any:
        """Read a value."""
        with scratch_errors():
            self._at_end = False
            self._file.seek(place)
            return pickle.load(self._file)  # noqa: S301 - nobody else can write to the file


@contextlib.contextmanager
def scratch_errors(kind: type[Exception] = OSError) -> Iterator[None]:
    """Turn an error of a temporary file or database into an OutputError that says what to do."""
    try:
        yield
    except kind as exc:
        words = f"cannot use a temporary file: {getattr(exc, 'strerror', exc)}"
        raise OutputError(f"{words}. Set TMPDIR to a folder with room") from exc
