"""Rows a second that ``verify`` does, beside ways that start a Python for each row.

    python tests/benchmarks/verify.py [ROWS]

CPU is what the sandbox used, its processes included; on a busy machine it is the figure to read.
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from codesynth.quality.verification import Verifier

STUB = 'def add(a, b):\n    """Add.\n\n    >>> add(2, 3)\n    5\n    """\n'
DOCTEST = {"generated_code": "def add(a, b):\n    return a + b\n", "instruction": STUB}
CHECK = {
    "generated_code": "def add(a, b):\n    return a + b\n",
    "test": "def check(f):\n    for i in range(20):\n        assert f(i, 1) == i + 1\n",
    "entry_point": "add",
}
IMPORT = {"generated_code": "def add(a, b):\n    return a + b\n"}
TICKS = os.sysconf("SC_CLK_TCK")


def sandbox_cpu() -> float:
    """Add up the CPU seconds of the runners of this process, and of what they waited for."""
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if b"sandboxed.runner" in (process / "cmdline").read_bytes():
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15]))
    return total / TICKS


def verify(row: dict[str, str], count: int, jobs: int) -> tuple[float, float]:
    """Return wall and CPU seconds a row."""
    with Verifier(test_key="test", jobs=jobs) as verifier:
        list(verifier.verify([row] * jobs * 4))
        before = sandbox_cpu()
        started = time.perf_counter()
        verdicts = list(verifier.verify(row for _ in range(count)))
        wall = time.perf_counter() - started
        cpu = sandbox_cpu() - before
    assert all(one.status in ("passed", "no_tests") for one in verdicts)
    return wall / count, cpu / count


def commands(row: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Name what others do: a Python for each row, bare or in a bubblewrap of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as text:
        text.write(f"{row['generated_code']}\n{row['test']}\ncheck(add)\n")
        text.flush()
        yield "python for each row, no walls", [sys.executable, text.name]
        if bubblewrap := shutil.which("bwrap"):
            walls = [bubblewrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc"]
            yield "bwrap and python for each row", [*walls, "--", sys.executable, text.name]


def start_each(command: list[str], count: int) -> tuple[float, float]:
    """Return wall and CPU seconds a row."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    for _ in range(count):
        subprocess.run(command, check=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall / count, cpu / count


def report(name: str, measure: Callable[[], tuple[float, float]]) -> None:
    """Print one line of the table."""
    wall, cpu = measure()
    print(f"{name:42} {1 / wall:8.0f} rows/s {1e3 * cpu:8.1f} ms CPU a row", flush=True)


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    cores = len(os.sched_getaffinity(0))
    for name, row in (("import only", IMPORT), ("doctest", DOCTEST), ("check, 20 asserts", CHECK)):
        for jobs in sorted({1, cores}):
            report(f"verify, {name}, {jobs} jobs", lambda r=row, j=jobs: verify(r, count, j))  # type: ignore[misc]
    for name, command in commands(CHECK):
        report(name, lambda c=command: start_each(c, count // 10))  # type: ignore[misc]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"peak memory of this process: {peak} MiB")


if __name__ == "__main__":
    main()
