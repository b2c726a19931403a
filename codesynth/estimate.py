"""What a whole job would take, by the answers to some of its rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from codesynth.models import Response, Usage
from codesynth.progress import duration

_SIGMAS = 2.0
"""Half the width of a range, in standard errors: 19 of 20 such ranges hold the true value."""


def is_spread(number: int, count: int, total: int) -> bool:
    """Tell whether a request is one of ``count`` that are spread evenly over ``total``."""
    return (number + 1) * count // total > number * count // total


@dataclass(slots=True)
class Estimate:
    """Gathers the usage of answers and words what ``total`` rows would take.

    Args:
        price: of a million tokens of prompts and of answers, if it is known.
        clock: seconds, never going back.
    """

    total: int
    price: tuple[float, float] | None = None
    clock: Callable[[], float] = time.monotonic
    _usages: list[Usage] = field(default_factory=list)
    _seconds: list[float] = field(default_factory=list)
    _asked: int = 0
    _started: float = math.nan

    def __post_init__(self) -> None:
        self._started = self.clock()

    def note(self, response: Response) -> None:
        """Count a response."""
        if response.answer is not None and response.answer.usage is not None:
            self._usages.append(response.answer.usage)
        if not response.cached:
            self._asked += 1
            self._seconds.append(response.seconds)

    def lines(self) -> list[str]:
        """Word the table: one line for each quantity, with its range."""
        if not self._usages:
            return ["no answer told how many tokens it used: nothing can be estimated"]
        rows = [
            ("prompt tokens", [u.prompt_tokens for u in self._usages]),
            ("completion tokens", [u.completion_tokens for u in self._usages]),
            ("  of them reasoning", [u.reasoning_tokens for u in self._usages]),
        ]
        lines = [f"for {self.total:,} rows, by {len(self._usages)} answers:"]
        lines += [_line(name, self._range(values), _count) for name, values in rows if any(values)]
        if self._asked:
            pace = (self.clock() - self._started) / self._asked * self.total
            low, _, high = self._range(self._seconds)
            middle = self.total * sum(self._seconds) / len(self._seconds) or 1.0
            spread = (
                (pace * low / middle, pace, pace * high / middle) if any(self._seconds) else None
            )
            lines.append(_line("time at this rate", spread or (pace, pace, pace), duration))
        if self.price is not None:
            prompt, completion = self.price
            cost = [
                (u.prompt_tokens * prompt + u.completion_tokens * completion) / 1e6
                for u in self._usages
            ]
            lines.append(_line("money", self._range(cost), lambda value: f"{value:,.2f}"))
        return lines

    def _range(self, values: Sequence[float]) -> tuple[float, float, float]:
        """Return (low, middle, high) of the sum over all rows."""
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
        error = _SIGMAS * math.sqrt(variance / len(values))
        return tuple(self.total * max(0.0, mean + d) for d in (-error, 0.0, error))  # type: ignore[return-value]  # three of them


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _line(name: str, spread: tuple[float, float, float], word: Callable[[float], str]) -> str:
    low, middle, high = map(word, spread)
    return f"  {name:<20} {middle:>14}   ({low} to {high})"
