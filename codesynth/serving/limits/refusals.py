"""The share of requests that an endpoint refuses at random, whatever the load."""

from __future__ import annotations

import math

MEMORY = 300
"""Requests that the share is a mean of."""
MARGIN = 0.01
"""Added to the share, so that chance does not push the limit down."""
TOLERATED = 0.03
"""Part of the requests that slow start lets be refused beyond the share."""
LEAST_SHARE = 0.01
"""A smaller share is none."""
MOST_SHARE = 0.9
"""A higher share is not believed."""
DEVIATIONS = 2.0
"""Standard deviations from the share that are no chance any more."""
FEW = 3
"""Refusals that mean nothing, however few requests there were."""


class RandomRefusals:
    """Estimates that share.

    Attributes:
        share: 0 where there are none.
        is_measured: a comparison has been made.
    """

    def __init__(self) -> None:
        self.share, self.is_measured = 0.0, False
        self._sent = self._refused = 0.0

    def learn(self, sent: int, refused: int) -> None:
        """Add a sample taken at a load that is no reason to refuse."""
        if not self.share:
            self._sent = self._refused = 0.0
        self._add(sent, refused)
        self.is_measured = True

    def learn_first(self, sent: int, refused: int) -> None:
        """Add a sample of slow start, where nothing better is known; the first is only a hint."""
        if not self.is_measured:
            first = not self._sent
            self._add(sent, refused)
            self.share = 0.0 if first else self.share

    def learn_less(self, sent: int, refused: int) -> None:
        """Add a sample with fewer refusals than there were at a higher load."""
        expected = self.share * sent
        was_guessed, self.is_measured = not self.is_measured, True
        if was_guessed or refused < expected - DEVIATIONS * math.sqrt(expected) - 1:
            self.share = self._sent = self._refused = 0.0
        if was_guessed or self.share:
            self._add(sent, min(refused, expected))

    def _add(self, sent: float, refused: float) -> None:
        keep = min(1.0, MEMORY / max(self._sent, 1))
        self._sent, self._refused = self._sent * keep + sent, self._refused * keep + refused
        share = min(MOST_SHARE, self._refused / self._sent) if self._refused >= FEW else 0.0
        self.share = share + MARGIN if share >= LEAST_SHARE else 0.0

    def are_exceeded(self, sent: int, refused: int) -> bool:
        """Tell whether that many refusals are not of chance alone."""
        share = min(MOST_SHARE, (self._refused + 1) / (self._sent + 4) + TOLERATED)
        chance = DEVIATIONS * math.sqrt(share * (1 - share) * sent)
        return refused > share * sent + FEW + chance
