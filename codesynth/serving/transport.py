"""A fast httpx transport over kept HTTP/1.1 connections.

Nothing but bytes on the wire is done here: no retries, no redirects, no cookies. What goes wrong
is raised as httpx's own exceptions, so that a caller translates one family.

Why a transport of our own, in CPU per request, writing the request and reading an answer of 1.2 KB
included, with 64 to 1,024 at once (``tests/benchmarks/transports.py``; ours is flat):

==========================================================  ==========
this transport, on written requests                         1
the same with httpx's Request and Response                  3.3 - 4.6
the same under ``httpx.AsyncClient.post``                   9.5 - 13
with httpx's objects over h11, which is Python, bare        7 - 10
``httpcore.AsyncHTTPConnection`` in a free list             13 - 18
httpx as it comes, whose pool is quadratic                  330 - 1,600
==========================================================  ==========

Measured apart, against the second line: aiohttp's transport for httpx 2.3, and 250 ms to import;
pyreqwest's 1.6.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import zlib
from collections import defaultdict, deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TypeAlias, cast

import httpx

from codesynth.serving.connection import (
    Connection,
    RawAnswer,
    ResponseTooLarge,
    StaleConnection,
)

__all__ = [
    "Origin",
    "ResponseTooLarge",
    "StaleConnection",
    "Transport",
    "create_ssl_context",
    "origin_of",
    "read_bounded",
    "unpack",
]

MAX_RESPONSE_BYTES = 128 * 1024 * 1024
READ_BYTES = 256 * 1024
IDLE_SECONDS = 30.0
# More at once overflow listen backlogs, and a lost SYN costs a second.
CONNECTS_AT_ONCE = 100
HAPPY_EYEBALLS_SECONDS = 0.25

Origin: TypeAlias = tuple[str, str, int | None]
"""Scheme, host and port; None is the scheme's own."""


def origin_of(url: httpx.URL) -> Origin:
    """Tell whom a URL's requests go to."""
    return url.scheme, url.raw_host.decode("ascii"), url.port


class Transport(httpx.AsyncBaseTransport):
    """Send requests over kept connections; any number at once, in one event loop.

    A request's body must be bytes. An answer is read whole before it is handed on, so a cut one
    is an error and never a response, and no connection waits for its reader. The exception: one
    with neither length nor chunks ends where the peer closes, so only its content can tell.
    Cancelling a request closes its connection; one with ``extensions["fresh"]`` set takes no kept
    connection.

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
        self._closed = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request; see ``exchange``."""
        message, fresh = _serialize(request), bool(request.extensions.get("fresh"))
        status, headers, body = await self.exchange(origin_of(request.url), message, fresh=fresh)
        return httpx.Response(status, headers=headers, stream=_Body(body))

    async def exchange(self, origin: Origin, message: bytes, *, fresh: bool) -> RawAnswer:
        """Answer one request that is written already: httpx's objects cost as much as the rest.

        Raises:
            StaleConnection: a kept connection was dead, and nothing of an answer came.
            httpx.TransportError: what else went wrong; ``__cause__`` is the OSError, if one was.
        """
        idle = self._idle[origin]
        connection = None if fresh else self._take(idle)
        if connection is None:
            connection = await self._connect(*origin)
        answer = await connection.exchange(message)
        if not connection.closed:
            connection.idle_since = asyncio.get_running_loop().time()
            idle.append(connection)
        return answer

    async def aclose(self) -> None:
        """Close every connection at once; requests under way end with CloseError.

        A request that still waits for its connection ends so when connecting ends.
        """
        self._closed = True
        lost = [connection.lost for connection in self._open]
        self._close_all()
        if lost:
            await asyncio.wait(lost, timeout=1.0)

    def _close_all(self) -> None:
        for connection in list(self._open):
            connection.fail(httpx.CloseError("the transport was closed"))

    def _take(self, idle: deque[Connection]) -> Connection | None:
        """Take the connection that was used last, if it lives; drop those idle for long."""
        expired = asyncio.get_running_loop().time() - IDLE_SECONDS
        while idle and idle[0].idle_since < expired:
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if connection.alive():
                return connection
            connection.close()
        return None

    async def _connect(self, scheme: str, host: str, port: int | None) -> Connection:
        if scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol(f"not an http or https URL: {scheme}://{host}")
        await self._connecting.acquire()
        opening = asyncio.create_task(self._open_connection(host, port, secure=scheme == "https"))
        opening.add_done_callback(lambda _: self._connecting.release())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            # asyncio may lose the socket of a connect that is cancelled: it goes on to its end.
            opening.add_done_callback(_close_unused)
            raise

    async def _open_connection(self, host: str, port: int | None, *, secure: bool) -> Connection:
        self._check_open()
        try:
            if secure and self._ssl_context is None:
                self._ssl_context = create_ssl_context()
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: Connection(self._buffer, self._max_response_bytes, self._open.discard),
                    host,
                    port or (443 if secure else 80),
                    ssl=self._ssl_context if secure else None,
                    happy_eyeballs_delay=HAPPY_EYEBALLS_SECONDS,
                )
        except TimeoutError as exc:
            raise httpx.ConnectTimeout(f"no answer in {self._connect_timeout:g} s") from exc
        except ssl.SSLCertVerificationError as exc:
            text = f"certificate refused: {exc.verify_message} (SSL_CERT_FILE names whom to trust)"
            raise httpx.ConnectError(text) from exc
        except (OSError, ValueError) as exc:  # ValueError: a name that cannot be looked up
            raise httpx.ConnectError(str(exc) or type(exc).__name__) from exc
        self._open.add(connection)
        self._check_open()
        return connection

    def _check_open(self) -> None:
        if self._closed:
            self._close_all()
            raise httpx.CloseError("the transport was closed")


class _Body(httpx.AsyncByteStream):
    """A response's body that has been read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data


def _close_unused(opening: asyncio.Task[Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _serialize(request: httpx.Request) -> bytes:
    if not isinstance(request.stream, httpx.SyncByteStream):
        raise httpx.LocalProtocolError("a request's body must be bytes")
    lines = [b"%b %b HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path)]
    lines += [b"%b: %b" % field for field in request.headers.raw]
    head = b"\r\n".join(lines)
    if not head.count(b"\r") == head.count(b"\n") == len(lines) - 1:
        raise httpx.LocalProtocolError("a header of the request holds a line break")
    return b"".join((head, b"\r\n\r\n", *request.stream))


def create_ssl_context() -> ssl.SSLContext:
    """Trust whom httpx would: certifi's list, or that of SSL_CERT_FILE or SSL_CERT_DIR."""
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read and unpack a response's body, never holding much more than ``limit`` bytes.

    Raises:
        ResponseTooLarge: the body, packed or unpacked, is longer than ``limit``.
        httpx.DecodingError: it is not packed as its headers say, or its end is missing.

    >>> asyncio.run(read_bounded(httpx.Response(200, content=b"{}"), 100))
    b'{}'
    """
    data = bytearray()
    async with contextlib.aclosing(response):
        async for part in cast("AsyncIterable[bytes]", response.stream):
            data += part
            if len(data) > limit:
                raise ResponseTooLarge(f"the answer has more than {limit} bytes")
    return unpack(response.headers.raw, bytes(data), limit)


def unpack(headers: Iterable[tuple[bytes, bytes]], data: bytes, limit: int) -> bytes:
    """Unpack a body as its headers say; see ``read_bounded``.

    >>> unpack([(b"Content-Encoding", b"identity")], b"{}", 100)
    b'{}'
    """
    codings = [value for name, value in headers if name.lower() == b"content-encoding"]
    if not codings or not data:
        return data
    coding = b",".join(codings).lower()
    if coding.strip() in (b"gzip", b"x-gzip"):
        bits = 16 + zlib.MAX_WBITS
    elif coding.strip() == b"deflate":  # some send it without the zlib header, as browsers allow
        zlib_header = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        bits = zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS
    elif coding.strip() == b"identity":
        return data
    else:
        raise httpx.DecodingError(f"content-encoding {coding!r} was not asked for")
    unpacker = zlib.decompressobj(bits)
    try:
        unpacked = unpacker.decompress(data, limit + 1)
    except zlib.error as exc:
        raise httpx.DecodingError(f"the answer is not packed as its headers say: {exc}") from exc
    if len(unpacked) > limit:
        raise ResponseTooLarge(f"the answer unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise httpx.DecodingError("the packed answer is cut, or something follows it")
    return unpacked
