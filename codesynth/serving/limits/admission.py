"""The one object that gives permission to send, and takes the result of each attempt."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codesynth.errors import LimitReached
from codesynth.models import Usage
from codesynth.serving.limits.budget import Budget
from codesynth.serving.limits.concurrency import Kind
from codesynth.serving.limits.rates import RateLimit, TokenRateLimit
from codesynth.serving.limits.replicas import Replica, choose

MAXIMUM = 1024
"""Most requests in flight if the user names no number."""
_BYTES_PER_TOKEN = 4
"""An estimate, used if the endpoint does not tell the usage."""
_LONGEST_GAP = 120.0
"""Seconds between two failures that count as an outage, at most: in a longer gap the input may have
been idle, or the answers slow."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What an attempt brought.

    Attributes:
        kind: ``answered``; ``overload`` (429); ``busy`` (503, 529, too many open files); ``down``
            (other 5xx, a broken connection); ``unreachable`` (no connection was made);
            ``timeout``; ``denied`` (the key, the model or the path is refused); ``hopeless``
            (unknown host, untrusted certificate; after an answer it counts as
            ``unreachable``); ``other`` says nothing about the endpoint.
        message: for people, without secrets.
        retry_after: seconds that the server asks to wait.
        usage: tokens; without numbers they are estimated from bytes.
        billed: it may have cost something.
        quota: the quota is exhausted, so no row can be answered.
    """

    kind: Kind
    message: str = ""
    retry_after: float | None = None
    usage: Usage | None = None
    answer_bytes: int = 0
    billed: bool = True
    quota: bool = False


class Permit(NamedTuple):
    """Permission to send one request."""

    replica: int
    number: int
    sent: float
    tokens: float
    reserved: float
    body: bytes


class Advice(NamedTuple):
    """What follows from an attempt.

    Attributes:
        stop: no other request can succeed.
        elsewhere: ask another replica at once; this one was left out of the run.
        is_outage: the endpoint could not be reached; the attempt does not use up a retry.
    """

    stop: bool = False
    elsewhere: bool = False
    is_outage: bool = False


class Status(NamedTuple):
    """What the bar shows."""

    in_flight: int
    limit: int
    last_error: str | None


class Admission:
    """Holds requests back: by concurrency, rates, budget, and during an outage.

    It belongs to one event loop and does no I/O.

    Args:
        names: names of the replicas, for messages.
        concurrency: most requests in flight; None finds out what each replica takes.
        rpm: most requests in any minute.
        tpm: most tokens in any minute.
        max_outage: seconds without an answer after which the run stops.
        clock: seconds, never going back.

    Attributes:
        on_room: called when ``workers`` has grown.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        concurrency: int | None = None,
        rpm: float | None = None,
        tpm: float | None = None,
        max_outage: float = 300.0,
        budget: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = concurrency or MAXIMUM
        self._replicas = [Replica(name, None if concurrency else MAXIMUM) for name in names]
        self._requests = RateLimit(rpm) if rpm is not None else None
        self._tokens = TokenRateLimit(tpm) if tpm is not None else None
        self._budget, self._clock = budget, clock
        self._max_outage, self._outage = max_outage, 0.0  # seconds
        self._failed_at: float | None = None
        self.on_room: Callable[[], None] = lambda: None
        self._in_flight = 0
        self._answered = False
        self._last_error: str | None = None
        self._waiting: deque[tuple[asyncio.Future[Permit], bytes, int | None]] = deque()
        self._pauses: set[asyncio.Future[None]] = set()
        self._outages: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._workers = 0
        self._resize()

    @property
    def workers(self) -> int:
        """Requests to work on at a time: in flight, or in the pause before a retry."""
        return self._workers

    @property
    def max_unfinished(self) -> int:
        """Unfinished requests to hold: some wait for the caller, some for a permit."""
        return self._workers + self._limit() + 64

    @property
    def status(self) -> Status:
        """The state of this moment; any thread may read it."""
        return Status(self._in_flight, self._limit(), self._last_error)

    def _limit(self) -> int:
        limits = [each.concurrency.limit for each in self._replicas if each.concurrency is not None]
        return min(self._most, max(1, int(sum(limits)))) if limits else self._most

    def _resize(self) -> None:
        limit = self._limit()
        workers = limit + min(len(self._pauses), 2 * limit + 64)
        grown, self._workers = workers > self._workers, workers
        if grown:
            self.on_room()

    async def admit(self, body: bytes, avoid: int | None = None) -> Permit:
        """Wait until a request may be sent.

        Args:
            avoid: number of the replica that failed this request last.

        Raises:
            LimitReached: it could cost more than is left.
        """
        if not self._waiting and (permit := self._take(body, avoid)[0]) is not None:
            return permit
        future: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
        # A request that has failed goes first: if nothing is answered, a row soon uses up its
        # attempts, and the run can stop. Attempts are few, so other rows get their turn too.
        if avoid is None:
            self._waiting.append((future, body, avoid))
        else:
            self._waiting.appendleft((future, body, avoid))
        self._admit_waiting()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.settle(future.result(), AttemptResult("other", billed=False))
            raise

    def _take(self, body: bytes, avoid: int | None) -> tuple[Permit | None, float]:
        """Take a permit, or tell in how many seconds to try again (inf: when a request ends)."""
        now = self._clock()
        if self._in_flight >= self._most:
            return None, math.inf
        wait = self._requests.wait(now) if self._requests is not None else 0.0
        if self._tokens is not None:
            wait = max(wait, self._tokens.wait(now))
        if wait > 0:
            return None, wait
        chosen, wait = choose(self._replicas, now, avoid)
        if wait > 0:
            return None, wait
        replica = self._replicas[chosen]
        reserved = self._reserve(body)
        if reserved is None:
            return None, math.inf
        if self._requests is not None:
            self._requests.take(now, 1.0)
        tokens = 0.0
        if self._tokens is not None:
            tokens = self._tokens.take(now, len(body) // _BYTES_PER_TOKEN)
        self._in_flight += 1
        replica.in_flight += 1
        number = replica.concurrency.sent(now) if replica.concurrency is not None else 0
        return Permit(chosen, number, now, tokens, reserved, body), 0.0

    def _reserve(self, body: bytes) -> float | None:
        """Set money aside; None if other requests must give some back first."""
        if self._budget is None:
            return 0.0
        reserved = self._budget.reserve(body)
        if reserved is None and self._budget.is_idle:
            raise LimitReached(
                f"--max-cost {self._budget.limit:g}: {self._budget.spent:.4g} are spent, and the "
                "next request could cost more than what is left. Run again with a higher one"
            )
        return reserved

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
        self._count_usage(permit, result)
        kind = "other" if result is None else result.kind
        if kind == "hopeless" and replica.has_answered:
            kind = "unreachable"  # a name server may be out of order for a while
        if replica.concurrency is not None:
            after = result.retry_after if result is not None else None
            replica.concurrency.result(now, permit.number, now - permit.sent, kind, after)
        advice = self._judge(now, replica, kind, result or AttemptResult(kind))
        self._resize()
        if self._waiting:
            self._admit_waiting()
        return advice

    def _count_usage(self, permit: Permit, result: AttemptResult | None) -> None:
        usage = _usage_of(permit, result)
        billed = result is None or result.billed
        if self._budget is not None:
            self._budget.settle(permit.reserved, permit.body, usage, billed=billed)
        if self._tokens is not None:
            used = usage.prompt_tokens + usage.completion_tokens if usage is not None else None
            self._tokens.settle(permit.tokens, used if billed else 0)

    def _judge(self, now: float, replica: Replica, kind: Kind, result: AttemptResult) -> Advice:
        if kind == "answered":
            self._note_answer(replica)
            return Advice()
        if kind == "other":
            return Advice()
        message = result.message
        self._last_error = message or kind
        others = any(not each.left_out for each in self._replicas if each is not replica)
        if kind in ("denied", "hopeless"):
            if not replica.denied() and not result.quota:
                return Advice()
            if others:
                replica.leave_out(message)
            return Advice(stop=not others, elsewhere=others)
        self._count_outage(now)
        unreachable = kind == "unreachable"
        if others and (unreachable or kind == "down"):
            was_down = replica.is_down
            replica.failed(now, message, unreachable=unreachable)
            if not was_down:
                return Advice()
        outage = self._answered and unreachable
        return Advice(stop=self._outage >= self._max_outage, is_outage=outage)

    def _count_outage(self, now: float) -> None:
        if self._failed_at is not None:
            self._outage += min(now - self._failed_at, _LONGEST_GAP)
        self._failed_at = now

    def _note_answer(self, replica: Replica) -> None:
        replica.answered()
        self._answered, self._last_error = True, None
        self._outage, self._failed_at = 0.0, None
        for pause in self._outages:
            _finish(pause)

    async def pause(self, seconds: float, *, outage: bool = False) -> None:
        """Sleep before another attempt; a pause of an outage ends with the next answer."""
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


def _usage_of(permit: Permit, result: AttemptResult | None) -> Usage | None:
    """Tell the tokens of an attempt; a number that an answer lacks is estimated from bytes."""
    if result is None or (result.usage is None and result.kind != "answered"):
        return None
    usage = result.usage or Usage()
    return Usage(
        usage.prompt_tokens or len(permit.body) // _BYTES_PER_TOKEN,
        usage.completion_tokens or result.answer_bytes // _BYTES_PER_TOKEN,
    )


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
