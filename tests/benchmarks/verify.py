"""CPU per row of ``verify``: rows with plain asserts, and rows that import numpy.

    python tests/benchmarks/verify.py [ROWS]

Each is the CPU of the sandbox, its processes included, above that of a process that forks and ends
one that does nothing. Goals: 5 ms for a plain row; 1.5 times as much with numpy. Needs bubblewrap,
and numpy beside codesynth.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from codesynth.codec import loads
from codesynth.models import Record, Request
from codesynth.verify import SandboxServing, SandboxSettings, VerifyTask

TESTS = "\n".join(f"assert add({i}, 1) == {i + 1}" for i in range(10))
UNITTEST = """\
import unittest

class TestAdd(unittest.TestCase):
    def test(self):
        self.assertEqual(add(1, 2), 3)
"""
ROWS = {
    "plain asserts": ("def add(a, b):\n    return a + b\n", TESTS),
    "unittest": ("def add(a, b):\n    return a + b\n", UNITTEST),
    "numpy": ("import numpy as np\n\ndef add(a, b):\n    return int(np.add(a, b))\n", TESTS),
}
WARM = 20
"""Rows before the count: the server imports what rows import often."""


def cpu_seconds(pid: int, thread: str) -> float:
    """Count the CPU of the processes that a thread has started, and of those they waited for."""
    total = 0.0
    for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        total += cpu_seconds(int(child), child)
    return total


def verify(code: str, test: str, count: int) -> tuple[float, float]:
    """Run equal rows in one sandbox; return seconds of CPU and of wall time."""
    task = VerifyTask(test_key="test")
    record = Record(0, b"{}", {"generated_code": code, "test": test})
    body = task.make_question(record).body  # type: ignore[union-attr]  # the row is sound
    measured = threading.Event()

    def requests() -> Iterator[Request]:
        for position in range(WARM + count):
            yield Request(record, position, body)
        measured.wait()

    serving = SandboxServing(SandboxSettings(timeout=60), jobs=1)
    with serving.generate(requests()) as stream:
        for number, response in enumerate(stream, 1):
            assert loads(response.body)["status"] == "passed", response.body
            if number == WARM:
                cpu, wall = sandbox_seconds(), time.monotonic()
            if number == WARM + count:
                cpu, wall = sandbox_seconds() - cpu, time.monotonic() - wall
                measured.set()
    return 1000 * cpu / count, 1000 * wall / count


def sandbox_seconds() -> float:
    """Count the CPU of the sandboxes of this process, whichever thread started them."""
    threads = Path("/proc/self/task").iterdir()
    return sum(cpu_seconds(os.getpid(), thread.name) for thread in threads)


def fork_milliseconds(module: str | None) -> float:
    """Count the CPU of a fork by a process that has loaded a module, and of the child's end."""
    if module is not None:
        __import__(module)
    before = os.times()
    for _ in range(200):
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    return sum(b - a for a, b in zip(before[:4], os.times()[:4], strict=True)) * 1000 / 200


def main() -> None:
    """Print one line for each kind of row."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    for name, (code, test) in ROWS.items():
        cpu, wall = verify(code, test, count)
        fork = fork_milliseconds("numpy" if name == "numpy" else None)
        print(
            f"{name:14} {cpu - fork:6.2f} ms CPU a row above {fork:.2f} for a bare fork, "
            f"{wall:6.2f} ms wall time",
            flush=True,
        )


if __name__ == "__main__":
    main()
