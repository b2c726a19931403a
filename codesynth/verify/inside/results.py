"""The results of a row's tests, in memory that the row's process shares with the server."""

from __future__ import annotations

import json
import mmap
import traceback
from collections.abc import Callable
from typing import Any

MOST_TESTS, MAX_MESSAGE, MEMORY_BYTES = 10_000, 300, 1 << 16
CODE_FILE, TEST_FILE = "solution.py", "test_solution.py"
TIMEOUT = "timeout"


class Results:
    """One letter a test: ``.`` passed, ``F`` failed, ``E`` error; and the first problem in words.

    Args:
        memory: gets status, letters and message after each test; see ``read_verdict``.
        text: the tests, of which messages quote lines.
    """

    def __init__(self, memory: mmap.mmap, text: str = "") -> None:
        self._memory, self._lines = memory, text.splitlines()
        self._may_skip = "skip" in text.lower()
        self.letters = self.message = ""

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
            return
        letter = "." if error is None else "F" if isinstance(error, AssertionError) else "E"
        self.letters = (self.letters + letter)[:MOST_TESTS]
        if error is not None:
            self.message = self.message or self.describe(error)
        self.publish()

    def describe(self, error: BaseException) -> str:
        """Say what was raised, and by which line of the tests."""
        where = ""
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == TEST_FILE and number <= len(self._lines):
                where = f"{self._lines[number - 1].strip()}: "
        return where + "".join(traceback.format_exception_only(type(error), error)).strip()

    def publish(self, status: str = "", message: str = "") -> None:
        """Write what is known; without a status, the row has not ended."""
        line = " ".join(message[: 4 * MAX_MESSAGE].split())[:MAX_MESSAGE]
        # Characters that control a terminal, or that it cannot show, are escaped.
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        text = json.dumps([status, self.letters, line]).encode() + b"\n"
        self._memory[: len(text)] = text


def read_verdict(memory: mmap.mmap, problem: str) -> dict[str, Any]:
    """Read the verdict of a row; ``problem`` says why its process did not end well.

    What the process was doing then counts as a test that did not pass.
    """
    status, letters, message = json.loads(memory.readline())
    if problem or not status:
        status = "timeout" if problem == TIMEOUT else "error"
        letters += status[0].upper()
        message = problem or "the code ended its process: code 0"
    counts = {"tests_run": len(letters), "tests_passed": letters.count(".")}
    return {"status": status, **counts, "message": message, "results": letters}
