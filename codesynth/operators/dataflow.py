"""The operators as users of DataFlow know them: ``operator.run(storage)``.

Names, parameters and default columns are those of open-dataflow 1.0.13. A storage is a
``JSONLStorage``, which streams, or has ``read("dict")`` and ``write(rows)``. A serving is an
``LLMServing``, or has ``generate_from_input(prompts, system_prompt=...)``. A prompt template is
None (the built-in one), a text with placeholders, or an object with ``build_prompt``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import Any

from codesynth import pipeline
from codesynth.errors import ConfigError, RunError
from codesynth.models import Answer, Failure, Record, Request, Response, Stats
from codesynth.operators.chat import ChatTask, Fill
from codesynth.operators.code import code_task, fill_instruction
from codesynth.operators.generic import text_task
from codesynth.operators.instructions import (
    EXAMPLES,
    check_pool,
    few_shot_records,
    fill_examples,
    instructions_task,
)
from codesynth.operators.templates import REQUIRED, Template, load_template
from codesynth.serving import ChatServing, LLMServing, ResponseStream
from codesynth.serving.answers import split_reasoning
from codesynth.serving.stream import IteratorStream
from codesynth.storage import JSONLStorage, read_text

_CHUNK = 1000
"""Prompts that a foreign serving gets at a time: it cannot take them one by one."""


class _Generator:
    """The base of the five classes: asks a serving about the rows of a storage."""

    _built_in = ""  # name of the template that is used where none is given
    _serving_options: Mapping[str, Any] = {}  # by DataFlow's names

    def __init__(self, llm_serving: Any, prompt_template: Any = None) -> None:
        self.llm_serving, self.prompt_template = llm_serving, prompt_template
        if prompt_template is None or isinstance(prompt_template, str):
            self._fill = self._fill_template(load_template(self._built_in, prompt_template))
        else:
            self._fill = self._build_prompt

    def _fill_template(self, template: Template) -> Fill:
        return fill_instruction(template, REQUIRED[self._built_in])

    def _build_prompt(self, record: Record, text: str) -> str:
        return str(self.prompt_template.build_prompt(**{REQUIRED[self._built_in]: text}))

    def _run_text(self, storage: Any, input_key: str, output_key: str) -> list[str]:
        """Ask about the text in one column of each row; the answer's text is the new column."""
        read = partial(_read, key=input_key)
        return self._run(storage, replace(text_task(self._fill, output_key), read=read))

    def _run(self, storage: Any, task: ChatTask) -> list[str]:
        """Write the rows of a storage with new columns; return the names of these."""
        if isinstance(storage, JSONLStorage):
            return self._stream(storage, task, storage.records())
        rows = [dict(row) for row in storage.read("dict")]
        for key in task.new_columns:
            if any(key in row for row in rows):
                raise ConfigError(f'the rows already have "{key}". Choose another output_key')
        records = (Record(i, b"{}", row) for i, row in enumerate(rows))
        return self._fill_in(storage, task, records, rows)

    def _stream(
        self, storage: JSONLStorage, task: ChatTask, records: Iterable[Record]
    ) -> list[str]:
        """Write rows and failures to files as they come, in order."""
        serving, stats = self._connect(task), Stats()
        with storage.open() as files:
            files.start()
            pipeline.run(records, task, serving, files, stats=stats, stop=pipeline.Stop())
            files.commit()
        if stats.failed == stats.rows > 0:
            raise RunError(f"all {stats.rows} rows failed; {stats.describe_first_failure()}")
        return list(task.new_columns)

    def _fill_in(
        self, storage: Any, task: ChatTask, records: Iterable[Record], rows: Iterable[Any]
    ) -> list[str]:
        """Write rows with new columns to a foreign storage; None in the columns of a failed row."""
        written = [{**row, **dict.fromkeys(task.new_columns)} for row in rows]
        serving = self._connect(task)
        requests = pipeline.make_requests(records, task, Stats(), pipeline.Stop())
        with serving.generate(requests) as stream:
            for response in stream:
                columns = pipeline.read_response(response, task)
                if not isinstance(columns, Failure):
                    written[response.request.position] |= columns
        storage.write(written)
        return list(task.new_columns)

    def _connect(self, task: ChatTask) -> LLMServing:
        """Make our interface for a foreign serving; give the task the options of one of ours."""
        serving, options = self.llm_serving, self._serving_options
        if not isinstance(serving, LLMServing):
            return _FromInput(partial(serving.generate_from_input, **options))
        task.system_prompt = options.get("system_prompt")
        if isinstance(serving, ChatServing):
            task.model, task.params = serving.model, serving.params
        if "json_schema" in options:
            task.params = task.params.with_schema(options["json_schema"])
        return serving


class CodeInstructionGenerator(_Generator):
    """Asks for new instructions of the difficulty and style of examples from a pool.

    Args:
        llm_serving: see the module.
        prompt_template: a text with ``{examples}``, or an object with
            ``build_prompt(few_shot_examples=[{"instruction": ...}, ...])``.
        num_few_shot: examples in each prompt.
        num_generate: instructions to ask for.
        seed: for choosing the examples.

    >>> from codesynth import APILLMServing, JSONLStorage, PracticeEndpoint
    >>> serving = APILLMServing("http://offline/v1", transport=PracticeEndpoint())
    >>> storage = JSONLStorage("samples/seeds.jsonl", "/dev/null")
    >>> CodeInstructionGenerator(serving, num_generate=2).run(storage)
    ['generated_instruction']
    """

    _built_in = "code_instruction_generate"

    def __init__(
        self,
        llm_serving: Any,
        prompt_template: Any = None,
        num_few_shot: int = 3,
        num_generate: int = 10,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__(llm_serving, prompt_template)
        self.num_few_shot, self.num_generate, self.seed = num_few_shot, num_generate, seed

    def _fill_template(self, template: Template) -> Fill:
        return fill_examples(template)

    def _build_prompt(self, record: Record, text: str) -> str:
        examples = [{"instruction": text} for text in record.fields[EXAMPLES]]
        return str(self.prompt_template.build_prompt(few_shot_examples=examples))

    def run(
        self, storage: Any, input_key: str = "prompt", output_key: str = "generated_instruction"
    ) -> list[str]:
        """Sample from ``storage``, write the new instructions; return the column's name.

        Rows without a text in ``input_key`` are not used as examples.

        Raises:
            ConfigError: the pool is too small.
            RunError: every row failed, or the endpoint answers no request.
        """
        task = instructions_task(self._fill, output_key)
        if isinstance(storage, JSONLStorage):
            pool = storage.pool(input_key)
            asked = chain(pool.bad_records(), self._records(pool, pool.line))
            return self._stream(storage, task, asked)
        texts = [row.get(input_key) for row in storage.read("dict")]
        usable = [text for text in texts if isinstance(text, str)]  # pandas fills with NaN
        records = self._records(usable, lambda number: number + 1)
        return self._fill_in(storage, task, records, [{}] * self.num_generate)

    def _records(self, pool: Sequence[str], line: Callable[[int], int]) -> Iterator[Record]:
        check_pool(len(pool), self.num_few_shot)
        parts = [(range(len(pool)), self.num_few_shot)]
        return few_shot_records(pool, line, range(self.num_generate), self.seed, parts)


class CodeInstructionToCodeGenerator(_Generator):
    """Asks for the code that each row's instruction describes.

    A template has ``{instruction}``, and any other column of the row in braces; or it is an object
    with ``build_prompt(instruction=...)``.
    """

    _built_in = "code_instruction_to_code"

    def run(
        self, storage: Any, input_key: str = "instruction", output_key: str = "generated_code"
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name.

        ``generated_instruction`` is read where a row has no ``instruction``.

        Raises:
            ConfigError: rows of a foreign storage have that column already.
            RunError: every row failed, or the endpoint answers no request.
        """
        return self._run(storage, code_task(self._fill, input_key, output_key))


class CodeCodeToInstructionGenerator(_Generator):
    """Asks for the instruction that each row's code could have been written for.

    As ``CodeInstructionToCodeGenerator``, but with ``{code}`` and ``build_prompt(code=...)``.
    """

    _built_in = "code_to_instruction"

    def run(
        self, storage: Any, input_key: str = "code", output_key: str = "generated_instruction"
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name."""
        return self._run_text(storage, input_key, output_key)


class CodeEnhancementInstructionGenerator(_Generator):
    """Asks for each row's instruction again, as a function stub with docstring and doctests.

    The arguments are those of ``CodeInstructionToCodeGenerator``. Of a chat, a list of messages,
    the instruction is the first message of the human (its role is ``user`` or ``human``).
    """

    _built_in = "enhance_instruction"

    def run(
        self, storage: Any, input_key: str = "messages", output_key: str = "generated_instruction"
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name."""
        return self._run_text(storage, input_key, output_key)


class PromptedGenerator(_Generator):
    """Asks for what each row's text says, after ``user_prompt``; the answer is the new column.

    A serving of ours sends ``json_schema`` as OpenAI's ``response_format``.
    """

    def __init__(
        self,
        llm_serving: Any,
        system_prompt: str = "You are a helpful agent.",
        user_prompt: str = "",
        json_schema: dict[str, Any] | None = None,
    ) -> None:
        self.llm_serving = llm_serving
        self._fill = lambda _, text: user_prompt + text
        self._serving_options = {"system_prompt": system_prompt}
        if json_schema is not None:  # not all servings know it
            self._serving_options["json_schema"] = json_schema

    def run(
        self, storage: Any, input_key: str = "raw_content", output_key: str = "generated_content"
    ) -> str:
        """Read rows from ``storage``, write them with the new column; return the column's name."""
        return self._run_text(storage, input_key, output_key)[0]


def _read(record: Record, key: str) -> str | Failure:
    """Read a column's text, or the first human message of a chat (OpenAI's or ShareGPT's names)."""
    turns = record.fields.get(key)
    if not isinstance(turns, list):
        return read_text(record, key)
    for turn in turns:
        if isinstance(turn, Mapping):
            role = str(turn.get("role", turn.get("from"))).lower()
            text = turn.get("content", turn.get("value"))
            if role in ("user", "human") and isinstance(text, str):
                return text
    return Failure("not_a_string", f'"{key}" has no message with the role "user"')


@dataclass(frozen=True)
class _FromInput:
    """Makes an ``LLMServing`` of a function that answers a list of prompts."""

    ask: Callable[[list[str]], list[Any]]

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        return IteratorStream(self._answers(iter(requests)))

    def _answers(self, items: Iterator[Request | Response]) -> Generator[Response, None, None]:
        while chunk := list(islice(items, _CHUNK)):
            yield from (item for item in chunk if isinstance(item, Response))
            requests = [item for item in chunk if isinstance(item, Request)]
            prompts = [str(request.messages[-1]["content"]) for request in requests]
            texts = self.ask(prompts) if prompts else []
            for request, text in zip(requests, texts, strict=True):
                if isinstance(text, str):
                    reasoning, rest = split_reasoning(text)
                    rest = rest.removeprefix("<answer>").removesuffix("</answer>")  # DataFlow's way
                    yield Response(request, answer=Answer(rest, reasoning or None))
                else:
                    yield Response(request, error=Failure("empty", "the serving gave no answer"))
