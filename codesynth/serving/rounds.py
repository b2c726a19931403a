"""What a number of completions in a row showed, and whether more load brought more throughput."""

import math
from dataclasses import dataclass

CERTAIN = 2000
"""Completions after which a comparison is decided as it stands."""


@dataclass(frozen=True, slots=True)
class Round:
    """What some completions in a row showed.

    Attributes:
        count: completions.
        seconds: how long it took.
        rate: work (tokens, or requests) done in a second.
        load: mean number of requests in flight.
        latency: mean seconds of a request.
        spread: squared coefficient of variation of the latencies.
    """

    count: int
    seconds: float
    rate: float
    load: float
    latency: float
    spread: float

    def merged(self, other: "Round") -> "Round":
        """Average with another round at the same limit."""
        share = other.count / (self.count + other.count)
        return Round(
            min(self.count + other.count, CERTAIN),
            self.seconds + other.seconds,
            self.rate + share * (other.rate - self.rate),
            self.load + share * (other.load - self.load),
            self.latency + share * (other.latency - self.latency),
            self.spread + share * (other.spread - self.spread),
        )

    def compared(self, base: "Round") -> tuple[float, float, float]:
        """Compare with a round at a lower load.

        Returns:
            How much more load there was and how much more was done, as logarithms, and the
            doubt about the latter: what chance alone does in one case of twenty.
        """
        doubt = (base.spread + 0.25) / base.count + (self.spread + 0.25) / self.count
        return (
            math.log(max(self.load / base.load, 1.001)),
            math.log(self.rate / base.rate),
            1.65 * math.sqrt(doubt),
        )


class Meter:
    """Adds up the completions of the round that is under way.

    Attributes:
        count: completions so far.
        first: latency of the first completion of all, which had next to no queue before it.
    """

    def __init__(self) -> None:
        self.first = math.inf
        self.open(0.0)

    def open(self, now: float) -> None:
        """Begin a round."""
        self.count = 0
        self._opened = self._last = now
        self._work = self._latencies = self._squares = self._area = 0.0
        self._quickest = math.inf

    def add(self, now: float, latency: float, work: float, in_flight: int) -> None:
        """Add a completion; ``in_flight`` counts it still."""
        latency = max(latency, 1e-6)
        if self.first == math.inf:
            self.first = latency
        self._area += in_flight * (now - self._last)
        self._last = now
        self.count += 1
        self._work += work
        self._latencies += latency
        self._squares += latency * latency
        if latency < self._quickest:
            self._quickest = latency

    @property
    def instant(self) -> bool:
        """Tell whether it is too short to count: what is sent together comes back together."""
        return self._last - self._opened < 0.5 * self._quickest

    @property
    def spread(self) -> float:
        """The squared coefficient of variation of the latencies."""
        return max(0.0, self.count * self._squares / (self._latencies * self._latencies) - 1.0)

    def read(self) -> Round:
        """Tell what the round showed."""
        seconds = self._last - self._opened
        return Round(
            self.count,
            seconds,
            self._work / seconds,
            self._area / seconds,
            self._latencies / self.count,
            self.spread,
        )
