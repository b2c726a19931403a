"""Run tests in the forms that public data sets use. Each test is a ``with results`` block."""

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
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

from .results import TEST_FILE, Results

if TYPE_CHECKING:
    import doctest

RESULTS = "__codesynth_results__"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
MUST_FAIL = AssertionError("test_codesynth_must_fail")
NOT_REACHED = AssertionError("a test was not reached")


def parse(text: str) -> ast.Module:
    """Parse a program without its ``if __name__ == "__main__"``."""
    tree = ast.parse(text)
    guards = [one for one in tree.body if isinstance(one, ast.If) and has_name(one.test)]
    tree.body = [one for one in tree.body if one not in guards]
    return tree


def has_name(node: ast.AST) -> bool:
    """Tell whether an expression looks at ``__name__``."""
    return any(isinstance(one, ast.Name) and one.id == "__name__" for one in ast.walk(node))


class Tests:
    """A text of tests, taken apart and compiled. Raises SyntaxError where it is no Python.

    Attributes:
        code: the text, with each statement that has asserts as a test. ``check(candidate)`` is
            replaced by its statements, and what calls a test function is left out.
        imports: modules that names are imported from.
        argument: the name of the candidate; empty where there is no ``check``.
        functions, classes: names of test functions and of classes.
        count: of the tests, but for those in classes and those that pytest makes.
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
        check = functions.get("check")
        if check is not None and check.args.args:
            self.argument = check.args.args[0].arg
            body = [
                one
                for one in body
                if isinstance(one, DEFINITIONS) or not self._has(one, ["check("])
            ]
            body += check.body
        own = [f"{name}(" for name in (*self.functions, "main")]
        tree.body = []
        for one in body:
            if isinstance(one, DEFINITIONS):
                tree.body.append(one)
            elif not self._has(one, own):
                is_test = self._has(one, ["assert", *asserting])
                tree.body.append(self._test(one) if is_test else one)
        self.code = compile(tree, TEST_FILE, "exec")

    def _has(self, node: Any, words: list[str]) -> bool:
        source = "\n".join(self._lines[node.lineno - 1 : node.end_lineno])
        return any(word in source for word in words)

    def _test(self, node: ast.stmt) -> ast.With:
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
        marks = " ".join(map(ast.dump, node.decorator_list))
        return node.name.startswith(("setup_", "teardown_")) or "fixture" in marks


def run_tests(tests: Tests, module: ModuleType, results: Results, entry: str | None) -> None:
    """Run a text of tests in a module with the code's names: statements, functions, classes."""
    space = vars(module)
    if tests.argument:
        functions = [one for one in space.values() if inspect.isfunction(one)]
        space[tests.argument] = eval(entry, space) if entry else functions[-1]
    for name in tests.imports:
        if name not in sys.modules and importlib.util.find_spec(name.partition(".")[0]) is None:
            sys.modules[name] = module  # what is not installed means the code
    space[RESULTS] = results
    exec(tests.code, space)
    if tests.needs_pytest:
        run_pytest(tests, module, results)
        return
    for name in tests.functions:
        with results:
            if inspect.iscoroutine(made := space[name]()):
                importlib.import_module("asyncio").run(made)
    run_cases([space[name] for name in tests.classes if hasattr(space[name], "debug")], results)


def run_cases(cases: list[Any], results: Results) -> None:
    """Run the tests of classes of unittest."""
    if not cases:
        return
    import unittest

    class Result(unittest.TestResult):
        error: BaseException | None = None

        def addError(self, test: Any, err: Any) -> None:  # noqa: N802
            self.error = self.error or (err and err[1])

        addFailure = addError  # noqa: N815

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
            self.addError(test, err)

        def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
            self.error = self.error or unittest.SkipTest(reason)

        def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
            self.error = AssertionError("unexpected success")

        def stopTest(self, test: Any) -> None:  # noqa: N802
            results.note(self.error)
            self.error = None

    for case in cases:
        suite, result = unittest.defaultTestLoader.loadTestsFromTestCase(case), Result()
        results.expect(suite.countTestCases())
        suite.run(result)
        results.finish(result.error or NOT_REACHED)


def run_pytest(tests: Tests, module: ModuleType, results: Results) -> None:
    """Run the functions and classes of a text by pytest; ``module`` has run the text itself."""
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
    results.finish(NOT_REACHED)
    if plugin.last is not MUST_FAIL:
        results.note(RuntimeError("a test that must fail did not"))


def find_examples(text: str) -> list[list[doctest.Example]]:
    """Find the doctests in the docstrings of Python, or in prose, where a fence ends an output."""
    if ">>>" not in text:
        return []
    import doctest  # it takes 20 ms, which only rows that need it pay

    try:
        nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, (*DEFINITIONS, ast.Module))]
        texts = [ast.get_docstring(node, clean=False) or "" for node in nodes]
    except (SyntaxError, ValueError):
        texts = [re.sub(r"""(?m)^[ \t]*(?:```|~~~|\"{3}|'{3}).*$""", "", text)]
    found = []
    for one in texts:
        try:
            found.append(doctest.DocTestParser().get_examples(one))
        except ValueError:
            continue  # malformed: no doctests
    return [examples for examples in found if examples]


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


def run_program(code: CodeType, given: str, wanted: str) -> None:
    """Run a program on standard input, and compare its output as judges do."""
    module = sys.modules["__main__"] = ModuleType("__main__")
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
        atexit._run_exitfuncs()  # some programs write their output there
        for file in files:
            file.flush()
        output.seek(0)
        got = output.read()
    words, others = got.split(), wanted.split()
    if len(words) != len(others) or not all(map(is_same_word, words, others)):
        raise AssertionError(f"input {given!r:.80}: expected {wanted!r:.80}, got {got!r:.80}")


def is_same_word(got: str, wanted: str) -> bool:
    """Compare two words of output; numbers may differ a little."""
    try:
        return got == wanted or math.isclose(float(got), float(wanted), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False


def run_call(module: ModuleType, name: str, given: list[Any], wanted: Any) -> None:
    """Call a function, or a method of the class ``Solution``; compare its value as JSON."""
    owner = module if hasattr(module, name) else module.Solution()
    got = json.loads(json.dumps(getattr(owner, name)(*given)))
    # APPS puts the value in a list of one
    if got != wanted and not (isinstance(wanted, list) and wanted and got == wanted[0]):
        raise AssertionError(f"input {given!r:.80}: expected {wanted!r:.80}, got {got!r:.80}")
