"""Requests on the disk, until they are answered."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator

from codesynth.models import Request

_IN_MEMORY = 1 << 20


class WaitingRequests:
    """Requests in a temporary file; in memory each takes 8 bytes.

    Attributes:
        unsent: the place in the file of each request that is in no batch.
        sent: the places of the requests in a batch, by its number.
        attempts: batches that gave no answer to a request, by its key.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="codesynth-")
        self.close = self._file.close
        self.unsent = array("Q")
        self.sent: dict[int, array[int]] = {}
        self.attempts: Counter[bytes] = Counter()

    def add(self, request: Request) -> None:
        """Take a request that is in no batch; not after the first ``read``."""
        self.unsent.append(self._file.tell())
        pickle.dump(request, self._file, pickle.HIGHEST_PROTOCOL)

    def read(self, places: Iterable[int]) -> Iterator[tuple[int, Request]]:
        """Yield each place with its request."""
        for place in places:
            self._file.seek(place)
            yield place, pickle.load(self._file)  # noqa: S301 - written by this process
