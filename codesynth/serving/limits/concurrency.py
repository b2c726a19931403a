import math
from collections import deque

INF = math.inf
START, RAMP, FACTOR = 24, 0.25, 4
HOLD = 0.5
GROWTH, KNEE = 0.02, 20
STREAK = 8
STEP, BIAS = 0.5, 0.01
DEPTH = 8.0
SPEED = 1000
REMEASURE = 30.0
FALL, TEST = 0.75, 0.6


class Concurrency:
    def __init__(self, maximum=1024, log=None, timeout=600.0):
        self.maximum = maximum
        self.deepest = timeout / 2
        self.limit = float(START)
        self.in_flight = 0
        self._number = 0
        self._held = deque()
        self._latency = 0.0
        self._answers = 0
        self._usual = 0.0
        self._usual_at = 0.0
        self._pool = (0.0, 0.0)
        self._knee = INF
        self._peak = self._known = 0.0
        self._rest_until, self._rest = INF, 2.0
        self._streak = None  # (number, refusals since)
        self._explored_at = 0
        self._opened = None
        self._resume = 0.0
        self._next = -INF
        self._since_close = self._closed = 0
        self._trusted = False
        self._told = (-INF, -INF)
        self.log = log
        self._state = "explore"
        self._factor = FACTOR
        self._lower = None
        self._back = 1.0
        self._from, self._ramp_at, self._ramp = 0.0, 0.0, RAMP
        self._ignore = self._sink = 0
        self._fresh = True
        self._count(0.0)

    def _set(self, now, limit, why, skip=0):
        limit = max(self._least(), min(limit, self.maximum))
        if self.log is not None and int(limit) != int(self.limit):
            self.log(f"{now:7.2f} {self._state:6s} {self.limit:.1f} -> {limit:.1f}: {why}")
        self._from, self._ramp_at = min(self.limit, limit), now
        self._ramp = max(RAMP, (limit - self._from) / SPEED)
        if limit < self.limit:
            self._ignore = self._number
            self._streak = None
        self.limit = limit
        self._count(now, skip)

    def _least(self):
        return min(1.0, max(1e-3, self._latency / 60.0))

    def _count(self, now, skip=0):
        self._began = now
        self._first_number = self._number
        self._refused = self._answered = 0
        self._sum = 0.0
        self._full = False
        self._skip = skip

    def wait(self, now):
        if self._opened is not None:
            if self._trial_at < INF:
                w = self._trial_at + max(0.05, 3 * self._refusal_latency) - now
                if w > 0:
                    return w
                self._close(now)
            else:
                return self._next - now if self._next > now else 0.0
        while self._held and self._held[0] <= now:
            self._held.popleft()
        used = self.in_flight + len(self._held)
        ramp = min(1.0, (now - self._ramp_at) / self._ramp)
        if used < max(1, int(self._from + (self.limit - self._from) * ramp)):
            return 0.0
        self._full = True
        w = self._held[0] - now if self._held else INF
        if used < int(self.limit):
            t = self._ramp_at + self._ramp * (used + 1 - self._from) / (self.limit - self._from)
            w = min(w, max(t - now, 0.001))
        return w

    def sent(self, now):
        if self._opened is not None:
            self._next = now + max(0.1, 0.3 * (now - self._opened_at))
            self._trial_at = now
        self.in_flight += 1
        self._number += 1
        return self._number

    def result(self, now, number, latency, kind, retry_after=None):
        self.in_flight -= 1
        opened = self._opened
        if kind == "answered":
            self._answer(now, number, latency)
        elif kind in ("overload", "busy", "down", "timeout"):
            self._refusal_latency = latency
            self._refusal(now, number, retry_after)
        if self._opened is None and kind != "other":
            n = (number if kind != "answered" else self._number) - self._first_number
            getattr(self, "_judge_" + self._state)(now, max(n, self._refused, 1), self._refused)

    def _answer(self, now, number, latency):
        self._answers += 1
        self._since_close += number > self._closed
        self._latency += (latency - self._latency) / min(self._answers, 100)
        if self._opened is not None:
            if number > self._opened:
                self._close(now)
            return
        if number > self._ignore:
            self._fresh = True
        if self._streak is not None and number > self._streak[0]:
            self._streak = None
        if number > self._first_number or self._lower is not None or self._state != "explore":
            self._answered += 1
            self._sum += latency
        if self._skip and self._answered >= self._skip:
            self._count(now)
        if number <= self._sink:
            self.limit = self._peak = self.limit + self._usual / (1 - self._usual)
        if (
            self._state == "steady"
            and self._full
            and self._rest_until == INF
            and number > self._ignore
        ):
            unit = min(1.0, self.limit)
            g = max(
                GROWTH, min(1, (self.limit - self._knee) / max(KNEE * unit, self._knee / 2))
            ) + self._usual / (1 - self._usual)
            self.limit = min(self.maximum, self.limit + g * unit * (STEP if self._usual else 1))
            self._peak = max(self._peak, self.limit)
        if self.limit < 1:
            self._held.append(now + self._latency * (1 / self.limit - 1))

    def _refusal(self, now, number, retry_after):
        if self._opened is not None:
            if number > self._opened:
                self._trial_at = INF
                self._listen(now, retry_after)
            return
        self._held.append(now + (self._latency or HOLD) / min(1.0, self.limit))
        if number <= self._ignore:
            if number <= self._sink:
                self.limit = self._peak = max(1, self.limit - 1)
                self._knee = min(self._knee, self.limit)
            return
        if self._streak is None:
            self._streak = (number, 1)
        else:
            first, count = self._streak
            self._streak = first, count + 1
            if count + 1 >= max(STREAK + 16 * self._usual, self.limit / 16):
                if count + 1 >= 0.9 * (number - first + 1):
                    return self._open(now, retry_after)
                self._streak = None
        if self._trusted and retry_after:
            return self._open(now, retry_after)
        if number <= self._ignore:
            return
        if self._state == "steady":
            self._refused += 1
            self.limit = max(
                self._least(), self.limit - min(1, 0.3 * self.limit) * (STEP if self._usual else 1)
            )
            self._knee = self.limit
            self._rest_until = INF
        elif number > self._first_number:
            self._refused += 1

    def _rate(self, now):
        return self._answered / max(1e-6, now - self._began)

    def _learn(self, now, n, r):
        """share of refusals that has nothing to do with load"""
        before, refused = self._pool
        keep = min(1.0, 300 / max(before, 1))
        self._pool = before * keep + n, refused * keep + r
        self._usual = min(0.9, self._pool[1] / self._pool[0]) if self._pool[1] > 2 else 0.0
        self._usual = 0.0 if self._usual < 0.01 else self._usual + BIAS
        self._usual_at = now

    def _steady(self, now, limit, why, knee=1.0):
        self._state, self._rest_until = "steady", INF
        self._knee = knee * limit
        self._set(now, limit, why)
        self._peak = self.limit
        self._known = max(self._known, self.limit)

    def _explore(self, now, limit, why, factor, lower=None, skip=0):
        self._state, self._lower, self._factor = "explore", lower, factor
        self._set(now, limit, why, skip)

    def _judge_explore(self, now, n, r):
        lower, u = self._lower, (self._pool[1] + 2) / (self._pool[0] + 4) + 0.03
        if r > u * n + 3 + 2 * math.sqrt(u * (1 - u) * n):
            accepted = self.in_flight / (1 - self._usual)
            floor = 0.5 * lower[0] if lower else 4.0
            self._steady(now, min(self.limit, max(accepted, floor)), f"{r} of {n} refused", 0.75)
            self._explored_at = now
            if accepted > floor:
                self._sink = self._number
            return
        if self._skip or now < (
            self._ramp_at + min(1, self._latency)
            if self._factor == FACTOR
            else self._began + self._latency
        ):
            return
        if self._answered < (
            max(5, self.limit / 8) if self._factor == FACTOR else max(8, self.limit / 4)
        ):
            return
        if not self._full:
            return self._count(now)
        first = not self._pool[0]
        rate, base = self._rate(now), self._sum / self._answered
        if lower is not None:
            base, more, gain = lower[2], self.limit / lower[0], rate / lower[1]
            if gain < (1.5 if self._factor == FACTOR else 1.25):
                to = (
                    min(self.limit, DEPTH * rate * base, self.deepest * rate)
                    if self._factor == FACTOR
                    else lower[0]
                )
                self._steady(
                    now, to, f"{gain:.2f} times the answers for {more:.1f} times in flight"
                )
                self._rest_until = now + self._rest * max(1, self._latency)
                self._rest = min(32.0, 2 * self._rest)
                return
        self._learn(now, n, r)
        if lower is None and first:
            self._usual = 0.0
        self._rest = 2.0
        self._known = self.limit
        if self.limit >= self.maximum:
            return self._steady(now, self.limit, "maximum")
        skip = int(self.limit) if self._factor < FACTOR else 0
        lower = (self.limit, rate, base, n, r)
        limit = min(self._factor * self.limit, max(self.limit, rate * self.deepest))
        self._explore(now, limit, f"{rate:.1f}/s", self._factor, lower, skip)

    def _judge_steady(self, now, n, r):
        if self._streak is not None and self._streak[1] >= max(
            3, 0.6 * (self._number - self._streak[0])
        ):
            return
        fallen = self.limit < FALL * self._peak
        if (
            fallen
            or n >= 20
            and self._usual
            and now
            > self._usual_at + (REMEASURE if self._pool[0] >= 200 else max(1, 2 * self._latency))
        ):
            if r > 0.4 * (n + 1):
                return self._steady(now, self.limit, f"{r} of {n} refused")
            self._back = self.limit
            self._high, self._fallen = (n, r), fallen
            self._state = "half"
            self._sink = 0
            return self._set(now, (int(self._peak) or self._peak) * TEST, f"{r} of {n} refused")
        if self._rest_until < INF:
            if now >= self._rest_until and self._answered >= max(40, self.limit / 2):
                if not self._full:
                    return self._count(now)
                self._explore(
                    now,
                    2 * self.limit,
                    "rest is over",
                    2,
                    (self.limit, self._rate(now), 0, n, r),
                    int(self.limit),
                )
        elif self.limit > 1.25 * self._known:
            self._explore(now, self.limit, "hardly refused", 2)
        elif n > 300:
            self._first_number += n // 2
            self._refused //= 2

    def _judge_half(self, now, n, r):
        if r >= 12 and r > 0.5 * n:
            return self._steady(now, self.limit, f"{r} of {n} refused at half")
        high_n, high_r = self._high
        expected = high_r / high_n * n
        why = f"{r} of {n} refused at half"
        done = n >= 300 or n >= 20 and now > self._began + max(4, 4 * self._latency)
        load = (
            r <= 0.7 * expected - 1.5 * math.sqrt(expected)
            or done
            and (r <= 2 or r < 0.7 * expected)
        )
        random = not load and (
            done or self._fallen and n >= 20 and expected >= 6 and r >= 0.7 * expected
        )
        before = self._usual
        if load:
            self._usual, self._pool = 0.0, (0, 0)
            return self._steady(now, self._back, why)
        if not random:
            return
        if before == 0:
            self._pool = (0, 0)
        self._learn(now, n, r)
        if self._usual > before + 0.05 or self._fallen and now > self._explored_at + 10:
            return self._explore(now, self._peak, why, FACTOR)
        self._steady(now, self._peak, why, 0.75)

    def _listen(self, now, retry_after):
        if retry_after is None:
            return
        at, moment = self._told
        if now - at >= 1:
            self._trusted = abs(now + retry_after - moment) < 1.1
            self._told = (now, now + retry_after)
        if self._trusted:
            self._next = max(self._next, now + min(60, retry_after + 0.05))

    def _open(self, now, retry_after):
        best = max(self.limit, self._peak)
        self._resume = best if self._since_close >= best / 2 or self._trusted else best / 2
        self._since_close = 0
        self._trial_at = INF
        self._opened, self._opened_at = self._number, now
        self._streak = None
        self._next = now + 0.1
        if retry_after:
            self._told = (now, now + retry_after)
        self._listen(now, retry_after)
        if self.log:
            self.log(
                f"{now:7.2f} open at {self.limit:.1f} {self._refused} of {self._number - self._first_number}, {self._state}, {self._next - now:.2f}"
            )

    def _close(self, now):
        if self.log:
            self.log(f"{now:7.2f} close, {self.in_flight} in flight")
        self._opened = None
        self._held.clear()
        self._closed = self._number
        self.limit = 1.0
        self._steady(now, self._resume, "accepted again")
        self._ignore = self._number
