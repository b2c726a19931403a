"""The limits that the user sets: ``--rpm``, requests in a minute, and ``--tpm``, tokens."""

import math

CATCH_UP_SECONDS = 0.25
"""Seconds that a request may be sent before its planned time, because an earlier one was late."""
USED_SHARE = 0.995
"""Share of a limit that is used. CATCH_UP_SECONDS can put the requests of 60.25 seconds into one
minute: at 99.5 % of the limit these are fewer than it allows."""
USED_SHARE_OF_TOKENS = 0.97
"""Share of a limit on tokens that is used: the tokens of requests in flight are only estimated."""


class RateLimit:
    """Spreads requests or tokens evenly, so that no 60 seconds have more than the limit.

    The tokens of a request are not divided, so a minute may have those of one request more.

    >>> limit = RateLimit(60.0)
    >>> limit.wait(0.0)
    0.0
    >>> limit.take(0.0, 1.0)
    >>> round(limit.wait(0.25), 2)
    0.51
    """

    def __init__(self, per_minute: float) -> None:
        self._seconds = 60.0 / (per_minute * USED_SHARE)  # for one request or token
        self._next = -math.inf

    def wait(self, now: float) -> float:
        """Tell the seconds until more may be used."""
        return max(0.0, self._next - CATCH_UP_SECONDS - now)

    def take(self, now: float, amount: float) -> None:
        """Use this amount now."""
        self._next = max(self._next, now) + amount * self._seconds

    def correct(self, amount: float) -> None:
        """Add to the amount that was used, or subtract from it if ``amount`` is negative."""
        self._next += amount * self._seconds


class TokenRateLimit:
    """A limit on tokens. How many a request uses is known only after its answer.

    Until then it counts the mean of the answers so far or, before the first, the caller's estimate.
    """

    def __init__(self, per_minute: float) -> None:
        self._limit = RateLimit(per_minute * USED_SHARE_OF_TOKENS)
        self._mean = 0.0
        self._answers = 0

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent."""
        return self._limit.wait(now)

    def take(self, now: float, estimate: int) -> float:
        """Reserve tokens for a request that is sent now; return how many."""
        reserved = self._mean if self._answers else max(1.0, estimate)
        self._limit.take(now, reserved)
        return reserved

    def settle(self, reserved: float, used: int | None) -> None:
        """Count the tokens that were used in place of those reserved; None: they are not known."""
        if used is not None:
            self._limit.correct(used - reserved)
        if used:
            self._answers += 1
            self._mean += (used - self._mean) / min(100, self._answers)
