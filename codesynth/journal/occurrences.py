"""How often each request was seen in a run."""

from __future__ import annotations

from array import array


class Occurrences:
    """Counts hashes at 16 to 32 bytes each: an open-addressing table of 64-bit fingerprints.

    In one of 30 million runs with a million different requests, two of them share a fingerprint.
    The second one then counts as a repetition of the first.

    >>> seen = Occurrences()
    >>> [seen.count(key) for key in (b"12345678", b"abcdefgh", b"12345678")]
    [0, 0, 1]
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 << 10))
        self._used = 0
        self._repeated: dict[int, int] = {}

    def count(self, key: bytes) -> int:
        """Tell how often ``key`` (8 bytes of a hash or more) was counted before, and count it."""
        fingerprint = int.from_bytes(key[:8], "little") or 1
        if not self._add(fingerprint):
            self._repeated[fingerprint] = self._repeated.get(fingerprint, 0) + 1
            return self._repeated[fingerprint]
        self._used += 1
        if 2 * self._used > len(self._slots):
            smaller, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
            for each in filter(None, smaller):
                self._add(each)
        return 0

    def _add(self, fingerprint: int) -> bool:
        """Put a fingerprint into a free slot; False if it is in the table already."""
        slots, mask = self._slots, len(self._slots) - 1
        slot = fingerprint & mask
        while held := slots[slot]:
            if held == fingerprint:
                return False
            slot = (slot + 1) & mask
        slots[slot] = fingerprint
        return True
