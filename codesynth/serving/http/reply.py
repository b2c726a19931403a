"""A whole response, unpacked and not too large."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httpx

from codesynth.serving.http.connection import ResponseTooLarge

_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})


@dataclass(slots=True)
class Reply:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def read_reply(response: httpx.Response, limit: int) -> Reply:
    """Read and unpack a response's body, never holding much more than ``limit`` bytes.

    ``Response.aread`` would cost four times as much CPU, and unpacks without a bound.

    Raises:
        ResponseTooLarge: the body, packed or unpacked, is longer than ``limit``.
        httpx.DecodingError: an answer is not packed as its headers say, or its end is missing.

    >>> import asyncio
    >>> asyncio.run(read_reply(httpx.Response(404, content=b"{}"), 100)).body
    b'{}'
    """
    stream = response.stream
    if isinstance(stream, httpx.ByteStream):  # in memory, as our transport's are
        body = b"".join(stream)
    else:
        body = await _collect(cast("httpx.AsyncByteStream", stream), limit)
    if len(body) > limit:
        raise ResponseTooLarge(f"the response has more than {limit} bytes")
    for name, value in response.headers.raw:  # cheaper than to ask httpx for it
        if name.lower() == b"content-encoding":
            for coding in reversed(value.lower().split(b",")):
                if coding.strip() in _PACKED:
                    body = _unpack(body, limit, strictly=response.is_success)
    return Reply(response.status_code, response.headers, body)


async def _collect(stream: httpx.AsyncByteStream, limit: int) -> bytes:
    """Read until the end, or until there are more than ``limit`` bytes."""
    parts: list[bytes] = []
    try:
        async for part in stream:
            parts.append(part)
            limit -= len(part)
            if limit < 0:
                break
    finally:
        await stream.aclose()
    return b"".join(parts)


def _unpack(packed: bytes, limit: int, *, strictly: bool) -> bytes:
    """Unpack gzip or deflate, which some servers send although we do not ask for it."""
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)  # it sees which of the two it is
    try:
        body = unpacker.decompress(packed, limit + 1)
    except zlib.error:
        body = b""
    if len(body) > limit:
        raise ResponseTooLarge("the response has too many bytes when it is unpacked")
    if packed and strictly and not unpacker.eof:
        raise httpx.DecodingError("the response cannot be unpacked: it is damaged or cut")
    return body
