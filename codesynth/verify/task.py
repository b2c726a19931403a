"""A row -> its code and tests -> what happened when they ran. Nothing is run here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from codesynth.codec import dumps, loads
from codesynth.models import Ask, Failure, Record, Response

STATUSES = ("passed", "failed", "error", "timeout", "syntax_error", "no_tests", "unsupported")
INSTRUCTION_KEYS = ("instruction", "generated_instruction", "prompt")
"""Columns looked in, in this order, where no instruction key is given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTask:
    """Sends code and tests as a trial, and reads the verdict into a column.

    Attributes:
        test_key: the column with the tests; None takes the doctests.
        statuses: counts the verdicts.
    """

    test_key: str | None = None
    code_key: str = "generated_code"
    instruction_key: str | None = None
    output_key: str = "verification"
    statuses: Counter[str] = field(default_factory=Counter)

    def ask(self, record: Record) -> Ask | Failure:
        """Write the trial of a row; its fields are those of ``verify.inside.trial``."""
        fields = record.fields
        code = fields.get(self.code_key)
        if not isinstance(code, str):
            kind = "not_a_string" if self.code_key in fields else "missing_key"
            return Failure(kind, f'no text in the column "{self.code_key}". Try --input-key')
        if self.output_key in fields:
            words = f'the row has "{self.output_key}" already. Try another --output-key'
            return Failure("existing_key", words)
        tests = read_tests(fields.get(self.test_key) if self.test_key else None, fields)
        if isinstance(tests, Failure):
            return tests
        entry = fields.get("entry_point")
        told = {
            "code": code,
            "instruction": self._instruction(record),
            "entry_point": entry if isinstance(entry, str) else None,
            "language": fields.get("language"),
        }
        body = dumps({**told, **tests})
        return Ask(body, body)

    def columns(self, response: Response) -> dict[str, Any] | Failure:
        """Read the verdict."""
        verdict = loads(response.body)
        self.statuses[verdict["status"]] += 1
        return {self.output_key: verdict}

    def subject(self, record: Record, columns: Mapping[str, Any]) -> str:
        """Tell ``Selection`` which instruction a row answers, and its verdict."""
        verdict = columns[self.output_key]
        told = self._instruction(record)
        group = record.index if told is None else blake2b(told.encode(errors="replace")).hexdigest()
        names = ("status", "message", "results")
        return dumps({"group": group, **{name: verdict[name] for name in names}}).decode()

    def _instruction(self, record: Record) -> str | None:
        keys = (self.instruction_key,) if self.instruction_key else INSTRUCTION_KEYS
        found = (record.fields.get(key) for key in keys if key)
        return next((text for text in found if isinstance(text, str)), None)


def read_tests(column: Any, fields: Mapping[str, Any]) -> dict[str, Any] | Failure:
    """Recognise tests from what they are.

    That is a text; a list of texts (MBPP, with ``test_setup_code`` and ``test_imports``); an object
    with ``inputs`` and ``outputs`` (APPS, with ``fn_name``); a list of objects with ``input`` and
    ``output`` (LiveCodeBench, whose ``metadata`` may name a function); or one of these as JSON.
    """
    if isinstance(column, str) and column.lstrip()[:1] in ("{", "["):
        try:
            column = loads(column)
        except ValueError:
            pass  # a text of Python
    if isinstance(column, str | None):
        return _trial(column)
    if isinstance(column, list) and all(isinstance(one, str) for one in column):
        setup = [fields.get("test_setup_code"), *(fields.get("test_imports") or ())]
        return _trial("\n".join([*(one for one in setup if isinstance(one, str)), *column]))
    cases = column if isinstance(column, list) else [column]
    if all(isinstance(one, dict) and {"input", "output"} <= one.keys() for one in cases):
        name = _function(fields, cases)
        inputs, outputs = [one["input"] for one in cases], [one["output"] for one in cases]
        if name is not None:
            inputs = [[loads(line) for line in one.split("\n")] for one in inputs]
            outputs = [loads(one) for one in outputs]
    elif isinstance(column, dict) and {"inputs", "outputs"} <= column.keys():
        inputs, outputs, name = column["inputs"], column["outputs"], column.get("fn_name")
    else:
        return Failure("not_a_string", "the tests are neither text, a list of texts nor pairs")
    if name is None:
        inputs, outputs = map(_as_texts, (inputs, outputs))
    return _trial(None, list(zip(inputs, outputs, strict=False)), name)


def _trial(
    test: str | None, pairs: list[Any] | None = None, function: str | None = None
) -> dict[str, Any]:
    return {"test": test, "pairs": pairs, "function": function}


def _function(fields: Mapping[str, Any], cases: list[Any]) -> str | None:
    """Find the function that LiveCodeBench's pairs call."""
    told = fields.get("metadata")
    told = loads(told) if isinstance(told, str) and told.startswith("{") else told
    name = told.get("func_name") if isinstance(told, dict) else None
    is_called = cases and all(one.get("testtype") == "functional" for one in cases)
    return name if is_called and isinstance(name, str) else None


def _as_texts(values: list[Any]) -> list[str]:
    """Join the lines of inputs and outputs that are lists of lines."""
    return ["\n".join(map(str, one)) if isinstance(one, list) else str(one) for one in values]
