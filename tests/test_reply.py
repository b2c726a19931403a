"""Bodies are read and unpacked within bounds."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator

import httpx
import pytest
from support.asking import in_loop

from codesynth.serving.http.reply import ResponseTooLarge, read_reply


class Streamed(httpx.AsyncByteStream):
    """A body that comes in pieces, as other transports give it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.closed = data, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.data), 7):
            yield self.data[start : start + 7]

    async def aclose(self) -> None:
        self.closed = True


PACKED = {
    "not_at_all": ("identity", b"{}"),
    "gzip": ("GZip", gzip.compress(b"{}", mtime=0)),
    "in_no_way_that_is_one": ("utf-8", b"{}"),
    "by_an_empty_name": ("", b"{}"),
    "x_gzip": ("x-gzip", gzip.compress(b"{}", mtime=0)),
    "deflate": ("deflate", zlib.compress(b"{}")),
    "among_spaces_and_other_words": (" identity, gzip ", gzip.compress(b"{}", mtime=0)),
}


@pytest.mark.parametrize(("coding", "data"), PACKED.values(), ids=PACKED)
@in_loop
async def test_packed_body_is_unpacked(coding: str, data: bytes) -> None:
    stream = Streamed(data)
    response = httpx.Response(200, headers={"content-encoding": coding}, stream=stream)
    assert (await read_reply(response, 100)).body == b"{}"
    assert stream.closed


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", gzip.compress(b"{}", mtime=0)[:-1]),
        ("gzip", b"{}"),
    ],
)
@in_loop
async def test_body_not_packed_as_it_says_is_a_decoding_error(coding: str, data: bytes) -> None:
    response = httpx.Response(200, headers={"content-encoding": coding}, stream=Streamed(data))
    with pytest.raises(httpx.DecodingError):
        await read_reply(response, 4000)
    refusal = httpx.Response(401, headers={"content-encoding": coding}, stream=Streamed(data))
    assert (await read_reply(refusal, 4000)).status == 401


@pytest.mark.parametrize(
    ("coding", "data"), [("identity", b"x" * 100), ("gzip", gzip.compress(b"x" * 100, mtime=0))]
)
@in_loop
async def test_body_of_just_the_limit_is_read(coding: str, data: bytes) -> None:
    headers = {"content-encoding": coding}
    response = httpx.Response(200, headers=headers, stream=Streamed(data))
    assert (await read_reply(response, 100)).body == b"x" * 100
    response = httpx.Response(200, headers=headers, stream=Streamed(data))
    with pytest.raises(ResponseTooLarge):
        await read_reply(response, 99)


@in_loop
async def test_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(bytes(50_000_000), mtime=0)
    response = httpx.Response(200, headers={"content-encoding": "gzip"}, stream=Streamed(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(ResponseTooLarge):
            await read_reply(response, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
