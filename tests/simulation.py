"""Endpoints and a client in simulated time: a minute costs a fraction of a second.

An endpoint is a function from the time at which a request arrives to what becomes of it.
The client always has another request to send.
"""

import heapq
import math
import random
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from codesynth.serving.limiter import Outcome, Verdict
from codesynth.serving.pace import Limits

Endpoint = Callable[[float], Outcome]
Service = Callable[[], float]
Level = Callable[[float], float]

REFUSAL = 0.02
"""Seconds in which a refusal comes back."""


def always(value: float) -> Service:
    return lambda: value


def lognormal(mean: float, sigma: float = 0.6, seed: int = 1) -> Service:
    """Latencies as language models have them; sigma 1 is wild."""
    chance = random.Random(seed)
    mu = math.log(mean) - sigma * sigma / 2
    return lambda: chance.lognormvariate(mu, sigma)


def steady(value: float) -> Level:
    return lambda now: value


def changing(at: float, before: float, after: float) -> Level:
    return lambda now: before if now < at else after


def unlimited(service: Service) -> Endpoint:
    return lambda now: Outcome(service(), "ok")


def concurrency_limit(
    service: Service, level: Level, retry_after: float | None = None, refusal: float = REFUSAL
) -> Endpoint:
    """Refuses what is more than ``level`` at a time."""
    ends: list[float] = []

    def answer(now: float) -> Outcome:
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        if len(ends) >= level(now):
            return Outcome(refusal, "overload", retry_after)
        latency = service()
        heapq.heappush(ends, now + latency)
        return Outcome(latency, "ok")

    return answer


def queue(service: Service, servers: Level, timeout: float = 600.0) -> Endpoint:
    """Never refuses: first come, first served by so many servers."""
    free: list[float] = []

    def answer(now: float) -> Outcome:
        while len(free) > servers(now):
            heapq.heappop(free)
        while len(free) < servers(now):
            heapq.heappush(free, now)
        end = max(now, free[0]) + service()
        heapq.heapreplace(free, end)
        if end - now > timeout:
            return Outcome(timeout, "timeout")
        return Outcome(end - now, "ok")

    return answer


def batching(service: Service, slowdown: float, most: int) -> Endpoint:
    """Serves ``most`` at a time, each slower the more there are, as GPUs do; the rest waits."""
    ends: list[float] = []

    def answer(now: float) -> Outcome:
        while ends and ends[0] <= now:
            ends.pop(0)
        start = now if len(ends) < most else ends[-most]
        end = start + service() * (1 + min(len(ends), most) / slowdown)
        insort(ends, end)
        return Outcome(end - now, "ok")

    return answer


def rate_limit(
    service: Service,
    per_minute: int,
    *,
    aligned: bool = False,
    retry_after: bool = False,
    hints: bool = False,
) -> Endpoint:
    """Counts the last sixty seconds, or (aligned) minutes of the clock."""
    sent: deque[float] = deque()

    def answer(now: float) -> Outcome:
        begin = now - now % 60 if aligned else now - 60
        while sent and (sent[0] < begin if aligned else sent[0] <= begin):
            sent.popleft()
        left = 60 - now % 60 if aligned or not sent else sent[0] + 60 - now
        free = per_minute - len(sent)
        limits = Limits(max(0, free - 1), left) if hints else None
        if free <= 0:
            wait = math.ceil(left) if retry_after else None
            return Outcome(REFUSAL, "overload", wait, limits=limits)
        sent.append(now)
        return Outcome(service(), "ok", limits=limits)

    return answer


def token_bucket(
    service: Service, per_minute: float, burst: float, refusal: float = REFUSAL
) -> Endpoint:
    """Refills evenly."""
    level, last = burst, 0.0

    def answer(now: float) -> Outcome:
        nonlocal level, last
        level, last = min(burst, level + (now - last) * per_minute / 60), now
        if level < 1:
            return Outcome(refusal, "overload")
        level -= 1
        return Outcome(service(), "ok")

    return answer


def cold(endpoint: Endpoint, seconds: float) -> Endpoint:
    """Loads its model first; what comes meanwhile waits."""

    def answer(now: float) -> Outcome:
        wait = max(0.0, seconds - now)
        outcome = endpoint(now + wait)
        return replace(outcome, latency=outcome.latency + wait)

    return answer


def outage(
    endpoint: Endpoint, begin: float, end: float, verdict: Verdict, latency: float = REFUSAL
) -> Endpoint:
    return lambda now: Outcome(latency, verdict) if begin <= now < end else endpoint(now)


def in_turn(at: float, before: Endpoint, after: Endpoint) -> Endpoint:
    return lambda now: before(now) if now < at else after(now)


def flaky(
    endpoint: Endpoint, share: float, verdict: Verdict, retry_after: float, seed: int = 5
) -> Endpoint:
    """Refuses some at random, whatever the load."""
    chance = random.Random(seed)

    def answer(now: float) -> Outcome:
        if chance.random() < share:
            return Outcome(REFUSAL, verdict, retry_after)
        return endpoint(now)

    return answer


class Permits(Protocol):
    @property
    def limit(self) -> int: ...

    def acquire(self, now: float) -> float: ...

    def release(self, now: float, outcome: Outcome) -> None: ...


class Semaphore:
    """The client with a fixed ``-j``."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._free = limit

    def acquire(self, now: float) -> float:
        if not self._free:
            return math.inf
        self._free -= 1
        return 0.0

    def release(self, now: float, outcome: Outcome) -> None:
        self._free += 1


@dataclass
class Run:
    """What came of it; ``limits`` holds the limit at each second."""

    ok: int = 0
    refused: int = 0
    sent: list[float] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, len(self.sent))


def simulate(permits: Permits, endpoint: Endpoint, seconds: float, *, backoff: float = 0.0) -> Run:
    """Send for some time; ``backoff`` is how long a refused request keeps its permit."""
    run = Run()
    landing: list[tuple[float, int, Outcome]] = []
    now = 0.0
    while True:
        while (wait := permits.acquire(now)) <= 0:
            outcome = endpoint(now)
            held = backoff if outcome.verdict in ("overload", "busy", "down") else 0.0
            run.sent.append(now)
            heapq.heappush(landing, (now + outcome.latency + held, len(run.sent), outcome))
        then = min(now + wait, landing[0][0] if landing else math.inf)
        assert then < math.inf, "nothing would ever be sent again"
        while len(run.limits) <= min(then, seconds):
            run.limits.append(permits.limit)
        if then > seconds:
            return run
        now = then
        if landing and landing[0][0] <= now:
            _, _, outcome = heapq.heappop(landing)
            permits.release(now, outcome)
            run.ok += outcome.verdict == "ok"
            run.refused += outcome.verdict in ("overload", "busy")


def best_fixed(endpoint: Callable[[], Endpoint], seconds: float, *limits: int) -> tuple[int, int]:
    """Search: the most that a fixed limit brings, and which one."""
    return max(
        (simulate(Semaphore(limit), endpoint(), seconds, backoff=2.0).ok, -limit)
        for limit in limits
    )
