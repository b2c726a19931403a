"""A serving in front of another serving: what the journal knows is not asked again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

from codesynth.journal.store import Journal, StoredAnswer
from codesynth.models import (
    UNUSABLE_ANSWERS,
    Answer,
    Failure,
    Request,
    Response,
    SamplingParams,
    Usage,
)
from codesynth.serving import ChatServing, LLMServing, ResponseStream
from codesynth.serving.answers import read_completion

_GROUP = 512  # answers in one transaction, at most

ReadBody: TypeAlias = Callable[[bytes], tuple[Answer | None, Failure | None]]
"""Reads the body of a response: an answer, a failure, or both for an answer of no use."""


class JournaledServing:
    """Answers from the journal what it knows; asks ``serving`` the rest and stores it.

    Args:
        read: reads a body in the same way as ``serving``.
        also: further journals, read only. Answers that are used are copied into ``journal``.
        before_asking: called once per stream, before the first request that no journal answers.
    """

    def __init__(
        self,
        journal: Journal,
        serving: LLMServing,
        read: ReadBody = read_completion,
        *,
        also: Sequence[Journal] = (),
        before_asking: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal, self._serving, self._read = journal, serving, read
        self._journals = [journal, *also]
        self._before_asking = before_asking

    @property
    def model(self) -> str:
        """The model that ``serving`` asks."""
        return cast("ChatServing", self._serving).model

    @property
    def params(self) -> SamplingParams:
        """The parameters that ``serving`` asks with."""
        return cast("ChatServing", self._serving).params

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        """Answer each request, in any order; see ``LLMServing``.

        Raises:
            JournalError: a journal is damaged.
        """
        self._journal.refresh()
        copies: dict[bytes, StoredAnswer] = {}
        rest = self._answer_known(requests, copies)
        return _JournaledStream(self._journal, self._serving.generate(rest), copies)

    def _answer_known(
        self, requests: Iterable[Request | Response], copies: dict[bytes, StoredAnswer]
    ) -> Iterator[Request | Response]:
        """Answer the known requests and pass the others on; runs in the feeder's thread."""
        asked = False
        for item in requests:
            known = self._answer(item, copies) if isinstance(item, Request) else item
            if known is None and not asked:
                asked = True
                self._before_asking()
            yield known or item

    def _answer(self, request: Request, copies: dict[bytes, StoredAnswer]) -> Response | None:
        for journal in self._journals:
            if (found := journal.get(request.key)) is None:
                continue
            _, body, attempts, seconds, *_ = found
            answer, failure = self._read(body)
            if failure is not None:
                if failure.kind not in UNUSABLE_ANSWERS:
                    continue  # this version of codesynth reads it differently
                failure = replace(failure, attempts=attempts)
            if journal is not self._journal:
                copies[request.key] = found._replace(used=_used(answer))
            return Response(request, body, answer, failure, attempts, seconds, cached=True)
        return None


def _used(answer: Answer | None) -> Usage:
    return (answer and answer.usage) or Usage()


class _JournaledStream(ResponseStream):
    """Responses, each stored before it is handed on.

    Args:
        copies: answers from further journals that will be stored in this one too.
    """

    def __init__(
        self, journal: Journal, responses: ResponseStream, copies: dict[bytes, StoredAnswer]
    ) -> None:
        self._journal, self._responses, self._copies = journal, responses, copies
        self._stored: deque[Response] = deque()
        self._end: BaseException | None = None

    def __next__(self) -> Response:
        while not self._stored:
            if self._end is not None:
                raise self._end
            self._take_waiting()
        return self._stored.popleft()

    def _take_waiting(self) -> None:
        """Take the responses that are ready and store them in one transaction."""
        group: list[Response] = []
        try:
            group.append(next(self._responses))
            while len(group) < _GROUP and self._responses.wait(0):
                group.append(next(self._responses))
        except BaseException as exc:  # raised after the responses before it are handed on
            self._end = exc
        try:
            if answers := [answer for each in group if (answer := self._to_store(each))]:
                self._journal.put(answers)
        except BaseException as exc:
            self._end = exc
            self.close()
            raise
        self._stored.extend(group)

    def _to_store(self, response: Response) -> StoredAnswer | None:
        key, body, error = response.request.key, response.body, response.error
        if response.cached:
            return self._copies.pop(key, None)
        if response.stored or not (key and body) or (error and error.kind not in UNUSABLE_ANSWERS):
            return None
        attempts, seconds = response.attempts, response.seconds
        return StoredAnswer(key, body, attempts, seconds, 0, _used(response.answer))

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once."""
        if self._stored or self._end is not None or self._responses.wait(timeout):
            return True
        self._journal.checkpoint()
        return False

    def drain(self, grace: float | None) -> None:
        """Send nothing more."""
        self._responses.drain(grace)

    def close(self) -> None:
        """Cancel the requests in flight."""
        self._responses.close()
