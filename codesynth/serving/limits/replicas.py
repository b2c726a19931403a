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
    """One of several endpoints that serve the same model.

    Args:
        maximum: most requests in flight; fewer if it takes fewer. None: the user chose a number
            for all replicas together.
    """

    def __init__(self, name: str, maximum: int | None) -> None:
        self.name = name
        log = partial(_log.info, "%s: %s", name)
        self.concurrency = Concurrency(maximum, log) if maximum is not None else None
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


def choose(replicas: Sequence[Replica], now: float, avoid: int | None) -> tuple[int, float]:
    """Choose the least loaded replica; a request that has failed gets none that is down.

    Returns:
        the number of the replica, and the seconds until it may get a request.
    """
    if len(replicas) == 1:
        return 0, replicas[0].wait(now)
    used = [i for i, each in enumerate(replicas) if not each.left_out]
    rested = [i for i in used if replicas[i].rests_until <= now]
    fit = [i for i in rested if avoid is None or not replicas[i].is_down] or rested or used
    waits = {i: replicas[i].wait(now) for i in fit}
    best = min(fit, key=lambda i: (waits[i], i == avoid, replicas[i].load))
    if waits[best] <= 0 and replicas[best].is_down:
        replicas[best].rests_until = now + REST_SECONDS  # one trial at a time
    return best, waits[best]
