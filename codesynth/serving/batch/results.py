"""Results of a batch: read line by line, committed, handed on; and what is left over."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from codesynth.errors import EndpointError
from codesynth.journal import BatchLog, OpenBatch, StoredAnswer
from codesynth.models import Failure, Response, Usage
from codesynth.serving.batch.client import BatchClient, pause
from codesynth.serving.batch.shapes import BatchError, BatchResult, BatchState
from codesynth.serving.batch.waiting import Waiting, WaitingRow, scratch_file
from codesynth.serving.limits import Budget
from codesynth.serving.outcomes import Outcome, read_outcome
from codesynth.serving.stream import Channel

_log = logging.getLogger(__name__)
_GROUP = 500
"""Lines whose answers are committed in one transaction."""
_MAX_QUEUED = 1000
"""Responses that the caller has not taken: reading is faster than writing rows."""
_LOOKS = 5
"""How often to look again for a file that a batch should have: it may come later than the end."""


class Results:
    """Takes the results of batches that have ended, one batch after the other.

    An answer is in the journal before its row is handed on, and before its batch is closed there.

    Args:
        max_retries: batches that a row may be in after its first one.
    """

    def __init__(
        self,
        client: BatchClient,
        log: BatchLog,
        waiting: Waiting,
        channel: Channel,
        budget: Budget | None,
        max_retries: int,
    ) -> None:
        self._client, self._log, self._waiting, self._channel = client, log, waiting, channel
        self._budget, self._max_retries = budget, max_retries
        self._turn = asyncio.Lock()
        self._answered = False
        self._group: dict[int, tuple[WaitingRow, Outcome]] = {}
        self._failures: dict[int, Failure] = {}

    async def take(self, batch: OpenBatch, state: BatchState) -> bool:
        """Take all results of a batch; False where it was too large to be accepted.

        Raises:
            EndpointError: all of it was refused, or its results cannot be read.
        """
        async with self._turn:
            seen = await self._read_files(batch, state)
            if state.status == "failed" and not seen:
                if any(_is_limit(error) for error in state.errors):
                    await self.give_back(batch)
                    return False
                await self._fail_lines(batch, state)
            await self.give_back(
                batch, f"{batch.id} is {state.status} without an answer to this row"
            )
            return True

    async def give_back(self, batch: OpenBatch, failed: str = "") -> None:
        """Close a batch; let its rows that have no answer wait for another one.

        Args:
            failed: counts as an attempt, with these words; rows that have had enough fail.
        """
        for row in self._waiting.rows(batch.number):
            if failed and row.attempts >= self._max_retries:
                failure = self._failures.get(row.number) or Failure("server_error", failed)
                await self._hand_on(row, Outcome(failure=failure, billed=False))
            else:
                self._settle(row, None, billed=False)
        await self._commit()
        self._failures.clear()
        self._waiting.give_back(batch.number, attempts=int(bool(failed)))
        self._log.close(batch)

    async def _read_files(self, batch: OpenBatch, state: BatchState) -> int:
        """Read each file once, also those that come late; return the number of results."""
        read: set[str] = set()
        seen = look = 0
        while True:
            for file in state.files:
                if file not in read:
                    read.add(file)
                    seen += await self._read_file(batch, file)
            counted = state.results if state.status != "completed" else None
            expected = batch.requests if counted is None else counted
            if seen >= expected or state.status == "failed" or look == _LOOKS:
                return seen
            await self._client.sleep(pause(look))
            look += 1
            state = await self._client.state(batch.id)

    async def _read_file(self, batch: OpenBatch, name: str) -> int:
        """Read a file, again where it is damaged; return the number of its results.

        Raises:
            EndpointError: it holds no result at all.
        """
        for attempt in range(3):
            good = bad = 0
            with scratch_file() as file:
                await self._client.download(name, file)
                for line in file:
                    try:
                        await self._read(batch, self._client.shape.result(line))
                        good += 1
                    except ValueError:
                        bad += bool(line.strip())
            await self._commit()
            if not bad:
                return good
            await self._client.sleep(pause(attempt))
        if not good:
            raise EndpointError(f"{batch.id}: the file {name} holds no results. Run again to retry")
        _log.warning("%s: %d lines of the file %s cannot be read", batch.id, bad, name)
        return good

    async def _read(self, batch: OpenBatch, result: BatchResult) -> None:
        row = self._waiting.find(result.key, batch.number)
        if row is None:  # it was in a file before
            return
        outcome = self._judge(result)
        self._answered = self._answered or outcome.answer is not None
        if row.request and (outcome.quota or (outcome.denied and not self._answered)):
            await self.give_back(batch)
            words = outcome.failure.message if outcome.failure else ""
            raise EndpointError(f"{batch.id}: every request is refused: {words}")
        if outcome.retry and row.request and outcome.failure:
            self._failures[row.number] = outcome.failure
        else:
            await self._hand_on(row, outcome)

    def _judge(self, result: BatchResult) -> Outcome:
        if result.status:
            redact = self._client.endpoint.secrets.hide
            return read_outcome(result.status, {}, result.body, redact)
        expired = "expired" in result.message
        failure = Failure("timeout" if expired else "server_error", result.message)
        return Outcome(failure=failure, retry=True, billed=False)

    async def _hand_on(self, row: WaitingRow, outcome: Outcome) -> None:
        """Take what has become of a row; it is handed on with a group of others."""
        self._group.setdefault(row.number, (row, outcome))
        if len(self._group) >= _GROUP:
            await self._commit()

    async def _commit(self) -> None:
        """Store the answers of the group, then hand on its rows."""
        group, self._group = self._group, {}
        stored = [
            StoredAnswer(
                row.key, outcome.body, row.attempts + 1, used=outcome.answer.usage or Usage()
            )
            for row, outcome in group.values()
            if outcome.answer is not None
        ]
        if stored:
            self._log.keep(stored)
        self._waiting.drop(group)
        for row, outcome in group.values():
            answer, attempts = outcome.answer, row.attempts + 1
            self._settle(row, answer.usage if answer else None, billed=outcome.billed)
            if row.request is not None:
                error = outcome.failure and replace(outcome.failure, attempts=attempts)
                self._channel.put(
                    Response(row.request, outcome.body, answer, error, attempts, stored=True)
                )
        while self._channel.waiting > _MAX_QUEUED and not self._channel.closed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)  # the caller is in another thread
        await asyncio.sleep(0)

    def _settle(self, row: WaitingRow, usage: Usage | None, *, billed: bool) -> None:
        if self._budget is not None:
            if row.reserved is not None and row.request is not None:
                self._budget.settle(row.reserved, row.request.body, usage, billed=billed)
            elif usage is not None:
                self._budget.spent += self._budget.price.of(usage)

    async def _fail_lines(self, batch: OpenBatch, state: BatchState) -> None:
        """Fail the rows for which a batch was refused.

        Raises:
            EndpointError: it was refused as a whole.
        """
        redact = self._client.endpoint.secrets.hide
        words = {error.line: redact(f"{error.code}: {error.message}") for error in state.errors}
        if not any(words):
            await self.give_back(batch)
            text = "; ".join(words.values()) or "no reason given"
            raise EndpointError(f"{batch.id} has failed: {text}")
        for line, row in enumerate(self._waiting.rows(batch.number), 1):
            if line in words:
                failure = Failure("rejected", words[line])
                await self._hand_on(row, Outcome(failure=failure, billed=False))


def _is_limit(error: BatchError) -> bool:
    return error.code == "token_limit_exceeded" or "enqueued token" in error.message.lower()
