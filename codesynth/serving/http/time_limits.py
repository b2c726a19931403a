"""A time limit for each of many requests, with one timer for all of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")
_EXPIRED = math.inf


class TimeLimits:
    """Cancels what takes too long. ``asyncio.timeout`` would cost 12 us a request.

    It belongs to one event loop until ``close``. A task may have one limit at a time.
    """

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, seconds: float, work: Awaitable[T]) -> T:
        """Wait for the work, at most ``seconds``.

        Raises:
            TimeoutError: it took longer.
        """
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type
        end = self._ends[task] = asyncio.get_running_loop().time() + seconds
        if self._timer is None or end < self._timer.when():
            self._set_timer(end)
        try:
            return await work
        except asyncio.CancelledError:
            if self._ends[task] == _EXPIRED and task.uncancel() == 0:
                raise TimeoutError from None
            raise
        finally:
            del self._ends[task]

    def close(self) -> None:
        """Forget the timer, so that another event loop can be used."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self, end: float) -> None:
        self.close()
        self._timer = asyncio.get_running_loop().call_at(end, self._expire)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for task, end in self._ends.items():
            if end <= now:
                self._ends[task] = _EXPIRED
                task.cancel()
        if (next_end := min(self._ends.values(), default=_EXPIRED)) < _EXPIRED:
            self._set_timer(next_end)
        else:
            self._timer = None
