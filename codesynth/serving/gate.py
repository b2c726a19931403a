"""Where requests wait until the limits let them go: the coroutine side of the limiter."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from codesynth.errors import LimitReached
from codesynth.models import Usage
from codesynth.serving.budget import Budget
from codesynth.serving.limiter import Outcome
from codesynth.serving.replicas import Replicas


class Drained(Exception):  # noqa: N818 - no error: the request just was not sent
    """Nothing more is sent; what waits is given up unsent."""


class Gate:
    """Lets requests through as ``Replicas`` says, first come first served, retries before others.

    While everything is refused, retries wait behind the others.

    Lives on one event loop. ``clock`` gives seconds and never goes back; ``on_pause`` is called
    whenever a request has begun a pause, as another can take its place then.
    """

    def __init__(
        self,
        replicas: Replicas,
        clock: Callable[[], float],
        budget: Budget | None,
        on_pause: Callable[[], None],
    ) -> None:
        self._replicas = replicas
        self._clock = clock
        self._budget = budget
        self._on_pause = on_pause
        self._short: set[asyncio.Future[None]] = set()
        self._waiting: deque[tuple[asyncio.Future[int], int, int | None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._drained = False
        self._pauses: set[asyncio.Future[None]] = set()
        self._outage: set[asyncio.Future[None]] = set()

    @property
    def paused(self) -> int:
        """Requests in a pause before their next attempt."""
        return len(self._pauses)

    async def set_aside(self, body: bytes) -> float:
        """Wait until the budget allows for a request; return what is set aside for it.

        Raises:
            LimitReached: it will never allow for it.
            Drained: ``drain`` was called.
        """
        if self._budget is None:
            return 0.0
        while (reserved := self._budget.reserve(body)) is None:
            if self._budget.is_idle:
                raise LimitReached("--max-cost is reached. Run again with more to go on")
            if self._drained:
                raise Drained
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._short.add(settled)
            try:
                await settled
            finally:
                self._short.discard(settled)
        return reserved

    def settle(self, reserved: float, body: bytes, usage: Usage | None, *, billed: bool) -> None:
        """Give back what was set aside and not used."""
        if self._budget is not None:
            self._budget.settle(reserved, body, usage, billed=billed)
            for future in self._short:
                _finish(future)

    async def enter(self, tokens: int, avoid: int | None = None) -> int:
        """Wait for a permit; return the number of the replica to ask.

        Args:
            tokens: estimate of what the request will use.
            avoid: the replica that failed this request before, if any.

        Raises:
            Drained: ``drain`` was called.
        """
        if self._drained:
            raise Drained
        if not self._waiting:
            index, wait = self._replicas.choose(self._clock(), tokens, avoid)
            if wait <= 0:
                return index
        permit: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # While nobody is accepted the rows take turns, or one would use up all its attempts.
        if avoid is None or self._replicas.resting:
            self._waiting.append((permit, tokens, avoid))
        else:
            self._waiting.appendleft((permit, tokens, avoid))
        self._let_through()
        try:
            return await permit
        except asyncio.CancelledError:
            if permit.done() and not permit.cancelled() and permit.exception() is None:
                self.leave(permit.result(), None)
            raise

    def leave(self, index: int, outcome: Outcome | None) -> None:
        """Give the permit back; None where the attempt was cancelled and teaches nothing."""
        now = self._clock()
        if outcome is None:
            self._replicas.cancel(index, now)
        else:
            self._replicas.release(index, now, outcome)
        if self._waiting:
            self._let_through()

    def _let_through(self) -> None:
        while self._waiting:
            permit, tokens, avoid = self._waiting[0]
            if permit.done():  # cancelled meanwhile
                self._waiting.popleft()
                continue
            index, wait = self._replicas.choose(self._clock(), tokens, avoid)
            if wait > 0:
                self._look_again(wait)
                return
            self._waiting.popleft()
            permit.set_result(index)

    def _look_again(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait < math.inf:
            self._timer = asyncio.get_running_loop().call_later(wait, self._let_through)

    async def pause(self, seconds: float, *, outage: bool) -> None:
        """Sleep before another attempt, without a permit.

        Args:
            seconds: at most.
            outage: wake up when ``end_outage`` is called.

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
            self._outage.add(over)
        self._on_pause()
        try:
            await over
        finally:
            timer.cancel()
            self._pauses.discard(over)
            self._outage.discard(over)

    def end_outage(self) -> None:
        """Let those try again who wait for the endpoint to come back."""
        for over in self._outage:
            _finish(over)

    def drain(self) -> None:
        """Send away all who wait here, now and later."""
        self._drained = True
        waiting: list[asyncio.Future[Any]] = [permit for permit, _, _ in self._waiting]
        for future in [*waiting, *self._pauses, *self._short]:
            if not future.done():
                future.set_exception(Drained())
        self._waiting.clear()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
