"""An operator and a model make a task: rows -> chat requests -> new columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, Protocol

from codesynth.codec import dumps
from codesynth.models import (
    IGNORED_IN_KEY,
    META_KEY,
    Ask,
    Failure,
    Message,
    Record,
    Response,
    SamplingParams,
)


class Parsed(NamedTuple):
    """What an operator read from an answer.

    Attributes:
        columns: new columns by name.
        about: for the ``_codesynth`` object.
    """

    columns: dict[str, Any]
    about: Mapping[str, Any] = {}


class Operator(Protocol):
    """Prompts out, columns back; pure."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new columns that are known beforehand."""
        ...

    def prompt(self, record: Record) -> str | list[Message] | Failure:
        """Write the prompt of a row, or take a whole conversation from it."""
        ...

    def subject(self, record: Record) -> str | None:
        """Read the row's own words for what is asked; None where it has none."""
        ...

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Read an answer's text."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraColumns:
    """The columns that any task writes if they are named; see the options of the same names."""

    reasoning_key: str | None = None
    answer_key: str | None = None
    messages_key: str | None = None
    meta: Mapping[str, Any] | None = None
    """What the ``_codesynth`` object of each row begins with; None writes no such object."""


@dataclass(frozen=True, slots=True)
class ChatTask:
    """Asks a model for what an operator wants; a ``pipeline.Task``.

    Args:
        screen: says why a row's subject is not to be sent at all.
    """

    operator: Operator
    model: str
    params: SamplingParams = SamplingParams()
    system_prompt: str | None = None
    extra: ExtraColumns = ExtraColumns()
    screen: Callable[[str], Failure | None] = lambda _: None
    _ignored: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ignored", not IGNORED_IN_KEY.isdisjoint(self.params.extra_body))

    def ask(self, record: Record) -> Ask | Failure:
        """Write the request of a row, or say why it cannot be asked."""
        for key in (*self.operator.columns, *self._extra_keys()):
            if key in record.fields:
                words = f'the row already has "{key}". Choose another name for the new column'
                return Failure("existing_key", words)
        prompt = self.operator.prompt(record)
        if isinstance(prompt, Failure):
            return prompt
        subject = self.operator.subject(record)
        if subject is not None and (refusal := self.screen(subject)) is not None:
            return refusal
        messages = self._messages(prompt)
        body = self.params.body(self.model, messages)
        written = dumps(body, sort_keys=True)
        if not self._ignored:
            return Ask(written, written, messages)
        identity = self.params.identity(self.model, messages)
        return Ask(written, dumps(identity, sort_keys=True), messages)

    def _messages(self, prompt: str | list[Message]) -> list[Message]:
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.system_prompt is None or turns[0].get("role") == "system":
            return turns
        return [{"role": "system", "content": self.system_prompt}, *turns]

    def _extra_keys(self) -> Sequence[str]:
        keys = (self.extra.reasoning_key, self.extra.answer_key, self.extra.messages_key)
        return [key for key in keys if key is not None]

    def columns(self, response: Response) -> dict[str, Any] | Failure:
        """Read the new columns from an answer."""
        answer, record = response.answer, response.request.record
        if answer is None:
            raise ValueError("the response has no answer")
        parsed = self.operator.parse(answer.text, record)
        if isinstance(parsed, Failure):
            return parsed
        extra, columns = self.extra, parsed.columns
        if extra.reasoning_key is not None:
            columns[extra.reasoning_key] = answer.reasoning
        if extra.answer_key is not None:
            columns[extra.answer_key] = answer.text
        if extra.messages_key is not None:
            columns[extra.messages_key] = self._chat(response, columns)
        if extra.meta is not None:
            columns[META_KEY] = self._meta(response, extra.meta, parsed.about)
        return columns

    def _chat(self, response: Response, columns: Mapping[str, Any]) -> list[Message]:
        """Write the row as a chat: what was asked in the row's own words, and the new column."""
        subject = self.operator.subject(response.request.record)
        turns = [m for m in response.request.messages if m.get("role") != "system"]
        if subject is not None and len(turns) == 1:
            turns = [{"role": "user", "content": subject}]
        return [*turns, {"role": "assistant", "content": self._text(columns)}]

    def _meta(
        self, response: Response, first: Mapping[str, Any], last: Mapping[str, Any]
    ) -> dict[str, Any]:
        record, answer = response.request.record, response.answer
        about: dict[str, Any] = {"model": (answer and answer.model) or self.model, **first}
        if record.examples:
            about["examples"] = list(record.examples)
        about["sample"] = record.sample
        if answer is not None:
            about["finish_reason"] = answer.finish_reason
            about["usage"] = asdict(answer.usage) if answer.usage is not None else None
        about["attempts"] = response.attempts
        body = self.params.body("", [])
        about["params"] = {k: v for k, v in body.items() if k not in ("model", "messages")}
        about["prompt_sha256"] = sha256(dumps(response.request.messages)).hexdigest()
        return {**about, **last}

    def subject(self, record: Record, columns: Mapping[str, Any]) -> str:
        """Choose the text that the filters look at: the operator's one column, or all of them."""
        return self._text(columns)

    def _text(self, columns: Mapping[str, Any]) -> str:
        names = self.operator.columns
        if len(names) == 1 and isinstance(columns.get(names[0]), str):
            return str(columns[names[0]])
        return dumps({name: columns[name] for name in names or columns}).decode()


def read_conversation(value: object) -> list[Message] | Failure:
    """Read a column that holds a list of chat messages."""
    if not isinstance(value, list) or not value:
        return Failure("not_a_string", "the column is neither a string nor a list of messages")
    for message in value:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return Failure("not_a_string", "the column's list holds something that is no message")
    return value
