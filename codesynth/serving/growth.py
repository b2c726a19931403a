"""How a limit grows with time: gently first, then twice as fast again and again."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Growth:
    """A value that leaves ``start`` by ``share`` of it, and doubles the distance as time goes by.

    With a share of 1 the value itself doubles; with a small one a limit that was right costs
    little, and one that has become far too low is left behind soon.

    Attributes:
        start: the value up to ``since``.
        since: seconds.
        share: what the distance would be counted from, as a part of ``start``.
        doubling: seconds in which share plus distance double.

    >>> growth = Growth(100.0, since=0.0, share=0.02, doubling=1.0)
    >>> [round(growth.at(now)) for now in (0.0, 1.0, 5.0, 10.0)]
    [100, 102, 162, 2146]
    """

    start: float
    since: float
    share: float
    doubling: float

    def at(self, now: float) -> float:
        """Tell the value at a time."""
        doublings = (now - self.since) / self.doubling
        if doublings <= 0:
            return self.start
        return self.start * (1.0 + self.share * (math.exp2(min(doublings, 64.0)) - 1.0))

    def when(self, value: float) -> float:
        """Tell the time at which a value above ``start`` is reached."""
        return self.since + self.doubling * math.log2(1.0 + (value / self.start - 1.0) / self.share)
