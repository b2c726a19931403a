"""What the test endpoint receives and what it replies, as values."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from http.client import responses
from itertools import chain
from typing import Any, Literal, TypeAlias, cast

Step: TypeAlias = bytes | float
"""Bytes to send, or seconds of silence."""

FOREVER = math.inf
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@dataclass
class Received:
    """One request as it came.

    Attributes:
        headers: names in lower case; a name that came twice has its values joined by ", ".
        n: its number among all chat requests of the endpoint, from 1.
        attempt: how many times this very body has come, from 1; two equal rows count together.
        connection: number of the connection it came on, from 1.
        on_connection: its number among the requests of that connection, from 1.
        time: when it was whole, by ``time.monotonic``.
        finished: when the reply was sent to its planned end, the client still there.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    n: int
    attempt: int
    connection: int
    on_connection: int
    time: float
    finished: float | None = None

    @cached_property
    def json(self) -> Any:
        """The parsed body; ValueError where it is no JSON."""
        return json.loads(self.body)

    @property
    def prompt(self) -> str:
        """The content of the last user message."""
        messages = reversed(self.json["messages"])
        return next(str(message["content"]) for message in messages if message["role"] == "user")


@dataclass(frozen=True)
class Reply:
    """One reply, down to the bytes; the plain ones are made by ``completion`` and ``error``.

    Attributes:
        body: bytes as they are; a dict or list is sent as JSON; an iterator gives the pieces of a
            body whose length is not known before, so it wants the framing "chunked" or "close".
        headers: added to the usual ones, or in their place; None takes a usual one away.
        framing: how the client is told where the body ends.
        length: what Content-Length says in place of the truth.
        delay: seconds of silence before the first byte.
        cut: stop after so many bytes, head included; a negative number counts from the end.
        end: then "keep" the connection, "close" it without having said so, "reset" it, or "hang"
            until the client goes. By default "close" after a cut or with the framing "close".
        raw: send these steps instead of all of the above but ``delay`` and ``end``.
    """

    status: int = 200
    body: bytes | dict[str, Any] | list[Any] | Iterator[bytes] = b""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    version: str = "HTTP/1.1"
    framing: Literal["length", "chunked", "close"] = "length"
    length: int | str | None = None
    delay: float = 0.0
    cut: int | None = None
    end: Literal["keep", "close", "reset", "hang"] | None = None
    raw: Iterable[Step] | None = None

    @property
    def ending(self) -> Literal["keep", "close", "reset", "hang"]:
        """What becomes of the connection."""
        cut = self.cut is not None or self.framing == "close"
        return self.end or ("close" if cut else "keep")

    @cached_property
    def payload(self) -> bytes | Iterator[bytes]:
        """The body, with JSON written out."""
        if isinstance(self.body, (dict, list)):
            return json.dumps(self.body).encode("ascii")
        return self.body

    def head(self) -> bytes:
        """Write the status line and the headers."""
        usual: dict[str, str | None] = {"content-type": "application/json"}
        if self.framing == "chunked":
            usual["transfer-encoding"] = "chunked"
        elif self.framing == "length":
            known = len(self.payload) if isinstance(self.payload, bytes) else 0
            usual["content-length"] = str(known if self.length is None else self.length)
        lines = [f"{self.version} {self.status} {responses.get(self.status, 'Unknown')}"]
        lines += [f"{k}: {v}" for k, v in {**usual, **self.headers}.items() if v is not None]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    @cached_property
    def wire(self) -> bytes | None:
        """All that is sent, where that is one piece at one time."""
        if self.raw is None and isinstance(self.payload, bytes):
            body = chunked(self.payload) if self.framing == "chunked" else self.payload
            return (self.head() + body)[: self.cut]
        return None

    def steps(self) -> Iterator[Step]:
        """Yield what to do after ``delay``, in order."""
        if self.wire is not None:
            yield self.wire
        elif self.raw is not None:
            yield from self.raw
        else:
            yield self.head()
            is_chunked = self.framing == "chunked"
            pieces = cast("Iterator[bytes]", self.payload)
            yield from map(chunk, chain(pieces, [b""])) if is_chunked else pieces


Plan: TypeAlias = Callable[[Received], Reply]
"""How an endpoint replies; called on the endpoint's own thread, so it must not block."""


def chunk(data: bytes) -> bytes:
    """Frame one chunk; an empty one is the last."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def chunked(data: bytes, size: int = 1000) -> bytes:
    """Frame a whole body as chunks."""
    pieces = [chunk(data[start : start + size]) for start in range(0, len(data), size)]
    return b"".join([*pieces, chunk(b"")])


def completion(
    text: Any, finish_reason: str | None = "stop", *, delay: float = 0.0, **message_fields: Any
) -> Reply:
    """Build a chat completion with one choice."""
    message = {"role": "assistant", "content": text, **message_fields}
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "test-model",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": USAGE,
    }
    return Reply(body=body, delay=delay)


def error(
    status: int,
    message: str = "something went wrong",
    *,
    code: str | int | None = None,
    kind: str = "api_error",
    retry_after: str | float | None = None,
) -> Reply:
    """Build an error in OpenAI's shape; ``kind`` is its ``type``."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return Reply(status, body=body, headers=headers)


def code_for(prompt: str) -> str:
    """Make up the code that answers ``prompt``: short, and another for each prompt."""
    digest = sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f'answer = "{digest}"'


def text_for(prompt: str) -> str:
    """Word the whole answer to ``prompt``: its code in a fence."""
    return f"Here it is:\n\n```python\n{code_for(prompt)}\n```\n"


def echo(request: Received) -> Reply:
    """Answer with ``text_for(request.prompt)``: the plan of an endpoint that works."""
    return completion(text_for(request.prompt))


def healing(plan: Plan, times: int = 1, then: Plan = echo) -> Plan:
    """Follow ``plan`` for the first ``times`` attempts of each body, then ``then``."""
    return lambda request: (plan if request.attempt <= times else then)(request)


def held(reply: Reply, until: Callable[[], bool]) -> Reply:
    """Hold a reply back until ``until()`` is true, however long that takes."""

    def steps() -> Iterator[Step]:
        while not until():
            yield 0.005
        assert reply.wire is not None
        yield reply.wire

    return Reply(raw=steps(), end=reply.end)


def in_order(*replies: Reply, then: Plan = echo) -> Plan:
    """Give these replies to the first chat requests, one each, and follow ``then`` afterwards."""
    return lambda request: replies[request.n - 1] if request.n <= len(replies) else then(request)
