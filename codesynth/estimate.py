"""``--estimate``: what a whole job would take, computed from the answers to some of its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codesynth.models import Price, Response, Usage
from codesynth.progress import duration

_SIGMAS = 2.0
"""Half the width of a range, in standard errors: 19 of 20 such ranges contain the true value."""


def is_spread(number: int, count: int, total: int) -> bool:
    """Tell whether a request is one of ``count`` that are spread evenly over ``total``."""
    return (number + 1) * count // total > number * count // total


@dataclass(eq=False, repr=False)
class Estimate:
    """Collects what answers took, and writes what ``total`` rows would take."""

    total: int
    price: Price | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._usages: list[Usage] = []
        self._seconds: list[float] = []
        self._started = self.clock()

    def note(self, response: Response) -> None:
        """Count a response."""
        if response.answer is not None and response.answer.usage is not None:
            self._usages.append(response.answer.usage)
        if not response.cached:
            self._seconds.append(response.seconds)

    def lines(self) -> list[str]:
        """Write the table: one line for each quantity, with its range."""
        usages = self._usages
        if not usages:
            return ["no answer says how many tokens it used: nothing can be estimated"]
        # The time of all rows is in proportion to that of these; so is its range.
        passed, summed = self.clock() - self._started, sum(self._seconds)
        times = [seconds * passed / summed for seconds in self._seconds] if summed else []
        costs = [self.price.of(usage) for usage in usages] if self.price is not None else []
        quantities: list[tuple[str, Sequence[float], Callable[[float], str]]] = [
            ("prompt tokens", [each.prompt_tokens for each in usages], "{:,.0f}".format),
            ("completion tokens", [each.completion_tokens for each in usages], "{:,.0f}".format),
            ("  of them reasoning", [each.reasoning_tokens for each in usages], "{:,.0f}".format),
            ("time at this rate", times, duration),
            ("money", costs, "{:,.4f}".format),
        ]
        lines = [f"for {self.total:,} rows, estimated from {len(usages)} answers:"]
        for name, values, word in quantities:
            if any(values):
                mean = sum(values) / len(values)
                variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
                error = _SIGMAS * math.sqrt(variance / len(values))
                spread = (mean, max(0.0, mean - error), mean + error)
                middle, low, high = (word(self.total * value) for value in spread)
                lines.append(f"  {name:<20} {middle:>14}   ({low} to {high})")
        return lines
