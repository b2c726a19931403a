"""Put rows in order: rows that come early wait in memory, then on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from codesynth.errors import RunError
from codesynth.models import Row
from codesynth.storage.scratch import Scratch


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
