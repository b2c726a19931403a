"""How many requests may be in flight at one endpoint: congestion control without a clock or I/O.

Slow start raises the limit with each answer. The first refusals beyond a tolerated share end it.
From then on each answer adds a little, and each refusal takes one request away. If the limit has
fallen much, it is set to 0.6 of its highest value for a while. If refusals are as frequent then as
before, they come at random, whatever the load: that share of them is tolerated, and the limit goes
back to its highest value. While nothing is accepted, a circuit breaker sends one trial at a time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from codesynth.serving.limits.breaker import Breaker
from codesynth.serving.limits.refusals import RandomRefusals

START = 24
"""Requests in flight at the beginning: few enough for small endpoints to refuse only once."""
SLOW_START = 12.0
"""Most requests that an answer adds in slow start. It adds one, which doubles the limit in each
latency, and one more for each second of the latency, as long answers leave few chances to grow."""
RAMP_SECONDS = 0.25
"""The first requests are spread over this time, so that a refusal is heard before all are sent."""
LONGEST_QUEUE = 30.0
"""At an endpoint that queues, requests may wait for this time and six latencies. More would hold up
the end of a run, which waits for what is in flight."""
GROWTH = 0.02
"""Requests that an answer adds near the last refusal, so that 2 % are refused and not 50 %."""
STEEP = 16.0
"""Requests above the last refusal at which an answer adds a whole one: capacity has grown."""
CUT = 0.2
"""Part of a small limit that a refusal takes away; from 5 on it takes one request."""
RANDOM_STEP = 0.5
"""Factor of each change of the limit if some refusals are random, because they say little."""
COOLDOWN_SECONDS = 0.5
"""A refused request keeps its slot for this time, while the usual latency is not known."""
SLOWEST = 60.0
"""Seconds between two requests at the lowest limit."""
FALLEN = 0.75
"""If the limit is below this part of its highest value, the cause of the refusals is looked for."""
LEAST = 20
"""Fewest requests from which the share of random refusals is measured again."""
COMPARISON = 0.6
"""While refusals are counted to compare, the limit is this part of its highest value."""
REPEAT_SECONDS = 30.0
"""Seconds (or latencies, if they are longer) until the random share is measured again."""
SOON_SECONDS = 3.0
"""The same, if the share was measured from fewer than ``CERTAIN`` requests."""
CERTAIN = 100
"""Requests from which a measured share is trusted for longer."""
WINDOW = 300
"""Requests that refusals are counted over."""

Kind = Literal["answered", "overload", "busy", "down", "timeout", "other"]
_WORDS: dict[Kind, str] = {
    "overload": "refused (429)",
    "busy": "refused (503)",
    "down": "failed",
    "timeout": "timed out",
}


class _Comparison(NamedTuple):
    """What there was before the limit was lowered to compare."""

    limit: float
    sent: int
    refused: int
    since: float


class Concurrency:
    """Finds how many requests an endpoint takes at a time.

    Times are seconds of any clock that never goes back.

    Args:
        maximum: highest limit.
        log: gets each change of the limit, with the reason.

    Attributes:
        limit: requests in flight; the fraction is one more for that part of the time.
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
        self._slow_start = True
        self._comparison: _Comparison | None = None
        self._random = RandomRefusals()
        self._breaker = Breaker()
        self._cooldowns: deque[float] = deque()  # moments at which slots become free
        self._answers, self._answered_at = 0, 0.0
        self._latency, self._lowest_latency, self._gap = 0.0, math.inf, 0.0  # means, in seconds
        self._refused_at = math.inf  # limit at the last refusal
        self._peak = 0.0  # highest limit since the last judgement
        self._counted_from, self._refused, self._full = 0, 0, False
        self._outdated = 0  # requests up to this number were sent at a higher limit
        self._ramp_end, self._next_slot = -math.inf, -math.inf
        self._next_measurement = 0.0
        self._kind: Kind = "overload"

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent; inf: when one ends."""
        if self._breaker.is_open:
            if not self._breaker.is_trial_accepted(now):
                return self._breaker.wait(now)
            self._close(now)
        cooldowns = self._cooldowns
        while cooldowns and cooldowns[0] <= now:
            cooldowns.popleft()
        used, whole = self.in_flight + len(cooldowns), max(1, int(self.limit))
        if used < whole:
            if now >= self._ramp_end or now >= self._next_slot:
                return 0.0
            wait = self._next_slot - now
        else:
            self._full = True
            wait = self._next_slot - now if used == whole < self.limit else math.inf
            if wait <= 0:
                return 0.0
        return min(wait, cooldowns[0] - now) if cooldowns else wait

    def sent(self, now: float) -> int:
        """Note that a request is sent; return its number."""
        whole = int(self.limit)
        if self._breaker.is_open:
            self._breaker.sent(now)
        elif self._number == 0:
            self._ramp_end = now + RAMP_SECONDS
        if now < self._ramp_end:
            self._next_slot = now + RAMP_SECONDS / self.limit
        elif self.in_flight + len(self._cooldowns) >= whole:
            self._next_slot = now + self._latency / max(self.limit - whole, 1e-3)
        self.in_flight += 1
        self._number += 1
        self._full = self._full or self.in_flight >= whole  # so the limit mattered
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
            self._refused_one(now, number, latency, retry_after)
        if self._breaker.is_open:
            return
        refused = self._refused
        last = self._number if kind == "answered" else number
        sent = max(last - self._counted_from, refused, 1)
        if self._comparison is not None:
            self._judge_comparison(now, self._comparison, sent, refused)
        elif self._slow_start:
            self._judge_slow_start(now, sent, refused, resolved=kind != "answered")
        else:
            self._judge_steady(now, sent, refused)

    def _answered(self, now: float, number: int, latency: float) -> None:
        self._answers += 1
        known = min(self._answers, 50)
        self._latency += (latency - self._latency) / known
        if known > 1:
            self._gap += (now - self._answered_at - self._gap) / (known - 1)
        self._answered_at = now
        if known >= 5:
            self._lowest_latency = min(self._lowest_latency, self._latency)
        if self._breaker.answered(number):
            self._close(now)
            return
        if self._breaker.is_open:
            return
        if self.limit < 1:
            self._cooldowns.append(now + self._latency * (1 / self.limit - 1))
        if not self._full or self._comparison is not None:
            return
        if self._slow_start:
            self._grow(min(SLOW_START, 1 + self._latency))
        elif number > self._outdated:
            unit = min(1.0, CUT * self.limit)
            above = (self.limit - self._refused_at) / max(STEEP * unit, self._refused_at / 2)
            more = max(GROWTH * self._step, min(1.0, above)) + self._random.outweigh
            self._grow(more * unit * self._step)
            self._peak = max(self._peak, self.limit)

    def _grow(self, more: float) -> None:
        if self._lowest_latency < math.inf:
            most = (LONGEST_QUEUE + 6 * self._lowest_latency) / max(self._gap, 1e-9)
            self.limit = max(self.limit, min(self._maximum, most, self.limit + more))

    @property
    def _step(self) -> float:
        return RANDOM_STEP if self._random.share else 1.0

    @property
    def _least(self) -> float:
        return min(1.0, max(1e-3, self._latency / SLOWEST))

    def _refused_one(self, now: float, number: int, latency: float, after: float | None) -> None:
        if self._breaker.is_open:
            self._breaker.refused(now, number, latency, after)
            return
        self._cooldowns.append(now + (self._latency or COOLDOWN_SECONDS) / min(1.0, self.limit))
        if number <= self._outdated:
            return
        if self._breaker.should_open(number, latency, after, idle=self.in_flight == 0):
            self._open(now, after)
            return
        self._refused += 1
        if self._slow_start:
            self.limit = max(min(START, self._maximum), self.limit - 0.5)
        elif self._comparison is None:
            less = min(1.0, CUT * self.limit) * self._step
            self._refused_at = self.limit = max(self._least, self.limit - less)

    def _judge_slow_start(self, now: float, sent: int, refused: int, *, resolved: bool) -> None:
        """End slow start at refusals beyond chance; before, learn what the share of chance is."""
        full = sent >= START and self._answers >= 5 and (resolved or not refused)
        if self._random.are_exceeded(sent, refused) or (
            full and refused > (0.5 + self._random.share) * sent
        ):
            accepted = self.in_flight / (1 - self._random.share)
            if not self._random.is_measured:
                self._next_measurement = now + max(2, 4 * self._latency)
            limit = min(self.limit, max(accepted, 4.0))
            self._hold(now, limit, self._words(sent, refused), FALLEN)
        elif full and sent >= self.limit:
            self._random.learn_first(sent, refused)
            self._count()
        elif self.limit >= 1.25 * self._logged:
            self._note(self._logged, "answers, and few refusals")

    def _judge_steady(self, now: float, sent: int, refused: int) -> None:
        """Begin a comparison where the limit has fallen, or the last one is long ago."""
        if not 0.8 < self.limit / self._logged < 1.25:
            self._note(self._logged, self._words(sent, refused))
        fallen = self.limit < FALLEN * self._peak
        repeat = self._random.share and sent >= LEAST and now >= self._next_measurement
        if fallen and refused > 0.4 * (sent + 1):
            self._hold(now, self.limit, self._words(sent, refused))  # no chance is that bad
        elif fallen or repeat:
            self._comparison = _Comparison(self.limit, sent, refused, now)
            self._set(now, COMPARISON * self._peak, self._words(sent, refused) + "; comparing")
        elif sent > WINDOW:
            self._counted_from += sent // 2
            self._refused //= 2

    def _judge_comparison(self, now: float, before: _Comparison, sent: int, refused: int) -> None:
        """Tell refusals at random from refusals for load, if there are enough of them yet."""
        why = self._words(sent, refused) + " with less in flight"
        expected = sent * before.refused / before.sent
        fewer = refused < 0.7 * expected  # halfway between load (about 0.4) and chance (1)
        seconds = now - before.since
        done = sent >= WINDOW or (sent >= 20 and seconds > max(4, 4 * self._latency))
        if refused <= 0.7 * expected - 1.5 * math.sqrt(expected) or (
            done and (refused <= 2 or fewer)
        ):
            self._random.learn_less(sent, refused)
            self._next_measurement = now + REPEAT_SECONDS * max(1.0, self._latency)
            self._hold(now, before.limit, why)
        elif not done and (sent < 20 or expected < 6 or fewer):
            return  # six are expected, or chance decides
        elif refused > min(0.5 * sent, 1.5 * expected + 5):
            self._hold(now, self.limit, why)  # the load has not fallen yet
        else:
            self._random.learn(sent + before.sent, refused + before.refused)
            pause = REPEAT_SECONDS if sent >= CERTAIN else SOON_SECONDS
            self._next_measurement = now + pause * max(1.0, self._latency)
            self._hold(now, self._peak, why, FALLEN)
            self._slow_start = True

    def _count(self) -> None:
        self._counted_from, self._refused, self._full = self._number, 0, False

    def _set(self, now: float, limit: float, why: str) -> None:
        limit, before = max(self._least, min(limit, self._maximum)), self.limit
        if limit < before:
            self._outdated = self._number
            self._breaker.restart()
        self.limit = limit
        if int(limit) != int(before):
            self._note(before, why)
        self._count()

    def _hold(self, now: float, limit: float, why: str, safe: float = 1.0) -> None:
        """Go on with additive increase; ``safe`` is the part of the limit that is grown fast to."""
        self._slow_start, self._comparison = False, None
        self._refused_at = safe * limit
        self._set(now, limit, why)
        self._peak = self.limit

    def _note(self, before: float, why: str) -> None:
        self._log(f"limit {before:.3g} -> {self.limit:.3g}: {why}")
        self._logged = self.limit

    def _words(self, sent: int, refused: int) -> str:
        return f"{refused} of the last {sent} requests {_WORDS[self._kind]}"

    def _open(self, now: float, retry_after: float | None) -> None:
        self._log(f"all requests {_WORDS[self._kind]}: one trial at a time")
        self._breaker.open(now, self._number, retry_after)

    def _close(self, now: float) -> None:
        self._breaker.is_open = False
        self._cooldowns.clear()
        self._hold(now, max(self.limit, self._peak), "accepted again")
        self._next_slot, self._ramp_end = now, now + RAMP_SECONDS
        self._outdated = self._number
