"""One endpoint over HTTP: its URLs, headers and secrets; sends requests and returns replies."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Awaitable, Mapping
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

import httpx

from codesynth.errors import ConfigError
from codesynth.models import Endpoint
from codesynth.serving.http.failures import NoReplyError, explain
from codesynth.serving.http.proxies import create_transport
from codesynth.serving.http.reply import Reply, read_reply
from codesynth.serving.http.secrets import Secrets
from codesynth.serving.http.time_limits import TimeLimits
from codesynth.serving.http.transport import MAX_RESPONSE_BYTES, RequestHead
from codesynth.version import __version__

_REDIRECTS = frozenset({301, 302, 307, 308})
_MAX_REDIRECTS = 3
_NAME = re.compile(r"[!#$%&'*+.^_`|~\w-]+", re.ASCII)
_HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "content-type": "application/json",
    "user-agent": f"codesynth/{__version__}",
}
_OWN_HEADERS = frozenset({"content-length", "transfer-encoding", "connection", "host"})


class EndpointClient:
    """An OpenAI-compatible endpoint.

    Its transport belongs to the event loop that first sends through it, until ``aclose``.

    Args:
        connect_timeout: seconds.
        streaming: files will be sent and received.
        transport: sends the requests, in place of connections of our own.

    Attributes:
        name: its URL without secrets, for messages.
        secrets: removes secrets from what is printed or stored.

    Raises:
        ConfigError: the URL, the key or a header cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        *,
        connect_timeout: float,
        streaming: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if isinstance(endpoint, str):
            endpoint = Endpoint(endpoint)
        key = os.environ.get("OPENAI_API_KEY", "") if endpoint.api_key is None else endpoint.api_key
        url = _parse_url(endpoint.base_url)
        self._url = url.copy_with(userinfo=b"", fragment=None)
        self.name = str(self._url.copy_with(query=None)).rstrip("/")
        self._headers = _make_headers(url, key.strip(), endpoint.headers)
        sent = {"authorization": self._headers.get("authorization", ""), **endpoint.headers}
        self.secrets = Secrets([key.strip(), url.password], sent)
        self._heads: dict[tuple[str, str], RequestHead] = {}
        self._connect_limit = {"connect": connect_timeout}
        self._streaming = streaming
        self._given = self._transport = transport
        self._proxy = ""
        self._limits = TimeLimits()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes,
        *,
        timeout: float,
        fresh: bool = False,
        key: bytes = b"",
    ) -> Reply:
        """Send one request and read the whole response.

        A redirect on the same host is followed, with the body. A redirect to another host is
        returned as the reply, so that the key is not sent there.

        Args:
            method: GET or POST.
            path: follows the base URL, such as ``/chat/completions``; may have a query.
            body: JSON.
            timeout: seconds, from now to the last byte.
            fresh: open a new connection for it.
            key: the journal key; transports find it as the request's extension ``key``.

        Raises:
            NoReplyError: no whole response came.
        """
        extensions = {"fresh": fresh, "key": key, "timeout": self._connect_limit}
        return await self._within(timeout, self._send(method, path, body, extensions))

    async def _send(self, method: str, path: str, body: bytes, extensions: dict[str, Any]) -> Reply:
        head = self._heads.get((method, path))
        if head is None:
            head = self._heads[method, path] = self._write_head(method, self._url_of(path))
        transport = self._open_transport()
        for _ in range(_MAX_REDIRECTS):
            response = await transport.handle_async_request(head.request(body, extensions))
            reply = await read_reply(response, MAX_RESPONSE_BYTES)
            if (target := _redirect_target(head.url, reply)) is None:
                break
            head = self._write_head(method, target)
        return reply

    async def send_file(
        self, path: str, form: Mapping[str, str], file: BinaryIO, *, timeout: float
    ) -> Reply:
        """POST a form with a file from the disk; errors and ``timeout`` as in ``request``."""
        file.seek(0)
        files = {"file": ("requests.jsonl", file, "application/jsonl")}
        return await self._within(timeout, self._stream("POST", path, None, data=form, files=files))

    async def receive_file(self, path: str, file: BinaryIO, *, timeout: float) -> Reply:
        """GET a body into an empty file. Another status than 200 leaves the body in the reply.

        Errors and ``timeout`` are as in ``request``; after an error the file may hold a part.
        """
        return await self._within(timeout, self._stream("GET", path, file))

    async def _stream(self, method: str, path: str, sink: BinaryIO | None, **form: Any) -> Reply:
        headers = self._headers.copy()
        del headers["content-type"]  # httpx sets that of a form
        request = httpx.Request(
            method,
            self._url_of(path),
            headers=headers,
            extensions={"timeout": self._connect_limit},
            **form,
        )
        response = await self._open_transport().handle_async_request(request)
        if sink is None or response.status_code != 200:
            return await read_reply(response, MAX_RESPONSE_BYTES)
        try:
            async for piece in response.aiter_bytes():
                sink.write(piece)
        finally:
            await response.aclose()
        sink.seek(0)
        return Reply(200, {}, b"")

    async def _within(self, timeout: float, work: Awaitable[Reply]) -> Reply:
        try:
            return await self._limits.run(timeout, work)
        except TimeoutError as exc:
            text = f"no whole response within {timeout:g} s"
            raise NoReplyError("timeout", text, "timeout") from exc
        except httpx.HTTPError as exc:
            raise explain(exc, self.name, self._proxy, self.secrets.hide) from exc

    async def aclose(self) -> None:
        """Close all connections; the next request opens new ones."""
        self._limits.close()
        if self._transport is not None:
            transport, self._transport = self._transport, self._given
            await transport.aclose()

    def _url_of(self, path: str) -> httpx.URL:
        path, _, query = path.partition("?")
        url = self._url.copy_with(path=self._url.path.rstrip("/") + path)
        return url.copy_merge_params(dict(parse_qsl(query))) if query else url

    def _write_head(self, method: str, url: httpx.URL) -> RequestHead:
        return RequestHead(method, url, httpx.Headers([(b"host", url.netloc), *self._headers.raw]))

    def _open_transport(self) -> httpx.AsyncBaseTransport:
        if self._transport is None:
            seconds = self._connect_limit["connect"]
            self._transport, self._proxy = create_transport(
                self._url, connect_timeout=seconds, streaming=self._streaming
            )
        return self._transport


def _parse_url(text: str) -> httpx.URL:
    shown = re.sub(r"^([a-z+.-]*:?//)?.*@", r"\1", text.partition("?")[0], flags=re.IGNORECASE)
    try:
        url = httpx.URL(text)
        host = url.host
    except (httpx.InvalidURL, ValueError):  # not in the message: it may quote a password
        url, host = httpx.URL(), ""
    if url.scheme not in ("http", "https") or not host:
        example = "Example: http://localhost:8000/v1"
        raise ConfigError(f"base URL {shown} is not an http or https URL. {example}")
    if url.port is not None and not 0 < url.port < 65536:
        raise ConfigError(f"base URL {shown}: port {url.port} is not between 1 and 65535")
    return url


def _make_headers(url: httpx.URL, key: str, own: Mapping[str, str]) -> httpx.Headers:
    """Make the headers of all requests; the user's headers replace equal ones."""
    headers = httpx.Headers(_HEADERS)
    if url.userinfo:
        credentials = f"{url.username}:{url.password}".encode()
        headers["authorization"] = "Basic " + base64.b64encode(credentials).decode()
    elif key:
        if not _is_printable(key):
            raise ConfigError("OPENAI_API_KEY has a character that a header cannot carry")
        headers["authorization"] = f"Bearer {key}"
    for name, value in own.items():
        if name.lower() in _OWN_HEADERS or not _NAME.fullmatch(name):
            raise ConfigError(f"header {name!r} cannot be set")
        if not _is_printable(value):
            raise ConfigError(f"header {name} has a character that a header cannot carry")
        headers[name] = value.strip()
    return headers


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _redirect_target(url: httpx.URL, reply: Reply) -> httpx.URL | None:
    """Return the URL of a redirect if it is on the same host and does not give up TLS."""
    location = reply.headers.get("location") if reply.status in _REDIRECTS else None
    if not location:
        return None
    try:
        target = url.join(location)
        is_same_host = target.host == url.host
    except (httpx.InvalidURL, ValueError):
        return None
    same = is_same_host and target.scheme == url.scheme and target.port == url.port
    upgrade = is_same_host and (url.scheme, target.scheme) == ("http", "https")
    return target if same or upgrade else None
