"""The other end of a connection, byte by byte, in the same event loop as the test.

@in_loop
async def test_fact() -> None:
    async with serving(says(OK)) as peer, Transport() as transport:
        assert await ask(transport, peer.url) == (200, b"{}")
"""

import asyncio
import functools
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from codesynth.serving.transport import read_bounded

TLS = Path(__file__).parent / "tls"
AUTHORITY = str(TLS / "authority.pem")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop, for 10 seconds at most."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(10):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


@dataclass
class Peer:
    """A server that plays its script on each connection, and closes it then."""

    script: Script
    port: int = 0
    scheme: str = "http"
    connections: int = 0
    tasks: set["asyncio.Task[Any]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}/v1/chat/completions"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client has gone, which a test sees at the client
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    script: Script, *, host: str = "127.0.0.1", tls: bool = False
) -> AsyncIterator[Peer]:
    """Listen; the client must have closed its connections at the end."""
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem")
        context.set_alpn_protocols(["h2", "http/1.1"])
    peer = Peer(script, scheme="https" if tls else "http")
    server = await asyncio.start_server(peer.serve, host, 0, ssl=context, backlog=1024)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        await asyncio.gather(*peer.tasks)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    _, found, rest = head.lower().partition(b"content-length:")
    return head + await reader.readexactly(int(rest.split(b"\r\n")[0]) if found else 0)


def says(*answers: bytes, then: str = "wait") -> Script:
    """Answer one request with each; then wait for the client to close, or close, or reset."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
        if then == "wait":
            await reader.read()
        elif then == "reset":
            reset(writer)

    return script


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def ask(
    transport: httpx.AsyncBaseTransport, url: str, body: bytes = b"{}", **extensions: Any
) -> tuple[int, bytes]:
    """Post, as the client does."""
    request = httpx.Request("POST", url, content=body, extensions=extensions)
    response = await transport.handle_async_request(request)
    return response.status_code, await read_bounded(response, 1 << 20)


@contextmanager
def unanswering(host: str, port: int = 0) -> Iterator[int]:
    """Listen with a backlog that is full, so that nobody gets in; yields the port."""
    with closing(socket.socket()) as full, closing(socket.socket()) as first:
        full.bind((host, port))
        full.listen(0)
        first.connect(full.getsockname())
        yield full.getsockname()[1]
