"""SQLite's write-ahead log, read without SQLite, which takes a damaged frame for the log's end.

The format is https://www.sqlite.org/fileformat2.html#the_write_ahead_log: a header, then frames
of one page each; the check sums of each go on from those of the one before.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")


def is_damaged(path: str) -> bool:
    """Tell whether commits lie behind damage, where SQLite would pass over them in silence.

    A broken last commit is no damage: a power cut leaves such ones, and nothing of it was handed
    on yet.
    """
    if not Path(path).exists():
        return False
    with open(path, "rb") as log:
        head = log.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return False
        magic, _, page, _, *salts, a, b = _HEADER.unpack(head)
        order = ">" if magic & 1 else "<"
        sums = _add(order, head[:24], (0, 0))
        if sums != (a, b):
            return True
        is_whole, lost = True, 0
        while len(frame := log.read(_FRAME.size + page)) == _FRAME.size + page:
            _, is_commit, *frame_salts, a, b = _FRAME.unpack_from(frame)
            is_current = frame_salts == salts  # else it is left from before a checkpoint
            if is_whole:
                sums = _add(order, frame[:8] + frame[_FRAME.size :], sums)
                is_whole = is_current and sums == (a, b)
            if is_commit and is_current and not is_whole:
                lost += 1
    return lost > 1


def _add(order: str, data: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    a, b = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for x, y in zip(words[::2], words[1::2], strict=True):
        a = a + x + b & 0xFFFFFFFF
        b = b + y + a & 0xFFFFFFFF
    return a, b
