"""Run tests in the forms that public data sets use."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import traceback
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .results import TEST_FILE, Results

if TYPE_CHECKING:
    import doctest
    import unittest

    from .source import Tests

NOT_REACHED = AssertionError("a test was not reached")


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


def run_cases(cases: list[type[unittest.TestCase]], results: Results) -> None:
    """Run the tests of classes of unittest."""
    if not cases:
        return
    import unittest

    class Result(unittest.TestResult):
        error: BaseException | None = None

        def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
            self.error = self.error or err[1]

        addFailure = addError  # noqa: N815

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
            self.error = self.error or (err and err[1])

        def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
            self.error = self.error or unittest.SkipTest(reason)

        def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
            self.error = AssertionError("unexpected success")

        def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
            super().stopTest(test)
            results.note(self.error)
            self.error = None

    for case in cases:
        suite, result = unittest.defaultTestLoader.loadTestsFromTestCase(case), Result()
        results.expect(suite.countTestCases())
        suite.run(result)
        results.finish(result.error or NOT_REACHED)


def run_pytest(tests: Tests, module: ModuleType, results: Results) -> None:
    """Run the functions and classes of a text by pytest; ``module`` has run the text itself."""
    import pytest

    must_fail = AssertionError("test_codesynth_must_fail")

    def fail() -> None:
        raise must_fail

    class Plugin:
        error: BaseException | None = None
        first: BaseException | None = None

        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            names = {*tests.functions, *tests.classes}  # not those of the code
            mine = [one for one in items if one.nodeid.split("::")[1].split("[")[0] in names]
            results.expect(len(mine))
            items[:] = mine + [one for one in items if one.name == str(must_fail)]

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
            report = (yield).get_result()
            if report.failed or (report.skipped and not hasattr(report, "wasxfail")):
                raised = call.excinfo.value if call.excinfo else AssertionError(report.longrepr)
                self.error = self.error or raised
            if call.when == "teardown":
                if item.name != str(must_fail):
                    results.note(self.error)
                self.first, self.error = self.error, None

    path = os.path.abspath(TEST_FILE)
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(tests.text)
    vars(module).update({str(must_fail): fail, "__file__": path})
    sys.modules[TEST_FILE.partition(".")[0]] = module
    plugin = Plugin()
    options = ["-q", "-s", "--noconftest", "--assert=plain", "-p", "no:cacheprovider", path]
    pytest.main(options, plugins=[plugin])
    results.finish(NOT_REACHED)
    if plugin.first is not must_fail:
        results.note(RuntimeError("the code interferes with its tests"))


def run_pair(code: Any, given: Any, wanted: Any, function: str | None) -> None:
    """Run compiled code, in a process of its own, on an input; compare its output.

    Args:
        given, wanted: texts; with ``function`` a list of arguments and a value.
        function: what to call, a function or a method of the class ``Solution``.
    """
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        pid = os.fork()
        if pid == 0:
            _be_program(code, given, function, output, errors)
        status = os.waitpid(pid, 0)[1]
        output.seek(0)
        errors.seek(0)
        got, told = output.read(), errors.read()
    if status:
        raise RuntimeError(told.strip().rpartition("\n")[2] or f"it ended with status {status}")
    if not (_same_value(got, wanted) if function else _same_text(got, wanted)):
        raise AssertionError(f"input {given!r:.80}: expected {wanted!r:.80}, got {got!r:.80}")


def _be_program(code: Any, given: Any, function: str | None, output: Any, errors: Any) -> None:
    """Be the process of one pair; never returns."""
    module = ModuleType("solution" if function else "__main__")
    sys.modules["solution"] = sys.modules["__main__"] = module
    space, status = vars(module), 0
    try:
        if function is None:
            with tempfile.TemporaryFile("w+") as file:
                file.write(given)
                file.seek(0)
                os.dup2(file.fileno(), 0)
            os.dup2(output.fileno(), 1)
        exec(code, space)
        if function is not None:
            owner = space["Solution"]() if "Solution" in space and function not in space else module
            output.write(json.dumps(getattr(owner, function)(*given)))
    except SystemExit as exc:
        status = 1 if function or exc.code else 0
    except BaseException:
        status = 1
        traceback.print_exc(file=errors)
    files: list[Any] = [sys.stdout, sys.__stdout__, output, errors]
    for one in files:
        one.flush()
    os._exit(status)


def _same_text(got: str, wanted: str) -> bool:
    """Compare outputs as judges do: white space is free, numbers are numbers."""
    words, others = got.split(), wanted.split()
    return len(words) == len(others) and all(map(_same_word, words, others))


def _same_word(got: str, wanted: str) -> bool:
    try:
        return got == wanted or math.isclose(float(got), float(wanted), rel_tol=1e-6, abs_tol=1e-6)
    except ValueError:
        return False


def _same_value(got: str, wanted: Any) -> bool:
    """Compare a value, written as JSON, with what is wanted; APPS puts that in a list of one."""
    value = json.loads(got)
    return bool(value == wanted or (isinstance(wanted, list) and wanted and value == wanted[0]))
