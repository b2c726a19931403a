"""Run one row: its code, then its tests, in a process of their own."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import json
import mmap
import os
import re
import sys
import warnings
from contextlib import suppress
from types import ModuleType
from typing import Any

from . import source
from .forms import run_cases, run_examples, run_function, run_pairs, run_pytest
from .results import CODE_FILE, TEST_FILE, Results, verdict

MUST_FAIL = {
    "builtins": "assert 1 == 2\ndef test_must_fail():\n    assert [1] == [2]\n",
    "unittest": "import unittest\nclass MustFail(unittest.TestCase):\n"
    "    def test(self):\n        self.assertEqual(1, 2)\n",
}
"""Tests that must fail: where they pass, the code has put testing itself out of order."""


def run(line: bytes, memory: mmap.mmap) -> None:
    """Run a row and write its record.

    Args:
        line: a JSON object with ``code``, ``instruction``, ``language``, ``test`` (a text),
            ``pairs`` (of input and expected output), ``function`` (that the pairs call) and
            ``entry_point``.
        memory: gets the record.
    """
    process, loaded = os.getpid(), set(sys.modules)
    warnings.simplefilter("ignore")
    trial = Trial(json.loads(line), memory)
    record = trial.verdict()
    record["imports"] = sorted(trial.imports & set(sys.modules) - loaded)[:50]
    if os.getpid() == process:  # not a copy that the code has forked
        memory.write(b"\n" + json.dumps(record).encode("ascii"))


class Trial:
    """The code and the tests of one row."""

    def __init__(self, row: dict[str, Any], memory: mmap.mmap) -> None:
        self._row = row
        self._results = Results(memory, row["test"] or "")
        self._module = ModuleType("__main__")
        self.imports: set[str] = set()

    def verdict(self) -> dict[str, Any]:
        """Run the tests and say what came of it."""
        row, results = self._row, self._results
        try:
            given, code = source.program(row["code"], row["instruction"] or "")
        except SyntaxError as exc:
            if source.is_other_language(row["code"], row["language"]):
                return verdict("unsupported", "", "the code is not Python")
            return verdict("syntax_error", "", f"line {exc.lineno}: {exc.msg}")
        try:
            tests = source.Tests(row["test"] or "")
        except SyntaxError as exc:
            return verdict("error", "", f"the tests, line {exc.lineno}: {exc.msg}")
        self.imports.update(source.imports(code), tests.imports)
        if not row["pairs"]:
            code.body = source.without_guards(code.body)
        groups = [] if row["test"] or row["pairs"] else self._examples()
        guard = Guard([*self.imports], tests.text)
        try:
            self._run(given, compile(code, os.path.abspath(CODE_FILE), "exec"), tests, groups)
        except BaseException as exc:
            results.finish(exc)
            if not results.letters:
                return verdict("error", "", results.describe(exc))
        if not results.letters:
            return verdict("no_tests")
        problem = next((letter for letter in results.letters if letter != "."), None)
        if problem is not None:
            status = "failed" if problem == "F" else "error"
            return verdict(status, results.letters, results.message)
        if not row["pairs"] and (guard.is_broken() or not must_fail_fails()):
            return verdict("error", results.letters, "the code interferes with its tests")
        return verdict("passed", results.letters)

    def _run(
        self, given: list[ast.stmt], code: Any, tests: source.Tests, groups: list[list[Any]]
    ) -> None:
        row, results, space = self._row, self._results, vars(self._module)
        if row["pairs"]:
            run_pairs(code, row["pairs"], row["function"], results)
            return
        functions = [] if tests.needs_pytest else tests.functions
        results.expect(tests.units + len(functions) + sum(map(len, groups)))
        space["__file__"] = sys.argv[0] = code.co_filename
        sys.path.insert(0, os.getcwd())
        sys.modules["solution"] = sys.modules["__main__"] = self._module
        for one in given:
            with suppress(Exception):
                exec(compile(ast.Module([one], []), "", "exec"), space)
        exec(code, space)
        for group in groups:
            run_examples(group, dict(space), results)
        for name, taken in tests.imports.items():
            if name not in sys.modules and taken and taken <= {*space, "*"}:
                sys.modules[name] = self._module  # it is not installed: the code is meant
        run_tests(tests, self._module, results, row["entry_point"])

    def _examples(self) -> list[list[Any]]:
        """Collect the doctests of the instruction, and those that the code adds."""
        groups = source.examples(self._row["instruction"] or "")
        known = {(one.source, one.want) for group in groups for one in group}
        for group in source.examples(self._row["code"]):
            if not {(one.source, one.want) for one in group} <= known:
                groups.append(group)
        return groups if any(one.want for group in groups for one in group) else []


def run_tests(tests: source.Tests, module: ModuleType, results: Results, entry: str | None) -> None:
    """Run tests in a module with the code's names: the text, functions, classes."""
    space, path = vars(module), os.path.abspath(TEST_FILE)
    if tests.argument:
        functions = [one for one in space.values() if inspect.isfunction(one)]
        space[tests.argument] = eval(entry, space) if entry else functions[-1]
    space[source.REACH] = results.reach
    for is_unit, tree in tests.steps:
        code = compile(tree, path, "exec")
        if is_unit:
            is_loop = isinstance(tree.body[0], ast.For) and "Try(" not in ast.dump(tree)
            results.run(lambda code=code, is_loop=is_loop: run_unit(code, space, results, is_loop))
        else:
            exec(code, space)
    if tests.needs_pytest:
        run_pytest(tests, module, results)
        return
    for name in tests.functions:
        results.run(lambda name=name: run_function(space[name]))
    run_cases([one for one in map(space.get, tests.classes) if hasattr(one, "debug")], results)


def run_unit(code: Any, space: dict[str, Any], results: Results, is_loop: bool) -> None:
    """Run a statement with asserts."""
    results.reached = 0
    exec(code, space)
    if is_loop and not results.reached:
        raise AssertionError("no assert was reached")


def must_fail_fails() -> bool:
    """Run tests that must fail as the row's own were run."""
    for needed, text in MUST_FAIL.items():
        if needed in sys.modules:
            results = Results(mmap.mmap(-1, 4096), text)
            run_tests(source.Tests(text), ModuleType("must_fail"), results, None)
            if set(results.letters) != {"F"}:
                return False
    return True


class Guard:
    """Imports what tests rely on before the code runs, and remembers how it was."""

    def __init__(self, imports: list[str], tests: str) -> None:
        for name in imports:
            with suppress(BaseException):  # who needs it will say so
                importlib.import_module(name)
        if "unittest" in sys.modules:
            sys.modules["unittest"].main = lambda *_, **__: None  # type: ignore[attr-defined]
        self._tests, self._classes = tests, list[type]()
        self._build_class = builtins.__build_class__
        builtins.__build_class__ = self._note_class
        names = ["builtins", "unittest.case", "doctest", *imports]
        names += [f"{one}.testing" for one in imports]
        self._modules = {one: sys.modules[one] for one in names if one in sys.modules}
        spaces: list[Any] = [vars(one) for one in self._modules.values()]
        for name in self._modules.keys() & {"unittest.case", "doctest"}:
            spaces += map(vars, filter(inspect.isclass, vars(self._modules[name]).values()))
        self._kept = [(space, dict(space)) for space in spaces]

    def _note_class(self, *arguments: Any, **named: Any) -> Any:
        self._classes.append(self._build_class(*arguments, **named))
        return self._classes[-1]

    def is_broken(self) -> bool:
        """Tell whether something other than the tests replaced what they rely on."""
        return (
            any(sys.modules.get(name) is not one for name, one in self._modules.items())
            or any(map(_equals_everything, self._classes))
            or any(
                live.get(name) is not value and not re.search(rf"\.{name} *=", self._tests)
                for live, kept in self._kept
                for name, value in kept.items()
                if callable(value)
            )
        )


def _equals_everything(kind: type) -> bool:
    equal: Any = vars(kind).get("__eq__")
    code = getattr(equal, "__code__", None)
    if code is not None and code.co_filename.endswith(CODE_FILE):
        for one in (None, kind):
            with suppress(Exception):  # it looks at the other: it is no such class
                if equal(one, object()) is True:
                    return True
    return False
