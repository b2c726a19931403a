"""What the tests of a row came to, and how the server learns it."""

from __future__ import annotations

import json
import mmap
import os
import re
import signal
import traceback
from collections.abc import Callable
from typing import Any

MOST_TESTS, MAX_MESSAGE = 10_000, 300
TIMEOUT = "timeout"
CODE_FILE, TEST_FILE = "solution.py", "test_solution.py"


def verdict(status: str, results: str = "", message: str = "") -> dict[str, Any]:
    """Make a verdict: what the row's column gets, but for the seconds."""
    line = " ".join(message[: 4 * MAX_MESSAGE].split())[:MAX_MESSAGE]
    # what a terminal would obey, or not show as it is, is escaped
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    counts = {"tests_run": len(results), "tests_passed": results.count(".")}
    return {"status": status, **counts, "message": line, "results": results}


class Results:
    """One letter a test: ``.`` passed, ``F`` failed, ``E`` error; and the first problem in words.

    Args:
        memory: shared with the server, which reads the letters even if the process is killed. No
            descriptor leads to it, so code that writes to all that is open does not reach it.
        text: of the tests, for messages.
    """

    def __init__(self, memory: mmap.mmap, text: str) -> None:
        self._memory, self._lines = memory, text.splitlines()
        self._may_skip = "skip" in text.lower()
        self._expected = 0
        self.letters = self.message = ""

    def expect(self, tests: int) -> None:
        """Announce tests."""
        self._expected = min(self._expected + tests, MOST_TESTS)
        self._memory.write(b"[%d]" % self._expected)

    def run(self, test: Callable[[], object]) -> None:
        """Run a test that raises an error if it fails."""
        try:
            test()
        except BaseException as exc:
            self.note(exc)
        else:
            self.note(None)

    def note(self, error: BaseException | None) -> None:
        """Note that a test raised an error, or none. A test may skip itself, the code may not."""
        if type(error).__name__ in ("SkipTest", "Skipped") and self._may_skip:
            self._expected -= 1
        elif len(self.letters) < MOST_TESTS:
            letter = "F" if issubclass(type(error), AssertionError) else "E" if error else "."
            self.letters += letter
            self._memory.write(letter.encode())
            if error is not None:
                self.message = self.message or self.describe(error)

    def finish(self, error: BaseException) -> None:
        """Note the error for each test that was expected and not run."""
        while len(self.letters) < self._expected:
            self.note(error)

    def describe(self, error: BaseException) -> str:
        """Say what was raised, and by which line of the tests."""
        where = ""
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename.endswith(TEST_FILE) and number <= len(self._lines):
                where = f"{self._lines[number - 1].strip()}: "
        return where + "".join(traceback.format_exception_only(type(error), error)).strip()


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
    is_killed = os.WIFSIGNALED(status)
    end = signal.strsignal(os.WTERMSIG(status)) if is_killed else f"code {os.WEXITSTATUS(status)}"
    kind = "timeout" if reason == TIMEOUT else "error"
    missing = kind[0].upper() * (expected - len(letters))
    return verdict(kind, letters + missing, reason or f"the code ended its process: {end}")
