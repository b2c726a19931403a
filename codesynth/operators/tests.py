"""One instruction a row -> tests for it, written without seeing any code."""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field

from codesynth.models import Failure, Record
from codesynth.operators.chat import Parsed
from codesynth.operators.code import instruction_key
from codesynth.operators.columns import read_text
from codesynth.operators.extract import extract_code
from codesynth.operators.languages import find_language
from codesynth.operators.templates import Template, load_template

TEMPLATE = "instruction_to_tests"
OUTPUT_KEY = "generated_tests"
SIGNATURE_KEY = "signature"

_STUB = re.compile(r"^(?:async +)?(?:def|class) +\w[^\n]*(?:\n[^\n]*)*?:(?=\s*(?:$|\n|\.\.\.|#))", re.MULTILINE)
_LONGEST_SIGNATURE = 2000


def tests_template(text: str | None, name: str = "<prompt_template>") -> Template:
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
        found = extract_code(text, "", find_language("python"))
        if isinstance(found, Failure):
            return found
        try:
            with warnings.catch_warnings(action="ignore"):
                body = ast.parse(found.code).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            return Failure("no_code", f"the tests are no Python: {exc}")
        signature = find_signature(self.subject(record) or "") or _first_signature(body, found.code)
        if signature is None:
            return Failure("no_code", "the answer does not say what the code must define")
        kept, dropped = _split_tests(body, found.code, _name_of(signature))
        self.dropped.update(dropped)
        if not kept:
            why = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
            return Failure("no_code", f"no usable test{': ' if why else ''}{why}")
        about = {"tests_dropped": sum(dropped.values())}
        columns = {self.output_key: kept[: self.num_tests], SIGNATURE_KEY: signature}
        return Parsed(columns, about)


def find_signature(text: str) -> str | None:
    r"""Find the first line of a function or class that an instruction gives to be completed.

    >>> find_signature('Complete:\n\ndef add(a: int, b: int) -> int:\n    """Add."""\n')
    'def add(a: int, b: int) -> int:'
    """
    for match in _STUB.finditer(text[:100_000]):
        signature = match[0]
        if len(signature) <= _LONGEST_SIGNATURE and _name_of(signature):
            return signature
    return None


def _name_of(signature: str) -> str:
    """Read the name that a signature defines; empty where it is no Python."""
    try:
        with warnings.catch_warnings(action="ignore"):
            node = ast.parse(f"{signature} ...").body[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return node.name if isinstance(node, definition) else ""


def _first_signature(body: list[ast.stmt], code: str) -> str | None:
    """Take the signature from the first definition of an answer that is no test."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.name.lower().startswith("test"):
                return find_signature(ast.get_source_segment(code, node) or "")
    return None


def _split_tests(
    body: list[ast.stmt], code: str, name: str
) -> tuple[list[str], Counter[str]]:
    """Make each test a text of its own, with the imports of the answer that it uses."""
    imports = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    kept: list[str] = []
    dropped: Counter[str] = Counter()
    for node in body:
        is_test = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
            node.name.startswith("test")
        )
        if not is_test and not isinstance(node, ast.Assert):
            continue
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        needed = [each for each in imports if names & _bound(each)]
        text = "\n".join(ast.get_source_segment(code, each) or "" for each in [*needed, node])
        if name not in names:
            dropped["without the function's name"] += 1
        elif not _asserts(node):
            dropped["without an assertion"] += 1
        elif not _compiles(text):
            dropped["that do not compile"] += 1
        elif text not in kept:
            kept.append(text)
    return kept, dropped


def _bound(node: ast.Import | ast.ImportFrom) -> set[str]:
    return {(each.asname or each.name).partition(".")[0] for each in node.names}


def _asserts(node: ast.stmt) -> bool:
    """Tell whether a test can fail: an assert that is not constant, or pytest.raises."""
    for each in ast.walk(node):
        if isinstance(each, ast.Assert) and not isinstance(each.test, ast.Constant):
            return True
        if isinstance(each, ast.Attribute) and each.attr.startswith(("raises", "assert")):
            return True
    return False


def _compiles(text: str) -> bool:
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, "<test>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
