"""A response stream with three threads: a feeder pulls requests, an engine answers, a caller reads.

So none of them waits for a blocking call of another: the requests may come from a slow pipe, and
the caller may be slow too. The threads hold no reference to the stream itself, so that deleting the
stream ends them.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable
from typing import Protocol

from codesynth.models import Request, Response
from codesynth.serving import ResponseStream

_WAKE_SECONDS = 0.005
"""The caller is woken at most once in this time: waking it for each response costs too much."""
_ROOM_SECONDS = 0.1
"""A waiting feeder looks again after this time, because ``max_unfinished`` may have grown."""


class Engine(Protocol):
    """Answers requests behind a stream, and puts each response into the stream's ``Channel``."""

    @property
    def max_unfinished(self) -> int:
        """How many requests to hold: waiting, in flight, or answered and not read yet."""

    def submit(self, request: Request) -> None:
        """Take a request; called from the feeder's thread. After ``drain`` it is dropped."""

    def end_requests(self, error: BaseException | None) -> None:
        """Call ``Channel.finish(error)`` when all that was submitted is answered.

        ``error`` is what the iterator of the requests raised.
        """

    def drain(self, grace: float | None) -> None:
        """Send nothing more; see ``ResponseStream``. ``Channel.finish`` is called at the end."""

    def close(self) -> None:
        """Cancel the requests in flight and end the threads; may be called again."""


class Channel:
    """Carries responses from the threads of a serving to the stream's caller."""

    def __init__(self) -> None:
        self.items: queue.SimpleQueue[Response | BaseException | None] = queue.SimpleQueue()
        self._pulled = self._taken = 0  # each is written by one thread only
        self._room = threading.Event()
        self._feeder_waits = False
        self.closed = False

    def put(self, response: Response) -> None:
        """Hand a response to the caller; from any thread."""
        self.items.put(response)

    def finish(self, error: BaseException | None = None) -> None:
        """End the stream, with ``error`` raised in the caller's thread; nothing is put after it."""
        self.items.put(error)

    def note_taken(self, engine: Engine) -> None:
        """Count a response that the caller took, and let the feeder go on if there is room."""
        self._taken += 1
        if self._feeder_waits and self._has_room(engine):
            self._room.set()

    def close(self) -> None:
        """Let the feeder end."""
        self.closed = True
        self._room.set()

    def feed(self, items: Iterable[Request | Response], engine: Engine) -> None:
        """Pull requests while there is room; runs in the feeder's thread."""
        error: BaseException | None = None
        try:
            for item in items:
                if self.closed:
                    break
                self._pulled += 1
                if isinstance(item, Response):
                    self.items.put(item)
                else:
                    engine.submit(item)
                if self._pulled - self._taken >= engine.max_unfinished:
                    self._wait_for_room(engine)
        except BaseException as exc:  # it is raised again in the caller's thread
            error = exc
        engine.end_requests(error)

    def _wait_for_room(self, engine: Engine) -> None:
        """Wait until a quarter of the room is free: waking up for each row costs too much."""
        self._feeder_waits = True
        while not self._has_room(engine) and not self.closed:
            self._room.wait(_ROOM_SECONDS)
            self._room.clear()
        self._feeder_waits = False

    def _has_room(self, engine: Engine) -> bool:
        return 4 * (self._pulled - self._taken) <= 3 * engine.max_unfinished


class EngineStream(ResponseStream):
    """The ``ResponseStream`` of an engine.

    Args:
        items: requests, and responses that are there already.
        engine: answers the requests; it has been given ``channel``.
    """

    def __init__(
        self, items: Iterable[Request | Response], engine: Engine, channel: Channel
    ) -> None:
        self._engine, self._channel = engine, channel
        self._next: list[Response | BaseException | None] = []
        self._woken_at = 0.0
        # A daemon: nothing can wake it while it reads from standard input.
        threading.Thread(
            target=channel.feed, args=(items, engine), name="codesynth-feeder", daemon=True
        ).start()

    def __next__(self) -> Response:
        self.wait(None)
        item = self._next.pop()
        if isinstance(item, Response):
            self._channel.note_taken(self._engine)
            return item
        self._next.append(None)  # the end stays the end
        self.close()
        raise StopIteration if item is None else item

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once; False after ``timeout`` seconds."""
        if self._next:
            return True
        items = self._channel.items
        try:
            if timeout != 0 and items.empty():
                rest = self._woken_at + _WAKE_SECONDS - time.monotonic()
                time.sleep(max(0.0, min(rest, 1.0 if timeout is None else timeout)))
                self._next.append(items.get(timeout=timeout))
                self._woken_at = time.monotonic()
            else:
                self._next.append(items.get_nowait())
        except queue.Empty:
            return False
        return True

    def drain(self, grace: float | None) -> None:
        """Send nothing more; see ``ResponseStream``."""
        self._engine.drain(grace)

    def close(self) -> None:
        """Cancel the requests in flight."""
        self._channel.close()
        self._engine.close()

    def __del__(self) -> None:
        self.close()


class IteratorStream(ResponseStream):
    """The ``ResponseStream`` of a serving that is a plain generator of responses.

    Nothing is in flight between two responses, so ``drain`` and ``close`` just end it.
    """

    def __init__(self, responses: Generator[Response, None, None]) -> None:
        self._responses = responses

    def __next__(self) -> Response:
        return next(self._responses)

    def wait(self, timeout: float | None) -> bool:
        """Tell that ``next`` is the only way to wait."""
        return True

    def drain(self, grace: float | None) -> None:
        """End the stream."""
        self._responses.close()

    def close(self) -> None:
        """End the stream."""
        self._responses.close()
