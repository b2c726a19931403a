"""The calls of a Batch API over HTTP, without retries."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import BinaryIO, TypeVar
from urllib.parse import quote

from codesynth.codec import dumps
from codesynth.errors import EndpointError
from codesynth.models import Endpoint
from codesynth.serving.answers import find_words
from codesynth.serving.batch.shapes import BatchState, shape_for
from codesynth.serving.http import AsyncBaseTransport, EndpointClient, FormFile, NoReply, Reply
from codesynth.serving.outcomes import read_outcome

T = TypeVar("T")

_MAX_PAGES = 100
_FIXES = {401: ". Set OPENAI_API_KEY", 404: ". Has it a Batch API? If not, leave out --batch"}


class CallError(EndpointError):
    """A call that failed.

    Attributes:
        status: the status of the reply; 0 if there was none.
        after: seconds after which the call may succeed; None if it never will.
    """

    def __init__(self, message: str, status: int = 0, after: float | None = 0.0) -> None:
        super().__init__(message)
        self.status, self.after = status, after


class BatchClient:
    """Uploads requests, makes batches of them, reads their states and fetches their results.

    Args:
        timeout: seconds for one call.
        transport: sends the requests, in place of connections of our own.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        connect_timeout: float = 10.0,
        timeout: float = 600.0,
        transport: AsyncBaseTransport | None = None,
    ) -> None:
        self.endpoint = EndpointClient(
            endpoint, connect_timeout=connect_timeout, streaming=True, transport=transport
        )
        self.shape = shape_for(self.endpoint.name)
        self._timeout = timeout

    async def upload(self, file: BinaryIO) -> str:
        """Upload a file of requests; return its id."""
        path, form = self.shape.upload_path, FormFile(self.shape.form, "requests.jsonl", file)
        sending = self.endpoint.send_file(path, form, timeout=self._timeout)
        return await self._call(f"POST {path}", sending, self.shape.file)

    async def create(self, file: str, uuid: str) -> BatchState:
        """Make a batch of an uploaded file."""
        body = dumps(self.shape.create(file, uuid))
        return await self._request("POST", self.shape.path, self.shape.state, body)

    async def find(self, file: str, uuid: str) -> BatchState | None:
        """Find the batch that was made of a file; None if there is none."""
        query = "?limit=100"
        for _ in range(_MAX_PAGES):
            states, query = await self._request("GET", self.shape.path + query, self.shape.states)
            for state in states:
                if uuid == state.uuid or file == state.input_file:
                    return state
            if not query:
                break
        return None

    async def state(self, batch: str) -> BatchState:
        """Read the state of a batch."""
        path = f"{self.shape.path}/{quote(batch, safe='')}"
        return await self._request("GET", path, self.shape.state)

    async def cancel(self, batch: str) -> None:
        """Cancel a batch, unless it has ended."""
        path = f"{self.shape.path}/{quote(batch, safe='')}/cancel"
        with contextlib.suppress(CallError):  # its state will show whether it was cancelled
            await self._request("POST", path, bytes)

    async def download(self, name: str, file: BinaryIO) -> None:
        """Fetch a file of results."""
        path = f"/files/{quote(name, safe='')}/content"
        sending = self.endpoint.receive_file(path, file, timeout=self._timeout)
        await self._call(f"GET {path}", sending, bytes)

    async def _request(
        self, method: str, path: str, read: Callable[[bytes], T], body: bytes = b""
    ) -> T:
        sending = self.endpoint.request(method, path, body, timeout=self._timeout)
        return await self._call(f"{method} {path}", sending, read)

    async def _call(self, call: str, sending: Awaitable[Reply], read: Callable[[bytes], T]) -> T:
        try:
            reply = await sending
        except NoReply as exc:
            raise CallError(exc.message, after=None if exc.permanent else 0.0) from exc
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        try:
            return read(reply.body)
        except ValueError as exc:
            raise CallError(f"{self.endpoint.name}: {call}: {exc}") from exc

    def _refusal(self, call: str, reply: Reply) -> CallError:
        words = find_words(reply.body, self.endpoint.secrets.hide) or "no reason given"
        text = f"{self.endpoint.name} refuses {call} ({reply.status}): {words.rstrip('.')}"
        if reply.status == 404 and not call.startswith("POST /files"):
            return CallError(text, 404)  # the endpoint may not know a new batch yet
        outcome = read_outcome(reply.status, reply.headers, reply.body)
        if outcome.retry and not outcome.quota:
            return CallError(text, reply.status, outcome.retry_after or 0.0)
        return CallError(text + _FIXES.get(reply.status, ""), reply.status, None)
