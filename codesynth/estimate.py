"""``--estimate``: what a whole job would take, computed from the answers to some of its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from codesynth.models import Price, Response, Usage
from codesynth.progress import duration

_SIGMAS = 2.0
"""Half the width of a range, in standard errors: 19 of 20 such ranges contain the true value."""


def is_spread(number: int, count: int, total: int) -> bool:
    """Tell whether a request is one of ``count`` that are spread evenly over ``total``."""
    return (number + 1) * count // total > number * count // total


class Estimate:
    """Collects the usage of answers, and writes what ``total`` rows would take.

    Args:
        price: of a million tokens of prompts and of answers, if it is known.
        clock: seconds, never going back.
    """

    def __init__(
        self,
        total: int,
        price: Price | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._price, self._clock = total, price, clock
        self._usages: list[Usage] = []
        self._seconds: list[float] = []
        self._started = clock()

    def note(self, response: Response) -> None:
        """Count a response."""
        if response.answer is not None and response.answer.usage is not None:
            self._usages.append(response.answer.usage)
        if not response.cached:
            self._seconds.append(response.seconds)

    def lines(self) -> list[str]:
        """Write the table: one line for each quantity, with its range."""
        if not self._usages:
            return ["no answer says how many tokens it used: nothing can be estimated"]
        rows = [
            ("prompt tokens", [u.prompt_tokens for u in self._usages]),
            ("completion tokens", [u.completion_tokens for u in self._usages]),
            ("  of them reasoning", [u.reasoning_tokens for u in self._usages]),
        ]
        lines = [f"for {self._total:,} rows, by {len(self._usages)} answers:"]
        lines += [_line(name, self._range(values), _count) for name, values in rows if any(values)]
        if self._seconds:
            lines.append(_line("time at this rate", self._time(), duration))
        if self._price is not None:
            cost = [self._price.of(usage) for usage in self._usages]
            lines.append(_line("money", self._range(cost), lambda value: f"{value:,.2f}"))
        return lines

    def _time(self) -> tuple[float, float, float]:
        """Scale the time of these rows to all rows; its range is that of the answers' seconds."""
        pace = (self._clock() - self._started) / len(self._seconds) * self._total
        low, middle, high = self._range(self._seconds)
        return (pace * low / middle, pace, pace * high / middle) if middle else (pace, pace, pace)

    def _range(self, values: Sequence[float]) -> tuple[float, float, float]:
        """Return (low, middle, high) of the sum over all rows."""
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        error = _SIGMAS * math.sqrt(variance / len(values))
        low = max(0.0, mean - error)
        return self._total * low, self._total * mean, self._total * (mean + error)


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _line(name: str, spread: tuple[float, float, float], word: Callable[[float], str]) -> str:
    low, middle, high = map(word, spread)
    return f"  {name:<20} {middle:>14}   ({low} to {high})"
