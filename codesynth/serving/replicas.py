"""Which of several endpoints to ask, and when none is worth asking any more."""

from __future__ import annotations

from codesynth.serving.limiter import Limiter, Outcome


class Replicas:
    """Shares the load among endpoints by what each can take."""

    def __init__(
        self, count: int, *, concurrency: int | None, rpm: float | None, tpm: float | None
    ) -> None:
        self.rpm, self.tpm = rpm, tpm
        self._limiters = [Limiter(concurrency=concurrency) for _ in range(count)]

    @property
    def limit(self) -> int:
        """Most requests in flight now, over all replicas."""
        return sum(limiter.limit for limiter in self._limiters)

    def choose(self, now: float, tokens: int, avoid: int | None) -> tuple[int, float]:
        """Take a permit: the replica's number and 0.0, or any number and the seconds to wait."""
        order = sorted(
            range(len(self._limiters)),
            key=lambda i: (i == avoid, self._limiters[i].in_flight / self._limiters[i].limit),
        )
        waits = []
        for i in order:
            wait = self._limiters[i].acquire(now, tokens)
            if wait <= 0:
                return i, 0.0
            waits.append(wait)
        return order[0], min(waits)

    def release(self, index: int, now: float, outcome: Outcome) -> None:
        """Give a permit back and learn."""
        self._limiters[index].release(now, outcome)

    def cancel(self, index: int, now: float) -> None:
        """Give a permit back; nothing was learnt."""
        self._limiters[index].cancel(now)


class OutageGuard:
    """Tells when failures have gone on for too long without any answer.

    >>> guard = OutageGuard(300)
    >>> guard.record(0, ok=False)
    >>> guard.expired(299), guard.expired(301)
    (False, True)
    """

    def __init__(self, max_outage: float) -> None:
        self._max_outage = max_outage
        self._since: float | None = None

    def record(self, now: float, *, ok: bool) -> None:
        """Note an answer, or an attempt that brought none."""
        if ok:
            self._since = None
        elif self._since is None:
            self._since = now

    def expired(self, now: float) -> bool:
        """Tell whether nobody was answered for longer than allowed, though some were asked."""
        return self._since is not None and now - self._since > self._max_outage
