"""Which of several endpoints to ask, and when none is worth asking any more."""

import math

from codesynth.serving.limiter import LONGEST_PAUSE, MAXIMUM, Limiter, Outcome
from codesynth.serving.rates import Cap, TokenCap

REST = 30.0
"""Seconds between two trials of an endpoint that refuses everything, where there are others."""
LONGEST_GAP = 120.0
"""Seconds between two failures after which nobody seems to have tried any more."""


class Replicas:
    """Shares the load among endpoints by what each can take; the caps are those of the whole run.

    Args:
        count: of endpoints.
        concurrency: most requests in flight over all of them; None finds out what they take.
        rpm: most requests in any minute.
        tpm: most tokens in any minute.
        maximum: most in flight where ``concurrency`` is None.

    >>> replicas = Replicas(2, concurrency=2)
    >>> replicas.choose(0.0), replicas.choose(0.0)
    ((0, 0.0), (1, 0.0))
    >>> replicas.release(1, 0.5, Outcome(0.5, "ok"))
    >>> replicas.choose(0.5)
    (1, 0.0)
    """

    def __init__(
        self,
        count: int,
        *,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        maximum: int = MAXIMUM,
    ) -> None:
        pause = LONGEST_PAUSE if count == 1 else REST
        self._limiters = [
            Limiter(concurrency=concurrency, maximum=maximum, longest_pause=pause)
            for _ in range(count)
        ]
        self._most = concurrency or maximum
        self._in_flight = 0
        self._requests = None if rpm is None else Cap(rpm)
        self._tokens = None if tpm is None else TokenCap(tpm)

    @property
    def limit(self) -> int:
        """Most requests in flight soon: as many should be ready to be sent."""
        return min(self._most, sum(limiter.target for limiter in self._limiters))

    @property
    def resting(self) -> bool:
        """Nobody accepts anything just now: that a request is refused is not its own fault."""
        return all(limiter.resting for limiter in self._limiters)

    def choose(self, now: float, tokens: int = 0, avoid: int | None = None) -> tuple[int, float]:
        """Take a permit.

        Args:
            now: seconds, never going back.
            tokens: about what the request will use.
            avoid: the replica that failed this request before; it is asked again only where
                no other has room.

        Returns:
            The replica's number and 0.0; or -1 and the seconds after which to ask again (inf:
            not before a permit is given back). Ask again after each ``release`` too.
        """
        if self._in_flight >= self._most:
            return -1, math.inf
        wait = self._capped(now, tokens)
        if wait > 0.0:
            return -1, wait
        index, wait = self._freest(now, avoid)
        if wait > 0.0:
            return -1, wait
        self._limiters[index].take(now)
        self._in_flight += 1
        if self._requests is not None:
            self._requests.take(now, 1.0)
        if self._tokens is not None:
            self._tokens.take(now, tokens)
        return index, 0.0

    def release(self, index: int, now: float, outcome: Outcome) -> None:
        """Give a permit back and learn."""
        self._in_flight -= 1
        self._limiters[index].release(now, outcome)
        if self._tokens is not None:
            unused = outcome.verdict in ("overload", "busy", "down")
            self._tokens.settle(now - outcome.latency, 0 if unused else outcome.tokens)

    def cancel(self, index: int, now: float) -> None:
        """Give a permit back; nothing was learned."""
        self._in_flight -= 1
        self._limiters[index].cancel(now)
        if self._tokens is not None:
            self._tokens.settle(now, None)

    def _capped(self, now: float, tokens: int) -> float:
        wait = 0.0
        if self._requests is not None:
            wait = self._requests.wait(now, 1.0)
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now, tokens))
        return wait

    def _freest(self, now: float, avoid: int | None) -> tuple[int, float]:
        if len(self._limiters) == 1:
            return 0, self._limiters[0].wait(now)
        waits = [limiter.wait(now) for limiter in self._limiters]
        free = [i for i, wait in enumerate(waits) if wait <= 0.0]
        if not free:
            return -1, min(waits)
        return min(free, key=lambda i: self._reluctance(i, avoid)), 0.0

    def _reluctance(self, index: int, avoid: int | None) -> tuple[bool, bool, float]:
        limiter = self._limiters[index]
        # Who has failed once is not sent to find out whether a replica is back.
        risky = avoid is not None and limiter.resting
        return index == avoid, risky, limiter.in_flight / limiter.limit


class OutageGuard:
    """Tells when failures have gone on for too long without any answer in between.

    Only the time in which somebody tried counts, so neither slow answers nor an idle input look
    like an outage.

    >>> guard = OutageGuard(60.0)
    >>> for second in range(100):
    ...     guard.record(second, ok=second < 30)
    >>> guard.expired(90.0), guard.expired(99.0)
    (True, True)
    >>> guard.record(100.0, ok=True)
    >>> guard.expired(100.0)
    False
    """

    def __init__(self, max_outage: float) -> None:
        self._max_outage = max_outage
        self._seconds = 0.0
        self._failed_at: float | None = None

    def record(self, now: float, ok: bool) -> None:
        """Note an answer, or an attempt that brought none."""
        if ok:
            self._seconds, self._failed_at = 0.0, None
            return
        if self._failed_at is not None:
            self._seconds += min(now - self._failed_at, LONGEST_GAP)
        self._failed_at = now

    def expired(self, now: float) -> bool:
        """Tell whether there was no answer for so long though some were asked for."""
        if self._failed_at is None or now - self._failed_at > LONGEST_GAP:
            return False
        return self._seconds >= self._max_outage
