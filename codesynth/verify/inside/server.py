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
from .results import MEMORY_BYTES, TIMEOUT, Results, read_verdict

PROCESSES = 64
"""Most processes of a row."""
TICK = 0.05
"""Seconds between two looks at the time and the memory that a row has used."""
IMPORT = re.compile(rb"(?:\"|\\n)\s*(?:import|from) ([\w.]+)")
ROWS_BEFORE_IMPORT, MOST_NAMES, IMPORT_SECONDS = 3, 2000, 60.0
"""The server itself imports a module that ROWS_BEFORE_IMPORT rows import, if it takes at most
IMPORT_SECONDS. It counts MOST_NAMES modules."""


class Server:
    """Runs rows one after the other; ``sandbox._command`` makes the arguments."""

    def __init__(
        self, *, timeout: float, memory: int, uid: int | None, scratch: str, confined: bool
    ) -> None:
        self._timeout, self._memory, self._uid = timeout, memory, uid
        self._scratch, self._confined = scratch, confined
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
                Results(memory).publish()
                started = time.monotonic()
                problem = self._run(partial(trial.run, line, memory), self._timeout)
                seconds = round(time.monotonic() - started, 4)
                verdict = {**read_verdict(memory, problem), "seconds": seconds}
            self._verdicts.write(json.dumps(verdict).encode() + b"\n")
            self._verdicts.flush()
            for name in set(IMPORT.findall(line)):
                self._count_import(name.decode())

    def _run(self, function: Callable[[], object], seconds: float) -> str:
        """Call a function in a process, and remove its traces; return what went wrong with it."""
        pid = os.fork()
        if pid == 0:
            try:
                self._enter_row()
                function()
                os._exit(0)
            finally:
                os._exit(1)
        problem = self._wait(pid, time.monotonic() + seconds)
        self._clean(pid)
        return problem

    def _enter_row(self) -> None:
        """Limit this process, and take from it what only the server may have."""
        os.setsid()
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.dup2(self._null, 2)
        os.closerange(3, 64)
        os.chdir(self._scratch)
        # DATA counts reserved memory too, so it may be more; ``_wait`` looks at what is used.
        kernel.limit(DATA=2 * self._memory, FSIZE=self._memory, CPU=int(self._timeout) + 2)
        kernel.limit(NPROC=PROCESSES, NOFILE=256)
        if self._confined:
            kernel.drop_rights(self._uid)

    def _wait(self, pid: int, deadline: float) -> str:
        """Wait until a process ends or must be ended; return why if not all is well."""
        while True:
            signal.sigtimedwait([signal.SIGCHLD], TICK)
            if end := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                code = end.si_status
                how = f"code {code}" if end.si_code == os.CLD_EXITED else signal.strsignal(code)
                return f"the code ended its process: {how}" if code else ""
            if time.monotonic() >= deadline:
                return TIMEOUT
            if self._confined and kernel.used_bytes() > self._memory:
                return f"the code used more than {self._memory >> 20} MB of memory"

    def _clean(self, pid: int) -> None:
        """End all processes of a row and empty its folder."""
        with suppress(ChildProcessError):
            while True:
                with suppress(ProcessLookupError):  # -1: all except this one, so no fork escapes
                    os.kill(-1 if self._confined else -pid, signal.SIGKILL)
                os.waitpid(-1, 0)
        if self._confined:
            kernel.renew_folder(self._scratch, self._memory)
        else:
            rmtree(self._scratch, ignore_errors=True)
            os.makedirs(self._scratch, exist_ok=True)

    def _count_import(self, name: str) -> None:
        """Import a module that rows use often, if importing it in another process does no harm."""
        if name in self._imports or len(self._imports) < MOST_NAMES:
            self._imports[name] += 1
        if self._imports[name] != ROWS_BEFORE_IMPORT or name in sys.modules:
            return
        if not self._run(partial(try_import, name), IMPORT_SECONDS):
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
