"""A sandbox of bubblewrap with a warm Python inside that judges one row at a time.

No network, no home, no environment, a read-only system with little more than Python in it. See
``sandboxed`` for what happens inside. Without bubblewrap nothing runs, unless ``unsafe`` is asked
for: then a row has its limits of time and memory, and beyond that the powers of the user.
"""

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codesynth.quality.sandbox_command import UNSAFE, SandboxUnavailable, command
from codesynth.quality.sandboxed.settings import Settings

__all__ = ["Sandbox", "SandboxUnavailable", "available_cores"]

FIRST_UID = 59_000
"""Where root runs codesynth the rows are other users, one a sandbox: root's files are not theirs,
and the limit on processes, which root is exempt from, holds."""
PROCESSES = 64
GRACE = 5.0
"""Seconds a sandbox may be later than the row's own limit before it is taken for dead."""
MAX_LINES, MAX_WRITE = 1 << 14, 1 << 16
PROBE = {
    "code": """\
import os, socket, wave
assert os.getpid() == 1, "the pid namespace is shared"
assert os.getuid() != 0, "rows would run as root"
assert {name for _, name in socket.if_nameindex()} <= {"lo"}, "there is a network"
with open("/proc/self/status") as status:
    assert "CapEff:\\t0000000000000000\\n" in status.read(), "there are capabilities"
""",
    "instruction": None,
    "test": None,
    "entry_point": None,
}
SWITCH_ON = (
    "Switch user namespaces on (sysctl -w kernel.unprivileged_userns_clone=1, on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container allow unshare and mount)"
)


class Sandbox:
    """One sandbox, for one thread at a time; starts when it is needed, and again after it broke.

    The thread that uses it must outlive it: the kernel ends a sandbox with that thread.

    Args:
        timeout: seconds for one row.
        memory_bytes: for one row.
        index: its number among the sandboxes of the run, which gives it a core and a user.
        unsafe: build no walls.
    """

    def __init__(
        self, *, timeout: float, memory_bytes: int, index: int = 0, unsafe: bool = False
    ) -> None:
        self._timeout, self._index, self._unsafe = timeout, index, unsafe
        cores = [] if unsafe else available_cores()
        self._settings = Settings(
            timeout=timeout,
            memory_bytes=memory_bytes,
            processes=PROCESSES + (_threads_of_user() if unsafe or _counts_users() else 0),
            core=cores[index % len(cores)] if cores else None,
            uid=FIRST_UID + index if os.geteuid() == 0 and not unsafe else None,
            confined=not unsafe,
        )
        self._scratch = tempfile.TemporaryDirectory(prefix="codesynth-") if unsafe else None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def judge(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Judge one row.

        Args:
            row: ``code``; ``instruction``, ``test`` and ``entry_point`` may each be None.

        Returns:
            ``status``, ``tests_run``, ``tests_passed``, ``seconds``, ``message``.

        Raises:
            SandboxUnavailable: no sandbox can be made.
        """
        if self._process is None:
            self.start()
        started = time.monotonic()
        answer = self._exchange(row)
        if answer is not None:
            return answer
        self._stop()
        late = time.monotonic() - started >= self._timeout
        return {
            "status": "timeout" if late else "error",
            "message": "the sandbox broke down",
            "tests_run": 0,
            "tests_passed": 0,
            "seconds": round(time.monotonic() - started, 4),
        }

    def start(self) -> None:
        """Start the sandbox and look from inside whether its walls stand."""
        arguments = command(self._settings)
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env=self._environment,
                cwd=self._scratch.name if self._scratch else "/",
                bufsize=0,
                start_new_session=True,
            )
            answer = self._exchange(PROBE if not self._unsafe else {**PROBE, "code": ""})
            if answer is not None and answer["status"] == "no_tests":
                return
            self._stop()
            complaints.seek(0)
            said = complaints.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        reason = said[-1] if said else (answer or {}).get("message", "it does not start")
        raise SandboxUnavailable(f"no sandbox here: {reason}. {SWITCH_ON}, {UNSAFE}")

    def interrupt(self) -> None:
        """End it and all in it, for good; any thread may, while another waits for its answer."""
        self._closed = True
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """Give back what the sandbox held."""
        self.interrupt()
        self._stop()
        if self._scratch is not None:
            self._scratch.cleanup()

    @property
    def _environment(self) -> dict[str, str]:
        """The environment of Python; bubblewrap is given it too."""
        home = self._scratch.name if self._scratch else "/tmp"  # noqa: S108  the sandbox's own
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": home,
            "TMPDIR": home,
            "LANG": "C.UTF-8",
            "USER": "sandbox",
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def _stop(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _exchange(self, row: Mapping[str, Any]) -> dict[str, Any] | None:
        """Send a row and await its verdict; None if the sandbox does not give one in time."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None or self._closed:
            return None
        into, out = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(into, False)
        data = json.dumps(row).encode("ascii")
        pending = memoryview(len(data).to_bytes(4, "big") + data)
        lines = b""
        poll = select.poll()
        poll.register(out, select.POLLIN)
        poll.register(into, select.POLLOUT)
        deadline = time.monotonic() + self._timeout + GRACE
        while lines.count(b"\n") < 2:
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if out in ready:
                part = os.read(out, MAX_LINES)
                lines += part
                if not part or len(lines) > MAX_LINES:
                    return None
            elif ready.get(into, 0) & select.POLLOUT:
                try:
                    pending = pending[os.write(into, pending[:MAX_WRITE]) :]
                except BrokenPipeError:
                    return None
                if not pending:
                    poll.unregister(into)
            else:
                return None
        return _verdict(*lines.splitlines())


def _verdict(ruling: bytes, remarks: bytes) -> dict[str, Any] | None:
    """Put together what the judge rules and what the runner remarks; None for nonsense."""
    try:
        told = {**json.loads(ruling), **json.loads(remarks)}
        ended = f" ({told['ended']})" if told["ended"] and told["status"] == "error" else ""
        return {
            "status": str(told["status"]),
            "tests_run": int(told["tests_run"]),
            "tests_passed": int(told["tests_passed"]),
            "seconds": float(told["seconds"]),
            "message": str(told["message"]) + ended,
        }
    except (ValueError, TypeError, KeyError):
        return None


def available_cores() -> list[int]:
    """List the cores this process may run on; those of the machine where no system call tells."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _counts_users() -> bool:
    """Tell whether the limit on processes counts those outside the sandbox: before Linux 5.14."""
    major, minor = os.uname().release.split(".")[:2]
    return (int(major), int("".join(filter(str.isdecimal, minor)))) < (5, 14)


def _threads_of_user() -> int:
    """Count the threads the user runs now."""
    total = 0
    for task in Path("/proc").glob("[0-9]*/task"):
        try:
            if task.stat().st_uid == os.geteuid():
                total += sum(1 for _ in task.iterdir())
        except OSError:
            continue  # gone meanwhile
    return total
