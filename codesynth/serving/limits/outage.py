"""Tells when nobody answers any more."""

from __future__ import annotations

LONGEST_GAP = 120.0
"""Seconds between two failures after which nobody seems to have tried any more."""


class OutageGuard:
    """Counts the seconds in which requests failed and none succeeded.

    Only the time in which somebody tried counts, so neither slow answers nor an idle input look
    like an outage.

    >>> guard = OutageGuard(60.0)
    >>> for second in range(100):
    ...     guard.record(second, ok=second < 30)
    >>> guard.expired(99.0)
    True
    """

    def __init__(self, max_outage: float) -> None:
        self._max_outage = max_outage
        self._seconds = 0.0
        self._failed_at: float | None = None

    def record(self, now: float, *, ok: bool) -> None:
        """Note an answer, or an attempt that brought none."""
        if ok:
            self._seconds, self._failed_at = 0.0, None
            return
        if self._failed_at is not None:
            self._seconds += min(now - self._failed_at, LONGEST_GAP)
        self._failed_at = now

    def expired(self, now: float) -> bool:
        """Tell whether there was no answer for so long though some were asked for."""
        if self._failed_at is None or now - self._failed_at > LONGEST_GAP:
            return False
        return self._seconds >= self._max_outage
