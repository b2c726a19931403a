"""When the next request may be sent to an endpoint: a state machine with no I/O and no clock.

Three things hold requests back: the limit of concurrency, the pace, and a pause while an
endpoint refuses everything. What is learned depends on how a refusal came about:

- while a limit or a pace was being tried just beyond what is known: it is back to what is known;
- otherwise, and rarely: it is luck, and nothing changes;
- several close together: in the slow start, that is where the limit is; later it is cut;
- cut again and again: a lower limit does not help, so requests are counted by time, and a pace
  is set;
- with the first request after a cut refused again: a pause, longer each time;
- as often when few are sent as when many are: load has nothing to do with it, and all that was
  learned is forgotten.

A number that the user names is kept, whatever comes.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from codesynth.serving.concurrency import BLIND, Concurrency
from codesynth.serving.luck import Luck
from codesynth.serving.pace import Limits, Pace

MAXIMUM = 1024
"""Most requests in flight where none is asked for."""
TOLERANCE, TOLERANCE_OF_PACE = 0.1, 0.03
"""Share of refusals that is taken for luck. Who exceeds a limit of concurrency is refused more
often than that; who exceeds a rate by a little is refused as little."""
HOT = 1.75
"""Refusals beyond those tolerated, close together, that are no luck: nearly two in a row."""
SEVERAL = 3
"""Cuts without peace in between after which it is not the number in flight that matters."""
SMALL = 3
"""Requests in flight up to which each refusal counts, as one is a large part of all."""
LONGEST_PAUSE = 8.0
"""Seconds between two trials while an endpoint refuses everything; half of it while it is down."""
LONGEST_BELIEVED = 60.0
"""Seconds of pause at most, where the endpoint says consistently when it will accept again."""

Verdict: TypeAlias = Literal["ok", "overload", "busy", "timeout", "down", "error"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt taught about the endpoint.

    Attributes:
        latency: seconds, from send to last byte.
        verdict: ``ok``: served.
            ``overload``: refused, perhaps for a limit of requests per time (429).
            ``busy``: refused for its load, or shut (503, 529).
            ``timeout``: no answer in time.
            ``down``: no answer at all (no connection, 500, 502, 504); one alone says nothing.
            ``error``: anything else that says nothing about load (400).
        retry_after: seconds the endpoint asked for.
        tokens: used, as the endpoint counted them.
        limits: what its headers say is left.
    """

    latency: float
    verdict: Verdict
    retry_after: float | None = None
    tokens: int | None = None
    limits: Limits | None = None


class Limiter:
    """Permits for one endpoint.

    Args:
        concurrency: most requests in flight; None finds out what the endpoint takes.
        maximum: most that are tried then.
        longest_pause: seconds between two trials while the endpoint refuses everything.

    >>> limiter = Limiter(concurrency=1)
    >>> limiter.acquire(0.0), limiter.acquire(0.0)
    (0.0, inf)
    >>> limiter.release(1.5, Outcome(1.5, "ok"))
    >>> limiter.acquire(1.5)
    0.0
    """

    def __init__(
        self,
        *,
        concurrency: int | None = None,
        maximum: int = MAXIMUM,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        self._fixed = concurrency is not None
        self._maximum = concurrency or maximum
        self._longest_pause = longest_pause
        self._in_flight = 0
        self._luck = Luck()
        self._forget()

    def _forget(self) -> None:
        """Begin anew."""
        self._window = Concurrency(self._maximum, fixed=self._fixed)
        self._pace = Pace()
        self._heat = 0.0  # refusals beyond what is tolerated
        self._downs = 0  # in a row
        self._cut_ends = -math.inf  # what was sent up to then belongs to one burst
        self._level = 0  # taken of what was in flight at the cut
        self._since_cut = 0  # sent since
        self._second_at = math.inf  # when the second of them was sent
        self._refusals = 0  # cuts in a row after which even the first request was refused
        self._gently = False  # the next ones are sent with care
        # When Retry-After came, and to when it pointed.
        self._promise = (-math.inf, -math.inf)

    @property
    def limit(self) -> int:
        """Most requests in flight now."""
        return int(self._window.limit)

    @property
    def target(self) -> int:
        """Most requests in flight soon, if all goes well: as many should be ready to be sent."""
        return int(min(self._window.target, max(BLIND, 2.0 * self._window.limit)))

    @property
    def in_flight(self) -> int:
        """Permits given out."""
        return self._in_flight

    @property
    def resting(self) -> bool:
        """Nothing has been accepted since the last cut."""
        return self._refusals > 1

    def acquire(self, now: float) -> float:
        """Take a permit.

        Returns:
            0.0 if it is taken; else the seconds after which to ask again, or inf where one has
            to be given back first. Ask again after each ``release`` and ``cancel`` too.
        """
        wait = self.wait(now)
        if wait <= 0.0:
            self.take(now)
        return wait

    def wait(self, now: float) -> float:
        """Tell what ``acquire`` would, without taking anything."""
        wait = self._pace.wait(now)
        if wait > 0.0:
            if self._in_flight < int(self._window.limit):
                self._pace.bound = self._pace.learned
            return wait
        wait = self._window.wait(now, self._in_flight)
        if wait > 0.0:
            self._pace.bound = False
        return wait

    def take(self, now: float) -> None:
        """Take the permit that ``wait`` has just allowed."""
        window = self._window
        self._pace.take(now)
        self._luck.sent(now)
        self._in_flight += 1
        if self._in_flight >= int(window.limit):
            window.full = True
        if self._heat > 0.0:
            tolerated = TOLERANCE_OF_PACE if self._pace.bound else TOLERANCE
            self._heat = max(0.0, self._heat - tolerated)
        if now > self._cut_ends:
            self._since_cut += 1
            if self._since_cut == 2:
                self._second_at = now
        if self._gently:  # one at a time first, then faster
            pause = min(0.2, 2.0 * window.refusal_latency)
            self._pace.pause(now, pause / max(1, self._since_cut))

    def cancel(self, now: float) -> None:  # noqa: ARG002 - one shape with release
        """Give a permit back; nothing was learned."""
        self._in_flight -= 1

    def release(self, now: float, outcome: Outcome) -> None:
        """Give a permit back and learn."""
        self._in_flight -= 1
        if self._fixed:  # who names a number knows why
            return
        sent = now - outcome.latency
        if outcome.verdict in ("ok", "overload", "busy", "down"):
            if self._luck.note(refused=outcome.verdict != "ok"):
                self._forget()
            if self._luck.decides and outcome.verdict != "ok":
                return
        if outcome.verdict == "ok":
            self._accepted(now, sent, outcome)
        elif outcome.verdict == "down":
            self._downs += 1
            if self._downs >= 3:
                self._refused(now, sent, outcome)
        elif outcome.verdict == "error":
            self._downs = 0
        else:
            self._refused(now, sent, outcome)

    def _accepted(self, now: float, sent: float, outcome: Outcome) -> None:
        self._downs = 0
        if self._refusals and sent > self._cut_ends:
            self._refusals, self._gently = 0, False
        if outcome.limits is not None:
            self._pace.hint(now, outcome.limits, outcome.tokens, self._in_flight)
        self._window.completed(now, outcome.latency, outcome.tokens or 1, self._in_flight + 1)

    def _refused(self, now: float, sent: float, outcome: Outcome) -> None:
        window, pace, verdict = self._window, self._pace, outcome.verdict
        pace.refused()
        latency = 0.0 if verdict == "timeout" else min(1.0, outcome.latency)
        if latency:
            window.refusal_latency = latency
        if sent <= self._cut_ends:
            self._level -= 1
            window.sink(self._level)
            return
        # A millisecond, as the send is timed a little after the permit was taken.
        self._refusals = self._refusals + 1 if sent <= self._second_at + 0.001 else 1
        self._heat = min(6.0, self._heat + 1.0)
        full = self._in_flight + 1 >= 0.9 * int(window.limit)
        hot = self._heat > HOT or self._refusals > 1 or verdict in ("timeout", "down")
        if not (hot or self._was_trial(now, full=full)):
            window.strays += 1
            return
        if hot:
            window.strays = 0
        self._gently = window.hasty or self._refusals > 1
        self._cut_ends, self._since_cut, self._second_at = now + latency, 0, math.inf
        self._level = self._in_flight
        self._cut(now, outcome)

    def _was_trial(self, now: float, *, full: bool) -> bool:
        """Tell whether just what was refused now is what was being tried, which is answer enough.

        In the slow start it is not, as far too much is tried there for luck to stay away.
        """
        window, pace = self._window, self._pace
        if pace.bound:
            return pace.trying(now)
        growing = full and not window.settled and window.strays < 2
        return growing and (window.careful or 0 < self._in_flight < SMALL)

    def _cut(self, now: float, outcome: Outcome) -> None:
        window, pace, refusals = self._window, self._pace, self._refusals
        bound, resumes, believed = pace.bound, now, False
        if refusals > 1:
            resumes, believed = self._resumption(now, outcome)
            pace.pause(now, resumes - now)
        # Where a lower limit does not help, requests are counted by time.
        if outcome.verdict == "overload" and (bound or refusals > 2 or window.cuts >= SEVERAL):
            pace.learn(now, refusals, resumes if believed else now)
        elif outcome.verdict != "overload" and refusals > 2:
            pace.forget(now)
        if refusals > 2:
            window.restart(resumes, self._level)
        elif refusals > 1 or not bound:
            factor = 0.9 if window.settled else 1.0
            sure = refusals == 1 and outcome.verdict != "down"
            window.refused(now, self._level, factor, sure=sure)

    def _resumption(self, now: float, outcome: Outcome) -> tuple[float, bool]:
        """Tell when to try again, and whether the endpoint said so.

        Retry-After is believed when two refusals, some seconds apart, point to the same moment:
        a constant one says nothing about the others' chances.
        """
        # What counts requests per time counts trials too; who was down may be back any moment.
        longest = self._longest_pause * (1.0 if outcome.verdict == "overload" else 0.5)
        pause = min(longest, 0.25 * 2.0 ** (min(self._refusals, 16) - 2))
        if outcome.retry_after is not None and now - self._promise[0] > 3.0:
            resumes, promised = now + outcome.retry_after, self._promise[1]
            self._promise = (now, resumes)
            if abs(resumes - promised) < 1.2:  # it is often in whole seconds
                return min(max(resumes, now + 0.25), now + LONGEST_BELIEVED), True
        return now + pause, False
