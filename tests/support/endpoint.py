"""A loopback endpoint that speaks HTTP/1.1 by hand, so that it can misbehave at every byte.

    with Endpoint(lambda request: completion(request.prompt.upper())) as endpoint:
        post(f"{endpoint.base_url}/chat/completions", ...)
    assert endpoint.counts["hello"] == 1

``with`` runs it in a thread of its own, ``async with`` in the running event loop. A ``script`` in
place of a plan has the bare streams of each connection:

    async with Endpoint(script=says(OK)) as peer, Transport() as transport:
        assert await ask(transport, peer.url) == (200, b"{}")
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

from support.replies import (  # noqa: F401 - tests find all that an endpoint takes here
    FOREVER,
    Plan,
    Received,
    Reply,
    code_for,
    completion,
    echo,
    error,
    healing,
    in_order,
    text_for,
)

TLS = Path(__file__).parents[1] / "data" / "tls"
AUTHORITY = str(TLS / "authority.pem")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

Script: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Endpoint:
    """A server; every count may be read from any thread, at any time.

    Attributes:
        plan: how chat requests are answered; may be changed while it runs.
        script: plays each connection by hand, in place of a plan; it is closed then.
        models: what ``GET /v1/models`` lists; None leaves that question to the plan.
        keep: False keeps no request in ``received``, for large runs; the counts go on.
        tls: speak TLS with this certificate; see ``server_tls``.
        port: chosen at the first ``start`` and kept, so that a restart is the same address.
        received: the chat requests (every POST) so far; ``times`` is when each came, by
            ``time.monotonic``; ``others`` are the requests that are no POST.
        connections: accepted so far.
        in_flight: requests that have come and are not answered to the end; ``max_in_flight`` the
            most there were at once.
        errors: what went wrong in the plan or in reading a request; leaving ``with`` raises it.
        authorizations: every Authorization header seen, on any path.
    """

    def __init__(
        self,
        plan: Plan = echo,
        *,
        script: Script | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        models: Sequence[str] | None = ("test-model",),
        keep: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.plan, self.script, self.models = plan, script, models
        self.keep, self.host, self.port, self.tls = keep, host, port, tls
        self.connections = self.in_flight = self.max_in_flight = 0
        self.authorizations: set[str] = set()
        self.changed = threading.Condition()
        self.received: list[Received] = []
        self.others: list[Received] = []
        self.times: list[float] = []
        self._counts: Counter[str] = Counter()
        self._attempts: Counter[bytes] = Counter()
        self._thread: threading.Thread | None = None
        self.errors: list[BaseException] = []
        self.open: set[Connection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._reserved: socket.socket | None = None

    @property
    def base_url(self) -> str:
        """Where to send requests, with ``/v1``; a stopped endpoint refuses them there."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def url(self) -> str:
        """Where chat requests go, by the name that the certificate holds."""
        return f"{self.base_url.replace('127.0.0.1', 'localhost')}/chat/completions"

    @property
    def counts(self) -> Counter[str]:
        """How many chat requests came for each prompt."""
        with self.changed:
            return self._counts.copy()

    def wait_until(self, condition: Callable[["Endpoint"], bool], timeout: float = 300.0) -> None:
        """Wait until ``condition(self)`` holds; TimeoutError when it does not come to that."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(f"not after {timeout} s; {len(self.times)} requests came")

    # Starting and stopping.

    def start(self) -> None:
        """Listen in a thread, on the same port as before."""
        listener = self._listen()
        self.loop = asyncio.new_event_loop()
        self.stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection as a crash would, without a word."""
        assert self._thread is not None
        self.loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._thread is not None and self._thread.is_alive():
            self.stop()
        self._leave(kind)

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self._serving = asyncio.create_task(self._serve(self._listen()))
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self.stopping.set()
        await self._serving
        self._leave(kind)

    def _leave(self, kind: object) -> None:
        if self._reserved is not None:
            self._reserved.close()
        if self.errors and kind is None:
            raise self.errors[0]

    def _listen(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        if self._reserved is None:
            self._reserved = closed_port(self.host, self.port)
            self.port = self._reserved.getsockname()[1]
        return socket.create_server((self.host, self.port), family=family, backlog=4096)

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            self.loop.set_exception_handler(self._fail)
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await self.loop.create_server(self._protocol, sock=listener, ssl=self.tls)
        await self.stopping.wait()
        # A closed server loses what it has just accepted, so that first becomes a connection.
        self.loop.remove_reader(listener)
        await asyncio.sleep(0)
        server.close()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        for connection in self.open:
            connection.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self.open:
            await next(iter(self.open)).gone.wait()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what went wrong outside the plan: a request that is no HTTP, say."""
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))

    def run(self, work: Awaitable[None]) -> "asyncio.Task[None]":
        """Start a task that ends with the endpoint."""
        task = asyncio.ensure_future(cast("asyncio.Future[None]", work))
        assert isinstance(task, asyncio.Task)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def _protocol(self) -> asyncio.BaseProtocol:
        if self.script is None:
            return Connection(self)
        return asyncio.StreamReaderProtocol(
            asyncio.StreamReader(), lambda *streams: self.run(self._play(*streams)) and None
        )

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.script is not None
        with self.changed:
            self.connections += 1
            self.changed.notify_all()
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client has gone, which a test sees at the client
        except Exception as exc:
            self.errors.append(exc)
        finally:
            writer.close()

    # Requests.

    def reply_to(self, request: Received) -> Reply:
        """Count the request and find its reply; what a plan raises is raised again at the end."""
        try:
            with self.changed:
                self._count(request)
                self.changed.notify_all()
            path = request.path.partition("?")[0]
            if request.method == "GET" and path.endswith("/models") and self.models is not None:
                data = [{"id": name, "object": "model", "created": 1} for name in self.models]
                return Reply(body={"object": "list", "data": data})
            return self.plan(request)
        except Exception as exc:
            self.errors.append(exc)
            return error(599, f"the plan failed: {exc!r}")

    def _count(self, request: Received) -> None:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.authorizations.update({request.headers.get("authorization", "")} - {""})
        if request.method != "POST":
            self.others.append(request)
            return
        self.times.append(request.time)
        request.n = len(self.times)
        digest = blake2b(request.body, digest_size=16).digest()
        self._attempts[digest] += 1
        request.attempt = self._attempts[digest]
        if self.keep:
            self.received.append(request)
        with contextlib.suppress(ValueError, LookupError, StopIteration):  # no chat request
            self._counts[request.prompt] += 1


class Connection(asyncio.Protocol):
    """One client: requests in, one after the other; planned bytes out."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.buffer = bytearray()
        self.requests = 0
        self.task: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        # One byte is too much to wait in the buffer, so that a reset loses nothing; asyncio's TLS
        # takes an empty buffer for a full one when the limit is 0.
        self.transport.set_write_buffer_limits(high=1 if self.endpoint.tls else 0, low=0)
        with self.endpoint.changed:
            self.endpoint.connections += 1
            self.number = self.endpoint.connections
            self.endpoint.changed.notify_all()
        self.endpoint.open.add(self)
        if self.endpoint.stopping.is_set():
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        self.endpoint.open.discard(self)
        self.gone.set()
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.next()

    def next(self) -> None:
        """Answer the next request, if it is whole and the one before it is answered."""
        if self.task is not None or self.transport.is_closing():
            return
        request = self.parse()
        if request is None:
            return
        reply = self.endpoint.reply_to(request)
        if reply.wire is not None and reply.ending == "keep" and not reply.delay:
            self.transport.write(reply.wire)
            self.sent(request, reply)
            return
        self.task = self.endpoint.run(self.perform(reply))
        self.task.add_done_callback(partial(self.performed, request, reply))

    def parse(self) -> Received | None:
        """Take one request from the buffer; bodies come with a Content-Length."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        first, *lines = self.buffer[:end].decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        whole = end + 4 + int(headers.get("content-length", "0"))
        if len(self.buffer) < whole:
            return None
        body = bytes(self.buffer[end + 4 : whole])
        del self.buffer[:whole]
        self.requests += 1
        return Received(
            method, path, headers, body, 0, 1, self.number, self.requests, time.monotonic()
        )

    def performed(self, request: Received, reply: Reply, task: "asyncio.Task[None]") -> None:
        """End the request whose reply took its time."""
        self.task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.endpoint.errors.append(error)
        self.sent(request, reply, whole=not task.cancelled() and error is None)

    def sent(self, request: Received, reply: Reply, *, whole: bool = True) -> None:
        """End the request, and the connection as the reply says."""
        with self.endpoint.changed:
            self.endpoint.in_flight -= 1
            if whole:
                request.finished = time.monotonic()
            self.endpoint.changed.notify_all()
        if not whole or reply.ending == "reset":
            self.reset()
        elif reply.ending == "close":
            self.transport.close()
        else:
            self.next()

    async def perform(self, reply: Reply) -> None:
        """Do the steps of a reply; cancelled when the client goes."""
        await asyncio.sleep(reply.delay)
        for step in reply.steps():
            if isinstance(step, bytes):
                self.transport.write(step)
                await self.writable.wait()
            # Even no time at all lets the loop learn that the client has gone.
            await asyncio.sleep(0 if isinstance(step, bytes) else step)
        if reply.ending == "hang":
            await asyncio.sleep(FOREVER)

    def reset(self) -> None:
        """Close with a RST: what the client has not read yet may be lost to it."""
        reset(self.transport)


# Scripts.


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
            reset(writer.transport)

    return script


def reset(transport: asyncio.WriteTransport) -> None:
    """Close with a RST."""
    raw: socket.socket = transport.get_extra_info("socket")
    if raw.fileno() >= 0:  # a client that was killed is gone already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def closed_port(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Reserve a port, by default a free one: it refuses connections, and nobody else gets it."""
    reserved = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind((host, port))
    return reserved


@contextmanager
def unanswering(host: str, port: int = 0) -> Iterator[int]:
    """Listen with a backlog that is full, so that nobody gets in; yields the port."""
    with closing(socket.socket()) as full, closing(socket.socket()) as first:
        full.bind((host, port))
        full.listen(0)
        first.connect(full.getsockname())
        yield full.getsockname()[1]


def server_tls() -> ssl.SSLContext:
    """Have a certificate for localhost, signed by ``AUTHORITY``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context
