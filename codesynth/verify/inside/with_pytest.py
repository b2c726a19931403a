"""Run tests that are written for pytest."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from types import ModuleType
from typing import Any

import pytest

from . import source
from .results import TEST_FILE, Results

MUST_FAIL = "test_codesynth_must_fail"


def must_fail() -> None:
    """Fail."""
    raise AssertionError(MUST_FAIL)


class Plugin:
    """Notes what becomes of the tests of a text."""

    def __init__(self, names: list[str], results: Results) -> None:
        self._names, self._results = names, results
        self._error: BaseException | None = None
        self.must_fail_failed = False

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Take the text's tests, not the code's; the one that must fail comes last."""
        mine = [one for one in items if one.nodeid.split("::")[1].split("[")[0] in self._names]
        self._results.expect(len(mine))
        items[:] = mine + [one for one in items if one.name == MUST_FAIL]

    def pytest_pyfunc_call(self, pyfuncitem: Any) -> bool | None:
        """Run a coroutine where no other plugin does."""
        function = pyfuncitem.obj
        if not inspect.iscoroutinefunction(function):
            return None
        names = inspect.signature(function).parameters
        asyncio.run(function(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: Any, call: Any) -> Any:
        """Note a test's first error, and its result when it is torn down."""
        report = (yield).get_result()
        if call.when == "setup":
            self._error = None
        if call.excinfo is not None and not hasattr(report, "wasxfail"):
            self._error = self._error or call.excinfo.value
        elif report.failed:
            self._error = self._error or AssertionError(str(report.longrepr))
        if call.when == "teardown" and item.name == MUST_FAIL:
            self.must_fail_failed = isinstance(self._error, AssertionError)
        elif call.when == "teardown":
            self._results.note(self._error)


def run_pytest(tests: source.Tests, module: ModuleType, results: Results) -> None:
    """Run the functions and classes of a text; ``module`` has run the text itself."""
    path = os.path.abspath(TEST_FILE)
    with open(path, "w", encoding="utf-8", errors="replace") as file:
        file.write(tests.text)
    module.__file__ = path
    setattr(module, MUST_FAIL, must_fail)
    sys.modules[TEST_FILE.partition(".")[0]] = module
    plugin = Plugin([*tests.tests, *tests.classes], results)
    options = ["-q", "-s", "--noconftest", "--assert=plain", "-p", "no:cacheprovider"]
    pytest.main([*options, path], plugins=[plugin])
    results.finish(AssertionError("a test was not reached"))
    if not plugin.must_fail_failed:
        results.note(RuntimeError("the code interferes with its tests"))
