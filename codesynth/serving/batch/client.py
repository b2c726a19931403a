"""The calls of a Batch API over HTTP; what passes is tried again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import BinaryIO, TypeAlias, TypeVar
from urllib.parse import quote

from codesynth.codec import dumps
from codesynth.errors import EndpointError
from codesynth.models import Endpoint
from codesynth.serving.answers import find_words
from codesynth.serving.batch.shapes import BatchState, shape_for
from codesynth.serving.http import AsyncBaseTransport, EndpointClient, FormFile, NoReply, Reply
from codesynth.serving.outcomes import read_outcome

T = TypeVar("T")
Send: TypeAlias = Callable[[], Awaitable[Reply]]
Sleep: TypeAlias = Callable[[float], Awaitable[None]]

MAX_PAUSE = 60.0
_MAX_PAGES = 100
_FIXES = {
    401: ". Set OPENAI_API_KEY",
    404: ". Has it a Batch API? If not, leave out --batch",
    400: ". Try a smaller --batch-size",
    413: ". Try a smaller --batch-size",
}


class UnknownBatchError(EndpointError):
    """The endpoint does not know a batch or a file."""


def pause(attempt: int) -> float:
    """Tell how many seconds to wait after an attempt, counted from 0.

    >>> [pause(attempt) for attempt in (0, 1, 5, 6, 1000)]
    [1.0, 2.0, 32.0, 60.0, 60.0]
    """
    return min(2.0 ** min(attempt, 6), MAX_PAUSE)


class BatchClient:
    """Uploads requests, makes batches of them, asks for batches and fetches their results.

    What may pass (no answer, 429, 5xx, something made that is not known yet) is tried again, each
    call for ``max_outage`` seconds. EndpointError is raised then, and where a call is refused.

    Args:
        timeout: seconds for one attempt.
        sleep, clock: in seconds.
        transport: sends the requests, in place of connections of our own.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        connect_timeout: float = 10.0,
        timeout: float = 600.0,
        max_outage: float = 300.0,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = EndpointClient(
            endpoint, connect_timeout=connect_timeout, streaming=True, transport=transport
        )
        self.shape = shape_for(self.endpoint.name)
        self._timeout, self._max_outage = timeout, max_outage
        self.sleep, self.clock = sleep, clock

    async def upload(self, file: BinaryIO, name: str) -> str:
        """Upload a file of requests; return its id."""
        path, fields = self.shape.upload(name)
        form = FormFile(fields, name, file)
        send = partial(self.endpoint.send_file, path, form, timeout=self._timeout)
        return await self._call(f"POST {path}", send, self.shape.file)

    async def create(self, file: str, uuid: str) -> BatchState:
        """Make a batch of an uploaded file; after a failure, unless it was made all the same."""
        body = dumps(self.shape.create(file, uuid))
        send = self._request("POST", self.shape.batches, body)
        find = partial(self.find, file, uuid)
        return await self._call(f"POST {self.shape.batches}", send, self.shape.state, find)

    async def find(self, file: str, uuid: str) -> BatchState | None:
        """Look among all batches for one that was made of a file."""
        query = "?limit=100"
        for _ in range(_MAX_PAGES):
            path = self.shape.batches + query
            send = self._request("GET", path)
            states, query = await self._call(f"GET {path}", send, self.shape.states)
            for state in states:
                if uuid == state.uuid or file == state.input_file:
                    return state
            if not query:
                break
        return None

    async def state(self, batch: str) -> BatchState:
        """Ask for a batch.

        Raises:
            UnknownBatchError: there is none, even after ``max_outage`` seconds.
        """
        path = f"{self.shape.batches}/{_quote(batch)}"
        return await self._call(f"GET {path}", self._request("GET", path), self.shape.state)

    async def cancel(self, batch: str) -> None:
        """Cancel a batch; one that has ended, or is not there, is left alone."""
        path = f"{self.shape.batches}/{_quote(batch)}/cancel"

        async def send() -> Reply:
            reply = await self._request("POST", path)()
            return Reply(200, {}, b"") if reply.status in (400, 404, 409, 422) else reply

        await self._call(f"POST {path}", send, bytes)

    async def download(self, name: str, file: BinaryIO) -> None:
        """Fetch a file of results; raises as ``state`` does."""
        path = f"/files/{_quote(name)}/content"
        send = partial(self.endpoint.receive_file, path, file, timeout=self._timeout)
        await self._call(f"GET {path}", send, bytes)

    def _request(self, method: str, path: str, body: bytes = b"") -> Send:
        return partial(self.endpoint.request, method, path, body, timeout=self._timeout)

    async def _call(
        self,
        call: str,
        send: Send,
        read: Callable[[bytes], T],
        before_again: Callable[[], Awaitable[T | None]] | None = None,
    ) -> T:
        """Send until there is a reply that can be read; ``before_again`` may make it needless."""
        started = self.clock()
        for attempt in count():
            if attempt and before_again and (there := await before_again()) is not None:
                return there
            after = 0.0
            try:
                reply = await send()
                if 200 <= reply.status < 300:
                    return read(reply.body)
                error, after = self._read_refusal(call, reply)
            except NoReply as exc:
                error = EndpointError(exc.message)
                if exc.permanent:
                    raise error from exc
            except ValueError as exc:
                error = EndpointError(f"{self.endpoint.name}: {call}: {exc}")
            if self.clock() - started >= self._max_outage:
                raise error
            await self.sleep(max(pause(attempt), after))
        raise AssertionError

    def _read_refusal(self, call: str, reply: Reply) -> tuple[EndpointError, float]:
        """Return an error that may pass, and the pause that the endpoint asks for; raise others."""
        words = find_words(reply.body, self.endpoint.secrets.hide) or "no reason given"
        text = f"{self.endpoint.name} refuses {call} ({reply.status}): {words.rstrip('.')}"
        if reply.status == 404 and not call.startswith("POST /files"):
            return UnknownBatchError(text), 0.0  # what was just made may not be known yet
        outcome = read_outcome(reply.status, reply.headers, reply.body)
        if outcome.quota or not outcome.retry:
            raise EndpointError(f"{text}{_FIXES.get(reply.status, '')}")
        return EndpointError(text), outcome.retry_after or 0.0


def _quote(name: str) -> str:
    return quote(name, safe="")
