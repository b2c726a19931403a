"""Read the reply to one attempt: an answer, or a failure and whether to try again. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from codesynth.errors import one_line
from codesynth.models import Answer, Failure, FailureKind
from codesynth.serving.answers import Redact, error_message, read_completion, read_json
from codesynth.serving.http import NoReplyError
from codesynth.serving.limits import Kind

MAX_RETRY_AFTER = 120.0
"""Seconds. If the server asks for a longer pause, the row fails."""

_STATUSES: dict[int, tuple[FailureKind, Kind]] = {
    429: ("rate_limited", "overload"),
    503: ("server_error", "busy"),
    529: ("server_error", "busy"),
    500: ("server_error", "down"),
    502: ("server_error", "down"),
    504: ("server_error", "down"),
    408: ("server_error", "other"),
    409: ("server_error", "other"),
}
"""What a status means: the kind of the row's failure, and the kind of result for the limits."""
_DENIALS = frozenset({401, 402, 403, 404, 407})
_QUOTA = "insufficient_quota"


@dataclass(slots=True)
class Outcome:
    """The result of one attempt.

    Attributes:
        answer: also set if the answer is of no use, so that the journal keeps it.
        failure: None if the answer is complete and usable.
        body: the text that the answer was read from; empty without an answer.
        result: the kind of result, by which ``limits`` choose the load; see ``AttemptResult``.
        retry: try again.
        retry_after: seconds that the server asks us to wait.
        denied: the key, the model or the URL is refused, not this one row.
        quota: the account is exhausted, so no request can succeed.
        billed: the attempt may have cost something.
    """

    answer: Answer | None = None
    failure: Failure | None = None
    body: bytes = b""
    result: Kind = "other"
    retry: bool = False
    retry_after: float | None = None
    denied: bool = False
    quota: bool = False
    billed: bool = True

    @property
    def status(self) -> int:
        """The status of a failure; 0 if there was no response."""
        return (self.failure and self.failure.status) or 0

    @property
    def words(self) -> str:
        """Say why there is no usable answer, without a full stop; empty if there is one."""
        return self.failure.message.rstrip(".") if self.failure is not None else ""


def read_outcome(
    status: int, headers: Mapping[str, str], body: bytes, redact: Redact = str
) -> Outcome:
    """Read a chat completion, or an error that the server sent in its place."""
    result: Kind = "other"
    if 200 <= status < 300:
        answer, failure = read_completion(body, redact)
        if failure is None or answer is not None:
            return Outcome(answer, failure, body, "answered")
        kind, words = failure.kind, failure.message
    else:
        default: FailureKind = "server_error" if status >= 500 else "rejected"
        kind, result = _STATUSES.get(status, (default, result))
        words = error_message(body, redact) or f"status {status}"
    if is_redirect := 300 <= status < 400:
        words = f"redirected to {one_line(redact(headers.get('location', 'nowhere')))}"
    should_retry = headers.get("x-should-retry", "").strip().lower()
    retry = should_retry == "true" or (kind != "rejected" and should_retry != "false")
    after = retry_after(headers) if retry else None
    if after is not None and after > MAX_RETRY_AFTER:
        words = f"retry-after {after:g} s is longer than {MAX_RETRY_AFTER:g} s: {words}"
        retry, after = False, None
    return Outcome(
        failure=Failure(kind, words, status),
        result=result,
        retry=retry,
        retry_after=after,
        denied=status in _DENIALS or is_redirect,
        quota=_is_quota(body),
        billed=kind == "bad_response",
    )


def read_no_reply(error: NoReplyError) -> Outcome:
    """Describe an attempt without a reply; one that nobody received was not billed."""
    return Outcome(
        failure=Failure(error.kind, error.message),
        result="other" if error.cause == "stale" else error.cause,
        retry=True,
        retry_after=0.0 if error.cause == "stale" else None,
        denied=error.cause == "hopeless",
        billed=error.cause in ("timeout", "down", "other"),
    )


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Read ``retry-after-ms``, then ``retry-after`` (seconds or an HTTP date), in seconds.

    None where neither is there or makes sense (RFC 9110, section 10.2.3).

    >>> retry_after({"retry-after-ms": "1500"}), retry_after({"retry-after": "soon"})
    (1.5, None)
    """
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,12}(\.\d*)?", value):
            return float(value) * unit
    value = headers.get("retry-after", "")
    if "," not in value:
        return None
    try:
        date = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, date - (time.time() if now is None else now))


def _is_quota(body: bytes) -> bool:
    try:
        data = read_json(body)
    except ValueError:
        return False
    error = data.get("error") if isinstance(data, dict) else None
    places = [place for place in (data, error) if isinstance(place, dict)]
    return any(_QUOTA in (place.get("code"), place.get("type")) for place in places)
