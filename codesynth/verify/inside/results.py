"""The results of a row's tests, and how they reach the server."""

from __future__ import annotations

import json
import mmap
import traceback
from collections.abc import Callable
from typing import Any

MOST_TESTS, MAX_MESSAGE, MEMORY_BYTES = 10_000, 300, 1 << 16
CODE_FILE, TEST_FILE = "solution.py", "test_solution.py"
TIMEOUT = "timeout"


def verdict(status: str, results: str = "", message: str = "") -> dict[str, Any]:
    """Make a verdict, the value of the row's new column; the server adds ``seconds``."""
    line = " ".join(message[: 4 * MAX_MESSAGE].split())[:MAX_MESSAGE]
    # Characters that control a terminal, or that it cannot show, are escaped.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
    counts = {"tests_run": len(results), "tests_passed": results.count(".")}
    return {"status": status, **counts, "message": line, "results": results}


class Results:
    """One letter a test: ``.`` passed, ``F`` failed, ``E`` error; and the first problem in words.

    Args:
        memory: the letters are kept there too; the server can read them if the process is killed.
        text: the tests, of which messages quote lines.
    """

    def __init__(self, memory: mmap.mmap, text: str = "") -> None:
        self._memory, self._lines = memory, text.splitlines()
        self._may_skip, self._expected = "skip" in text.lower(), 0
        self.letters = self.message = ""

    def expect(self, tests: int) -> None:
        """Add to the number of tests that will be run."""
        self._expected = min(self._expected + tests, MOST_TESTS)
        self._publish()

    def run(self, test: Callable[[], object]) -> None:
        """Run a test, which fails if it raises anything."""
        error = None
        try:
            test()
        except BaseException as exc:
            error = exc
        self.note(error)

    def note(self, error: BaseException | None) -> None:
        """Note the error of a test, or None. Tests may skip themselves; code must not skip them."""
        if self._may_skip and type(error).__name__ in ("SkipTest", "Skipped"):
            self._expected -= 1
        elif len(self.letters) < MOST_TESTS:
            self.letters += "." if error is None else "FE"[not isinstance(error, AssertionError)]
            if error is not None:
                self.message = self.message or self.describe(error)
        self._publish()

    def finish(self, error: BaseException) -> None:
        """Note the error for each expected test that was not run."""
        while len(self.letters) < self._expected:
            self.note(error)

    def describe(self, error: BaseException) -> str:
        """Say what was raised, and by which line of the tests."""
        where = ""
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == TEST_FILE and number <= len(self._lines):
                where = f"{self._lines[number - 1].strip()}: "
        return where + "".join(traceback.format_exception_only(type(error), error)).strip()

    def _publish(self) -> None:
        marks = self.letters.ljust(self._expected, "?").encode() + b"\0"
        self._memory[: len(marks)] = marks


def write_record(memory: mmap.mmap, record: dict[str, Any]) -> None:
    """Write the verdict into the shared memory, after the last test."""
    memory.seek(MOST_TESTS + 1)
    memory.write(json.dumps(record).encode() + b"\n")


def read_record(memory: mmap.mmap, reason: str) -> dict[str, Any]:
    """Read the verdict of a row; without one, or if its process did not end well, make it."""
    record, is_whole, _ = memory[MOST_TESTS + 1 :].partition(b"\n")
    if is_whole and not reason:
        made: dict[str, Any] = json.loads(record)
        return made
    kind = "timeout" if reason == TIMEOUT else "error"
    marks = memory[: MOST_TESTS + 1].partition(b"\0")[0].decode()
    letters = marks.replace("?", kind[0].upper())
    return verdict(kind, letters, reason or "the code ended its process: code 0")
