"""A fast httpx transport over kept HTTP/1.1 connections.

It has no retries, no redirects and no cookies. Errors are httpx's own exceptions.

Why not httpx's own transport: its pool looks at every connection for each request. With 64 and 256
in flight a request costs 84 and 86 us of CPU here, 22,000 and 29,000 there, and about 700 over
httpcore's connections without their pool (``tests/benchmarks/transports.py``).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from collections.abc import Iterable
from functools import cached_property
from typing import Any, TypeAlias, cast

import httpx

from codesynth.serving.http.connection import Connection

MAX_RESPONSE_BYTES = 128 * 1024 * 1024
READ_BYTES = 256 * 1024
IDLE_SECONDS = 30.0
CONNECTS_AT_ONCE = 100
"""More at once would overflow the server's queue, and a lost SYN packet costs a second."""
HAPPY_EYEBALLS_SECONDS = 0.25

Origin: TypeAlias = tuple[str, str, int | None]
"""Scheme, host and port; None is the scheme's own."""


class RequestHead:
    """Method, URL and headers that many requests share, written once.

    Raises:
        httpx.LocalProtocolError: a header holds a line break.
    """

    def __init__(self, method: str, url: httpx.URL, headers: httpx.Headers) -> None:
        self.method, self.url, self.headers = method, url, headers
        self.origin: Origin = (url.scheme, url.raw_host.decode("ascii"), url.port)
        fields = [f for f in headers.raw if f[0].lower() != b"content-length"]
        lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), url.raw_path)]
        lines += [b"%b: %b" % field for field in fields]
        self._data = b"\r\n".join([*lines, b"content-length: "])
        if not self._data.count(b"\r") == self._data.count(b"\n") == len(lines):
            raise httpx.LocalProtocolError("a header of the request holds a line break")

    def request(self, body: bytes, extensions: dict[str, Any]) -> httpx.Request:
        """Make one of the requests."""
        return _Request(self, body, extensions)

    def message(self, body: bytes) -> bytes:
        """Write one of the requests as it goes over the wire."""
        return b"%b%d\r\n\r\n%b" % (self._data, len(body), body)


class _Request(httpx.Request):
    """A request made of ready parts: ``httpx.Request`` would take as long as the sending."""

    def __init__(self, head: RequestHead, body: bytes, extensions: dict[str, Any]) -> None:
        self.method, self.url, self.head, self._content = head.method, head.url, head, body
        self.stream, self.extensions = httpx.ByteStream(body), extensions

    @cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]  # our transport needs none
        """The headers, with the length of the body."""
        length = (b"content-length", b"%d" % len(self._content))
        return httpx.Headers([*self.head.headers.raw, length])


class Transport(httpx.AsyncBaseTransport):
    """Send requests over kept connections; any number at once, in one event loop.

    A request's body must be bytes. The head of a request is written anew, unless a ``RequestHead``
    has made the request. A response is read whole before it is handed on, so a cut response is an
    error; but a response with neither length nor chunks ends where the peer closes, so it cannot
    be seen that it was cut. Cancelling a request closes its connection.

    A request with ``extensions["fresh"]`` set takes no kept connection.

    >>> transport = Transport(connect_timeout=5.0, max_response_bytes=1_000_000)
    >>> asyncio.run(transport.aclose())
    """

    def __init__(
        self,
        *,
        connect_timeout: float = 10.0,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._connect_timeout = connect_timeout
        self._max_response_bytes = max_response_bytes
        self._ssl_context = ssl_context
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._idle: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._open: set[Connection] = set()
        self._connecting = asyncio.Semaphore(CONNECTS_AT_ONCE)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request.

        Raises:
            StaleConnection: a kept connection was closed before any byte of the response came.
            httpx.TransportError: what else went wrong; ``__cause__`` is the OSError, if one was.
        """
        if isinstance(request, _Request):
            head = request.head
        else:
            head = RequestHead(request.method, request.url, request.headers)
        try:
            message = head.message(b"".join(cast("Iterable[bytes]", request.stream)))
        except TypeError as exc:
            raise httpx.LocalProtocolError("a request's body must be bytes") from exc
        connection = None if request.extensions.get("fresh") else self._take(head.origin)
        if connection is None:
            connection = await self._connect(*head.origin)
        status, headers, body = await connection.exchange(message)
        if not connection.closed:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle[head.origin].append(connection)
        return httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))

    async def aclose(self) -> None:
        """Close every connection at once; requests in flight end with ``httpx.CloseError``."""
        self._idle.clear()
        for connection in list(self._open):
            connection.fail(httpx.CloseError("the transport was closed"))
        while self._open:  # noqa: ASYNC110 - asyncio closes the sockets in its next turns
            await asyncio.sleep(0)

    def _take(self, origin: Origin) -> Connection | None:
        """Take the connection that was used last; drop closed ones and those idle for too long."""
        idle = self._idle[origin]
        expired = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle and idle[0].idle_since < expired:
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self, scheme: str, host: str, port: int | None) -> Connection:
        if scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"not an http or https URL: {scheme}://{host}")
        if port is not None and port > 65535:  # asyncio would raise an IndexError
            raise httpx.ConnectError(f"there is no port {port}")
        secure = scheme == "https"
        is_address = ":" in host or host.rpartition(".")[2].isdigit()
        if secure and self._ssl_context is None:
            self._ssl_context = create_ssl_context()
        try:
            async with self._connecting, asyncio.timeout(self._connect_timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._buffer, self._max_response_bytes, self._open),
                    host,
                    port or (443 if secure else 80),
                    ssl=self._ssl_context if secure else None,
                    happy_eyeballs_delay=None if is_address else HAPPY_EYEBALLS_SECONDS,
                )
        except TimeoutError as exc:
            raise httpx.ConnectTimeout(f"no connection in {self._connect_timeout:g} s") from exc
        except (OSError, ValueError) as exc:  # ValueError: a name that no host can have
            raise httpx.ConnectError(str(exc) or type(exc).__name__) from exc
        return connection


def create_ssl_context() -> ssl.SSLContext:
    """Trust the certificates that httpx trusts: certifi's, or SSL_CERT_FILE or SSL_CERT_DIR."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
