"""How many requests an endpoint takes at a time, learned from its answers and refusals.

Two kinds of endpoint, one law. One that refuses what is too much is probed: the limit leaves the
level that was taken, gently first, and falls back to it where it is refused. One that only
queues never refuses, so a higher limit is kept only where throughput rose with it. Throughput is
compared over rounds of as many completions as the limit, never by single latencies: those of
language models differ by their length far more than by load.
"""

import math

from codesynth.serving.growth import Growth
from codesynth.serving.rounds import CERTAIN, Meter, Round

BLIND = 16.0
"""Limit that is tried before anything was answered: in time for a slow first answer, and not too
many for a server that answers one at a time."""
RAMP = 0.15
"""Seconds in which a limit may double at most: a refusal comes back sooner."""
PROBE = 0.02
"""Share of the limit by which a probe starts."""
PATIENT = 100
"""Completions between two probes: one refusal in a hundred is cheap."""
PEACE = 1.0
"""Seconds between two probes, at least."""
STEP = 0.35
"""A logarithm: loads that differ by less are not compared in haste."""
WORTH, WORTH_IN_HASTE = 0.1, 0.25
"""Part of the growth of the load that throughput has to grow by to make it worth while."""
DEEPEST = 60.0
"""Seconds that an endpoint may take for all that is in flight, at the rate it has shown."""


class Concurrency:
    """The limit of one endpoint.

    Attributes:
        limit: most requests in flight now.
        target: the limit that is grown to.
        refusal_latency: seconds in which a refusal came back the last time.
        full: the limit held a request back, or was reached, in this round.
        settled: the limit is a level that was taken before, not one that is being tried.
        hasty: still in the slow start, where it grows fourfold in a round trip.
        strays: refusals that changed nothing, for the caller to count: where there are some, one
            more does no harm, so the limit is tried sooner.
        cuts: times it fell since it was at peace for a while.
    """

    def __init__(self, maximum: int, *, fixed: bool = False) -> None:
        self.limit = self.target = float(maximum)
        self.refusal_latency = 0.1
        self.full = self.settled = False
        self.hasty = not fixed
        self._maximum = float(maximum)
        self._fixed = fixed
        self._growth: Growth | None = None
        # The level to return to quickly; inf before any refusal, 0 where queues set the limit.
        self._known = math.inf
        self._floor = 1.0  # what one burst of refusals can leave of it
        self._base: Round | None = None
        self._trial: Round | None = None
        self._warm = self._answered = False
        self._hold = 0
        self._patience = 1
        self.strays = self.cuts = 0
        self._need = 1  # completions of the round
        self._meter = Meter()
        if not fixed:
            self.limit, self.target = 1.0, min(BLIND, self._maximum)

    def wait(self, now: float, in_flight: int) -> float:
        """Tell the seconds until one more may be sent; inf where one has to come back first."""
        if in_flight < int(self.limit):
            return 0.0
        self.full = True
        if self.limit >= self.target:
            return math.inf
        if self._growth is None:
            self._open(now, 1)
            self._growth = Growth(self.limit, now, 1.0, RAMP)
        self.limit = max(self.limit, min(self.target, self._growth.at(now)))
        if in_flight < int(self.limit):
            return 0.0
        if in_flight + 1 > self.target:
            return math.inf
        return max(0.001, self._growth.when(in_flight + 1) - now)

    def completed(self, now: float, latency: float, work: float, in_flight: int) -> None:
        """Learn from an answer; ``in_flight`` counts it still."""
        if self._fixed:
            return
        self._answered = True
        self._meter.add(now, latency, work, in_flight)
        if self._meter.count >= self._need and self._telling():
            self._close(now, self._meter.read())

    def refused(self, now: float, level: int, factor: float, *, sure: bool) -> None:
        """Fall back to a part of what was in flight when a request was refused.

        Args:
            level: requests in flight, without the refused one.
            factor: part of the level to go on with.
            sure: others were accepted lately, so the level says something about the endpoint.
        """
        if self._fixed:
            return
        self.cuts += 1
        known = self._known if 0.0 < self._known < math.inf else self.limit
        self._floor = 0.5 * known if sure else known
        if self._answered:
            self._known = max(float(level), self._floor, 1.0) if sure else known
        drains = factor * level < 0.9 * self.limit
        self._settle(now, factor * level)
        self._warm = not drains
        if self._below():
            self._need = int(self.limit)

    def sink(self, level: int) -> None:
        """Fall by one more of the same burst of refusals: it was in flight, but not taken."""
        if self._fixed:
            return
        self.limit = self.target = max(1.0, min(self.limit, float(level)))
        if self._answered:
            self._known = max(min(self._known, float(level)), self._floor)
        if self._below():
            self._need = min(self._need, int(self.limit))

    def restart(self, now: float, level: int) -> None:
        """Try again from one request more than are in flight, as nothing is taken any more."""
        if self._fixed:
            return
        self._settle(now, min(self.limit, level + 1.0))
        self._need = 1
        self._aim(now, BLIND if self._known == math.inf else self._known, 1.0, RAMP)
        self.hasty = not self._answered
        self.settled = self._answered

    @property
    def careful(self) -> bool:
        """Tell whether it is near a level that is known, so a refusal is to be expected."""
        return not self.hasty and self.limit < 1.5 * self._known

    def _telling(self) -> bool:
        """Tell whether the round says something about the load.

        Where latencies differ, the first answers of a larger load are its short ones.
        """
        meter = self._meter
        if meter.instant:
            return False
        return self._need == 1 or meter.count >= self.limit

    def _below(self) -> bool:
        return self.limit < 0.99 * self._known < math.inf

    def _open(self, now: float, need: int) -> None:
        """Begin a round of at least ``need`` completions."""
        self._meter.open(now)
        self._need = need
        self.full = False

    def _settle(self, now: float, level: float) -> None:
        """Stay at a level; the first round there sees what was sent before, and is not counted."""
        self._open(now, max(8, int(self.limit)))
        self.limit = self.target = max(1.0, min(level, self._maximum))
        self.settled = True
        self.hasty = self._warm = False
        self._base = self._trial = None
        self._hold = 0

    def _aim(self, now: float, target: float, share: float, doubling: float) -> None:
        self.settled = False
        self.target = max(self.limit, min(target, self._maximum))
        self._growth = Growth(self.limit, now, share, doubling)

    def _probe(self, now: float, seen: Round) -> None:
        """Leave the level: up to twice of it, or to four times where refusals tell the end."""
        factor = 4.0 if 0.0 < self._known < math.inf else 2.0
        target = min(factor * seen.load + 1.0, self._deepest(seen))
        if target > 1.1 * self.limit:
            self._warm = False
            self._aim(now, target, PROBE, max(RAMP, 4.0 * self.refusal_latency))

    def _close(self, now: float, seen: Round) -> None:
        """End a round and decide about the next."""
        full, warm = self.full, self._warm
        self._open(now, max(8, int(self.limit)))
        self._warm = True
        if not full:
            self._base = self._trial = None
        elif self._below():
            self._aim(now, self._known, 1.0, max(RAMP, seen.latency / 4.0))
            self.settled, self._warm = True, False
        elif self.hasty:
            self._hurry(now, seen, warm=warm)
        elif self.limit < 0.999 * self.target:
            self._trial, self._warm = None, False
        elif warm:
            self._weigh(now, seen)

    def _hurry(self, now: float, seen: Round, *, warm: bool) -> None:
        """Grow several times, unless more load has not brought more throughput."""
        base = self._base
        if warm and base is None:
            self._base = seen
        elif warm and base is not None:
            more, gain, doubt = seen.compared(base)
            least = WORTH_IN_HASTE * more
            if more > STEP and gain + doubt < least:
                self._fall(now, 1.5 * base.load * max(1.0, seen.rate / base.rate))
                return
            if more > STEP and gain - doubt > least:
                self._base = seen
        target = (6.0 if warm else min(4.0, max(1.0, 30.0 / seen.latency))) * self.limit
        if self._base is not None:
            target = min(target, 5.0 * self._base.load + 1.0, self._deepest(seen))
        if target > self.limit:
            self._aim(now, target, 1.0, max(RAMP, seen.latency / 3.0))

    def _deepest(self, seen: Round) -> float:
        """Tell what could be in flight without waiting for too long, if more brings no more.

        The first answer of all had next to no queue before it.
        """
        return seen.count / seen.seconds * max(DEEPEST, BLIND * self._meter.first)

    def _weigh(self, now: float, seen: Round) -> None:
        """Measure the level, and then whether a higher one is worth keeping."""
        base = self._base
        if base is None or self.settled:
            self._base = seen if base is None else base.merged(seen)
            enough = PATIENT / (1 + self.strays)
            if self._base.count >= enough and self._base.seconds >= PEACE:
                self.cuts = 0
                if self._hold > 0:
                    self._hold -= 1
                else:
                    self._probe(now, self._base)
            return
        trial = self._trial = seen if self._trial is None else self._trial.merged(seen)
        more, gain, doubt = trial.compared(base)
        least = WORTH * more
        if gain - doubt > least:
            self._patience = 1
            self.hasty = gain - doubt > 0.5 * more
            self._base, self._trial, self.settled = trial, None, True
            self._probe(now, trial)
        elif trial.count >= CERTAIN or gain + doubt < least:
            self._fall(now, base.load)

    def _fall(self, now: float, level: float) -> None:
        """Give up what a higher limit did not bring, and be in less of a hurry next time."""
        self._settle(now, min(self.limit, level))
        self._known = 0.0
        self._hold = self._patience
        self._patience = min(8, 2 * self._patience)
