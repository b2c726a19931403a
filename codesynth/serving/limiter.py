"""How many requests may be in flight: a state machine with no I/O and no clock of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

AUTO = 64

Verdict: TypeAlias = Literal["ok", "overload", "timeout", "error"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt taught about the endpoint.

    Attributes:
        latency: seconds, from send to last byte.
        verdict: overload is a refusal of load (429, 503, 529); an error teaches nothing about it.
        retry_after: seconds the server asked for.
        tokens: used, as the server counted them.
    """

    latency: float
    verdict: Verdict
    retry_after: float | None = None
    tokens: int | None = None


class Limiter:
    """Permits for one endpoint."""

    def __init__(self, *, concurrency: int | None) -> None:
        self.limit = concurrency or AUTO
        self.in_flight = 0

    def acquire(self, now: float, tokens: int = 0) -> float:  # noqa: ARG002
        """Take a permit: 0.0, or the seconds to wait (inf: until one is given back)."""
        if self.in_flight >= self.limit:
            return math.inf
        self.in_flight += 1
        return 0.0

    def release(self, now: float, outcome: Outcome) -> None:  # noqa: ARG002
        """Give a permit back and learn."""
        self.in_flight -= 1

    def cancel(self, now: float) -> None:  # noqa: ARG002
        """Give a permit back; nothing was learnt."""
        self.in_flight -= 1
