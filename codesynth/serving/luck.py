"""Are refusals a matter of load, or of luck? Some gateways refuse a share of all requests."""

from __future__ import annotations

import math

_APART = 2  # powers of two between two loads that are compared
_ENOUGH, _REFUSED = 15, 3  # outcomes, refusals of a load before it says something
_MEMORY = 400
_HALF_LIFE = 0.5  # seconds
_OFTEN = 0.6  # refused so often, it is an outage or a limit
_SURPLUS = 0.1


class Luck:
    """Compares how often requests are refused when many are sent and when few are.

    Where a quarter of the load, or less, meets about the same share of refusals, and refusals do
    not come in clusters as those of a limit do, cutting the load does not help. It is looked at
    again when the share grows.

    >>> luck = Luck()
    >>> for i in range(4000):  # a tenth is refused, whether 1,000 are sent a second or 10
    ...     now = i / 1000 if i < 2000 else 2 + (i - 2000) / 10
    ...     luck.sent(now)
    ...     _ = luck.note(refused=i % 10 == 0)
    >>> luck.decides
    True
    """

    def __init__(self) -> None:
        self.decides = False
        self._usual = 0.0
        self._rate = 0.0
        self._at = self._since = -math.inf
        self._loads: dict[int, list[float]] = {}  # log2 of the rate: outcomes, refusals
        self._behind = [0.0, 0.0]  # outcomes and refusals right behind a refusal
        self._was_refused = False

    def sent(self, now: float) -> None:
        """Note that a request goes out."""
        if self._since == -math.inf:
            self._since = self._at = now
        self._rate *= 0.5 ** ((now - self._at) / _HALF_LIFE)
        self._rate += math.log(2) / _HALF_LIFE
        self._at = now

    def _level(self) -> int:
        """Tell the power of two of requests a second; the mean is young at first."""
        age = 1 - 0.5 ** ((self._at - self._since) / _HALF_LIFE)
        return round(math.log2(max(self._rate / max(age, 0.001), 0.01)))

    def note(self, *, refused: bool) -> bool:
        """Note an outcome; True where it has just turned out that luck decides."""
        level = self._level()
        load = self._loads.setdefault(level, [0.0, 0.0])
        load[0] += 1
        load[1] += refused
        if self._was_refused:
            self._behind[0] += 1
            self._behind[1] += refused
        self._was_refused = refused
        for each in (load, self._behind):
            if each[0] > _MEMORY:
                each[:] = each[0] / 2, each[1] / 2
        if not refused:
            return False
        if self.decides:
            n, bad = load
            if n >= 2 * _ENOUGH and bad / n > 2 * self._usual + _SURPLUS:
                self.decides = False
                self._loads.clear()
            return False
        self.decides = self._is_luck(level)
        return self.decides

    def _is_luck(self, level: int) -> bool:
        """Compare the present load with each that is far above or below it."""
        n, bad = self._loads[level]
        if n < _ENOUGH or bad < _REFUSED or bad / n > _OFTEN:
            return False
        for other, (m, worse) in self._loads.items():
            if abs(other - level) < _APART or m < _ENOUGH or worse / m > _OFTEN:
                continue
            shares = sorted((bad / n, worse / m))
            if shares[0] >= shares[1] / 2 and not self._is_clustered(shares[1]):
                self._usual = shares[1]
                return True
        return False

    def _is_clustered(self, share: float) -> bool:
        n, bad = self._behind
        return n < _REFUSED or bad / n > 1.5 * share + _SURPLUS
