"""A row -> a trial of its code and tests -> the verdict. Nothing is run here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from codesynth.codec import dumps, loads
from codesynth.models import INSTRUCTION_KEYS, Failure, Question, Record, Response
from codesynth.storage import read_text

STATUSES = ("passed", "failed", "error", "timeout", "syntax_error", "no_tests", "unsupported")
GENERATED_TESTS = "generated_tests"
"""Column of ``gen-tests``, which is read if no test key is given."""
_NAME = re.compile(r"\b(?:def|class)\s+(\w+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyTask:
    """Sends code and tests as a trial, and reads the verdict into a column.

    Attributes:
        test_key: the column with the tests; None takes ``generated_tests``, else the doctests.
        more_columns: columns that are added later; a row must not have them yet.
        statuses: counts the verdicts.
        absent: counts the rows that have no column ``test_key``, by its name.
    """

    test_key: str | None = None
    code_key: str = "generated_code"
    instruction_key: str | None = None
    output_key: str = "verification"
    more_columns: Sequence[str] = ()
    statuses: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(STATUSES, 0)))
    absent: Counter[str] = field(default_factory=Counter)

    def make_question(self, record: Record) -> Question | Failure:
        """Write the trial of a row; see ``inside.trial.run``."""
        row, code = record.fields, read_text(record, self.code_key)
        if isinstance(code, Failure):
            return code
        if taken := [name for name in (self.output_key, *self.more_columns) if name in row]:
            words = f'the row already has "{taken[0]}". Rename it, or choose another --output-key'
            return Failure("existing_key", words)
        if self.test_key is not None and self.test_key not in row:
            self.absent[self.test_key] += 1
        try:
            tests = read_tests(self._tests(row), row)
        except (ValueError, TypeError, KeyError, AttributeError):
            key = self.test_key or GENERATED_TESTS
            words = f'the tests in "{key}" are neither text, a list of texts nor pairs'
            return Failure("not_a_string", words)
        entry_point, signature = row.get("entry_point"), row.get("signature")
        if entry_point is None and isinstance(signature, str):  # of gen-tests
            entry_point = "".join(_NAME.findall(signature)[:1]) or None
        trial = {"code": code, "instruction": self._instruction(record), "entry_point": entry_point}
        body = dumps({**trial, "language": row.get("language"), **tests})
        return Question(body, body)

    def columns(self, response: Response) -> dict[str, Any]:
        """Read the verdict."""
        verdict = loads(response.body)
        self.statuses[verdict["status"]] += 1
        return {self.output_key: verdict}

    def subject(self, record: Record, columns: Mapping[str, Any]) -> str:
        """Tell the filters which instruction and tests a row has, and its verdict."""
        instruction = self._instruction(record)
        group = record.index if instruction is None else _digest(instruction)
        tests = _digest(self._tests(record.fields))
        return dumps({"group": group, "tests": tests, **columns[self.output_key]}).decode()

    def _tests(self, row: Mapping[str, Any]) -> Any:
        return row.get(self.test_key or GENERATED_TESTS)

    def _instruction(self, record: Record) -> str | None:
        keys = (self.instruction_key,) if self.instruction_key else INSTRUCTION_KEYS
        found = map(record.fields.get, keys)
        return next((text for text in found if isinstance(text, str)), None)


def _digest(value: Any) -> str:
    return blake2b(dumps(value), digest_size=16).hexdigest()


def read_tests(column: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    """Recognise the form of the tests; return the trial's ``test``, ``pairs``, ``function``.

    Tests are a text; a list of texts (MBPP, with ``test_setup_code`` and ``test_imports``); an
    object with ``inputs`` and ``outputs`` (APPS, with ``fn_name``); a list of objects with
    ``input`` and ``output`` (LiveCodeBench, whose ``metadata`` may name a function); or one of
    these as JSON.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: they are something else.
    """
    if isinstance(column, str) and column.lstrip()[:2] in ('{"', "[{", '["'):
        column = loads(column)
    if isinstance(column, list) and all(isinstance(one, str) for one in column):
        setup = [row.get("test_setup_code"), *(row.get("test_imports") or ())]
        column = "\n".join(one for one in [*setup, *column] if isinstance(one, str))
    if column is None or isinstance(column, str):
        return {"test": column}
    if "inputs" in column:
        name = column.get("fn_name")
        pairs = list(zip(column["inputs"], column["outputs"], strict=True))
    else:
        cases = column if isinstance(column, list) else [column]
        name, pairs = None, [(one["input"], one["output"]) for one in cases]
        if cases[0].get("testtype") == "functional":
            metadata = row.get("metadata") or {}
            metadata = loads(metadata) if isinstance(metadata, str) else metadata
            name = metadata.get("func_name") or row["entry_point"]
            pairs = [([*map(loads, a.split("\n"))], loads(b)) for a, b in pairs]
    if name is None:
        pairs = [(_lines(given), _lines(wanted)) for given, wanted in pairs]
    return {"pairs": pairs, "function": name}


def _lines(text: Any) -> str:
    """Join a list of lines, as APPS has them."""
    return "\n".join(map(str, text)) if isinstance(text, list) else str(text)
