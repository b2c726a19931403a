"""What a command asks a model: rows -> chat requests -> new columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias

from codesynth.codec import dumps
from codesynth.models import (
    IGNORED_IN_KEY,
    META_KEY,
    Answer,
    Failure,
    Message,
    Question,
    Record,
    Request,
    Response,
    SamplingParams,
)

Fill: TypeAlias = Callable[[Record, str], str | Failure]
"""Writes a prompt from a row and its instruction."""


class Parsed(NamedTuple):
    """What is read from an answer: new columns, and fields for ``_codesynth``."""

    columns: dict[str, Any]
    about: Mapping[str, Any] = {}


def read_nothing(_: Record) -> str:
    """Read no instruction: only the filled template says what is asked."""
    return ""


@dataclass(slots=True, kw_only=True)
class ChatTask:
    """Writes the request of a row, and reads the answer; a ``pipeline.Task``.

    Attributes:
        new_columns: their names, as far as they are known before the answer.
        fill: writes the prompt.
        parse: reads an answer's text; the second text is the row's instruction.
        read: reads the row's instruction: a text, or a conversation that is sent as it is.
        screen: says why a row with this instruction is not sent; None sends all rows.
        reasoning_key, answer_key, messages_key: more new columns; see the options of these names.
        meta: fields of ``_codesynth`` that are the same for all rows; None writes no such column.
    """

    new_columns: tuple[str, ...]
    fill: Fill
    parse: Callable[[str, str], Parsed | Failure]
    read: Callable[[Record], str | list[Message] | Failure] = read_nothing
    model: str = ""
    params: SamplingParams = SamplingParams()
    system_prompt: str | None = None
    screen: Callable[[str], Failure | None] | None = None
    reasoning_key: str | None = None
    answer_key: str | None = None
    messages_key: str | None = None
    meta: Mapping[str, Any] | None = None

    def make_question(self, record: Record) -> Question | Failure:
        """Write the request of a row, or say why it cannot be asked."""
        more = (self.reasoning_key, self.answer_key, self.messages_key)
        if (failure := _find_existing(record, (*self.new_columns, *more))) is not None:
            return failure
        asked = self.read(record)
        prompt = self.fill(record, asked) if isinstance(asked, str) else asked
        if isinstance(prompt, Failure):
            return prompt
        if self.screen and (failure := self.screen(self._instruction(record))) is not None:
            return failure
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.system_prompt is not None and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": self.system_prompt}, *turns]
        body = identity = dumps(self.params.body(self.model, turns), sort_keys=True)
        if not IGNORED_IN_KEY.isdisjoint(self.params.extra_body):
            identity = dumps(self.params.identity(self.model, turns), sort_keys=True)
        return Question(body, identity, turns)

    def columns(self, response: Response) -> dict[str, Any] | Failure:
        """Read the new columns from a response that has an answer."""
        answer, record = response.answer, response.request.record
        if answer is None:
            raise ValueError("the response has no answer")
        parsed = self.parse(answer.text, self._instruction(record))
        if isinstance(parsed, Failure):
            return parsed
        columns = parsed.columns
        if (failure := _find_existing(record, columns)) is not None:
            return failure
        if self.reasoning_key is not None:
            columns[self.reasoning_key] = answer.reasoning
        if self.answer_key is not None:
            columns[self.answer_key] = answer.text
        if self.messages_key is not None:
            columns[self.messages_key] = self._chat(response.request, columns)
        if self.meta is not None:
            columns[META_KEY] = {**self._about(response, answer), **parsed.about}
        return columns

    def subject(self, record: Record, columns: Mapping[str, Any]) -> str:
        """Choose the text that the filters look at: the one new column, or all of them as JSON."""
        values = {name: columns[name] for name in self.new_columns or columns}
        first = next(iter(values.values()))
        return first if len(values) == 1 and isinstance(first, str) else dumps(values).decode()

    def _instruction(self, record: Record) -> str:
        """Read the row's instruction; of a conversation, the last user message; else empty."""
        asked: Any = self.read(record)
        if isinstance(asked, list):
            own = [turn.get("content") for turn in asked if turn["role"] == "user"]
            asked = own[-1] if own else ""
        return asked if isinstance(asked, str) else ""

    def _chat(self, request: Request, columns: Mapping[str, Any]) -> list[Message]:
        """Write the row as a chat: its instruction, or else its prompt, and the new column."""
        turns = [turn for turn in request.messages if turn["role"] != "system"]
        asked = self.read(request.record) if self.read is not read_nothing else None
        if isinstance(asked, str):
            turns = [{"role": "user", "content": asked}]
        return [*turns, {"role": "assistant", "content": self.subject(request.record, columns)}]

    def _about(self, response: Response, answer: Answer) -> dict[str, Any]:
        record, params = response.request.record, self.params.body("", [])
        return {
            "model": answer.model or self.model,
            **(self.meta or {}),
            **({"examples": list(record.examples)} if record.examples else {}),
            "sample": record.sample,
            "finish_reason": answer.finish_reason,
            "usage": asdict(answer.usage) if answer.usage is not None else None,
            "attempts": response.attempts,
            "params": {k: v for k, v in params.items() if k not in ("model", "messages")},
            "prompt_sha256": sha256(dumps(response.request.messages)).hexdigest(),
        }


def _find_existing(record: Record, keys: Iterable[str | None]) -> Failure | None:
    for key in keys:
        if key in record.fields:
            words = (
                "Rename that column in the input, or choose another name for the new one: "
                "--output-key, --reasoning-key, --answer-key, --messages-key, --prefix"
            )
            return Failure("existing_key", f'the row already has "{key}". {words}')
    return None
