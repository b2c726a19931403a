"""A sandbox of bubblewrap with a warm Python inside that judges one row at a time.

No network, no home, no environment, a read-only system with little more than Python in it. See
``sandboxed`` for what happens inside. Without bubblewrap nothing runs, unless ``unsafe`` is asked
for: then a row has its limits of time and memory, and beyond that the powers of the user.
"""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codesynth.errors import ConfigError
from codesynth.quality.sandboxed.runner import Settings

INSIDE = Path(__file__).with_name("sandboxed")
FIRST_UID = 59_000
"""Where root runs codesynth the rows are other users, one a sandbox: root's files are not theirs,
and the limit on processes, which root is exempt from, holds."""
PROCESSES = 64
GRACE = 5.0
"""Seconds a sandbox may be later than the row's own limit before it is taken for dead."""
MAX_LINE = 1 << 17
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.path += sys.argv[3:]; "
    "from sandboxed.runner import main; main(sys.argv[2])"
)
ROOT_FOLDERS = ("/bin", "/lib", "/lib32", "/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
PROBE = {
    "code": """\
import os, socket, wave
assert os.getpid() == 1, "the pid namespace is shared"
assert os.getuid() != 0 or os.stat("/usr").st_uid != 0, "rows would run as root"
assert {name for _, name in socket.if_nameindex()} <= {"lo"}, "there is a network"
with open("/proc/self/status") as status:
    assert "CapEff:\\t0000000000000000\\n" in status.read(), "there are capabilities"
""",
    "instruction": None,
    "test": None,
    "entry_point": None,
}
INSTALL = "Install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap)"
SWITCH_ON = (
    "Switch user namespaces on (sysctl -w kernel.unprivileged_userns_clone=1, on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container allow unshare and mount)"
)
UNSAFE = "or pass --unsafe to run model-written code with your own rights"


class SandboxUnavailable(ConfigError):  # noqa: N818  it says what is the case, not what went wrong
    """No sandbox can be made here; the message says what to install or to switch on."""


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
        cores = sorted(os.sched_getaffinity(0)) if not unsafe else []
        self._settings = Settings(
            timeout=timeout,
            memory_bytes=memory_bytes,
            processes=PROCESSES + (_threads_of_user() if unsafe or _counts_users() else 0),
            core=cores[index % len(cores)] if cores else None,
            uid=FIRST_UID + index if os.geteuid() == 0 and not unsafe else None,
            confined=not unsafe,
        )
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
        command = self._command()
        with tempfile.TemporaryFile() as complaints:
            self._process = subprocess.Popen(  # noqa: S603  our own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=complaints,
                env={},
                cwd="/",
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

    def close(self) -> None:
        """End the sandbox and all in it; another thread may be waiting for its answer."""
        self._closed = True
        if self._process is not None:
            self._process.kill()

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
        line = b""
        poll = select.poll()
        poll.register(out, select.POLLIN)
        poll.register(into, select.POLLOUT)
        deadline = time.monotonic() + self._timeout + GRACE
        while not line.endswith(b"\n"):
            ready = dict(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
            if out in ready:
                part = os.read(out, MAX_LINE)
                line += part
                if not part or len(line) > MAX_LINE:
                    return None
            elif ready.get(into, 0) & select.POLLOUT:
                pending = pending[os.write(into, pending[: select.PIPE_BUF]) :]
                if not pending:
                    poll.unregister(into)
            else:
                return None
        verdict: dict[str, Any] = json.loads(line)
        return verdict

    def _command(self) -> list[str]:
        """Build the command: bubblewrap, what it lets in, and Python."""
        settings = json.dumps(asdict(self._settings))
        if self._unsafe:
            paths = [str(INSIDE.parent), settings, *_package_folders()]
            return [sys.executable, "-I", "-S", "-c", START, *paths]
        bubblewrap = shutil.which("bwrap")
        if bubblewrap is None:
            raise SandboxUnavailable(f"bwrap not found. {INSTALL}, {UNSAFE}")
        powers = ["SYS_ADMIN", "SYS_PTRACE"]
        if self._settings.uid is not None:
            powers += ["SETUID", "SETGID", "KILL"]
        packages = {f"/opt/packages{n}": path for n, path in enumerate(_package_folders())}
        inside = ["/opt/codesynth", settings, *packages]
        return [
            bubblewrap,
            *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
            *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
            *("--hostname", "sandbox", "--cap-drop", "ALL"),
            *(option for power in powers for option in ("--cap-add", f"CAP_{power}")),
            *(() if self._settings.uid is not None else ("--unshare-user",)),
            *_system_mounts(),
            *(option for to, path in packages.items() for option in ("--ro-bind", path, to)),
            *("--ro-bind", str(INSIDE), "/opt/codesynth/sandboxed", "--remount-ro", "/"),
            *("--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"),  # noqa: S108
            *("--setenv", "LANG", "C.UTF-8", "--setenv", "USER", "sandbox", "--chdir", "/"),
            *("--", str(_interpreter()), "-I", "-S", "-c", START, *inside),
        ]


def _system_mounts() -> Iterator[str]:
    """Yield bubblewrap's options for a read-only system with only what Python needs."""
    yield from ("--ro-bind", "/usr", "/usr")
    for folder in map(Path, ROOT_FOLDERS):
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.exists():
            yield from ("--ro-bind", str(folder), str(folder))
    for name in SYSTEM_FILES:
        yield from ("--ro-bind-try", name, name)
    yield from ("--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev")  # noqa: S108
    for name in DEVICES:
        yield from ("--dev-bind", name, name)
    yield from ("--symlink", "/tmp", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd")  # noqa: S108
    yield from ("--remount-ro", "/dev")
    yield from _python_mounts()


def _python_mounts() -> Iterator[str]:
    """Yield the options for a Python that is not in /usr."""
    for prefix in {Path(sys.base_prefix).resolve(), Path(sys.base_exec_prefix).resolve()}:
        if prefix.is_relative_to("/tmp"):  # noqa: S108
            raise SandboxUnavailable(
                f"Python itself is in {prefix}, and /tmp is private in the sandbox. "
                f"Run codesynth with a Python installed elsewhere, {UNSAFE}"
            )
        if not prefix.is_relative_to("/usr"):
            # made by itself, a parent folder would be root's alone
            for parent in [*prefix.parents][-2::-1]:
                yield from ("--dir", str(parent))
            yield from ("--dir", str(prefix))
            for folder in (prefix / "bin", prefix / "lib", prefix / "lib64"):
                yield from ("--ro-bind-try", str(folder), str(folder))


def _interpreter() -> Path:
    """Find the Python that a virtual environment was made from: it needs nothing of it."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def _package_folders() -> list[str]:
    """List the folders of installed packages, so that code may import what is installed here."""
    names = ("site-packages", "dist-packages")
    return [path for path in sys.path if Path(path).name in names and Path(path).is_dir()]


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
