"""The result of a request: a whole response, unpacked and not too large; or none."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import httpx

from codesynth.models import FailureKind
from codesynth.serving.http.connect_errors import Cause
from codesynth.serving.http.connection import ResponseTooLarge

_UNPACKED = frozenset({"gzip", "x-gzip", "deflate"})
_MOST_MEMBERS = 100  # each member takes time in proportion to all that follow it
_NOT_UNPACKED = frozenset({"br", "zstd", "compress", "x-compress"})


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
        kind: the row's failure: timeout, connection or bad_response.
        cause: ``hopeless`` (trying again cannot help), ``unreachable`` (no connection was made),
            ``busy`` (this process has too many open files), ``stale`` (a kept connection was
            closed; the request can be sent again at once over a new one), ``timeout``, ``down`` (a
            connection broke), or ``other`` (the response cannot be read).
    """

    kind: FailureKind
    message: str
    cause: Cause


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
                body = _unpack(body, value.decode("latin-1"), limit)
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


def _unpack(data: bytes, codings: str, limit: int) -> bytes:
    """Unpack gzip or deflate, which some servers send although we do not ask for it.

    Words that name no compression, such as ``utf-8``, are ignored, as httpx and browsers do.
    """
    for coding in reversed(codings.lower().split(",")):
        if coding.strip() in _UNPACKED:
            data = _inflate(data, limit)
        elif coding.strip() in _NOT_UNPACKED:
            raise httpx.DecodingError(f"the response is packed with {coding.strip()!r}")
    return data


def _inflate(data: bytes, limit: int) -> bytes:
    for bits in (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS):  # gzip or zlib; deflate without a head
        with contextlib.suppress(zlib.error):
            return _inflate_members(data, bits, limit)
    raise httpx.DecodingError("the response cannot be unpacked: it is damaged or cut")


def _inflate_members(data: bytes, bits: int, limit: int) -> bytes:
    """Unpack members that follow each other (RFC 1952, section 2.2)."""
    parts = []
    for _ in range(_MOST_MEMBERS):
        unpacker = zlib.decompressobj(bits)
        parts.append(unpacker.decompress(data, limit + 1))
        limit -= len(parts[-1])
        if limit < 0:
            raise ResponseTooLarge("the response has too many bytes when it is unpacked")
        if not unpacker.eof:
            raise zlib.error("its end is missing")
        data = unpacker.unused_data
        if not data:
            return b"".join(parts)
    raise zlib.error("it has too many members")
