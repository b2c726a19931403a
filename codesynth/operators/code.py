"""One instruction a row -> the code for it."""

from __future__ import annotations

from typing import Any

from codesynth.errors import ConfigError
from codesynth.models import Failure, Record
from codesynth.operators.extract import extract_code
from codesynth.operators.face import run_in_memory, run_streaming
from codesynth.operators.languages import find_language
from codesynth.operators.templates import Template, load_template
from codesynth.pipeline import Job

TEMPLATE = "code_instruction_to_code"
FALLBACK_KEY = "generated_instruction"


class CodeInstructionToCodeGenerator:
    """Asks for the code that each row's instruction describes.

    Args:
        llm_serving: what ``run`` asks: an ``LLMServing``, or one of DataFlow's.
        prompt_template: None (the built-in), a text with ``{instruction}`` and any other column
            of the row in braces, or an object with ``build_prompt(instruction=...)``.
        template_name: names the template in errors.
        language: what the code is in, so that an answer's blocks in it are preferred; None goes
            by the prompt and the answer.

    Raises:
        ConfigError: the template's text is wrong.

    >>> from codesynth.models import Record
    >>> operator = CodeInstructionToCodeGenerator(prompt_template="In {language}: {instruction}")
    >>> job = operator.job()
    >>> job.prompt(Record(0, b"{}", {"instruction": "Say hi.", "language": "Go"}))
    'In Go: Say hi.'
    """

    def __init__(
        self,
        llm_serving: Any = None,
        prompt_template: Any = None,
        *,
        template_name: str = "<prompt_template>",
        language: str | None = None,
    ) -> None:
        self.llm_serving = llm_serving
        self.prompt_template = prompt_template
        self._build = getattr(prompt_template, "build_prompt", None)
        if self._build is None:
            self._template = load_template(
                prompt_template, TEMPLATE, required={"instruction"}, known=None, name=template_name
            )
        self._filled = False
        self._language = find_language(language) if language else None

    def job(
        self,
        input_key: str | None = None,
        output_key: str = "generated_code",
        system_prompt: str | None = None,
    ) -> Job:
        """Bind the columns.

        Args:
            input_key: None takes ``instruction``, or ``generated_instruction`` where a row has
                no ``instruction``.
        """

        def prompt(record: Record) -> str | Failure:
            if output_key in record.fields:
                words = f'the row has "{output_key}" already. Try another --output-key'
                return Failure("existing_key", words)
            return self._prompt(record, input_key)

        def parse(answer: str, prompt: str) -> str | Failure:
            found = extract_code(answer, prompt, self._language)
            return found if isinstance(found, Failure) else found.code

        return Job("code", prompt, parse, output_key, system_prompt)

    def instruction(self, record: Record, input_key: str | None) -> str | Failure:
        """Read a row's instruction, or why it has none; see ``job``."""
        key = input_key or "instruction"
        if input_key is None and key not in record.fields and FALLBACK_KEY in record.fields:
            key = FALLBACK_KEY
        return record.text(key)

    def _prompt(self, record: Record, input_key: str | None) -> str | Failure:
        text = self.instruction(record, input_key)
        if isinstance(text, Failure):
            return text
        if self._build is not None:
            return str(self._build(instruction=text))
        try:
            prompt = self._template.fill({**record.fields, "instruction": text})
        except KeyError as exc:
            name = exc.args[0]
            words = f"the template's {{{name}}} is no column of the row"
            if not self._filled:
                known = ", ".join(f"{{{each}}}" for each in {"instruction": 0, **record.fields})
                where = f"{self._template.name}:{_line(self._template, name)}"
                raise ConfigError(
                    f"{where}: unknown placeholder {{{name}}}; known: {known}"
                ) from exc
            return Failure("missing_key", words)
        self._filled = True
        return prompt

    def run(
        self, storage: Any, input_key: str = "instruction", output_key: str = "generated_code"
    ) -> list[str]:
        """Read rows from ``storage``, write them with the new column; return the column's name.

        Raises:
            ConfigError: rows have that column already, in a storage without a place for failures.
            EndpointError: no request can succeed.
        """
        job = self.job(input_key, output_key)
        if hasattr(storage, "records"):
            run_streaming(job, storage.records(), self.llm_serving, storage)
            return [output_key]
        rows = storage.read("dict")
        if any(output_key in row for row in rows):
            raise ConfigError(f'the rows have "{output_key}" already. Try another output_key')
        storage.write(run_in_memory(job, rows, self.llm_serving))
        return [output_key]


def _line(template: Template, name: str) -> int:
    """Tell the line of a placeholder in its template, from 1."""
    place = template.pieces[1::2].index(name)
    return 1 + sum(text.count("\n") for text in template.pieces[: 2 * place + 1 : 2])
