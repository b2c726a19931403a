"""An HTTP answer -> what it means: a text, or a failure and whether to ask again.

The rules are the tables "Rows" and "Retries" of the command-line contract; no I/O here.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from codesynth.codec import loads
from codesynth.models import FailureKind, Usage

MAX_RETRY_AFTER = 120.0
"""Seconds; a server that asks for a longer pause fails the row."""

_RETRIED = frozenset({408, 409, 429})
_DENIALS = frozenset({401, 402, 403, 404})
_CUT = frozenset({"length", "max_tokens", "max_length", "model_length", "token_limit"})
_FILTERED = frozenset({"content_filter", "content_filtered", "safety", "recitation", "blocklist"})
_BROKEN_OFF = frozenset({"abort", "aborted", "cancelled", "error", "insufficient_system_resource"})
_QUOTA = "insufficient_quota"


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Whether to ask again, and how many seconds the server wants to be left alone."""

    retry: bool
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt brought.

    Attributes:
        kind: None where ``text`` is a whole, usable answer.
        message: why it is not, for people; a server's words where it sent some.
        denied: refused for who asks or where, not for what is asked (a wrong key, model or path).
        quota: the account is exhausted, so no other request can succeed.
        billed: it may have cost something: an answer came, or none though it was asked.
    """

    text: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    kind: FailureKind | None = None
    message: str = ""
    status: int | None = None
    decision: RetryDecision = RetryDecision(retry=False)
    denied: bool = False
    quota: bool = False
    billed: bool = True


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read a chat completion, or what the server sent in its place."""
    if not 200 <= status < 300:
        return _refusal(status, headers, body)
    try:
        data = loads(body)
    except ValueError:
        words = wording(body)
        return _bad(status, headers, f"the answer is not JSON: {words}" if words else "no answer")
    if not isinstance(data, dict):
        return _bad(status, headers, "the answer is no JSON object")
    if data.get("error"):
        return _bad(status, headers, wording(body), quota=_is_quota(data))
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return _bad(status, headers, "the answer has no choices with a message")
    return _completion(status, headers, data, choice, message)


def _completion(
    status: int,
    headers: Mapping[str, str],
    data: dict[str, Any],
    choice: dict[str, Any],
    message: dict[str, Any],
) -> Answer:
    try:
        text, refusal = _content(message)
    except TypeError as exc:
        return _bad(status, headers, str(exc))
    reason = choice.get("finish_reason")
    reason = reason if isinstance(reason, str) else None
    kind, words = _verdict(text, refusal, (reason or "").lower())
    if kind == "bad_response":
        return _bad(status, headers, words)
    model = data.get("model")
    return Answer(
        text=text,
        finish_reason=reason,
        usage=_usage(data.get("usage")),
        model=model if isinstance(model, str) else None,
        kind=kind,
        message=words,
        status=status if kind else None,
    )


def _verdict(text: str, refusal: str, reason: str) -> tuple[FailureKind | None, str]:
    if reason in _CUT:
        return "truncated", f"finish_reason {reason}: the answer was cut. Try a larger --max-tokens"
    if reason in _FILTERED:
        return "filtered", f"finish_reason {reason}"
    if reason in _BROKEN_OFF:
        return "bad_response", f"finish_reason {reason}: the server broke off"
    if refusal:
        return "refused", refusal
    if not text.strip():
        return "empty", "the answer has no text"
    return None, ""


def _content(message: dict[str, Any]) -> tuple[str, str]:
    """Read (text, refusal) of a message; its content is a string, null or a list of parts."""
    content = message.get("content")
    refusal = message.get("refusal")
    refusals = [refusal] if isinstance(refusal, str) and refusal else []
    if content is None or isinstance(content, str):
        return content or "", "".join(refusals)
    if not isinstance(content, list):
        raise TypeError("the answer's content is neither text nor a list of parts")
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            if isinstance(part.get("text"), str) and part.get("type", "text") != "reasoning":
                texts.append(part["text"])
            if isinstance(part.get("refusal"), str):
                refusals.append(part["refusal"])
    return "".join(texts), "".join(refusals)


def _usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return Usage(
        prompt if isinstance(prompt, int) and prompt > 0 else 0,
        completion if isinstance(completion, int) and completion > 0 else 0,
    )


def _bad(status: int, headers: Mapping[str, str], words: str, *, quota: bool = False) -> Answer:
    decision = _decide(True, headers)
    return Answer(kind="bad_response", message=words, status=status, decision=decision, quota=quota)


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    words = wording(body) or f"status {status}"
    kind: FailureKind
    if status == 429:
        kind = "rate_limited"
    elif status in _RETRIED or status >= 500:
        kind = "server_error"
    else:
        kind = "rejected"
    if 300 <= status < 400:
        words = f"redirected to {clean(headers.get('location', 'nowhere'))}"
    decision = _decide(kind != "rejected", headers)
    if decision.retry and (decision.retry_after or 0) > MAX_RETRY_AFTER:
        words = (
            f"retry-after {decision.retry_after:g} s is longer than {MAX_RETRY_AFTER:g} s: {words}"
        )
        decision = RetryDecision(retry=False)
    try:
        quota = _is_quota(loads(body))
    except ValueError:
        quota = False
    return Answer(
        kind=kind,
        message=words,
        status=status,
        decision=decision,
        denied=status in _DENIALS or 300 <= status < 400,
        quota=quota,
        billed=False,
    )


def _decide(retry: bool, headers: Mapping[str, str]) -> RetryDecision:
    """Hear the server: ``x-should-retry`` wins over the table, ``retry-after`` over the backoff."""
    wish = headers.get("x-should-retry", "").strip().lower()
    if wish in ("true", "false"):
        retry = wish == "true"
    return RetryDecision(retry, retry_after(headers) if retry else None)


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


def _is_quota(data: object) -> bool:
    error = data.get("error") if isinstance(data, dict) else None
    places = [data, error] if isinstance(error, dict) else [data]
    return any(
        isinstance(place, dict) and _QUOTA in (place.get("code"), place.get("type"))
        for place in places
    )


def wording(body: bytes) -> str:
    """Find the words for people in an error, whatever its shape: JSON, HTML or plain text.

    >>> wording(b'{"error": {"message": "no such model", "code": 404}}')
    'no such model'
    >>> wording(b"<html><title>502 Bad Gateway</title><body>nginx</body></html>")
    '502 Bad Gateway'
    """
    text = body[:20_000].decode("utf-8", "replace")
    try:
        return clean(_words_of(loads(body)) or text)
    except ValueError:
        pass
    if "<" in text and (title := re.search(r"<(title|h1)[^>]*>([^<]+)<", text, re.IGNORECASE)):
        return clean(html.unescape(title[2]))
    return clean(html.unescape(re.sub(r"<[^>]*>", " ", text)))


def _words_of(data: object) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, list):
        return "; ".join(filter(None, map(_words_of, data[:3])))
    if isinstance(data, dict):
        for key in ("message", "error", "detail", "msg", "errors", "title", "code"):
            if words := _words_of(data.get(key)):
                return words
    return ""


def clean(text: str, limit: int = 300) -> str:
    """Make a stranger's text fit for one line of a terminal: no control characters, not long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
