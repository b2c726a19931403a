"""The calls of a Batch API over HTTP, without retries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote

from codesynth.codec import dumps
from codesynth.errors import EndpointError, one_line
from codesynth.models import Endpoint
from codesynth.serving.answers import read_json
from codesynth.serving.batch import shapes
from codesynth.serving.batch.shapes import UNREADABLE, BatchState
from codesynth.serving.http import AsyncBaseTransport, EndpointClient, NoReplyError, Reply
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
        self.shape = shapes.shape_for(self.endpoint.name)
        self._timeout = timeout

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Keep connections open; all calls are made inside, by one thread."""
        with asyncio.Runner() as self._runner:
            try:
                yield
            finally:
                self._runner.run(self.endpoint.aclose())

    def upload(self, file: BinaryIO) -> str:
        """Upload a file of requests; return its id."""
        path, form = self.shape.upload_path, self.shape.form
        sending = self.endpoint.send_file(path, form, file, timeout=self._timeout)
        return self._call(f"POST {path}", sending, shapes.read_id)

    def create(self, file: str, uuid: str) -> BatchState:
        """Make a batch of an uploaded file."""
        body = dumps(self.shape.create(file, uuid))
        return self._request("POST", "", shapes.read_state, body)

    def find(self, file: str, uuid: str) -> BatchState | None:
        """Find the batch that was made of a file; None if there is none."""
        query = "?limit=100"
        for _ in range(_MAX_PAGES):
            states, query = self._request("GET", query, shapes.read_states)
            for state in states:
                if uuid == state.uuid or file == state.input_file:
                    return state
            if not query:
                break
        return None

    def state(self, batch: str) -> BatchState:
        """Read the state of a batch."""
        return self._request("GET", f"/{quote(batch, safe='')}", shapes.read_state)

    def cancel(self, batch: str) -> None:
        """Cancel a batch, unless it has ended."""
        with contextlib.suppress(CallError):  # its state will show whether it was cancelled
            self._request("POST", f"/{quote(batch, safe='')}/cancel", bool)

    def download(self, name: str, file: BinaryIO) -> None:
        """Fetch a file of results."""
        path = f"/files/{quote(name, safe='')}/content"
        receiving = self.endpoint.receive_file(path, file, timeout=self._timeout)
        self._call(f"GET {path}", receiving, bool)

    def _request(self, method: str, path: str, read: Callable[[Any], T], body: bytes = b"") -> T:
        path = f"/batches{path}"
        sending = self.endpoint.request(method, path, body, timeout=self._timeout)
        return self._call(f"{method} {path}", sending, read)

    def _call(self, call: str, sending: Coroutine[Any, Any, Reply], read: Callable[[Any], T]) -> T:
        try:
            reply = self._runner.run(sending)
        except NoReplyError as exc:
            raise CallError(exc.message, after=None if exc.cause == "hopeless" else 0.0) from exc
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        try:
            return read(read_json(reply.body or b"null"))
        except UNREADABLE as exc:
            words = one_line(self.endpoint.secrets.hide(reply.body.decode(errors="replace")), 100)
            raise CallError(f"{self.endpoint.name}: {call}: unexpected reply: {words}") from exc

    def _refusal(self, call: str, reply: Reply) -> CallError:
        name, status = self.endpoint.name, reply.status
        outcome = read_outcome(status, reply.headers, reply.body, self.endpoint.secrets.hide)
        text = f"{name} refuses {call} ({status}): {outcome.words}"
        if status == 404 and not call.startswith("POST /files"):
            return CallError(text, 404)  # the endpoint may not know a new batch yet
        if outcome.retry and not outcome.quota:
            return CallError(text, status, outcome.retry_after or 0.0)
        return CallError(text + _FIXES.get(status, ""), status, None)
