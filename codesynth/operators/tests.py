"""One instruction a row -> tests for it, written without seeing any code."""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from codesynth.models import Failure, Record
from codesynth.operators.chat import Parsed
from codesynth.operators.code import instruction_key
from codesynth.operators.extract import extract_code
from codesynth.operators.languages import PYTHON
from codesynth.operators.templates import Template, load_template
from codesynth.storage.columns import read_text

TEMPLATE = "instruction_to_tests"
OUTPUT_KEY = "generated_tests"
SIGNATURE_KEY = "signature"

_STUB = re.compile(
    r"^(?:async +)?(?:def|class) +\w[^\n]*(?:\n[^\n]*){0,30}?:(?=\s*(?:$|\n|\.\.\.|#))",
    re.MULTILINE,
)
_LONGEST_SIGNATURE = 2000
_FIRST_LINE = re.compile(r"^(?=[^\s#)\]}])", re.MULTILINE)
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class _Statement(NamedTuple):
    node: ast.stmt
    text: str


def tests_template(text: str | None, name: str) -> Template:
    """Check a template for tests; None is the built-in one. Any column may be a placeholder.

    Raises:
        ConfigError: it does not have ``{instruction}``.
    """
    return load_template(text, TEMPLATE, required={"instruction"}, known=None, name=name)


@dataclass(frozen=True, slots=True)
class TestsOperator:
    """Asks for tests of what each row's instruction describes.

    The new columns are the list of tests, each valid by itself, and ``signature``: the line that
    a solution must define, from the instruction if it has one, else from the answer. A test that
    does not compile, asserts nothing or does not use the name in the signature is dropped.

    Args:
        num_tests: how many to ask for; no more are kept.
        dropped: counts the dropped tests by reason.
    """

    __test__ = False  # its name makes pytest take it for tests

    template: Template
    input_key: str | None = None
    output_key: str = OUTPUT_KEY
    num_tests: int = 8
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def columns(self) -> tuple[str, ...]:
        """Name the new columns."""
        return (self.output_key, SIGNATURE_KEY)

    def prompt(self, record: Record) -> str | Failure:
        """Fill the template."""
        text = read_text(record, instruction_key(record, self.input_key))
        if isinstance(text, Failure):
            return text
        signature = find_signature(text)
        rule = "Choose a good name and parameters from the instruction."
        if signature is not None:
            rule = f"It is: {signature} ..."
        values = {"instruction": text, "signature_rule": rule, "num_tests": self.num_tests}
        return self.template.fill_or_fail({**record.fields, **values})

    def subject(self, record: Record) -> str | None:
        """Read the instruction."""
        value = record.fields.get(instruction_key(record, self.input_key))
        return value if isinstance(value, str) else None

    def parse(self, text: str, record: Record) -> Parsed | Failure:
        """Take signature and tests out of the answer."""
        found = extract_code(text, "", PYTHON)
        if isinstance(found, Failure):
            return found
        statements, broken = _split(found.code)
        own = find_signature(self.subject(record) or "")
        signature = own or _first_signature(statements)
        if signature is None:
            return Failure("no_code", "the answer does not say what the code must define")
        kept, dropped = _choose_tests(statements, _name_of(signature))
        dropped["tests that do not compile"] += broken
        self.dropped.update(dropped)
        if not kept:
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.items() if count)
            return Failure("no_code", f"no usable test{': ' if why else ''}{why}")
        about = {"tests_dropped": sum(dropped.values())}
        columns = {self.output_key: kept[: self.num_tests], SIGNATURE_KEY: signature}
        return Parsed(columns, about)


def find_signature(text: str) -> str | None:
    r"""Find the first line of a function or class that an instruction gives to be completed.

    >>> find_signature("Complete:\n\ndef add(a: int, b: int) -> int:\n    ...\n")
    'def add(a: int, b: int) -> int:'
    """
    for match in _STUB.finditer(text[:100_000]):
        signature = match[0]
        if len(signature) <= _LONGEST_SIGNATURE and _name_of(signature):
            return signature
    return None


def _parse(text: str) -> list[ast.stmt] | None:
    """Parse Python; None where it does not compile."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, "<test>", "exec")
            return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _name_of(signature: str) -> str:
    """Read the name that a signature defines; empty where it is no Python."""
    body = _parse(f"{signature} ...")
    return body[0].name if body and isinstance(body[0], _DEFINITIONS) else ""


def _split(code: str) -> tuple[list[_Statement], int]:
    """Split code into its statements; return them, and how many do not compile.

    Where one does not, the others are found by their first lines, which are not indented.
    """
    if (body := _parse(code)) is not None:
        lines = code.split("\n")
        starts = [_first_line(node) for node in body] + [len(lines) + 1]
        texts = ["\n".join(lines[a - 1 : b - 1]) for a, b in itertools.pairwise(starts)]
        whole = all(_parse(text) is not None for text in texts)  # not so with a ; between two
        texts = texts if whole else [ast.unparse(node) for node in body]
    else:
        texts = _FIRST_LINE.split(code)
    statements, broken = [], 0
    for text in texts:
        parsed = _parse(text.strip("\n"))
        if parsed is None:
            broken += 1
        else:
            statements += [_Statement(node, text.strip("\n")) for node in parsed[:1]]
    return statements, broken


def _first_line(node: ast.stmt) -> int:
    decorators: list[ast.expr] = node.decorator_list if isinstance(node, _DEFINITIONS) else []
    return min([node.lineno, *(each.lineno for each in decorators)])


def _is_test(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name.startswith("test")
    return isinstance(node, ast.Assert)


def _first_signature(statements: list[_Statement]) -> str | None:
    """Take the signature from the first definition of an answer that is no test."""
    for node, text in statements:
        if isinstance(node, _DEFINITIONS) and not _is_test(node):
            return find_signature(text)
    return None


def _choose_tests(statements: list[_Statement], name: str) -> tuple[list[str], Counter[str]]:
    """Make each test a text of its own, with the imports of the answer that it uses."""
    imports = [each for each in statements if isinstance(each.node, ast.Import | ast.ImportFrom)]
    kept: list[str] = []
    dropped: Counter[str] = Counter()
    for node, text in statements:
        if not _is_test(node):
            continue
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        needed = [each.text for each in imports if names & _bound(each.node)]
        if name not in names:
            dropped["tests without the function's name"] += 1
        elif not _asserts(node):
            dropped["tests without an assertion"] += 1
        elif (test := "\n".join([*needed, text])) not in kept:
            kept.append(test)
    return kept, dropped


def _bound(node: ast.stmt) -> set[str]:
    """Name what an import defines."""
    if not isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    return {(each.asname or each.name).partition(".")[0] for each in node.names}


def _asserts(node: ast.stmt) -> bool:
    """Tell whether a test can fail: an assert that is not constant, or pytest.raises."""
    for each in ast.walk(node):
        if isinstance(each, ast.Assert) and not isinstance(each.test, ast.Constant):
            return True
        if isinstance(each, ast.Attribute) and each.attr.startswith(("raises", "assert")):
            return True
    return False
