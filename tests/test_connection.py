"""One connection against peers that do everything that HTTP, TCP and malice allow."""

import asyncio
import socket
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.asking import ask, in_loop
from support.endpoint import OK, Endpoint, Script, read_request, says

from codesynth.serving.http.connection import Connection, ResponseTooLarge, StaleConnection
from codesynth.serving.http.transport import Transport

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED_OK = CHUNKED + b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\nx: y\r\n\r\n"
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n"
    b"HTTP/1.1 102 Processing\r\nconnection: close\r\n\r\n"
)
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}"


def answer(*headers: bytes, body: bytes = b"{}", start: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([start, *headers, b"", b""]) + body


async def outcome(*answers: bytes, then: str = "wait") -> tuple[int, bytes]:
    """Ask a peer that says this."""
    async with Endpoint(script=says(*answers, then=then)) as peer, Transport() as transport:
        return await ask(transport, peer.url)


WHOLE = {
    "with_length": OK,
    "chunked_with_extension_and_trailer": CHUNKED_OK,
    "after_interim_answers": INTERIM + OK,
    "length_beside_chunks": CHUNKED_OK.replace(b"\r\n", b"\r\ncontent-length: 9\r\n", 1),
    "chunk_sizes_padded": CHUNKED + b"2  \r\n{}\r\n0\r\n\r\n",
    "line_feeds_only": answer(b"content-length: 2").replace(b"\r", b""),
    "upgrade_offered": answer(b"connection: upgrade", b"upgrade: h2c", b"content-length: 2"),
    "headers_of_100_kb": answer(
        *[b"x-%d: %s" % (i, b"y" * 90) for i in range(1000)], b"content-length: 2"
    ),
    "no_length": answer(),
    "no_length_http10": answer(start=b"HTTP/1.0 200 OK"),
}


@pytest.mark.parametrize("raw", WHOLE.values(), ids=WHOLE)
@in_loop
async def test_answer_is_whole(raw: bytes) -> None:
    assert await outcome(raw, then="close") == (200, b"{}")


@pytest.mark.parametrize("status", [204, 304])
@in_loop
async def test_answer_without_body_ends_with_its_head(status: int) -> None:
    raw = answer(b"content-length: 2", body=b"", start=b"HTTP/1.1 %d Nothing" % status)
    assert await outcome(raw) == (status, b"")


BROKEN = {
    "other_protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "tls_alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "status_zero": answer(b"content-length: 2", start=b"HTTP/1.1 000 OK"),
    "protocol_switched": answer(
        b"connection: upgrade", b"upgrade: x", start=b"HTTP/1.1 101 Switch"
    ),
    "protocol_switched_silently": answer(start=b"HTTP/1.1 101 Switch"),
    "length_huge": answer(b"content-length: 99999999999999999999999"),
    "lengths_conflicting": answer(b"content-length: 2", b"content-length: 1"),
    "chunk_size_huge": CHUNKED + b"f" * 40 + b"\r\n{}",
    "header_with_nul": answer(b"x: a\0b", b"content-length: 2"),
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
@in_loop
async def test_broken_answer_is_a_protocol_error_at_once(raw: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await outcome(raw)


ENDLESS = {
    "header": (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 10_000),
    "interim_answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nx: ", b"y" * 10_000),
    "chunk_extension": (CHUNKED + b"2;x=", b"y" * 10_000),
    "chunked_body": (CHUNKED, b"1000\r\n" + b"y" * 0x1000 + b"\r\n"),
    "body_without_length": (answer(body=b""), b"y" * 10_000),
}


def endless(head: bytes, piece: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(head)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()

    return script


@pytest.mark.parametrize(("name", "raw"), ENDLESS.items(), ids=ENDLESS)
@in_loop
async def test_endless_head_or_body_is_ended(name: str, raw: tuple[bytes, bytes]) -> None:
    error = ResponseTooLarge if "length" in name or "body" in name else httpx.RemoteProtocolError
    async with (
        Endpoint(script=endless(*raw)) as peer,
        Transport(max_response_bytes=1 << 20) as transport,
    ):
        with pytest.raises(error, match=r"headers|more than 1048576 bytes"):
            await ask(transport, peer.url)


SURPLUS = {
    "garbage": b"garbage",
    "another_answer": TOO_LARGE,
    "interim_answers": INTERIM,
}


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
@in_loop
async def test_bytes_after_the_answer_end_the_connection(surplus: bytes) -> None:
    async with Endpoint(script=says(OK + surplus, TOO_LARGE)) as peer, Transport() as transport:
        for connections in (1, 2):
            request = httpx.Request("POST", peer.url, content=b"{}")
            response = await transport.handle_async_request(request)
            assert response.headers.multi_items() == [("content-length", "2")]
            assert await response.aread() == b"{}"
            assert peer.connections == connections


KEPT = {
    "http11": (OK, 1),
    "http11_close": (answer(b"connection: close", b"content-length: 2"), 2),
    "http10": (answer(b"content-length: 2", start=b"HTTP/1.0 200 OK"), 2),
    "http10_keep": (
        answer(b"connection: keep-alive", b"content-length: 2", start=b"HTTP/1.0 200 OK"),
        1,
    ),
}


@pytest.mark.parametrize(("raw", "connections"), KEPT.values(), ids=KEPT)
@in_loop
async def test_connection_is_kept_as_the_answer_says(raw: bytes, connections: int) -> None:
    async with Endpoint(script=says(raw, raw)) as peer, Transport() as transport:
        for _ in range(2):
            assert await ask(transport, peer.url) == (200, b"{}")
        assert peer.connections == connections


@pytest.mark.parametrize("then", ["close", "reset"])
@in_loop
async def test_kept_connection_that_dies_unanswered_is_a_stale_one(then: str) -> None:
    async with Endpoint(script=says(OK, b"", then=then)) as peer, Transport() as transport:
        assert await ask(transport, peer.url) == (200, b"{}")
        with pytest.raises(StaleConnection):
            await ask(transport, peer.url)
        assert await ask(transport, peer.url) == (200, b"{}")
        assert peer.connections == 2


@pytest.mark.parametrize("then", ["wait", "close"])
@in_loop
async def test_answer_that_comes_before_the_request_is_sent_counts(then: str) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        writer.write(TOO_LARGE)
        await writer.drain()
        if then == "wait":
            await asyncio.sleep(0.05)

    async with Endpoint(script=script) as peer, Transport() as transport:
        for _ in range(3):
            assert await ask(transport, peer.url, bytes(20_000_000)) == (413, b"{}")
        assert peer.connections == 3


@in_loop
async def test_answer_before_the_first_request_counts() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Full\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async with Endpoint(script=script) as peer, Transport() as transport:
        for _ in range(5):
            assert await ask(transport, peer.url) == (503, b"")


@in_loop
async def test_cancelled_request_closes_its_connection() -> None:
    asked, closed = asyncio.Event(), asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK[:-1])
        asked.set()
        await reader.read()
        closed.set()

    async with Endpoint(script=script) as peer, Transport() as transport:
        asking = asyncio.create_task(ask(transport, peer.url))
        await asked.wait()
        asking.cancel()
        await closed.wait()


class Wire(asyncio.Transport):
    """What asyncio would hand to a connection, without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.socket = socket.socket()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.socket

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.socket.close()


def connect() -> Connection:
    connection = Connection(memoryview(bytearray(4096)), 1 << 20, set())
    connection.connection_made(Wire())
    return connection


def fed(pieces: Iterable[bytes]) -> tuple[int, bytes] | httpx.TransportError:
    """Give an exchange these pieces and then the end."""

    async def exchange() -> tuple[int, bytes] | httpx.TransportError:
        connection = connect()
        for piece in pieces:
            connection.get_buffer(-1)[: len(piece)] = piece
            connection.buffer_updated(len(piece))
        connection.eof_received()
        connection.connection_lost(None)
        try:
            status, _, body = await connection.exchange(b"")
        except httpx.TransportError as exc:
            return exc
        return status, body

    return asyncio.run(exchange())


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({min(place, len(raw)) for place in places} | {0, len(raw)})
    return [raw[a:b] for a, b in pairwise(ends)]


PLACES = st.lists(st.integers(0, 300))
FRAMED = st.sampled_from([OK, CHUNKED_OK, INTERIM + OK, INTERIM + CHUNKED_OK])


@given(raw=FRAMED, places=PLACES, data=st.data())
def test_answer_is_the_same_in_any_pieces_and_each_beginning_of_it_an_error(
    raw: bytes, places: list[int], data: st.DataObject
) -> None:
    assert fed(cut(raw, places)) == (200, b"{}")
    beginning = raw[: data.draw(st.integers(0, len(raw) - 1))]
    assert isinstance(fed(cut(beginning, places)), httpx.TransportError)


@given(raw=FRAMED, at=st.integers(0, 300), junk=st.binary(max_size=20), places=PLACES)
def test_no_bytes_raise_anything_but_transport_errors(
    raw: bytes, at: int, junk: bytes, places: list[int]
) -> None:
    result = fed(cut(raw[:at] + junk + raw[at + len(junk) :], places))
    assert isinstance(result, (tuple, httpx.TransportError))
