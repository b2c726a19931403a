"""``--accepted N``: ask until enough rows are accepted."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Iterator

_log = logging.getLogger(__name__)
_LAST, _LEAST = 200, 2
"""Of the last ``_LAST`` rows at least ``_LEAST`` must be accepted; else the run gives up."""


class Quota:
    """Hands out numbers of prompts until enough of their rows are accepted.

    There are never more rows under way than are still wanted, so concurrency does not change which
    rows are accepted. The feeder's thread pulls numbers, the caller's thread brings decisions.

    Args:
        wanted: number of rows.
        samples: rows of each prompt.
        bad: number of unusable rows of the pool: they come first and do not count.

    Attributes:
        exhausted: it has given up, because hardly any of the last rows was accepted.
    """

    def __init__(self, wanted: int, samples: int = 1, bad: int = 0) -> None:
        self.wanted, self._samples, self._bad = wanted, samples, bad
        self.accepted = self._under_way = 0
        self.exhausted = False
        self._last: deque[bool] = deque(maxlen=_LAST)
        self._changed = threading.Condition()

    def numbers(self) -> Iterator[int]:
        """Yield 0, 1, 2, ...; wait before a number while enough rows are under way."""
        for number in itertools.count():
            with self._changed:
                self._changed.wait_for(lambda: self._is_over() or not self._is_full())
                if self._is_over():
                    return
                self._under_way += self._samples
            yield number

    def count(self, accepted: bool) -> None:
        """Count a row that was accepted, or rejected or failed."""
        with self._changed:
            if self._bad:
                self._bad -= 1
                return
            self._under_way -= 1
            self.accepted += accepted
            self._last.append(accepted)
            if len(self._last) == _LAST and sum(self._last) < _LEAST and not self.exhausted:
                self.exhausted = True
                _log.warning(
                    "%d of %d rows accepted, and fewer than %d of the last %d: the pool is "
                    "exhausted. Add examples, or raise --temperature or --novelty",
                    *(self.accepted, self.wanted, _LEAST, _LAST),
                )
            self._changed.notify_all()

    def _is_full(self) -> bool:
        return self._under_way > 0 and self.accepted + self._under_way >= self.wanted

    def _is_over(self) -> bool:
        return self.exhausted or self.accepted >= self.wanted
