"""The values that travel: a row in, a request, a response, a row out, and what was counted.

They are not changed after they are made. They are not frozen dataclasses, because making those
takes four times as long, and several are made for each row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

Message: TypeAlias = dict[str, Any]
"""One chat message: ``{"role": "system" | "user" | "assistant", "content": text}``."""

BadRow: TypeAlias = Literal[
    "invalid_json", "not_an_object", "missing_key", "not_a_string", "existing_key"
]
NoAnswer: TypeAlias = Literal[
    "rejected", "rate_limited", "server_error", "timeout", "connection", "bad_response"
]
UnusableAnswer: TypeAlias = Literal["truncated", "refused", "filtered", "empty"]
Rejection: TypeAlias = Literal["duplicate", "contaminated", "not_kept"]
FailureKind: TypeAlias = Literal[BadRow, NoAnswer, UnusableAnswer, "no_code", "bad_json", Rejection]

UNUSABLE_ANSWERS = frozenset(get_args(UnusableAnswer))
"""Failures of answers that were paid for: sending the request again would cost the same again."""
REJECTIONS = frozenset(get_args(Rejection))
"""Rows that the user asked to filter out: counted as rejected, not as failed."""
IGNORED_IN_KEY = frozenset(
    {"service_tier", "user", "metadata", "store", "stream", "stream_options"}
)
"""Parameters that do not change what is asked; they are no part of the journal's keys."""
META_KEY = "_codesynth"
"""The column of ``--meta``."""


@dataclass(slots=True)
class Failure:
    """Why a row is not in the output; the ``error`` object of a failure line."""

    kind: FailureKind
    message: str
    status: int | None = None
    attempts: int = 0


@dataclass(slots=True)
class Record:
    """One row on its way through: an input line, or one requested generation.

    Attributes:
        index: place in the whole job, from 0; the same whatever shard or limit is chosen.
        raw: the line without surrounding white space; the new columns are spliced into it.
        fields: the parsed object; empty where ``error`` is set.
        line: line number in the input, from 1; None for a generation.
        source: name of the input file; None for a generation.
        sample: number of the answer to this row, from 0.
        examples: line numbers of the few-shot examples, for a generation.
        error: why the line cannot be used.
    """

    index: int
    raw: bytes
    fields: Mapping[str, Any]
    line: int | None = None
    source: str | None = None
    sample: int = 0
    examples: tuple[int, ...] = ()
    error: Failure | None = None

    @property
    def where(self) -> str:
        """Name the row for people: ``rows.jsonl:812``."""
        return f"prompt {self.index}" if self.line is None else f"{self.source}:{self.line}"


@dataclass(slots=True)
class Usage:
    """Tokens as the endpoint counted them.

    Reasoning tokens are part of the completion tokens, cached tokens of the prompt tokens.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(slots=True)
class Answer:
    """A chat completion that was read.

    Attributes:
        text: what the model said, without its reasoning.
        reasoning: from ``reasoning_content``, ``reasoning`` or a leading ``<think>`` block.
        usage: None where the endpoint sent no numbers.
    """

    text: str
    reasoning: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None


class Question(NamedTuple):
    """What a task asks for one row.

    Attributes:
        body: what is sent, a JSON text.
        identity: the part of it that decides the answer; the journal's key is made from it.
        messages: the chat in OpenAI's shape; empty where no model is asked.
    """

    body: bytes
    identity: bytes
    messages: Sequence[Message] = ()


@dataclass(slots=True)
class Request:
    """One thing to ask for.

    Attributes:
        record: the row it is asked for.
        position: place in this run, from 0.
        body: what is sent: a JSON text, written once.
        key: identifies in the journal what is asked, and which of several equal requests it is.
        messages: the chat in OpenAI's shape; empty where no model is asked.
    """

    record: Record
    position: int
    body: bytes
    key: bytes = b""
    messages: Sequence[Message] = ()


@dataclass(slots=True)
class Response:
    """The result of one request: an answer, an error, or an error with an answer of no use.

    Attributes:
        body: the answer as it was received; empty if there is none.
        answer: what was read from ``body``; None if no model was asked, or none answered.
        attempts: how often the request was sent.
        seconds: duration of the last attempt, from sending to the last byte; 0 if not known.
        cached: the answer is from a journal; nothing was sent in this run.
        stored: the answer is in this run's journal already.
    """

    request: Request
    body: bytes = b""
    answer: Answer | None = None
    error: Failure | None = None
    attempts: int = 0
    seconds: float = 0.0
    cached: bool = False
    stored: bool = False


@dataclass(slots=True)
class Row:
    """A row that is ready to be written when its turn comes.

    Attributes:
        line: a line of the output, or a failure line.
        failure: set for a failure line: why the row failed.
        subject: the text that filters look at.
        answer: the model's text, for the failure line of a row that a filter rejects.
        raw_bytes: number of bytes at the start of ``line`` that are the input row without its "}".
        number: line number in the input, from 1; 0 for a generation.
    """

    line: bytes
    failure: Failure | None = None
    subject: str = ""
    answer: str = ""
    raw_bytes: int = 0
    number: int = 0


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The parameters of a request, by OpenAI's names; None is not sent."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def with_schema(self, json_schema: Mapping[str, Any]) -> SamplingParams:
        """Ask for an answer in JSON that follows a schema, as OpenAI's ``response_format``."""
        wish = {"name": "answer", "schema": json_schema}
        form = {"response_format": {"type": "json_schema", "json_schema": wish}}
        return replace(self, extra_body={**self.extra_body, **form})

    def body(self, model: str, messages: Sequence[Message]) -> dict[str, Any]:
        """Build the body of a chat completion request; ``extra_body`` replaces equal names."""
        body: dict[str, Any] = {"model": model, "messages": list(messages)}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.top_p is not None:
            body["top_p"] = self.top_p
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        body.update(self.extra_body)
        return body

    def identity(self, model: str, messages: Sequence[Message]) -> dict[str, Any]:
        """Return the part of the body that decides the answer."""
        body = self.body(model, messages)
        return {name: value for name, value in body.items() if name not in IGNORED_IN_KEY}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go.

    Attributes:
        base_url: with its ``/v1``; may hold ``user:password@``, which is a secret.
        api_key: sent as ``Authorization: Bearer``; None takes OPENAI_API_KEY, "" sends none.
        headers: sent with every request; values are secrets.
    """

    base_url: str = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Stats:
    """Counts of one run, kept up to date while it runs.

    Attributes:
        rows: rows read so far.
        all_read: all rows were read.
        requests: hash of all requests of the undivided job; empty until all rows were read.
        answered: rows whose response has come; some of them may wait for their turn.
        cached: rows answered by the journal; ``saved`` is their tokens.
        attempts: requests sent.
        used: tokens of the answers that this run has bought.
    """

    rows: int = 0
    all_read: bool = False
    requests: str = ""
    answered: int = 0
    ok: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    attempts: int = 0
    used: Usage = field(default_factory=Usage)
    saved: Usage = field(default_factory=Usage)

    @property
    def failed(self) -> int:
        """Count the rows that failed, of any kind."""
        return self.failures.total()

    @property
    def rejected(self) -> int:
        """Count the rows that filters rejected."""
        return self.rejections.total()

    @property
    def pending(self) -> int:
        """Count the rows read that are neither written, rejected nor failed."""
        return self.rows - self.ok - self.failed - self.rejected
