"""The operators as users of DataFlow know them: ``operator.run(storage)``.

Names, parameters and default columns are those of open-dataflow 1.0.13. Our own storage and
servings stream. Of foreign ones it takes ``storage.read("dict")``, ``storage.write(rows)`` and
``llm_serving.generate_from_input(prompts, system_prompt)``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any, Protocol

from codesynth import pipeline
from codesynth.errors import ConfigError, RunError
from codesynth.models import Answer, Failure, Record, Request, Response, Stats
from codesynth.operators.chat import ChatTask, Operator
from codesynth.operators.code import CodeOperator, code_template, fill_instruction
from codesynth.operators.extract import split_reasoning
from codesynth.operators.generic import ColumnOperator
from codesynth.operators.instructions import (
    InstructionOperator,
    check_pool,
    few_shot_records,
    fill_examples,
    instruction_template,
)
from codesynth.operators.sampling import sample
from codesynth.operators.templates import Template, check_first, load_template
from codesynth.pipeline import Stop
from codesynth.serving import ChatServing, LLMServing, ResponseStream
from codesynth.serving.stream import IteratorStream
from codesynth.storage import JSONLStorage

__all__ = [
    "CodeCodeToInstructionGenerator",
    "CodeEnhancementInstructionGenerator",
    "CodeInstructionGenerator",
    "CodeInstructionToCodeGenerator",
    "PromptedGenerator",
]

_CHUNK = 1000
"""Prompts handed to a foreign serving at a time: it has no way to take them one by one."""


class PromptBuilder(Protocol):
    """A prompt template as an object, in DataFlow's way."""

    def build_prompt(self, **values: Any) -> str:
        """Write the prompt."""
        ...


class ForeignServing(Protocol):
    """A serving that answers a list of prompts, in DataFlow's way."""

    def generate_from_input(
        self,
        user_inputs: list[str],
        system_prompt: str = "",
        json_schema: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Answer each prompt, in order; None where one failed."""
        ...


class ForeignStorage(Protocol):
    """A storage that holds its rows in memory, in DataFlow's way."""

    def read(self, output_type: str) -> Any:
        """Return the rows; ``"dict"`` asks for a list of dicts."""
        ...

    def write(self, data: Any) -> Any:
        """Take the rows."""
        ...


class CodeInstructionGenerator:
    """Asks for new instructions of the difficulty and style of examples from a pool.

    Args:
        llm_serving: an ``LLMServing``, or one of DataFlow's.
        prompt_template: None (the built-in), a text with ``{examples}``, or an object with
            ``build_prompt(few_shot_examples=[{"instruction": ...}, ...])``.
        num_few_shot: examples in each prompt.
        num_generate: instructions to ask for.
        seed: for choosing the examples.

    Raises:
        ConfigError: the template's text is wrong.

    >>> from codesynth import APILLMServing, JSONLStorage, PracticeEndpoint
    >>> serving = APILLMServing("http://offline/v1", transport=PracticeEndpoint())
    >>> storage = JSONLStorage("samples/seeds.jsonl", "/dev/null")
    >>> CodeInstructionGenerator(serving, num_generate=2).run(storage)
    ['generated_instruction']
    """

    def __init__(
        self,
        llm_serving: LLMServing | ForeignServing,
        prompt_template: str | PromptBuilder | None = None,
        num_few_shot: int = 3,
        num_generate: int = 10,
        *,
        seed: int = 0,
    ) -> None:
        self.llm_serving = llm_serving
        self.prompt_template = prompt_template
        self.num_few_shot = num_few_shot
        self.num_generate = num_generate
        self.seed = seed
        if prompt_template is None or isinstance(prompt_template, str):
            self._fill = fill_examples(instruction_template(prompt_template))
        else:
            build = prompt_template.build_prompt
            self._fill = lambda examples: str(
                build(few_shot_examples=[{"instruction": each} for each in examples])
            )

    def run(
        self,
        storage: JSONLStorage | ForeignStorage,
        input_key: str = "prompt",
        output_key: str = "generated_instruction",
    ) -> list[str]:
        """Sample from ``storage``, write the new instructions; return the column's name.

        Rows without a text in ``input_key`` are no examples.

        Raises:
            ConfigError: the pool is too small.
            RunError: every row failed, or the endpoint answers no request.
        """
        operator = InstructionOperator(self._fill, output_key)
        if isinstance(storage, JSONLStorage):
            pool = storage.pool(input_key)
            asked = chain(pool.bad_records(), self._records(pool, pool.line))
            _stream(operator, asked, self.llm_serving, storage)
            return [output_key]
        rows = storage.read("dict")
        texts = [row.get(input_key) for row in rows]
        pool_texts = [text for text in texts if isinstance(text, str)]  # pandas fills with NaN
        records = self._records(pool_texts, lambda i: i + 1)
        done = _in_memory(operator, list(records), self.llm_serving)
        storage.write([{output_key: value.get(output_key)} for value in done])
        return [output_key]

    def _records(self, pool: Sequence[str], lines: Callable[[int], int]) -> Iterator[Record]:
        check_pool(len(pool), self.num_few_shot)
        choose = partial(sample, self.seed, size=len(pool), k=self.num_few_shot)
        return few_shot_records(pool, lines, range(self.num_generate), choose)


class CodeInstructionToCodeGenerator:
    """Asks for the code that each row's instruction describes.

    Args:
        llm_serving: an ``LLMServing``, or one of DataFlow's.
        prompt_template: None (the built-in), a text with ``{instruction}`` and any other column
            of the row in braces, or an object with ``build_prompt(instruction=...)``.

    Raises:
        ConfigError: the template's text is wrong.
    """

    def __init__(
        self,
        llm_serving: LLMServing | ForeignServing,
        prompt_template: str | PromptBuilder | None = None,
    ) -> None:
        self.llm_serving = llm_serving
        self.prompt_template = prompt_template
        self._fill: Callable[[Record, str], str | Failure]
        self._template: Template | None = None
        if prompt_template is None or isinstance(prompt_template, str):
            self._template = code_template(prompt_template)
            self._fill = fill_instruction(self._template)
        else:
            build = prompt_template.build_prompt
            self._fill = lambda _, instruction: str(build(instruction=instruction))

    def run(
        self,
        storage: JSONLStorage | ForeignStorage,
        input_key: str = "instruction",
        output_key: str = "generated_code",
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name.

        The default ``input_key`` reads ``generated_instruction`` where a row has no
        ``instruction``.

        Raises:
            ConfigError: rows have that column already, in a storage without a place for failures.
            RunError: every row failed, or the endpoint answers no request.
        """
        key = None if input_key == "instruction" else input_key
        operator = CodeOperator(self._fill, key, output_key)
        return run_rows(operator, storage, self.llm_serving, self._template)


class CodeCodeToInstructionGenerator:
    """Asks for the instruction that each row's code could have been written for.

    Args:
        llm_serving: an ``LLMServing``, or one of DataFlow's.
        prompt_template: None (the built-in), a text with ``{code}`` and any other column of the
            row in braces, or an object with ``build_prompt(code=...)``.

    Raises:
        ConfigError: the template's text is wrong.
    """

    def __init__(
        self,
        llm_serving: LLMServing | ForeignServing,
        prompt_template: str | PromptBuilder | None = None,
    ) -> None:
        self.llm_serving = llm_serving
        self.prompt_template = prompt_template
        self._template, self._fill = _filler(prompt_template, "code_to_instruction", "code")

    def run(
        self,
        storage: JSONLStorage | ForeignStorage,
        input_key: str = "code",
        output_key: str = "generated_instruction",
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name.

        Raises:
            ConfigError: rows have that column already, in a storage without a place for failures.
            RunError: every row failed, or the endpoint answers no request.
        """
        operator = ColumnOperator(self._fill, input_key, output_key)
        return run_rows(operator, storage, self.llm_serving, self._template)


class CodeEnhancementInstructionGenerator:
    """Asks for each row's instruction again, as a function stub with docstring and doctests.

    Args:
        llm_serving: an ``LLMServing``, or one of DataFlow's.
        prompt_template: None (the built-in), a text with ``{instruction}`` and any other column of
            the row in braces, or an object with ``build_prompt(instruction=...)``.

    Raises:
        ConfigError: the template's text is wrong.
    """

    def __init__(
        self,
        llm_serving: LLMServing | ForeignServing,
        prompt_template: str | PromptBuilder | None = None,
    ) -> None:
        self.llm_serving = llm_serving
        self.prompt_template = prompt_template
        name = "enhance_instruction"
        self._template, self._fill = _filler(prompt_template, name, "instruction")

    def run(
        self,
        storage: JSONLStorage | ForeignStorage,
        input_key: str = "messages",
        output_key: str = "generated_instruction",
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name.

        Of a chat, a list of messages, the instruction is the first message of the human (its role
        is ``user`` or ``human``). A text is the instruction itself.

        Raises:
            ConfigError: rows have that column already, in a storage without a place for failures.
            RunError: every row failed, or the endpoint answers no request.
        """
        operator = ColumnOperator(self._fill, input_key, output_key)
        return run_rows(operator, storage, self.llm_serving, self._template)


class PromptedGenerator:
    """Asks for what each row's text says, after ``user_prompt``; the answer is the new column.

    Args:
        llm_serving: an ``LLMServing``, or one of DataFlow's.
        system_prompt: sent before each prompt.
        user_prompt: stands before each row's text.
        json_schema: sent to a serving of ours as OpenAI's ``response_format``, and to a foreign one
            as ``json_schema``.
    """

    def __init__(
        self,
        llm_serving: LLMServing | ForeignServing,
        system_prompt: str = "You are a helpful agent.",
        user_prompt: str = "",
        json_schema: dict[str, Any] | None = None,
    ) -> None:
        self.llm_serving = llm_serving
        self.system_prompt = system_prompt
        self.user_prompt = user_prompt
        self.json_schema = json_schema

    def run(
        self,
        storage: JSONLStorage | ForeignStorage,
        input_key: str = "raw_content",
        output_key: str = "generated_content",
    ) -> str:
        """Read rows from ``storage``, write them with the new column; return the column's name.

        As DataFlow's, it returns the name alone, not in a list.

        Raises:
            ConfigError: rows have that column already, in a storage without a place for failures.
            RunError: every row failed, or the endpoint answers no request.
        """
        operator = ColumnOperator(lambda _, text: self.user_prompt + text, input_key, output_key)
        how = Wishes(self.system_prompt, self.json_schema)
        return run_rows(operator, storage, self.llm_serving, wishes=how)[0]


def _filler(
    prompt_template: str | PromptBuilder | None, default: str, placeholder: str
) -> tuple[Template | None, Callable[[Record, str], str | Failure]]:
    """Make the function that writes a prompt from a row and its text.

    Args:
        default: name of the built-in template.
        placeholder: what the row's text is called in the template.

    Returns:
        The template, where it is a text, and the function.
    """
    if prompt_template is not None and not isinstance(prompt_template, str):
        build = prompt_template.build_prompt
        return None, lambda _, text: str(build(**{placeholder: text}))
    template = load_template(prompt_template, default, required={placeholder}, known=None)
    return template, lambda record, text: template.fill_or_fail(
        {**record.fields, placeholder: text}
    )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a foreign serving is told beside the prompts; of ours, the request has it.

    Attributes:
        system_prompt: None leaves it to the serving.
    """

    system_prompt: str | None = None
    json_schema: dict[str, Any] | None = None


def run_rows(
    operator: Operator,
    storage: JSONLStorage | ForeignStorage,
    llm_serving: LLMServing | ForeignServing,
    template: Template | None = None,
    wishes: Wishes | None = None,
) -> list[str]:
    """Send each row of ``storage`` through an operator; return the new columns' names.

    Args:
        template: is checked against the first row.
        wishes: for the serving.
    """
    names = list(operator.columns)

    def checked(records: Iterable[Record]) -> Iterable[Record]:
        return records if template is None else check_first(records, template)

    if isinstance(storage, JSONLStorage):
        _stream(operator, checked(storage.records()), llm_serving, storage, wishes)
        return names
    rows = [dict(row) for row in storage.read("dict")]
    if taken := [name for name in names if any(name in row for row in rows)]:
        raise ConfigError(f'the rows already have "{taken[0]}". Choose another output_key')
    records = list(checked(Record(i, b"{}", row) for i, row in enumerate(rows)))
    new = _in_memory(operator, records, llm_serving, wishes)
    empty = dict.fromkeys(names)
    storage.write([row | (columns or empty) for row, columns in zip(rows, new, strict=True)])
    return names


def _stream(
    operator: Operator,
    records: Iterable[Record],
    llm_serving: LLMServing | ForeignServing,
    storage: JSONLStorage,
    wishes: Wishes | None = None,
) -> None:
    """Send records through and write rows and failures as they come, in order."""
    stats = Stats()
    first: list[str] = []

    def note(record: Record, failure: Failure) -> None:
        if not first:
            first.append(f"{record.where}: {failure.kind}: {failure.message}")

    serving, task = _serving_and_task(llm_serving, operator, wishes or Wishes())
    with storage.open() as files:
        files.start()
        pipeline.run(records, task, serving, files, stats=stats, stop=Stop(), on_failure=note)
        files.commit()
    if stats.failed == stats.rows > 0:
        raise RunError(f"all {stats.rows} rows failed; the first: {first[0]}")


def _in_memory(
    operator: Operator,
    records: Sequence[Record],
    llm_serving: LLMServing | ForeignServing,
    wishes: Wishes | None = None,
) -> list[dict[str, Any]]:
    """Return the new columns of each record; none where it failed."""
    serving, task = _serving_and_task(llm_serving, operator, wishes or Wishes())
    columns: list[dict[str, Any]] = [{} for _ in records]
    requests = pipeline.make_requests(records, task, Stats(), Stop())
    with serving.generate(requests) as stream:
        for response in stream:
            found = pipeline.read_response(response, task)
            if not isinstance(found, Failure):
                columns[response.request.position] = found
    return columns


def _serving_and_task(
    llm_serving: LLMServing | ForeignServing, operator: Operator, wishes: Wishes
) -> tuple[LLMServing, ChatTask]:
    """Adapt a foreign serving; take model and parameters from one of ours."""
    if isinstance(llm_serving, ChatServing):
        params = llm_serving.params
        if wishes.json_schema is not None:
            schema = {"name": "answer", "schema": wishes.json_schema}
            wish = {"response_format": {"type": "json_schema", "json_schema": schema}}
            params = replace(params, extra_body={**params.extra_body, **wish})
        return llm_serving, ChatTask(operator, llm_serving.model, params, wishes.system_prompt)
    if isinstance(llm_serving, LLMServing):
        return llm_serving, ChatTask(operator, "", system_prompt=wishes.system_prompt)
    return _FromInput(llm_serving, wishes), ChatTask(operator, model="")


class _FromInput:
    """A serving that answers lists of prompts, in DataFlow's way."""

    def __init__(self, serving: ForeignServing, wishes: Wishes) -> None:
        self._serving, self._wishes = serving, wishes

    def _ask(self, prompts: list[str]) -> list[Any]:
        """Ask for answers. Wishes that were not made are not passed: not all servings know them."""
        if self._wishes.system_prompt is None:
            return self._serving.generate_from_input(prompts)
        if self._wishes.json_schema is None:
            return self._serving.generate_from_input(prompts, self._wishes.system_prompt)
        return self._serving.generate_from_input(
            prompts, self._wishes.system_prompt, json_schema=self._wishes.json_schema
        )

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        return IteratorStream(self._answers(requests))

    def _answers(self, items: Iterable[Request | Response]) -> Generator[Response, None, None]:
        iterator = iter(items)
        while chunk := list(islice(iterator, _CHUNK)):
            requests = [item for item in chunk if isinstance(item, Request)]
            yield from (item for item in chunk if isinstance(item, Response))
            prompts = [str(request.messages[-1]["content"]) for request in requests]
            texts = self._ask(prompts) if prompts else []
            for request, text in zip(requests, texts, strict=True):
                if isinstance(text, str):
                    reasoning, said = split_reasoning(text)
                    yield Response(request, answer=Answer(said, reasoning))
                else:
                    error = Failure("empty", "the serving gave no answer")
                    yield Response(request, error=error)
