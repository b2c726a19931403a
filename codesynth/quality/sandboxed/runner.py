"""The warm interpreter inside the sandbox: forks a judge and a guest for each row.

It takes rows on descriptor 0 (four bytes of length, then JSON) and writes one line of JSON for
each to descriptor 1. It runs no foreign code and reads no row: the judge does that, from the
inherited descriptor, so the guest, a sibling, never has a trace of the tests in its memory.
"""

import gc
import importlib
import json
import os
import resource
import select
import signal
import site
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .confine import (
    Limits,
    drop_powers,
    enter_own_room,
    new_pid_namespace,
    return_to_pid_namespace,
)
from .guest import serve
from .judge import judge

COMMON_MODULES = (
    *("abc", "array", "base64", "bisect", "calendar", "cmath", "collections", "contextlib", "copy"),
    *("csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib"),
    *("heapq", "itertools", "json", "math", "numbers", "operator", "re", "string"),
    *("struct", "textwrap", "time", "typing"),
)
"""Loaded once, so that no row waits for them. Not random, not threading: they slow down a fork."""

MAX_VERDICT = 1 << 16
WATCH_EVERY = 0.05
NICE = 5
"""So that what ends a row comes first, but little: on a busy machine a row must not starve."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the outside decides.

    Attributes:
        timeout: seconds for one row.
        memory_bytes: for each process of a row, and for all of them together.
        processes: most processes and threads of a row.
        core: the core to stay on; None for any.
        uid: the user that rows run as; None to stay who this is.
        confined: False runs rows with limits only.
    """

    timeout: float
    memory_bytes: int
    processes: int
    core: int | None = None
    uid: int | None = None
    confined: bool = True


class Runner:
    """Run rows one after the other."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = Limits(settings.memory_bytes, settings.processes)
        self._limits.apply()
        if settings.confined:
            _be_first_to_die()
        if settings.core is not None:
            os.sched_setaffinity(0, {settings.core})
        self._cpu_seconds = (int(settings.timeout) + 2,) * 2
        self._home = os.open("/proc/self/ns/pid", os.O_RDONLY) if settings.confined else -1

    def run_row(self) -> bool:
        """Run the next row and write its verdict; False if there is none."""
        judge_hears, guest_speaks = os.pipe()
        guest_hears, judge_speaks = os.pipe()
        ruling, judge_rules = os.pipe()
        ends = (judge_hears, guest_speaks, guest_hears, judge_speaks, judge_rules)
        guest = self._spawn(lambda: serve(guest_hears, guest_speaks), ends[1:3])
        decider = self._spawn(
            lambda: _judge_next(judge_hears, judge_speaks, judge_rules), (0, *ends[::3], ends[4])
        )
        for end in ends:
            os.close(end)
        try:
            if os.read(ruling, 1) != b"s":
                return False
            started = time.monotonic()
            verdict = self._await(ruling, started + self._settings.timeout)
        finally:
            os.close(ruling)
            ended = self._end(guest)
            self._end(decider)
        if ended is not None and verdict["status"] == "error":
            verdict["message"] += f" ({_how(ended)})"
        verdict["seconds"] = round(time.monotonic() - started, 4)
        os.write(1, json.dumps(verdict).encode("ascii") + b"\n")
        return True

    def _spawn(self, work: Callable[[], None], keep: tuple[int, ...]) -> int:
        """Fork a process that does one piece of work with few descriptors and no power."""
        if self._settings.confined:
            new_pid_namespace()
        pid = os.fork()
        if pid == 0:
            self._be_child(work, keep)
        if self._settings.confined:
            return_to_pid_namespace(self._home)
        return pid

    def _be_child(self, work: Callable[[], None], keep: tuple[int, ...]) -> NoReturn:
        status = 1
        try:
            os.setsid()  # a signal to process group 0 would reach the others, namespaces or not
            os.nice(NICE)
            _close_all_but({2, *keep})
            resource.setrlimit(resource.RLIMIT_CPU, self._cpu_seconds)
            if self._settings.confined:
                enter_own_room(self._limits.scratch_bytes)
                drop_powers(self._settings.uid)
            os.dup2(1, 2)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    def _await(self, ruling: int, deadline: float) -> dict[str, Any]:
        """Wait for the judge's line, watching the clock and the memory."""
        poll = select.poll()
        poll.register(ruling, select.POLLIN)
        line = b""
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0:
                return _verdict("timeout", f"no end after {self._settings.timeout:g} s")
            if poll.poll(min(left, WATCH_EVERY) * 1000):
                part = os.read(ruling, MAX_VERDICT)
                line += part
                if not part or len(line) > MAX_VERDICT:
                    return _verdict("error", "the test ended its own process")
            elif self._settings.confined and _memory_in_use() > self._settings.memory_bytes:
                limit = self._settings.memory_bytes >> 20
                return _verdict("error", f"used more than {limit} MiB of memory")
        verdict: dict[str, Any] = json.loads(line)
        return verdict

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


def _close_all_but(keep: set[int]) -> None:
    """Close every other descriptor; give 0 and 1 the null device where they are not kept."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in {0, 1} - keep:
        os.dup2(null, standard)
    last = 2
    for kept in sorted(keep - {0, 1, 2}):
        os.closerange(last + 1, kept)
        last = kept
    os.closerange(last + 1, os.sysconf("SC_OPEN_MAX"))


def _be_first_to_die() -> None:
    """Ask the kernel to take this process first when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _memory_in_use() -> int:
    """Add up the memory of every process of the row, shared pages counted once."""
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and entry.name != "1" and int(entry.name) != os.getpid():
            try:
                lines = (entry / "smaps_rollup").read_bytes().splitlines()
            except OSError:
                continue  # gone meanwhile
            total += sum(int(line.split()[1]) << 10 for line in lines if line[:4] == b"Pss:")
    return total


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _verdict(status: str, message: str) -> dict[str, Any]:
    return {"status": status, "message": message, "tests_run": 0, "tests_passed": 0}


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit status {code}"


def main(settings: str) -> None:
    """Run rows until there are no more."""
    chosen = Settings(**json.loads(settings))
    for name in COMMON_MODULES:
        importlib.import_module(name)
    runner = Runner(chosen)
    site.setquit()
    gc.collect()
    gc.freeze()
    while runner.run_row():
        pass
