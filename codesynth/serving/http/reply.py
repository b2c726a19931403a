"""The result of a request: a whole response, unpacked and not too large; or none."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httpx

from codesynth.models import FailureKind
from codesynth.serving.http.connection import ResponseTooLarge


@dataclass(slots=True)
class Reply:
    """A whole HTTP response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(eq=False)
class NoReply(Exception):  # noqa: N818 - the name says enough
    """No whole HTTP response came.

    Attributes:
        kind: timeout, connection or bad_response.
        unreachable: no connection was made, so nothing was sent.
        permanent: trying again cannot help.
        stale: a kept connection was closed; the request can be sent again at once over a new one.
        out_of_files: this process has too many open files to make a connection.
    """

    kind: FailureKind
    message: str
    unreachable: bool = False
    permanent: bool = False
    stale: bool = False
    out_of_files: bool = False


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
        if name.lower() == b"content-encoding" and body:
            try:
                body = _unpack(body, value.decode("latin-1").strip().lower(), limit)
            except httpx.DecodingError:
                if response.is_success:
                    raise
                body = b""  # the status says what is wrong
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


def _unpack(data: bytes, coding: str, limit: int) -> bytes:
    """Unpack gzip or deflate, which some servers send although we do not ask for it."""
    if coding == "identity":
        return data
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise httpx.DecodingError(f"content-encoding {coding!r} was not asked for")
    bits = 32 + zlib.MAX_WBITS  # recognises both
    if coding == "deflate" and data[0] & 15 != zlib.DEFLATED:
        bits = -zlib.MAX_WBITS  # some servers leave out its head
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
