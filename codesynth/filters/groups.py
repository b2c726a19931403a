"""Rows that answer the same instruction, gathered so that they can be compared."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from codesynth.codec import dumps, loads
from codesynth.models import Failure, Row

MOST_ROWS, MOST_BYTES = 1_000, 64 << 20
"""So much is held back: an answer that comes later is not compared with the ones before."""

Decision: TypeAlias = tuple[Row, Failure | None]


@dataclass(slots=True)
class Answer:
    """A row that was verified, on its way through the window.

    Attributes:
        told: what ``VerifyTask.subject`` says: the verdict, ``group`` and ``tests``.
        size: bytes that are counted for it.
        decision: the row as it is to be written, and why it is not wanted; None until known.
    """

    row: Row
    told: dict[str, Any]
    size: int
    decision: Decision | None = None

    @property
    def key(self) -> tuple[Any, Any]:
        """Identify the instruction and the tests."""
        return self.told["group"], self.told["tests"]

    def keep(self) -> None:
        """Write the row."""
        self.decision = self.row, None

    def reject(self, reason: str) -> None:
        """Write the row to the failures, with a reason."""
        self.decision = self.row, Failure("not_kept", reason)

    def columns(self) -> dict[str, Any]:
        """Read the columns that this run has added to the row."""
        added = self.row.line[self.row.raw_bytes :].removeprefix(b",")
        columns: dict[str, Any] = loads(b"{" + added)
        return columns

    def write_columns(self, columns: dict[str, Any]) -> None:
        """Replace the columns that this run has added; the input row keeps its bytes."""
        raw = self.row.line[: self.row.raw_bytes]
        comma = b"" if raw == b"{" else b","
        self.row = replace(self.row, line=raw + comma + dumps(columns)[1:])


class GroupWindow:
    """Holds rows back until those of the same instruction and tests can be decided together.

    A ``pipeline.RowWindow``. Rows leave it in the order in which they came. The group of the oldest
    row is decided when there are too many rows or bytes, or no more come.

    Args:
        decide: sets the decision of each answer of a group.
    """

    def __init__(
        self,
        decide: Callable[[Sequence[Answer]], None],
        *,
        most_rows: int = MOST_ROWS,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._decide, self._most_rows, self._most_bytes = decide, most_rows, most_bytes
        self._answers: deque[Answer] = deque()
        self._groups: dict[tuple[Any, Any], list[Answer]] = {}
        self._bytes = 0

    def put(self, row: Row) -> list[Decision]:
        """Take a row; return those that must leave. A row that failed is no answer."""
        told = {} if row.failure is not None else loads(row.subject)
        answer = Answer(row, told, len(row.line) + len(row.subject))
        self._answers.append(answer)
        self._bytes += answer.size
        if row.failure is not None:
            answer.keep()
        else:
            self._groups.setdefault(answer.key, []).append(answer)
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
        if answer.decision is None:
            self._decide(self._groups.pop(answer.key))
        if answer.decision is None:
            raise ValueError("an answer was not decided")
        return answer.decision
