"""How many requests may be in flight at one endpoint: congestion control without a clock or I/O.

1. Slow start: answers raise the limit until more is refused than at random.
2. Additive increase: each answer adds a little, and each refusal takes one request away.
3. Comparison: after slow start, and if the limit has fallen much, it is lowered for a while. What
   is refused then no less than before is refused at random, whatever the load. That share is
   tolerated from then on, and measured again now and then.
4. Circuit breaker: while nothing is accepted, one trial at a time is sent.

The constants were found with the laws of tests/test_concurrency.py and others like them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from codesynth.serving.limits.breaker import IN_A_ROW, Breaker
from codesynth.serving.limits.refusals import RandomRefusals, is_beyond

START, START_SECONDS = 24, 0.25
"""Requests in flight at the beginning, and the time over which they are spread: so an endpoint that
takes few is heard before all are sent."""
GOLDEN_RATIO = 0.618034
"""Multiples of it spread evenly between whole numbers: so a limit of 2.3 is 3 for each third or
fourth request, and else 2."""

SLOW_START_PER_SECOND, SLOW_START_PART = 3.0, 0.25
"""In slow start an answer adds one request, which doubles the limit in each latency; or so many for
each second of the latency, if that is more, up to this part of the limit: long answers leave few
chances to grow."""
QUEUE_LATENCIES = 10.0
"""Requests in flight are worth no more than are answered in so many of the lowest latencies: at an
endpoint that queues, more would only wait, and a run that ends waits for them."""
FEW_ANSWERS, MEAN_ANSWERS = 5, 50
"""Answers from which a mean latency says something, and those that it is a mean of."""

GROWTH = 0.018
"""Requests that an answer adds near the last refusal, so that 2 % are refused and not 50 %."""
STEEP, STEEP_PART = 2.5, 0.22
"""Requests above the last refusal (or part of that limit, if it is more) at which an answer adds a
whole one: capacity has grown. Nearer to the refusal it adds less, by the square of the distance."""
CUT = 0.1
"""Part of a small limit that a refusal takes away; from 10 on it takes one request."""
RANDOM_STEP = 0.5
"""Factor of each change of the limit if some refusals are random, because they say little."""
COOLDOWN_SECONDS = 0.5
"""A refused request keeps its slot for the mean latency, or for this time if that is not known."""
SLOWEST = 60.0
"""Seconds between two requests at the lowest limit."""

FALLEN, COMPARISON = 0.8, 0.7
"""Below the first part of its highest value the limit has fallen; while refusals are counted to
compare, it is the second part."""
SAMPLES, LEAST_SENT, LONGEST_COMPARISON = 200, 20, 2.0
"""Requests that a comparison takes; or so few at least, after so many seconds (or latencies)."""
CLEAN, CLEAN_SECONDS = 5.0, 0.25
"""Refusals expected; if there is none after so many seconds, load was their cause, and the
comparison ends."""
FREQUENT, MOST_RANDOM = 0.7, 0.4
"""Part of the expected refusals from which they are as frequent as before, and part of the requests
above which that is no chance."""
REPEAT_SECONDS = 10.0
"""Seconds (or latencies) until a share is measured again."""
WINDOW = 300
"""Requests that refusals are counted over."""

CROWD_PART = 0.4
"""Refusals in a row of this part of the limit mean that nothing is accepted, though some are
answered still. Fewer may be a batch that was sent at once."""
STRAGGLERS = 0.05
"""Part of the limit; if fewer are in flight when a trial is accepted, they did not hinder it."""
NOTEWORTHY = 1.25
"""Factor between two limits of which the second is logged."""

Kind = Literal[
    "answered", "overload", "busy", "down", "unreachable", "timeout", "denied", "hopeless", "other"
]
"""What an attempt brought; see ``AttemptResult``."""
_FAILED = {"down": "failed", "unreachable": "failed", "timeout": "timed out"}
_WORDS: dict[str, str] = {"overload": "refused (429)", "busy": "refused (503)", **_FAILED}
"""The kinds that speak of too much load, or of an outage."""


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
        limit: requests in flight; the fraction is one more for that part of the requests.
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
        self._number, self._first_sent = 0, 0.0  # number of the last request sent
        self._slow_start = True
        self._comparison: _Comparison | None = None
        self._random, self._breaker = RandomRefusals(), Breaker()
        self._cooldowns: deque[float] = deque()  # moments at which slots become free
        self._answers, self._answered_at = 0, 0.0
        self._latency, self._lowest_latency, self._gap = 0.0, math.inf, 0.0  # means, in seconds
        self._refused_at = math.inf  # limit at the last refusal
        self._peak = 0.0  # highest limit since the last judgement
        self._counted_from, self._refused, self._full = 0, 0, False
        self._last_known = 0  # number of the last request of which the result is known
        self._outdated = 0  # requests up to this number were sent at a higher limit
        self._next_comparison, self._doubted = 0.0, False
        self._how: set[str] = set()  # requests were refused since the last judgement, in words

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent; inf: when one ends."""
        if self._breaker.is_open:
            if not self._breaker.is_trial_accepted(now):
                return self._breaker.wait(now)
            self._close(now, self.in_flight)
        cooldowns = self._cooldowns
        while cooldowns and cooldowns[0] <= now:
            cooldowns.popleft()
        slots = max(1, int(self.limit + self._number * GOLDEN_RATIO % 1.0))
        if self.in_flight + len(cooldowns) >= slots:
            self._full = True  # so the limit matters
            return cooldowns[0] - now if cooldowns else math.inf
        if self._number >= START:
            return 0.0
        return max(0.0, self._first_sent + START_SECONDS / START * self._number - now)

    def sent(self, now: float) -> int:
        """Note that a request is sent; return its number."""
        if self._breaker.is_open:
            self._breaker.sent(now)
        if self._number == 0:
            self._first_sent = now
        self.in_flight += 1
        self._number += 1
        self._full = self._full or self.in_flight >= int(self.limit)
        return self._number

    def result(
        self, now: float, number: int, latency: float, kind: Kind, retry_after: float | None
    ) -> None:
        """Take the result of a request."""
        self.in_flight -= 1
        if is_refused := kind in _WORDS:
            self._how.add(_WORDS[kind])
            self._refused_one(now, number, latency, retry_after)
        elif kind in ("answered", "denied"):  # a refusal of the key says that there is room
            self._answered(now, number, latency)
        else:
            return
        if self._breaker.is_open:
            return
        self._last_known = max(self._last_known, number)
        last, refused = number if is_refused else self._number, self._refused
        if self._comparison is not None and refused:
            last = self._last_known  # those sent later may be refused still
        sent = max(last - self._counted_from, refused, 1)
        if self._comparison is not None:
            self._judge_comparison(now, self._comparison, sent, refused)
        elif self._slow_start:
            self._judge_slow_start(now, sent, refused)
        else:
            self._judge_steady(now, sent, refused)

    def _answered(self, now: float, number: int, latency: float) -> None:
        self._measure(now, latency)
        if self._breaker.answered(number):
            self._close(now, self.in_flight + 1)
        if self._breaker.is_open:
            return
        if self.limit < 1:
            self._cooldowns.append(now + self._latency * (1 / self.limit - 1))
        if not self._full or self._comparison is not None:
            return
        if self._slow_start:
            more = max(1.0, SLOW_START_PER_SECOND * self._latency)
            self._grow(min(more, SLOW_START_PART * self.limit))
        elif number > self._outdated:
            whole = max(STEEP * self._step, STEEP_PART * self._refused_at)
            above = max(0.0, self.limit - self._refused_at) / whole
            share = self._random.share  # of refusals, which the other requests must outweigh
            self._grow((max(GROWTH, min(1.0, above**2)) + share / (1 - share)) * self._step)
            self._peak = max(self._peak, self.limit)

    def _measure(self, now: float, latency: float) -> None:
        self._answers += 1
        known = min(self._answers, MEAN_ANSWERS)
        self._latency += (latency - self._latency) / known
        if known > 1:
            self._gap += (now - self._answered_at - self._gap) / (known - 1)
        self._answered_at = now
        if known >= FEW_ANSWERS:
            self._lowest_latency = min(self._lowest_latency, self._latency)

    def _grow(self, more: float) -> None:
        if self._lowest_latency < math.inf:
            most = QUEUE_LATENCIES * self._lowest_latency / max(self._gap, 1e-9)
            self.limit = max(self.limit, min(self._maximum, most, self.limit + more))

    @property
    def _step(self) -> float:
        """Requests that a refusal takes away."""
        return min(1.0, CUT * self.limit) * (RANDOM_STEP if self._random.share else 1.0)

    def _refused_one(self, now: float, number: int, latency: float, after: float | None) -> None:
        if self._breaker.is_open:
            self._breaker.refused(now, number, latency, after)
            return
        self._cooldowns.append(now + (self._latency or COOLDOWN_SECONDS) / min(1.0, self.limit))
        if number <= self._outdated:
            return
        least = max(IN_A_ROW, CROWD_PART * self.limit)
        if self.in_flight == 0 or (self._comparison is not None and not self._random.share):
            least = IN_A_ROW  # none of the refusals comes from those in flight
        elif self._random.share:
            least = math.inf
        if self._breaker.should_open(number, latency, after, least=least):
            self._log(f"all requests {' or '.join(sorted(self._how))}: one trial at a time")
            self._breaker.open(now, self._number, after)
            return
        self._refused += 1
        if not self._slow_start and self._comparison is None:
            self._refused_at = self.limit = self._clip(self.limit - self._step)

    def _judge_slow_start(self, now: float, sent: int, refused: int) -> None:
        """End slow start at refusals beyond chance; before, guess what the share of chance is."""
        full = sent >= START and self._answers >= FEW_ANSWERS
        too_many = full and refused > (MOST_RANDOM + self._random.share) * sent
        if too_many or self._random.are_exceeded(sent, refused):
            accepted = max(1.0, self.in_flight / (1 - self._random.share))
            limit = self._peak = min(self.limit, accepted)
            if now < self._next_comparison:
                self._hold(now, limit, self._words(sent, refused))
            else:
                self._compare(now, limit, sent, refused)
        elif full and sent >= self.limit:
            self._random.guess(sent, refused)
            self._count()
        elif self.limit >= NOTEWORTHY * self._logged:
            self._note(self._logged, "nearly all are answered")

    def _judge_steady(self, now: float, sent: int, refused: int) -> None:
        """Begin a comparison where the limit has fallen, or the last one is long ago."""
        if not 1 / NOTEWORTHY < self.limit / self._logged < NOTEWORTHY:
            self._note(self._logged, self._words(sent, refused))
        fallen = self.limit < FALLEN * self._peak
        repeat = self._random.share and sent >= LEAST_SENT and now >= self._next_comparison
        if fallen and refused > MOST_RANDOM * (sent + 1):
            self._hold(now, self.limit, self._words(sent, refused))
        elif fallen or repeat:
            self._compare(now, self.limit, sent, refused)
        elif sent > WINDOW:
            self._counted_from += sent // 2
            self._refused //= 2

    def _compare(self, now: float, limit: float, sent: int, refused: int) -> None:
        self._comparison, self._slow_start = _Comparison(limit, sent, refused, now), False
        self._set(now, COMPARISON * self._peak, self._words(sent, refused) + "; comparing")

    def _judge_comparison(self, now: float, before: _Comparison, sent: int, refused: int) -> None:
        """Tell refusals at random from refusals for load, if there are enough requests yet."""
        why = self._words(sent, refused) + " with less in flight"
        share, expected = self._random.share, sent * before.refused / before.sent
        longest = LONGEST_COMPARISON * max(1.0, self._latency)
        is_late = sent >= LEAST_SENT and now - before.since > longest
        is_clean = expected >= CLEAN and not (
            share or refused or now < before.since + CLEAN_SECONDS
        )
        if is_beyond(MOST_RANDOM, sent, refused):
            self._hold(now, self.limit, why)  # the load has not fallen yet
        elif sent >= SAMPLES or is_late or is_clean:
            # A share that was measured seldom changes: it must differ at two limits.
            may_differ = self._doubted or not self._random.is_measured
            is_random = may_differ and refused > FREQUENT * expected
            self._doubted = not is_random and self._random.are_exceeded(sent, refused)
            if self._doubted:
                self._hold(now, self.limit, why)
                return
            if may_differ or share:
                self._random.learn(sent, refused)
            self._next_comparison = now + REPEAT_SECONDS * max(1.0, self._latency)
            limit = before.limit
            if self._random.share and refused > FREQUENT * expected:  # load did not lower it
                limit = max(limit, self._peak)
            self._hold(now, limit, why)
            self._slow_start = self._random.share > share

    def _count(self) -> None:
        self._counted_from, self._refused, self._full = self._number, 0, False
        self._how.clear()

    def _clip(self, limit: float) -> float:
        return max(min(1.0, max(1e-3, self._latency / SLOWEST)), min(limit, self._maximum))

    def _hold(self, now: float, limit: float, why: str, safe: float = 1.0) -> None:
        """Go on with additive increase; up to the part ``safe`` of the limit it is fast."""
        self._slow_start, self._comparison = False, None
        self._refused_at = safe * limit
        self._set(now, limit, why)
        self._peak = self.limit

    def _set(self, now: float, limit: float, why: str) -> None:
        limit, before = self._clip(limit), self.limit
        if limit < before:
            self._outdated = self._number
            self._breaker.restart()
        self.limit = limit
        if int(limit) != int(before):
            self._note(before, why)
        self._count()

    def _note(self, before: float, why: str) -> None:
        self._log(f"limit {before:.3g} -> {self.limit:.3g}: {why}")
        self._logged = self.limit

    def _words(self, sent: int, refused: int) -> str:
        how = " or ".join(sorted(self._how)) or "refused"
        return f"{refused} of the last {sent} requests {how}"

    def _close(self, now: float, in_flight: int) -> None:
        """Go on from where it was, unless those in flight (with the trial) show what is taken.

        A limit of slow start was never shown to be taken.
        """
        self._breaker.is_open = False
        self._cooldowns.clear()
        limit = max(self.limit, self._peak)
        hindered = in_flight > max(1.0, STRAGGLERS * limit)
        if (hindered or self._slow_start) and not self._breaker.in_window:
            accepted = in_flight / (1 - self._random.share)
            self._hold(now, min(limit, accepted), "accepted again", FALLEN)
        else:
            self._hold(now, limit, "accepted again")
        self._outdated = self._number
