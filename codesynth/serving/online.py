"""The streams of one online serving share an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence

from codesynth.errors import EndpointError, LimitReached
from codesynth.models import Request
from codesynth.serving.attempts import AskedRequest, Asker, Drained
from codesynth.serving.http import EndpointClient
from codesynth.serving.limits import Admission
from codesynth.serving.stream import Channel

GRACE_SECONDS = 4.0
"""Time for requests in flight to be answered after the run must stop."""
_CLOSE_SECONDS = 2.0
"""How long ``close`` waits at most; it may block the thread that it waits for."""


class LoopThread:
    """An event loop in a thread, for the streams that use it; it ends with the last of them.

    The endpoints' connections belong to it, and are closed when it ends.
    """

    def __init__(
        self, endpoints: Sequence[EndpointClient], admission: Admission, asker: Asker
    ) -> None:
        self.admission, self.asker = admission, asker
        self._endpoints = endpoints
        self._users = 0
        self._ended = False
        self._lock = threading.Lock()
        self.engines: set[OnlineEngine] = set()
        admission.on_room = self._start_workers
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="codesynth-loop", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.loop.run_forever()
        left = asyncio.all_tasks(self.loop)  # connections that are made for cancelled requests
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.wait(left))
        self.loop.close()

    def enter(self) -> bool:
        """Become a user of the loop; False if it is ending, because the last user has left."""
        with self._lock:
            self._users += not self._ended
            return not self._ended

    async def leave(self) -> None:
        """Stop being a user; the last one closes the connections and ends the loop. Runs on it."""
        with self._lock:
            self._users -= 1
            self._ended = not self._users
        if self._ended:
            try:
                for endpoint in self._endpoints:
                    await endpoint.aclose()
            finally:
                self.loop.call_soon(self.loop.stop)

    def _start_workers(self) -> None:
        for engine in self.engines:
            engine.start_workers()

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop, unless it has ended; from any thread."""
        with contextlib.suppress(RuntimeError):  # it has ended: nothing is left to do
            self.loop.call_soon_threadsafe(function, *args)


class OnlineEngine:
    """Answers the requests of one stream; see ``stream.Engine``.

    A worker is a task that asks one request after the other, until none waits. There is one worker
    for each request that may be in flight; a task for each request would cost more.
    """

    def __init__(self, thread: LoopThread, channel: Channel) -> None:
        self._thread, self._channel = thread, channel
        self._inbox: deque[Request] = deque()
        self._workers: dict[asyncio.Task[None], AskedRequest | None] = {}
        self._start_is_scheduled = self._no_more = self._drained = False
        self._error: BaseException | None = None
        self._end: asyncio.Task[None] | None = None
        self._finished = threading.Event()
        thread.call(thread.engines.add, self)

    @property
    def max_unfinished(self) -> int:
        """How many requests are worth holding."""
        return self._thread.admission.max_unfinished

    def submit(self, request: Request) -> None:
        """Take a request; called from the feeder's thread."""
        if self._drained:
            return
        self._inbox.append(request)
        if not self._start_is_scheduled and len(self._workers) < self._thread.admission.workers:
            self._start_is_scheduled = True
            self._thread.call(self.start_workers)

    def end_requests(self, error: BaseException | None) -> None:
        """Take note that no request will follow."""
        self._thread.call(self._end_requests, error)

    def drain(self, grace: float | None) -> None:
        """Send nothing more; requests in flight may be answered."""
        self._thread.call(self._drain, grace)

    def close(self) -> None:
        """Cancel the requests in flight; nothing is sent once this returns."""
        self._thread.call(self._drain, 0.0)
        # Do not wait on the loop's own thread, or when Python has stopped its threads.
        if threading.current_thread() is not self._thread.thread and not sys.is_finalizing():
            self._finished.wait(_CLOSE_SECONDS)

    # On the event loop.

    def start_workers(self) -> None:
        """Start workers for the requests in the inbox, as many as are useful."""
        self._start_is_scheduled = False
        if self._drained:
            return
        free = self._thread.admission.workers - len(self._workers)
        for _ in range(min(len(self._inbox), free)):
            worker = self._thread.loop.create_task(self._work())
            self._workers[worker] = None
            worker.add_done_callback(self._on_worker_done)

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - for the type
        while self._inbox and not self._drained:
            asked = self._workers[me] = AskedRequest(self._inbox.popleft())
            self._channel.put(await self._thread.asker.ask(asked))

    def _on_worker_done(self, worker: asyncio.Task[None]) -> None:
        del self._workers[worker]
        error = None if worker.cancelled() else worker.exception()
        if error is not None and not isinstance(error, Drained):
            self._error = self._error or error
            if isinstance(error, LimitReached):
                self._drain(None)
            else:
                self._drain(GRACE_SECONDS if isinstance(error, EndpointError) else 0.0)
        self.start_workers()  # the feeder may have started none, because this worker still counted
        self._finish_if_done()

    def _end_requests(self, error: BaseException | None) -> None:
        self._error = self._error or error
        self._no_more = True
        self.start_workers()
        self._finish_if_done()

    def _drain(self, grace: float | None) -> None:
        """Cancel waiting requests now, and requests that are being sent after ``grace`` seconds."""
        self._drained = self._no_more = True
        for worker, asked in self._workers.items():
            if asked is not None and asked.sending and grace != 0.0:
                asked.drained = True
            else:
                worker.cancel()
        if grace:
            self._thread.loop.call_later(grace, self._drain, 0.0)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        # After a drain the feeder may still add requests, which are dropped.
        nothing_waits = self._drained or not self._inbox
        if self._no_more and nothing_waits and not self._workers and self._end is None:
            self._end = self._thread.loop.create_task(self._finish())

    async def _finish(self) -> None:
        self._thread.engines.discard(self)
        try:
            await self._thread.leave()
        except Exception as exc:  # a user's transport may fail to close
            self._error = self._error or exc
        self._channel.finish(self._error)
        self._finished.set()
