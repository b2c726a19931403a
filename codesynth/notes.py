"""What a run notes about itself: its figures once a second, and at the end where its rows went."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from codesynth.codec import dumps
from codesynth.errors import OutputError
from codesynth.journal import Journal
from codesynth.models import Stats, Usage
from codesynth.serving.limits import Budget

FIGURES = "figures"
"""The journal's note with the figures of its latest run; see ``RunNotes.figures``."""
_SECONDS = 1.0
Load: TypeAlias = Callable[[], tuple[int, int] | None]
"""Returns how many requests are in flight, and how many may be; None before the first."""


def job_note(output: str) -> str:
    """Name the journal's note of what a finished output was made of."""
    return f"finished {Path(output).name}"


def destinations_note(output: str) -> str:
    """Name the journal's note of where each row of a finished job went."""
    return f"rows of {Path(output).name}"


@dataclass(eq=False, repr=False)
class RunNotes:
    """Writes the figures of a run once a second: to a file as JSON lines, and into the journal.

    Raises:
        OutputError: the file cannot be written.
    """

    stats: Stats
    total: Callable[[], int | None]  # of the rows to come; None if not known
    journal: Journal | None = None
    path: str | None = None  # lines are added to this file
    budget: Budget | None = None  # knows what the journal's answers cost
    load: Load = lambda: None
    clock: Callable[[], float] = time.time  # seconds since the epoch

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._next = self._started + _SECONDS
        self._noted = (0, 0)
        if self.path is not None:
            self._append(b"")

    def figures(self, *, complete: bool) -> dict[str, Any]:
        """Return the figures of this moment; the keys are those of ``--log-json``."""
        stats, now = self.stats, self.clock()
        in_flight, limit = self.load() or (None, None)
        return {
            "time": round(now, 3),
            "seconds": round(now - self._started, 3),
            "complete": complete,
            "total": self.total(),
            "rows": stats.rows,
            "ok": stats.ok,
            "failed": dict(stats.failures),
            "rejected": dict(stats.rejections),
            "answered": stats.answered,
            "from_journal": stats.cached,
            "attempts": stats.attempts,
            "in_flight": in_flight,
            "limit": limit,
            "tokens": asdict(stats.used),
            "tokens_from_journal": asdict(stats.saved),
            "cost": None if self.budget is None else self.budget.spent,
        }

    def tick(self) -> None:
        """Write the figures if a second has passed; without a file only if there is news."""
        if self.clock() < self._next:
            return
        self._next = self.clock() + _SECONDS
        counted = (self.stats.rows, self.stats.answered)
        if self.path is not None or counted != self._noted:
            self.write(complete=False)
        self._noted = counted

    def write(self, *, complete: bool) -> None:
        """Write the figures now."""
        if self.path is None and self.journal is None:
            return  # to count the total may take long
        line = dumps(self.figures(complete=complete))
        if self.path is not None:
            self._append(line + b"\n")
        if self.journal is not None:
            self.journal.set_note(FIGURES, line.decode())

    def add_up(self, figures: Iterable[dict[str, Any]]) -> None:
        """Set the counts, the load and the cost to the sums over the figures of several runs."""
        sums, groups, stats = Counter[str](), defaultdict[str, Any](Counter), self.stats
        for each in figures:
            for name, value in each.items():
                if isinstance(value, dict):
                    groups[name].update(value)
                else:
                    sums[name] += value or 0
        stats.rows, stats.answered, stats.ok = sums["rows"], sums["answered"], sums["ok"]
        stats.cached, stats.attempts = sums["from_journal"], sums["attempts"]
        stats.failures, stats.rejections = groups["failed"], groups["rejected"]
        stats.used, stats.saved = Usage(**groups["tokens"]), Usage(**groups["tokens_from_journal"])
        self.load = lambda: (sums["in_flight"], sums["limit"])
        if self.budget is not None:
            self.budget.spent = sums["cost"]

    def _append(self, line: bytes) -> None:
        try:
            with open(self.path or "", "ab") as file:
                file.write(line)
        except OSError as exc:
            raise OutputError(f"cannot write {self.path}: {exc.strerror}") from exc
