"""Tests in an event loop or at a time that is given, and asking one thing of a transport."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from codesynth.serving.http.reply import read_reply


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a test in an event loop; one that hangs is ended."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(300):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


class Clock:
    """A clock that goes on when a test says so."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


async def ask(
    transport: httpx.AsyncBaseTransport, url: str, body: bytes = b"{}", **extensions: Any
) -> tuple[int, bytes]:
    """Post, as the client does."""
    request = httpx.Request("POST", url, content=body, extensions=extensions)
    reply = await read_reply(await transport.handle_async_request(request), 1 << 20)
    return reply.status, reply.body
