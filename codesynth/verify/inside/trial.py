"""Run one row: its code, then its tests, in a process of their own."""

from __future__ import annotations

import asyncio
import builtins
import importlib
import inspect
import json
import linecache
import mmap
import os
import sys
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

from . import source
from .pairs import run_pairs
from .results import TEST_FILE, Results, one_line, verdict

CODE_FILE = "solution.py"
MUST_FAIL = {
    "builtins": "assert 1 == 2\ndef test_must_fail():\n    assert [1] == [2]\n",
    "unittest": "import unittest\nclass MustFail(unittest.TestCase):\n"
    "    def test(self):\n        self.assertEqual(1, 2)\n",
}
"""Tests that must fail: where they pass, the code has put testing itself out of order."""
STATUS = {"F": "failed", "E": "error"}


def run(line: bytes, memory: mmap.mmap) -> None:
    """Run a row and write its record.

    Args:
        line: a JSON object with ``code``, ``instruction``, ``test`` (a text), ``pairs`` (a list of
            input and expected output), ``function`` (that the pairs call) and ``entry_point``.
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
        self._code, self._told = row["code"], row["instruction"] or ""
        self._test, self._entry = row["test"] or "", row["entry_point"]
        self._pairs, self._function = row["pairs"], row["function"]
        self._results = Results(memory, self._test)
        self._module = ModuleType("solution")
        self.imports: set[str] = set()

    def verdict(self) -> dict[str, Any]:
        """Run the tests and say what came of it."""
        results = self._results
        try:
            tree = source.program(self._code, self._told)
        except SyntaxError as exc:
            if source.OTHER_LANGUAGE.match(self._code):
                return verdict("unsupported", "", "the code is not Python")
            return verdict("syntax_error", "", one_line(f"line {exc.lineno}: {exc.msg}"))
        try:
            tests = source.Tests(self._test)
        except SyntaxError as exc:
            return verdict("error", "", one_line(f"the tests, line {exc.lineno}: {exc.msg}"))
        code = compile(tree, self._path(CODE_FILE), "exec", dont_inherit=True)
        self.imports.update(source.imports(tree), source.imports(tests.tree))
        groups = [] if tests.tree.body or self._pairs else self._examples()
        guard = self._prepare(tests)
        try:
            if self._pairs:
                run_pairs(code, self._pairs, self._function, results)
            else:
                results.expect(tests.units + len(tests.tests) + sum(map(len, groups)))
                self._load(code)
                for group in groups:
                    run_examples(group, dict(vars(self._module)), results)
                self._alias(tests)
                run_tests(tests, self._module, results, self._entry)
        except BaseException as exc:
            results.finish(exc)
            if not results.letters:
                return verdict("error", "", results.describe(exc))
        return self._conclude(guard)

    def _path(self, name: str) -> str:
        """Name a file as if it were in the row's folder."""
        text = self._code if name == CODE_FILE else self._test
        path = os.path.abspath(name)
        linecache.cache[path] = (len(text), None, text.splitlines(True), path)
        return path

    def _examples(self) -> list[list[Any]]:
        """Collect the doctests of the instruction, and those that the code adds."""
        groups = source.examples(self._told)
        known = {(one.source, one.want) for group in groups for one in group}
        for group in source.examples(self._code):
            if not {(one.source, one.want) for one in group} <= known:
                groups.append(group)
        return groups if any(one.want for group in groups for one in group) else []

    def _prepare(self, tests: source.Tests) -> Guard:
        """Import what the tests use before the code runs, and remember how it was."""
        modules = [*source.imports(tests.tree)]
        if any(one.startswith("unittest") for one in modules):
            modules.append("unittest.case")
        for name in modules:
            try:
                importlib.import_module(name)
            except BaseException:
                continue  # the tests will say so
        if "unittest" in sys.modules:
            sys.modules["unittest"].main = lambda *_, **__: None  # type: ignore[attr-defined]
        return Guard(["builtins", "doctest", *modules], tests)

    def _load(self, code: Any) -> None:
        """Run the code as the modules ``solution`` and ``__main__``."""
        self._module.__file__ = sys.argv[0] = os.path.abspath(CODE_FILE)
        sys.path.insert(0, os.getcwd())
        sys.modules["solution"] = sys.modules["__main__"] = self._module
        exec(code, vars(self._module))

    def _alias(self, tests: source.Tests) -> None:
        """Let a module that is not installed mean the code, if the names in it are the code's."""
        for name, taken in source.imports(tests.tree).items():
            if name not in sys.modules and taken and taken <= {*vars(self._module), "*"}:
                parts = name.split(".")
                for i in range(len(parts)):
                    sys.modules.setdefault(".".join(parts[: i + 1]), self._module)

    def _conclude(self, guard: Guard) -> dict[str, Any]:
        """Make the verdict; where all tests passed, see that a test can fail."""
        letters = self._results.letters
        problem = next((letter for letter in letters if letter != "."), None)
        if not letters:
            return verdict("no_tests")
        if problem is not None:
            return verdict(STATUS[problem], letters, self._results.message)
        if not self._pairs and (guard.is_broken() or not must_fail_fails()):
            return verdict("error", letters, "the code interferes with its tests")
        return verdict("passed", letters)


class Guard:
    """Remembers what tests rely on, before the code runs."""

    def __init__(self, modules: list[str], tests: source.Tests) -> None:
        names = [*modules, *(f"{one}.testing" for one in modules)]
        self._modules = {one: sys.modules[one] for one in names if one in sys.modules}
        spaces: list[Any] = [vars(one) for one in self._modules.values()]
        for name in self._modules.keys() & {"unittest", "unittest.case", "doctest", "pytest"}:
            spaces += [
                vars(one) for one in vars(self._modules[name]).values() if inspect.isclass(one)
            ]
        self._kept = [(space, dict(space)) for space in spaces]
        self._text = tests.text
        self._classes: list[type] = []
        build = builtins.__build_class__

        def note_class(*arguments: Any, **named: Any) -> Any:
            made = build(*arguments, **named)
            self._classes.append(made)
            return made

        builtins.__build_class__ = note_class

    def is_broken(self) -> bool:
        """Tell whether something other than the tests replaced what they rely on."""
        return (
            any(sys.modules.get(name) is not one for name, one in self._modules.items())
            or any(map(_equals_everything, self._classes))
            or any(
                live.get(name) is not value and callable(value) and f".{name}" not in self._text
                for live, kept in self._kept
                for name, value in kept.items()
            )
        )


def _equals_everything(kind: type) -> bool:
    equal = vars(kind).get("__eq__")
    code = getattr(equal, "__code__", None)
    if code is None or not code.co_filename.endswith(CODE_FILE):
        return False
    for one in (None, kind):
        try:
            if equal(one, object()) is True:
                return True
        except Exception:
            continue  # it looks at the other: it is no such class
    return False


def must_fail_fails() -> bool:
    """Run tests that must fail as the row's own were run."""
    for needed, text in MUST_FAIL.items():
        if needed in sys.modules:
            results = Results(mmap.mmap(-1, 4096), text)
            run_tests(source.Tests(text), ModuleType("must_fail"), results, None)
            if set(results.letters) != {"F"}:
                return False
    return True


def run_tests(tests: source.Tests, module: ModuleType, results: Results, entry: str | None) -> None:
    """Run tests in a module with the code's names: the text, ``check``, functions, classes."""
    space = vars(module)
    functions = [one for one in space.values() if inspect.isfunction(one)]
    space.update({source.UNIT: results, source.REACH: results.reach})
    path = os.path.abspath(TEST_FILE)
    exec(compile(tests.tree, path, "exec", dont_inherit=True), space)
    if tests.has_check:
        call(space["check"], eval(entry, space) if entry else functions[-1])
    if len(results.letters) < tests.units:
        raise AssertionError("a test was not reached")
    if tests.needs_pytest:
        from .with_pytest import run_pytest

        results.expect(-len(tests.tests))
        return run_pytest(tests, module, results)
    for name in tests.tests:
        results.run(lambda name=name: call(space[name]))
    for case in [space[name] for name in tests.classes]:
        if hasattr(case, "debug") and hasattr(case, "setUpClass"):
            run_case(case, space, results)
        elif case.__name__.startswith("Test"):
            names = [name for name in vars(case) if name.startswith("test")]
            results.expect(len(names))
            for name in names:
                results.run(lambda name=name, case=case: call(getattr(case(), name)))
    return None


def call(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a test, and run what it returns if that is a coroutine."""
    made = function(*arguments)
    if inspect.iscoroutine(made):
        asyncio.run(made)


def run_case(case: Any, space: dict[str, Any], results: Results) -> None:
    """Run the tests of a class of unittest."""
    import unittest

    names = unittest.defaultTestLoader.getTestCaseNames(case)
    results.expect(len(names))
    try:
        space.get("setUpModule", int)()
        case.setUpClass()
    except BaseException as exc:
        return results.finish(exc)
    for test in map(case, names):
        method = getattr(test, test._testMethodName)
        if getattr(case, "__unittest_skip__", getattr(method, "__unittest_skip__", False)):
            results.note(unittest.SkipTest())
        elif getattr(method, "__unittest_expecting_failure__", False):
            results.run(lambda test=test: expect_failure(test))
        else:
            results.run(lambda test=test: run_method(test))
    case.tearDownClass()
    case.doClassCleanups()
    return None


def run_method(test: Any) -> None:
    """Run one test method; clean up after one that failed too."""
    try:
        test.debug()
    except BaseException:
        test.doCleanups()
        raise


def expect_failure(test: Any) -> None:
    """Run one test method that is marked to fail."""
    try:
        test.debug()
    except AssertionError:
        return
    raise AssertionError("unexpected success")


def run_examples(group: list[Any], space: dict[str, Any], results: Results) -> None:
    """Run the doctests of one docstring."""
    import doctest

    def run_example(example: doctest.Example) -> None:
        test = doctest.DocTest([example], {}, "doctest", None, 0, None)
        test.globs = space
        try:
            doctest.DebugRunner().run(test, clear_globs=False)
        except doctest.DocTestFailure as failure:
            words = f">>> {example.source.strip()} expected {example.want.strip()}"
            raise AssertionError(f"{words}, got {failure.got.strip()}") from None
        except doctest.UnexpectedException as failure:
            raise failure.exc_info[1]

    for example in group:
        results.run(lambda example=example: run_example(example))
