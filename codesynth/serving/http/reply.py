"""Read a response to its end, within bounds, and unpack it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httpx

from codesynth.serving.http.connection import ResponseTooLarge


@dataclass(slots=True)
class Reply:
    """An HTTP response, whole; names of headers in lower case, the last of equal ones."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def read_reply(response: httpx.Response, limit: int) -> Reply:
    """Read and unpack a response's body, never holding much more than ``limit`` bytes.

    ``Response.aread`` would cost four times as much CPU, and unpacks without a bound.

    Raises:
        ResponseTooLarge: the body, packed or unpacked, is longer than ``limit``.
        httpx.DecodingError: it is not packed as its headers say, or its end is missing.

    >>> import asyncio
    >>> asyncio.run(read_reply(httpx.Response(404, content=b"{}"), 100))
    Reply(status=404, headers={'content-length': '2'}, body=b'{}')
    """
    stream = response.stream
    if isinstance(stream, httpx.ByteStream):  # in memory, as our transport's are
        body = b"".join(stream)
    else:
        body = await _collect(cast("httpx.AsyncByteStream", stream), limit)
    if len(body) > limit:
        raise ResponseTooLarge(f"the response has more than {limit} bytes")
    headers = {
        name.lower().decode("latin-1"): value.decode("latin-1")
        for name, value in response.headers.raw
    }
    if body and "content-encoding" in headers:
        body = _unpack(body, headers["content-encoding"].strip().lower(), limit)
    return Reply(response.status_code, headers, body)


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


def _unpack(data: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip"):
        bits = 16 + zlib.MAX_WBITS
    elif coding == "deflate":  # some send it without the zlib header, as browsers allow
        zlib_header = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
        bits = zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS
    elif coding == "identity":
        return data
    else:
        raise httpx.DecodingError(f"content-encoding {coding!r} was not asked for")
    unpacker = zlib.decompressobj(bits)
    try:
        unpacked = unpacker.decompress(data, limit + 1)
    except zlib.error as exc:
        raise httpx.DecodingError(f"the response is not packed as its headers say: {exc}") from exc
    if len(unpacked) > limit:
        raise ResponseTooLarge(f"the response unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise httpx.DecodingError("the packed response is cut, or something follows it")
    return unpacked
