"""Gather the rows that answer the same instruction, so that they can be compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from codesynth.codec import loads
from codesynth.models import Failure, Row

MOST_ROWS, MOST_BYTES = 1_000, 64 << 20
"""Most rows and bytes that are held back; an answer that comes later is not compared."""

Decision: TypeAlias = tuple[Row, Failure | None]


@dataclass(slots=True)
class VerifiedRow:
    """A row that was verified, on its way through the window.

    Attributes:
        row: the row that will be written.
        verdict: the verdict with ``group`` and ``tests``; see ``VerifyTask.subject``.
        size: bytes that it takes in the window.
        rejection: why the row is rejected.
        decided: its group was decided, or the row has failed.
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
    """Holds rows back until all rows with the same instruction and tests can be decided together.

    It is a ``pipeline.RowWindow``. Rows leave it in the order in which they came. The group of the
    oldest row is decided when there are too many rows or bytes, or at the end.

    Args:
        decide: called with the answers of a group; it may reject them or change their rows.
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
        """Take a row; return those that must leave. A row that failed belongs to no group."""
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
