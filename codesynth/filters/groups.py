"""Rows that answer the same instruction, gathered so that they can be compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from codesynth.codec import loads
from codesynth.models import Failure, Row

MOST_ROWS, MOST_BYTES = 1_000, 64 << 20
"""So much is held back: an answer that comes later is not compared with the ones before."""

Decision: TypeAlias = tuple[Row, Failure | None]


@dataclass(slots=True)
class VerifiedRow:
    """A row that was verified, on its way through the window.

    Attributes:
        row: as it is to be written.
        verdict: what ``VerifyTask.subject`` says: the verdict, ``group`` and ``tests``.
        size: bytes that are counted for it.
        rejection: why the row is not wanted.
        decided: its group was decided, or it is a row that failed.
    """

    row: Row
    verdict: dict[str, Any]
    size: int
    rejection: Failure | None = None
    decided: bool = False

    @property
    def key(self) -> tuple[Any, Any]:
        """Identify the instruction and the tests."""
        return self.verdict["group"], self.verdict["tests"]

    def reject(self, reason: str) -> None:
        """Send the row to the failures, with a reason."""
        self.rejection = Failure("not_kept", reason)


class GroupWindow:
    """Holds rows back until those of the same instruction and tests can be decided together.

    A ``pipeline.RowWindow``. Rows leave it in the order in which they came. The group of the oldest
    row is decided when there are too many rows or bytes, or no more come.

    Args:
        decide: rejects answers of a group or changes their rows; the others are kept as they are.
    """

    def __init__(
        self,
        decide: Callable[[Sequence[VerifiedRow]], None],
        *,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._decide, self._most_rows, self._most_bytes = decide, most_rows, most_bytes
        self._answers: deque[VerifiedRow] = deque()
        self._groups: dict[tuple[Any, Any], list[VerifiedRow]] = {}
        self._bytes = 0

    def put(self, row: Row) -> list[Decision]:
        """Take a row; return those that must leave. A row that failed is no answer."""
        failed = row.failure is not None
        verdict = {} if failed else loads(row.subject)
        answer = VerifiedRow(row, verdict, len(row.line) + len(row.subject), decided=failed)
        if not failed:
            self._groups.setdefault(answer.key, []).append(answer)
        self._answers.append(answer)
        self._bytes += answer.size
        found: list[Decision] = []
        while len(self._answers) > self._most_rows or self._bytes > self._most_bytes:
            found.append(self._take_first())
        return found

    def rest(self) -> list[Decision]:
        """Return the rows that are left."""
        return [self._take_first() for _ in range(len(self._answers))]

    def _take_first(self) -> Decision:
        answer = self._answers.popleft()
        self._bytes -= answer.size
        if not answer.decided:
            group = self._groups.pop(answer.key)
            self._decide(group)
            for each in group:
                each.decided = True
        return answer.row, answer.rejection
