"""How many requests may be in flight at one endpoint: congestion control without a clock or I/O.

1. Slow start: each answer raises the limit, until a larger share is refused than at lower limits.
2. Additive increase: each answer adds a little, and each refusal takes one request away.
3. Comparison: after a large fall the limit is lowered further for a while. If the same share is
   refused there, these refusals are random: they do not depend on the load. That share is
   tolerated from then on, and measured again now and then.
4. Pacing: requests are not sent all at once, because some endpoints count in time.
5. Circuit breaker: while nothing is accepted, one trial at a time is sent.

Where a constant counts "seconds (or latencies)", the longer of the two times is meant. The numbers
were found with the simulations of tests/test_concurrency.py and others like them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal

START, START_SECONDS = 24, 0.25
"""First limit, and the time over which these first requests are spread: an endpoint that takes
only a few can refuse before all are sent."""
PACE = 0.4
"""Shortest time between two requests, as a part of the mean time: the latency divided by the limit.
At a limit below one it is the whole mean time."""
FRACTIONAL, GOLDEN_RATIO = 4.0, 0.618034
"""Below the first number, a limit of 2.3 lets three of ten requests be the third in flight: the
fractions of the multiples of the second number are spread evenly from 0 to 1."""
LEAST_LIMIT = 1 / 60
"""Lowest limit, in requests in a second."""

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

FALLEN, COMPARISON = 0.8, 0.7
"""The limit has fallen if it is below the first part of its peak. A comparison lowers it to the
second part of its peak."""
SAMPLES, LEAST_SENT, LONGEST_COMPARISON = 200, 20, 2.0
"""Requests after which a comparison ends; or after fewer, but at least the second number, when this
many seconds (or latencies) are over."""
FREQUENT, MOST_RANDOM, MOST_SHARE = 0.7, 0.4, 0.9
"""From the first part of the expected refusals on, refusals are as frequent as before. Above the
second share of all requests they are not taken for random. The random share never gets above the
third one."""
KEPT = 0.5
"""Part of the counts of earlier comparisons that is added to those of the last one."""
REPEAT_SECONDS = 10.0
"""Seconds (or latencies) from one comparison to the next, while some refusals are random."""
TOLERATED = 0.03
"""Part of the requests that slow start lets be refused beyond the share at lower limits."""
DEVIATIONS, FEW = 2.5, 3
"""Refusals are more than chance explains if they are this number of standard deviations and this
number of requests above the expected number."""
WINDOW = 300
"""After this many requests, the counts of requests and of refusals are halved."""

IN_A_ROW, LEAST_REFUSED_PART = 8, 0.9
"""Refusals in a row that open the circuit breaker, and the part of the requests since the first of
them that must have been refused."""
FIRST_PAUSE, PAUSE_GROWTH = 0.1, 0.2
"""Seconds between two trials at first; and the part of the time since the opening that a pause
lasts later: 8 trials in the first second."""
EARLY_PAUSE = 0.25
"""Seconds between trials before the first answer of all: an endpoint that never answers is found as
soon as one row has used up its attempts."""
PATIENCE, LEAST_PATIENCE = 3.0, 0.05
"""A trial counts as accepted when it takes this many times as long as the last refusal, and at
least this many seconds."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds; a server that asks for a longer pause gets a trial after this time."""
HEADER_GAP, MOMENT_TOLERANCE = 1.0, 1.1
"""A server counts in windows of time if Retry-After headers that came the first number of seconds
apart name the same moment. It may differ by the second number: servers round up."""
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


class Concurrency:
    """Finds how many requests an endpoint takes at a time.

    Times are seconds of any clock that never goes back.

    Args:
        maximum: highest limit.
        log: gets each change of the limit, with the reason.

    Attributes:
        limit: most requests in flight; below one, the time between two requests grows.
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
        self._number, self._next_send = 0, -math.inf  # number of the last request sent
        self._slow_start = True
        self._cooldowns: deque[float] = deque()  # moments at which slots become free
        self._answers, self._answered_at = 0, 0.0
        self._latency, self._lowest_latency, self._gap = 0.0, math.inf, 0.0  # means, in seconds
        self._refused_at = math.inf  # limit at the last refusal
        self._peak = 0.0  # highest limit since slow start or the last ``_go_steady``
        self._outdated = 0  # requests up to this number were sent at a higher limit
        # Number of the request before the counted ones; refusals; whether the limit was reached.
        self._counted_from, self._refused, self._full = 0, 0, False
        self._how: set[str] = set()  # how they were refused, in words
        self._compared_from: float | None = None  # the limit before it was lowered to compare
        self._share_before, self._compared_at = 0.0, -math.inf
        self._low_sent = self._low_refused = 0.0  # requests and refusals at lower limits
        self._random = 0.0  # share of requests that is refused at random
        # What the last comparison found. Two in a row must agree before there is a random share,
        # but the first of all is believed.
        self._was_random = True
        self._open_since: float | None = None  # when the circuit breaker opened
        self._in_a_row, self._first = 0, 0  # refusals in a row; before the number of the first one
        self._next_trial, self._trial_accepted, self._patience = 0.0, math.inf, 0.0
        self._in_window, self._window_end, self._header_at = False, -math.inf, -math.inf

    def wait(self, now: float) -> float:
        """Tell the seconds until a request may be sent; inf: when one ends."""
        if self._open_since is not None:
            if self._trial_accepted == math.inf:  # no trial is in flight
                return max(0.0, self._next_trial - now)
            if now < self._trial_accepted:
                return self._trial_accepted - now
            self._close(self.in_flight)
        cooldowns = self._cooldowns
        while cooldowns and cooldowns[0] <= now:
            cooldowns.popleft()
        limit = self.limit
        if limit < FRACTIONAL:
            limit += self._number * GOLDEN_RATIO % 1.0
        if self.in_flight + len(cooldowns) >= max(1, int(limit)):
            self._full = True  # so answers may raise the limit
            return cooldowns[0] - now if cooldowns else math.inf
        return max(0.0, self._next_send - now)

    def sent(self, now: float) -> int:
        """Note that a request is sent; return its number."""
        if self._open_since is not None:
            pause = max(FIRST_PAUSE, PAUSE_GROWTH * (now - self._open_since))
            self._next_trial = now + (pause if self._answers else EARLY_PAUSE)
            self._trial_accepted = now + max(LEAST_PATIENCE, self._patience)
        interval = START_SECONDS / START
        if self._answers:
            interval = self._latency / self.limit * (PACE if self.limit >= 1 else 1.0)
        self._next_send = max(now, self._next_send + interval)
        self.in_flight += 1
        self._number += 1
        self._full = self._full or self.in_flight >= int(self.limit)
        return self._number

    def result(
        self, now: float, number: int, latency: float, kind: Kind, retry_after: float | None
    ) -> None:
        """Take the result of a request."""
        self.in_flight -= 1
        if kind in _REFUSALS:
            self._how.add(_REFUSALS[kind])
            self._refused_one(now, number, latency, retry_after)
        elif kind in ("answered", "denied"):  # a refusal of the key says that there is room
            self._answered(now, number, latency)
        else:
            return
        sent = max(self._number - self._counted_from, self._refused, 1)
        if self._open_since is not None:
            pass
        elif self._compared_from is not None:
            self._judge_comparison(now, sent, self._compared_from)
        elif self._slow_start:
            self._judge_slow_start(sent)
        else:
            self._judge_steady(now, sent)

    def _answered(self, now: float, number: int, latency: float) -> None:
        self._measure(now, latency)
        if number > self._first:
            self._in_a_row = 0
            if self._open_since is not None:
                self._close(self.in_flight + 1)
        if self._open_since is not None or self._compared_from is not None or not self._full:
            return
        if self._slow_start:
            more = max(1.0, SLOW_START_PER_SECOND * self._latency)
            self._grow(min(more, SLOW_START_PART * self.limit))
        elif number > self._outdated:
            distance = max(FULL_GROWTH_STEPS * self._step, FULL_GROWTH_PART * self._refused_at)
            above = max(0.0, self.limit - self._refused_at) / distance
            share = self._random  # answers must also make up for these refusals
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
        return min(1.0, CUT * self.limit) * (RANDOM_STEP if self._random else 1.0)

    def _refused_one(self, now: float, number: int, latency: float, after: float | None) -> None:
        self._patience = PATIENCE * latency
        if self._open_since is not None:
            if number > self._first:
                self._trial_accepted = math.inf
                self._follow_retry_after(now, after)
            return
        self._cooldowns.append(now + (self._latency or COOLDOWN_SECONDS) / min(1.0, self.limit))
        if number <= self._outdated:
            return
        if (self._in_window and after) or self._is_outage(number, after):
            self._open(now, after)
            return
        self._refused += 1
        if not self._slow_start and self._compared_from is None:
            self._refused_at = self.limit = self._clip(self.limit - self._step)

    def _judge_slow_start(self, sent: int) -> None:
        """End slow start if a larger share is refused than at lower limits."""
        usual = max(self._random, (self._low_refused + 1) / (self._low_sent + 4)) + TOLERATED
        is_enough = sent >= START and self._answers >= FEW_ANSWERS
        too_many = is_enough and self._refused > (MOST_RANDOM + self._random) * sent
        if too_many or _is_beyond(min(usual, 1.0), sent, self._refused):
            accepted = max(1.0, self.in_flight / (1 - self._random))
            self._go_steady(min(self.limit, accepted), self._describe(sent))
        elif is_enough and sent >= self.limit:
            if self._compared_at == -math.inf:  # a comparison knows more
                is_first = not self._low_sent
                self._learn(self._low_sent + sent, self._low_refused + self._refused)
                if is_first:  # there is no lower limit to compare with
                    self._random = 0.0
            self._restart_counts()
        elif self.limit >= NOTEWORTHY * self._logged:
            self._log_change(self._logged, "nearly all are answered")

    def _judge_steady(self, now: float, sent: int) -> None:
        """Begin a comparison if the limit has fallen, or if the random share may have changed."""
        if not 1 / NOTEWORTHY < self.limit / self._logged < NOTEWORTHY:
            self._log_change(self._logged, self._describe(sent))
        has_fallen = self.limit < FALLEN * self._peak
        if has_fallen and self._refused > MOST_RANDOM * (sent + 1):  # load: nothing to compare
            self._go_steady(self.limit, self._describe(sent))
        elif has_fallen or (
            self._random
            and sent >= LEAST_SENT
            and now > self._compared_at + REPEAT_SECONDS * max(1.0, self._latency)
        ):
            self._compared_from, self._compared_at = self.limit, now
            self._share_before = self._refused / sent
            self._set(COMPARISON * self._peak, self._describe(sent) + "; lowered to compare")
        elif sent > WINDOW:
            self._counted_from += sent // 2
            self._refused //= 2

    def _judge_comparison(self, now: float, sent: int, limit: float) -> None:
        """Tell random refusals from those due to load, once there are enough requests."""
        refused, expected = self._refused, sent * self._share_before
        why = self._describe(sent) + " at the lower limit"
        is_late = now - self._compared_at > LONGEST_COMPARISON * max(1.0, self._latency)
        if _is_beyond(MOST_RANDOM, sent, refused):
            self._go_steady(self.limit, why)  # the limit is still too high
        elif sent >= SAMPLES or (is_late and sent >= LEAST_SENT):
            self._compared_at, before = now, self._random
            is_random = FREQUENT * expected < refused < MOST_RANDOM * sent
            if is_random and (before or self._was_random):
                keep = KEPT if before else 0.0
                self._learn(sent + keep * self._low_sent, refused + keep * self._low_refused)
                limit = max(limit, self._peak)  # it fell by chance
            elif _is_beyond(refused / sent, sent, int(before * sent)):
                self._learn(sent, refused)
            self._was_random = is_random
            self._go_steady(limit, why)
            self._slow_start = self._random > before  # it had ended by chance

    def _learn(self, sent: float, refused: float) -> None:
        """Take the share of random refusals from those at a low limit."""
        self._low_sent, self._low_refused = sent, refused
        share = refused / sent
        share += math.sqrt(share * (1 - share) / sent)  # too low a share lets the limit fall
        self._random = min(MOST_SHARE, share) if refused >= FEW else 0.0

    def _restart_counts(self) -> None:
        self._counted_from, self._refused, self._full = self._number, 0, False
        self._how.clear()

    def _clip(self, limit: float) -> float:
        return max(min(1.0, self._latency * LEAST_LIMIT), min(limit, self._maximum), 1e-3)

    def _go_steady(self, limit: float, why: str, refused_part: float = 1.0) -> None:
        """Go on with additive increase, as after a refusal at ``refused_part`` of the limit."""
        self._slow_start, self._compared_from = False, None
        self._refused_at = refused_part * limit
        self._set(limit, why)
        self._peak = self.limit

    def _set(self, limit: float, why: str) -> None:
        limit, before = self._clip(limit), self.limit
        if limit < before:
            self._outdated, self._in_a_row = self._number, 0
        self.limit = limit
        if int(limit) != int(before):
            self._log_change(before, why)
        self._restart_counts()

    def _log_change(self, before: float, why: str) -> None:
        self._log(f"limit {before:.3g} -> {self.limit:.3g}: {why}")
        self._logged = self.limit

    def _describe(self, sent: int) -> str:
        how = " or ".join(sorted(self._how)) or "refused"
        return f"{self._refused} of the last {sent} requests {how}"

    # The circuit breaker.

    def _is_outage(self, number: int, retry_after: float | None) -> bool:
        """Tell whether nothing is accepted any more."""
        if not self._in_a_row:
            self._first = number
        self._in_a_row += 1
        # If some refusals are random, some of the requests in flight will be answered.
        if self._in_a_row < IN_A_ROW or (self._random and self.in_flight and not retry_after):
            return False
        if self._in_a_row >= LEAST_REFUSED_PART * (number - self._first + 1):
            return True
        self._in_a_row = 0
        return False

    def _open(self, now: float, retry_after: float | None) -> None:
        self._log(f"all requests {' or '.join(sorted(self._how))}: one trial at a time")
        self._open_since, self._in_a_row, self._first = now, 0, self._number
        self._next_trial, self._trial_accepted = now + FIRST_PAUSE, math.inf
        self._follow_retry_after(now, retry_after)

    def _follow_retry_after(self, now: float, retry_after: float | None) -> None:
        """Wait as the server asks, if it named the same moment before."""
        if retry_after is None:
            return
        moment = now + retry_after
        if now > self._window_end - MOMENT_TOLERANCE:  # another window has begun
            self._header_at, self._window_end = now, moment
        elif now - self._header_at >= HEADER_GAP:
            self._in_window = abs(moment - self._window_end) < MOMENT_TOLERANCE
            self._header_at, self._window_end = now, moment
        if self._in_window:
            pause = min(LONGEST_RETRY_AFTER, retry_after + FIRST_PAUSE)
            self._next_trial = max(self._next_trial, now + pause)

    def _close(self, in_flight: int) -> None:
        """Close the breaker, with the old limit or with what the endpoint was seen to take.

        The old limit may be too high if requests besides the trial were accepted, or in slow start.
        It is right where a server counts in windows of time.
        """
        self._open_since = None
        self._cooldowns.clear()
        limit = max(self.limit, self._peak)
        are_many = in_flight > max(1.0, FEW_IN_FLIGHT * limit)
        if (are_many or self._slow_start) and not self._in_window:
            accepted = in_flight / (1 - self._random)
            self._go_steady(min(limit, accepted), "requests are accepted again", FALLEN)
        else:
            self._go_steady(limit, "requests are accepted again")
        self._outdated = self._number


def _is_beyond(share: float, sent: int, refused: int) -> bool:
    """Tell whether more are refused than chance explains if it refuses ``share`` of them."""
    chance = DEVIATIONS * math.sqrt(share * (1 - share) * sent)
    return refused > share * sent + FEW + chance
