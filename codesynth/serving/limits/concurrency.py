"""How many requests may be in flight at one endpoint: congestion control without a clock or I/O.

1. Slow start: answers raise the limit until more than a tolerated share is refused.
2. Additive increase: each answer adds a little, and each refusal takes one request away.
3. Comparison: if the limit has fallen much, it is set to 0.6 of its highest value for a while. If
   refusals are as frequent then as before, they come at random, whatever the load: that share of
   them is tolerated from then on, and the limit goes back to its highest value.
4. Circuit breaker: while nothing is accepted, one trial at a time is sent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

from codesynth.serving.limits.breaker import IN_A_ROW, Breaker
from codesynth.serving.limits.refusals import RandomRefusals

START = 24
"""Requests in flight at the beginning: few enough for small endpoints to refuse only once."""
RAMP_SECONDS = 0.25
"""The first requests are spread over this time, so that a refusal is heard before all are sent."""
GOLDEN_RATIO = 0.618034
"""Multiples of it spread evenly between whole numbers: so a limit of 2.3 is 3 for each third or
fourth request, and else 2."""

SLOW_START_PER_SECOND = 2.0
"""In slow start an answer adds one request, which doubles the limit in each latency; or so many for
each second of the latency, if that is more, as long answers leave few chances to grow."""
SLOW_START_PART = 0.25
"""Most that it adds, as a part of the limit: no more are refused at once if that is too many."""
QUEUE_LATENCIES = 10.0
"""Requests in flight are worth no more than are answered in so many of the lowest latencies: at an
endpoint that queues, more would only wait, and a run that ends waits for them."""
FEW_ANSWERS, MEAN_ANSWERS = 5, 50
"""Answers from which a mean latency says something, and those that it is a mean of."""

GROWTH = 0.02
"""Requests that an answer adds near the last refusal, so that 2 % are refused and not 50 %."""
STEEP, STEEP_PART = 3.5, 0.22
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

FALLEN = 0.75
"""If the limit is below this part of its highest value, the cause of the refusals is looked for.
Up to this part of a limit that is safe again, it grows fast."""
COMPARISON = 0.6
"""While refusals are counted to compare, the limit is this part of its highest value."""
MOST_RANDOM = 0.4
"""Part of the requests; where more are refused, that is no chance."""
FEWER = 0.7
"""Part of the expected refusals that shows their cause: of chance are all of them, of load 0.4."""
DEVIATIONS = 1.5
"""Standard deviations below that part which end a comparison early."""
LEAST_SENT, LEAST_EXPECTED = 20, 6
"""Requests and expected refusals that a comparison needs, or chance decides."""
LONGEST_COMPARISON = 4.0
"""Seconds (or latencies, if they are longer) after which it is decided with what there is."""
REPEAT_SECONDS, FIRST_SECONDS = 30.0, 3.0
"""Seconds (or latencies) until a share is measured again; the same after slow start, which has only
guessed it."""
WINDOW = 300
"""Requests that refusals are counted over."""

CROWD, CROWD_PART = 16, 0.4
"""From this limit on, refusals in a row of this part of it mean that nothing is accepted, though
some are answered still. Fewer may be a batch that was sent at once."""
STRAGGLERS = 0.05
"""Part of the limit; if fewer are in flight when a trial is accepted, they did not hinder it."""
NOTEWORTHY = 1.25
"""Factor between two limits of which the second is logged."""

Kind = Literal[
    "answered", "overload", "busy", "down", "unreachable", "timeout", "denied", "hopeless", "other"
]
"""What an attempt brought; see ``AttemptResult``."""
_WORDS: dict[Kind, str] = {
    "overload": "refused (429)",
    "busy": "refused (503)",
    "down": "failed",
    "unreachable": "failed",
    "timeout": "timed out",
}
"""Those that speak of too much load, or of an outage."""


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
        self._ramp_end, self._next_send = -math.inf, -math.inf
        self._next_measurement = 0.0
        self._kind: Kind = "overload"

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
        if self.in_flight + len(cooldowns) < slots:
            return max(0.0, self._next_send - now) if now < self._ramp_end else 0.0
        self._full = True  # so the limit matters
        return cooldowns[0] - now if cooldowns else math.inf

    def sent(self, now: float) -> int:
        """Note that a request is sent; return its number."""
        if self._breaker.is_open:
            self._breaker.sent(now)
        elif self._number == 0:
            self._ramp_end = now + RAMP_SECONDS
        if now < self._ramp_end:
            self._next_send = now + RAMP_SECONDS / self.limit
        self.in_flight += 1
        self._number += 1
        self._full = self._full or self.in_flight >= int(self.limit)
        return self._number

    def result(
        self, now: float, number: int, latency: float, kind: Kind, retry_after: float | None
    ) -> None:
        """Take the result of a request."""
        self.in_flight -= 1
        refused_it = kind in _WORDS
        if refused_it:
            self._kind = kind
            self._refused_one(now, number, latency, retry_after)
        elif kind in ("answered", "denied"):  # a refusal of the key says that there is room
            self._answered(now, number, latency)
        else:
            return
        if self._breaker.is_open:
            return
        refused = self._refused
        last = number if refused_it else self._number
        sent = max(last - self._counted_from, refused, 1)
        if self._comparison is not None:
            self._judge_comparison(now, self._comparison, sent, refused)
        elif self._slow_start:
            self._judge_slow_start(now, sent, refused, resolved=refused_it)
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
            unit = min(1.0, CUT * self.limit) * self._step
            whole = max(STEEP * unit, STEEP_PART * self._refused_at)
            above = max(0.0, self.limit - self._refused_at) / whole
            share = self._random.share  # of refusals, which the other requests must outweigh
            more = max(GROWTH * self._step, min(1.0, above**2)) + share / (1 - share)
            self._grow(more * unit)
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
        return RANDOM_STEP if self._random.share else 1.0

    @property
    def _least(self) -> float:
        return min(1.0, max(1e-3, self._latency / SLOWEST))

    @property
    def _least_in_a_row(self) -> float:
        """Refusals in a row that are no chance, and no effect of those in flight."""
        if self.in_flight == 0:
            return IN_A_ROW
        crowd = self.limit >= CROWD and not self._random.share
        return max(IN_A_ROW, CROWD_PART * self.limit) if crowd else math.inf

    def _refused_one(self, now: float, number: int, latency: float, after: float | None) -> None:
        if self._breaker.is_open:
            self._breaker.refused(now, number, latency, after)
            return
        self._cooldowns.append(now + (self._latency or COOLDOWN_SECONDS) / min(1.0, self.limit))
        if number <= self._outdated:
            return
        if self._breaker.should_open(number, latency, after, least=self._least_in_a_row):
            self._log(f"all requests {_WORDS[self._kind]}: one trial at a time")
            self._breaker.open(now, self._number, after)
            return
        self._refused += 1
        if not self._slow_start and self._comparison is None:
            less = min(1.0, CUT * self.limit) * self._step
            self._refused_at = self.limit = max(self._least, self.limit - less)

    def _judge_slow_start(self, now: float, sent: int, refused: int, *, resolved: bool) -> None:
        """End slow start at refusals beyond chance; before, learn what the share of chance is."""
        full = sent >= START and self._answers >= FEW_ANSWERS and (resolved or not refused)
        if self._random.are_exceeded(sent, refused) or (
            full and refused > (MOST_RANDOM + self._random.share) * sent
        ):
            accepted = self.in_flight / (1 - self._random.share)
            if not self._random.is_measured:
                self._measure_again(now, FIRST_SECONDS)
            limit = min(self.limit, max(accepted, 4.0))
            self._hold(now, limit, self._words(sent, refused), FALLEN)
        elif full and sent >= self.limit:
            self._random.learn_first(sent, refused)
            self._count()
        elif self.limit >= NOTEWORTHY * self._logged:
            self._note(self._logged, "answers, and few refusals")

    def _judge_steady(self, now: float, sent: int, refused: int) -> None:
        """Begin a comparison where the limit has fallen, or the last one is long ago."""
        if not 1 / NOTEWORTHY < self.limit / self._logged < NOTEWORTHY:
            self._note(self._logged, self._words(sent, refused))
        fallen = self.limit < FALLEN * self._peak
        repeat = self._random.share and sent >= LEAST_SENT and now >= self._next_measurement
        if fallen and refused > MOST_RANDOM * (sent + 1):
            self._hold(now, self.limit, self._words(sent, refused))
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
        fewer = refused < FEWER * expected
        longest = LONGEST_COMPARISON * max(1.0, self._latency)
        done = sent >= WINDOW or (sent >= LEAST_SENT and now - before.since > longest)
        if refused <= FEWER * expected - DEVIATIONS * math.sqrt(expected) or (
            done and (refused <= 2 or fewer)
        ):
            self._random.learn_less(sent, refused)
            self._measure_again(now, REPEAT_SECONDS)
            self._hold(now, before.limit, why)
        elif not done and (sent < LEAST_SENT or expected < LEAST_EXPECTED or fewer):
            return
        elif refused > min(MOST_RANDOM * sent, 1.5 * expected + 5):
            self._hold(now, self.limit, why)  # the load has not fallen yet
        else:
            self._random.learn(sent + before.sent, refused + before.refused)
            self._measure_again(now, REPEAT_SECONDS)
            self._hold(now, self._peak, why, FALLEN)
            self._slow_start = True

    def _measure_again(self, now: float, pause: float) -> None:
        self._next_measurement = now + pause * max(1.0, self._latency)

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
        self._next_send, self._ramp_end = now, now + RAMP_SECONDS
        self._outdated = self._number
