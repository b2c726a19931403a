"""What the cases share: processes that are measured, the loopback server, turns, tables."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import IO, Any, Self, TypeVar

HERE = Path(__file__).parent
CODESYNTH = [sys.executable, "-m", "codesynth"]
NONE, PIPE = subprocess.DEVNULL, subprocess.PIPE
LONGEST = 1800.0
"""Seconds after which a process is killed."""
MB = 1 << 20 if sys.platform == "darwin" else 1 << 10
"""What ``ru_maxrss`` counts to a megabyte."""

Key = TypeVar("Key")
Value = TypeVar("Value")


def environment() -> dict[str, str]:
    """Make an environment without proxies, with a key, and with bytecode as it is by default."""
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**env, "OPENAI_API_KEY": "sk-0123456789", "NO_COLOR": "1"}


@dataclass(frozen=True, slots=True)
class Used:
    """What a process took, with its children: exit code, seconds, megabytes."""

    code: int
    wall: float
    cpu: float
    peak: float


class Process:
    """A command under measurement.

    Its ``peak`` is never below what this process has: keep this one small.
    """

    def __init__(
        self, command: Sequence[str], *, stdin: int | IO[bytes] = NONE, stdout: int = NONE
    ) -> None:
        self._words = tempfile.TemporaryFile()
        self._started = time.perf_counter()
        self.popen = subprocess.Popen(
            command, env=environment(), stdin=stdin, stdout=stdout, stderr=self._words
        )

    def wait(self, expect: Collection[int] = (0,)) -> Used:
        """Wait for the end.

        Raises:
            RuntimeError: the exit code is another than expected.
        """
        timer = Timer(LONGEST, self.popen.kill)
        timer.daemon = True
        timer.start()
        try:
            _, status, usage = os.wait4(self.popen.pid, 0)
        except BaseException:
            self.popen.kill()
            raise
        wall = time.perf_counter() - self._started
        timer.cancel()
        code = self.popen.returncode = os.waitstatus_to_exitcode(status)
        self._words.seek(0)
        words = self._words.read().decode()
        self._words.close()
        if code not in expect:
            raise RuntimeError(f"{self.popen.args!r} exited with {code}: {words[-2000:]}")
        return Used(code, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / MB)


class Server:
    """The loopback endpoint in a process of its own, for one run.

    Attributes:
        url: its base URL.
        stats: what it has counted; known when the context has ended, as ``used``.
    """

    def __init__(self, *options: str) -> None:
        self._command = [sys.executable, str(HERE / "server.py"), *options]

    def __enter__(self) -> Self:
        self._process = Process(self._command, stdout=PIPE)
        self._lines = self._process.popen.stdout
        assert self._lines is not None
        self.url = self._lines.readline().decode().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.popen.terminate()
        assert self._lines is not None
        with self._lines:
            rest = self._lines.read()
        self.used = self._process.wait()
        self.stats: dict[str, Any] = json.loads(rest)

    @property
    def busy(self) -> float:
        """The share of the time that it was computing."""
        return self.used.cpu / self.used.wall


def spend(command: Sequence[str], expect: Collection[int] = (0,)) -> Used:
    """Run a command to its end."""
    return Process(command).wait(expect)


def gen_code(rows: Path, url: str, *options: object) -> list[str]:
    """Make the command that is measured; it writes ``out.jsonl`` beside the rows, afresh.

    The journal of an earlier run is removed, so call this anew for each run that must ask.
    """
    rows.with_name("out.journal").unlink(missing_ok=True)
    out = ["-o", str(rows.with_name("out.jsonl")), "--overwrite"]
    return [*gen_code_pipe(url, *options), str(rows), *out]


def gen_code_pipe(url: str, *options: object) -> list[str]:
    """Make the same command for standard input and output."""
    return [*CODESYNTH, "gen-code", "--base-url", url, "--model", "m", *map(str, options)]


def write_rows(path: Path, count: int, size: int = 600) -> Path:
    """Write rows of about ``size`` bytes, no two the same."""
    with path.open("wb") as file:
        file.writelines(row(i, size) for i in range(count))
    return path


def row(number: int, size: int) -> bytes:
    """Make one line of input.

    >>> row(7, 40)
    b'{"id": 7, "instruction": "7 wwwwwwwwww"}\\n'
    """
    start = b'{"id": %d, "instruction": "%d ' % (number, number)
    return start + b"w" * (size - len(start) - 2) + b'"}\n'


def interleave(
    trials: Mapping[Key, Callable[[], Value]], runs: int, what: str
) -> dict[Key, list[Value]]:
    """Run all trials in turn, ``runs`` times, each time the other way round."""
    results: dict[Key, list[Value]] = {key: [] for key in trials}
    order = list(trials)
    for number in range(runs):
        tell(f"{what}: run {number + 1} of {runs}")
        for key in order:
            results[key].append(trials[key]())
        order.reverse()
    return results


def tell(text: str) -> None:
    """Say on stderr what is going on."""
    print(f"... {text}", file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    """Take the median."""
    return statistics.median(values)


def spread(values: Sequence[float]) -> str:
    """Word how far apart the runs were, around their median.

    >>> spread([90.0, 100.0, 110.0])
    '±10%'
    """
    return f"±{(max(values) - min(values)) / 2 / statistics.median(values):.0%}"


@dataclass(slots=True)
class Table:
    """A table as it is printed: a title, rows of cells, the first one the header, and notes."""

    title: str
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(*self.rows, strict=True)]
        lines = [self.title, "-" * len(self.title)]
        for first, *cells in self.rows:
            padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            lines.append("   ".join([first.ljust(widths[0]), *padded]).rstrip())
        return "\n".join([*lines, *self.notes, ""])


def verdict(value: float, goal: float, *, at_least: bool = False) -> str:
    """Word a goal and whether it is met.

    >>> verdict(1.04, 1.08), verdict(0.9, 0.95, at_least=True)
    ('<= 1.08 met', '>= 0.95 MISSED')
    """
    met = value >= goal if at_least else value <= goal
    return f"{'>=' if at_least else '<='} {goal:,.4g} {'met' if met else 'MISSED'}"
