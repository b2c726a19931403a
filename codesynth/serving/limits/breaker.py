"""Circuit breaker: while everything is refused, one trial at a time is sent."""

from __future__ import annotations

import math

IN_A_ROW = 8
"""Refusals in a row after which nothing is accepted any more."""
LEAST_REFUSED_PART = 0.9
"""Part of the requests since the first of these refusals that must have been refused."""
FIRST_PAUSE = 0.1
"""Seconds from the opening to the first trial, and the shortest pause between two."""
PAUSE_GROWTH = 0.2
"""Part of the time since the opening that the next pause lasts: 8 trials in the first second."""
EARLY_PAUSE = 0.25
"""Seconds between trials before the first answer of all: an endpoint that never answers is found as
soon as one row has used up its attempts."""
PATIENCE = 3.0
"""A trial that takes this many times as long as the last refusal counts as accepted."""
LEAST_PATIENCE = 0.05
"""Seconds that it must take at least."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds; a server that asks for a longer pause gets a trial after this time."""
HEADER_GAP = 1.0
"""Seconds, at least, between two Retry-After headers that are compared."""
MOMENT_TOLERANCE = 1.1
"""Seconds by which the moments that they name may differ: servers round up to whole seconds."""


class Breaker:
    """Opens after refusals in a row, and closes when a trial is accepted.

    Attributes:
        is_open: no more than trials may be sent.
        in_window: the server counts in windows of time: its Retry-After headers name one moment.
    """

    def __init__(self) -> None:
        self.is_open = self.in_window = False
        self._opened, self._opened_number = 0.0, 0
        self._ever_answered = False
        self._next, self._trial = -math.inf, math.inf  # moments: of the next trial, of the last
        self._patience = 0.0
        self._first, self._refused = 0, 0  # number of the first refused in a row; how many are
        self._window_end, self._header_at = -math.inf, -math.inf

    def restart(self) -> None:
        """Count the refusals in a row anew."""
        self._refused = 0

    def should_open(
        self, number: int, latency: float, retry_after: float | None, *, least: float
    ) -> bool:
        """Take a refusal; tell whether the breaker should open.

        Args:
            least: refusals in a row that are enough without a Retry-After header.
        """
        self._patience = PATIENCE * latency
        if not self._refused:
            self._first = number
        self._refused += 1
        if self._refused >= (IN_A_ROW if retry_after else least):
            if self._refused >= LEAST_REFUSED_PART * (number - self._first + 1):
                return True
            self.restart()
        return bool(self.in_window and retry_after)

    def answered(self, number: int) -> bool:
        """Take an answer; tell whether it answers a trial."""
        self._ever_answered = True
        if not self.is_open and number > self._first:
            self.restart()
        return self.is_open and number > self._opened_number

    def open(self, now: float, number: int, retry_after: float | None) -> None:
        """Open; ``number`` is that of the last request sent."""
        self.is_open, self._opened, self._opened_number = True, now, number
        self._next, self._trial = now + FIRST_PAUSE, math.inf
        self.restart()
        if retry_after is not None:
            self._header_at, self._window_end = now, now + retry_after
        self._follow_retry_after(now, retry_after)

    def wait(self, now: float) -> float:
        """Tell the seconds until the next trial, or until the one in flight counts as accepted."""
        if self._trial < math.inf:
            return self._trial + max(LEAST_PATIENCE, self._patience) - now
        return max(0.0, self._next - now)

    def is_trial_accepted(self, now: float) -> bool:
        """Tell whether the trial in flight takes longer than a refusal would."""
        return self._trial < math.inf and self.wait(now) <= 0

    def sent(self, now: float) -> None:
        """Note that a trial is sent."""
        pause = max(FIRST_PAUSE, PAUSE_GROWTH * (now - self._opened))
        self._next = now + (pause if self._ever_answered else EARLY_PAUSE)
        self._trial = now

    def refused(self, now: float, number: int, latency: float, retry_after: float | None) -> None:
        """Take a refusal while it is open."""
        self._patience = PATIENCE * latency
        if number > self._opened_number:
            self._trial = math.inf
            self._follow_retry_after(now, retry_after)

    def ended(self, number: int) -> None:
        """Take a result that says nothing of the load: if it is a trial's, it was accepted."""
        if number > self._opened_number:
            self._patience = 0.0

    def _follow_retry_after(self, now: float, retry_after: float | None) -> None:
        """Wait as the server asks, if it named the same moment before."""
        if retry_after is None:
            return
        moment = now + retry_after
        if now - self._header_at >= HEADER_GAP:
            self.in_window = abs(moment - self._window_end) < MOMENT_TOLERANCE
            self._header_at, self._window_end = now, moment
        if self.in_window:
            self._next = max(self._next, now + min(LONGEST_RETRY_AFTER, retry_after + FIRST_PAUSE))
