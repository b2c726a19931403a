"""What a request costs the client: CPU microseconds of this process, by transport and concurrency.

    python tests/benchmarks/transports.py

The answers are 1.2 KB and come from another process at once; a figure is the median of several
runs, which take turns so that they meet the same weather. Building the request and reading the
answer count. It takes about a minute.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import h11
import httpcore
import httpx

from codesynth import models
from codesynth.serving.http import EndpointClient
from codesynth.serving.http.connection import Connection
from codesynth.serving.http.transport import RequestHead, Transport

CONCURRENCIES = (64, 256, 1024)
REQUESTS, RUNS = 2_000, 3
HEADERS = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "authorization": "Bearer sk-0123456789",
    "content-type": "application/json",
    "user-agent": "codesynth",
}
CONNECTS = 256  # more at once overflow the listener's backlog
BODY = b'{"model":"m","messages":[{"role":"user","content":"%s"}]}' % (b"q" * 600)
LIMIT = 1 << 20


class Ours:
    """The endpoint's client as the serving uses it: httpx's objects of ready parts."""

    largest, requests = 1024, REQUESTS

    def __init__(self, url: str) -> None:
        base = models.Endpoint(url.removesuffix("/chat/completions"), "sk-0123456789")
        self.client = EndpointClient(base, connect_timeout=5.0, transport=self.create())

    def create(self) -> httpx.AsyncBaseTransport | None:
        return None

    async def ask(self) -> bytes:
        return (await self.client.request("POST", "/chat/completions", BODY, timeout=60.0)).body

    async def aclose(self) -> None:
        await self.client.aclose()


class Given(Ours):
    """The same over httpx's own transport, as where a proxy is set."""

    largest, requests = 256, 128

    def create(self) -> httpx.AsyncBaseTransport:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncHTTPTransport(limits=limits)


class Bare:
    """Our connections alone: bytes out, bytes back, no httpx objects, no timeout."""

    largest, requests = 1024, REQUESTS

    def __init__(self, url: str) -> None:
        target = httpx.URL(url)
        headers = {"host": target.netloc.decode(), **HEADERS}
        self.head = RequestHead("POST", target, httpx.Headers(headers))
        self.place = (target.host, target.port)
        self.buffer = memoryview(bytearray(1 << 18))
        self.idle: list[Connection] = []

    async def ask(self) -> bytes:
        connection = self.idle.pop() if self.idle else await self.connect()
        assert connection.alive()
        _, _, body = await connection.exchange(self.head.message(BODY))
        self.idle.append(connection)
        return body

    async def connect(self) -> Connection:
        def made() -> Connection:
            return Connection(self.buffer, LIMIT, lambda _: None)

        return (await asyncio.get_running_loop().create_connection(made, *self.place))[1]

    async def aclose(self) -> None:
        for connection in self.idle:
            connection.close()


class Client:
    """httpx as it comes: its pool looks at every connection and every waiting request each time."""

    largest, requests = 256, 128

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = self.create()

    def create(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(limits=limits, timeout=60)

    async def ask(self) -> bytes:
        return (await self.client.post(self.url, headers=HEADERS, content=BODY)).content

    async def aclose(self) -> None:
        await self.client.aclose()


class OursInClient(Client):
    """The transport under httpx.AsyncClient, which adds cookies, redirects, hooks and timers."""

    largest, requests = 1024, REQUESTS

    def create(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=Transport())


class Httpcore:
    """httpcore's public connections, last used first, without its pool."""

    largest, requests = 1024, REQUESTS

    def __init__(self, url: str) -> None:
        self.url = httpcore.URL(url)
        self.headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        self.headers += [(b"host", self.url.origin.host)]
        self.headers += [(b"content-length", str(len(BODY)).encode())]
        self.idle: list[httpcore.AsyncHTTPConnection] = []

    async def ask(self) -> bytes:
        request = httpcore.Request("POST", self.url, headers=self.headers, content=BODY)
        connection = self.idle.pop() if self.idle else self.connect()
        response = await connection.handle_async_request(request)
        body = await response.aread()
        await response.aclose()
        self.idle.append(connection)
        return body

    def connect(self) -> httpcore.AsyncHTTPConnection:
        return httpcore.AsyncHTTPConnection(self.url.origin)

    async def aclose(self) -> None:
        for connection in self.idle:
            await connection.aclose()


class H11Connection(asyncio.Protocol):
    """The least that h11 needs."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.wire = h11.Connection(h11.CLIENT)

    def data_received(self, data: bytes) -> None:
        self.wire.receive_data(data)
        while (event := self.wire.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self.response = event
            elif isinstance(event, h11.Data):
                self.body += event.data
            else:
                self.wire.start_next_cycle()
                self.answer.set_result(None)
                break

    async def exchange(self, request: httpx.Request) -> httpx.Response:
        self.answer = asyncio.get_running_loop().create_future()
        self.body = b""
        target, headers = request.url.raw_path, request.headers.raw
        head = h11.Request(method=request.method, target=target, headers=headers)
        parts = (head, h11.Data(data=request.content), h11.EndOfMessage())
        self.transport.write(b"".join([self.wire.send(part) or b"" for part in parts]))
        await self.answer
        headers = list(self.response.headers)
        return httpx.Response(self.response.status_code, headers=headers, content=self.body)


class WithH11:
    """A transport like ours over h11; bare, with none of the care that ours takes."""

    largest, requests = 1024, REQUESTS

    def __init__(self, url: str) -> None:
        self.url = httpx.URL(url)
        self.idle: list[H11Connection] = []

    async def ask(self) -> bytes:
        request = httpx.Request("POST", self.url, headers=HEADERS, content=BODY)
        connection = self.idle.pop() if self.idle else await self.connect()
        response = await connection.exchange(request)
        self.idle.append(connection)
        return response.content

    async def connect(self) -> H11Connection:
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(H11Connection, self.url.host, self.url.port or 80))[1]

    async def aclose(self) -> None:
        for connection in self.idle:
            connection.transport.close()


Kind = type[Bare] | type[Ours] | type[Client] | type[Httpcore] | type[WithH11]


async def drive(ask: Callable[[], Awaitable[bytes]], count: int, concurrency: int) -> None:
    """Ask ``count`` times with fixed workers."""
    numbers = iter(range(count))

    async def work() -> None:
        for _ in numbers:
            assert (await ask()).endswith(b"}")

    await asyncio.gather(*(work() for _ in range(concurrency)))


async def measure(kind: Kind, url: str, c: int) -> float:
    """Return CPU microseconds a request, connections made beforehand."""
    transport = kind(url)
    for ready in range(min(c, CONNECTS), c + 1, CONNECTS):
        await drive(transport.ask, ready, ready)
    before = time.process_time()
    await drive(transport.ask, kind.requests, c)
    seconds = time.process_time() - before
    await transport.aclose()
    return seconds / kind.requests * 1e6


KINDS: dict[str, Kind] = {
    "ours": Ours,
    "our connections alone": Bare,
    "ours under AsyncClient": OursInClient,
    "ours with h11 instead": WithH11,
    "httpcore in a free list": Httpcore,
    "ours over httpx's own": Given,
    "httpx as it comes": Client,
}


def print_requests(url: str) -> None:
    """Print the table."""
    print(f"{'CPU us a request':25}" + "".join(f"{f'c={c}':>9}" for c in CONCURRENCIES))
    runs: dict[tuple[str, int], list[float]] = {}
    for run in range(RUNS):
        for c in CONCURRENCIES:
            for name, kind in KINDS.items():
                if c <= kind.largest and (run == 0 or kind.largest == 1024):
                    runs.setdefault((name, c), []).append(asyncio.run(measure(kind, url, c)))
    for name in KINDS:
        cells = [runs.get((name, c)) for c in CONCURRENCIES]
        row = [f"{statistics.median(cell):9.0f}" if cell else f"{'-':>9}" for cell in cells]
        print(f"{name:25}" + "".join(row))


def print_imports() -> None:
    """Print what importing costs, over an interpreter that imports nothing."""

    def seconds(code: str) -> float:
        def once() -> float:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            return time.perf_counter() - start

        return statistics.median(once() for _ in range(7))

    nothing = seconds("pass")
    for module in ("asyncio", "httptools", "h11", "httpx", "codesynth.serving.http"):
        print(f"import {module:28} {(seconds(f'import {module}') - nothing) * 1e3:6.0f} ms")


def main() -> None:
    """Print both tables."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = cast("str", server.stdout and server.stdout.readline().strip())
            print_requests(f"{url}/chat/completions")
        finally:
            server.terminate()
            server.communicate()
    print_imports()


if __name__ == "__main__":
    main()
