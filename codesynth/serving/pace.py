"""How many requests a second an endpoint takes, learned from its refusals and its headers."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from codesynth.serving.growth import Growth

SLACK = 0.02
"""Seconds by which a late send lets the next ones go earlier: timers are never exact."""
SLOWEST = 1.0 / 30.0
"""Requests a second that are tried at least."""
LONGEST_WINDOW = 70.0
"""Seconds: a hint about a longer time (a day's quota) says nothing about speed."""

_NAMES = tuple(
    tuple(f"{prefix}ratelimit-{kind}{end}" for end in ends for prefix in ("x-", ""))
    for ends in (("-requests", ""), ("-tokens",))
    for kind in ("remaining", "reset")
)
"""The headers of requests, requests_reset, tokens and tokens_reset; the first found counts."""

_REMAINING_NAMES = frozenset(_NAMES[0] + _NAMES[2])
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the endpoint says is left, from its rate limit headers.

    Attributes:
        requests: that may still be sent before ``requests_reset``.
        requests_reset: seconds until that is full again.
        tokens: the same for tokens.
        tokens_reset: the same for tokens.
    """

    requests: float | None = None
    requests_reset: float | None = None
    tokens: float | None = None
    tokens_reset: float | None = None


def read_limits(headers: Mapping[str, str]) -> Limits | None:
    """Read the rate limit headers of OpenAI's form, or of the IETF draft's; None without any.

    >>> read_limits({"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1m2s"})
    Limits(requests=59.0, requests_reset=62.0, tokens=None, tokens_reset=None)
    """
    if headers.keys().isdisjoint(_REMAINING_NAMES):  # most endpoints send none
        return None

    def number(names: tuple[str, ...]) -> float | None:
        return next((_seconds(headers[name]) for name in names if name in headers), None)

    requests, requests_reset, tokens, tokens_reset = map(number, _NAMES)
    if requests is None and tokens is None:
        return None
    return Limits(requests, requests_reset, tokens, tokens_reset)


def _seconds(text: str) -> float | None:
    """Read ``59``, ``1.5``, ``20ms``, ``1m2.5s``; None for all else (dates, nonsense)."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        found = _DURATION.fullmatch(text)
        if not text or found is None:
            return None
        try:
            hours, minutes, seconds, thousandths = (float(part or 0) for part in found.groups())
        except ValueError:  # two points in one number
            return None
        return hours * 3600 + minutes * 60 + seconds + thousandths / 1000
    return value if math.isfinite(value) and value >= 0 else None


class Pace:
    """Spaces the sends, once an endpoint has shown that it counts requests per time.

    What was accepted between two times of being full tells the rate, whatever way the endpoint
    counts: a bucket that refills, or windows that start anew. The pace starts just below that
    rate and grows away from it, the more boldly the less was seen.

    Attributes:
        bound: the pace, not the limit of concurrency, is what holds requests back.
    """

    def __init__(self) -> None:
        self.bound = False
        self._growth: Growth | None = None
        self._next = -math.inf
        self._hint = math.inf  # requests a second
        self._hint_ends = -math.inf
        self._tokens_each = 0.0
        self._since = math.inf  # the endpoint was full, or the run began
        self._accepted = 0  # from then on, as far as is known
        self._before = (0.0, 0)  # the same one time earlier
        self._dark = False  # it has been full for seconds: it counts in windows

    def wait(self, now: float) -> float:
        """Tell the seconds until the next may be sent."""
        return self._next - now if now < self._next else 0.0

    def take(self, now: float) -> None:
        """Count a request that is sent."""
        if self._since == math.inf:
            self.forget(now)
        self._accepted += 1
        if self._growth is not None or now < self._hint_ends:
            self._next = max(self._next, now - SLACK) + 1.0 / self._rate(now)

    def _rate(self, now: float) -> float:
        rate = math.inf if self._growth is None else self._growth.at(now)
        return min(rate, self._hint) if now < self._hint_ends else rate

    @property
    def learned(self) -> bool:
        """Tell whether there is a pace."""
        return self._growth is not None

    def trying(self, now: float) -> bool:
        """Tell whether the pace has left the rate that was learned."""
        growth = self._growth
        return growth is None or growth.at(now) > 1.01 * growth.start

    def pause(self, now: float, seconds: float) -> None:
        """Send nothing for some time."""
        self._next = max(self._next, now + seconds)

    def refused(self) -> None:
        """Count a request that was sent as not accepted."""
        self._accepted -= 1

    def forget(self, now: float) -> None:
        """Begin to count anew: what was refused lately had other reasons."""
        self._since, self._accepted, self._before = now, 0, (now, 0)

    def learn(self, now: float, refusals: int, resumes: float) -> None:
        """Set the pace by what was accepted since the endpoint was full before.

        Args:
            now: when a request was refused.
            refusals: times in a row that nothing at all was accepted in between.
            resumes: when the endpoint will accept again, if that is known; else now.
        """
        count, seconds = self._accepted, max(0.001, now - self._since)
        begun, before = self._before
        rate = math.inf if self._growth is None else self._growth.at(now)
        unsure = 0.0
        if refusals == 1 and not self._dark and count >= 3:
            estimate = count / seconds
            if rate < math.inf:
                unsure = (rate / estimate - 1.0) / 4.0
            self._before, self._since, self._accepted = (self._since, count), now, 0
            quickest = 4.0
        else:
            count += before
            if count < (4 if refusals <= 3 else 16):
                return
            estimate = count / max(0.001, resumes - begun)
            quickest = 15.0
            if refusals <= 2:  # the slow start counts too, so it may be far too low
                unsure, quickest = 1.0, 2.0
            self._dark = refusals >= 4 or (self._dark and refusals > 1)
            if refusals == 1 and now - begun > 2 * LONGEST_WINDOW:
                self._before, self._since, self._accepted = (self._since, self._accepted), now, 0
        share = min(0.25, max(0.01, 1.0 / count, unsure))
        start = max(SLOWEST, min(0.98 * estimate, rate))
        doubling = max(quickest, (64.0 if count > 8 else 8.0) / start)
        self._growth = Growth(start, resumes, share, doubling)
        self.bound = False

    def hint(self, now: float, limits: Limits, tokens: int | None, in_flight: int) -> None:
        """Spread what the endpoint says is left over the time it says.

        For a window this is its rate. A bucket's reset is the time until it is full, so the
        pace finds its balance where the bucket is half full and refills as fast as it is used.
        What is in flight may not have been counted yet.
        """
        if tokens:
            self._tokens_each += (tokens - self._tokens_each) * (0.1 if self._tokens_each else 1.0)
        rate, ends = math.inf, now
        for left, reset, each in (
            (limits.requests, limits.requests_reset, 1.0),
            (limits.tokens, limits.tokens_reset, self._tokens_each),
        ):
            if left is None or reset is None or not 0.0 < reset <= LONGEST_WINDOW or not each:
                continue
            free = left / each - in_flight
            if free > 0 and free / reset < rate:
                rate, ends = free / reset, now + reset
        if rate < math.inf:
            self._hint, self._hint_ends = max(rate, 1.0), ends
