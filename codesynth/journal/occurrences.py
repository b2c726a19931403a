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
        slot = self._find(fingerprint)
        if self._slots[slot]:
            self._repeated[fingerprint] = self._repeated.get(fingerprint, 0) + 1
            return self._repeated[fingerprint]
        self._slots[slot] = fingerprint
        self._used += 1
        if 2 * self._used > len(self._slots):
            smaller, self._slots = self._slots, array("Q", bytes(16 * len(self._slots)))
            for each in filter(None, smaller):
                self._slots[self._find(each)] = each
        return 0

    def _find(self, fingerprint: int) -> int:
        """Find the slot of a fingerprint: the one that holds it, or else the free one for it."""
        mask = len(self._slots) - 1
        slot = fingerprint & mask
        while self._slots[slot] not in (0, fingerprint):
            slot = (slot + 1) & mask
        return slot
