"""Run tests in the forms of public data sets. Each test runs in a ``with results`` block."""

from __future__ import annotations

import ast
import atexit
import importlib.util
import inspect
import json
import math
import os
import re
import sys
import tempfile
from contextlib import suppress
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from .results import TEST_FILE, Results

if TYPE_CHECKING:
    import doctest

RESULTS = "__codesynth_results__"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MUST_FAIL = AssertionError("test_codesynth_must_fail")


def parse(text: str) -> ast.Module:
    """Parse a program without its ``if __name__ == "__main__"``."""
    tree = ast.parse(text)
    guards = [
        one for one in tree.body if isinstance(one, ast.If) and "__name__" in ast.dump(one.test)
    ]
    tree.body = [one for one in tree.body if one not in guards]
    return tree


class Tests:
    """A text of tests, divided into tests and compiled. Raises SyntaxError if it is not Python.

    Attributes:
        code: the text; each statement with an assert is a test. ``check(candidate)`` is replaced
            by its statements, and calls of test functions are left out.
        imports: modules that names are imported from.
        argument: the name of the candidate; empty if there is no ``check``.
        functions, classes: names of test functions and of classes.
        count: number of tests, without those in classes and those that pytest finds.
    """

    def __init__(self, text: str) -> None:
        self.text, self._lines, self.argument = text, text.split("\n"), ""
        tree = parse(text)
        body, functions = tree.body, dict[str, Any]()
        for one in body:
            if isinstance(one, DEFINITIONS[:2]):  # a list of tests may hold two of one name
                one.name += f"_{len(functions)}" * (one.name in functions)
                functions[one.name] = one
        self.imports = [str(one.module) for one in body if isinstance(one, ast.ImportFrom)]
        self.functions = [name for name in functions if name.startswith("test")]
        self.classes = [one.name for one in body if isinstance(one, ast.ClassDef)]
        self.needs_pytest = any(map(self._needs_pytest, body))
        self.count = 0 if self.needs_pytest else len(self.functions)
        asserting = [f"{name}(" for name, one in functions.items() if self._has(one, ["assert"])]
        left_out = {*self.functions, "main"}
        if (check := functions.get("check")) and check.args.args:
            self.argument = check.args.args[0].arg
            left_out.add("check")
            body = body + [one for one in check.body if not isinstance(one, ast.Return)]
        self._words = ["assert", *asserting]
        tree.body = [self._step(one) for one in body if called(one) not in left_out]
        self.code = compile(tree, TEST_FILE, "exec")

    def _has(self, node: Any, words: list[str]) -> bool:
        source = "\n".join(self._lines[node.lineno - 1 : node.end_lineno])
        return any(word in source for word in words)

    def _step(self, node: ast.stmt) -> ast.stmt:
        """Make a statement a test if it has an assert or calls a function that has one."""
        if isinstance(node, DEFINITIONS) or not self._has(node, self._words):
            return node
        self.count += 1
        place: Any = {"lineno": node.lineno, "col_offset": 0}
        return ast.With([ast.withitem(ast.Name(RESULTS, ast.Load(), **place))], [node], **place)

    def _needs_pytest(self, node: ast.stmt) -> bool:
        """Tell whether only pytest can run it: marks, fixtures, arguments, classes of its own."""
        if isinstance(node, ast.ClassDef):
            return node.name.startswith("Test") and "TestCase" not in self.text
        if not isinstance(node, ast.FunctionDef):
            return False
        if node.name.startswith("test"):
            return bool(node.decorator_list) or len(node.args.args) > len(node.args.defaults)
        is_fixture = any("fixture" in ast.dump(one) for one in node.decorator_list)
        return is_fixture or node.name.startswith(("setup_", "teardown_"))


def called(node: ast.stmt) -> str:
    """Return the name of the function or method that a statement calls; else empty."""
    function = getattr(getattr(node, "value", None), "func", None)
    return str(getattr(function, "id", getattr(function, "attr", "")))


def run_tests(tests: Tests, module: ModuleType, results: Results, entry: str | None) -> None:
    """Run a text of tests in a module with the code's names: statements, functions, classes."""
    space = vars(module)
    if tests.argument:
        functions = [one for one in space.values() if inspect.isfunction(one)]
        space[tests.argument] = eval(entry, space) if entry else functions[-1]
    for name in tests.imports:
        package = name.partition(".")[0]
        if package not in sys.modules and importlib.util.find_spec(package) is None:
            sys.modules[name] = module  # a module that is not installed stands for the code
    space[RESULTS] = results
    exec(tests.code, space)
    if tests.needs_pytest:
        run_pytest(tests, module, results)
        return
    for name in tests.functions:
        with results:
            if inspect.iscoroutine(made := space[name]()):
                importlib.import_module("asyncio").run(made)
    for case in [space[name] for name in tests.classes]:
        if hasattr(case, "setUpClass"):
            run_case(case, results)


def run_case(case: Any, results: Results) -> None:
    """Run the tests of a class of unittest."""
    import unittest

    def keep_exception(error: Any, _test: Any) -> Any:
        return error[1]

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(case)
    results.expect(suite.countTestCases())
    case.setUpClass()
    for test in suite:
        result: Any = unittest.TestResult()
        result._exc_info_to_string = keep_exception
        test.run(result)
        problems = [error for _, error in result.failures + result.errors]
        problems += [unittest.SkipTest(reason) for _, reason in result.skipped]
        problems += [AssertionError("unexpected success") for _ in result.unexpectedSuccesses]
        results.note(problems[0] if problems else None)
    case.tearDownClass()


def run_pytest(tests: Tests, module: ModuleType, results: Results) -> None:
    """Run the test functions and classes with pytest; ``module`` has run the text already."""
    try:
        import pytest
    except ImportError:
        raise LookupError("the tests need pytest: install it where --python points") from None

    def fail() -> None:
        raise MUST_FAIL

    class Plugin:
        error: BaseException | None = None
        last: BaseException | None = None

        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            names = {*tests.functions, *tests.classes}  # not those of the code
            mine = [one for one in items if one.nodeid.split("::")[1].split("[")[0] in names]
            results.expect(len(mine))
            items[:] = mine + [one for one in items if one.name == str(MUST_FAIL)]

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
            report = (yield).get_result()
            if report.failed or (report.skipped and not hasattr(report, "wasxfail")):
                raised = call.excinfo.value if call.excinfo else AssertionError(report.longrepr)
                self.error = self.error or raised
            if call.when == "teardown":
                if item.name != str(MUST_FAIL):
                    results.note(self.error)
                self.last, self.error = self.error, None

    path = os.path.abspath(TEST_FILE)
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(tests.text)
    vars(module).update({str(MUST_FAIL): fail, "__file__": path})
    sys.modules[TEST_FILE.partition(".")[0]] = module
    plugin = Plugin()
    options = ["-q", "-s", "--noconftest", "--assert=plain", "-p", "no:cacheprovider", path]
    pytest.main(options, plugins=[plugin])
    results.finish(AssertionError("a test was not reached"))
    if plugin.last is not MUST_FAIL:
        results.note(RuntimeError("a test that must fail did not"))


def find_examples(*texts: str) -> list[list[doctest.Example]]:
    """Find the doctests in docstrings of Python code, or in prose.

    Each docstring is a group. A group without a new example is left out, because code often
    repeats the docstring of its instruction.
    """
    if not any(">>>" in text for text in texts):
        return []
    import doctest  # it takes 20 ms, which only rows that need it pay

    groups, known = [], set[tuple[str, str]]()
    for docstring in [docstring for text in texts for docstring in docstrings(text)]:
        with suppress(ValueError):  # malformed: no doctests
            group = doctest.DocTestParser().get_examples(docstring)
            pairs = {(one.source, one.want) for one in group}
            if not pairs <= known:
                groups.append(group)
                known |= pairs
    return groups if any(want for _, want in known) else []


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
    import doctest

    test = doctest.DocTest([example], {}, "doctest", None, 0, None)
    test.globs = space
    try:
        doctest.DebugRunner().run(test, clear_globs=False)
    except doctest.DocTestFailure as failure:
        words = f">>> {example.source.strip()} expected {example.want.strip()}"
        raise AssertionError(f"{words}, got {failure.got.strip()}") from None
    except doctest.UnexpectedException as failure:
        raise failure.exc_info[1] from None


def run_programs(code: CodeType, pairs: list[tuple[str, str]], results: Results) -> None:
    """Run a program on each input; compare its output word by word, as contest judges do."""
    for given, wanted in pairs:
        with results:
            got = run_program(code, given)
            words, others = got.split(), wanted.split()
            if len(words) != len(others) or not all(map(is_same_word, words, others)):
                raise_different(given, wanted, got)


def run_program(code: CodeType, given: str) -> str:
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
