"""Run tests and count: asserts, test functions, unittest classes, doctests."""

import ast
import doctest
import inspect
import itertools
import traceback
import types
import unittest
from collections.abc import Callable, Container, Iterable, Sequence
from functools import partial
from typing import Any

from . import plan
from .peer import BrokenPeerError
from .remote import run_awaitable

TEST_FILE = "<test>"
NOT_REACHED = ("failed", "no assertion was reached")


class Trials:
    """Count tests run and passed; the first problem decides the status.

    Attributes:
        problems: (status, message) of what went wrong, in order.
    """

    def __init__(self) -> None:
        self.run = self.passed = 0
        self.problems: list[tuple[str, str]] = []

    def begin(self) -> None:
        """Count an assert that is about to run; tests call it, see ``plan.Instrument``."""
        self.run += 1

    def end(self) -> None:
        """Count an assert that held."""
        self.passed += 1

    def run_test(
        self, text: str, names: dict[str, Any], foreign: Container[str], candidate: str | None
    ) -> None:
        """Run a test text: its top level, then ``check``, test functions and unittest classes.

        Args:
            text: Python; a SyntaxError is raised.
            names: what the test sees, the code's names too; receives what it defines.
            foreign: the names that are the code's.
            candidate: the name of what ``check`` is called with.
        """
        tree = plan.Instrument(foreign).visit(ast.parse(text, TEST_FILE))
        lines = text.splitlines()
        names[plan.COUNTER] = self
        code = compile(tree, TEST_FILE, "exec", dont_inherit=True)
        if not self._attempt(lambda: exec(code, names), lines):  # noqa: S102
            return
        called = plan.names_called(tree)
        for node in plan.functions(tree):
            if node.name not in called and inspect.isfunction(names[node.name]):
                self._run_function(node, names, foreign, candidate, lines)
        for kind in plan.classes(tree):
            value = names[kind.name]
            if isinstance(value, type) and issubclass(value, unittest.TestCase):
                self._run_unittest(value, lines)
            elif kind.name.startswith("Test"):
                self._run_methods(kind, value, lines)
        if not (self.run or self.problems) and plan.has_assert(tree):
            self.problems.append(NOT_REACHED)

    def run_examples(
        self, name: str, examples: list[doctest.Example], names: dict[str, Any]
    ) -> None:
        """Run the doctests of one docstring in a copy of ``names``."""
        test = doctest.DocTest(examples, names, name, None, 0, None)
        runner = _ExampleRunner(self.problems)
        results = runner.run(test, out=lambda _: None, clear_globs=False)
        self.run += results.attempted
        self.passed += results.attempted - results.failed

    def _attempt(self, part: Callable[[], Any], lines: list[str]) -> bool:
        """Run a part of a test; note what it raises."""
        try:
            result = part()
            if isinstance(result, types.CoroutineType):
                run_awaitable(result)
        except BrokenPeerError:
            raise
        except BaseException as exc:
            status = "failed" if isinstance(exc, AssertionError) else "error"
            self.problems.append((status, describe(exc, lines)))
            return False
        return True

    def _unit(self, node: plan.Function, part: Callable[[], Any], lines: list[str]) -> None:
        """Run one function of a test: it counts as its asserts, or as one if it has none."""
        before = self.run
        held = self._attempt(part, lines)
        if self.run > before:
            return
        if held and plan.has_assert(node):
            self.problems.append(NOT_REACHED)
            return
        self.run += 1
        self.passed += held

    def _run_function(
        self,
        node: plan.Function,
        names: dict[str, Any],
        foreign: Container[str],
        candidate: str | None,
        lines: list[str],
    ) -> None:
        """Run a function of the test's own if it is a test by its name."""
        function: Any = names[node.name]
        if node.name == "check" and candidate is not None:
            if plan.root(candidate) in foreign:
                self._unit(node, partial(_call_check, function, names, candidate), lines)
            else:
                self.problems.append(("error", f"the code does not define {candidate}"))
        elif node.name == "test" or node.name.startswith("test_"):
            self._run_cases(node, function, lines)

    def _run_methods(self, node: ast.ClassDef, kind: Any, lines: list[str]) -> None:
        """Run a class as pytest does: each test method on an instance of its own."""
        for method in plan.functions(node):
            if method.name.startswith("test"):
                one = kind()
                getattr(one, "setup_method", lambda: None)()
                self._run_cases(method, getattr(one, method.name), lines)

    def _run_cases(self, node: plan.Function, function: Any, lines: list[str]) -> None:
        """Run a test function, once for each set of arguments that pytest's marks give it."""
        marks = [m for m in getattr(function, "pytestmark", ()) if m.name == "parametrize"]
        for chosen in itertools.product(*(_cases(*mark.args[:2]) for mark in marks)):
            given = {name: value for case in chosen for name, value in case.items()}
            self._unit(node, partial(function, **given), lines)

    def _run_unittest(self, case: type[unittest.TestCase], lines: list[str]) -> None:
        """Run a TestCase: each method counts as one, a skipped one as none."""
        before = self.run, self.passed
        result = _Result(lines)
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        self.problems += result.problems
        unexpected = [("failed", f"{test} succeeded") for test in result.unexpectedSuccesses]
        self.problems += unexpected
        bad = {test.id() for test, _ in (*result.failures, *result.errors)}
        run = max(0, result.testsRun - len(result.skipped))
        self.run = before[0] + run
        self.passed = before[1] + max(0, run - len(bad) - len(unexpected))


class _Result(unittest.TestResult):
    """Note what went wrong, without the comparison of two long values that may follow."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self.problems: list[tuple[str, str]] = []

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802  unittest's name
        """Note an exception."""
        super().addError(test, err)
        self.problems.append(("error", describe(err[1], self._lines)))

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802  unittest's name
        """Note an assertion that does not hold."""
        super().addFailure(test, err)
        self.problems.append(("failed", describe(err[1], self._lines)))

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802  unittest's name
        """Note either of a part of a test."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            status = "failed" if issubclass(err[0], test.failureException) else "error"
            self.problems.append((status, describe(err[1], self._lines)))


def _cases(names: str | Sequence[str], values: Iterable[Any]) -> list[dict[str, Any]]:
    """Name the values of ``pytest.mark.parametrize``, case by case."""
    split = names.replace(",", " ").split() if isinstance(names, str) else names
    single = isinstance(names, str) and len(split) == 1
    cases: list[dict[str, Any]] = []
    for value in values:
        if type(value).__name__ == "ParameterSet":  # made by pytest.param
            parts = value.values
        else:
            parts = (value,) if single else value
        cases.append(dict(zip(split, parts, strict=True)))
    return cases


def _call_check(check: Callable[[Any], Any], names: dict[str, Any], candidate: str) -> Any:
    """Call with what the code defines, or what an expression such as ``Solution().add`` gives."""
    return check(eval(candidate, names))  # noqa: S307  a column of the tests', like the tests


class _ExampleRunner(doctest.DocTestRunner):
    """Note what went wrong instead of printing it."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__(verbose=False)
        self._problems = problems

    def report_failure(self, _out: Any, _test: Any, example: doctest.Example, got: str) -> None:
        """Note an output that differs."""
        shown = f">>> {source_of(example)} expected {example.want.strip()}, got {got.strip()}"
        self._problems.append(("failed", shown))

    def report_unexpected_exception(
        self, _out: Any, _test: Any, example: doctest.Example, exc_info: Any
    ) -> None:
        """Note an exception."""
        shown = f">>> {source_of(example)} raised {describe(exc_info[1])}"
        self._problems.append(("error", shown))


class RemoteExample(doctest.Example):
    """An example whose source is run by the guest: ``run(source)`` in the judge."""

    shown: str


def relay(example: doctest.Example, runner: str) -> doctest.Example:
    """Make an example that has the function named ``runner`` run another's source."""
    new = RemoteExample(
        f"{runner}({example.source!r})\n",
        example.want,
        example.exc_msg,
        example.lineno,
        example.indent,
        example.options,
    )
    new.shown = example.source.strip()
    return new


def source_of(example: doctest.Example) -> str:
    """Show an example as its author wrote it."""
    return example.shown if isinstance(example, RemoteExample) else example.source.strip()


def describe(exc: BaseException, lines: Iterable[str] = ()) -> str:
    """Say in a line where in the test it happened and what."""
    where = ""
    source = list(lines)
    for frame, number in traceback.walk_tb(exc.__traceback__):
        if frame.f_code.co_filename == TEST_FILE and number <= len(source):
            where = f"{source[number - 1].strip()}: "
    return where + traceback.format_exception_only(exc)[-1].strip()
