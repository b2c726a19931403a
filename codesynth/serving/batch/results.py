"""Read the results of a batch line by line, store them and hand them on."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from itertools import islice

from codesynth.errors import EndpointError
from codesynth.journal import BatchLog, OpenBatch, StoredAnswer
from codesynth.models import Failure, Response, Usage
from codesynth.serving.batch.client import BatchClient, CallError
from codesynth.serving.batch.shapes import BatchResult, BatchState
from codesynth.serving.batch.waiting import Waiting, WaitingRow, scratch_file
from codesynth.serving.limits import Budget
from codesynth.serving.outcomes import Outcome, read_outcome
from codesynth.serving.stream import Channel

_log = logging.getLogger(__name__)
_GROUP = 500
"""Lines whose answers are stored in one transaction."""
_MAX_QUEUED = 1000
"""Most responses that wait for the caller: reading results is faster than writing rows."""


@dataclass
class ResultReader:
    """Takes the results of batches that have ended.

    An answer is in the journal before its row is handed on and before its batch is closed.
    """

    client: BatchClient
    log: BatchLog
    waiting: Waiting
    channel: Channel
    budget: Budget | None
    max_retries: int
    _answered: bool = False

    async def read(self, batch: OpenBatch, state: BatchState) -> int:
        """Store all results of a batch and hand on their rows; return how many there are.

        Raises:
            CallError: no line of a file can be read; it may be complete later.
            EndpointError: no request can succeed.
        """
        return sum([await self._read_file(batch, name) for name in state.files])

    def close(self, batch: OpenBatch, failed: str = "") -> None:
        """Forget a batch; its rows without an answer wait for another one.

        Args:
            failed: why the rows have no answer. It counts as an attempt; rows with no retries left
                fail with it. Empty counts no attempt.
        """
        if failed:
            outcome = Outcome(failure=Failure("server_error", failed))
            for row in self.waiting.rows(batch.number):
                if row.attempts >= self.max_retries:
                    self._hand_on([(row, outcome)])
        for cost in batch.reserved:
            assert self.budget is not None  # noqa: S101 - else nothing is set aside
            self.budget.settle(cost, b"", None, billed=False)
        self.waiting.give_back(batch.number, attempts=int(bool(failed)))
        self.log.close(batch)

    async def _read_file(self, batch: OpenBatch, name: str) -> int:
        count, fault = 0, ""
        with scratch_file() as file:
            await self.client.download(name, file)
            while lines := [*islice(file, _GROUP)]:
                results = []
                for line in filter(bytes.strip, lines):
                    try:
                        results.append(self.client.shape.result(line))
                    except ValueError as exc:  # the other lines are paid for
                        fault = f"{batch.id}: {name}: {exc}"
                self._store(batch, results)
                count += len(results)
                await asyncio.sleep(0)
                while self.channel.waiting > _MAX_QUEUED and not self.channel.closed:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)  # the caller is in another thread
        if fault and not count:
            raise CallError(f"{fault}. Run again to retry")
        if fault and not batch.looks:  # each look finds it again
            _log.warning("A line of results cannot be read: %s", fault)
        return count

    def _store(self, batch: OpenBatch, results: list[BatchResult]) -> None:
        """Store some answers, then hand on their rows.

        Raises:
            EndpointError: no request can succeed.
        """
        found: dict[int, tuple[WaitingRow, Outcome]] = {}
        refused = ""
        for result in results:
            row = self.waiting.find(result.key, batch.number)
            if row is None:  # an earlier file had it
                continue
            outcome = self._outcome_of(result)
            self._answered = self._answered or outcome.answer is not None
            if row.request and (outcome.quota or (outcome.denied and not self._answered)):
                refused = outcome.failure.message if outcome.failure else ""
            elif not outcome.retry or row.attempts >= self.max_retries:
                found[row.number] = row, outcome
        self._hand_on([*found.values()])
        if refused:
            self.close(batch)
            raise EndpointError(f"{batch.id}: every request is refused: {refused}")

    def _outcome_of(self, result: BatchResult) -> Outcome:
        redact = self.client.endpoint.secrets.hide
        if result.status:
            return read_outcome(result.status, {}, result.body, redact)
        return Outcome(failure=Failure("server_error", redact(result.message)), retry=True)

    def _hand_on(self, group: list[tuple[WaitingRow, Outcome]]) -> None:
        answers = [
            StoredAnswer(row.key, each.body, row.attempts + 1, used=each.answer.usage or Usage())
            for row, each in group
            if each.answer is not None
        ]
        if answers:
            self.log.journal.put(answers)
        if self.budget is not None:
            self.budget.spent += sum(self.budget.price.of(each.used) for each in answers)
        self.waiting.drop(row for row, _ in group)
        for row, outcome in group:
            if row.request is not None:
                error = outcome.failure and replace(outcome.failure, attempts=row.attempts + 1)
                body, answer, attempts = outcome.body, outcome.answer, row.attempts + 1
                self.channel.put(Response(row.request, body, answer, error, attempts, stored=True))
