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
from codesynth.serving.stream import Channel

GRACE_SECONDS = 4.0
"""Time for requests in flight to be answered after the run must stop."""
_CLOSE_SECONDS = 2.0
"""How long ``close`` waits at most; it may block the thread that it waits for."""


class LoopThread:
    """An event loop in a thread, which the first user starts and the last one ends.

    The endpoints' connections belong to the loop, and are closed when it ends.

    Args:
        new_asker: called for each new loop, because an asker belongs to one.

    Attributes:
        engines: those whose requests are not all answered.
    """

    def __init__(self, endpoints: Sequence[EndpointClient], new_asker: Callable[[], Asker]) -> None:
        self._endpoints, self._new_asker = endpoints, new_asker
        self.asker = new_asker()
        self.engines = set[OnlineEngine]()
        self._users, self._lock = 0, threading.Lock()
        self.thread: threading.Thread | None = None

    def enter(self) -> None:
        """Become a user of ``loop``."""
        with self._lock:
            if not self._users:
                if self.thread is not None:
                    self.thread.join()  # until it has closed its connections
                self.loop, self._ended = asyncio.new_event_loop(), asyncio.Event()
                self.asker = self._new_asker()
                self.asker.admission.on_room = self._start_workers
                self.thread = threading.Thread(
                    target=self._run, args=(self.loop,), name="codesynth-loop", daemon=True
                )
                self.thread.start()
            self._users += 1

    def leave(self) -> None:
        """Stop being a user. Runs on the loop."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._ended.set()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._close_at_end(self._ended))

    async def _close_at_end(self, ended: asyncio.Event) -> None:
        await ended.wait()
        for endpoint in self._endpoints:
            await endpoint.aclose()

    def _start_workers(self) -> None:
        for engine in self.engines:
            engine.start_workers()


class OnlineEngine:
    """Answers the requests of one stream; see ``stream.Engine``.

    A worker is a task that asks one request after the other, until none waits. There is one worker
    for each request that may be in flight; a task for each request would cost more.
    """

    def __init__(self, thread: LoopThread, channel: Channel) -> None:
        thread.enter()
        self._thread, self._loop, self._asker = thread, thread.loop, thread.asker
        self._channel, self._admission = channel, thread.asker.admission
        self._inbox: deque[Request] = deque()
        self._workers: dict[asyncio.Task[None], AskedRequest | None] = {}
        self._start_is_scheduled = self._no_more = self._drained = False
        self._error: BaseException | None = None
        self._finished = threading.Event()
        self._call(thread.engines.add, self)

    @property
    def max_unfinished(self) -> int:
        """How many requests are worth holding."""
        return self._admission.max_unfinished

    def submit(self, request: Request) -> None:
        """Take a request; called from the feeder's thread."""
        if self._drained:
            return
        self._inbox.append(request)
        if not self._start_is_scheduled and len(self._workers) < self._admission.workers:
            self._start_is_scheduled = True
            self._call(self.start_workers)

    def end_requests(self, error: BaseException | None) -> None:
        """Take note that no request will follow."""
        self._call(self._end_requests, error)

    def drain(self, grace: float | None) -> None:
        """Send nothing more; requests in flight may be answered."""
        self._call(self._drain, grace)

    def close(self) -> None:
        """Cancel the requests in flight; nothing is sent once this returns."""
        if self._finished.is_set():
            return
        self._call(self._drain, 0.0)
        # Do not wait on the loop's own thread, or when Python has stopped its threads.
        if threading.current_thread() is not self._thread.thread and not sys.is_finalizing():
            self._finished.wait(_CLOSE_SECONDS)

    def _call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function on the loop, unless it has ended; from any thread."""
        with contextlib.suppress(RuntimeError):  # it has ended: nothing is left to do
            self._loop.call_soon_threadsafe(function, *args)

    # On the event loop.

    def start_workers(self) -> None:
        """Start workers for the requests in the inbox, as many as are useful."""
        self._start_is_scheduled = False
        if self._drained:
            return
        free = self._admission.workers - len(self._workers)
        for _ in range(min(len(self._inbox), free)):
            worker = self._loop.create_task(self._work())
            self._workers[worker] = None
            worker.add_done_callback(self._on_worker_done)

    async def _work(self) -> None:
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 - for the type
        while self._inbox and not self._drained:
            asked = self._workers[me] = AskedRequest(self._inbox.popleft())
            self._channel.put(await self._asker.ask(asked))

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
            self._loop.call_later(grace, self._drain, 0.0)
        self._finish_if_done()

    def _finish_if_done(self) -> None:
        # After a drain the feeder may still add requests, which are dropped.
        nothing_waits = self._drained or not self._inbox
        if self._no_more and nothing_waits and not self._workers and not self._finished.is_set():
            self._thread.engines.discard(self)
            self._thread.leave()
            self._channel.finish(self._error)
            self._finished.set()
