"""Answer requests by batches: write them to files, make batches of the files, read the results."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from codesynth.errors import EndpointError, LimitReached
from codesynth.journal import BatchLog, OpenBatch
from codesynth.models import Failure, Request, Response
from codesynth.serving.batch.client import BatchClient, CallError
from codesynth.serving.batch.rows import BatchRows
from codesynth.serving.batch.shapes import BatchState
from codesynth.serving.limits import Budget
from codesynth.serving.stream import Channel
from codesynth.storage.scratch import scratch_file

_log = logging.getLogger(__name__)
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
        sleep: called with seconds; None waits until the stream is closed, at most.
    """

    size: int = 50_000
    max_retries: int = 5
    max_outage: float = 300.0
    wait: bool = True
    cancel: bool = False
    budget: Budget | None = None
    sleep: Callable[[float], object] | None = None
    clock: Callable[[], float] = time.monotonic


class BatchEngine:
    """Answers the requests of one stream, in the feeder's thread; see ``stream.Engine``.

    When all requests are there, it works in rounds. In each round every open batch is taken one
    step further, and new batches are made of the requests that are in none. Each step is in the
    journal, so after a failed call the next round continues, and after a killed run the next run.

    Args:
        turn: held while the engine works, so that no other engine works on the same batches.
    """

    max_unfinished = 1000  # responses that wait for the caller; requests wait on the disk

    def __init__(
        self, client: BatchClient, log: BatchLog, options: BatchOptions, turn: threading.Lock
    ) -> None:
        self._client, self._log, self._options, self._turn = client, log, options, turn
        self.channel = Channel()
        self._rows = BatchRows(client, log.journal, options.budget, options.max_retries)
        self._open: list[OpenBatch] = []
        self._size, self._most_open = options.size, sys.maxsize
        self._started = options.clock()
        self._succeeded: float | None = None  # when the last call succeeded
        self._stopped, self._finished = threading.Event(), threading.Event()
        self._sleep = options.sleep or self._stopped.wait

    def submit(self, request: Request) -> None:
        """Do nothing: ``respond`` takes the requests."""

    def end_requests(self, error: BaseException | None) -> None:
        """End the stream."""
        self.channel.finish(error)
        self._finished.set()

    def drain(self, grace: float | None) -> None:
        """End at once: the batches go on at the provider."""
        self._stopped.set()
        self.channel.finish()

    def close(self) -> None:
        """End at once; the next run finds the open batches in the journal."""
        self.drain(0.0)
        if self._turn.locked() and not sys.is_finalizing():
            self._finished.wait(_CLOSE_SECONDS)

    def respond(self, items: Iterable[Request | Response]) -> Iterator[Response]:
        """Yield the response to each request.

        Raises:
            LimitReached: batches are still running, or the budget is used up.
        """
        for item in items:
            if isinstance(item, Response):
                yield item
                continue
            try:
                self._rows.add(item)
            except RecursionError:  # it cannot be written to the temporary file
                yield Response(item, error=Failure("invalid_json", "the row is nested too deeply"))
        with self._turn, self._client.connected():
            self._adopt()
            yield from self._go_on()
        if self._stopped.is_set():
            return
        if self._open:
            raise LimitReached(self._describe_open())
        if self._rows.unsent:
            raise LimitReached("--max-cost is reached. Run again with a higher one to continue")

    def _adopt(self) -> None:
        """Take over the batches that earlier runs have left open, and find their requests."""
        owners, attempts = dict[bytes, OpenBatch](), dict[bytes, int]()
        for batch in self._log.open():
            keys = self._log.keys(batch) if batch.file else {}
            if not keys:  # it was never made, or the journal has all its answers
                self._log.close(batch)
                continue
            self._open.append(batch)
            owners |= dict.fromkeys(keys, batch)
            attempts |= {key: tried for key, tried in keys.items() if tried}
        if owners:
            self._rows.adopt(owners, attempts)

    def _go_on(self) -> Iterator[Response]:
        """Work in rounds until nothing is left to do."""
        attempt, self._started = 0, self._options.clock()
        while not self._stopped.is_set():
            before = [(each.number, each.id) for each in self._open]
            delay = min(2.0 ** min(attempt - 1, 6), _MAX_PAUSE)
            try:
                yield from self._go_round()
            except CallError as exc:
                if exc.after is None or self._is_endpoint_down(attempt):
                    raise
                delay = max(delay, exc.after)
                _log.info("%s; attempt %d in %.1f s", exc, attempt + 2, delay)
            else:
                waits = self._options.wait or any(each.looks for each in self._open)
                if not (self._open and waits):
                    return
                if before != [(each.number, each.id) for each in self._open]:
                    attempt = 0
                    continue
            self._sleep(delay)
            attempt += 1

    def _is_endpoint_down(self, retries: int) -> bool:
        """Tell whether the endpoint was down from the start, or is for too long."""
        since = self._started if self._succeeded is None else self._succeeded
        is_dead = self._succeeded is None and retries >= self._options.max_retries
        return is_dead or self._options.clock() - since >= self._options.max_outage

    def _go_round(self) -> Iterator[Response]:
        """Take each open batch one step further, and make new ones."""
        for batch in [*self._open]:
            yield from self._advance(batch)
            self._succeeded = self._options.clock()
        while len(self._open) < self._most_open and not self._stopped.is_set() and self._send():
            self._succeeded = self._options.clock()

    def _advance(self, batch: OpenBatch) -> Iterator[Response]:
        """Make a batch, or take its results if it has ended."""
        if not batch.id:
            self._create(batch, is_new=False)
            return
        try:
            if self._options.cancel:
                self._client.cancel(batch.id)
            state = self._client.state(batch.id)
        except CallError as exc:
            if exc.status != 404:
                raise
            if not self._options.cancel:
                raise CallError(f"{exc}. Run with --cancel to give up this batch", 404) from exc
            self._close(batch)
            return
        batch.done = state.results or 0
        if state.status != "open":
            yield from self._collect(batch, state)

    def _create(self, batch: OpenBatch, *, is_new: bool) -> None:
        """Make a batch, unless a killed run or a call without a reply has made it."""
        state = None
        if not is_new:
            self._sleep(_LISTED_SECONDS)
            state = self._client.find(batch.file, batch.uuid)
            if state is None and self._options.cancel:
                self._close(batch)
                return
        if state is None and self._stopped.is_set():
            return  # the next run makes it
        try:
            state = state or self._client.create(batch.file, batch.uuid)
        except CallError as exc:
            if exc.after is None:
                self._close(batch)
            raise
        self._log.note(batch, batch_id=state.id)
        _log.info("%s: made of %d requests", state.id, batch.requests)

    def _collect(self, batch: OpenBatch, state: BatchState) -> Iterator[Response]:
        """Take the results of a batch that has ended, unless some are still missing."""
        found = self._rows.read_results(batch, state.files)
        if state.status == "failed" and not found:
            self._close(batch)
            self._send_less(batch, state.error)
            return
        counted = state.results if state.status != "completed" else None
        if len(found) < (batch.requests if counted is None else counted) and batch.looks < _LOOKS:
            batch.looks += 1
            return
        _log.info("%s: %s", batch.id, state.status)
        rows = self._rows.take(batch)
        self._close(batch)
        yield from self._rows.respond(rows, found, batch.id, state.status)

    def _send_less(self, batch: OpenBatch, error: str) -> None:
        """Make fewer or smaller batches, if the provider says that too many tokens wait there.

        Raises:
            EndpointError: the batch has failed for another reason.
        """
        if not re.search("token_limit_exceeded|enqueued token", error, re.IGNORECASE):
            words = self._client.endpoint.secrets.hide(error or "no reason given")
            raise EndpointError(f"{batch.id} has failed: {words}")
        self._most_open = max(1, len(self._open))
        if not self._open:
            self._size = max(1, batch.requests // 2)
            self._sleep(_MAX_PAUSE)

    def _close(self, batch: OpenBatch) -> None:
        """Forget a batch; the rows that it still has become unsent."""
        self._rows.release(batch)
        self._open.remove(batch)
        self._log.close(batch)

    def _send(self) -> bool:
        """Make a batch of unsent rows; False if there are none, or no money for them.

        Each step is in the journal before the next one begins.
        """
        with scratch_file() as file:
            keys, costs = self._rows.write(file, self._size)
            if not keys:
                return False
            batch = self._log.add(uuid4().hex, keys)
            batch.reserved = costs
            self._open.append(batch)
            self._rows.assign(batch)
            try:
                self._log.note(batch, file=self._client.upload(file))
                self._succeeded = self._options.clock()  # it may have taken minutes
            except CallError as exc:
                self._close(batch)
                if exc.status not in (400, 413) or batch.requests == 1:
                    raise
                self._size = batch.requests // 2
                _log.info("%s. Now with %d requests", exc, self._size)
                return True
        self._create(batch, is_new=True)
        return True

    def _describe_open(self) -> str:
        ids = ", ".join(batch.id for batch in self._open)
        requests = sum(batch.requests for batch in self._open)
        unsent = len(self._rows.unsent)
        waits = f"; {unsent} wait to be sent" if unsent else ""
        again = "Run the same command again to collect them"
        return f"{requests} requests are in open batches: {ids}{waits}. {again}"

    def status(self) -> str:
        """Words for the bar: how many batches and requests are done."""
        if not (batches := [batch for batch in self._open if batch.id]):
            return ""
        requests, done = sum(each.requests for each in batches), sum(each.done for each in batches)
        minutes = (self._options.clock() - self._started) / 60
        return f"{len(batches)} batches for {minutes:.0f} min: {done} of {requests} requests done"
