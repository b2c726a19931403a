"""A serving in front of another serving: what the journal knows is not asked again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import cast

from codesynth.journal.store import Journal, StoredAnswer
from codesynth.models import UNUSABLE_ANSWERS, Request, Response, SamplingParams, Usage
from codesynth.serving import ChatServing, LLMServing, ResponseStream
from codesynth.serving.answers import read_completion

_GROUP = 512  # answers in one transaction, at most


class JournaledServing:
    """Answers from the journal what it knows; asks ``serving`` the rest and stores it.

    Args:
        also: further journals, read only. Answers that are used are copied into ``journal``.
        before_asking: called once per stream, before the first request that no journal answers.
    """

    def __init__(
        self,
        journal: Journal,
        serving: LLMServing,
        *,
        also: Sequence[Journal] = (),
        before_asking: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal, self._serving = journal, serving
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
        stream = self._serving.generate(self._answer_known(requests))
        return _JournaledStream(self._journal, stream)

    def _answer_known(self, items: Iterable[Request | Response]) -> Iterator[Request | Response]:
        """Answer the known requests and pass the others on; runs in the feeder's thread."""
        asked = False
        for item in items:
            known = self._answer(item) if isinstance(item, Request) else item
            if known is None and not asked:
                asked = True
                self._before_asking()
            yield known or item

    def _answer(self, request: Request) -> Response | None:
        for journal in self._journals:
            if (stored := journal.get(request.key)) is None:
                continue
            _, body, attempts, seconds, _ = stored
            answer, failure = read_completion(body)
            if failure is not None:
                if failure.kind not in UNUSABLE_ANSWERS:
                    continue  # this version of codesynth reads it differently
                failure = replace(failure, attempts=attempts)
            found = Response(request, body, answer, failure, attempts, seconds, cached=True)
            found.stored = journal is self._journal
            return found
        return None


class _JournaledStream(ResponseStream):
    """Responses, each stored before it is handed on."""

    def __init__(self, journal: Journal, responses: ResponseStream) -> None:
        self._journal, self._responses = journal, responses
        self._stored: deque[Response] = deque()
        self._end: BaseException | None = None

    def __next__(self) -> Response:
        if not self._stored and self._end is None:
            self._store_waiting()
        if not self._stored and self._end is not None:
            raise self._end
        return self._stored.popleft()

    def _store_waiting(self) -> None:
        """Take the responses that are ready and store their answers in one transaction."""
        group: list[Response] = []
        try:
            group.append(next(self._responses))
            while len(group) < _GROUP and self._responses.wait(0):
                group.append(next(self._responses))
        except BaseException as exc:  # raised after the responses before it are handed on
            self._end = exc
        if answers := [*_new_answers(group)]:
            self._journal.put(answers)
        self._stored.extend(group)

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once."""
        return bool(self._stored or self._end) or self._responses.wait(timeout)

    def drain(self, grace: float | None) -> None:
        """Send nothing more."""
        self._responses.drain(grace)

    def close(self) -> None:
        """Cancel the requests in flight."""
        self._responses.close()


def _new_answers(responses: Iterable[Response]) -> Iterator[StoredAnswer]:
    """Choose the answers that were paid for and are not in the journal yet."""
    for each in responses:
        is_answer = each.error is None or each.error.kind in UNUSABLE_ANSWERS
        if is_answer and each.body and not each.stored:
            used = (each.answer and each.answer.usage) or Usage()
            yield StoredAnswer(each.request.key, each.body, each.attempts, each.seconds, used)
