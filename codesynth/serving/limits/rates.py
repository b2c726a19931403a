"""Caps that the user sets: so many requests, or tokens, in any minute and never more."""

import math

TICK = 0.25
"""Seconds: how finely a minute is counted, and by how much a late send may be caught up with."""
TICKS = 241
"""A minute, and the tick that has just begun."""
MARGIN = 0.995
"""Part of a cap that is aimed at, as a network moves arrivals against each other."""

GUESSED = 0.985
"""Part of a cap on tokens that is aimed at, as what is in flight is guessed."""


class Cap:
    """At most so much in any sixty seconds, spread evenly.

    Spreading keeps servers that count shorter times content; the count makes it exact, in
    memory that does not grow.

    >>> cap = Cap(60.0)
    >>> cap.wait(0.0, 1.0)
    0.0
    >>> cap.take(0.0, 1.0)
    >>> round(cap.wait(0.25, 1.0), 2)
    0.51
    """

    def __init__(self, per_minute: float) -> None:
        self._most = per_minute
        self._rounding = 1e-9 * per_minute  # of sums of fractions
        self._seconds = 60.0 / (per_minute * MARGIN)
        self._next = -math.inf
        self._ticks = [0.0] * TICKS
        self._tick = -TICKS
        self._total = 0.0

    def wait(self, now: float, amount: float) -> float:
        """Tell the seconds until so much may be used; an amount above the cap goes alone."""
        self._advance(now)
        soonest = self._next - TICK - now
        excess = self._total + amount - self._most
        if excess > self._rounding and self._total > 0.0:
            soonest = max(soonest, self._freed(min(excess, self._total)) - now)
        return max(0.0, soonest)

    def take(self, now: float, amount: float) -> None:
        """Use so much."""
        self._advance(now)
        self._ticks[self._tick % TICKS] += amount
        self._total += amount
        self._next = max(self._next, now) + amount * self._seconds

    def correct(self, sent: float, amount: float) -> None:
        """Add so much (or less than nothing) to what was used at a time."""
        self._next += amount * self._seconds
        tick = int(sent / TICK)
        if tick > self._tick - TICKS:
            self._ticks[min(tick, self._tick) % TICKS] += amount
            self._total += amount

    def _advance(self, now: float) -> None:
        tick = int(now / TICK)
        if tick > self._tick:
            for old in range(max(self._tick + 1, tick - TICKS + 1), tick + 1):
                self._ticks[old % TICKS] = 0.0
            self._tick = tick
            self._total = sum(self._ticks)  # differences would keep what rounding leaves

    def _freed(self, amount: float) -> float:
        """Tell when so much will be more than a minute ago."""
        for tick in range(self._tick - TICKS + 1, self._tick + 1):
            amount -= self._ticks[tick % TICKS]
            if amount <= self._rounding:
                break
        return (tick + TICKS) * TICK


class TokenCap:
    """A cap on tokens, which are known only after the answer: kept as far as chance allows.

    Until then a request counts with the caller's estimate, corrected by how far the estimates
    were off on average; so an estimate of the prompt alone will do. Room is left for
    those in flight to use more than that.
    """

    def __init__(self, per_minute: float) -> None:
        self._cap = Cap(per_minute * GUESSED)
        self._estimated = self._used = 0.0  # means over the last requests, as is the error
        self._error = 0.0
        self._answers = 0
        self._pending = 0.0
        self._in_flight = 0

    def wait(self, now: float, estimate: int) -> float:
        """Tell the seconds until a request of about so many tokens may be sent."""
        return self._cap.wait(now, self._expected(estimate) + self._room())

    def take(self, now: float, estimate: int) -> None:
        """Send one."""
        expected = self._expected(estimate)
        self._cap.take(now, expected)
        self._pending += expected
        self._in_flight += 1
        self._estimated += (estimate - self._estimated) / min(32, self._answers + 1)

    def settle(self, sent: float, used: int | None) -> None:
        """Put what one really used in place of the estimate; None where that is not known."""
        expected = self._pending / self._in_flight
        self._pending -= expected
        self._in_flight -= 1
        if used is not None:
            self._cap.correct(sent, used - expected)
            if used:
                self._answers += 1
                weight = 1 / min(32, self._answers)
                self._used += weight * (used - self._used)
                self._error += weight * (abs(used - expected) - self._error)

    def _room(self) -> float:
        """Tell what those in flight may use beyond their estimates.

        Thrice the deviation that chance brings; and as long answers take longer, those that are
        not back yet are longer on average, by variance over mean.
        """
        deviation = 1.25 * self._error
        late = deviation * deviation / max(1.0, self._used)
        return 3.0 * deviation * math.sqrt(self._in_flight + 1) + late * self._in_flight

    def _expected(self, estimate: int) -> float:
        off = self._used - self._estimated if self._answers else 0.0
        return max(1.0, estimate + off)
