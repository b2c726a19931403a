"""Rows that came early wait here for their turn: in memory, then on disk."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import astuple

from codesynth.codec import dumps, loads
from codesynth.errors import RunError
from codesynth.models import Failure, Row
from codesynth.storage.scratch import Scratch


class Reorder:
    """Gives rows back in the order of their positions, which start at 0.

    What waits is kept in memory up to ``memory`` bytes and beyond that in a temporary file, at
    8 bytes of memory a row: a first row that takes minutes holds up neither the others nor the
    machine.

    >>> reorder = Reorder()
    >>> list(reorder.put(1, Row(b"b")))
    []
    >>> [row.line for row in reorder.put(0, Row(b"a"))]
    [b'a', b'b']
    """

    def __init__(self, memory: int = 16 << 20) -> None:
        self._memory = memory
        self._next = 0
        self._bytes = 0
        self._waiting: dict[int, Row] = {}
        self._disk: Scratch | None = None
        self._spilled = 0
        self._base = 0  # position of the first item of _places
        self._places = array("Q")  # 0 for none, else offset in the file + 1

    def put(self, position: int, row: Row) -> Iterator[Row]:
        """Take a row; yield those whose turn has come."""
        if position == self._next and not self._waiting and not self._spilled:
            self._next += 1
            yield row
            return
        if position < self._next or position in self._waiting:
            raise RunError(f"row {position} was answered twice. This is a bug")
        size = _size(row)
        if self._bytes + size <= self._memory or position == self._next:
            self._waiting[position] = row
            self._bytes += size
        else:
            self._spill(position, row)
        while (due := self._take(self._next)) is not None:
            self._next += 1
            yield due

    def rest(self) -> Iterator[Row]:
        """Yield what still waits, in order: the lines behind a row that will not come."""
        while self._waiting or self._spilled:
            due = self._take(self._next)
            self._next += 1
            if due is not None:
                yield due

    def _take(self, position: int) -> Row | None:
        row = self._waiting.pop(position, None)
        if row is not None:
            self._bytes -= _size(row)
            return row
        return self._unspill(position) if self._spilled else None

    def _spill(self, position: int, row: Row) -> None:
        if self._disk is None:
            self._disk = Scratch()
        if not self._spilled:
            self._disk.clear()
            self._base, self._places = self._next, array("Q")
        place = position - self._base
        if place >= len(self._places):
            self._places.frombytes(bytes(8 * (place + 1 - len(self._places))))
        failure = astuple(row.failure) if row.failure is not None else None
        about = dumps([failure, row.subject, row.answer, row.raw_bytes, row.number])
        self._places[place] = self._disk.append(b"%b\t%b" % (about, row.line)) + 1
        self._spilled += 1

    def _unspill(self, position: int) -> Row | None:
        place = position - self._base
        if self._disk is None or not (0 <= place < len(self._places) and self._places[place]):
            return None
        about, _, line = self._disk.line(self._places[place] - 1).partition(b"\t")
        self._places[place] = 0
        self._spilled -= 1
        failure, *rest = loads(about)
        return Row(line, Failure(*failure) if failure else None, *rest)


def _size(row: Row) -> int:
    return len(row.line) + len(row.subject) + len(row.answer)
