"""Where each row of a run went, so that the parts of a job can be put together in order."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator

_BLOCK = 1 << 16


class Fates:
    """Notes for each row, in order, whether it is in the output; 0.2 bytes a row or less.

    Attributes:
        checksums: CRC-32 of the lines of the failures file and of the output.

    >>> fates = Fates()
    >>> for line, ok in ((b"{}", True), (b"{}", False), (b"{}", True)):
    ...     fates.add(line, ok)
    >>> list(read_fates(fates.pack()))
    [1, 0, 1]
    """

    def __init__(self) -> None:
        self.checksums = [0, 0]
        self._fates, self._packed = bytearray(), bytearray()
        self._packer = zlib.compressobj()

    def add(self, line: bytes, ok: bool) -> None:
        """Take note of the next row's line, given without its newline."""
        self.checksums[ok] = zlib.crc32(line, self.checksums[ok])
        self._fates.append(ok)
        if len(self._fates) >= _BLOCK:
            self._pack()

    def _pack(self) -> None:
        self._packed += self._packer.compress(self._fates)
        self._fates.clear()

    def pack(self) -> str:
        """Write all of it as a text for ``read_fates``; nothing can be added after that."""
        self._pack()
        self._packed += self._packer.flush()
        return b64encode(self._packed).decode()


def read_fates(text: str) -> Iterator[int]:
    """Yield for each row 1 where it is in the output, 0 where it is in the failures file."""
    packed, reader = b64decode(text), zlib.decompressobj()
    while packed:
        yield from reader.decompress(packed, _BLOCK)
        packed = reader.unconsumed_tail
    yield from reader.flush()
