"""What a run notes about itself: its figures once a second, and at the end where its rows went."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codesynth.codec import dumps
from codesynth.errors import OutputError
from codesynth.journal import Journal
from codesynth.models import Stats, Usage
from codesynth.serving.limits import Budget

FIGURES = "figures"
"""The journal's note with the figures of its latest run; see ``RunNotes.figures``."""
_SECONDS = 1.0


def job_note(output: str) -> str:
    """Name the journal's note of what a finished output was made of."""
    return f"finished {Path(output).name}"


def fates_note(output: str) -> str:
    """Name the journal's note of where each row of a finished job went."""
    return f"rows of {Path(output).name}"


class RunNotes:
    """Writes the figures of a run once a second: to a file as JSON lines, and into the journal.

    Args:
        stats: the run's counts, read each time.
        total: counts the rows to come; None where that is not known.
        journal: gets the note, if there is one.
        path: the file to which lines are added; None writes no file.
        budget: knows what the journal's answers cost, if there is a price.
        load: returns how many requests are in flight, and how many may be.
        clock: seconds since the epoch.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(
        self,
        stats: Stats,
        total: Callable[[], int | None],
        journal: Journal | None = None,
        path: str | None = None,
        budget: Budget | None = None,
        load: Callable[[], tuple[int, int] | None] = lambda: None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stats, self._total, self._journal, self._path = stats, total, journal, path
        self._budget, self._load, self._clock = budget, load, clock
        self._started = clock()
        self._next = self._started + _SECONDS
        self._noted = (0, 0)
        if path is not None:
            self._append(b"")

    def figures(self, *, complete: bool) -> dict[str, Any]:
        """Return the figures of this moment; the keys are those of ``--log-json``."""
        stats, now = self._stats, self._clock()
        in_flight, limit = self._load() or (None, None)
        return {
            "time": round(now, 3),
            "seconds": round(now - self._started, 3),
            "complete": complete,
            "total": self._total(),
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
            "cost": None if self._budget is None else self._budget.spent,
        }

    def tick(self) -> None:
        """Write the figures if a second has passed; without a file only if there is news."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + _SECONDS
        counted = (self._stats.rows, self._stats.answered)
        if self._path is not None or counted != self._noted:
            self.write(complete=False)
        self._noted = counted

    def write(self, *, complete: bool) -> None:
        """Write the figures now."""
        if self._path is None and self._journal is None:
            return  # to count the total may take long
        line = dumps(self.figures(complete=complete))
        if self._path is not None:
            self._append(line + b"\n")
        if self._journal is not None:
            self._journal.set_note(FIGURES, line.decode())

    def add_up(self, figures: Iterable[dict[str, Any]]) -> None:
        """Set the counts, the load and the cost to the sums over the figures of several runs."""
        sums, groups, stats = Counter[str](), defaultdict[str, Any](Counter), self._stats
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
        self._load = lambda: (sums["in_flight"], sums["limit"])
        if self._budget is not None:
            self._budget.spent = sums["cost"]

    def _append(self, line: bytes) -> None:
        try:
            with open(self._path or "", "ab") as file:
                file.write(line)
        except OSError as exc:
            raise OutputError(f"cannot write {self._path}: {exc.strerror}") from exc
