"""One HTTP/1.1 connection on asyncio: sends a request and reads the whole response."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TypeAlias, cast

import httptools
import httpx

RawResponse: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body, as they were sent."""

MAX_HEAD_BYTES = 256 * 1024
KEEPALIVE_SECONDS = 60
"""A response may take minutes, and middleboxes forget connections that are silent for so long."""


class StaleConnection(httpx.ReadError):
    """A kept connection was closed before any byte of the response came."""


class ResponseTooLarge(httpx.RemoteProtocolError):
    """The response, as sent or unpacked, has more bytes than are allowed."""


class Connection(asyncio.BufferedProtocol):
    """Writes a request, reads the response, and is then used again or closed.

    The connection is idle while ``_status`` is done. Bytes that come then belong to no request and
    close it. A new connection reads even before its first request: an overloaded server may answer
    at once.

    Args:
        buffer: bytes are read into it. All connections of an event loop may share it, because
            the loop fills it and hands it over in one step.
        limit: most bytes of a body.
        open_connections: contains the connection until its socket is closed.

    Attributes:
        closed: it cannot be used again.
        idle_since: set by the transport.
    """

    def __init__(self, buffer: memoryview, limit: int, open_connections: set[Connection]) -> None:
        self._buffer, self._limit, self._all = buffer, limit, open_connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        # As lenient as h11 and curl: a length together with chunks, an interim response that says
        # "close", line ends without CR, padded chunk sizes.
        self._parser.set_dangerous_leniencies(
            lenient_chunked_length=True,
            lenient_keep_alive=True,
            lenient_optional_cr_before_lf=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._used = self.closed = False
        self.idle_since = 0.0
        self._reset()

    def _reset(self) -> None:
        self._status: asyncio.Future[int] = self._loop.create_future()
        self._in_head = True
        self._headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = 0
        # Bytes since the last byte of a body; limits heads, interim responses and trailers.
        self._unproductive = 0
        self._keep = False

    async def exchange(self, message: bytes) -> RawResponse:
        """Send a request and read the response; then close, unless the connection can be reused."""
        if self._used:
            self._reset()
        try:
            if self._status.done():
                self._keep = False
            else:
                self._transport.write(message)
            status = await self._status
        except BaseException:
            self.close()
            raise
        self._used = True
        if not self._keep or self._transport.get_write_buffer_size():  # not all of it was sent
            self.close()
        body = b"".join(self._parts)
        self._parts.clear()  # a kept connection keeps no response of 50 MB
        return status, self._headers, body

    def close(self) -> None:
        """Close at once; an exchange under way is cancelled."""
        self.closed = True
        self._status.cancel()
        self._transport.abort()

    def fail(self, error: httpx.TransportError, cause: BaseException | None = None) -> None:
        """Close; an exchange under way ends with the error."""
        if not self._status.done():
            error.__cause__ = cause
            self._status.set_exception(error)
        self.close()

    def _end_early(self, cause: Exception | None) -> None:
        detail = f": {cause}" if cause and str(cause) else ""
        if self._unproductive or self._parts:
            place = "head" if self._in_head else "body"
            text = f"connection closed in the {place} of the response{detail}"
        elif self._used:
            self.fail(StaleConnection(f"kept connection was closed{detail}"), cause)
            return
        else:
            text = f"connection closed without a response{detail}"
        self.fail(httpx.ReadError(text) if cause else httpx.RemoteProtocolError(text), cause)

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._all.add(self)
        self._transport = cast("asyncio.Transport", transport)
        own: socket.socket = transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # if the peer is gone, the first read will fail
            own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                own.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange; without an EOF before, the connection was reset."""
        self._end_early(exc)
        self._all.discard(self)

    def eof_received(self) -> None:
        """End the response; one without length or chunks is complete (RFC 9112, section 6.3)."""
        names = {name.lower() for name, _ in self._headers}
        if self._in_head or names & {b"content-length", b"transfer-encoding"}:
            self._end_early(None)
        elif not self._status.done():
            self._status.set_result(self._parser.get_status_code())
        self.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Lend the buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Parse what came."""
        self._unproductive += nbytes
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self.fail(httpx.RemoteProtocolError(f"the response is not HTTP/1.1: {exc}"), exc)
        if self._unproductive > MAX_HEAD_BYTES:
            self.fail(httpx.RemoteProtocolError(f"more than {MAX_HEAD_BYTES} bytes of headers"))

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Close if something follows the response."""
        if self._status.done():
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped."""
        if self._in_head:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Note the end of the head."""
        self._in_head = False

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        if self._status.done():
            return
        self._unproductive = 0
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self.fail(ResponseTooLarge(f"the response has more than {self._limit} bytes"))

    def on_message_complete(self) -> None:
        """Hand over the response; after an interim response, wait for the next one."""
        if self._status.done():
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self._keep = self._parser.should_keep_alive()
            self._status.set_result(status)
        elif status in (0, 101):
            self.fail(httpx.RemoteProtocolError(f"the response has status {status}"))
        else:
            self._headers.clear()
            self._in_head = True
