"""One instruction a row -> tests for it, before there is any code."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter

from codesynth.models import Failure, Record
from codesynth.operators.chat import ChatTask, Parsed
from codesynth.operators.extract import extract_code
from codesynth.operators.languages import PYTHON, first_error
from codesynth.operators.templates import Template, column_of
from codesynth.storage import read_text

_STUB = re.compile(
    r"^(?:async +)?(?:def|class) +\w[^\n]*?(?:\n[^\n]*?){0,30}?:(?=\s*(?:$|\n|\.\.\.|#))",
    re.MULTILINE,
)
_FIRST_LINE = re.compile(r"^(?=[^\s#)\]}])", re.MULTILINE)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*_FUNCTIONS, ast.ClassDef)


def tests_task(
    template: Template, input_key: str, output_key: str, num_tests: int, dropped: Counter[str]
) -> ChatTask:
    """Ask for tests of what each row's instruction describes.

    The new columns are the list of tests and ``signature``. Each test compiles by itself. The
    signature is the line that a solution must define; it is taken from the instruction if that
    has one, else from the answer. A test that does not compile, asserts nothing or does not use
    the name in the signature is dropped, and counted in ``dropped`` by the reason.
    """

    def read(record: Record) -> str | Failure:
        return read_text(record, column_of(record.fields, input_key))

    def fill(record: Record, text: str) -> str | Failure:
        signature = find_signature(text)
        rule = "Choose a good name and parameters from the instruction."
        if signature is not None:
            rule = f"It is: {signature} ..."
        values = {"instruction": text, "signature_rule": rule, "num_tests": num_tests}
        return template.fill({**record.fields, **values})

    def parse(answer: str, instruction: str) -> Parsed | Failure:
        found = extract_code(answer, "", PYTHON)
        if isinstance(found, Failure):
            return found
        statements, broken = _split(found.code)
        try:
            signature = find_signature(instruction) or _first_signature(statements)
            tests, faults = _choose(statements, _name_of(signature or ""))
        except (RecursionError, ValueError) as exc:  # of ast.unparse
            return Failure("no_code", f"the tests cannot be written one by one: {exc}")
        if signature is None:
            return Failure("no_code", "the answer does not say what the code must define")
        faults["tests that do not compile"] = broken
        dropped.update(faults)
        if not tests:
            why = ", ".join(f"{count} {reason}" for reason, count in faults.items() if count)
            return Failure("no_code", f"no usable test: {why or 'there is none'}")
        columns = {output_key: tests[:num_tests], "signature": signature}
        return Parsed(columns, {"tests_dropped": faults.total()})

    return ChatTask(new_columns=(output_key, "signature"), fill=fill, parse=parse, read=read)


def find_signature(text: str) -> str | None:
    r"""Find the first line of a function or class that an instruction gives to be completed.

    >>> find_signature("Complete:\n\ndef add(a: int, b: int) -> int:\n    ...\n")
    'def add(a: int, b: int) -> int:'
    """
    stubs = (match[0] for match in _STUB.finditer(text[:100_000]))
    return next((stub for stub in stubs if _name_of(stub)), None)


def _name_of(signature: str) -> str:
    """Read the name that a signature defines; empty if it is not Python."""
    body = _parse(f"{signature} ...")
    return body[0].name if body and isinstance(body[0], _DEFINITIONS) else ""


def _parse(text: str) -> list[ast.stmt] | None:
    """Parse Python; None where it does not compile."""
    if first_error(text) is not None:
        return None
    with warnings.catch_warnings(action="ignore"):
        return ast.parse(text).body


def _split(code: str) -> tuple[list[ast.stmt], int]:
    """Split code into its statements; return them, and how many do not compile."""
    if (whole := _parse(code)) is not None:
        return whole, 0
    # One does not compile: a statement is taken to begin at each line without an indent.
    parsed = [_parse(piece) for piece in _FIRST_LINE.split(code)]
    return [each for body in parsed for each in body or ()], parsed.count(None)


def _first_signature(statements: list[ast.stmt]) -> str | None:
    """Write the signature of the first function or class that is no test."""
    for each in statements:
        if isinstance(each, _DEFINITIONS) and not _is_test(each):
            return ast.unparse(each).partition(":\n")[0].rpartition("\n")[2] + ":"
    return None


def _is_test(node: ast.stmt) -> bool:
    is_function = isinstance(node, _FUNCTIONS) and node.name.startswith("test")
    return is_function or isinstance(node, ast.Assert)


def _choose(statements: list[ast.stmt], name: str) -> tuple[list[str], Counter[str]]:
    """Choose the tests; return each as a text with the imports that it uses. Count the dropped."""
    tests: list[str] = []
    dropped: Counter[str] = Counter()
    for test in filter(_is_test, statements):
        names = {each.id for each in ast.walk(test) if isinstance(each, ast.Name)}
        if name not in names:
            dropped["tests without the function's name"] += 1
        elif not _can_fail(test):
            dropped["tests without an assertion"] += 1
        else:
            imports = [each for each in statements if names & _imported(each)]
            tests.append("\n".join(map(ast.unparse, [*imports, test])))
    return list(dict.fromkeys(tests)), dropped


def _imported(node: ast.stmt) -> set[str]:
    """Name what an import defines."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    return {(each.asname or each.name).partition(".")[0] for each in node.names}


def _can_fail(node: ast.stmt) -> bool:
    """Tell whether a test has an assert that is not constant, pytest.raises or the like."""
    return any(
        (isinstance(each, ast.Assert) and not isinstance(each.test, ast.Constant))
        or (isinstance(each, ast.Attribute) and each.attr.startswith(("raises", "assert")))
        for each in ast.walk(node)
    )
