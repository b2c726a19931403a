"""One connection of the test endpoint: requests read, planned bytes sent."""

import asyncio
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from answers import FOREVER, Answer, Received

if TYPE_CHECKING:
    from endpoint import Endpoint


class Connection(asyncio.Protocol):
    """One client: requests in, one after the other; planned bytes out."""

    def __init__(self, endpoint: "Endpoint") -> None:
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
        elif not self.endpoint.accept(self.number):
            self.transport.close()

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
        if request is not None:
            answer = self.endpoint.answer(request)
            self.task = asyncio.create_task(self.perform(answer))
            self.task.add_done_callback(partial(self.sent, request, answer))

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

    def sent(self, request: Received, answer: Answer, task: "asyncio.Task[None]") -> None:
        """End the request, and the connection as the answer says."""
        self.task = None
        with self.endpoint.changed:
            self.endpoint.in_flight -= 1
            if task.cancelled():
                self.endpoint.abandoned += 1
            elif (exc := task.exception()) is not None:
                self.endpoint.errors.append(exc)
            else:
                request.finished = time.monotonic()
            self.endpoint.changed.notify_all()
        if task.cancelled():
            return
        if request.finished is None or answer.ending == "reset":
            self.reset()
        elif answer.ending == "close":
            self.transport.close()
        else:
            self.next()

    async def perform(self, answer: Answer) -> None:
        """Do the steps of an answer; cancelled when the client goes."""
        for step in answer.steps():
            if isinstance(step, bytes):
                self.transport.write(step)
                await self.writable.wait()
            # Even no time at all lets the loop learn that the client has gone.
            await asyncio.sleep(0 if isinstance(step, bytes) else step)
        if answer.ending == "hang":
            await asyncio.sleep(FOREVER)

    def reset(self) -> None:
        """Close with a RST: what the client has not read yet may be lost to it."""
        raw: socket.socket = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
