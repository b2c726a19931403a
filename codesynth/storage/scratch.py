"""What is kept on the disk while a run lasts: rows that wait for their turn, the few-shot pool."""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from codesynth.errors import OutputError, RunError
from codesynth.models import Failure, Record, Row
from codesynth.storage.records import read_records, read_text


class Scratch:
    """Keeps values on the disk; each is read again by its place.

    Raises:
        OutputError: the file cannot be made, written or read.
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


class Reorder:
    """Returns rows in the order of their positions, which start at 0.

    Waiting rows are kept in memory up to ``memory`` bytes. Further rows are kept in a temporary
    file, at 40 bytes of memory a row. So a first row that takes minutes neither stops the others
    nor fills the memory.

    >>> reorder = Reorder()
    >>> list(reorder.put(1, Row(b"b")))
    []
    >>> [row.line for row in reorder.put(0, Row(b"a"))]
    [b'a', b'b']
    """

    def __init__(self, memory: int = 16 << 20) -> None:
        self._memory = memory
        self._next = 0
        # Rows from ``_next`` on: in memory, as a place in the file, or None while not there.
        self._waiting: deque[Row | int | None] = deque()
        self._bytes = 0
        self._disk: Scratch | None = None

    def put(self, position: int, row: Row) -> Iterable[Row]:
        """Take a row; return the rows whose turn has come. Read them before the next ``put``."""
        waiting, i = self._waiting, position - self._next
        if i == 0 and not waiting:
            self._next += 1
            return (row,)
        if i < 0 or (i < len(waiting) and waiting[i] is not None):
            raise RunError(f"row {position} was answered twice. This is a bug")
        waiting.extend([None] * (i + 1 - len(waiting)))
        waiting[i] = row
        self._bytes += _size(row)
        if self._bytes > self._memory:
            self._bytes -= _size(row)
            self._disk = self._disk or Scratch()
            waiting[i] = self._disk.append(row)
        return self._due() if i == 0 else ()

    def rest(self) -> Iterator[Row]:
        """Yield the rows that still wait, in order; missing rows are skipped."""
        while self._waiting:
            if self._waiting[0] is None:
                self._waiting.popleft()
            yield from self._due()

    def _due(self) -> Iterator[Row]:
        while self._waiting and (kept := self._waiting[0]) is not None:
            self._waiting.popleft()
            self._next += 1
            if isinstance(kept, Row):
                self._bytes -= _size(kept)
                yield kept
            elif self._disk is not None:
                yield self._disk.read(kept)
        if not self._waiting:
            self._disk = None  # all its rows were read


def _size(row: Row) -> int:
    return len(row.line) + len(row.subject) + len(row.answer)


class Pool(Sequence[str]):
    """The texts in one column of JSONL files, copied to a temporary file; 16 bytes of memory a row.

    Lines without a usable text are left out; ``bad_records`` yields them.

    Args:
        paths: the files.
        key: the column.
        generated_key: the column with a model's text, read if a row has no text in ``key``. Such
            rows are numbered after all others.

    Attributes:
        human: number of rows that people wrote.
        bad: number of lines that are no usable examples.

    Raises:
        InputError: a file cannot be read.
        OutputError: the temporary file cannot be written.
    """

    def __init__(self, paths: Sequence[str], key: str, generated_key: str | None = None) -> None:
        self._texts = Scratch()
        human, generated = array("Q"), array("Q")  # place and line number of each row
        self._bad = array("Q")  # places
        for record in read_records(paths):
            text, rows = read_text(record, key), human
            if isinstance(text, Failure) and generated_key is not None:
                found = read_text(record, generated_key)
                text, rows = (found, generated) if isinstance(found, str) else (text, human)
            if isinstance(text, str):
                rows.extend((self._texts.append(text), record.line or 0))
            else:  # its fields may be nested too deeply for pickle
                bad = replace(record, error=text, fields={})
                self._bad.append(self._texts.append(bad))
        self._rows = human + generated
        self.human, self.bad = len(human) // 2, len(self._bad)

    def __len__(self) -> int:
        return len(self._rows) // 2

    def __getitem__(self, i: Any) -> Any:
        """Read the text of row ``i``, from 0, good rows only."""
        return self._texts.read(self._rows[2 * range(len(self))[i]])

    def line(self, i: int) -> int:
        """Tell the line number of row ``i`` in its file, from 1."""
        return self._rows[2 * i + 1]

    def bad_records(self) -> Iterator[Record]:
        """Yield a Record with its error for each line that is not a usable example."""
        yield from map(self._texts.read, self._bad)
