"""The one object that gives permission to send, and takes the result of each attempt."""

from __future__ import annotations

import asyncio
import logging
import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from codesynth.errors import LimitReached
from codesynth.models import Usage
from codesynth.serving.limits.budget import Budget
from codesynth.serving.limits.concurrency import Concurrency
from codesynth.serving.limits.outage import OutageGuard
from codesynth.serving.limits.rates import Cap, TokenCap

_log = logging.getLogger(__name__)
MAXIMUM = 1024
"""Most requests in flight where the user names no number."""
DENIALS_IN_A_ROW = 10
"""Refusals of the key or the model in a row, after answers, that stop the run."""
REST_SECONDS = 30.0
"""A replica that is down is tried once in so long, while others answer."""
_BYTES_PER_TOKEN = 4

Kind = Literal[
    "answered", "overload", "busy", "down", "unreachable", "timeout", "denied", "hopeless", "other"
]


class Drained(Exception):  # noqa: N818 - no error: the request just was not sent
    """``drain`` was called: nothing more is sent."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What an attempt brought.

    Attributes:
        kind: ``answered``; ``overload`` (429); ``busy`` (503, 529, no more files); ``down``
            (other 5xx, a broken connection); ``unreachable`` (no connection was made);
            ``timeout``; ``denied`` (the key, the model or the path is refused); ``hopeless``
            (unknown host, untrusted certificate); ``other`` says nothing about the endpoint.
        message: for people, without secrets.
        retry_after: seconds that the server asks to wait.
        usage: tokens; without numbers they are estimated from bytes.
        billed: it may have cost something.
    """

    kind: Kind
    message: str = ""
    retry_after: float | None = None
    usage: Usage | None = None
    answer_bytes: int = 0
    billed: bool = True
    rates: RateHeaders | None = None


class RateHeaders(NamedTuple):
    """What ``x-ratelimit-*`` headers tell: requests left, and seconds until there are more."""

    remaining: int
    reset: float


class Permit(NamedTuple):
    """Permission to send one request."""

    replica: int
    number: int
    sent: float
    tokens: int
    reserved: float
    body: bytes


class Advice(NamedTuple):
    """What follows from an attempt.

    Attributes:
        stop: no other request can succeed.
        elsewhere: ask another replica at once; this one was left out of the run.
        is_outage: nobody was there; the attempt does not use up a retry.
    """

    stop: bool = False
    elsewhere: bool = False
    is_outage: bool = False


class Status(NamedTuple):
    """For the bar."""

    in_flight: int
    limit: int
    last_error: str | None


@dataclass(slots=True)
class _Replica:
    name: str
    concurrency: Concurrency | None
    in_flight: int = 0
    answered: bool = False
    left_out: bool = False
    rests_until: float = -math.inf


class Admission:
    """Holds requests back: by concurrency, rates, budget, and while nobody answers.

    It lives on one event loop and does no I/O.

    Args:
        names: of the replicas, for people.
        concurrency: most requests in flight; None finds out what each replica takes.
        rpm: most requests in any minute.
        tpm: most tokens in any minute.
        max_retries: of a request.
        max_outage: seconds without an answer after which the run stops.
        clock: seconds, never going back.
        on_room: called when ``workers`` has grown.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        max_retries: int = 5,
        max_outage: float = 300.0,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._replicas = [
            _Replica(name, None if concurrency else Concurrency(MAXIMUM, _logger(name)))
            for name in names
        ]
        self._most = concurrency or MAXIMUM
        self._requests = Cap(rpm) if rpm is not None else None
        self._tokens = TokenCap(tpm) if tpm is not None else None
        self._max_retries, self._budget, self._clock = max_retries, budget, clock
        self._guard = OutageGuard(max_outage)
        self.on_room = on_room
        self._in_flight = self._failures = self._denials = 0
        self._answered = self._drained = False
        self._last_error: str | None = None
        self._waiting: deque[tuple[asyncio.Future[Permit], bytes, int | None]] = deque()
        self._pauses: set[asyncio.Future[None]] = set()
        self._outages: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._workers = 0
        self._resize()

    @property
    def workers(self) -> int:
        """Requests that can be made use of at a time: in flight soon, or pausing."""
        return self._workers

    @property
    def bound(self) -> int:
        """Unfinished requests worth holding: some wait for the caller, some for a permit."""
        return self._workers + self._limit + 64

    @property
    def status(self) -> Status:
        """What the bar shows; readable from any thread."""
        return Status(self._in_flight, self._limit, self._last_error)

    @property
    def _limit(self) -> int:
        limits = [r.concurrency.limit for r in self._replicas if r.concurrency is not None]
        return min(self._most, max(1, int(sum(limits)))) if limits else self._most

    def _resize(self) -> None:
        limit = self._limit
        workers = limit + min(len(self._pauses), 2 * limit + 64)
        grown, self._workers = workers > self._workers, workers
        if grown:
            self.on_room()

    async def admit(self, body: bytes, avoid: int | None = None) -> Permit:
        """Wait until a request may be sent.

        Args:
            avoid: number of the replica that failed this request last.

        Raises:
            Drained: ``drain`` was called.
            LimitReached: it could cost more than is left.
        """
        if self._drained:
            raise Drained
        if not self._waiting and (permit := self._take(body, avoid)[0]) is not None:
            return permit
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        # A retry goes before fresh rows, so that each row uses up its attempts or is answered.
        if avoid is None:
            self._waiting.append((future, body, avoid))
        else:
            self._waiting.appendleft((future, body, avoid))
        self._admit_waiting()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.settle(future.result(), None)
            raise

    def _take(self, body: bytes, avoid: int | None) -> tuple[Permit | None, float]:
        """Take a permit; or return the seconds after which to look again (inf: when one ends)."""
        now, tokens = self._clock(), len(body) // _BYTES_PER_TOKEN
        if self._in_flight >= self._most:
            return None, math.inf
        wait = self._requests.wait(now, 1.0) if self._requests is not None else 0.0
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now, tokens))
        if wait > 0:
            return None, wait
        replica, wait = self._choose(now, avoid)
        if replica is None:
            return None, wait
        reserved = self._reserve(body)
        if reserved is None:
            return None, math.inf
        if self._requests is not None:
            self._requests.take(now, 1.0)
        if self._tokens is not None:
            self._tokens.take(now, tokens)
        self._in_flight += 1
        replica.in_flight += 1
        number = replica.concurrency.sent(now) if replica.concurrency is not None else 0
        return Permit(self._replicas.index(replica), number, now, tokens, reserved, body), 0.0

    def _reserve(self, body: bytes) -> float | None:
        """Set money aside; None where others may give some back."""
        if self._budget is None:
            return 0.0
        reserved = self._budget.reserve(body)
        if reserved is None and self._budget.is_idle:
            raise LimitReached(
                f"--max-cost {self._budget.limit:g}: {self._budget.spent:.4g} are spent, and the "
                "next request could cost more than what is left"
            )
        return reserved

    def _choose(self, now: float, avoid: int | None) -> tuple[_Replica | None, float]:
        """Choose the replica with the most room; a failed row never probes one that was down."""
        open_ = [r for r in self._replicas if not r.left_out]
        rested = [r for r in open_ if r.rests_until <= now]
        fit = [r for r in rested if r.rests_until == -math.inf or avoid is None]
        fit = fit or rested or open_
        waits = [r.concurrency.wait(now) if r.concurrency is not None else 0.0 for r in fit]
        free = [r for r, wait in zip(fit, waits, strict=True) if wait <= 0]
        if not free:
            return None, min(waits, default=math.inf)
        others = [r for r in free if avoid is None or r is not self._replicas[avoid]] or free
        best = min(others, key=_load)
        if best.rests_until > -math.inf:
            best.rests_until = now + REST_SECONDS  # one trial at a time
        return best, 0.0

    def _admit_waiting(self) -> None:
        while self._waiting:
            future, body, avoid = self._waiting[0]
            if future.done():  # cancelled meanwhile
                self._waiting.popleft()
                continue
            try:
                permit, wait = self._take(body, avoid)
            except LimitReached as exc:
                self._waiting.popleft()
                future.set_exception(exc)
                continue
            if permit is None:
                self._look_again(wait)
                return
            self._waiting.popleft()
            future.set_result(permit)

    def _look_again(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait < math.inf:
            self._timer = asyncio.get_running_loop().call_later(wait, self._admit_waiting)

    def settle(self, permit: Permit, result: AttemptResult | None) -> Advice:
        """Take the result of an attempt; None where it was cancelled."""
        now, replica = self._clock(), self._replicas[permit.replica]
        self._in_flight -= 1
        replica.in_flight -= 1
        usage = _usage_of(permit, result)
        if self._budget is not None:
            billed = result is None or result.billed
            self._budget.settle(permit.reserved, permit.body, usage, billed=billed)
        if self._tokens is not None:
            used = usage.prompt_tokens + usage.completion_tokens if usage is not None else None
            unused = result is not None and not result.billed
            self._tokens.settle(permit.sent, 0 if unused else used)
        kind = "other" if result is None else result.kind
        if replica.concurrency is not None:
            seen = "down" if kind == "unreachable" else "answered" if kind == "denied" else kind
            after = result.retry_after if result is not None else None
            latency = now - permit.sent
            replica.concurrency.result(now, permit.number, latency, seen, after)
        advice = Advice() if result is None else self._judge(now, replica, result)
        self._resize()
        if self._waiting:
            self._admit_waiting()
        return advice

    def _judge(self, now: float, replica: _Replica, result: AttemptResult) -> Advice:
        if result.kind == "answered":
            self._note_answer(now, replica)
            return Advice()
        if result.kind != "other":
            self._last_error = result.message or result.kind
        others = any(not r.left_out for r in self._replicas if r is not replica)
        if result.kind in ("denied", "hopeless"):
            return self._judge_denial(replica, result, others=others)
        self._denials = 0
        if result.kind == "other":
            return Advice()
        self._guard.record(now, ok=False)
        self._failures += 1
        if result.kind in ("down", "unreachable") and others and replica.rests_until <= now:
            if replica.rests_until == -math.inf:
                _log.warning("%s is down and left out for now: %s", replica.name, result.message)
            replica.rests_until = now + REST_SECONDS
            return Advice()
        if self._answered:
            outage = result.kind == "unreachable"
            return Advice(stop=self._guard.expired(now), is_outage=outage)
        return Advice(stop=self._guard.expired(now))

    def _note_answer(self, now: float, replica: _Replica) -> None:
        if replica.rests_until > -math.inf:
            _log.warning("%s answers again", replica.name)
        replica.rests_until = -math.inf
        replica.answered = self._answered = True
        self._denials, self._last_error = 0, None
        self._guard.record(now, ok=True)
        for pause in self._outages:
            _finish(pause)

    def _judge_denial(self, replica: _Replica, result: AttemptResult, *, others: bool) -> Advice:
        self._denials += 1
        hopeless = result.kind == "hopeless" and not replica.answered
        if not hopeless and replica.answered and self._denials < DENIALS_IN_A_ROW:
            return Advice()
        if not others:
            return Advice(stop=True)
        if not replica.left_out:
            replica.left_out = True
            _log.warning("%s is left out: %s", replica.name, result.message)
        return Advice(elsewhere=True)

    async def pause(self, seconds: float, *, outage: bool = False) -> None:
        """Sleep before another attempt; a pause of an outage ends with the next answer.

        Raises:
            Drained: ``drain`` was called.
        """
        if self._drained:
            raise Drained
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _finish, over)
        self._pauses.add(over)
        if outage:
            self._outages.add(over)
        self._resize()
        try:
            await over
        finally:
            timer.cancel()
            self._pauses.discard(over)
            self._outages.discard(over)

    def drain(self) -> None:
        """Send nothing more: all who wait, now and later, get ``Drained``."""
        self._drained = True
        for permit, _, _ in self._waiting:
            if not permit.done():
                permit.set_exception(Drained())
        for pause in self._pauses:
            if not pause.done():
                pause.set_exception(Drained())
        self._waiting.clear()


def _logger(name: str) -> Callable[[str], None]:
    return lambda words: _log.info("%s: %s", name, words)


def _load(replica: _Replica) -> float:
    limit = replica.concurrency.limit if replica.concurrency is not None else 1.0
    return replica.in_flight / max(limit, 1.0)


def _usage_of(permit: Permit, result: AttemptResult | None) -> Usage | None:
    """Tell the tokens of an attempt; by bytes where an answer came without numbers."""
    if result is None:
        return None
    usage = result.usage
    if usage is not None and usage.prompt_tokens + usage.completion_tokens > 0:
        return usage
    if result.kind != "answered":
        return None
    return Usage(len(permit.body) // _BYTES_PER_TOKEN, result.answer_bytes // _BYTES_PER_TOKEN)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def read_rate_headers(headers: Mapping[str, str]) -> RateHeaders | None:
    """Read ``x-ratelimit-remaining-requests`` and ``-reset-requests``, if both are there."""
    remaining = headers.get("x-ratelimit-remaining-requests")
    reset = headers.get("x-ratelimit-reset-requests")
    if not remaining or not reset or not remaining.isdecimal():
        return None
    parts = _DURATION.findall(reset)
    if parts:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    elif re.fullmatch(r"\d+(\.\d+)?", reset):
        seconds = float(reset)
    else:
        return None
    return RateHeaders(int(remaining), seconds)
