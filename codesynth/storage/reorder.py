"""Lines that came early wait here for their turn: in memory, then on disk."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from codesynth.errors import RunError
from codesynth.storage.scratch import Scratch

Line = tuple[bool, bytes]
"""Whether the row is for the output (else it is for the failures), and its line."""


class Reorder:
    """Gives lines back in the order of their positions, which start at 0.

    What waits is kept in memory up to ``memory`` bytes and beyond that in a temporary file, at
    8 bytes of memory a row: a first row that takes minutes holds up neither the others nor the
    machine.

    >>> reorder = Reorder()
    >>> list(reorder.put(1, True, b"b"))
    []
    >>> list(reorder.put(0, True, b"a"))
    [(True, b'a'), (True, b'b')]
    """

    def __init__(self, memory: int = 16 << 20) -> None:
        self._memory = memory
        self._next = 0
        self._bytes = 0
        self._waiting: dict[int, Line] = {}
        self._disk: Scratch | None = None
        self._spilled = 0
        self._base = 0  # position of the first item of _places
        self._places = array("Q")  # 0 for none, else offset in the file + 1

    def put(self, position: int, ok: bool, line: bytes) -> Iterator[Line]:
        """Take a line; yield those whose turn has come."""
        if position == self._next and not self._waiting and not self._spilled:
            self._next += 1
            yield ok, line
            return
        if position < self._next or position in self._waiting:
            raise RunError(f"row {position} was answered twice. This is a bug")
        if self._bytes + len(line) <= self._memory or position == self._next:
            self._waiting[position] = (ok, line)
            self._bytes += len(line)
        else:
            self._spill(position, ok, line)
        while (due := self._take(self._next)) is not None:
            self._next += 1
            yield due

    def rest(self) -> Iterator[Line]:
        """Yield what still waits, in order: the lines behind a row that will not come."""
        while self._waiting or self._spilled:
            due = self._take(self._next)
            self._next += 1
            if due is not None:
                yield due

    def _take(self, position: int) -> Line | None:
        line = self._waiting.pop(position, None)
        if line is not None:
            self._bytes -= len(line[1])
            return line
        return self._unspill(position) if self._spilled else None

    def _spill(self, position: int, ok: bool, line: bytes) -> None:
        if self._disk is None:
            self._disk = Scratch()
        if not self._spilled:
            self._disk.clear()
            self._base, self._places = self._next, array("Q")
        place = position - self._base
        if place >= len(self._places):
            self._places.frombytes(bytes(8 * (place + 1 - len(self._places))))
        self._places[place] = self._disk.append(b"%d%b" % (ok, line)) + 1
        self._spilled += 1

    def _unspill(self, position: int) -> Line | None:
        place = position - self._base
        if self._disk is None or not (0 <= place < len(self._places) and self._places[place]):
            return None
        line = self._disk.line(self._places[place] - 1)
        self._places[place] = 0
        self._spilled -= 1
        return line[:1] == b"1", line[1:]
