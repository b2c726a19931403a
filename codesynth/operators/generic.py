"""Any template over any rows -> a text, or the fields of a JSON object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from codesynth.codec import dumps, loads_exactly
from codesynth.models import Failure
from codesynth.operators.chat import ChatTask, Fill, Parsed
from codesynth.operators.extract import find_blocks

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "object": (dict,),
}
_STRING_OR_LAST_COMMA = re.compile(r'("(?:[^"\\]|\\.)*+"?)|,(?=\s*[}\]])', re.DOTALL)


def text_task(fill: Fill, output_key: str = "generated") -> ChatTask:
    """Ask for a text: the new column is the answer without white space around it."""

    def parse(answer: str, _: str) -> Parsed:
        return Parsed({output_key: answer.strip()})

    return ChatTask(new_columns=(output_key,), fill=fill, parse=parse)


def json_task(fill: Fill, require: Mapping[str, str], prefix: str = "") -> ChatTask:
    """Ask for a JSON object; its fields are the new columns.

    Args:
        fill: writes the prompt.
        require: the type of each field that must be there, from ``TYPES``; "" is any type.
        prefix: stands before the name of each field.
    """

    def parse(answer: str, _: str) -> Parsed | Failure:
        fault = "the answer has no JSON object"
        for text in _find_objects(answer):
            try:
                found = loads_exactly(_STRING_OR_LAST_COMMA.sub(r"\1", text), whole=False)
            except ValueError as exc:
                fault = f"the JSON object cannot be read: {exc}"
                continue
            if not (fault := _fault(found, require)):
                return Parsed({prefix + name: value for name, value in found.items()})
        return Failure("bad_json", fault)

    return ChatTask(new_columns=tuple(prefix + name for name in require), fill=fill, parse=parse)


def _find_objects(answer: str) -> Iterator[str]:
    """Find where a JSON object may begin: in a fence, among prose, or on the last lines."""
    blocks = [block.text for block in find_blocks(answer)]
    for text in (*blocks, answer, answer[answer.rfind("\n{") + 1 :]):
        if (start := text.find("{")) >= 0:
            yield text[start:]


def _fault(found: Mapping[str, Any], require: Mapping[str, str]) -> str:
    """Say what a JSON object lacks; empty if nothing."""
    if not found:
        return "the JSON object is empty"
    for name, kind in require.items():
        if name not in found:
            return f'the JSON object has no "{name}"; found {", ".join(found)}'[:300]
        value = found[name]
        if kind and type(value) not in TYPES[kind]:  # a bool is an int too, but of another type
            return f'"{name}" must be of type {kind}, but is {dumps(value).decode()}'[:300]
    return ""
