"""How many requests may be in flight at one endpoint: congestion control without a clock or I/O.

1. Slow start: each answer raises the limit, until more is refused than chance explains.
2. Additive increase: each answer adds a little, and each refusal takes one request away.
3. Comparison: at the end of slow start, and after a large fall of the limit, the limit is lowered
   for a while. If the same share is refused there, these refusals are random: they do not depend
   on the load. That share is tolerated from then on, and measured again now and then.
4. Circuit breaker: while nothing is accepted, one trial at a time is sent.

Where a constant counts "seconds (or latencies)", the longer of the two times is meant. The numbers
were found with the simulations of tests/test_concurrency.py and others like them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from codesynth.serving.limits.breaker import IN_A_ROW, Breaker
from codesynth.serving.limits.refusals import RandomRefusals, is_beyond

START, START_SECONDS = 24, 0.25
"""First limit, and the time over which these first requests are spread: an endpoint that takes
only a few can refuse before all are sent."""
GOLDEN_RATIO = 0.618034
"""The fractions of its multiples are spread evenly from 0 to 1: with a limit of 2.3, three of ten
requests may be the third in flight."""

SLOW_START_PER_SECOND, SLOW_START_PART = 3.0, 0.25
"""In slow start an answer adds one request, which doubles the limit in each latency. As long
answers are few, it adds this number for each second of the latency if that is more, but at most
this part of the limit."""
QUEUE_LATENCIES = 10.0
"""The limit does not grow above the number of answers that come in this many of the lowest mean
latency: more requests would only wait in the endpoint's queue."""
FEW_ANSWERS, MEAN_ANSWERS = 5, 50
"""Answers before the mean latency is used, and how many it is a moving mean of."""

GROWTH = 0.018
"""Requests that an answer adds near the limit of the last refusal. A refusal takes one away, so
about 2 % are refused; if an answer added one, it would be 50 %."""
FULL_GROWTH_STEPS, FULL_GROWTH_PART = 2.5, 0.22
"""Distance above the limit of the last refusal, in steps or as a part of that limit (the longer
one), at which an answer adds a whole step, because capacity has grown. At half of the distance it
adds a quarter."""
CUT = 0.1
"""A refusal takes away one request, or this part of the limit if that is less. This is a step."""
RANDOM_STEP = 0.5
"""Factor of a step while some refusals are random, because each of them says less."""
COOLDOWN_SECONDS = 0.5
"""A refused request keeps its slot for the mean latency, or for this time before any answer."""
SLOWEST = 60.0
"""Seconds between two requests at the lowest limit."""

FALLEN, COMPARISON = 0.8, 0.7
"""The limit has fallen if it is below the first part of its peak. A comparison lowers it to the
second part of its peak."""
SAMPLES, LEAST_SENT, LONGEST_COMPARISON = 200, 20, 2.0
"""Requests after which a comparison ends; or after fewer, but at least the second number, when this
many seconds (or latencies) are over."""
CLEAN, CLEAN_SECONDS = 5.0, 0.25
"""A comparison ends early if this many refusals were expected and none came in this many seconds:
the load was the cause."""
FREQUENT, MOST_RANDOM = 0.7, 0.4
"""From this part of the expected refusals on, refusals are as frequent as before. Above this share
of all requests they are never taken for random."""
REPEAT_SECONDS = 10.0
"""Seconds (or latencies) from one measurement of the random share to the next."""
WINDOW = 300
"""After this many requests, the counts of requests and of refusals are halved."""

OUTAGE_PART = 0.4
"""Refusals in a row, as a part of the limit, that open the circuit breaker while older requests are
in flight. Fewer may come from requests that were sent at once."""
FEW_IN_FLIGHT = 0.05
"""Part of the limit. If no more are in flight when a trial is accepted, they do not show how many
the endpoint takes."""
NOTEWORTHY = 1.25
"""A change of the limit by this factor is logged."""

Kind = Literal[
    "answered", "overload", "busy", "down", "unreachable", "timeout", "denied", "hopeless", "other"
]
"""What an attempt brought; see ``AttemptResult``."""
_FAILED = {"down": "failed", "unreachable": "failed", "timeout": "timed out"}
_REFUSALS: dict[str, str] = {"overload": "refused (429)", "busy": "refused (503)", **_FAILED}
"""The kinds that count as refusals, because they mean too much load or an outage; for the log."""


class _Comparison(NamedTuple):
    """The state before the limit was lowered for a comparison."""

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
        limit: most requests in flight; 2.3 allows a third one for 30 % of the requests.
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
        self._peak = 0.0  # highest limit since slow start or the last ``_go_steady``
        # Number of the request before the counted ones; refusals; whether the limit was reached.
        self._counted_from, self._refused, self._full = 0, 0, False
        self._last_known = 0  # number of the last request of which the result is known
        self._outdated = 0  # requests up to this number were sent at a higher limit
        self._next_comparison, self._doubted = 0.0, False  # does the last one contradict the share?
        self._how: set[str] = set()  # how requests were refused, in words

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent; inf: when one ends."""
        if self._breaker.is_open:
            if not self._breaker.is_trial_accepted(now):
                return self._breaker.wait(now)
            self._close(max(1, self.in_flight))  # the trial may have ended as "other"
        cooldowns = self._cooldowns
        while cooldowns and cooldowns[0] <= now:
            cooldowns.popleft()
        slots = max(1, int(self.limit + self._number * GOLDEN_RATIO % 1.0))
        if self.in_flight + len(cooldowns) >= slots:
            self._full = True  # so answers may raise the limit
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
        if is_refused := kind in _REFUSALS:
            self._how.add(_REFUSALS[kind])
            self._refused_one(now, number, latency, retry_after)
        elif kind in ("answered", "denied"):  # a refusal of the key says that there is room
            self._answered(now, number, latency)
        else:
            self._breaker.ended(number)
            return
        if self._breaker.is_open:
            return
        self._last_known = max(self._last_known, number)
        last, refused = number if is_refused else self._number, self._refused
        if self._comparison is not None and refused:
            last = self._last_known  # requests sent later may still be refused
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
            self._close(self.in_flight + 1)
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
            distance = max(FULL_GROWTH_STEPS * self._step, FULL_GROWTH_PART * self._refused_at)
            above = max(0.0, self.limit - self._refused_at) / distance
            share = self._random.share  # answers must also make up for these refusals
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
        self.limit = self._clip(self.limit)  # the lowest limit rises with the latency

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
        least = max(IN_A_ROW, OUTAGE_PART * self.limit)
        if self.in_flight == 0 or (self._comparison is not None and not self._random.share):
            least = IN_A_ROW  # no answer is on its way, or the limit is low already
        elif self._random.share:
            least = math.inf  # some of the requests in flight will be answered
        if self._breaker.should_open(number, latency, after, least=least):
            self._log(f"all requests {' or '.join(sorted(self._how))}: one trial at a time")
            self._breaker.open(now, self._number, after)
            return
        self._refused += 1
        if not self._slow_start and self._comparison is None:
            self._refused_at = self.limit = self._clip(self.limit - self._step)

    def _judge_slow_start(self, now: float, sent: int, refused: int) -> None:
        """End slow start at refusals that are not random; until then estimate the random share."""
        is_enough = sent >= START and self._answers >= FEW_ANSWERS
        too_many = is_enough and refused > (MOST_RANDOM + self._random.share) * sent
        if too_many or self._random.are_exceeded(sent, refused):
            accepted = max(1.0, self.in_flight / (1 - self._random.share))
            limit = self._peak = min(self.limit, accepted)
            if now < self._next_comparison:  # the last comparison has just resumed slow start
                self._go_steady(limit, self._describe(sent, refused))
            else:
                self._begin_comparison(now, limit, sent, refused)
        elif is_enough and sent >= self.limit:
            self._random.guess(sent, refused)
            self._restart_counts()
        elif self.limit >= NOTEWORTHY * self._logged:
            self._log_change(self._logged, "nearly all are answered")

    def _judge_steady(self, now: float, sent: int, refused: int) -> None:
        """Begin a comparison if the limit has fallen, or if the random share is to be measured."""
        if not 1 / NOTEWORTHY < self.limit / self._logged < NOTEWORTHY:
            self._log_change(self._logged, self._describe(sent, refused))
        fallen = self.limit < FALLEN * self._peak
        repeat = self._random.share and sent >= LEAST_SENT and now >= self._next_comparison
        if fallen and refused > MOST_RANDOM * (sent + 1):  # load: nothing to compare
            self._go_steady(self.limit, self._describe(sent, refused))
        elif fallen or repeat:
            self._begin_comparison(now, self.limit, sent, refused)
        elif sent > WINDOW:
            self._counted_from += sent // 2
            self._refused //= 2

    def _begin_comparison(self, now: float, limit: float, sent: int, refused: int) -> None:
        self._comparison, self._slow_start = _Comparison(limit, sent, refused, now), False
        self._set(COMPARISON * self._peak, self._describe(sent, refused) + "; lowered to compare")

    def _judge_comparison(self, now: float, before: _Comparison, sent: int, refused: int) -> None:
        """Tell random refusals from those due to load, once there are enough requests."""
        why = self._describe(sent, refused) + " at the lower limit"
        share, expected = self._random.share, sent * before.refused / before.sent
        longest = LONGEST_COMPARISON * max(1.0, self._latency)
        is_late = sent >= LEAST_SENT and now - before.since > longest
        is_clean = expected >= CLEAN and not (
            share or refused or now < before.since + CLEAN_SECONDS
        )
        if is_beyond(MOST_RANDOM, sent, refused):
            self._go_steady(self.limit, why)  # the limit is still too high
        elif sent >= SAMPLES or is_late or is_clean:
            # A measured share changes only if two comparisons in a row, at two limits, differ.
            may_differ = self._doubted or not self._random.is_measured
            is_random = may_differ and refused > FREQUENT * expected
            self._doubted = not is_random and self._random.are_exceeded(sent, refused)
            if self._doubted:
                self._go_steady(self.limit, why)
                return
            if may_differ or share:
                self._random.learn(sent, refused)
            self._next_comparison = now + REPEAT_SECONDS * max(1.0, self._latency)
            limit = before.limit
            if self._random.share and refused > FREQUENT * expected:  # it fell by chance
                limit = max(limit, self._peak)
            self._go_steady(limit, why)
            self._slow_start = self._random.share > share  # it had ended by chance

    def _restart_counts(self) -> None:
        self._counted_from, self._refused, self._full = self._number, 0, False
        self._how.clear()

    def _clip(self, limit: float) -> float:
        return max(min(1.0, max(1e-3, self._latency / SLOWEST)), min(limit, self._maximum))

    def _go_steady(self, limit: float, why: str, refused_part: float = 1.0) -> None:
        """Go on with additive increase, as after a refusal at ``refused_part`` of the limit."""
        self._slow_start, self._comparison = False, None
        self._refused_at = refused_part * limit
        self._set(limit, why)
        self._peak = self.limit

    def _set(self, limit: float, why: str) -> None:
        limit, before = self._clip(limit), self.limit
        if limit < before:
            self._outdated = self._number
            self._breaker.restart()
        self.limit = limit
        if int(limit) != int(before):
            self._log_change(before, why)
        self._restart_counts()

    def _log_change(self, before: float, why: str) -> None:
        self._log(f"limit {before:.3g} -> {self.limit:.3g}: {why}")
        self._logged = self.limit

    def _describe(self, sent: int, refused: int) -> str:
        how = " or ".join(sorted(self._how)) or "refused"
        return f"{refused} of the last {sent} requests {how}"

    def _close(self, in_flight: int) -> None:
        """Close the breaker, with the old limit or with what the endpoint was seen to take.

        The old limit may be too high if requests besides the trial were accepted, or in slow start.
        It is right where a server counts in windows of time.
        """
        self._breaker.is_open = False
        self._cooldowns.clear()
        limit = max(self.limit, self._peak)
        are_many = in_flight > max(1.0, FEW_IN_FLIGHT * limit)
        if (are_many or self._slow_start) and not self._breaker.in_window:
            accepted = in_flight / (1 - self._random.share)
            self._go_steady(min(limit, accepted), "requests are accepted again", FALLEN)
        else:
            self._go_steady(limit, "requests are accepted again")
        self._outdated = self._number
