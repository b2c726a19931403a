"""Circuit breaker: while everything is refused, one trial at a time is sent."""

from __future__ import annotations

import math

IN_A_ROW = 8
"""Refusals in a row after which nothing is accepted any more."""
FIRST_PAUSE = 0.1
"""Seconds from the opening to the first trial, and the shortest pause between two."""
PAUSE_GROWTH = 0.2
"""Part of the time since the opening that the next pause lasts: 8 trials in the first second."""
EARLY_PAUSE = 0.25
"""Seconds between trials before the first answer, so that a dead endpoint is found out as soon as
one row has used up its attempts."""
PATIENCE = 3.0
"""Times as long as a refusal takes: a trial that is not back then has been accepted."""
LONGEST_WISH = 60.0
"""Seconds; a server that asks for more is tried nevertheless."""
AGREEMENT = 1.1
"""Seconds by which two Retry-After headers may name different moments, as they are rounded up."""


class Breaker:
    """Opens after refusals in a row, and closes when a trial is accepted.

    A Retry-After that names the same moment twice, a second apart, is a window that ends then.

    Attributes:
        is_open: no more than trials may be sent.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._opened, self._opened_number = 0.0, 0
        self._ever = False
        self._next, self._trial = -math.inf, math.inf
        self._patience = 0.0
        self._first: int | None = None  # number of the first refused request in a row
        self._refused = 0
        self._moment, self._heard, self._trusted = -math.inf, -math.inf, False

    def restart(self) -> None:
        """Count the refusals in a row anew."""
        self._first, self._refused = None, 0

    def should_open(
        self, number: int, latency: float, retry_after: float | None, *, idle: bool
    ) -> bool:
        """Take a refusal; tell whether nothing is accepted: too many in a row, answers aside.

        Refusals also come in batches, so nothing may be in flight, or the server asks to wait.
        """
        self._patience = PATIENCE * latency
        if self._first is None:
            self._first = number
        self._refused += 1
        if self._refused >= IN_A_ROW and (idle or retry_after):
            if self._refused >= 0.9 * (number - self._first + 1):
                return True
            self.restart()
        return bool(self._trusted and retry_after)

    def answered(self, number: int) -> bool:
        """Take an answer; tell whether it is that of a trial."""
        self._ever = True
        if self.is_open:
            return number > self._opened_number
        if self._first is not None and number > self._first:
            self.restart()
        return False

    def open(self, now: float, number: int, retry_after: float | None) -> None:
        """Open; ``number`` is that of the last request sent."""
        self._trial = math.inf
        self.is_open, self._opened, self._opened_number = True, now, number
        self.restart()
        self._next = now + FIRST_PAUSE
        if retry_after:
            self._heard, self._moment = now, now + retry_after
        self._listen(now, retry_after)

    def wait(self, now: float) -> float:
        """Tell the seconds until the next trial, or until the one in flight counts as accepted."""
        if self._trial < math.inf:
            return self._trial + max(0.05, self._patience) - now
        return max(0.0, self._next - now)

    def is_trial_accepted(self, now: float) -> bool:
        """Tell whether the trial in flight takes longer than a refusal would."""
        return self._trial < math.inf and self.wait(now) <= 0

    def sent(self, now: float) -> None:
        """Note that a trial is sent."""
        self._next = now + (
            max(FIRST_PAUSE, PAUSE_GROWTH * (now - self._opened)) if self._ever else EARLY_PAUSE
        )
        self._trial = now

    def refused(self, now: float, number: int, latency: float, retry_after: float | None) -> None:
        """Take a refusal while it is open."""
        self._patience = PATIENCE * latency
        if number > self._opened_number:
            self._trial = math.inf
            self._listen(now, retry_after)

    def _listen(self, now: float, retry_after: float | None) -> None:
        if retry_after is None:
            return
        moment = now + retry_after
        if now - self._heard >= 1:
            self._trusted = abs(moment - self._moment) < AGREEMENT
            self._heard, self._moment = now, moment
        if self._trusted:
            self._next = max(self._next, now + min(LONGEST_WISH, retry_after + 0.05))
