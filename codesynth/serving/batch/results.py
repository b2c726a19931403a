"""Read the results of batches, and store the answers in the journal."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeAlias

from codesynth.journal import Journal, OpenBatch, StoredAnswer
from codesynth.models import Failure, Request, Response, Usage
from codesynth.serving.answers import read_completion, read_json
from codesynth.serving.batch.client import BatchClient, CallError
from codesynth.serving.batch.shapes import UNREADABLE, BatchResult
from codesynth.serving.limits import Budget
from codesynth.serving.outcomes import Outcome, read_outcome

_log = logging.getLogger(__name__)
_GROUP = 500
"""Lines whose answers are stored in one transaction."""

Found: TypeAlias = dict[bytes, Outcome | None]
"""The results of a batch by the key of the request; None where the journal has the answer."""


@dataclass(frozen=True, slots=True)
class ResultReader:
    """Reads the results of batches that have ended.

    Attributes:
        attempts: by the key of a request, the batches that gave no answer to it.
    """

    client: BatchClient
    journal: Journal
    budget: Budget | None
    attempts: Mapping[bytes, int]

    def read(self, batch: OpenBatch, files: Iterable[str]) -> Found:
        """Read the results in some files, line by line, and store the answers.

        Raises:
            CallError: no line of a file can be read; it may be complete later.
        """
        found: Found = {}
        for name in files:
            fault = self._read_file(name, found)
            if fault and not batch.looks:  # each look finds it again
                _log.warning("A line of results cannot be read: %s: %s", batch.id, fault)
        self.journal.refresh()
        return found

    def _read_file(self, name: str, found: Found) -> str:
        """Read one file; return what cannot be read in it."""
        fault, is_readable = "", False
        with tempfile.TemporaryFile(prefix="codesynth-") as file:
            self.client.download(name, file)
            while lines := [*islice(file, _GROUP)]:
                results = []
                for line in filter(bytes.strip, lines):
                    try:
                        results.append(self.client.shape.result(read_json(line)))
                    except UNREADABLE as exc:  # the other lines are paid for
                        fault = f"{name}: {exc}"
                is_readable = is_readable or bool(results)
                self._store(results, found)
        if fault and not is_readable:
            raise CallError(f"{fault}. Run again to retry")
        return fault

    def _store(self, results: Iterable[BatchResult], found: Found) -> None:
        answers = []
        for result in results:
            if result.key in found:  # it stands there twice
                continue
            outcome = self._outcome_of(result)
            found[result.key] = outcome if outcome.answer is None else None
            if outcome.answer is not None and self.journal.get(result.key) is None:
                used, attempts = outcome.answer.usage or Usage(), self.attempts[result.key] + 1
                answers.append(StoredAnswer(result.key, outcome.body, attempts, used=used))
        self.journal.put(answers)
        if self.budget is not None:
            self.budget.spent += sum(self.budget.price.of(each.used) for each in answers)

    def _outcome_of(self, result: BatchResult) -> Outcome:
        hide = self.client.endpoint.secrets.hide
        if result.status:
            return read_outcome(result.status, {}, result.body, hide)
        return Outcome(failure=Failure("server_error", hide(result.error)), retry=True)

    def read_stored(self, request: Request, attempts: int) -> Response:
        """Make the response to a request whose answer is in the journal."""
        stored = self.journal.get(request.key)
        body = stored.body if stored is not None else b""
        answer, error = read_completion(body, self.client.endpoint.secrets.hide)
        error = error and replace(error, attempts=attempts)
        return Response(request, body, answer, error, attempts, stored=True)
