"""One instruction a row -> the code for it."""

from __future__ import annotations

from functools import partial

from codesynth.models import Failure, Message, Record
from codesynth.operators.chat import ChatTask, Fill, Parsed
from codesynth.operators.extract import extract_code
from codesynth.operators.languages import find_language
from codesynth.operators.templates import Template, column_of
from codesynth.storage import read_text


def read_instruction(record: Record, input_key: str) -> str | list[Message] | Failure:
    """Read the column with the instruction: a text, or a conversation."""
    key = column_of(record.fields, input_key)
    turns = record.fields.get(key)
    if not isinstance(turns, list):
        return read_text(record, key)
    if turns and all(isinstance(t, dict) and isinstance(t.get("role"), str) for t in turns):
        return turns
    return Failure("not_a_string", f'"{key}" is a list, but not of chat messages')


def fill_instruction(template: Template, placeholder: str = "instruction") -> Fill:
    """Make the function that writes a prompt from a row and its instruction, or its code.

    The built-in template for code also asks for the row's ``signature``, so that its tests fit.
    """
    asks_for_signature = template.name == "prompts/code_instruction_to_code.txt"

    def fill(record: Record, text: str) -> str | Failure:
        signature = record.fields.get("signature")
        if asks_for_signature and isinstance(signature, str) and signature:
            text += f"\n\nThe code must define exactly this: {signature}"
        return template.fill({**record.fields, placeholder: text})

    return fill


def code_task(
    fill: Fill,
    input_key: str = "instruction",
    output_key: str = "generated_code",
    language: str | None = None,
) -> ChatTask:
    """Ask for the code that each row's instruction describes.

    Args:
        fill: writes the prompt.
        input_key: the column with the instruction, or with a conversation to send.
        output_key: the column with the code.
        language: the language of the code; None finds it in the instruction and the answer.
    """
    known = find_language(language) if language else None

    def parse(answer: str, instruction: str) -> Parsed | Failure:
        found = extract_code(answer, instruction, known)
        if isinstance(found, Failure):
            return found
        about = {"blocks": found.blocks, "block": found.taken, "language": found.language or None}
        return Parsed({output_key: found.code}, about)

    read = partial(read_instruction, input_key=input_key)
    return ChatTask(new_columns=(output_key,), fill=fill, parse=parse, read=read)
