"""Which rows are good enough to be written: judged in their turn, one after the other."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from codesynth.codec import loads
from codesynth.models import Failure

if TYPE_CHECKING:
    from codesynth.quality.decontamination import Decontaminator
    from codesynth.quality.novelty import NoveltyGate

PATIENCE = 200
"""Rows of which at least one in a hundred must be accepted, or the pool is exhausted."""


class Quota:
    """Asks on until enough rows are accepted, never for more than are still wanted.

    Its numbers are pulled in one thread, and the rows noted in another.

    Attributes:
        accepted: rows so far.
        exhausted: given up: of the last ``PATIENCE`` rows hardly one was accepted.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.accepted = 0
        self.exhausted = False
        self._under_way = 0
        self._skipped = 0
        self._last: deque[bool] = deque(maxlen=PATIENCE)
        self._changed = threading.Condition()
        self._ended = False

    def numbers(self) -> Iterator[int]:
        """Count from 0, each number when one more row may be needed."""
        for number in itertools.count():
            with self._changed:
                self._changed.wait_for(self._is_decided)
                if self._ended or self.exhausted or self.accepted >= self.wanted:
                    return
                self._under_way += 1
            yield number

    def _is_decided(self) -> bool:
        over = self._ended or self.exhausted
        return over or self._under_way == 0 or self._under_way < self.wanted - self.accepted

    def skip(self, count: int) -> None:
        """Leave the first ``count`` rows out of account: unusable rows of the pool come first."""
        self._skipped = count

    def note(self, accepted: bool) -> None:
        """Count a row that was asked for."""
        with self._changed:
            if self._skipped:
                self._skipped -= 1
                return
            self._under_way -= 1
            self.accepted += accepted
            self._last.append(accepted)
            full = len(self._last) == PATIENCE
            self.exhausted = full and 100 * sum(self._last) < PATIENCE
            self._changed.notify_all()

    def end(self) -> None:
        """Give out no more numbers."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class QualityGate:
    """Judges each row's new column in the rows' order.

    Args:
        key: the new column.
        novelty: rejects what resembles the pool or a row before (``duplicate``).
        decontaminator: rejects what resembles a benchmark (``contaminated``).
        quota: hears what became of each row.
    """

    def __init__(
        self,
        key: str,
        *,
        novelty: NoveltyGate | None = None,
        decontaminator: Decontaminator | None = None,
        quota: Quota | None = None,
    ) -> None:
        self._key = key
        self._novelty = novelty
        self._decontaminator = decontaminator
        self.quota = quota

    def decide(self, ok: bool, line: bytes) -> Failure | None:
        """Judge a row's line; None lets it pass, and so does a line that is a failure already."""
        failure = self._judge(loads(line)[self._key]) if ok else None
        if self.quota is not None:
            self.quota.note(ok and failure is None)
        return failure

    def _judge(self, text: str) -> Failure | None:
        if self._decontaminator is not None:
            contamination = self._decontaminator.judge(text)
            if contamination is not None:
                return Failure("contaminated", str(contamination))
        if self._novelty is not None:
            duplicate = self._novelty.judge(text)
            if duplicate is not None:
                return Failure("duplicate", str(duplicate))
        return None
