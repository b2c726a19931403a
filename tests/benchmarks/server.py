"""A loopback chat endpoint that is fast enough not to be what a benchmark measures.

    python tests/benchmarks/server.py --latency 200
    python tests/benchmarks/server.py --latency 2000 --sigma 0.5        lognormal, mean 2 s
    python tests/benchmarks/server.py --servers 8 --service 50          a queue, as vLLM has
    python tests/benchmarks/server.py --rate-limit 600                  429 with retry-after

Prints its base URL on the first line, and at SIGTERM what it counted as one line of JSON, which
``GET /stats`` gives at any time. A client that pipelines is not served.
"""

import argparse
import asyncio
import heapq
import json
import math
import mmap
import os
import signal
import socket
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import cast

STEP = "def step_{0}(values: list[int]) -> int:\n    return sum(values[{0}:]) % {1}\n"
CODE = "\n".join(STEP.format(n, n + 2) for n in range(9))
HASH = b"0123456789abcdef"
COUNTS = ("requests", "refused", "connections", "abandoned", "max_in_flight", "latency_us")


def completion() -> bytes:
    """Write an answer of 1.2 KB; ``HASH`` is in its text once."""
    message = {
        "role": "assistant",
        "content": f"Here it is:\n\n```python\n{CODE}# {HASH.decode()}\n```\n",
    }
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "test-model",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 300, "total_tokens": 400},
    }
    return json.dumps(body).encode()


def answer(status: str, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{headers}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def refusal(retry_after: int | None) -> bytes:
    body = json.dumps({"error": {"message": "slow down", "type": "requests", "code": None}})
    headers = "" if retry_after is None else f"retry-after: {retry_after}\r\n"
    return answer("429 Too Many Requests", body.encode(), headers)


@dataclass
class Options:
    """The command line: times in ms, ``rate_limit`` per minute; 0 is none of it."""

    port: int
    workers: int
    latency: float
    sigma: float
    seed: int
    servers: int
    service: float
    concurrency_limit: int
    rate_limit: float
    burst: float
    hash: bool


class Limits:
    """Says of each request when it is answered, or that it is refused.

    A queue has ``servers`` places, each taking ``service`` for one request, first come first
    served. The rate is a bucket of ``burst`` requests that fills evenly.
    """

    def __init__(self, options: Options, clock: Callable[[], float]) -> None:
        self.options, self.clock = options, clock
        self.random = Random(options.seed)
        self.free = [0.0] * options.servers
        self.tokens, self.filled = options.burst, clock()

    def wait(self, in_flight: int) -> tuple[float, bytes | None]:
        """Return seconds until the answer, and the refusal where it is one."""
        options = self.options
        if options.concurrency_limit and in_flight > options.concurrency_limit:
            return 0.0, refusal(None)
        if options.rate_limit:
            now, rate = self.clock(), options.rate_limit / 60
            self.tokens = min(options.burst, self.tokens + (now - self.filled) * rate)
            self.filled = now
            if self.tokens < 1:
                return 0.0, refusal(math.ceil((1 - self.tokens) / rate))
            self.tokens -= 1
        return self.draw(options.latency) + (self.queue() if self.free else 0.0), None

    def draw(self, mean: float) -> float:
        """Draw seconds of a lognormal time from its mean in ms; a ``sigma`` of 0 is the mean."""
        sigma = self.options.sigma
        if not mean or not sigma:
            return mean / 1000
        return self.random.lognormvariate(math.log(mean / 1000) - sigma * sigma / 2, sigma)

    def queue(self) -> float:
        now = self.clock()
        start = max(now, self.free[0])
        end = start + self.draw(self.options.service)
        heapq.heapreplace(self.free, end)
        return end - now


class Worker:
    """What the connections of one process share; ``counts`` of all processes are in one memory."""

    def __init__(self, options: Options, counts: memoryview, number: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.all, self.number = counts, number
        self.mine = counts[number * len(COUNTS) : (number + 1) * len(COUNTS)]
        self.limits = Limits(options, self.loop.time)
        self.times = array("d") if options.workers == 1 else None
        self.in_flight = 0
        self.good = answer("200 OK", completion())
        self.before, _, self.after = self.good.partition(HASH)
        self.hash = options.hash
        models = {"object": "list", "data": [{"id": "test-model", "object": "model"}]}
        self.models = answer("200 OK", json.dumps(models).encode())

    def stats(self) -> dict[str, float]:
        """Sum up over all processes; ``busiest_minute`` is known where there is only one."""
        rows = [self.all[i :: len(COUNTS)] for i in range(len(COUNTS))]
        stats: dict[str, float] = {name: sum(row) for name, row in zip(COUNTS, rows, strict=True)}
        stats["latency_s"] = stats.pop("latency_us") / 1e6
        if self.times is not None:
            stats["busiest_minute"] = busiest(self.times, 60.0)
        return stats

    def chat(self, body: bytes | bytearray) -> bytes:
        """Choose the good answer; with ``--hash`` it holds a hash of the request."""
        if not self.hash:
            return self.good
        digest = blake2b(body, digest_size=len(HASH) // 2).hexdigest()
        return self.before + digest.encode() + self.after


def busiest(times: "array[float]", span: float) -> int:
    """Count the requests in the fullest window of ``span`` seconds."""
    most = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - span:
            first += 1
        most = max(most, last - first + 1)
    return most


class Connection(asyncio.Protocol):
    """One client: a request, its answer, the next."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.buffer = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.worker.mine[2] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.worker.mine[3] += 1
            self.worker.in_flight -= 1

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        end = data.find(b"\r\n\r\n") + 4
        if end < 4:
            self.buffer = data
            return
        head = data[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        length = int(head[at + 17 : head.index(b"\r\n", at + 17)]) if at >= 0 else 0
        if len(data) < end + length:
            self.buffer = data
            return
        self.buffer = b""
        if head.startswith(b"post"):
            self.chat(data[end:])
        elif b"/stats " in head[: head.index(b"\r\n")]:
            self.transport.write(answer("200 OK", json.dumps(self.worker.stats()).encode()))
        else:
            self.transport.write(self.worker.models)

    def chat(self, body: bytes) -> None:
        worker = self.worker
        mine = worker.mine
        mine[0] += 1
        if worker.times is not None:
            worker.times.append(time.monotonic())
        worker.in_flight += 1
        seconds, refused = worker.limits.wait(worker.in_flight)
        if refused is not None:
            mine[1] += 1
            worker.in_flight -= 1
            self.transport.write(refused)
            return
        mine[4] = max(mine[4], worker.in_flight)
        mine[5] += round(seconds * 1e6)
        if seconds:
            self.timer = worker.loop.call_later(seconds, self.finish, worker.chat(body))
        else:
            self.finish(worker.chat(body))

    def finish(self, data: bytes) -> None:
        self.timer = None
        self.worker.in_flight -= 1
        self.transport.write(data)


async def serve(worker: Worker, listener: socket.socket, parent: int | None) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent process is gone."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        worker.loop.add_signal_handler(number, stopping.set)
    server = await worker.loop.create_server(lambda: Connection(worker), sock=listener)
    while not stopping.is_set():
        try:
            await asyncio.wait_for(stopping.wait(), 1.0)
        except TimeoutError:
            if parent is not None and os.getppid() != parent:
                break
    server.close()


def listeners(port: int, count: int) -> list[socket.socket]:
    """Open ``count`` sockets on one port; the kernel spreads the connections over them."""
    opened: list[socket.socket] = []
    for _ in range(count):
        opened.append(socket.create_server(("127.0.0.1", port), backlog=4096, reuse_port=count > 1))
        port = opened[0].getsockname()[1]
    return opened


def parse() -> Options:
    parser = argparse.ArgumentParser(description="A fast loopback chat endpoint for benchmarks.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes; limits need 1")
    parser.add_argument("--latency", type=float, default=0, help="ms before each answer (mean)")
    parser.add_argument("--sigma", type=float, default=0, help="makes the times lognormal")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", type=int, default=0, help="places of a queue")
    parser.add_argument("--service", type=float, default=0, help="ms a place takes for a request")
    parser.add_argument("--concurrency-limit", type=int, default=0, help="429 above it")
    parser.add_argument("--rate-limit", type=float, default=0, help="requests a minute, then 429")
    parser.add_argument("--burst", type=float, default=0, help="default: one second's worth")
    parser.add_argument("--hash", action="store_true", help="put the request's hash in the answer")
    options = Options(**vars(parser.parse_args()))
    options.burst = options.burst or max(1.0, options.rate_limit / 60)
    if options.workers > 1 and (options.servers or options.concurrency_limit or options.rate_limit):
        parser.error("a queue or a limit is one process's own: it needs --workers 1")
    return options


def main() -> None:
    options = parse()
    sockets = listeners(options.port, options.workers)
    shared = mmap.mmap(-1, 8 * len(COUNTS) * options.workers)
    counts, me, children = memoryview(shared).cast("q"), os.getpid(), list[int]()
    number = 0
    for other in range(1, options.workers):
        child = os.fork()
        if child == 0:
            number = other
            break
        children.append(child)
    for unused in sockets[:number] + sockets[number + 1 :]:
        unused.close()
    worker = Worker(options, counts, number)
    if number == 0:
        print(f"http://127.0.0.1:{sockets[0].getsockname()[1]}/v1", flush=True)
    worker.loop.run_until_complete(serve(worker, sockets[number], me if number else None))
    if number:
        os._exit(0)
    for child in children:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    print(json.dumps(worker.stats()), flush=True)


if __name__ == "__main__":
    main()
