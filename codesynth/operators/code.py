"""One instruction a row -> the code for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from codesynth.models import Failure, Message, Record
from codesynth.operators.chat import Parsed, read_conversation
from codesynth.operators.extract import extract_code
from codesynth.operators.languages import Language
from codesynth.operators.templates import Template, load_template
from codesynth.storage.columns import read_text

TEMPLATE = "code_instruction_to_code"
BUILT_IN = f"prompts/{TEMPLATE}.txt"
OUTPUT_KEY = "generated_code"
INPUT_KEYS = ("instruction", "generated_instruction")
"""Columns that are read where none is named: the first that a row has."""


def instruction_key(record: Record, input_key: str | None) -> str:
    """Choose the column that holds the instruction."""
    if input_key is not None:
        return input_key
    return next((key for key in INPUT_KEYS if key in record.fields), INPUT_KEYS[0])


@dataclass(frozen=True, slots=True)
class CodeOperator:
    """Asks for the code that each row's instruction describes.

    Args:
        fill: writes the prompt from the row and its instruction.
        input_key: the column with the instruction; None takes the first of ``INPUT_KEYS``. A
            list of messages in it is sent as that conversation.
        language: what the code is in; None goes by the instruction and the answer.
    """

    fill: Callable[[Record, str], str | Failure]
    input_key: str | None = None
    output_key: str = OUTPUT_KEY
    language: Language | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new column."""
        return (self.output_key,)

    def prompt(self, record: Record) -> str | list[Message] | Failure:
        """Write the prompt, or take the conversation from the row."""
        key = instruction_key(record, self.input_key)
        if isinstance(record.fields.get(key), list):
            return read_conversation(record.fields[key])
        text = read_text(record, key)
        return text if isinstance(text, Failure) else self.fill(record, text)

    def subject(self, record: Record) -> str | None:
        """Read the instruction; of a conversation, its last user message."""
        value = record.fields.get(instruction_key(record, self.input_key))
        if isinstance(value, list):
            said = [turn.get("content") for turn in value if turn.get("role") == "user"]
            value = said[-1] if said else None
        return value if isinstance(value, str) else None

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Take the code out of the answer."""
        found = extract_code(text, self.subject(record) or "", self.language)
        if isinstance(found, Failure):
            return found
        about: dict[str, object] = {"blocks": found.blocks, "block": found.taken}
        if found.language:
            about["language"] = found.language
        return Parsed({self.output_key: found.code}, about)


def code_template(text: str | None, name: str = "<prompt_template>") -> Template:
    """Check a template for code; None is the built-in one. Any column may be a placeholder.

    Raises:
        ConfigError: it does not have ``{instruction}``.
    """
    return load_template(text, TEMPLATE, required={"instruction"}, known=None, name=name)


def fill_instruction(template: Template) -> Callable[[Record, str], str | Failure]:
    """Make the function that writes a prompt from a row and its instruction.

    The built-in template also asks for the row's ``signature``, so that its tests fit.
    """

    def fill(record: Record, instruction: str) -> str | Failure:
        signature = record.fields.get("signature")
        if template.name == BUILT_IN and isinstance(signature, str) and signature:
            instruction += f"\n\nThe code must define exactly this: {signature}"
        return template.fill_or_fail({**record.fields, "instruction": instruction})

    return fill
