"""Caps that the user sets: most requests, or tokens, in a minute."""

import math

CATCH_UP_SECONDS = 0.25
"""By which a late send may be caught up with."""
MARGIN = 0.995
"""Part of a cap that is aimed at, so that no minute has more though late sends are caught up with:
60.25 seconds at 99.5 % are less than 60 at 100 %."""
GUESSED = 0.97
"""Part of a cap on tokens that is aimed at, as what is in flight is guessed."""


class Cap:
    """Spreads what is used evenly over each minute.

    So a minute holds no more than the cap, except by the part of one amount that is not a whole
    number of times in it.

    >>> cap = Cap(60.0)
    >>> cap.wait(0.0)
    0.0
    >>> cap.take(0.0, 1.0)
    >>> round(cap.wait(0.25), 2)
    0.51
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds = 60.0 / (per_minute * MARGIN)
        self._next = -math.inf

    def wait(self, now: float) -> float:
        """Tell the seconds until more may be used."""
        return max(0.0, self._next - CATCH_UP_SECONDS - now)

    def take(self, now: float, amount: float) -> None:
        """Use so much."""
        self._next = max(self._next, now) + amount * self._seconds

    def correct(self, amount: float) -> None:
        """Add so much (or less than nothing) to what was used."""
        self._next += amount * self._seconds


class TokenCap:
    """A cap on tokens, which are known only after the answer.

    Until then a request counts with the mean of the answers so far; before the first, with the
    caller's estimate.
    """

    def __init__(self, per_minute: float) -> None:
        self._cap = Cap(per_minute * GUESSED)
        self._mean = 0.0
        self._answers = 0

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent."""
        return self._cap.wait(now)

    def take(self, now: float, estimate: int) -> float:
        """Send one; return the tokens that are reserved for it."""
        reserved = self._mean if self._answers else max(1.0, estimate)
        self._cap.take(now, reserved)
        return reserved

    def settle(self, reserved: float, used: int | None) -> None:
        """Put what one really used in place of that; None where it is not known."""
        if used is not None:
            self._cap.correct(used - reserved)
        if used:
            self._answers += 1
            self._mean += (used - self._mean) / min(100, self._answers)
