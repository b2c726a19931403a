"""One endpoint over HTTP: its URLs, its headers, a request and what came of it."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from codesynth.errors import ConfigError
from codesynth.models import Endpoint, FailureKind
from codesynth.serving.answers import clean
from codesynth.serving.proxies import create_transport
from codesynth.serving.transport import (
    ResponseTooLarge,
    StaleConnection,
    Transport,
    origin_of,
    read_bounded,
    unpack,
)
from codesynth.version import __version__

MAX_ANSWER_BYTES = 128 << 20
_REDIRECTS = frozenset({301, 302, 307, 308})
_PERMANENT = frozenset({301, 308})
_MAX_REDIRECTS = 3
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})

App = Callable[[str, str, bytes], Awaitable[tuple[int, dict[str, str], bytes]]]
"""An endpoint inside the process: (method, path, body) to (status, headers, body)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whole; names of headers in lower case, the last of equal ones."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoReply(Exception):  # noqa: N818 - its name says what there is none of
    """No whole HTTP answer came.

    Attributes:
        kind: timeout, connection or bad_response.
        unreachable: no connection was made, so nothing was sent.
        stale: the server had closed a kept connection; asking again at once is right.
        out_of_files: this process may open no more connections.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        unreachable: bool = False,
        stale: bool = False,
        out_of_files: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.unreachable = unreachable
        self.stale = stale
        self.out_of_files = out_of_files


class _Target:
    """A URL, and all that its requests have in common, written once."""

    def __init__(self, url: httpx.URL, headers: list[tuple[bytes, bytes]]) -> None:
        self.url = url
        self.origin = origin_of(url)
        self._headers = [(b"host", url.netloc), *headers]
        lines = [b"%b: %b\r\n" % header for header in self._headers]
        self._head = b"%b HTTP/1.1\r\n%bcontent-length: " % (url.raw_path, b"".join(lines))

    def message(self, method: str, body: bytes) -> bytes:
        """Write a request as it goes over the wire."""
        return b"%b %b%d\r\n\r\n%b" % (method.encode("ascii"), self._head, len(body), body)

    def request(self, method: str, body: bytes, extensions: dict[str, Any]) -> httpx.Request:
        """Make a request for httpx's transports."""
        headers = [*self._headers, (b"content-length", b"%d" % len(body))]
        stream = httpx.ByteStream(body)
        return httpx.Request(
            method, self.url, headers=headers, stream=stream, extensions=extensions
        )


class Site:
    """An OpenAI-compatible endpoint.

    Its transport belongs to the event loop that first sends through it, until ``aclose``.

    Raises:
        ConfigError: the URL or the key cannot be used.
    """

    def __init__(self, endpoint: Endpoint, *, connect_timeout: float, app: App | None) -> None:
        try:
            url = httpx.URL(endpoint.base_url)
        except httpx.InvalidURL as exc:
            raise ConfigError(f"base URL {clean(endpoint.base_url)}: {exc}") from exc
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(
                f"base URL {clean(endpoint.base_url)} is no http or https URL. "
                "Example: http://localhost:8000/v1"
            )
        self._url = url.copy_with(userinfo=b"", fragment=None)
        self.name = str(self._url.copy_with(query=None)).rstrip("/")
        self._key = (endpoint.api_key or "").strip()
        self._headers = self._make_headers(url)
        self._targets: dict[str, _Target] = {}
        self._connect_timeout = connect_timeout
        self._app = app
        self._transport: httpx.AsyncBaseTransport | None = None

    def _make_headers(self, url: httpx.URL) -> list[tuple[bytes, bytes]]:
        """Write the headers that all requests have."""
        headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "user-agent": f"codesynth/{__version__}",
        }
        if url.userinfo:
            headers["authorization"] = "Basic " + base64.b64encode(url.userinfo).decode()
        elif self._key:
            if not (self._key.isascii() and self._key.isprintable()):
                raise ConfigError("OPENAI_API_KEY holds a character that no header can carry")
            headers["authorization"] = f"Bearer {self._key}"
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    def without_secrets(self, text: str) -> str:
        """Take out the key, where a server has quoted it."""
        return text.replace(self._key, "[key]") if self._key else text

    async def request(
        self, method: str, path: str, body: bytes, *, timeout: float, fresh: bool
    ) -> Reply:
        """Send one request and read the whole answer.

        A redirect is followed, body and all, while it stays on the host that was named; another
        is returned as it is: the key stays home.

        Args:
            method: GET or POST.
            path: what follows the base URL, such as ``/chat/completions``.
            body: JSON.
            timeout: seconds, from now to the last byte.
            fresh: do not use a connection that was used before.

        Raises:
            NoReply: no whole answer came.
        """
        if path not in self._targets:
            url = self._url.copy_with(path=self._url.path.rstrip("/") + path)
            self._targets[path] = _Target(url, self._headers)
        target = self._targets[path]
        try:
            async with asyncio.timeout(timeout):
                for _ in range(_MAX_REDIRECTS):
                    reply = await self._exchange(method, target, body, fresh=fresh)
                    if reply.status not in _REDIRECTS:
                        break
                    elsewhere = _redirect_target(target.url, reply)
                    if elsewhere is None:
                        break
                    target = _Target(elsewhere, self._headers)
                    if reply.status in _PERMANENT:
                        self._targets[path] = target
                return reply
        except TimeoutError as exc:
            raise NoReply("timeout", f"no whole answer within {timeout:g} s") from exc

    async def _exchange(self, method: str, target: _Target, body: bytes, *, fresh: bool) -> Reply:
        if self._transport is None:
            self._transport = self._open_transport()
        try:
            if isinstance(self._transport, Transport):
                message = target.message(method, body)
                answer = await self._transport.exchange(target.origin, message, fresh=fresh)
                status, raw, data = answer
                data = unpack(raw, data, MAX_ANSWER_BYTES)
            else:
                timeout = {"connect": self._connect_timeout}
                request = target.request(method, body, {"timeout": timeout})
                response = await self._transport.handle_async_request(request)
                response.request = request
                data = await read_bounded(response, MAX_ANSWER_BYTES)
                status, raw = response.status_code, response.headers.raw
        except httpx.ConnectTimeout as exc:
            words = f"cannot connect to {self.name} within {self._connect_timeout:g} s"
            raise NoReply("timeout", words, unreachable=True) from exc
        except httpx.ConnectError as exc:
            cause = exc.__cause__
            number = (cause.errno or 0) if isinstance(cause, OSError) else 0
            why = os.strerror(number).lower() if number > 0 else _words(exc)
            full = number in _OUT_OF_FILES
            words = f"cannot connect to {self.name}: {why}"
            raise NoReply("connection", words, unreachable=True, out_of_files=full) from exc
        except (ResponseTooLarge, httpx.DecodingError) as exc:
            raise NoReply("bad_response", _words(exc)) from exc
        except httpx.TransportError as exc:
            stale = isinstance(exc, StaleConnection)
            raise NoReply("connection", _words(exc), stale=stale) from exc
        headers = {name.lower().decode("latin-1"): value.decode("latin-1") for name, value in raw}
        return Reply(status, headers, data)

    def _open_transport(self) -> httpx.AsyncBaseTransport:
        if self._app is not None:
            return _AppTransport(self._app)
        return create_transport(str(self._url), connect_timeout=self._connect_timeout)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()


class _AppTransport(httpx.AsyncBaseTransport):
    """Hands requests to an endpoint inside the process."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        status, headers, content = await self._app(request.method, request.url.path, body)
        return httpx.Response(status, headers=headers, stream=_Whole(content))


class _Whole(httpx.AsyncByteStream):
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


def _redirect_target(url: httpx.URL, reply: Reply) -> httpx.URL | None:
    """Find where a redirect leads, if it stays on the same host and does not give up TLS."""
    location = reply.headers.get("location")
    if not location:
        return None
    try:
        target = url.join(location)
    except httpx.InvalidURL:
        return None
    same = target.host == url.host and target.scheme == url.scheme and target.port == url.port
    upgrade = target.host == url.host and (url.scheme, target.scheme) == ("http", "https")
    return target if same or upgrade else None


def _words(exc: Exception) -> str:
    return clean(str(exc)) or type(exc).__name__
