"""Ways of getting answers: each has one method, from requests to responses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from codesynth.models import Request, Response, SamplingParams

__all__ = ["ChatServing", "LLMServing", "ResponseStream"]


class ResponseStream(Iterator[Response], Protocol):
    """Responses as they come, in any order; also a context manager.

    Closing the stream, leaving its ``with`` block or deleting it cancels the requests in flight.
    Iterating raises an error of the requests' iterator, or one that must stop the run; the
    responses in flight come first.
    """

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once; False after ``timeout`` seconds."""

    def drain(self, grace: float | None) -> None:
        """Send nothing more; the stream ends when the requests in flight are answered.

        Args:
            grace: seconds after which requests in flight are cancelled; None waits for all.
        """

    def close(self) -> None:
        """Cancel the requests in flight."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@runtime_checkable
class LLMServing(Protocol):
    """An online endpoint, the journal in front of it, a Batch API, or a pool of sandboxes.

    1. ``generate`` pulls ``requests`` lazily, perhaps from another thread, and holds a bounded
       number of unfinished ones.
    2. Each request yields exactly one Response, in any order, as soon as it is there. An item
       that is a Response already (a bad row, an answer from the journal) is handed on as it is.
    3. A row's failure is a value, ``Response(error=...)``. Only what must stop the run
       (``EndpointError``) is raised.
    4. Several streams of one serving may run at the same time, in one thread or many.
    """

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        """Answer each request."""


@runtime_checkable
class ChatServing(LLMServing, Protocol):
    """A serving that knows which model it asks, and with which parameters."""

    @property
    def model(self) -> str:
        """The model's name."""

    @property
    def params(self) -> SamplingParams:
        """OpenAI's request parameters."""
