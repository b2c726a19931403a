"""``verify --keep`` and ``--best``: keep rows by their verdict."""

from __future__ import annotations

from typing import Any

from codesynth.codec import loads
from codesynth.models import Failure, Row

_INSTRUCTIONS = 100_000
"""Most instructions with a kept answer that are remembered, the latest ones."""


class Selection:
    """The filter of ``verify --keep`` and ``--best``; looks at ``VerifyTask.subject``.

    Args:
        keep: statuses whose rows are kept; None keeps all.
        best: keep the first that passed of several answers to one instruction.

    Attributes:
        first: the first row that was rejected, and why; empty if none was.
    """

    def __init__(self, keep: frozenset[str] | None, *, best: bool) -> None:
        self._keep = frozenset({"passed"}) if best else keep
        self._best = best
        self._answered: dict[Any, None] = {}
        self.first = ""

    def reject(self, row: Row) -> Failure | None:
        """Say why a row is not kept."""
        verdict, reason = loads(row.subject), ""
        if self._keep is not None and verdict["status"] not in self._keep:
            reason = f"{verdict['status']}: {verdict['message']}".removesuffix(": ")
        elif self._best and verdict["group"] in self._answered:
            reason = "an earlier answer to the same instruction passed"
        if reason:
            self.first = self.first or f"line {row.number}: {reason}"
            return Failure("not_kept", reason)
        if self._best:
            self._answered[verdict["group"]] = None
            if len(self._answered) > _INSTRUCTIONS:
                del self._answered[next(iter(self._answered))]
        return None

    def note_failed(self) -> None:
        """Ignore a row that failed."""
