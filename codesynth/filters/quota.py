"""``--accepted N``: ask until enough rows are accepted."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Iterator, Sequence

from codesynth.filters.contamination import ContaminationFilter
from codesynth.filters.novelty import NoveltyFilter
from codesynth.models import Failure, Row

_log = logging.getLogger(__name__)
_LAST, _LEAST = 200, 2
"""Of the last ``_LAST`` rows at least ``_LEAST`` must be accepted; else the run gives up."""


class Quota:
    """Hands out numbers of prompts until enough of their rows are accepted.

    It is also a filter: it asks the other filters and counts what they accept. There are never
    more rows under way than are still wanted, so concurrency does not change which rows are
    accepted. The feeder's thread pulls numbers, the caller's thread brings rows.

    Args:
        filters: the filters that it asks.
        bad: number of unusable rows of the pool, which come first. They may have come back before
            the first number is pulled.
        shard: (part, parts) as in ``--shard``: only the rows of this part are counted.

    Attributes:
        exhausted: it has given up, because hardly any of the last rows was accepted.
    """

    def __init__(
        self,
        wanted: int,
        samples: int = 1,
        filters: Sequence[ContaminationFilter | NoveltyFilter] = (),
        *,
        bad: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self.wanted, self._samples, self.filters = wanted, samples, filters
        self._first, self._shard = bad, shard
        self._bad = len(range(shard[0], bad, shard[1]))
        self.accepted = self._under_way = 0
        self.exhausted = False
        self._last: deque[bool] = deque(maxlen=_LAST)
        self._changed = threading.Condition()

    def numbers(self) -> Iterator[int]:
        """Yield 0, 1, 2, ...; wait before a number while enough rows are under way."""
        part, parts = self._shard
        for number in itertools.count():
            first = self._first + number * self._samples
            own = sum(row % parts == part for row in range(first, first + self._samples))
            with self._changed:
                while own and self._under_way and self._is_full() and not self._is_over():
                    self._changed.wait()
                if self._is_over():
                    return
                self._under_way += own
            yield number

    def reject(self, row: Row) -> Failure | None:
        """Ask the filters, and count whether all accept the row."""
        reasons = (each.reject(row) for each in self.filters)
        reason = next((reason for reason in reasons if reason is not None), None)
        self._note(accepted=reason is None)
        return reason

    def note_failed(self) -> None:
        """Count a row that failed."""
        self._note(accepted=False)

    def _note(self, *, accepted: bool) -> None:
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
        return self.accepted + self._under_way >= self.wanted

    def _is_over(self) -> bool:
        return self.exhausted or self.accepted >= self.wanted
