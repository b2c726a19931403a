"""Run one row: its code, then its tests; called in a process of their own."""

from __future__ import annotations

import doctest
import gc
import json
import mmap
import os
import re
import sys
import textwrap
import warnings
from contextlib import suppress
from functools import partial
from types import CodeType, ModuleType
from typing import Any

from . import forms
from .results import CODE_FILE, MEMORY_BYTES, Results

UNITTEST = """
import unittest
class MustFail(unittest.TestCase):
    def test_equal(self): self.assertEqual(1, 2)
    def test_true(self): self.assertTrue(False)
    def test_in(self): self.assertIn(1, [])
    def test_raises(self): self.assertRaises(ValueError, int)
"""
PYTEST = "import pytest\ndef test_raises():\n    with pytest.raises(ValueError):\n        pass"
ASSERTS = "assert 1 == 2\ndef test_must_fail():\n    assert [1] == [2]"
TEXTS = {"": ASSERTS, "unittest": UNITTEST, "pytest": PYTEST}
CONTROLS = {word: forms.Tests(text) for word, text in TEXTS.items()}
"""Tests that must fail, by a word in the row's tests. If one passes, the code broke the testing."""
MAIN_GUARD = re.compile(r"(?m)^if +\(?__name__ *== *.__main__.\)? *:")
OTHER_LANGUAGE = re.compile(
    r"\s*(#include|#!.*\b(ba)?sh\b|<\?php|//|/\*|package \w|using [\w.]+;|import .*[;'\"{]|public "
    r"|(pub )?fn \w|func \w|(export )?(async )?function\b|(const|let|var) \w|use [\w:]+;|struct \w)"
)
"""How code in another language than Python begins."""


def run(line: bytes, memory: mmap.mmap) -> None:
    """Run a row and write its verdict.

    Args:
        line: a JSON object with ``code``; it may have ``instruction``, ``language``, ``test`` (a
            text), ``pairs`` (of input and output), ``function`` (for these) and ``entry_point``.
        memory: gets the verdict.
    """
    process, row = os.getpid(), json.loads(line)
    warnings.simplefilter("ignore")
    results = Results(memory, row.get("test") or "")
    status, message = judge(row, results)
    if os.getpid() == process:  # not a copy that the code has forked
        results.publish(status, message)


def judge(row: dict[str, Any], results: Results) -> tuple[str, str]:
    """Run a row; return its status and a message."""
    instruction, code, pairs = row.get("instruction") or "", row["code"], row.get("pairs") or []
    is_script = bool(pairs) and row.get("function") is None
    try:
        programs = [compile_text(code, is_script)] if is_script else read_code(code, instruction)
    except SyntaxError as exc:
        language = str(row.get("language") or "python").lower()
        # Some data sets name the language of the text in this column: en.
        if OTHER_LANGUAGE.match(code) or not language.startswith(("py", "en")):
            return "unsupported", "the code is not Python"
        return "syntax_error", describe(exc)
    try:
        tests = forms.Tests(row.get("test") or "")
    except SyntaxError as exc:
        return "error", f"the tests, {describe(exc)}"
    groups = [] if tests.text or pairs else forms.find_examples(instruction, code)
    try:
        if is_script:
            for given, wanted in pairs:
                results.run(partial(forms.run_program, programs[0], given, wanted))
        else:
            run_tests(row, load(programs), groups, tests, results)
    except BaseException as exc:
        results.note(exc)
        if not results.message:  # code must not skip tests
            return "error", results.describe(exc)
    if problem := results.letters.strip(".")[:1]:
        return "failed" if problem == "F" else "error", results.message
    if results.letters and (equals_everything(code) or not can_fail(tests)):
        return "error", "the code interferes with its tests"
    return "passed" if results.letters else "no_tests", ""


def describe(error: SyntaxError) -> str:
    """Say what is wrong, and in which line if that is known."""
    return f"line {error.lineno}: {error.msg}" if error.lineno else str(error.msg)


def compile_text(text: str, is_script: bool = False) -> CodeType:
    """Compile a program; only a script keeps its main guard. Raises SyntaxError if that fails."""
    program = text if is_script else MAIN_GUARD.sub("if False:", text)
    try:
        return compile(program, CODE_FILE, "exec", dont_inherit=True)
    except (ValueError, RecursionError, MemoryError) as exc:
        raise SyntaxError(str(exc) or type(exc).__name__) from None


def read_code(code: str, instruction: str) -> list[CodeType]:
    """Compile the code, and the instruction before it if that is a stub.

    The code may be the stub's body, as in HumanEval, or use its imports. Raises the SyntaxError
    of the code if nothing compiles.
    """
    is_stub = re.search(r"(?m)^(async def|def|class) ", instruction)
    stubs = []
    if is_stub:
        with suppress(SyntaxError):
            stubs.append(compile_text(instruction))
    try:
        return [*stubs, compile_text(code)]
    except SyntaxError:
        for body in (code, textwrap.indent(textwrap.dedent(code), "    ")) if is_stub else ():
            with suppress(SyntaxError):
                return [compile_text(f"{instruction.rstrip()}\n{body}")]
        raise


def load(programs: list[CodeType]) -> ModuleType:
    """Run the code, as ``__main__`` and as the module ``solution``."""
    module = ModuleType("__main__")
    module.__file__ = sys.argv[0] = os.path.abspath(CODE_FILE)
    sys.path.insert(0, os.getcwd())
    sys.modules["solution"] = sys.modules["__main__"] = module
    for stub in programs[:-1]:
        with suppress(Exception):
            exec(stub, vars(module))
    exec(programs[-1], vars(module))
    return module


def run_tests(
    row: dict[str, Any], module: ModuleType, groups: Any, tests: forms.Tests, results: Results
) -> None:
    """Run the tests of a row; doctests of one docstring share a copy of the code's names."""
    for given, wanted in row.get("pairs") or ():
        results.run(partial(forms.run_call, module, row["function"], given, wanted))
    for group in groups:
        names = dict(vars(module))
        for example in group:
            results.run(partial(forms.run_example, example, names))
    forms.run_text(tests, module, results, row.get("entry_point"))


def can_fail(tests: forms.Tests) -> bool:
    """Run tests that must fail in the same way as the row's tests; True if all of them fail."""
    results = Results(mmap.mmap(-1, MEMORY_BYTES))
    with suppress(BaseException):
        for control in [CONTROLS[word] for word in CONTROLS if word in tests.text]:
            forms.run_text(control, ModuleType("control"), results, None)
        if not tests.text:
            results.run(partial(forms.run_example, doctest.Example("1", "2"), {}))
    return bool(results.letters) and "." not in results.letters


def equals_everything(code: str) -> bool:
    """Tell whether the code has made a class whose objects are equal to everything."""
    if "__eq__" not in code:
        return "mock.ANY" in code or "mock import ANY" in code
    for kind in [one for one in gc.get_objects() if issubclass(type(one), type)]:
        equal: Any = vars(kind).get("__eq__")
        made_by = getattr(getattr(equal, "__code__", None), "co_filename", None)
        for make in (str, kind) if made_by == CODE_FILE else ():
            with suppress(Exception):  # it uses the other object, so it is no such class
                if equal(make(), object()) is True:
                    return True
    return False
