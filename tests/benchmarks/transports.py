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
from functools import partial
from pathlib import Path
from typing import cast

import httpcore
import httpx

from codesynth import models
from codesynth.serving.http import EndpointClient
from codesynth.serving.http.connection import Connection
from codesynth.serving.http.transport import RequestHead

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
        _, _, body = await connection.exchange(self.head.message(BODY))
        self.idle.append(connection)
        return body

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        make = partial(Connection, self.buffer, LIMIT, set())
        return (await loop.create_connection(make, *self.place))[1]

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


Kind = type[Bare] | type[Ours] | type[Client] | type[Httpcore]


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


def main() -> None:
    """Print the table."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = cast("str", server.stdout and server.stdout.readline().strip())
            print_requests(f"{url}/chat/completions")
        finally:
            server.terminate()
            server.communicate()


if __name__ == "__main__":
    main()
