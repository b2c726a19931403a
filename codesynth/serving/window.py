"""The window: a synchronous stream of requests, answered by coroutines on a loop of its own.

Three threads share the work, so that none waits for another's blocking call: a feeder pulls the
requests (their source may be a slow pipe), the event loop sends, and the caller's thread takes
the responses (and may be blocked by a slow reader). The caller's own event loop, if it has one,
is not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from codesynth.errors import EndpointError, LimitReached
from codesynth.models import Request, Response


class Asker(Protocol):
    """Answers one request; lives on the window's event loop.

    Attributes:
        on_room: set by the window; called when ``workers`` has grown.
        workers: requests that ``ask`` can make use of at a time; read from any thread.
        bound: unfinished requests worth holding, more than ``workers``; read from any thread.
    """

    on_room: Callable[[], None]
    workers: int
    bound: int

    async def ask(self, request: Request) -> Response | None:
        """Answer; None where ``drain`` was called before the request was sent.

        Raises:
            EndpointError: no request can succeed.
        """
        ...

    def drain(self) -> None:
        """Send no more; what is in flight may land."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


_END = None
_Item = Response | BaseException | None


class Window(Iterator[Response]):
    """Responses as they come, in any order.

    Iterating raises what the requests' iterator raised, or the EndpointError that stopped the
    run, after the responses that were in flight then.
    """

    GRACE = 4.0
    """Seconds that requests in flight get to land once the endpoint has refused everyone."""
    REST = 0.005
    """Seconds between two awakenings of the caller: one for each of many responses costs more
    than what is done with it."""

    def __init__(self, requests: Iterable[Request], asker: Asker) -> None:
        self._requests = requests
        self._asker = asker
        asker.on_room = self._employ
        self._inbox: deque[Request] = deque()
        self._outbox: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._slot: list[_Item] = []
        self._pulled = self._taken = 0  # each is written by one thread only
        self._room = threading.Event()
        self._starving = False
        self._woken_at = 0.0
        self._fed = self._closed = self._ended = self._closing = False
        self._error: BaseException | None = None
        self._idle: deque[asyncio.Future[None]] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="codesynth-loop", daemon=True)
        self._thread.start()
        # A daemon: where it waits in a read of standard input, nothing can wake it.
        threading.Thread(target=self._feed, name="codesynth-feeder", daemon=True).start()

    # The caller's thread.

    def __next__(self) -> Response:
        self.wait(None)
        item = self._slot.pop()
        if isinstance(item, Response):
            self._taken += 1
            if self._starving and self._has_room():
                self._room.set()
            return item
        self._slot.append(item)  # the end stays the end
        if isinstance(item, BaseException):
            self._slot[0] = _END
            self.close()
            raise item
        self.close()
        raise StopIteration

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once; False after ``timeout`` seconds."""
        if not self._slot:
            try:
                self._slot.append(self._outbox.get_nowait())
            except queue.Empty:
                if timeout == 0:
                    return False
                time.sleep(
                    max(0.0, min(self._woken_at + self.REST - time.monotonic(), timeout or 1))
                )
                try:
                    self._slot.append(self._outbox.get(timeout=timeout))
                except queue.Empty:
                    return False
                self._woken_at = time.monotonic()
        return True

    def drain(self, grace: float | None) -> None:
        """Send nothing more; the end comes when all in flight has landed, or after ``grace`` s."""
        self._call(self._drain, grace)

    def close(self) -> None:
        """Cancel what is in flight and end the loop's thread."""
        if not self._closed:
            self._closed = True
            self._room.set()
            self._call(self._cancel)
            if not sys.is_finalizing():  # then its thread is gone without having ended
                self._thread.join()

    def _call(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(function, *args)

    # The feeder's thread.

    def _feed(self) -> None:
        try:
            for request in self._requests:
                if self._closed or self._ended:
                    return
                self._pulled += 1
                if request.known is not None:
                    self._outbox.put(request.known)
                else:
                    self._inbox.append(request)
                    if self._idle or len(self._workers) < self._asker.workers:
                        self._call(self._employ)
                if self._pulled - self._taken >= self._asker.bound:
                    self._wait_for_room()
        except BaseException as exc:  # it is raised again in the caller's thread
            self._error = exc
        finally:
            self._fed = True
            self._call(self._employ)
            self._call(self._end_if_done)

    def _wait_for_room(self) -> None:
        """Wait until a quarter of the bound is free: to be woken for each row costs too much."""
        self._starving = True
        while not self._has_room() and not self._closed:
            self._room.wait(0.1)  # the bound can grow while nothing is taken
            self._room.clear()
        self._starving = False

    def _has_room(self) -> bool:
        return 4 * (self._pulled - self._taken) <= 3 * self._asker.bound

    # The event loop's thread.

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._asker.aclose())
        except BaseException as exc:  # it is raised again in the caller's thread
            self._error = self._error or exc
        finally:
            self._loop.close()
            self._outbox.put(self._error or _END)

    def _employ(self) -> None:
        """Wake idle workers, or hire new ones, for what is in the inbox."""
        if self._ended:
            self._inbox.clear()  # the feeder did not know yet
        work = len(self._inbox)
        while self._idle and (work > 0 or self._fed):
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                work -= 1
        for _ in range(min(work, self._asker.workers - len(self._workers))):
            worker = self._loop.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._dismiss)

    async def _work(self) -> None:
        while True:
            if self._inbox:
                response = await self._asker.ask(self._inbox.popleft())
                if response is not None:
                    self._outbox.put(response)
            elif self._fed or self._ended:
                return
            else:
                waiter = self._loop.create_future()
                self._idle.append(waiter)
                if self._inbox or self._fed:  # the feeder may have looked just before
                    waiter.cancel()
                else:
                    await waiter

    def _dismiss(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        if not worker.cancelled() and (error := worker.exception()) is not None:
            self._error = self._error or error
            if isinstance(error, LimitReached):
                self._drain(None)
            elif isinstance(error, EndpointError):
                self._drain(self.GRACE)
            else:
                self._cancel()
        self._end_if_done()

    def _drain(self, grace: float | None) -> None:
        if not self._ended:
            self._ended = self._fed = True
            self._inbox.clear()
            self._asker.drain()
            self._employ()
        if grace is not None:
            self._loop.call_later(grace, self._cancel)
        self._end_if_done()

    def _cancel(self) -> None:
        self._ended = self._fed = True
        self._inbox.clear()
        for worker in self._workers:
            worker.cancel()
        self._end_if_done()

    def _end_if_done(self) -> None:
        nothing_waits = self._ended or not self._inbox
        if self._fed and not self._workers and nothing_waits and not self._closing:
            self._closing = True  # a second stop would end the closing of the connections
            self._loop.stop()
