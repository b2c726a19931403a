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
from functools import partial
from types import ModuleType
from typing import Any

from . import source
from .forms import run_cases, run_example, run_pair, run_pytest
from .results import CODE_FILE, TEST_FILE, Results, verdict

MUST_FAIL = {
    "builtins": source.Tests("assert 1 == 2\ndef test_must_fail():\n    assert [1] == [2]\n"),
    "unittest": source.Tests(
        "import unittest\nclass MustFail(unittest.TestCase):\n"
        "    def test(self):\n        self.assertEqual(1, 2)\n"
    ),
}
"""Tests that must fail: where they pass, the code has put testing itself out of order."""


def run(line: bytes, memory: mmap.mmap) -> None:
    """Run a row and write its record.

    Args:
        line: a JSON object with ``code``; it may have ``instruction``, ``language``, ``test`` (a
            text), ``pairs`` (of input and output), ``function`` (for these) and ``entry_point``.
        memory: gets the record.
    """
    process, loaded, row = os.getpid(), set(sys.modules), json.loads(line)
    warnings.simplefilter("ignore")
    used: set[str] = set()
    record = judge(row, Results(memory, row.get("test") or ""), used)
    record["imports"] = sorted(used & set(sys.modules) - loaded)[:50]
    if os.getpid() == process:  # not a copy that the code has forked
        memory.write(b"\n" + json.dumps(record).encode())


def judge(row: dict[str, Any], results: Results, used: set[str]) -> dict[str, Any]:
    """Run a row and say what came of it; add the modules that it imports to ``used``."""
    instruction, pairs = row.get("instruction") or "", row.get("pairs")
    try:
        stub, code = source.program(row["code"], instruction)
    except SyntaxError as exc:
        told = str(row.get("language") or "python").lower()
        if source.OTHER_LANGUAGE.match(row["code"]) or not told.startswith(("py", "en")):
            return verdict("unsupported", "", "the code is not Python")
        return verdict("syntax_error", "", f"line {exc.lineno}: {exc.msg}")
    try:
        tests = source.Tests(row.get("test") or "")
    except SyntaxError as exc:
        return verdict("error", "", f"the tests, line {exc.lineno}: {exc.msg}")
    used.update(source.imports(code), tests.imports, ["pytest"] * tests.needs_pytest)
    examples = [] if row.get("test") or pairs else all_examples(instruction, row["code"])
    guard = Guard([*used], tests.text)
    results.expect(len(pairs or ()) + sum(map(len, examples)) + tests.count)
    try:
        if pairs:
            program = compile(code, CODE_FILE, "exec")
            for given, wanted in pairs:
                results.run(partial(run_pair, program, given, wanted, row.get("function")))
        else:
            module = load(stub, source.without_guard(code))
            run_examples(examples, module, results)
            run_tests(tests, module, results, row.get("entry_point"))
    except BaseException as exc:
        results.finish(exc)
        if not results.letters:
            return verdict("error", "", results.describe(exc))
    problem = next((letter for letter in results.letters if letter != "."), None)
    if problem is not None:
        return verdict("failed" if problem == "F" else "error", results.letters, results.message)
    equals_any = "unittest.mock" in used - {*tests.imports} and "ANY" in row["code"]
    if results.letters and not pairs and (equals_any or guard.is_broken() or can_not_fail()):
        return verdict("error", results.letters, "the code interferes with its tests")
    return verdict("passed" if results.letters else "no_tests", results.letters)


def all_examples(instruction: str, code: str) -> list[list[Any]]:
    """Collect the doctests of the instruction, and those that the code adds."""
    groups = source.examples(instruction)
    known = {(one.source, one.want) for group in groups for one in group}
    for group in source.examples(code):
        if not {(one.source, one.want) for one in group} <= known:
            groups.append(group)
    return groups if any(one.want for group in groups for one in group) else []


def load(stub: list[ast.stmt], code: ast.Module) -> ModuleType:
    """Run the code, as ``__main__`` and as the module ``solution``."""
    module = ModuleType("__main__")
    module.__file__ = sys.argv[0] = os.path.abspath(CODE_FILE)
    sys.path.insert(0, os.getcwd())
    sys.modules["solution"] = sys.modules["__main__"] = module
    for one in stub:
        with suppress(Exception):
            exec(compile(ast.Module([one], []), "", "exec"), vars(module))
    exec(compile(code, module.__file__, "exec"), vars(module))
    return module


def run_examples(groups: list[list[Any]], module: ModuleType, results: Results) -> None:
    """Run doctests, those of one docstring in one copy of the code's names."""
    for group in groups:
        names = dict(vars(module))
        for example in group:
            results.run(partial(run_example, example, names))


def run_tests(tests: source.Tests, module: ModuleType, results: Results, entry: str | None) -> None:
    """Run tests in a module with the code's names: the text, functions, classes."""
    space, reached, path = vars(module), list[None](), os.path.abspath(TEST_FILE)
    resolve_imports(tests, module)
    if tests.argument:
        functions = [one for one in space.values() if inspect.isfunction(one)]
        space[tests.argument] = eval(entry, space) if entry else functions[-1]
    space[source.REACH] = partial(reached.append, None)

    def run_step(step: ast.stmt) -> None:
        is_loop = isinstance(step, ast.For) and "Try(" not in ast.dump(step)
        tree = ast.Module([step], [])
        reached.clear()
        exec(compile(tests.visit(tree) if is_loop else tree, path, "exec"), space)
        if is_loop and source.has_assert(step) and not reached:
            raise AssertionError("no assert was reached")

    for step, is_test in tests.steps:
        if is_test:
            results.run(partial(run_step, step))
        else:
            run_step(step)
    if tests.needs_pytest:
        run_pytest(tests, module, results)
        return
    for name in tests.functions:
        results.run(partial(run_function, space[name]))
    run_cases([space[name] for name in tests.classes if hasattr(space[name], "debug")], results)


def resolve_imports(tests: source.Tests, module: ModuleType) -> None:
    """Let a module that is not installed mean the code, if it has the names."""
    if "pytest" not in sys.modules and (tests.needs_pytest or "pytest" in tests.imports):
        raise LookupError("the tests need pytest: install it where --python points")
    for name, taken in tests.imports.items():
        if name not in sys.modules and taken and taken <= {*vars(module), "*"}:
            sys.modules[name] = module


def run_function(function: Any) -> None:
    """Call a test, and run what it returns if that is a coroutine."""
    made = function()
    if inspect.iscoroutine(made):
        importlib.import_module("asyncio").run(made)


def can_not_fail() -> bool:
    """Run tests that must fail as the row's own were run."""
    for needed, tests in MUST_FAIL.items():
        if needed in sys.modules:
            results = Results(mmap.mmap(-1, 4096), tests.text)
            run_tests(tests, ModuleType("must_fail"), results, None)
            if set(results.letters) != {"F"}:
                return True
    return False


class Guard:
    """Imports what a row imports before its code runs, and remembers how that was."""

    def __init__(self, imports: list[str], tests: str) -> None:
        for name in imports:
            with suppress(BaseException):  # who needs it will say so
                importlib.import_module(name)
        if "unittest" in sys.modules:
            sys.modules["unittest"].main = lambda *_, **__: None  # type: ignore[attr-defined]
        self._tests, self._classes = tests, list[type]()
        self._build_class = builtins.__build_class__
        builtins.__build_class__ = self._note_class
        names = ["builtins", "unittest.case", "doctest"]
        names += [name for one in imports for name in (one, f"{one}.testing")]
        self._modules = {one: sys.modules[one] for one in names if one in sys.modules}
        spaces: list[Any] = [vars(one) for one in self._modules.values()]
        for name in self._modules.keys() & {"unittest.case", "doctest"}:
            spaces += map(vars, filter(inspect.isclass, vars(self._modules[name]).values()))
        self._kept = [(space, dict(space)) for space in spaces]

    def _note_class(self, *arguments: Any, **named: Any) -> Any:
        self._classes.append(self._build_class(*arguments, **named))
        return self._classes[-1]

    def is_broken(self) -> bool:
        """Tell whether the code replaced what tests rely on, or has a class that equals all."""
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
    if code is None or not code.co_filename.endswith(CODE_FILE):
        return False
    for make in (lambda: None, kind):
        with suppress(Exception):  # it looks at the other: it is no such class
            if equal(make(), object()) is True:
                return True
    return False
