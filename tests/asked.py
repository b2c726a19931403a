"""Requests for the journal, and a serving that keeps what it was asked."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from codesynth.models import Failure, Record, Request, Response
from codesynth.serving.journal import Journal, JournaledServing


def requests(texts: Iterable[str], **fields: object) -> Iterator[Request]:
    """Make a request of each text; one of "bad" cannot be asked."""
    for i, text in enumerate(texts):
        request = Request(f"row-{i}", [{"role": "user", "content": text}], Record(i, b"{}", {}), i)
        error = Failure("invalid_json", "not JSON")
        yield replace(request, known=Response(request, error=error)) if text == "bad" else request


def text_of(request: Request) -> str:
    return request.messages[0]["content"]


def body_of(request: Request) -> bytes:
    return text_of(request).encode("utf-8", "surrogatepass")


class Asked:
    """Answers from a function, two at a time in the wrong order; keeps what it was asked."""

    def __init__(self, answer: Callable[[Request], Response] | None = None) -> None:
        self.answer = answer or (lambda request: Response(request, text_of(request) + "!"))
        self.texts: list[str] = []

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        ahead: deque[Request] = deque()
        for request in requests:
            if request.known is None:
                self.texts.append(text_of(request))
            ahead.append(request)
            if len(ahead) == 2:
                yield self._respond(ahead.pop())
        while ahead:
            yield self._respond(ahead.popleft())

    def _respond(self, request: Request) -> Response:
        return request.known or self.answer(request)


def run(path: Path, texts: Iterable[str], asked: Asked) -> dict[int, Response]:
    with Journal(str(path)) as journal:
        serving = JournaledServing(journal, asked, body_of)
        responses = list(serving.generate(requests(texts)))
    by_position = {response.request.position: response for response in responses}
    assert len(by_position) == len(responses)
    return by_position


def newly_asked(path: Path, texts: Iterable[str], answer: Asked | None = None) -> list[str]:
    asked = answer or Asked()
    run(path, texts, asked)
    return sorted(asked.texts)
