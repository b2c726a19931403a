"""What the tests of a row came to, and how the server learns it."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

MOST_TESTS, MAX_MESSAGE = 10_000, 300
TIMEOUT = "timeout"
TEST_FILE = "test_solution.py"


def verdict(status: str, results: str = "", message: str = "") -> dict[str, Any]:
    """Make a verdict: what the row's column gets, but for the seconds."""
    passed = results.count(".")
    counts = {"tests_run": len(results), "tests_passed": passed}
    return {"status": status, **counts, "message": message, "results": results}


def one_line(text: str) -> str:
    """Cut a message to a line; escape what a terminal would obey or not show as it is."""
    line = " ".join(text[: 4 * MAX_MESSAGE].split())[:MAX_MESSAGE]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class Results:
    """One letter a test: ``.`` passed, ``F`` failed, ``E`` error; and the first problem in words.

    As a context manager it runs one test.

    Args:
        memory: shared with the server, which reads the letters even if the process is killed. No
            descriptor leads to it, so code that writes to all that is open does not reach it.
        text: of the tests, for messages.
    """

    def __init__(self, memory: mmap.mmap, text: str) -> None:
        self._memory, self._lines = memory, text.splitlines()
        self._may_skip = "skip" in text.lower()
        self._expected = 0
        self._reached: int | None = None
        self.letters = self.message = ""

    def expect(self, tests: int) -> None:
        """Announce tests."""
        self._expected += tests
        self._memory.write(b"[%d]" % min(self._expected, MOST_TESTS))

    def note(self, error: BaseException | None) -> None:
        """Note that a test raised an error, or none. A test may skip itself, the code may not."""
        if error is not None and type(error).__name__ in ("SkipTest", "Skipped") and self._may_skip:
            self._expected -= 1
            return
        is_wrong = error is not None and issubclass(type(error), AssertionError)
        letter = "." if error is None else "F" if is_wrong else "E"
        if error is not None and not self.message:
            self.message = self.describe(error)
        if len(self.letters) < MOST_TESTS:
            self.letters += letter
            self._memory.write(letter.encode())

    def run(self, test: Callable[[], object]) -> None:
        """Run a test that raises an error if it fails."""
        try:
            test()
        except BaseException as exc:
            self.note(exc)
        else:
            self.note(None)

    def finish(self, error: BaseException) -> None:
        """Note the error for each test that was expected and not run."""
        while len(self.letters) < min(self._expected, MOST_TESTS):
            self.note(error)

    def describe(self, error: BaseException) -> str:
        """Say in a line what was raised, and by which line of the tests."""
        where = ""
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename.endswith(TEST_FILE) and number <= len(self._lines):
                where = f"{self._lines[number - 1].strip()}: "
        try:
            words = f": {error}" if str(error) else ""
        except Exception:
            words = ""
        return one_line(f"{where}{type(error).__name__}{words}")

    def reach(self) -> None:
        """Note that an assertion is reached."""
        self._reached = True

    def __enter__(self) -> None:
        self._reached = False

    def __exit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> bool:
        if error is None and not self._reached:
            error = AssertionError("no assertion was reached")
        self.note(error)
        return True


def read_record(memory: mmap.mmap, reason: str, status: int) -> dict[str, Any]:
    """Read the record that a row's process left; without one, say what the process came to.

    Args:
        reason: why the process was ended; empty if it ended by itself.
        status: its end, as ``os.waitpid`` tells it.
    """
    marks, found, record = memory[:].rstrip(b"\0").partition(b"\n")
    if found and not reason:
        made: dict[str, Any] = json.loads(record)
        return made
    letters = re.sub(rb"\[\d*\]|[^.FE]", b"", marks).decode()
    expected = int((re.findall(rb"\[(\d+)\]", marks) or [b"0"])[-1])
    kind = "timeout" if reason == TIMEOUT else "error"
    if not reason and os.WIFSIGNALED(status):
        reason = f"the code ended its process: {signal.strsignal(os.WTERMSIG(status))}"
    elif not reason:
        reason = f"the code ended its process: exit code {os.WEXITSTATUS(status)}"
    return verdict(kind, letters + kind[0].upper() * (expected - len(letters)), reason)
