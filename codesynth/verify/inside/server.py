"""The server inside a sandbox: forks a process for each row, and leaves nothing of it.

It reads trials from descriptor 0, a JSON text a line, and writes a verdict for each to descriptor
1. It never runs code of a row itself. In a sandbox it is the first process of its namespace: the
kernel shields it from signals of the rows, and gives it their orphans.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import re
import resource
import select
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import confine, trial
from .results import TIMEOUT, read_record

TICK = 0.05
"""Seconds between two looks at the time and the memory that a row has used."""
ROWS_BEFORE_IMPORT = 3
"""A module that so many rows imported is imported once, before the fork."""
MOST_NAMES = 2000
IMPORT_SECONDS = 60.0
MEMORY_BYTES = 1 << 18


class Server:
    """Run rows one after the other.

    Args:
        timeout: seconds of wall time for one row.
        memory: bytes that the processes and files of one row may use.
        processes: that may run at one time.
        uid: the user that rows become; None to stay.
        scratch: the rows' folder: in a sandbox a mount point, otherwise a folder of its own.
        confined: whether there is a sandbox around.
    """

    def __init__(
        self,
        *,
        timeout: float,
        memory: int,
        processes: int,
        uid: int | None,
        scratch: str,
        confined: bool,
    ) -> None:
        self._timeout, self._memory, self._processes = timeout, memory, processes
        self._uid, self._scratch, self._confined = uid, scratch, confined
        self._trials = os.fdopen(os.dup(0), "rb")
        self._verdicts = os.fdopen(os.dup(1), "wb")
        self._null = os.open(os.devnull, os.O_RDWR)
        os.dup2(self._null, 0)
        os.dup2(self._null, 1)
        self._parent = select.poll()
        self._parent.register(self._trials, select.POLLHUP)
        self._imports: Counter[str] = Counter()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if confined:
            confine.call("prctl", confine.PR_SET_DUMPABLE, 0, 0, 0, 0)
            confine.mount_scratch(scratch, memory)
            confine.refuse_system_calls()
            with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")  # where the machine runs out of memory, rows go first
        else:
            confine.call("prctl", confine.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        gc.freeze()

    def serve(self) -> None:
        """Answer trials until there are no more."""
        for line in self._trials:
            verdict = self._judge(line)
            imported = verdict.pop("imports", ())
            self._verdicts.write(json.dumps(verdict).encode("ascii") + b"\n")
            self._verdicts.flush()
            for name in imported:
                self._count_import(name)

    def _judge(self, line: bytes) -> dict[str, Any]:
        started = time.monotonic()
        with mmap.mmap(-1, MEMORY_BYTES) as memory:
            pid = os.fork()
            if pid == 0:
                self._run_row(lambda: trial.run(line, memory))
            reason = self._wait(pid, started + self._timeout)
            seconds = round(time.monotonic() - started, 4)
            verdict = read_record(memory, reason, self._end(pid))
        return {**verdict, "seconds": seconds}

    def _run_row(self, row: Callable[[], object]) -> None:
        """Run a row in the process that was forked for it; never returns."""
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(self._null, 2)
            os.closerange(3, 64)
            os.chdir(self._scratch)
            self._limit()
            if self._confined:
                confine.drop_rights(self._uid)
            row()
            os._exit(0)
        finally:
            os._exit(1)

    def _wait(self, pid: int, deadline: float) -> str:
        """Wait until a process ends; else say why it must be ended."""
        while True:
            signal.sigtimedwait([signal.SIGCHLD], TICK)
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return ""
            if time.monotonic() >= deadline:
                return TIMEOUT
            if self._used_bytes() > self._memory:
                return f"the code used more than {self._memory >> 20} MB of memory"
            if self._parent.poll(0):
                self._end(pid)
                sys.exit()

    def _end(self, pid: int) -> int:
        """End all processes of a row and empty its folder; return its first process's status."""
        status = 0
        while True:
            with suppress(ProcessLookupError):
                if self._confined:
                    os.kill(-1, signal.SIGKILL)  # all but this one; no fork escapes it
                for child in () if self._confined else _descendants(os.getpid()):
                    os.kill(child, signal.SIGKILL)
            try:
                ended, found = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            status = found if ended == pid else status
        if self._confined:
            confine.call("umount2", self._scratch.encode(), confine.MNT_DETACH)
            confine.mount_scratch(self._scratch, self._memory)
        else:
            shutil.rmtree(self._scratch, ignore_errors=True)
            os.makedirs(self._scratch, exist_ok=True)
        return status

    def _used_bytes(self) -> int:
        """Count what the row's processes and files take; shared pages are divided among them."""
        used = 0
        if self._confined:
            files = os.statvfs(self._scratch)
            used = (files.f_blocks - files.f_bfree) * files.f_bsize
        pids = _descendants(os.getpid())
        return used + sum(map(_proportional_bytes, pids))

    def _limit(self) -> None:
        for what, value in (
            # it counts what is reserved too, so it is twice what may be used
            (resource.RLIMIT_DATA, 2 * self._memory),
            (resource.RLIMIT_NPROC, self._processes),
            (resource.RLIMIT_FSIZE, self._memory),
            (resource.RLIMIT_CPU, int(self._timeout) + 2),
            (resource.RLIMIT_NOFILE, 256),
            (resource.RLIMIT_MEMLOCK, 0),
        ):
            confine.limit(what, value)

    def _count_import(self, name: str) -> None:
        """Import a module that rows use often, if a trial shows that this does no harm."""
        if len(self._imports) >= MOST_NAMES and name not in self._imports:
            return
        self._imports[name] += 1
        if self._imports[name] != ROWS_BEFORE_IMPORT:
            return
        pid = os.fork()
        if pid == 0:
            self._run_row(lambda: _try_import(name))
        reason = self._wait(pid, time.monotonic() + IMPORT_SECONDS)
        if self._end(pid) == 0 and not reason:
            importlib.import_module(name)
            gc.collect()
            gc.freeze()


def _try_import(name: str) -> None:
    """Import a module; a thread that it starts would not survive a fork."""
    importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        os._exit(1)


def _descendants(pid: int) -> list[int]:
    """List the processes that a process started, and those that they started."""
    found = []
    with suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                for child in map(int, file.read().split()):
                    found += [child, *_descendants(child)]
    return found


def _proportional_bytes(pid: int) -> int:
    """Count the bytes of a process's memory; a page that n processes share counts for 1/n."""
    with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:
        return int(re.search(r"Pss:\s+(\d+)", file.read())[1]) << 10
    return 0


def main() -> None:
    """Serve with the settings that the first argument gives as JSON."""
    Server(**json.loads(sys.argv[1])).serve()
