"""The share of requests that an endpoint refuses at random, whatever the load."""

from __future__ import annotations

import math

MEMORY = 600
"""Requests that the share is a mean of."""
MARGIN = 0.005
"""Added to the share, with one standard deviation of it. If the share is too low, the limit falls
and falls; if it is too high, only this many more requests are refused."""
TOLERATED = 0.03
"""Part of the requests that may be refused beyond the share before it counts as exceeded."""
LEAST_SHARE, MOST_SHARE = 0.01, 0.9
"""A smaller share is none, and a higher one is not believed."""
DEVIATIONS = 2.5
"""Standard deviations above the expected number from which chance is no explanation."""
FEWER = 0.5
"""Below this part of the expected number of refusals, the share was wrong."""
FEW = 3
"""So many refusals mean nothing, however few requests there were."""


class RandomRefusals:
    """Estimates the share of requests that are refused at random.

    Attributes:
        share: 0 if none are.
        is_measured: it comes from a sample at low load, not from slow start.
    """

    def __init__(self) -> None:
        self.share, self.is_measured = 0.0, False
        self._sent = self._refused = 0.0

    def guess(self, sent: int, refused: int) -> None:
        """Add a sample of slow start, unless the share is measured; the first alone sets none."""
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
        """Tell whether the share does not explain so many refusals."""
        # Few samples may have missed a higher share.
        share = max(self.share, (self._refused + 1) / (self._sent + 4)) + TOLERATED
        return is_beyond(min(MOST_SHARE, share), sent, refused)


def is_beyond(share: float, sent: int, refused: int) -> bool:
    """Tell whether more are refused than chance explains if it refuses ``share`` of them."""
    chance = DEVIATIONS * math.sqrt(share * (1 - share) * sent)
    return refused > share * sent + FEW + chance
