"""Every answer that was paid for is kept; in front of any LLMServing.

An answer is committed before it is handed on, all that is waiting in one transaction. A key is the
hash of a request's body with the number of equal requests before it in the run: no position, URL,
key or timeout, so a rerun finds its answers after lines were added, removed or moved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

from codesynth.models import UNUSABLE_ANSWERS, Failure, Request, Response, Usage
from codesynth.serving import LLMServing
from codesynth.serving.journal_file import Journal
from codesynth.serving.occurrences import Occurrences

__all__ = ["Journal", "JournaledServing"]

_GROUP = 512  # answers in one transaction, at most


class JournaledServing:
    """Answers from the journal what it knows; asks ``serving`` the rest and stores it.

    Args:
        body: a request's body in its canonical form, which is what its key is made of.
        before_asking: called once, before the first request that the journal cannot answer.
    """

    def __init__(
        self,
        journal: Journal,
        serving: LLMServing,
        body: Callable[[Request], bytes],
        *,
        before_asking: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._serving = serving
        self._body = body
        self._before_asking = before_asking

    def count(self, requests: Iterable[Request]) -> tuple[int, int]:
        """Count the requests that the journal answers, and those it does not."""
        fit = new = 0
        keys: dict[int, bytes] = {}
        for request in self._ask(requests, keys, lambda: None):
            keys.clear()
            fit += request.known is not None and request.known.cached
            new += request.known is None
        return fit, new

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answer each request, in any order; see ``LLMServing``."""
        keys: dict[int, bytes] = {}
        asked = self._ask(requests, keys, self._before_asking)
        return _Stored(self._journal, self._serving.generate(asked), keys)

    def _ask(
        self, requests: Iterable[Request], keys: dict[int, bytes], before: Callable[[], None]
    ) -> Iterator[Request]:
        """Give known answers to requests; runs in the thread that pulls them."""
        occurrences = Occurrences()
        may_know = self._journal.index() > 0
        asked = False
        for request in requests:
            if request.known is not None:
                yield request
                continue
            digest = blake2b(self._body(request), digest_size=16).digest()
            number = occurrences.count(digest)
            key = digest + number.to_bytes(4, "big") if number else digest
            answer = self._journal.get(key) if may_know else None
            if answer is not None:
                known = _response(request, answer)
                yield Request(
                    request.custom_id, request.messages, request.record, request.position, known
                )
                continue
            if not asked:
                asked = True
                before()
            keys[request.position] = key
            yield request


class _Stored(Iterator[Response]):
    """Responses, each in the journal before it is handed on."""

    def __init__(
        self, journal: Journal, responses: Iterator[Response], keys: dict[int, bytes]
    ) -> None:
        self._journal = journal
        self._responses = responses
        self._wait = getattr(responses, "wait", None)
        self._keys = keys
        self._ready: deque[Response] = deque()
        self._error: BaseException | None = None

    def __next__(self) -> Response:
        if not self._ready and self._error is None:
            self._take_all()
        if not self._ready and self._error is not None:
            raise self._error
        return self._ready.popleft()

    def _take_all(self) -> None:
        """Take what is waiting and commit it in one transaction."""
        batch = []
        try:
            batch.append(next(self._responses))
            while len(batch) < _GROUP and self._wait is not None and self._wait(0):
                batch.append(next(self._responses))
        except BaseException as exc:  # what came before it is stored and handed on first
            self._error = exc
        new = [
            (key, _answer(response), response.usage)
            for response in batch
            if (key := self._keys.pop(response.request.position, None)) and _is_answer(response)
        ]
        if new:
            self._journal.put(new)
        self._ready.extend(batch)

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once, or nearly; False after ``timeout`` seconds."""
        if self._ready or self._error is not None or self._wait is None:
            return True
        return bool(self._wait(timeout))

    def drain(self, grace: float | None) -> None:
        """Send nothing more; see ``Window``."""
        drain = getattr(self._responses, "drain", None) or (lambda _: self.close())
        drain(grace)

    def close(self) -> None:
        """Cancel what is in flight."""
        close = getattr(self._responses, "close", None)
        if close is not None:
            close()


def _is_answer(response: Response) -> bool:
    return response.error is None or response.error.kind in UNUSABLE_ANSWERS


def _answer(response: Response) -> list[Any]:
    usage, error = response.usage, response.error
    return [
        response.text,
        response.finish_reason,
        response.model,
        response.attempts,
        [usage.prompt_tokens, usage.completion_tokens] if usage else None,
        [error.kind, error.message, error.status] if error else None,
    ]  # read by _response


def _response(request: Request, answer: list[Any]) -> Response:
    text, finish_reason, model, attempts, usage, error = answer
    return Response(
        request=request,
        text=text,
        finish_reason=finish_reason,
        usage=Usage(*usage) if usage else None,
        model=model,
        attempts=attempts,
        error=Failure(error[0], error[1], error[2], attempts) if error else None,
        cached=True,
    )
