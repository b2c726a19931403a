"""The values that travel: a row in, a request, a response, a row out, and what was counted.

Except ``Stats`` they are not changed after they are made. Those that are made for each row are
not frozen dataclasses, because making one would take four times as long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from codesynth.errors import one_line

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

RowFilter: TypeAlias = Callable[[str], "Failure | None"]
"""Says why a row with this subject is not written, with one of ``REJECTIONS``; None accepts it."""
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
INSTRUCTION_KEYS = ("instruction", "generated_instruction", "prompt")
"""Columns with the instruction, if no instruction key is given; the first that is there."""


@dataclass(slots=True)
class Failure:
    """Why a row is not in the output; the ``error`` object of a failure line."""

    kind: FailureKind
    message: str
    status: int | None = None
    attempts: int = 0


@dataclass(slots=True)
class Record:
    """One row on its way through: an input line, or one requested generation."""

    index: int  # place in the whole job, from 0; the same whatever shard or limit is chosen
    raw: bytes  # the line without surrounding white space; new columns are spliced into it
    fields: Mapping[str, Any]  # the parsed object; empty where there is an error
    line: int | None = None  # its number in the input, from 1; None for a generation
    source: str | None = None  # name of the input file; None for a generation
    sample: int = 0  # number of the answer to this row, from 0
    examples: tuple[int, ...] = ()  # line numbers of the few-shot examples of a generation
    error: Failure | None = None  # why the line cannot be used

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


class Price(NamedTuple):
    """Currency units per million tokens."""

    prompt: float
    completion: float

    def of(self, usage: Usage) -> float:
        """Price tokens, in currency units.

        >>> Price(1.0, 4.0).of(Usage(1_000_000, 500_000))
        3.0
        """
        return (usage.prompt_tokens * self.prompt + usage.completion_tokens * self.completion) / 1e6


@dataclass(slots=True)
class Answer:
    """A chat completion that was read.

    The text is without the model's reasoning. Usage is None where the endpoint sent no numbers.
    """

    text: str
    reasoning: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage | None = None


class Question(NamedTuple):
    """What a task asks for one row."""

    body: bytes
    identity: bytes  # the part of the body that decides the answer
    messages: Sequence[Message] = ()  # none where no model is asked


@dataclass(slots=True)
class Request:
    """A question about a row."""

    record: Record
    position: int  # place in this run, from 0
    body: bytes
    key: bytes = b""  # in the journal: what is asked, and which of several equal requests it is
    messages: Sequence[Message] = ()


@dataclass(slots=True)
class Response:
    """The result of one request: an answer, an error, or an error with an answer of no use."""

    request: Request
    body: bytes = b""  # the answer as it was received; empty if there is none
    answer: Answer | None = None  # read from the body; None if no model was asked, or none answered
    error: Failure | None = None
    attempts: int = 0
    seconds: float = 0.0  # of the last attempt, from sending to the last byte; 0 if not known
    cached: bool = False  # it is from a journal; nothing was sent in this run
    stored: bool = False  # it is in this run's journal already


@dataclass(slots=True)
class Row:
    """A row that is ready to be written when its turn comes."""

    line: bytes  # of the output; of the failures if there is a failure
    failure: Failure | None = None
    subject: str = ""  # the text that filters look at
    answer: str = ""  # the model's text, for the failure line of a row that a filter rejects
    raw_bytes: int = 0  # so many bytes at the start of the line are the input row without its "}"
    number: int = 0  # line number in the input, from 1; 0 for a generation


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The parameters of a request, by OpenAI's names; None is not sent."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def with_schema(self, json_schema: Mapping[str, Any]) -> SamplingParams:
        """Ask for an answer in JSON that follows a schema, as OpenAI's ``response_format``."""
        named = {"name": "answer", "schema": json_schema}
        extra = {"response_format": {"type": "json_schema", "json_schema": named}}
        return replace(self, extra_body={**self.extra_body, **extra})

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
    """Where requests go, and the secrets that are sent there.

    The URL includes ``/v1`` and may hold ``user:password@``. The key is sent as ``Authorization:
    Bearer``; None takes OPENAI_API_KEY, "" sends none.
    """

    base_url: str = field(repr=False)
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class Stats:
    """Counts of one run, kept up to date while it runs."""

    rows: int = 0  # read so far
    all_read: bool = False
    requests: str = ""  # hash of all requests of the undivided job; empty until all rows were read
    answered: int = 0  # rows whose response has come; some of them may wait for their turn
    ok: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    from_journal: int = 0  # rows answered by the journal
    attempts: int = 0
    tokens: Usage = field(default_factory=Usage)  # tokens of the answers that this run has bought
    tokens_from_journal: Usage = field(default_factory=Usage)  # of the answers from the journal
    first_failure: tuple[int, str] | None = None  # the row's place in the input, and what failed
    first_rejection: str = ""  # line and reason of the first row that a filter rejected

    @property
    def failed(self) -> int:
        """Rows that failed, of any kind."""
        return self.failures.total()

    @property
    def rejected(self) -> int:
        """Rows that filters rejected."""
        return self.rejections.total()

    @property
    def pending(self) -> int:
        """Rows read that are neither written, rejected nor failed."""
        return self.rows - self.ok - self.failed - self.rejected

    def count(self, response: Response) -> None:
        """Count a response and its tokens."""
        self.answered += 1
        usage = response.answer.usage if response.answer is not None else None
        if response.cached:
            self.from_journal += 1
            self.tokens_from_journal += usage or Usage()
        else:
            self.attempts += response.attempts
            self.tokens += usage or Usage()

    def note_failure(self, record: Record, failure: Failure) -> None:
        """Remember the first row that failed, in the order of the input."""
        if self.first_failure is None or record.index < self.first_failure[0]:
            words = f"{record.where}: {failure.kind}: {failure.message}"
            self.first_failure = record.index, one_line(words)

    def describe_first_failure(self) -> str:
        """Write which row failed first, and why; empty if none failed."""
        return "" if self.first_failure is None else f"first failure: {self.first_failure[1]}"
