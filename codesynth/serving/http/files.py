"""Bodies that stay on the disk: send a file as a form, write a response to a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import BinaryIO
from uuid import uuid4

import httpx

_PIECE_BYTES = 256 * 1024


class FormFile(httpx.AsyncByteStream):
    """A ``multipart/form-data`` body (RFC 7578): plain fields, then one file, named "file".

    It can be sent again: each time the file is read from its beginning.

    Attributes:
        headers: the headers that describe the body.

    >>> import io
    >>> FormFile({"purpose": "batch"}, "a.jsonl", io.BytesIO(b"{}")).headers["content-type"][:30]
    'multipart/form-data; boundary='
    """

    def __init__(self, fields: Mapping[str, str], name: str, file: BinaryIO) -> None:
        boundary = uuid4().hex
        parts = [
            f'--{boundary}\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'
            for field, value in fields.items()
        ]
        parts.append(
            f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
            "content-type: application/jsonl\r\n\r\n"
        )
        self._head, self._tail = "".join(parts).encode(), f"\r\n--{boundary}--\r\n".encode()
        self._file = file
        length = len(self._head) + file.seek(0, 2) + len(self._tail)
        self.headers = {
            "content-type": f"multipart/form-data; boundary={boundary}",
            "content-length": str(length),
        }

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._head
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            yield piece
        yield self._tail


async def write_body(response: httpx.Response, file: BinaryIO) -> None:
    """Write a response's body, unpacked, to the beginning of a file.

    Raises:
        httpx.HTTPError: its end is missing, or it cannot be unpacked as its headers say.
    """
    file.seek(0)
    file.truncate()
    try:
        async for piece in response.aiter_bytes():
            file.write(piece)
    finally:
        await response.aclose()
    file.seek(0)
