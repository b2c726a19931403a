"""Read the body of a chat completion: an answer, or a failure (cut, refused, empty). No I/O."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from codesynth.codec import loads
from codesynth.errors import one_line
from codesynth.models import Answer, Failure, FailureKind, Usage

_CUT = frozenset({"length", "max_tokens", "max_length", "model_length", "token_limit"})
_FILTERED = frozenset({"content_filter", "content_filtered", "safety", "recitation", "blocklist"})
_BROKEN_OFF = frozenset({"abort", "aborted", "cancelled", "error", "insufficient_system_resource"})
_BOM = b"\xef\xbb\xbf"
_LONGEST = 20_000
"""Characters of an error page that are read."""
_MOST_TOKENS = 1 << 53

Redact: TypeAlias = Callable[[str], str]
"""Takes secrets out of a text. Call it before the text is cut: half a key is a secret too."""


def read_completion(body: bytes, redact: Redact = str) -> tuple[Answer | None, Failure | None]:
    """Read the body of a chat completion: an answer, a failure, or both where it is of no use."""
    try:
        data = read_json(body)
    except ValueError:
        words = error_message(body, redact)
        return _bad(f"the response is not JSON: {words}" if words else "the response is empty")
    if not isinstance(data, dict):
        return _bad("the response is not a JSON object")
    if data.get("error"):
        return _bad(error_message(body, redact) or "the response is an error without words")
    try:
        choice = data["choices"][0]
        message = choice["message"]
        text, thoughts, refusal = _read_message(message)
    except (LookupError, TypeError, AttributeError):
        return _bad("the response has no choices with a message")
    reason, model = choice.get("finish_reason"), data.get("model")
    answer = Answer(
        text,
        thoughts or None,
        reason if isinstance(reason, str) else None,
        model if isinstance(model, str) else None,
        _read_usage(data.get("usage")),
    )
    if reason == "stop" and not refusal and text and not text.isspace():
        return answer, None
    kind, words = _find_fault(answer, refusal)
    if kind is None:
        return answer, None
    if kind == "bad_response":
        return _bad(words)
    fix = ". Try a larger --max-tokens" if kind == "truncated" else ""
    return answer, Failure(kind, f"{one_line(redact(words))}{_name_tokens(answer)}{fix}", 200)


def _find_fault(answer: Answer, refusal: str) -> tuple[FailureKind | None, str]:
    """Return kind and reason if an answer is of no use, else None and an empty text."""
    reason = (answer.finish_reason or "").lower()
    if reason in _CUT:
        return "truncated", f"finish_reason {reason}: the answer was cut"
    if reason in _FILTERED:
        return "filtered", f"finish_reason {reason}"
    if reason in _BROKEN_OFF:
        return "bad_response", f"finish_reason {reason}: the server broke off"
    if refusal:
        return "refused", refusal
    if not answer.text.strip():
        return "empty", "the answer has no text"
    return None, ""


def _name_tokens(answer: Answer) -> str:
    """Say how long the reasoning was: ``(400 tokens, 390 of them reasoning)``."""
    usage = answer.usage or Usage()
    if usage.reasoning_tokens:
        return f" ({usage.completion_tokens} tokens, {usage.reasoning_tokens} of them reasoning)"
    return f" ({len(answer.reasoning)} characters of reasoning)" if answer.reasoning else ""


def _bad(words: str) -> tuple[None, Failure]:
    return None, Failure("bad_response", words, 200)


def _read_message(message: dict[str, Any]) -> tuple[str, str, str]:
    """Read text, reasoning and refusal; the content is a string, null or a list of parts."""
    text, refusal = message.get("content") or "", message.get("refusal") or ""
    thoughts = message.get("reasoning_content") or message.get("reasoning") or ""
    if isinstance(text, list):
        parts = text
        text = "".join(_texts(parts, "text"))
        thoughts = thoughts or "".join(_texts(parts, "thinking"))
        refusal = refusal or "".join(_texts(parts, "refusal"))
    leading, text = split_reasoning(text)
    return text, thoughts if isinstance(thoughts, str) and thoughts else leading, str(refusal)


def _texts(parts: list[Any], name: str) -> Iterator[str]:
    """Yield the texts of one kind from a list of parts: ``text``, ``thinking`` or ``refusal``."""
    for part in parts:
        value = part.get(name) if isinstance(part, dict) else None
        if isinstance(value, list):  # Mistral nests the parts of its thinking
            yield from _texts(value, "text")
        elif isinstance(value, str):
            yield value


_OPENING = re.compile(r"\s*+<(think|thinking|thought|reasoning|seed:think)>")
_LONE_CLOSING = re.compile(r"(?m)^</think>|</think>[ \t]*$")
_BLANK_LINES = re.compile(r"(?:[ \t]*\r?\n)*")


def split_reasoning(text: str) -> tuple[str, str]:
    """Split an answer into the reasoning at its beginning, without the tags, and the rest.

    A ``</think>`` alone is enough if it is at the start or end of a line and outside of code: some
    chat templates put the ``<think>`` into the prompt. Without a closing tag all is reasoning.

    >>> split_reasoning("<think>Hm.</think>print(1)")
    ('Hm.', 'print(1)')
    """
    if opening := _OPENING.match(text):
        reasoning, _, rest = text[opening.end() :].partition(f"</{opening[1]}>")
    elif "</think>" in text and (lone := _LONE_CLOSING.search(text)):
        reasoning, rest = text[: lone.start()], text[lone.end() :]
        if reasoning.count("```") % 2:
            return "", text
    else:
        return "", text
    return reasoning.strip(), _BLANK_LINES.sub("", rest, count=1)


def _read_usage(usage: object) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    return Usage(
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
        _count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        _count(usage.get("prompt_tokens_details"), "cached_tokens"),
    )


def _count(counts: object, name: str) -> int:
    count = counts.get(name) if isinstance(counts, dict) else None
    return count if isinstance(count, int) and 0 < count < _MOST_TOKENS else 0


def read_json(body: bytes) -> Any:
    """Parse a body; a byte order mark before it is ignored.

    Raises:
        ValueError: it is not JSON.
    """
    return loads(body.removeprefix(_BOM))


def error_message(body: bytes, redact: Redact = str) -> str:
    """Find the message in the body of an error: JSON, HTML or plain text.

    >>> error_message(b'{"error": {"message": "no such model", "code": 404}}')
    'no such model'
    >>> error_message(b"<html><title>502 Bad Gateway</title><body>nginx</body></html>")
    '502 Bad Gateway'
    """
    try:
        if words := _message_in(read_json(body)):
            return one_line(redact(words))
    except ValueError:
        pass
    text = redact(body.removeprefix(_BOM).decode("utf-8", "replace"))[:_LONGEST]
    if "<" in text and (title := re.search(r"(?i)<(?:title|h1)[^>]*>([^<]+)<", text)):
        text = title[1]
    return one_line(redact(html.unescape(re.sub(r"<[^>]*>", " ", text))))


def _message_in(data: object) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, list):
        return "; ".join(filter(None, map(_message_in, data[:3])))
    if isinstance(data, dict):
        for key in ("message", "error", "detail", "msg", "errors", "title", "code"):
            if words := _message_in(data.get(key)):
                return words
    return ""
