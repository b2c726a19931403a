"""The server inside a sandbox: forks a process for each row, and removes all traces of it.

It runs no code of a row itself. In a sandbox it is process 1: the kernel protects it from signals
of the rows, and makes it the parent of processes whose parents have ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import mmap
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from shutil import rmtree

from . import kernel, trial
from .results import MEMORY_BYTES, TIMEOUT, read_record

TICK = 0.05
"""Seconds between two looks at the time and the memory that a row has used."""
IMPORT = re.compile(rb"(?:\"|\\n)\s*(?:import|from) ([\w.]+)|(>>>)")
ROWS_BEFORE_IMPORT, MOST_NAMES, IMPORT_SECONDS = 3, 2000, 60.0
"""The server itself imports a module that ROWS_BEFORE_IMPORT rows import, if it takes at most
IMPORT_SECONDS. It counts MOST_NAMES modules."""


class Server:
    """Runs rows one after the other; ``sandbox._command`` makes the arguments."""

    def __init__(
        self, *, timeout: float, memory: int, processes: int, uid: int, scratch: str, confined: bool
    ) -> None:
        self._timeout, self._memory, self._processes = timeout, memory, processes
        self._uid, self._scratch, self._confined = uid, scratch, confined
        self._trials, self._verdicts = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        self._null = os.open(os.devnull, os.O_RDWR)
        os.dup2(self._null, 0)
        os.dup2(self._null, 1)
        self._imports: Counter[str] = Counter()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if confined:
            kernel.confine()
            kernel.renew_folder(scratch, memory)
        gc.freeze()

    def serve(self) -> None:
        """Read trials, a JSON text a line, and write a verdict for each."""
        for line in self._trials:
            with mmap.mmap(-1, MEMORY_BYTES) as memory:
                started = time.monotonic()
                pid = self._fork(partial(trial.run, line, memory))
                reason = self._wait(pid, started + self._timeout)
                seconds = round(time.monotonic() - started, 4)
                verdict = read_record(memory, reason, self._end(pid))
            self._verdicts.write(json.dumps({**verdict, "seconds": seconds}).encode() + b"\n")
            self._verdicts.flush()
            for module, doctest in set(IMPORT.findall(line)):
                self._count_import("doctest" if doctest else module.decode())

    def _fork(self, row: Callable[[], object]) -> int:
        """Call a function in a process of its own; return the process id."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.dup2(self._null, 2)
            os.closerange(3, 64)
            os.chdir(self._scratch)
            memory, seconds = self._memory, int(self._timeout) + 2
            kernel.limit(DATA=2 * memory, FSIZE=memory)  # data that is only reserved counts too
            kernel.limit(NPROC=self._processes, NOFILE=256, CPU=seconds)
            if self._confined:
                kernel.drop_rights(self._uid)
            row()
            os._exit(0)
        finally:
            os._exit(1)

    def _wait(self, pid: int, deadline: float) -> str:
        """Wait until a process ends, or return why it must be ended."""
        while True:
            signal.sigtimedwait([signal.SIGCHLD], TICK)
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return ""
            if time.monotonic() >= deadline:
                return TIMEOUT
            if self._confined and kernel.used_bytes() > self._memory:
                return f"the code used more than {self._memory >> 20} MB of memory"

    def _end(self, pid: int) -> int:
        """End all processes of a row and empty its folder; return its first process's status."""
        status = 0
        with suppress(ChildProcessError):
            while True:
                with suppress(ProcessLookupError):  # -1: all except this one, so no fork escapes
                    os.kill(-1 if self._confined else -pid, signal.SIGKILL)
                ended, found = os.waitpid(-1, 0)
                status = found if ended == pid else status
        if self._confined:
            kernel.renew_folder(self._scratch, self._memory)
        else:
            rmtree(self._scratch, ignore_errors=True)
            os.makedirs(self._scratch, exist_ok=True)
        return status

    def _count_import(self, name: str) -> None:
        """Import a module that rows use often, if importing it in another process does no harm."""
        if name in self._imports or len(self._imports) < MOST_NAMES:
            self._imports[name] += 1
        if self._imports[name] == ROWS_BEFORE_IMPORT and name not in sys.modules:
            pid = self._fork(partial(try_import, name))
            reason = self._wait(pid, time.monotonic() + IMPORT_SECONDS)
            if self._end(pid) == 0 and not reason:
                importlib.import_module(name)
                gc.collect()
                gc.freeze()


def try_import(name: str) -> None:
    """Import a module; exit with 1 if it starts a thread, which would not survive a fork."""
    importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        os._exit(1)


def main() -> None:
    """Serve with the settings that the first argument gives as JSON."""
    Server(**json.loads(sys.argv[1])).serve()
