"""The warm interpreter inside the sandbox: forks a judge and a guest for each row.

It takes rows on descriptor 0 (four bytes of length, then JSON) and writes two lines of JSON for
each to descriptor 1: the judge's verdict and its own remarks, which override. It runs no foreign
code and reads no row, the judge does, from the inherited descriptor; and it wipes each verdict
when it is passed on. For a guest is forked from here: no test may be left in this memory.
"""

import gc
import importlib
import json
import os
import resource
import select
import signal
import site
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from .confine import Limits, Walls
from .guest import serve
from .judge import Judge, judge
from .settings import Settings

COMMON_MODULES = (
    *("abc", "array", "base64", "bisect", "calendar", "cmath", "collections", "contextlib", "copy"),
    *("csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib"),
    *("heapq", "itertools", "json", "math", "numbers", "operator", "re", "string"),
    *("struct", "textwrap", "time", "typing"),
)
"""Loaded once, so that no row waits for them. Not random, not threading: they slow down a fork."""

STUB = 'def add(a, b):\n    """Add.\n\n    >>> add(1, 2)\n    3\n    """\n'
WARM_ROWS = (
    {"code": f"{STUB}    return a + b\n"},
    {"code": "def add(a, b):\n    return [a + b]\n", "instruction": STUB},
    {"code": "def add(a, b):\n    return a + b\n", "test": "assert add([1], [2]) == [1, 2]\n"},
)
NO_ROW = {"instruction": None, "test": None, "entry_point": None}
WARM_ROUNDS = 5

MAX_VERDICT = 4096
"""Bytes of a verdict: a pipe takes that many at once, so it comes whole or not at all."""
WATCH_EVERY = 0.05
SPARE = 8
"""How near to its most processes a row may come: one that gets there is a fork bomb."""
MOST_SOCKETS = 512
"""Of a row: what is in their buffers is memory that no other limit counts, 200 KiB in each."""
LAST_FD = 1 << 20
NICE = 5
"""So that what ends a row comes first, but little: on a busy machine a row must not starve."""


class Runner:
    """Run rows one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        limits = Limits(settings.memory_bytes, settings.processes)
        limits.apply()
        if settings.confined:
            _be_first_to_die()
        if settings.core is not None:
            os.sched_setaffinity(0, {settings.core})
        self._page = bytearray(MAX_VERDICT)
        self._cpu_seconds = (int(settings.timeout) + 2,) * 2
        self._walls = Walls(limits, settings.uid) if settings.confined else None
        self._null = os.open(os.devnull, os.O_RDWR)

    def run_row(self) -> bool:
        """Run the next row and write its verdict; False if there is none."""
        judge_hears, guest_speaks = os.pipe()
        guest_hears, judge_speaks = os.pipe()
        ruling, judge_rules = os.pipe()
        ends = (judge_hears, guest_speaks, guest_hears, judge_speaks, judge_rules)
        if self._walls:
            self._walls.open_scratch()
        guest = self._spawn(lambda: serve(guest_hears, guest_speaks), ends[1:3], wary=False)
        decider = self._spawn(
            lambda: _judge_next(judge_hears, judge_speaks, judge_rules),
            (0, *ends[::3], ends[4]),
            wary=True,
        )
        for end in ends:
            os.close(end)
        try:
            if os.read(ruling, 1) != b"s":
                return False
            started = time.monotonic()
            size, remarks = self._await(ruling, started + self._settings.timeout)
        finally:
            os.close(ruling)
            ended = self._end(guest)
            self._end(decider)
            if self._walls:
                self._walls.close_scratch()
        remarks["ended"] = None if ended is None else _how(ended)
        remarks["seconds"] = round(time.monotonic() - started, 4)
        lines = (self._page[:size] or b"{}\n", json.dumps(remarks).encode("ascii") + b"\n")
        os.writev(1, lines)
        self._page[:] = bytes(MAX_VERDICT)
        return True

    def _spawn(self, work: Callable[[], None], keep: tuple[int, ...], *, wary: bool) -> int:
        """Fork a process that does one piece of work with few descriptors and no power."""
        inherited = sorted({0, 1, 2, *keep})
        closed = [(a + 1, b) for a, b in zip(inherited, [*inherited[1:], LAST_FD], strict=True)]
        replaced = {0, 1} - {*keep}
        if self._walls:
            self._walls.begin_namespace()
        pid = os.fork()
        if pid == 0:
            self._be_child(work, replaced, closed, wary)
        if self._walls:
            self._walls.end_namespace()
        return pid

    def _be_child(
        self,
        work: Callable[[], None],
        replaced: set[int],
        closed: list[tuple[int, int]],
        wary: bool,
    ) -> NoReturn:
        status = 1
        try:
            os.setsid()  # a signal to process group 0 would reach the others, namespaces or not
            os.nice(NICE)
            for descriptor in replaced:
                os.dup2(self._null, descriptor)
            for low, high in closed:
                os.closerange(low, high)
            resource.setrlimit(resource.RLIMIT_CPU, self._cpu_seconds)
            if self._walls:
                self._walls.shut(wary=wary)
            os.dup2(1, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _await(self, ruling: int, deadline: float) -> tuple[int, dict[str, Any]]:
        """Wait for the judge's line, watching the clock and the memory.

        Returns:
            The length of the line, which is in the page, or 0; and what to say instead.
        """
        poll = select.poll()
        poll.register(ruling, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(min(left, WATCH_EVERY) * 1000):
                size = os.readv(ruling, [self._page])
                if size and self._page.find(b"\n") == size - 1:
                    return size, {}
                return 0, _verdict("error", "the test ended its own process")
            if self._settings.confined and (complaint := self._excess()):
                return 0, _verdict("error", complaint)
        return 0, _verdict("timeout", f"no end after {self._settings.timeout:g} s")

    def _excess(self) -> str | None:
        """Say what all processes of the row together have too much of, if anything."""
        count, memory = 0, 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and entry.name != "1" and int(entry.name) != os.getpid():
                count += 1
                memory += _memory_of(entry)
        if memory > self._settings.memory_bytes:
            return f"used more than {self._settings.memory_bytes >> 20} MiB of memory"
        if count > self._settings.processes - SPARE:
            return f"started more than {self._settings.processes - SPARE} processes"
        if _sockets() > MOST_SOCKETS:
            return f"opened more than {MOST_SOCKETS} sockets"
        return None

    def _end(self, pid: int) -> int | None:
        """Kill a process and all that it started; return how it had ended by itself, if it had."""
        gone, status = os.waitpid(pid, os.WNOHANG)
        if not self._settings.confined:
            _kill_group(pid)
        if gone:
            return os.waitstatus_to_exitcode(status)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return None


def _judge_next(reader: int, writer: int, verdict: int) -> None:
    """Take a row from descriptor 0 and judge it."""
    with open(0, "rb", buffering=0, closefd=False) as rows:
        size = int.from_bytes(_read(rows, 4), "big")
        row = _read(rows, size) if size else b""
    if not row:
        return
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)
    os.write(verdict, b"s")
    judge(json.loads(row), reader, writer, verdict)


def _read(stream: Any, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (part := stream.read(min(size - len(data), 1 << 20))):
        data += part
    return bytes(data)


def _be_first_to_die() -> None:
    """Ask the kernel to take this process first when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _memory_of(process: Path) -> int:
    """Read how much memory a process holds, its share of shared pages included."""
    try:
        lines = (process / "smaps_rollup").read_bytes().splitlines()
    except OSError:
        return 0  # gone meanwhile
    return sum(int(line.split()[1]) << 10 for line in lines if line[:4] == b"Pss:")


def _sockets() -> int:
    """Count the sockets of the sandbox, whose network namespace a row shares with this process."""
    first, _, _ = Path("/proc/net/sockstat").read_bytes().partition(b"\n")
    return int(first.rpartition(b" ")[2])


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _verdict(status: str, message: str) -> dict[str, Any]:
    return {"status": status, "message": message, "tests_run": 0, "tests_passed": 0}


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def _warm_up() -> None:
    """Have the judge and the guest work in this very process, each with a child as the other.

    What Python prepares at first use, it then need not prepare again in each row's processes.
    """
    for guest_here in (False, True):
        judge_hears, guest_speaks = os.pipe()
        guest_hears, judge_speaks = os.pipe()
        child = os.fork()
        if guest_here == (child != 0):
            os.close(judge_hears)
            os.close(judge_speaks)
            printing, arguments = sys.stdout, sys.argv
            serve(guest_hears, guest_speaks)
            sys.stdout, sys.argv = printing, arguments
        else:
            os.close(guest_hears)
            os.close(guest_speaks)
            for _ in range(WARM_ROUNDS):
                for row in WARM_ROWS:
                    Judge({**NO_ROW, **row}, judge_hears, judge_speaks).verdict()
        if child == 0:
            os._exit(0)
        for end in (judge_hears, judge_speaks) if not guest_here else (guest_hears, guest_speaks):
            os.close(end)
        os.waitpid(child, 0)
    sys.modules.pop("solution", None)


def main(settings: str) -> None:
    """Run rows until there are no more."""
    chosen = Settings(**json.loads(settings))
    for name in COMMON_MODULES:
        importlib.import_module(name)
    runner = Runner(chosen)
    site.setquit()
    _warm_up()
    gc.collect()
    gc.freeze()
    while runner.run_row():
        pass
