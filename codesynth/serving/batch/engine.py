"""Requests into files, files into batches, and their results back; in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from itertools import count
from typing import Any, BinaryIO
from uuid import uuid4

from codesynth.errors import EndpointError, LimitReached
from codesynth.journal import BatchLog, OpenBatch
from codesynth.models import Request
from codesynth.serving.batch.client import MAX_PAUSE, BatchClient, UnknownBatchError, pause
from codesynth.serving.batch.results import Results
from codesynth.serving.batch.shapes import BatchState
from codesynth.serving.batch.waiting import UNSENT, Waiting, scratch_file
from codesynth.serving.limits import Budget
from codesynth.serving.stream import Channel

_log = logging.getLogger(__name__)
MAX_BYTES = 100_000_000
"""Of one file; OpenAI allows twice as much, Together no more."""
_LOOKS = 3
"""How often to look for a batch that may have been made just before a kill."""
_PIECE = 500
_MOST_IDS = 20
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """How batches are made and waited for.

    Attributes:
        size: requests in a batch, at most.
        max_retries: further batches for a row that one has left without an answer.
        wait: for batches that are running; else they are left to a later run.
        cancel: the batches that earlier runs have left open.
        budget: what the run may cost; with a limit it must know ``max_tokens``.
    """

    size: int = 50_000
    max_retries: int = 5
    wait: bool = True
    cancel: bool = False
    budget: Budget | None = None


class BatchEngine:
    """Answers the requests of one stream; see ``stream.Engine``.

    Args:
        turn: held while it works, so that no batch has two owners.
    """

    max_unfinished = sys.maxsize  # requests that wait are on the disk

    def __init__(
        self,
        client: BatchClient,
        log: BatchLog,
        channel: Channel,
        options: BatchOptions,
        turn: threading.Lock,
    ) -> None:
        self._client, self._log, self._channel = client, log, channel
        self._options, self._size, self._turn = options, options.size, turn
        budget, retries = options.budget, options.max_retries
        self._budget = budget if budget is not None and budget.limit is not None else None
        self.waiting = Waiting()
        self._results = Results(client, log, self.waiting, channel, budget, retries)
        self._open: dict[int, OpenBatch] = {}
        self._done: dict[int, int] = {}
        self._started = client.clock()
        self._at_once = sys.maxsize
        self._too_dear = self._stopped = False
        self._error: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._changed, self._ended = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._work = self._loop.create_task(self._run())
        self._thread = threading.Thread(target=self._main, name="codesynth-batch", daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Take a request; called from the feeder's thread."""
        self._ready.wait()  # until it is known which keys are in open batches
        if self._stopped:
            return
        reserved = None
        if self._budget is not None and self.waiting.holds(request.key):
            reserved = self._budget.reserve(request.body)
        self.waiting.add(request, reserved)
        if self.waiting.unsent >= self._size and not self._changed.is_set():
            self._call(self._changed.set)

    def end_requests(self, error: BaseException | None) -> None:
        """Take note that no request will follow."""
        self._error = self._error or error
        self._call(self._ended.set)
        self._call(self._changed.set)

    def drain(self, grace: float | None) -> None:
        """Send nothing more. Batches go on without us, so nothing is waited for."""
        if not self._stopped:
            self._stopped = True
            self._call(self._work.cancel)

    def close(self) -> None:
        """Stop; what is under way is found again by the next run."""
        self.drain(0.0)
        if threading.current_thread() is not self._thread and not sys.is_finalizing():
            self._thread.join(_CLOSE_SECONDS)

    def _call(self, function: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function)

    # In the thread.

    def _main(self) -> None:
        try:
            with self._turn:
                self._loop.run_until_complete(self._work)
        except asyncio.CancelledError:
            pass
        except Exception as exc:
            self._error = self._error or exc
        self._stopped = True
        self._ready.set()
        self._channel.finish(self._error)
        self._loop.close()

    async def _run(self) -> None:
        try:
            await self._adopt()
            self._ready.set()
            for batch in self._open.values():
                self._start(self._follow(batch, adopted=True))
            await self._send_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._client.endpoint.aclose()
        if self._error is None and (self._open or self.waiting.unsent):
            raise LimitReached(self._describe_open())

    async def _adopt(self) -> None:
        """Take over the batches that earlier runs have left open."""
        for batch in self._log.open():
            if not batch.id and batch.file:
                batch = await self._find(batch)
            keys = self._log.keys(batch) if batch.id else {}
            if keys:
                self.waiting.expect(batch.number, keys.items())
                self._open[batch.number] = batch
            else:  # it was never made, or the journal has all of it
                self._log.close(batch)

    async def _find(self, batch: OpenBatch) -> OpenBatch:
        """Look for a batch that may have been made just before its run was killed."""
        for look in range(_LOOKS):
            if (found := await self._client.find(batch.file, batch.uuid)) is not None:
                return self._log.note_id(batch, found.id)
            if look < _LOOKS - 1:
                await self._client.sleep(pause(look))
        return batch

    async def _send_all(self) -> None:
        """Send what waits, and again what batches leave over, until nothing is left to be done."""
        while self._error is None:
            self._changed.clear()
            if self._may_send():
                with scratch_file() as file:
                    if (batch := await self._write(file)) is not None:
                        await self._send(batch, file)
            elif self._ended.is_set() and not self._tasks:
                return
            else:
                await self._changed.wait()

    def _may_send(self) -> bool:
        """Tell whether there is a whole batch, or the rest of one, and room for it."""
        unsent = self.waiting.unsent
        ready = self._ended.is_set() or (unsent >= self._size and self._budget is None)
        return bool(unsent) and ready and not self._too_dear and len(self._open) < self._at_once

    async def _write(self, file: BinaryIO) -> OpenBatch | None:
        """Write a batch's file and note in the journal what will be sent; None if it may not cost.

        Raises:
            LimitReached: the budget is used up.
        """
        size, keys = 0, {}
        rows: list[tuple[int, float | None]] = []
        for row in self.waiting.rows(UNSENT):
            assert row.request is not None  # noqa: S101 - those without are in a batch
            line = self._client.shape.line(row.key, row.request.body) + b"\n"
            full = len(rows) == self._size or (rows and size + len(line) > MAX_BYTES)
            reserved = None
            if not full and self._budget is not None:
                reserved = self._budget.reserve(row.request.body)
                self._too_dear = reserved is None
            if full or self._too_dear:
                break
            size += file.write(line)
            keys[row.key] = row.attempts
            rows.append((row.number, reserved))
            if len(rows) % _PIECE == 0:
                await asyncio.sleep(0)
        if self._too_dear and not rows and not self._open:
            raise LimitReached("--max-cost is reached. Run again with more to go on")
        if not rows:
            return None
        batch = self._log.add(uuid4().hex, keys)
        self.waiting.assign(batch.number, rows)
        return batch

    async def _send(self, batch: OpenBatch, file: BinaryIO) -> None:
        """Upload a file and make a batch of it; each step is in the journal before the next."""
        name = f"codesynth-{batch.uuid}.jsonl"
        batch = self._log.note_file(batch, await self._client.upload(file, name))
        state = await self._client.create(batch.file, batch.uuid)
        batch = self._open[batch.number] = self._log.note_id(batch, state.id)
        _log.info("%s: made of %d requests", batch.id, batch.requests)
        if self._options.wait:
            self._start(self._follow(batch))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._error = self._error or task.exception()
        self._changed.set()

    async def _follow(self, batch: OpenBatch, *, adopted: bool = False) -> None:
        """Wait for the end of a batch and take its results."""
        if adopted:
            await self._ended.wait()  # it is known then which of its rows this run asks for
        if self._options.cancel:
            await self._client.cancel(batch.id)
        try:
            state = await self._wait_for_end(batch)
            if state is None:
                return
            accepted = await self._results.take(batch, state)
        except UnknownBatchError as exc:
            if not self._options.cancel:
                raise EndpointError(f"{exc}. --cancel gives the batch up") from exc
            await self._results.give_back(batch)
            accepted = True
        if not accepted:  # more tokens than may be waiting there at a time
            self._at_once = max(1, len(self._open) - 1)
            if len(self._open) == 1:
                self._size = max(1, batch.requests // 2)
                await self._client.sleep(MAX_PAUSE)
        del self._open[batch.number]
        self._done.pop(batch.number, None)
        self._too_dear = False

    async def _wait_for_end(self, batch: OpenBatch) -> BatchState | None:
        """Look at a batch until it has ended; once only, and perhaps None, where nobody waits."""
        for attempt in count():
            state = await self._client.state(batch.id)
            self._done[batch.number] = state.results or 0
            if state.status != "open":
                _log.info("%s: %s", batch.id, state.status)
                return state
            if not self._options.wait:
                return None
            await self._client.sleep(pause(attempt))
        raise AssertionError

    def _describe_open(self) -> str:
        ids = [batch.id for batch in self._open.values()]
        more = f" and {len(ids) - _MOST_IDS} more" if len(ids) > _MOST_IDS else ""
        requests = sum(batch.requests for batch in self._open.values())
        words = f"{requests} requests are in open batches: {', '.join(ids[:_MOST_IDS])}{more}"
        unsent = f"; {self.waiting.unsent} wait to be sent" if self.waiting.unsent else ""
        return f"{words}{unsent}. Run the same command again to collect them"

    def status(self) -> str:
        """Word how the batches go, for the bar."""
        if not (batches := list(self._open.values())):
            return ""
        requests, done = sum(batch.requests for batch in batches), sum(list(self._done.values()))
        minutes = (self._client.clock() - self._started) / 60
        return f"{len(batches)} batches for {minutes:.0f} min: {done} of {requests} requests done"
