"""A loopback endpoint that speaks HTTP/1.1 by hand, so that it can misbehave at every byte.

    with Endpoint(lambda request: completion(request.prompt.upper())) as endpoint:
        post(f"{endpoint.base_url}/chat/completions", ...)
    assert endpoint.counts["hello"] == 1

As a process of its own, which can be killed: ``python tests/endpoint.py --plan fault:cut_body``
prints its base URL on the first line; ``spawned`` runs it so.
"""

import argparse
import asyncio
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from answers import (
    FOREVER,
    Answer,
    Plan,
    Received,
    code_for,
    completion,
    echo,
    error,
    healing,
    reply,
)
from connection import Connection

__all__ = [
    "FOREVER",
    "Answer",
    "Endpoint",
    "Plan",
    "Received",
    "code_for",
    "completion",
    "echo",
    "error",
    "healing",
    "reply",
    "spawned",
]


class Endpoint:
    """A server on a thread of its own; every count may be read from any thread, at any time.

    Attributes:
        plan: how chat requests are answered; may be changed while it runs.
        models: what ``GET /v1/models`` lists; None leaves that question to the plan.
        accept: says of the n-th connection (from 1) whether it is served or closed at once.
        keep: False keeps no request in ``received``, for large runs; the counts go on.
        tls: speak TLS with this certificate.
        port: chosen at the first ``start`` and kept, so that a restart is the same address.
        connections: accepted so far.
        in_flight: requests that have come and are not answered to the end; ``max_in_flight`` the
            most there were at once.
        abandoned: requests whose client went away, or that a ``stop`` met, before the answer's end.
        errors: what went wrong in the plan or in reading a request; leaving ``with`` raises it.
        authorizations: every Authorization header seen, on any path.
    """

    def __init__(
        self,
        plan: Plan = echo,
        *,
        port: int = 0,
        models: Sequence[str] | None = ("test-model",),
        accept: Callable[[int], bool] = lambda connection: True,
        keep: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.plan, self.models, self.accept = plan, models, accept
        self.keep, self.port, self.tls = keep, port, tls
        self.connections = self.in_flight = self.max_in_flight = self.abandoned = 0
        self.authorizations: set[str] = set()
        self.changed = threading.Condition()
        self._received: list[Received] = []
        self._others: list[Received] = []
        self._times: list[float] = []
        self._counts: Counter[str] = Counter()
        self._attempts: Counter[bytes] = Counter()
        self.errors: list[BaseException] = []
        self.open: set[Connection] = set()

    @property
    def base_url(self) -> str:
        """Where to send requests, with ``/v1``; a stopped endpoint refuses them there."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"

    @property
    def received(self) -> list[Received]:
        """The chat requests (every POST) so far."""
        with self.changed:
            return list(self._received)

    @property
    def others(self) -> list[Received]:
        """The requests so far that are no POST."""
        with self.changed:
            return list(self._others)

    @property
    def times(self) -> list[float]:
        """When each chat request came, by ``time.monotonic``."""
        with self.changed:
            return list(self._times)

    @property
    def counts(self) -> Counter[str]:
        """How many chat requests came for each prompt."""
        with self.changed:
            return self._counts.copy()

    def wait_until(self, condition: Callable[["Endpoint"], bool], timeout: float = 10.0) -> None:
        """Wait until ``condition(self)`` holds; TimeoutError when it does not come to that."""
        with self.changed:
            if not self.changed.wait_for(lambda: condition(self), timeout):
                raise TimeoutError(f"not after {timeout} s; {len(self._times)} requests came")

    def start(self) -> None:
        """Listen, on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=4096)
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self.stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, args=(listener,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection as a crash would, without a word."""
        self._loop.call_soon_threadsafe(self.stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread.is_alive():
            self.stop()
        if self.errors and exc is None:
            raise self.errors[0]

    def _run(self, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        self._loop.set_exception_handler(self._fail)
        server = await self._loop.create_server(
            lambda: Connection(self), sock=listener, ssl=self.tls
        )
        await self.stopping.wait()
        # A closed server loses what it has just accepted, so that first becomes a connection.
        self._loop.remove_reader(listener)
        await asyncio.sleep(0)
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        for connection in self.open:
            connection.reset()
        await asyncio.gather(*others, return_exceptions=True)
        while self.open:
            await next(iter(self.open)).gone.wait()

    def _fail(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what went wrong outside the plan: a request that is no HTTP, say."""
        self.errors.append(context.get("exception") or RuntimeError(context["message"]))

    def answer(self, request: Received) -> Answer:
        """Count the request and find its answer; what a plan raises is raised again at the end."""
        try:
            with self.changed:
                self._count(request)
                self.changed.notify_all()
            path = request.path.partition("?")[0]
            if request.method == "GET" and path == "/stats":
                return Answer(body=self.stats())
            if request.method == "GET" and path.endswith("/models") and self.models is not None:
                data = [{"id": name, "object": "model", "created": 1} for name in self.models]
                return Answer(body={"object": "list", "data": data})
            return self.plan(request)
        except Exception as exc:
            self.errors.append(exc)
            return error(599, f"the plan failed: {exc!r}")

    def _count(self, request: Received) -> None:
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.authorizations.update({request.headers.get("authorization", "")} - {""})
        if request.method != "POST":
            self._others.append(request)
            return
        self._times.append(request.time)
        request.n = len(self._times)
        digest = blake2b(request.body, digest_size=16).digest()
        self._attempts[digest] += 1
        request.attempt = self._attempts[digest]
        if self.keep:
            self._received.append(request)
        self._counts[request.prompt] += 1

    def stats(self) -> dict[str, int]:
        """Sum up, as ``GET /stats`` does."""
        return {
            "requests": len(self._times),
            "connections": self.connections,
            "max_in_flight": self.max_in_flight,
            "abandoned": self.abandoned,
        }


@contextmanager
def spawned(*options: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run an endpoint as a process of its own: yields the process and its base URL."""
    command = [sys.executable, __file__, *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = cast("IO[str]", process.stdout).readline().strip()
            if not url:
                raise RuntimeError(f"no endpoint from {command}")
            yield process, url
        finally:
            process.kill()


def _logged(plan: Plan, path: Path) -> Plan:
    """Append one JSON line for each request to ``path`` before it is answered."""

    def answer(request: Received) -> Answer:
        line = {"n": request.n, "attempt": request.attempt, "prompt": request.prompt}
        with path.open("a") as log:
            log.write(json.dumps(line) + "\n")
        return plan(request)

    return answer


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    from faults import named_plan

    parser = argparse.ArgumentParser(description="A loopback endpoint for tests.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--plan", default="echo", help="echo, fault:NAME, heal:NAME or mixed:SEED")
    parser.add_argument("--log", type=Path, help="append a JSON line for each chat request")
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    plan = named_plan(options.plan)
    with Endpoint(_logged(plan, options.log) if options.log else plan, port=options.port) as served:
        print(served.base_url, flush=True)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
