"""Requests into files, files into batches, and their results back; in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, BinaryIO
from uuid import uuid4

from codesynth.errors import LimitReached
from codesynth.journal import BatchLog, OpenBatch
from codesynth.models import Request
from codesynth.serving.batch.client import BatchClient, BatchMissing, pause
from codesynth.serving.batch.results import Results
from codesynth.serving.batch.waiting import UNSENT, Waiting, scratch_file
from codesynth.serving.limits import Budget
from codesynth.serving.stream import Channel

_log = logging.getLogger(__name__)
MAX_BYTES = 100_000_000
"""Of one file; OpenAI allows twice as much, Together no more."""
_LOOKS = 3
"""How often to look for a batch that may have been made just before a kill."""
_PIECE = 500
_CLOSE_SECONDS = 2.0


class BatchEngine:
    """Answers the requests of one stream; see ``stream.Engine``.

    Args:
        size: requests in a batch, at most.
        wait: for batches that are still running; else they are left to a later run.
        cancel: the open batches first.
        turn: held while it works, so that no batch has two owners.

    Attributes:
        open: the batches that are running, by their number.
        done: results of each of them so far.
    """

    max_unfinished = sys.maxsize  # requests that wait are on the disk

    def __init__(
        self,
        client: BatchClient,
        log: BatchLog,
        channel: Channel,
        *,
        size: int,
        max_retries: int,
        budget: Budget | None,
        wait: bool,
        cancel: bool,
        turn: threading.Lock,
    ) -> None:
        self._client, self._log, self._channel = client, log, channel
        self._size, self._wait, self._cancel, self._turn = size, wait, cancel, turn
        self._budget = budget if budget is not None and budget.limit is not None else None
        self.waiting = Waiting()
        self._results = Results(client, log, self.waiting, channel, budget, max_retries)
        self.open: dict[int, OpenBatch] = {}
        self.done: dict[int, int] = {}
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
        if self.waiting.unsent == self._size:
            self._call(self._changed.set)

    def end_requests(self, error: BaseException | None) -> None:
        """Take note that no request will follow."""
        self._error = self._error or error
        self._call(self._ended.set)
        self._call(self._changed.set)

    def drain(self, grace: float | None) -> None:
        """Send nothing more. Batches go on without us, so nothing is waited for."""
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
        while not self._turn.acquire(blocking=False):
            await asyncio.sleep(0.1)
        try:
            await self._adopt()
            self._ready.set()
            for batch in self.open.values():
                self._start(self._follow(batch, adopted=True))
            await self._send_all()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._client.endpoint.aclose()
            self._turn.release()
        if self.open or self.waiting.unsent:
            raise LimitReached(self._describe_rest())

    async def _adopt(self) -> None:
        """Take over the batches that earlier runs have left open."""
        for batch in self._log.open():
            if not batch.id and batch.file:
                batch = await self._find(batch)
            keys = self._log.keys(batch) if batch.id else []
            if keys:
                self.waiting.expect(batch.number, keys)
                self.open[batch.number] = batch
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
        return bool(unsent) and ready and not self._too_dear and len(self.open) < self._at_once

    async def _write(self, file: BinaryIO) -> OpenBatch | None:
        """Write a batch's file and note in the journal what will be sent; None if it may not cost.

        Raises:
            LimitReached: the budget is used up.
        """
        size, keys, rows = 0, {}, []
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
        if self._too_dear and not rows and not self.open:
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
        batch = self.open[batch.number] = self._log.note_id(batch, state.id)
        _log.info("%s: made of %d requests", batch.id, batch.requests)
        if self._wait:
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
        if self._cancel:
            await self._client.cancel(batch.id)
        for attempt in count():
            state = await self._client.state(batch.id)
            self.done[batch.number] = state.results or 0
            if state.status != "open":
                break
            if not self._wait:
                return
            await self._client.sleep(pause(attempt))
        _log.info("%s: %s", batch.id, state.status)
        accepted = await self._results.take(batch, state)
        del self.open[batch.number], self.done[batch.number]
        self._too_dear = False
        if not accepted and self.open:
            self._at_once = len(self.open)
        elif not accepted:
            self._size = max(1, batch.requests // 2)
            await self._client.sleep(pause(6))

    def _describe_rest(self) -> str:
        ...
