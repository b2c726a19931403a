"""The values that travel: a row in, a request, a response, and what was counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Message: TypeAlias = dict[str, str]
"""One chat message: ``{"role": "system" | "user", "content": text}``."""

FailureKind: TypeAlias = Literal[
    "invalid_json",
    "not_an_object",
    "missing_key",
    "not_a_string",
    "existing_key",
    "rejected",
    "rate_limited",
    "server_error",
    "timeout",
    "connection",
    "bad_response",
    "truncated",
    "refused",
    "filtered",
    "empty",
    "no_code",
    "duplicate",
    "contaminated",
    "not_kept",
]

UNUSABLE_ANSWERS = frozenset({"truncated", "refused", "filtered", "empty"})
"""Failures that were answered and paid for: the same request again costs the same again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a row is not in the output; the ``error`` object of a failure line."""

    kind: FailureKind
    message: str
    status: int | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One row on its way through: an input line, or one requested generation.

    Attributes:
        index: place in the whole run, from 0; the same whatever shard or limit is chosen.
        raw: the line without surrounding white space; the new column is spliced into it.
        fields: the parsed object; empty where ``error`` is set.
        line: line number in the input, from 1; None for a generation.
        source: name of the input file; None for a generation.
        examples: line numbers of the few-shot examples, for a generation.
        error: set where the line is no usable row.
    """

    index: int
    raw: bytes
    fields: Mapping[str, Any]
    line: int | None = None
    source: str | None = None
    examples: tuple[int, ...] = ()
    error: Failure | None = None

    def text(self, key: str) -> str | Failure:
        """Read a column that must hold a string; tell why it cannot be used otherwise."""
        if self.error is not None:
            return self.error
        value = self.fields.get(key)
        if isinstance(value, str):
            return value
        if key in self.fields:
            return Failure("not_a_string", f'"{key}" is not a string')
        others = [name for name, other in self.fields.items() if isinstance(other, str)][:4]
        found = ", ".join(f'"{name}"' for name in others) or "no column with text"
        hint = f". Try --input-key {others[0]}" if others else ""
        return Failure("missing_key", f'missing key "{key}"; found {found}{hint}')


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the endpoint counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """What became of one request: a text, or an error (with the text, if there was one).

    Attributes:
        attempts: requests sent for it; 0 where none was.
        cached: answered by the journal, so nothing was sent in this run.
    """

    request: Request
    text: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    model: str | None = None
    attempts: int = 0
    error: Failure | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """One chat completion to ask for.

    Attributes:
        custom_id: unique in a run; the name OpenAI's batch format gives it.
        messages: the chat, in OpenAI's shape.
        record: the row it is asked for; travels along untouched.
        position: place in this run, from 0.
        known: set where nothing needs to be sent (a bad row, an answer from the journal); a
            serving hands it back as it is.
    """

    custom_id: str
    messages: list[Message]
    record: Record
    position: int = 0
    known: Response | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one row: a value, or a failure."""

    response: Response
    value: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """OpenAI's request parameters, by OpenAI's names; None is not sent."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def body(self, model: str, messages: list[Message]) -> dict[str, Any]:
        """Build the body of one chat completion request; ``extra_body`` wins."""
        body: dict[str, Any] = {"model": model, "messages": messages}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.top_p is not None:
            body["top_p"] = self.top_p
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        body.update(self.extra_body)
        return body


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. ``api_key`` never leaves it but in the Authorization header."""

    base_url: str
    api_key: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Stats:
    """Counts of one run, kept up to date while it runs.

    Attributes:
        rows: read so far.
        cached: answered by the journal; ``saved`` are the tokens of these.
        attempts: requests sent.
    """

    rows: int = 0
    ok: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    saved: Usage = Usage()

    @property
    def failed(self) -> int:
        """Count the rows that failed, of any kind."""
        return self.failures.total()

    @property
    def pending(self) -> int:
        """Count the rows read that are neither in the output nor in the failures."""
        return self.rows - self.ok - self.failed
