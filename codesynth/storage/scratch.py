"""Lines on the disk that are gone with their object: what neither memory nor the input can hold."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

from codesynth.errors import OutputError


class Scratch:
    """Lines in a temporary file, each found again by its place.

    Raises:
        OutputError: the file cannot be made, written or read.

    >>> scratch = Scratch()
    >>> places = [scratch.append(line) for line in (b"one", b"two")]
    >>> scratch.line(places[0])
    b'one'
    """

    def __init__(self) -> None:
        with _translated():
            self._file = tempfile.TemporaryFile(prefix="codesynth-")
        self._end = 0
        self._at_end = True  # seeking would flush what is buffered

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # nobody misses what was not written
            self._file.close()

    def append(self, line: bytes) -> int:
        """Write a line, given without its newline; return its place."""
        place = self._end
        with _translated():
            if not self._at_end:
                self._file.seek(place)
            self._at_end = True
            self._file.write(line + b"\n")
        self._end += len(line) + 1
        return place

    def line(self, place: int) -> bytes:
        """Read a line."""
        with _translated():
            self._at_end = False
            self._file.seek(place)
            return self._file.readline()[:-1]

    def clear(self) -> None:
        """Forget all lines and give their room back."""
        self._end = 0
        with _translated():
            self._at_end = False
            self._file.truncate(0)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"cannot use a temporary file: {exc.strerror}. Set TMPDIR to a folder with room"
        ) from exc
