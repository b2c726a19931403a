"""Run tests in the forms of public data sets."""

from __future__ import annotations

import ast
import atexit
import doctest
import importlib.util
import inspect
import json
import math
import os
import re
import sys
import tempfile
import unittest
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, ModuleType
from typing import Any

from .results import TEST_FILE, Results

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NEEDS_PYTEST = re.compile(
    r"(?m)^(@pytest\.(?!mark\.asyncio)|@fixture|class Test|def (setup|teardown)_|def test\w*\([^)])"
)
"""Marks, fixtures, test functions with arguments, and test classes that are not of unittest."""
LEFT_OUT = re.compile(r"if\b.*__name__|(test\w*|(\w+\.)?main)\(")
"""Statements that run the tests; here they are run one by one."""
IMPORT = re.compile(r"(?m)^\s*from ([\w.]+) import")
MUST_FAIL = "test_codesynth_must_fail"


class Tests:
    """A text of tests. Raises SyntaxError if it is not Python.

    Attributes:
        steps: its statements: the name if it defines one, whether it is a test, and its code. A
            statement is a test if it has an assert or calls a function that has one.
        argument: what ``check(candidate)`` names the candidate; empty if there is no ``check``.
    """

    def __init__(self, text: str) -> None:
        self.text, self._lines = text, text.split("\n")
        is_unittest = re.search(r"\bTestCase[,)]", text)
        self.needs_pytest = not is_unittest and bool(NEEDS_PYTEST.search(text))
        body = ast.parse(text).body
        functions = {one.name: one for one in body if isinstance(one, DEFINITIONS[:2])}
        asserting = [name for name, one in functions.items() if "assert" in self._source(one)]
        words = ["assert", *(f"{name}(" for name in asserting)]
        check = functions.get("check")
        self.argument = check.args.args[0].arg if check and check.args.args else ""
        if check and self.argument:  # its statements are tests
            body = [one for one in body if not self._source(one).startswith("check(")]
            body += [one for one in check.body if not isinstance(one, ast.Return)]
        self.steps = []
        for node in body:
            source, name = self._source(node), getattr(node, "name", "")
            if not LEFT_OUT.match(source):
                is_test = not name and any(word in source for word in words)
                code = compile(ast.Module([node], []), TEST_FILE, "exec")
                self.steps.append((name, is_test, code))

    def _source(self, node: ast.stmt) -> str:
        return "\n".join(self._lines[node.lineno - 1 : node.end_lineno])


def run_text(tests: Tests, module: ModuleType, results: Results, entry: str | None) -> None:
    """Run a text of tests in a module with the code's names."""
    space = vars(module)
    if tests.argument:
        functions = [one for one in space.values() if inspect.isfunction(one)]
        space[tests.argument] = eval(entry, space) if entry else functions[-1]
    replace_missing_modules(tests.text, module)
    defined = []
    for name, is_test, code in tests.steps:
        if is_test:
            results.run(partial(exec, code, space))
            continue
        exec(code, space)
        if name:
            defined.append((name, space[name]))
    if tests.needs_pytest:
        run_pytest(tests, module, results)
        return
    for name, one in defined:
        if hasattr(one, "setUpClass"):
            run_case(one, results)
        elif name.startswith("test") and not isinstance(one, type):
            results.run(partial(call, one))


def replace_missing_modules(text: str, module: ModuleType) -> None:
    """Let the code stand for modules that a text imports from and that are not installed."""
    for name in IMPORT.findall(text):
        package = name.partition(".")[0]
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            sys.modules[name] = module


def call(function: Callable[[], object]) -> None:
    """Call a test function; it may be ``async``."""
    made = function()
    if inspect.iscoroutine(made):
        importlib.import_module("asyncio").run(made)


def run_case(case: Any, results: Results) -> None:
    """Run the tests of a class of unittest."""
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    case.setUpClass()
    for test in suite:
        results.run(partial(run_method, test))
    case.tearDownClass()


def run_method(test: Any) -> None:
    """Run a test of unittest, and raise what went wrong."""
    result: Any = unittest.TestResult()
    result._exc_info_to_string = lambda error, _test: error[1]
    test.run(result)
    problems = [error for _, error in result.failures + result.errors]
    problems += [unittest.SkipTest(reason) for _, reason in result.skipped]
    problems += [AssertionError("unexpected success") for _ in result.unexpectedSuccesses]
    if problems:
        raise problems[0]


def must_fail() -> None:
    """Be the test that pytest runs last."""
    raise AssertionError


def run_pytest(tests: Tests, module: ModuleType, results: Results) -> None:
    """Run the test functions and classes with pytest; ``module`` has run the text already."""
    try:
        import pytest
    except ImportError:
        raise LookupError("the tests need pytest: install it where --python points") from None

    class Plugin:
        error: BaseException | None = None
        can_fail = False

        @pytest.hookimpl(hookwrapper=True, tryfirst=True)
        def pytest_collection_modifyitems(self, items: list[Any]) -> Iterator[None]:
            names = {name for name, _, _ in tests.steps}  # not those of the code
            mine = [one for one in items if one.nodeid.split("::")[1].split("[")[0] in names]
            last = [one for one in items if one.name == MUST_FAIL]
            yield  # to other plugins: pytest-randomly, say, changes the order
            items[:] = mine + last  # results of other answers are compared by their places

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
            report = (yield).get_result()
            if report.failed or (report.skipped and not hasattr(report, "wasxfail")):
                raised = call.excinfo.value if call.excinfo else AssertionError(report.longrepr)
                self.error = self.error or raised
            if item.name == MUST_FAIL:
                self.can_fail = self.error is not None
            elif call.when == "teardown":
                results.note(self.error)
                self.error = None

    path = os.path.abspath(TEST_FILE)
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(tests.text)
    vars(module).update({MUST_FAIL: must_fail, "__file__": path})
    sys.modules[TEST_FILE.partition(".")[0]] = module
    plugin = Plugin()
    options = ["-q", "-s", "--noconftest", "--assert=plain", "-p", "no:cacheprovider", path]
    pytest.main(options, plugins=[plugin])
    if not plugin.can_fail:
        results.note(RuntimeError("a test that must fail did not"))


def find_examples(*texts: str) -> list[list[doctest.Example]]:
    """Find the doctests in docstrings of Python code, or in prose; each docstring is a group.

    A docstring counts once, because code often repeats that of its instruction.
    """
    groups = dict[str, list[doctest.Example]]()
    for docstring in [one for text in texts if ">>>" in text for one in docstrings(text)]:
        with suppress(ValueError):  # malformed: no doctests
            group = doctest.DocTestParser().get_examples(docstring)
            if any(one.want for one in group):
                groups[str([(one.source, one.want) for one in group])] = group
    return list(groups.values())


def docstrings(text: str) -> list[str]:
    """List the docstrings of Python code; other text is one docstring, without its fences."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return [re.sub(r"""(?m)^[ \t]*(?:```|~~~|\"{3}|'{3}).*$""", "", text)]
    nodes = [one for one in ast.walk(tree) if isinstance(one, (*DEFINITIONS, ast.Module))]
    return [ast.get_docstring(node, clean=False) or "" for node in nodes]


def run_example(example: doctest.Example, space: dict[str, Any]) -> None:
    """Run one example of a doctest."""
    test = doctest.DocTest([example], {}, "doctest", None, 0, None)
    test.globs = space
    try:
        doctest.DebugRunner().run(test, clear_globs=False)
    except doctest.DocTestFailure as failure:
        words = f">>> {example.source.strip()} expected {example.want.strip()}"
        raise AssertionError(f"{words}, got {failure.got.strip()}") from None
    except doctest.UnexpectedException as failure:
        raise failure.exc_info[1] from None


def run_program(code: CodeType, given: str, wanted: str) -> None:
    """Run a program on standard input; compare its output word by word, as contest judges do."""
    got = output_of(code, given)
    words, others = got.split(), wanted.split()
    if len(words) != len(others) or not all(map(is_same_word, words, others)):
        raise_different(given, wanted, got)


def output_of(code: CodeType, given: str) -> str:
    """Run a program on standard input, and return its output."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    os.dup2(2, 0)  # an earlier program may have closed descriptors 0 and 1
    os.dup2(2, 1)
    with tempfile.TemporaryFile("w+") as source, tempfile.TemporaryFile("w+") as output:
        source.write(given)
        source.seek(0)
        os.dup2(source.fileno(), 0)
        os.dup2(output.fileno(), 1)
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
        files: list[Any] = [sys.stdout, sys.__stdout__]
        try:
            exec(code, vars(module))
        except SystemExit as exc:
            if exc.code:
                raise RuntimeError(f"exit code {exc.code}") from None
        finally:
            atexit._run_exitfuncs()  # some programs write their output there
            for file in files:
                file.flush()
        output.seek(0)
        return output.read()


def is_same_word(got: str, wanted: str) -> bool:
    """Compare two words of output; numbers may differ a little."""
    try:
        return got == wanted or math.isclose(float(got), float(wanted), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False


def run_call(module: ModuleType, name: str, given: list[Any], wanted: Any) -> None:
    """Call a function, or a method of the class ``Solution``; compare its value as JSON."""
    is_method = hasattr(module, "Solution") and not hasattr(module, name)
    owner = module.Solution() if is_method else module
    got = json.loads(json.dumps(getattr(owner, name)(*given)))
    # APPS puts the value in a list of one
    if got != wanted and not (isinstance(wanted, list) and wanted and got == wanted[0]):
        raise_different(given, wanted, got)


def raise_different(given: Any, wanted: Any, got: Any) -> None:
    """Raise the error of a test with a wrong result."""
    raise AssertionError(f"input {given!r:.80}: expected {wanted!r:.80}, got {got!r:.80}")
