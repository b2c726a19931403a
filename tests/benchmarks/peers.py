"""Other ways to ask, each asking alone: no file is read, none written, nothing kept.

    python tests/benchmarks/peers.py openai http://127.0.0.1:8000/v1 1000 64

The arguments: one of ``PEERS``, a base URL, how many requests, how many of them at a time. The
peers are no part of the package: ``pip install openai requests``.
"""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import cast
from urllib.parse import urlsplit

PROMPT = "Write the code that this instruction asks for. " + "w" * 900
MODEL = "m"
PEERS = {
    "floor": "bare asyncio loop, no parsing",
    "openai": "AsyncOpenAI and a semaphore",
    "requests": "requests in a thread pool",
}


def is_there(name: str) -> bool:
    """Tell whether a peer is installed."""
    return name == "floor" or importlib.util.find_spec(name) is not None


def prompt(number: int) -> str:
    return f"{number} {PROMPT}"


def body(number: int) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt(number)}]}


async def use_openai(url: str, count: int, concurrency: int) -> None:
    """Ask the usual way: a task a request, behind a semaphore."""
    from openai import AsyncOpenAI

    semaphore = asyncio.Semaphore(concurrency)
    async with AsyncOpenAI(base_url=url, api_key="sk-0123456789") as client:

        async def ask(number: int) -> str | None:
            async with semaphore:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": prompt(number)}]
                )
            return answer.choices[0].message.content

        assert all(await asyncio.gather(*map(ask, range(count))))


def use_requests(url: str, count: int, concurrency: int) -> None:
    """Ask as DataFlow's serving does: one session, as many connections as threads."""
    import requests
    from requests.adapters import HTTPAdapter

    with requests.Session() as session, ThreadPoolExecutor(concurrency) as pool:
        session.mount("http://", HTTPAdapter(1, concurrency, pool_block=True))
        session.headers["authorization"] = "Bearer sk-0123456789"

        def ask(number: int) -> str:
            answer = session.post(f"{url}/chat/completions", json=body(number), timeout=600)
            answer.raise_for_status()
            return cast("str", answer.json()["choices"][0]["message"]["content"])

        assert all(pool.map(ask, range(count)))


class Bare(asyncio.Protocol):
    """Sends the same bytes again whenever as many have come as the first answer had."""

    def __init__(self, message: bytes, numbers: Iterator[int]) -> None:
        self.message, self.numbers = message, numbers
        self.length = self.got = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.ask()

    def ask(self) -> None:
        if next(self.numbers, None) is None:
            self.transport.close()
        else:
            self.transport.write(self.message)

    def data_received(self, data: bytes) -> None:
        self.got += len(data)
        if not self.length:
            head, _, _ = data.lower().partition(b"\r\n\r\n")
            _, _, length = head.partition(b"content-length: ")
            self.length = len(head) + 4 + int(length.split(b"\r\n")[0])
        if self.got >= self.length:
            self.got -= self.length
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self.done.set_result(exc)


async def use_floor(url: str, count: int, concurrency: int) -> None:
    place = urlsplit(url)
    content = json.dumps(body(0)).encode()
    head = f"POST {place.path}/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\n"
    message = f"{head}content-length: {len(content)}\r\n\r\n".encode() + content
    numbers = iter(range(count))
    loop = asyncio.get_running_loop()

    async def one() -> None:
        _, bare = await loop.create_connection(
            lambda: Bare(message, numbers), place.hostname or "", place.port or 80
        )
        assert await bare.done is None

    await asyncio.gather(*(one() for _ in range(min(count, concurrency))))
    assert next(numbers, None) is None


def main() -> None:
    name, url, count, concurrency = sys.argv[1:]
    numbers = int(count), int(concurrency)
    if name == "requests":
        use_requests(url, *numbers)
    else:
        use = {"floor": use_floor, "openai": use_openai}[name]
        asyncio.run(use(url, *numbers))


if __name__ == "__main__":
    main()
