"""The server inside a sandbox: forks a process for each row, and leaves nothing of it.

It runs no code of a row itself. In a sandbox it is the first process of its namespace: the kernel
shields it from signals of the rows, and gives it their orphans.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import mmap
import os
import re
import resource
import signal
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from shutil import rmtree

from . import trial
from .results import TIMEOUT, read_record

TICK = 0.05
"""Seconds between two looks at the time and the memory that a row has used."""
ROWS_BEFORE_IMPORT, MOST_NAMES, IMPORT_SECONDS = 3, 2000, 60.0
"""A module that so many rows import is imported before the fork, if it takes no longer."""
REFUSED_CALLS = (
    *("unshare", "setns", "clone3", "ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    *("add_key", "request_key", "keyctl", "shmget", "msgget", "semget", "mq_open"),
    *("memfd_create", "memfd_secret", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup"),
)
"""They reach other processes, outlive a row, hold memory that nothing counts, or are too wide."""
ALLOW, REFUSE, EQUAL, GREATER, ALL_BITS = 0x7FFF0000, 0x50026, 4, 6, 7
NAMESPACES = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
SOCKET_FAMILIES = {1, 2, 10, 16}
"""Unix, IPv4, IPv6, netlink: those that a network namespace contains. Vsock, for one, is not."""
NOSUID_NODEV, MNT_DETACH, PR_SET_DUMPABLE = 6, 2, 4
NO_CAPABILITIES = struct.pack("Ii", 0x20080522, 0), bytes(24)

libc = ctypes.CDLL(None, use_errno=True)


class Server:
    """Run rows one after the other; the arguments are made in ``sandbox``."""

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
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        if confined:
            # Too little for a file; where cores are piped to a program, 1 stops it and 0 does not.
            _limit(resource.RLIMIT_CORE, 1)
            _call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
            self._mount_scratch()
            _refuse_system_calls()
            with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")  # where the machine runs out of memory, rows go first
        gc.freeze()

    def serve(self) -> None:
        """Read trials, a JSON text a line, and write a verdict for each."""
        for line in self._trials:
            with mmap.mmap(-1, 1 << 16) as memory:
                started = time.monotonic()
                pid = self._fork(partial(trial.run, line, memory))
                reason = self._wait(pid, started + self._timeout)
                seconds = round(time.monotonic() - started, 4)
                verdict = read_record(memory, reason, self._end(pid))
            imported = verdict.pop("imports", ())
            self._verdicts.write(json.dumps({**verdict, "seconds": seconds}).encode() + b"\n")
            self._verdicts.flush()
            for name in imported:
                self._count_import(name)

    def _fork(self, row: Callable[[], object]) -> int:
        """Run a row in a process of its own."""
        pid = os.fork()
        if pid:
            return pid
        try:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.dup2(self._null, 2)
            os.closerange(3, 64)
            os.chdir(self._scratch)
            _limit(resource.RLIMIT_DATA, 2 * self._memory)  # it counts what is reserved too
            _limit(resource.RLIMIT_FSIZE, self._memory)
            _limit(resource.RLIMIT_NPROC, self._processes)
            _limit(resource.RLIMIT_CPU, int(self._timeout) + 2)
            _limit(resource.RLIMIT_NOFILE, 256)
            if self._uid:
                os.setgroups([])
                os.setresgid(self._uid, self._uid, self._uid)
                os.setresuid(self._uid, self._uid, self._uid)
            if self._confined:
                _call("capset", *NO_CAPABILITIES)
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
            if self._confined and _used_bytes() > self._memory:
                return f"the code used more than {self._memory >> 20} MB of memory"

    def _end(self, pid: int) -> int:
        """End all processes of a row and empty its folder; return its first process's status."""
        status = 0
        with suppress(ChildProcessError):
            while True:
                with suppress(ProcessLookupError):  # -1: all but this one; no fork escapes it
                    os.kill(-1 if self._confined else -pid, signal.SIGKILL)
                ended, found = os.waitpid(-1, 0)
                status = found if ended == pid else status
        if self._confined:
            _call("umount2", self._scratch.encode(), MNT_DETACH)
            self._mount_scratch()
        else:
            rmtree(self._scratch, ignore_errors=True)
            os.makedirs(self._scratch, exist_ok=True)
        return status

    def _mount_scratch(self) -> None:
        options = f"size={self._memory},nr_inodes=16384,mode=1777".encode()
        _call("mount", b"scratch", self._scratch.encode(), b"tmpfs", NOSUID_NODEV, options)

    def _count_import(self, name: str) -> None:
        """Import a module that rows use often, if a trial shows that this does no harm."""
        if name in self._imports or len(self._imports) < MOST_NAMES:
            self._imports[name] += 1
        if self._imports[name] == ROWS_BEFORE_IMPORT:
            pid = self._fork(partial(_try_import, name))
            reason = self._wait(pid, time.monotonic() + IMPORT_SECONDS)
            if self._end(pid) == 0 and not reason:
                importlib.import_module(name)
                gc.collect()
                gc.freeze()


def _try_import(name: str) -> None:
    importlib.import_module(name)
    if len(os.listdir("/proc/self/task")) > 1:
        os._exit(1)  # a thread would not survive a fork


def _used_bytes() -> int:
    """Count the memory of all other processes; a page that n of them share counts for 1/n."""
    used = 0
    for pid in [name for name in os.listdir("/proc") if name.isdecimal() and name != "1"]:
        with suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as file:  # or it has ended
            used += int(re.findall(r"Pss:\s+(\d+)", file.read())[0]) << 10
    return used


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _call(name: str, *arguments: bytes | int) -> None:
    made = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in arguments]
    if getattr(libc, name)(*made) < 0:
        raise OSError(ctypes.get_errno(), f"cannot {name}")


def _refuse_system_calls() -> None:
    """Install a seccomp filter; the processes that are forked have it too."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ALLOW))

    def refuse(name: str, argument: int = 0, *condition: int) -> None:
        number = library.seccomp_syscall_resolve_name(name.encode())
        test = struct.pack("IIQQ", argument, *condition) if condition else None
        library.seccomp_rule_add_array(context, REFUSE, number, int(bool(condition)), test)

    for name in REFUSED_CALLS:
        refuse(name)
    for flag in NAMESPACES:
        refuse("clone", 0, ALL_BITS, flag, flag)
    for family in set(range(64)) - SOCKET_FAMILIES:
        refuse("socket", 0, EQUAL, family, 0)
    refuse("socket", 0, GREATER, 63, 0)
    refuse("setrlimit", 0, EQUAL, resource.RLIMIT_CORE, 0)
    refuse("prlimit64", 1, EQUAL, resource.RLIMIT_CORE, 0)
    if library.seccomp_load(context) != 0:
        raise OSError("cannot install the filter of system calls")


def main() -> None:
    """Serve with the settings that the first argument gives as JSON."""
    Server(**json.loads(sys.argv[1])).serve()
