"""Connecting, keeping, TLS, proxies, and reading bodies within bounds."""

import asyncio
import os
import resource
import socket
from typing import Any

import httpx
import pytest
from support.asking import ask, in_loop
from support.endpoint import AUTHORITY, OK, Endpoint, read_request, says, server_tls, unanswering

from codesynth.serving.http import transport as module
from codesynth.serving.http.proxies import create_transport
from codesynth.serving.http.transport import Transport


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", AUTHORITY)


def resolve_to(
    monkeypatch: pytest.MonkeyPatch, *addresses: str, when: asyncio.Event | None = None
) -> None:
    """Let every name stand for these addresses, once ``when`` is set."""

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        if when is not None:
            await when.wait()
        families = [socket.AF_INET6 if ":" in a else socket.AF_INET for a in addresses]
        found = zip(families, addresses, strict=True)
        return [(family, socket.SOCK_STREAM, 6, "", (a, port)) for family, a in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)


# Connections.


@in_loop
async def test_connection_closed_while_idle_is_not_used() -> None:
    async with Endpoint(script=says(OK, then="close")) as peer, Transport() as transport:
        for _ in range(20):
            assert await ask(transport, peer.url) == (200, b"{}")
            await asyncio.sleep(0.001)
        assert peer.connections == 20


@in_loop
async def test_connection_idle_for_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)
    async with Endpoint(script=says(OK, OK)) as peer, Transport() as transport:
        await ask(transport, peer.url)
        await asyncio.sleep(0.02)
        await ask(transport, peer.url)
        assert peer.connections == 2


@in_loop
async def test_closing_ends_requests_under_way_at_once() -> None:
    asked = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.read()

    async with Endpoint(script=script) as peer:
        transport = Transport()
        asking = asyncio.create_task(ask(transport, peer.url))
        await asked.wait()
        await transport.aclose()
        with pytest.raises(httpx.CloseError):
            await asking


# Failing to connect.


@in_loop
async def test_too_many_open_files_is_told_by_the_cause() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with Endpoint(script=says(OK)) as peer, Transport() as transport:
        free = os.dup(0)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
        try:
            with pytest.raises(httpx.ConnectError) as caught:
                await ask(transport, f"http://127.0.0.1:{peer.port}/")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.strerror == "Too many open files"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@in_loop
async def test_host_that_does_not_answer_is_a_connect_timeout(host: str) -> None:
    with unanswering("127.0.0.1") as port:
        async with Transport(connect_timeout=0.1) as transport:
            with pytest.raises(httpx.ConnectTimeout):
                await ask(transport, f"http://{host}:{port}/")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@in_loop
async def test_either_family_of_localhost_will_do(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Endpoint(script=says(OK), host=host) as peer, Transport() as transport:
        resolve_to(monkeypatch, "::1", "127.0.0.1")
        assert await ask(transport, peer.url) == (200, b"{}")
        literal = f"[{host}]" if ":" in host else host
        assert await ask(transport, peer.url.replace("localhost", literal)) == (200, b"{}")


# Requests.


@in_loop
async def test_request_arrives_as_it_was_made() -> None:
    got: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await read_request(reader))
        writer.write(OK)

    async with Endpoint(script=script) as peer, Transport() as transport:
        url, headers = f"{peer.url}?a=b%20c", {"X-Case": "Kept"}
        await transport.handle_async_request(
            httpx.Request("POST", url, headers=headers, content="{}")
        )
    host = b"Host: localhost:%d" % peer.port
    first = b"POST /v1/chat/completions?a=b%20c HTTP/1.1"
    assert got[0].split(b"\r\n") == [first, host, b"X-Case: Kept", b"content-length: 2", b"", b"{}"]


# TLS.


@pytest.mark.usefixtures("trusted")
@in_loop
async def test_own_authority_is_trusted_through_ssl_cert_file() -> None:
    large = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n" + bytes(1_000_000)
    protocols = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocols.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await says(OK, large)(reader, writer)

    transport, _ = create_transport(httpx.URL("https://localhost/v1"), connect_timeout=60)
    async with Endpoint(script=script, tls=server_tls()) as peer, transport:
        assert await ask(transport, peer.url, bytes(3_000_000)) == (200, b"{}")
        assert await ask(transport, peer.url) == (200, bytes(1_000_000))
    assert protocols == ["http/1.1"]
