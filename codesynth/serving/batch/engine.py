"""Write requests to files, make batches of the files, and read their results."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO
from uuid import uuid4

from codesynth.errors import EndpointError, LimitReached
from codesynth.journal import BatchLog, OpenBatch
from codesynth.models import Request
from codesynth.serving.batch.client import BatchClient, CallError
from codesynth.serving.batch.results import ResultReader
from codesynth.serving.batch.shapes import BatchState
from codesynth.serving.batch.waiting import UNSENT, Waiting, scratch_file
from codesynth.serving.limits import Budget
from codesynth.serving.stream import Channel

_log = logging.getLogger(__name__)
MAX_BYTES = 100_000_000
"""Most bytes of one file; OpenAI allows twice as much, Together no more than this."""
_LISTED_SECONDS = 3.0
"""After this time, a new batch is in the provider's list of batches."""
_LOOKS = 5
"""How often to look again for missing results of a finished batch: its files may be late."""
_MAX_PAUSE = 60.0
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """How batches are made and waited for.

    Attributes:
        size: most requests in a batch.
        max_retries: how often a row without an answer is put into a further batch.
        max_outage: seconds without a successful call after which the run stops.
        wait: wait for running batches; else a later run collects them.
        cancel: cancel the batches that earlier runs have left open.
        budget: what the run may cost; with a limit it must know ``max_tokens``.
    """

    size: int = 50_000
    max_retries: int = 5
    max_outage: float = 300.0
    wait: bool = True
    cancel: bool = False
    budget: Budget | None = None
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic


class BatchEngine:
    """Answers the requests of one stream; see ``stream.Engine``.

    When all requests are there, it works in rounds. In each round every open batch is taken one
    step further, and new batches are made of the rows that are in none. Each step is in the
    journal, so after a failed call the next round continues, and after a killed run the next run.

    Args:
        turn: held while the engine works, so that no other engine works on the same batches.
    """

    max_unfinished = sys.maxsize  # requests that wait are on the disk

    def __init__(
        self, client: BatchClient, log: BatchLog, options: BatchOptions, turn: threading.Lock
    ) -> None:
        self._client, self._log, self._options, self._turn = client, log, options, turn
        self.channel, self.waiting = Channel(), Waiting()
        self._results = ResultReader(
            client, log, self.waiting, self.channel, options.budget, options.max_retries
        )
        limited = options.budget is not None and options.budget.limit is not None
        self._budget = options.budget if limited else None
        self._open: list[OpenBatch] = []
        self._size, self._most_open, self._started = options.size, sys.maxsize, options.clock()
        self._succeeded = self._started
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._finished = threading.Event()

    def submit(self, request: Request) -> None:
        """Take a request; called from the feeder's thread."""
        if not self._stopped:
            self.waiting.add(request)

    def end_requests(self, error: BaseException | None) -> None:
        """Make batches of the requests and take their results, in the feeder's thread."""
        try:
            if error is None:
                with self._turn:
                    asyncio.run(self._work())
        except asyncio.CancelledError:
            pass
        except BaseException as exc:  # it is raised again in the caller's thread
            error = exc
        self.channel.finish(error)
        self._finished.set()

    def drain(self, grace: float | None) -> None:
        """Send nothing more, and end at once: the batches go on at the provider."""
        self._stopped = True
        if self._task is None:
            self.channel.finish()
        else:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def close(self) -> None:
        """Stop; the next run finds the open batches in the journal."""
        self.drain(0.0)
        if self._task is not None and not sys.is_finalizing():
            self._finished.wait(_CLOSE_SECONDS)

    async def _work(self) -> None:
        """Work in rounds until nothing is left to do.

        Raises:
            LimitReached: batches are still running, or the budget is used up.
        """
        self._task = asyncio.current_task()
        try:
            self._adopt()
            await self._go_on()
        finally:
            await self._client.endpoint.aclose()
        if self._open and not self._stopped:
            raise LimitReached(self._describe_open())
        if self.waiting.unsent and not self._stopped:
            raise LimitReached("--max-cost is reached. Run again with a higher one to continue")

    async def _go_on(self) -> None:
        attempt, self._succeeded = 0, self._options.clock()
        while not self._stopped:
            delay = min(2.0 ** min(attempt, 6), _MAX_PAUSE)
            try:
                moved = await self._go_round()
            except CallError as exc:
                outage = self._options.clock() - self._succeeded
                if exc.after is None or outage >= self._options.max_outage:
                    raise
                delay = max(delay, exc.after)
            else:
                waits = self._options.wait or any(each.looks for each in self._open)
                if not (self._open and waits):
                    return
                if moved:
                    attempt = 0
                    continue
            await self._options.sleep(delay)
            attempt += 1

    async def _go_round(self) -> bool:
        """Take each open batch one step further, and make new ones; False if nothing changed."""
        moved = False
        for batch in [*self._open]:
            moved = await self._advance(batch) or moved
            self._succeeded = self._options.clock()
        while len(self._open) < self._most_open and await self._send():
            moved = True
            self._succeeded = self._options.clock()
        return moved

    def _adopt(self) -> None:
        """Take over the batches that earlier runs have left open."""
        for batch in self._log.open():
            keys = self._log.keys(batch) if batch.file else {}
            if keys:
                self.waiting.expect(batch.number, keys)
                self._open.append(batch)
                self._reserve(batch)
            else:  # it was never made, or the journal has all its answers
                self._log.close(batch)

    def _reserve(self, batch: OpenBatch) -> None:
        """Set money aside for the rows of an earlier run's batch."""
        if self._budget is not None:
            rows = [row.request for row in self.waiting.rows(batch.number)]
            costs = [self._budget.reserve(each.body) for each in rows if each is not None]
            batch.reserved = [cost for cost in costs if cost is not None]

    async def _advance(self, batch: OpenBatch) -> bool:
        """Make a batch, or take its results; False while it is running."""
        if not batch.id:  # a run was killed, or got no reply; the batch may exist all the same
            await self._options.sleep(_LISTED_SECONDS)
            if (state := await self._client.find(batch.file, batch.uuid)) is not None:
                self._note(batch, state)
            elif self._options.cancel:
                self._close(batch)
            else:
                await self._create(batch)
            return True
        try:
            if self._options.cancel:
                await self._client.cancel(batch.id)
            state = await self._client.state(batch.id)
        except CallError as exc:
            if exc.status != 404:
                raise
            if not self._options.cancel:
                raise CallError(f"{exc}. Run with --cancel to give up this batch", 404) from exc
            self._close(batch)
            return True
        batch.done = state.results or 0
        return state.status != "open" and await self._collect(batch, state)

    async def _collect(self, batch: OpenBatch, state: BatchState) -> bool:
        """Take the results of a batch that has ended; False if some are still missing.

        Raises:
            EndpointError: the whole batch was refused.
        """
        seen = await self._results.read(batch, state)
        if state.status == "failed" and not seen:
            self._close(batch)
            await self._send_less(batch, state)
            return True
        counted = state.results if state.status != "completed" else None
        if seen < (batch.requests if counted is None else counted) and batch.looks < _LOOKS:
            batch.looks += 1
            return False
        _log.info("%s: %s", batch.id, state.status)
        self._close(batch, f"{batch.id} is {state.status} without an answer to this row")
        return True

    async def _send_less(self, batch: OpenBatch, state: BatchState) -> None:
        """Make fewer or smaller batches, if the provider says that too many tokens wait there.

        Raises:
            EndpointError: the batch has failed for another reason.
        """
        words = "; ".join(state.errors) or "no reason given"
        if "token_limit_exceeded" not in words and "enqueued token" not in words.lower():
            words = self._client.endpoint.secrets.hide(words)
            raise EndpointError(f"{batch.id} has failed: {words}")
        self._most_open = max(1, len(self._open))
        if not self._open:
            self._size = max(1, batch.requests // 2)
            await self._options.sleep(_MAX_PAUSE)

    def _close(self, batch: OpenBatch, failed: str = "") -> None:
        self._results.close(batch, failed)
        self._open.remove(batch)

    async def _send(self) -> bool:
        """Make a batch of rows that are in none; False if there are none, or no money for them.

        Each step is in the journal before the next one begins.
        """
        with scratch_file() as file:
            if (batch := self._write(file)) is None:
                return False
            self._open.append(batch)
            try:
                self._log.note(batch, file=await self._client.upload(file))
                self._succeeded = self._options.clock()  # it may have taken minutes
            except CallError as exc:
                self._close(batch)
                if exc.status not in (400, 413) or batch.requests == 1:
                    raise
                self._size = batch.requests // 2
                _log.info("%s. Now with %d requests", exc, self._size)
                return True
        await self._create(batch)
        return True

    async def _create(self, batch: OpenBatch) -> None:
        try:
            self._note(batch, await self._client.create(batch.file, batch.uuid))
        except CallError as exc:
            if exc.after is None:
                self._close(batch)
            raise

    def _note(self, batch: OpenBatch, state: BatchState) -> None:
        self._log.note(batch, batch_id=state.id)
        _log.info("%s: made of %d requests", state.id, batch.requests)

    def _write(self, file: BinaryIO) -> OpenBatch | None:
        """Write a file of requests, and store their keys in the journal; None if there are none."""
        size, last, keys, costs = 0, 0, dict[bytes, int](), list[float]()
        for row in self.waiting.rows(UNSENT):
            assert row.request is not None  # noqa: S101 - those without are in a batch
            line = self._client.shape.line(row.key, row.request.body)
            if len(keys) == self._size or (keys and size + len(line) > MAX_BYTES):
                break
            if self._budget is not None:
                if (cost := self._budget.reserve(row.request.body)) is None:
                    break
                costs.append(cost)
            size += file.write(line)
            keys[row.key], last = row.attempts, row.number
        if not keys:
            return None
        batch = self._log.add(uuid4().hex, keys)
        self.waiting.assign(batch.number, last)
        batch.reserved = costs
        return batch

    def _describe_open(self) -> str:
        ids = ", ".join(batch.id for batch in self._open)
        requests = sum(batch.requests for batch in self._open)
        waits = f"; {self.waiting.unsent} wait to be sent" if self.waiting.unsent else ""
        again = "Run the same command again to collect them"
        return f"{requests} requests are in open batches: {ids}{waits}. {again}"

    def status(self) -> str:
        """Words for the bar: how many batches and requests are done."""
        if not (batches := [batch for batch in self._open if batch.id]):
            return ""
        requests, done = sum(each.requests for each in batches), sum(each.done for each in batches)
        minutes = (self._options.clock() - self._started) / 60
        return f"{len(batches)} batches for {minutes:.0f} min: {done} of {requests} requests done"
