"""Endpoints and a client in virtual time: minutes pass in a second, and each run is the same.

The laws are those of the families by which real endpoints limit: requests in flight, a queue,
a token bucket, windows; refusals at random, outages and moving capacity on top.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from codesynth.serving.limits.concurrency import Concurrency, Kind

REFUSAL_SECONDS = 0.012


class Reply(NamedTuple):
    latency: float
    kind: Kind = "answered"
    retry_after: float | None = None


Endpoint = Callable[[float], Reply]
Latency = Callable[[], float]
Steps = Sequence[tuple[float, int]]
"""Capacity from each moment on."""


class Controller(Protocol):
    in_flight: int

    def wait(self, now: float) -> float: ...
    def sent(self, now: float) -> int: ...
    def result(
        self, now: float, number: int, latency: float, kind: Kind, retry_after: float | None
    ) -> None: ...


class Fixed:
    """Keeps a number of requests in flight, as ``-j N`` does."""

    def __init__(self, limit: int) -> None:
        self._limit, self.in_flight = limit, 0

    def wait(self, now: float) -> float:
        return 0.0 if self.in_flight < self._limit else math.inf

    def sent(self, now: float) -> int:
        self.in_flight += 1
        return 0

    def result(
        self, now: float, number: int, latency: float, kind: Kind, retry_after: float | None
    ) -> None:
        self.in_flight -= 1


def lognormal(median: float, seed: int, sigma: float = 0.4) -> Latency:
    chance = random.Random(seed)
    return lambda: median * math.exp(sigma * chance.gauss(0, 1))


def _value_at(steps: Steps, now: float) -> int:
    return [value for moment, value in steps if moment <= now][-1]


def slots(
    latency: Latency,
    steps: Steps,
    *,
    random_share: float = 0.0,
    outages: Sequence[tuple[float, float]] = (),
) -> Endpoint:
    """Refuse what is beyond the capacity in flight, and a share at random."""
    ends: list[float] = []
    chance = random.Random(5)

    def answer(now: float) -> Reply:
        while ends and ends[0] <= now:
            heapq.heappop(ends)
        if any(start <= now < end for start, end in outages):
            return Reply(REFUSAL_SECONDS, "busy")
        if chance.random() < random_share or len(ends) >= _value_at(steps, now):
            return Reply(REFUSAL_SECONDS, "overload")
        seconds = latency()
        heapq.heappush(ends, now + seconds)
        return Reply(seconds)

    return answer


def queue(latency: Latency, size: int) -> Endpoint:
    """Refuse nothing; serve so many at a time while the rest waits."""
    free = [0.0] * size

    def answer(now: float) -> Reply:
        end = max(now, free[0]) + latency()
        heapq.heapreplace(free, end)
        return Reply(end - now)

    return answer


def token_bucket(latency: Latency, per_second: float, burst: float) -> Endpoint:
    tokens, last = burst, 0.0

    def answer(now: float) -> Reply:
        nonlocal tokens, last
        tokens, last = min(burst, tokens + (now - last) * per_second), now
        if tokens < 1:
            return Reply(REFUSAL_SECONDS, "overload")
        tokens -= 1
        return Reply(latency())

    return answer


def windows(latency: Latency, most: int, seconds: float) -> Endpoint:
    """Take so many requests in each window; tell with Retry-After when the next one begins."""
    window, used = -1, 0

    def answer(now: float) -> Reply:
        nonlocal window, used
        if int(now / seconds) != window:
            window, used = int(now / seconds), 0
        if used >= most:
            return Reply(REFUSAL_SECONDS, "overload", math.ceil(seconds - now % seconds))
        used += 1
        return Reply(latency())

    return answer


class Run(NamedTuple):
    answered: int
    refused: int
    sent: int


def simulate(controller: Controller, endpoint: Endpoint, seconds: float) -> Run:
    """Send as fast as the controller lets; what is in flight at the end is answered still."""
    landing: list[tuple[float, int, int, Reply]] = []
    now, sent, answered, refused = 0.0, 0, 0, 0
    while True:
        while (wait := controller.wait(now)) <= 0:
            reply, sent = endpoint(now), sent + 1
            heapq.heappush(landing, (now + reply.latency, sent, controller.sent(now), reply))
        then = min(now + wait, landing[0][0] if landing else math.inf)
        assert then < math.inf, "it waits for a request to end, and none is in flight"
        if then > seconds:
            left = sum(reply.kind == "answered" for *_, reply in landing)
            return Run(answered + left, refused, sent)
        now = then
        while landing and landing[0][0] <= now:
            _, _, number, reply = heapq.heappop(landing)
            controller.result(now, number, reply.latency, reply.kind, reply.retry_after)
            answered += reply.kind == "answered"
            refused += reply.kind != "answered"


def automatic(log: Callable[[str], None] = lambda text: None) -> Concurrency:
    return Concurrency(1024, log)
