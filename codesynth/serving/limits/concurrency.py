"""How many requests may be in flight at one endpoint: congestion control without a clock or I/O.

The limit is found as TCP finds its window. Slow start multiplies it while that brings more answers
a second. Then each answer adds a little and each refusal takes one away. After a rest, a probe
doubles it. Where everything is refused, a circuit breaker sends one trial at a time.

Some endpoints refuse at random, whatever the load. So when the limit has fallen much, a comparison
with less in flight tells whether refusals become rarer. If not, that share of them is expected from
then on, and answers outweigh it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from codesynth.serving.limits.breaker import Breaker

START = 24
"""Requests in flight at the beginning: few enough for small endpoints to refuse only once."""
SLOW_START = 4.0
"""Factor of each step: five steps reach 1,024, so 30-second answers need no ten minutes."""
STEP_SECONDS = 10.0
"""A step is judged after the first answers, at the latest after so long; else after a latency."""
SLOW_START_GAIN = 1.5
"""Times the answers a second that such a step must bring; less is a queue that only grows."""
PROBE = 2.0
"""Factor of a step from a limit that is known to work."""
PROBE_GAIN = 1.25
"""Times the answers a second that a probe must bring."""
RAMP_SECONDS = 0.25
"""In which a raised limit is filled, so that the first refusals come before all is sent."""
COOLDOWN_SECONDS = 0.5
"""For which a refused request keeps its slot, while the usual latency is not known."""
SMALLEST_STEP = 0.02
"""Requests that an answer adds near the last refusal, so that 2 % are refused and not 50 %."""
STEEP = 20.0
"""Requests above the last refusal at which an answer adds a whole one: capacity has grown."""
CUT = 0.3
"""Part of a limit near 1 that a refusal takes away; above 3 it takes one request."""
RANDOM_STEP = 0.5
"""Factor of each change where some refusals are random and say little."""
QUEUE_DEPTH = 8.0
"""Times the requests that are really worked on, which are kept in flight at an endpoint that
queues: its answers vary, and an endpoint that batches wants more."""
LONGEST_WAIT = 300.0
"""Seconds of queueing at the endpoint that are risked: half of the default timeout."""
FALLEN = 0.75
"""Part of the highest limit below which the reason is looked for."""
COMPARISON = 0.6
"""Part of the limit at which refusals are counted to compare."""
MEMORY = 300
"""Requests that the share of random refusals is a mean of."""
MARGIN = 0.01
"""Of that share."""
REPEAT_SECONDS = 30.0
"""After which the share of random refusals is measured again."""
LONGEST_REST = 32.0
"""Latencies between two probes that brought nothing."""
SLOWEST = 60.0
"""Seconds between two requests at the lowest limit."""

Kind = Literal["answered", "overload", "busy", "down", "timeout", "other"]
_WORDS: dict[Kind, str] = {
    "overload": "refused (429)",
    "busy": "refused (503)",
    "down": "failed",
    "timeout": "timed out",
}


class _Step(NamedTuple):
    """What a lower limit brought: answers a second, and their mean latency in seconds."""

    limit: float
    rate: float
    latency: float


class _Sample:
    """Counts what came back since the limit was set."""

    def __init__(self, since: float, first: int) -> None:
        self.since, self.first = since, first
        self.refused = self.answered = 0
        self.full = False  # the limit was reached, so it mattered
        self._latencies = 0.0

    def add_answer(self, latency: float) -> None:
        self.answered += 1
        self._latencies += latency

    def rate(self, now: float) -> float:
        return self.answered / max(1e-6, now - self.since)

    @property
    def latency(self) -> float:
        return self._latencies / self.answered


class _RandomRefusals:
    """Estimates the share of requests that is refused whatever the load.

    Attributes:
        share: 0 where there are none.
        measured: when.
    """

    def __init__(self) -> None:
        self.share = self.measured = 0.0
        self.sent = self.refused = 0.0

    def learn(self, now: float, sent: int, refused: int) -> None:
        """Add a sample taken at a load that is no reason to refuse."""
        keep = min(1.0, MEMORY / max(self.sent, 1))
        self.sent, self.refused = self.sent * keep + sent, self.refused * keep + refused
        share = min(0.9, self.refused / self.sent) if self.refused > 2 else 0.0
        self.share = share + MARGIN if share >= MARGIN else 0.0
        self.measured = now

    def forget(self) -> None:
        self.share = self.sent = self.refused = 0.0

    def are_exceeded(self, sent: int, refused: int) -> bool:
        """Tell whether that many refusals, by two standard deviations, are not of chance alone."""
        share = (self.refused + 2) / (self.sent + 4) + 3 * MARGIN
        return refused > share * sent + 3 + 2 * math.sqrt(share * (1 - share) * sent)

    @property
    def outweigh(self) -> float:
        """Requests that an answer must add so that random refusals change nothing."""
        return self.share / (1 - self.share)


class Concurrency:
    """Finds how many requests an endpoint takes at a time.

    Times are seconds of any clock that never goes back.

    Args:
        maximum: highest limit.
        log: gets each change of the limit, with the reason.

    Attributes:
        limit: requests in flight; below 1 it is one request with pauses between.
        in_flight: requests sent and not ended.

    >>> control = Concurrency(1024, print)
    >>> number = control.sent(0.0)
    >>> control.result(0.1, number, 0.1, "answered", None)
    >>> control.limit, control.wait(0.2)
    (24.0, 0.0)
    """

    def __init__(self, maximum: int, log: Callable[[str], None]) -> None:
        self._maximum, self._log = float(maximum), log
        self.limit = self._logged = float(min(START, maximum))
        self.in_flight = 0
        self._number = 0  # of the last request sent
        self._phase: Literal["explore", "steady", "compare"] = "explore"
        self._factor = SLOW_START
        self._lower: _Step | None = None
        self._sample = _Sample(0.0, 0)
        self._random = _RandomRefusals()
        self._breaker = Breaker()
        self._cooldowns: deque[float] = deque()  # moments at which slots become free
        self._latency, self._answers = 0.0, 0
        self._refused_at = math.inf  # limit at the last refusal
        self._peak = 0.0  # highest limit since the last cut of many
        self._rest, self._rest_until = 2.0, math.inf
        self._explored = 0.0  # when slow start ended
        self._before, self._rate_before, self._fallen = 1.0, 0.0, False  # the comparison
        self._ramp_from = self._ramp_start = 0.0
        self._outdated = 0  # refusals of requests up to this number are of a higher limit
        self._kind: Kind = "overload"

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent; inf: when one ends."""
        if self._breaker.is_open:
            if not self._breaker.is_trial_accepted(now):
                return self._breaker.wait(now)
            self._close(now)
        while self._cooldowns and self._cooldowns[0] <= now:
            self._cooldowns.popleft()
        used = self.in_flight + len(self._cooldowns)
        room = self.limit - self._ramp_from
        ramp = min(1.0, (now - self._ramp_start) / RAMP_SECONDS)
        if used < max(1, int(self._ramp_from + room * ramp)):
            return 0.0
        self._sample.full = True
        wait = self._cooldowns[0] - now if self._cooldowns else math.inf
        if used < int(self.limit):
            due = self._ramp_start + RAMP_SECONDS * (used + 1 - self._ramp_from) / room
            wait = min(wait, max(due - now, 0.001))
        return wait

    def sent(self, now: float) -> int:
        """Note that a request is sent; return its number."""
        if self._breaker.is_open:
            self._breaker.sent(now)
        if self._number == 0:  # a clock may begin anywhere
            self._ramp_start = self._explored = self._random.measured = now
            self._count(now)
        self.in_flight += 1
        self._number += 1
        if self.in_flight >= int(self.limit):
            self._sample.full = True
        return self._number

    def result(
        self, now: float, number: int, latency: float, kind: Kind, retry_after: float | None
    ) -> None:
        """Take the result of a request; ``other`` says nothing about the load."""
        self.in_flight -= 1
        if kind == "other":
            return
        if kind == "answered":
            self._answered(now, number, latency)
        else:
            self._kind = kind
            self._refused(now, number, latency, retry_after)
        if self._breaker.is_open:
            return
        last = self._number if kind == "answered" else number
        refused = self._sample.refused
        sent = max(last - self._sample.first, refused, 1)
        if self._phase == "explore":
            self._judge_step(now, sent, refused)
        elif self._phase == "steady":
            if not 0.8 < self.limit / self._logged < 1.25:
                self._note(self._logged, self._words(sent, refused))
            self._judge_steady(now, sent, refused)
        else:
            self._judge_comparison(now, sent, refused)

    def _answered(self, now: float, number: int, latency: float) -> None:
        self._answers += 1
        self._latency += (latency - self._latency) / min(self._answers, 100)
        if self._breaker.answered(number):
            self._close(now)
            return
        if self._breaker.is_open:
            return
        sample, outweigh = self._sample, self._random.outweigh
        sample.add_answer(latency)
        if number > self._outdated and self._is_additive and sample.full:
            unit = min(1.0, self.limit)
            above = (self.limit - self._refused_at) / max(STEEP * unit, self._refused_at / 2)
            more = (max(SMALLEST_STEP, min(1.0, above)) + outweigh) * unit * self._step
            self.limit = min(self._maximum, self.limit + more)
            self._peak = max(self._peak, self.limit)
        if self.limit < 1:
            self._cooldowns.append(now + self._latency * (1 / self.limit - 1))

    @property
    def _is_additive(self) -> bool:
        return self._phase == "steady" and self._rest_until == math.inf

    @property
    def _step(self) -> float:
        return RANDOM_STEP if self._random.share else 1.0

    def _refused(self, now: float, number: int, latency: float, after: float | None) -> None:
        if self._breaker.is_open:
            self._breaker.refused(now, number, latency, after)
            return
        self._cooldowns.append(now + (self._latency or COOLDOWN_SECONDS) / min(1.0, self.limit))
        if number <= self._outdated:
            return
        most = max(8 + 16 * self._random.share, self.limit / 16)
        if self._breaker.should_open(number, latency, most, after):
            self._open(now, after)
        elif self._phase == "steady":
            self._sample.refused += 1
            self._refused_at = self.limit = max(
                self._least, self.limit - min(1.0, CUT * self.limit) * self._step
            )
            self._rest_until = math.inf
        elif number > self._sample.first:
            self._sample.refused += 1

    @property
    def _least(self) -> float:
        return min(1.0, max(1e-3, self._latency / SLOWEST))

    def _count(self, now: float) -> None:
        self._sample = _Sample(now, self._number)

    def _set(self, now: float, limit: float, why: str) -> None:
        limit = max(self._least, min(limit, self._maximum))
        changed, before = int(limit) != int(self.limit), self.limit
        self._ramp_from, self._ramp_start = min(self.limit, limit), now
        if limit < self.limit:
            self._outdated = self._number
            self._breaker.restart()
        self.limit = limit
        if changed:
            self._note(before, why)
        self._count(now)

    def _note(self, before: float, why: str) -> None:
        self._log(f"limit {before:.3g} -> {self.limit:.3g}: {why}")
        self._logged = self.limit

    def _hold(self, now: float, limit: float, why: str, safe: float = 1.0) -> None:
        """Go on with additive increase; ``safe`` is the part of the limit that is grown fast to."""
        self._phase, self._rest_until = "steady", math.inf
        self._refused_at = safe * limit
        self._set(now, limit, why)
        self._peak = self.limit

    def _explore(
        self, now: float, limit: float, why: str, factor: float, lower: _Step | None = None
    ) -> None:
        self._phase, self._lower, self._factor = "explore", lower, factor
        self._set(now, limit, why)

    def _judge_step(self, now: float, sent: int, refused: int) -> None:
        """End a step of slow start or a probe, if it can be judged yet."""
        lower, sample = self._lower, self._sample
        if self._random.are_exceeded(sent, refused):
            accepted = self.in_flight / (1 - self._random.share)
            floor = 0.5 * lower.limit if lower else 4.0
            limit = min(self.limit, max(accepted, floor))
            self._hold(now, limit, self._words(sent, refused), FALLEN)
            self._explored = now
            return
        slow = self._factor == SLOW_START
        due = self._ramp_start + min(STEP_SECONDS, self._latency)
        least = max(5.0, self.limit / 8) if slow else max(8.0, self.limit / 4)
        if now < due or sample.answered < least:
            return
        if not sample.full:
            self._count(now)
            return
        rate = sample.rate(now)
        if lower is not None and rate < lower.rate * (SLOW_START_GAIN if slow else PROBE_GAIN):
            self._end_step(now, lower, rate, slow=slow)
            return
        self._next_step(now, sent, refused, rate)

    def _end_step(self, now: float, lower: _Step, rate: float, *, slow: bool) -> None:
        """Go back from a step that brought too little, and rest before the next probe."""
        limit = min(self.limit, QUEUE_DEPTH * rate * lower.latency, LONGEST_WAIT * rate)
        gain, more = rate / lower.rate, self.limit / lower.limit
        why = f"{gain:.2f} times the answers a second with {more:.1f} times as many in flight"
        self._hold(now, limit if slow else lower.limit, why)
        self._rest_until = now + self._rest * max(1.0, self._latency)
        self._rest = min(LONGEST_REST, 2 * self._rest)

    def _next_step(self, now: float, sent: int, refused: int, rate: float) -> None:
        first, lower = not self._random.sent, self._lower
        latency = lower.latency if lower is not None else self._sample.latency
        self._random.learn(now, sent, refused)
        if lower is None and first:
            self._random.share = 0.0
        self._rest = 2.0
        if self.limit >= self._maximum:
            self._hold(now, self.limit, "the maximum")
            return
        limit = min(self._factor * self.limit, max(self.limit, rate * LONGEST_WAIT))
        step = _Step(self.limit, rate, latency)
        self._explore(now, limit, f"{rate:.1f} answers a second", self._factor, step)

    def _judge_steady(self, now: float, sent: int, refused: int) -> None:
        if self._breaker.is_suspicious(self._number):
            return
        random, sample = self._random, self._sample
        fallen = self.limit < FALLEN * self._peak
        pause = REPEAT_SECONDS if random.sent >= 200 else max(1.0, 2 * self._latency)
        if fallen or (sent >= 20 and random.share and now > random.measured + pause):
            if refused > 0.4 * (sent + 1):
                self._hold(now, self.limit, self._words(sent, refused))
                return
            self._before, self._rate_before, self._fallen = self.limit, refused / sent, fallen
            self._phase = "compare"
            peak = int(self._peak) or self._peak
            self._set(now, peak * COMPARISON, self._words(sent, refused) + "; comparing")
        elif self._rest_until < math.inf:
            if now < self._rest_until or sample.answered < max(40, self.limit / 2):
                return
            if not sample.full:
                self._count(now)
                return
            step = _Step(self.limit, sample.rate(now), 0.0)
            self._explore(now, PROBE * self.limit, "a probe", PROBE, step)
        elif sent > MEMORY:
            sample.first += sent // 2
            sample.refused //= 2

    def _judge_comparison(self, now: float, sent: int, refused: int) -> None:
        """Tell refusals at random from refusals for load, if there are enough of them yet."""
        why = self._words(sent, refused) + " with less in flight"
        expected = self._rate_before * sent
        fewer = refused < 0.7 * expected
        done = sent >= 300 or (sent >= 20 and now > self._sample.since + max(4, 4 * self._latency))
        if refused <= 0.7 * expected - 1.5 * math.sqrt(expected) or (
            done and (refused <= 2 or fewer)
        ):
            self._random.forget()
            self._hold(now, self._before, why)
            return
        if not done and (not self._fallen or sent < 20 or expected < 6 or fewer):
            return
        share = self._random.share
        if share == 0:
            self._random.forget()
        self._random.learn(now, sent, refused)
        if self._random.share > share + 0.05 or (self._fallen and now > self._explored + 10):
            self._explore(now, self._peak, why, SLOW_START)
        else:
            self._hold(now, self._peak, why, FALLEN)

    def _words(self, sent: int, refused: int) -> str:
        return f"{refused} of the last {sent} requests {_WORDS[self._kind]}"

    def _open(self, now: float, retry_after: float | None) -> None:
        self._log(f"all requests {_WORDS[self._kind]}: one trial at a time")
        self._breaker.open(now, self._number, max(self.limit, self._peak), retry_after)

    def _close(self, now: float) -> None:
        resume = self._breaker.close(self._number)
        self._cooldowns.clear()
        self._hold(now, resume, "accepted again")
        self._ramp_from = 1.0
        self._outdated = self._number
