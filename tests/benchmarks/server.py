"""The tests' loopback endpoint with answers of 1.2 KB, a time for each, and limits.

    python tests/benchmarks/server.py --latency 200
    python tests/benchmarks/server.py --latency 2000 --sigma 0.5        lognormal, mean 2 s
    python tests/benchmarks/server.py --servers 8 --service 50          a queue, as vLLM has
    python tests/benchmarks/server.py --rate-limit 600                  429 with retry-after
    python tests/benchmarks/server.py --stall 10000     "stalled" is answered after 9,999 others

Prints its base URL on the first line, and at SIGTERM what it counted as one line of JSON.
"""

import argparse
import heapq
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.endpoint import Endpoint, Received, Reply, error
from support.endpoint import completion as reply_with

STEP = "def step_{0}(values: list[int]) -> int:\n    return sum(values[{0}:]) % {1}\n"
CODE = "\n".join(STEP.format(n, n + 2) for n in range(9))
STALL_SECONDS = 0.05


def completion() -> Reply:
    """Write an answer of 1.2 KB."""
    return reply_with(f"Here it is:\n\n```python\n{CODE}```\n")


@dataclass
class Options:
    """The command line: times in ms, ``rate_limit`` per minute; 0 is none of it."""

    port: int = 0
    latency: float = 0
    sigma: float = 0
    seed: int = 1
    servers: int = 0
    service: float = 0
    concurrency_limit: int = 0
    rate_limit: float = 0
    burst: float = 0
    stall: int = 0


class Limits:
    """Says of each request when it is answered, or that it is refused.

    A queue has ``servers`` places, each taking ``service`` for one request, first come first
    served. The rate is a bucket of ``burst`` requests that fills evenly.
    """

    def __init__(self, options: Options, clock: Callable[[], float]) -> None:
        self.options, self.clock = options, clock
        self.random = Random(options.seed)
        self.free = [0.0] * options.servers
        self.burst = options.burst or max(1.0, options.rate_limit / 60)
        self.tokens, self.filled = self.burst, clock()

    def wait(self, in_flight: int) -> tuple[float, Reply | None]:
        """Return seconds until the answer, and the refusal where it is one."""
        options = self.options
        if options.concurrency_limit and in_flight > options.concurrency_limit:
            return 0.0, error(429, "slow down")
        if options.rate_limit:
            now, rate = self.clock(), options.rate_limit / 60
            self.tokens = min(self.burst, self.tokens + (now - self.filled) * rate)
            self.filled = now
            if self.tokens < 1:
                after = math.ceil((1 - self.tokens) / rate)
                return 0.0, error(429, "slow down", retry_after=after)
            self.tokens -= 1
        return self.draw(options.latency) + (self.queue() if self.free else 0.0), None

    def draw(self, mean: float) -> float:
        """Draw seconds of a lognormal time from its mean in ms; a ``sigma`` of 0 is the mean."""
        sigma = self.options.sigma
        if not mean or not sigma:
            return mean / 1000
        return self.random.lognormvariate(math.log(mean / 1000) - sigma * sigma / 2, sigma)

    def queue(self) -> float:
        now = self.clock()
        start = max(now, self.free[0])
        end = start + self.draw(self.options.service)
        heapq.heapreplace(self.free, end)
        return end - now


class Plan:
    """Answers as the limits say, and counts."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.limits = Limits(options, time.monotonic)
        self.good = completion()
        self.endpoint = Endpoint(self, keep=False, port=options.port)
        self.refused = 0
        self.latency = 0.0

    def __call__(self, request: Received) -> Reply:
        if self.options.stall and b" stalled " in request.body:
            return Reply(raw=self._stalled())
        seconds, refusal = self.limits.wait(self.endpoint.in_flight)
        if refusal is not None:
            self.refused += 1
            return refusal
        self.latency += seconds
        return replace(self.good, delay=seconds) if seconds else self.good

    def _stalled(self) -> Iterator[bytes | float]:
        while len(self.endpoint.times) < self.options.stall:
            yield STALL_SECONDS
        assert self.good.wire is not None
        yield self.good.wire

    def stats(self) -> dict[str, float]:
        """Sum up, with the requests in the busiest minute."""
        times = self.endpoint.times
        first = busiest = 0
        for last, moment in enumerate(times):
            while times[first] <= moment - 60.0:
                first += 1
            busiest = max(busiest, last - first + 1)
        counted = {"refused": self.refused, "latency_s": self.latency, "busiest_minute": busiest}
        return {"requests": len(times), **counted}


def parse() -> Options:
    parser = argparse.ArgumentParser(description="A loopback chat endpoint for benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0, help="ms before each answer (mean)")
    parser.add_argument("--sigma", type=float, default=0, help="makes the times lognormal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", type=int, default=0, help="places of a queue")
    parser.add_argument("--service", type=float, default=0, help="ms a place takes for a request")
    parser.add_argument("--concurrency-limit", type=int, default=0, help="429 above it")
    parser.add_argument("--rate-limit", type=float, default=0, help="requests a minute, then 429")
    parser.add_argument("--burst", type=float, default=0, help="default: one second's worth")
    parser.add_argument("--stall", type=int, default=0, help="how many requests there will be")
    return Options(**vars(parser.parse_args()))


def main() -> None:
    plan = Plan(parse())
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with plan.endpoint as endpoint:
        print(endpoint.base_url, flush=True)
        signal.sigwait(signals)
        print(json.dumps(plan.stats()), flush=True)


if __name__ == "__main__":
    main()
