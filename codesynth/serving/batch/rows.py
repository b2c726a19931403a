"""The rows of a stream: their requests wait on the disk, their answers go into the journal."""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import BinaryIO, TypeAlias

from codesynth.errors import EndpointError
from codesynth.journal import Journal, OpenBatch, StoredAnswer
from codesynth.models import Failure, Request, Response, Usage
from codesynth.serving.answers import read_completion, read_json
from codesynth.serving.batch.client import BatchClient, CallError
from codesynth.serving.batch.shapes import UNREADABLE, BatchResult, read_result
from codesynth.serving.limits import Budget
from codesynth.serving.outcomes import Outcome, read_outcome
from codesynth.storage.scratch import Scratch, scratch_file

_log = logging.getLogger(__name__)
MAX_BYTES = 100_000_000
"""Most bytes of one file; OpenAI allows twice as much, Together no more than this."""
_GROUP = 500
"""Lines whose answers are stored in one transaction."""

Found: TypeAlias = dict[bytes, Outcome | None]
"""The results of a batch by the key of the request; None where the journal has the answer."""


class BatchRows:
    """Requests in a temporary file, of which each takes 8 bytes in memory.

    Attributes:
        unsent: places in the file of the requests that are in no batch.
    """

    def __init__(
        self, client: BatchClient, journal: Journal, budget: Budget | None, max_retries: int
    ) -> None:
        self._client, self._journal, self._budget = client, journal, budget
        self._hide, self._max_retries = client.endpoint.secrets.hide, max_retries
        self._scratch = Scratch()
        self.unsent = array("Q")
        self._sent: dict[int, array[int]] = {}  # the places of a batch's requests, by its number
        self._attempts: Counter[bytes] = Counter()  # batches that gave no answer, by the key
        self._answered = False

    def add(self, request: Request) -> None:
        """Take a request that is in no batch."""
        self.unsent.append(self._scratch.append(request))

    def _read(self, places: Iterable[int]) -> Iterator[tuple[int, Request]]:
        for place in places:
            yield place, self._scratch.read(place)

    def adopt(self, owners: Mapping[bytes, OpenBatch], attempts: Mapping[bytes, int]) -> None:
        """Find the requests that are in open batches already, by their keys."""
        self._attempts.update(attempts)
        places, self.unsent = self.unsent, array("Q")
        for place, request in self._read(places):
            if (owner := owners.get(request.key)) is None:
                self.unsent.append(place)
                continue
            self._sent.setdefault(owner.number, array("Q")).append(place)
            if self._budget is not None and (cost := self._budget.reserve(request.body)):
                owner.reserved.append(cost)

    def write(self, file: BinaryIO, size: int) -> tuple[dict[bytes, int], list[float]]:
        """Write unsent requests to a file, as many as one batch may have and the budget allows.

        Returns:
            the keys of the requests, each with its attempts; and the money that is set aside.
        """
        written, keys, costs = 0, dict[bytes, int](), list[float]()
        for _, request in self._read(self.unsent):
            line = self._client.shape.line(request.key, request.body)
            if len(keys) == size or (keys and written + len(line) > MAX_BYTES):
                break
            if self._budget is not None:
                if (cost := self._budget.reserve(request.body)) is None:
                    break
                costs.append(cost)
            written += file.write(line)
            keys[request.key] = self._attempts[request.key]
        return keys, costs

    def assign(self, batch: OpenBatch) -> None:
        """Put the first unsent requests into a batch."""
        self._sent[batch.number] = self.unsent[: batch.requests]
        del self.unsent[: batch.requests]

    def release(self, batch: OpenBatch) -> None:
        """Make the requests of a batch unsent, and give back the money set aside for them."""
        self.unsent.extend(self._sent.pop(batch.number, ()))
        if self._budget is not None:
            for cost in batch.reserved:
                self._budget.settle(cost, b"", None, billed=False)
        batch.reserved = []

    def read_results(self, batch: OpenBatch, files: Iterable[str]) -> Found:
        """Read the results in some files, line by line, and store the answers.

        Raises:
            CallError: no line of a file can be read; it may be complete later.
        """
        found: Found = {}
        for name in files:
            fault = self._read_file(name, found)
            if fault and not batch.looks:  # each look finds it again
                _log.warning("%s: a line of the results cannot be read: %s", batch.id, fault)
        self._journal.refresh()
        return found

    def _read_file(self, name: str, found: Found) -> str:
        """Read one file; return what cannot be read in it."""
        fault, before = "", len(found)
        with scratch_file() as file:
            self._client.download(name, file)
            while lines := [*islice(file, _GROUP)]:
                results = []
                for line in filter(bytes.strip, lines):
                    try:
                        results.append(read_result(read_json(line)))
                    except UNREADABLE as exc:  # the other lines are paid for
                        fault = f"{name}: {exc}"
                self._store(results, found)
        if fault and len(found) == before:
            raise CallError(f"{fault}. Run again to retry")
        return fault

    def _store(self, results: Iterable[BatchResult], found: Found) -> None:
        answers = []
        for result in results:
            if result.key in found:  # it stands there twice
                continue
            outcome = self._outcome_of(result)
            found[result.key] = outcome if outcome.answer is None else None
            if outcome.answer is not None and self._journal.get(result.key) is None:
                used, attempts = outcome.answer.usage or Usage(), self._attempts[result.key] + 1
                answers.append(StoredAnswer(result.key, outcome.body, attempts, used=used))
        self._journal.put(answers)
        if self._budget is not None:
            self._budget.spent += sum(self._budget.price.of(each.used) for each in answers)

    def _outcome_of(self, result: BatchResult) -> Outcome:
        if result.status:
            return read_outcome(result.status, {}, result.body, self._hide)
        return Outcome(failure=Failure("server_error", self._hide(result.error)), retry=True)

    def take(self, batch: OpenBatch) -> Iterator[tuple[int, Request]]:
        """Remove the requests of a batch; return them with their places."""
        return self._read(self._sent.pop(batch.number, ()))

    def respond(
        self, rows: Iterable[tuple[int, Request]], found: Found, batch: str, status: str
    ) -> Iterator[Response]:
        """Yield the responses to a batch that has ended; a row to be sent again becomes unsent.

        Raises:
            EndpointError: no request can succeed.
        """
        words = f"{batch} is {status} without an answer to this row"
        missing = Outcome(failure=Failure("server_error", words), retry=True)
        self._answered, refusal = self._answered or None in found.values(), ""
        for place, request in rows:
            outcome, attempts = found.get(request.key, missing), self._attempts[request.key] + 1
            if outcome is None:
                yield self._read_stored(request, attempts)
            elif outcome.quota or (outcome.denied and not self._answered):
                refusal = outcome.words
            elif outcome.retry and attempts <= self._max_retries:
                self._attempts[request.key] = attempts
                self.unsent.append(place)
            else:
                error = outcome.failure and replace(outcome.failure, attempts=attempts)
                yield Response(request, error=error, attempts=attempts)
        if refusal:
            raise EndpointError(f"{batch}: requests are refused: {refusal}")

    def _read_stored(self, request: Request, attempts: int) -> Response:
        stored = self._journal.get(request.key)
        body = stored.body if stored is not None else b""
        answer, error = read_completion(body, self._hide)
        error = error and replace(error, attempts=attempts)
        return Response(request, body, answer, error, attempts, stored=True)
