"""The share of requests that an endpoint refuses at random, whatever the load."""

from __future__ import annotations

import math

MEMORY = 600
"""Requests that the share is a mean of."""
MARGIN = 0.005
"""Added to the share, with one standard deviation of it: too low a share pushes the limit down and
down, one that is too high only wastes as many requests."""
TOLERATED = 0.03
"""Part of the requests that may be refused beyond the share before it counts as exceeded."""
LEAST_SHARE, MOST_SHARE = 0.01, 0.9
"""A smaller share is none, and a higher one is not believed."""
DEVIATIONS = 2.5
"""Standard deviations from the expected number that are no chance any more."""
FEWER = 0.5
"""Part of the expected number below which the share was wrong."""
FEW = 3
"""Refusals that mean nothing, however few requests there were."""


class RandomRefusals:
    """Estimates that share.

    Attributes:
        share: 0 where there are none.
        is_measured: it comes from a sample at low load, not from slow start.
    """

    def __init__(self) -> None:
        self.share, self.is_measured = 0.0, False
        self._sent = self._refused = 0.0

    def guess(self, sent: int, refused: int) -> None:
        """Add a sample of slow start, unless a better one is known; the first is only a hint."""
        if not self.is_measured:
            first = not self._sent
            self._add(sent, refused)
            self.share = 0.0 if first else self.share

    def learn(self, sent: int, refused: int) -> None:
        """Add a sample at low load; one that differs much from the earlier ones replaces them."""
        expected = self.share * sent
        is_more = refused > expected + DEVIATIONS * math.sqrt(expected) + FEW
        if refused < FEWER * expected or is_more or not self.is_measured:
            self._sent = self._refused = 0.0
        self.is_measured = True
        self._add(sent, refused)

    def _add(self, sent: int, refused: int) -> None:
        keep = min(1.0, MEMORY / max(self._sent, 1))
        self._sent, self._refused = self._sent * keep + sent, self._refused * keep + refused
        share = self._refused / self._sent if self._refused >= FEW else 0.0
        share += MARGIN + math.sqrt(share * (1 - share) / self._sent)
        self.share = min(MOST_SHARE, share) if share >= LEAST_SHARE + MARGIN else 0.0

    def are_exceeded(self, sent: int, refused: int) -> bool:
        """Tell whether that many refusals are not of chance alone."""
        share = max(self.share, (self._refused + 1) / (self._sent + 4)) + TOLERATED
        return is_beyond(min(MOST_SHARE, share), sent, refused)


def is_beyond(share: float, sent: int, refused: int) -> bool:
    """Tell whether more are refused than chance explains if it refuses ``share`` of them."""
    chance = DEVIATIONS * math.sqrt(share * (1 - share) * sent)
    return refused > share * sent + FEW + chance
