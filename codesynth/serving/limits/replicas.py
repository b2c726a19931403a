"""Which replica a request goes to, and which are left out."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial

from codesynth.serving.limits.concurrency import Concurrency

_log = logging.getLogger(__name__)
DENIALS_IN_A_ROW = 10
"""After this many refusals in a row of the key or the model, no single row is to blame."""
ERRORS_IN_A_ROW = 3
"""Server errors in a row after which a replica is down; a row may have caused one or two."""
REST_SECONDS = 30.0
"""Pause between two requests to a replica that is down, while other replicas answer."""


class Replica:
    """One of several endpoints that serve the same model."""

    def __init__(self, name: str, concurrency: Concurrency | None) -> None:
        self.name, self.concurrency = name, concurrency
        self.in_flight = 0
        self.has_answered = self.left_out = False
        self.rests_until = -math.inf
        self._denials = self._errors = 0

    @property
    def is_down(self) -> bool:
        """Tell whether it has failed and not answered since."""
        return self.rests_until > -math.inf

    @property
    def load(self) -> float:
        """The part of its limit that is in flight."""
        limit = self.concurrency.limit if self.concurrency is not None else 1.0
        return self.in_flight / max(limit, 1.0)

    def wait(self, now: float) -> float:
        """Tell the seconds until it may get a request; inf: when one of its requests ends."""
        return self.concurrency.wait(now) if self.concurrency is not None else 0.0

    def answered(self) -> None:
        """Note an answer."""
        if self.is_down:
            _log.warning("%s answers again", self.name)
            self.rests_until = -math.inf
        self.has_answered = True
        self._denials = self._errors = 0

    def failed(self, now: float, why: str, *, unreachable: bool) -> None:
        """Note a failure; a replica that is down gets a pause."""
        self._denials = 0
        self._errors += 1
        if not unreachable and self._errors < ERRORS_IN_A_ROW:
            return
        if not self.is_down:
            _log.warning("%s is down and left out for now: %s", self.name, why)
        if self.rests_until <= now:
            self.rests_until = now + REST_SECONDS

    def denied(self) -> bool:
        """Note a refusal; tell whether it refuses all requests, not only this row's."""
        self._denials += 1
        return not self.has_answered or self._denials >= DENIALS_IN_A_ROW

    def leave_out(self, why: str) -> None:
        """Do not use it any more in this run."""
        if not self.left_out:
            self.left_out = True
            _log.warning("%s is left out: %s", self.name, why)


class Replicas:
    """The endpoints of a run.

    Args:
        names: for messages.
        maximum: most requests in flight, at all replicas together.
        fixed: the user chose ``maximum``; else a limit is found for each replica.
    """

    def __init__(self, names: Sequence[str], maximum: int, *, fixed: bool) -> None:
        self._maximum = maximum
        self._all: list[Replica] = []
        for name in names:
            control = None if fixed else Concurrency(maximum, partial(_log.info, "%s: %s", name))
            self._all.append(Replica(name, control))

    def __getitem__(self, number: int) -> Replica:
        return self._all[number]

    @property
    def limit(self) -> int:
        """Requests that may be in flight."""
        limits = [each.concurrency.limit for each in self._all if each.concurrency is not None]
        return min(self._maximum, max(1, int(sum(limits)))) if limits else self._maximum

    def has_others(self, replica: Replica) -> bool:
        """Tell whether another one is still used."""
        return any(not each.left_out for each in self._all if each is not replica)

    def choose(self, now: float, avoid: int | None) -> tuple[int | None, float]:
        """Choose the least loaded replica; a request that has failed gets none that is down.

        Returns:
            the number of the replica and 0; or None and the seconds after which to try again.
        """
        if len(self._all) == 1:
            wait = self._all[0].wait(now)
            return (0, 0.0) if wait <= 0 else (None, wait)
        used = [i for i, each in enumerate(self._all) if not each.left_out]
        rested = [i for i in used if self._all[i].rests_until <= now]
        fit = [i for i in rested if avoid is None or not self._all[i].is_down] or rested or used
        waits = {i: self._all[i].wait(now) for i in fit}
        free = [i for i in fit if waits[i] <= 0]
        if not free:
            return None, min(waits.values(), default=math.inf)
        best = min([i for i in free if i != avoid] or free, key=lambda i: self._all[i].load)
        if self._all[best].is_down:
            self._all[best].rests_until = now + REST_SECONDS  # one trial at a time
        return best, 0.0
