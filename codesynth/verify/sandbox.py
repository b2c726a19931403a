"""One sandbox: bubblewrap with a warm Python inside that runs one row at a time.

It has no network, no home, no environment, and a read-only system with little but Python in it.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError

INSIDE = Path(__file__).with_name("inside")
START = "import sys; sys.path[0] = sys.argv[2]; from inside.server import main; main()"
TELL = """\
import json, sys
assert sys.version_info >= (3, 9)
print(json.dumps([sys.prefix, [sys.base_prefix, sys.base_exec_prefix], sys.path]))
"""
PROBE = """\
import os, socket
assert os.getppid() == 1, "the process namespace is shared"
assert os.getuid() != 0, "rows would run as root"
assert {name for _, name in socket.if_nameindex()} <= {"lo"}, "there is a network"
with open("/proc/self/status") as status:
    assert "CapEff:\\t0000000000000000\\n" in status.read(), "there are capabilities"
"""
SYSTEM_FOLDERS = ("/bin", "/lib", "/lib32", "/lib64")
SYSTEM_FILES = (
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime", "/etc/hosts"),
    *("/etc/nsswitch.conf", "/etc/protocols", "/etc/services", "/etc/mime.types"),
)
DEVICES = ("null", "zero", "full", "random", "urandom")
PYTHON_FOLDERS = ("bin", "lib", "lib64", "share", "pyvenv.cfg")
ENVIRONMENT = {
    **{"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "sandbox", "PYTHONHASHSEED": "0"},
    **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
}
PROCESSES = 64
UNSAFE = "or pass --unsafe to run the code with your own rights"
INSTALL = "Install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap)"
SWITCH_ON = (
    "Switch user namespaces on (sysctl -w kernel.unprivileged_userns_clone=1, on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container allow unshare and mount)"
)
GRACE = 10.0
"""Seconds that a sandbox may be later than its row's limit before it is taken for dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How rows are run.

    Attributes:
        python: the interpreter, at least 3.9.
        timeout: seconds of wall time for one row.
        memory_mb: for the processes and files of one row.
        unsafe: without bubblewrap, with the user's own rights.
    """

    python: str = sys.executable
    timeout: float = 10.0
    memory_mb: int = 512
    unsafe: bool = False


class Sandbox:
    """One sandbox, for one thread, which must outlive it: the kernel ends it with that thread.

    Raises:
        ConfigError: no sandbox can be made here; the message says what to install.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._settings = settings
        self._scratch = tempfile.TemporaryDirectory(prefix="codesynth-", ignore_cleanup_errors=True)
        self._errors = tempfile.TemporaryFile()
        scratch = f"{self._scratch.name}/row" if settings.unsafe else "/tmp"  # noqa: S108
        Path(scratch).mkdir(exist_ok=True)
        self._process = subprocess.Popen(
            command(settings, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**ENVIRONMENT, "HOME": scratch, "TMPDIR": scratch},
            cwd="/",
            start_new_session=True,
        )
        row = {"code": "" if settings.unsafe else PROBE}
        verdict = self.judge(dumps({**dict.fromkeys(ROW), **row}))
        status = loads(verdict)["status"] if verdict else ""
        if status != "no_tests":
            self.close()
            self._errors.seek(0)
            said = self._errors.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
            reason = said[-1] if said else loads(verdict)["message"] if verdict else "it ended"
            raise ConfigError(f"no sandbox here: {reason}. {SWITCH_ON}, {UNSAFE}")

    def judge(self, trial: bytes) -> bytes | None:
        """Run one trial and return its verdict; None if the sandbox broke."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(trial + b"\n")
            stdin.flush()
        except OSError:
            return None
        poll = select.poll()
        poll.register(stdout, select.POLLIN)
        if not poll.poll((self._settings.timeout + GRACE) * 1000):
            return None
        return stdout.readline() or None

    def kill(self) -> None:
        """End all that runs in it; any thread may, while another waits for a verdict."""
        self._process.kill()

    def close(self) -> None:
        """Give back what it held."""
        self.kill()
        self._process.communicate()
        self._scratch.cleanup()


ROW = ("code", "instruction", "test", "pairs", "function", "entry_point")
"""The fields of a trial, see ``inside.trial``."""


def command(settings: SandboxSettings, scratch: str) -> list[str]:
    """Build the command that starts a sandbox."""
    is_root = os.geteuid() == 0 and not settings.unsafe
    told: dict[str, Any] = {
        "timeout": settings.timeout,
        "memory": settings.memory_mb << 20,
        "processes": PROCESSES + (0 if is_root else _threads_of_user()),
        "uid": 60_000 + os.getpid() % 5000 if is_root else None,
        "scratch": scratch,
        "confined": not settings.unsafe,
    }
    python = Path(settings.python)
    if settings.unsafe:
        return [str(python), "-s", "-c", START, json.dumps(told), str(INSIDE.parent)]
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise ConfigError(f"bwrap not found. {INSTALL}, {UNSAFE}")
    powers = ["SYS_ADMIN", "SYS_PTRACE", *(("SETUID", "SETGID", "KILL") if is_root else ())]
    mounts, inside = _mounts(python)
    return [
        *(bubblewrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"),
        *("--hostname", "sandbox", "--cap-drop", "ALL"),
        *(option for power in powers for option in ("--cap-add", f"CAP_{power}")),
        *(() if is_root else ("--unshare-user",)),
        *mounts,
        *("--ro-bind", str(INSIDE), "/opt/codesynth/inside", "--remount-ro", "/", "--chdir", "/"),
        *("--", inside, "-s", "-c", START, json.dumps(told), "/opt/codesynth"),
    ]


def _mounts(python: Path) -> tuple[list[str], str]:
    """List bubblewrap's options for a read-only system, and say where Python is in it."""
    prefix, bases, path = _ask(python)
    made = ["--ro-bind", "/usr", "/usr"]
    for folder in map(Path, SYSTEM_FOLDERS):
        if folder.is_symlink():
            made += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.exists():
            made += ["--ro-bind", str(folder), str(folder)]
    for name in SYSTEM_FILES:
        made += ["--ro-bind-try", name, name]
    made += ["--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev", "--dir", "/opt"]  # noqa: S108
    for name in DEVICES:
        made += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    made += ["--symlink", "/tmp", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd"]  # noqa: S108
    made += ["--remount-ro", "/dev"]
    for base in {Path(base) for base in bases if not Path(base).is_relative_to("/usr")}:
        if base.is_relative_to("/tmp"):  # noqa: S108
            raise ConfigError(
                f"{python}: this Python is installed in {base}, and sandboxes have a /tmp of "
                f"their own. Choose one that is elsewhere with --python, {UNSAFE}"
            )
        for parent in [*reversed(base.parents), base][1:]:
            made += ["--dir", str(parent)]  # made by itself it would be root's alone
        made += [*_binds(base, base)]
    if prefix in bases:
        return made, str(python.resolve())
    home = Path("/opt/python")
    made += [*_binds(Path(prefix), home)]
    extra = [one for one in path if Path(one).name.endswith("-packages") and Path(one).is_dir()]
    for i, one in enumerate(one for one in extra if not Path(one).is_relative_to(prefix)):
        made += ["--ro-bind", one, f"/opt/packages{i}"]
    return made, str(home / "bin" / python.name)


def _binds(source: Path, target: Path) -> Iterator[str]:
    for name in PYTHON_FOLDERS:
        yield from ("--ro-bind-try", str(source / name), str(target / name))


def _ask(python: Path) -> tuple[str, list[str], list[str]]:
    """Ask an interpreter for its prefix, base prefixes and path."""
    try:
        told = subprocess.run([python, "-c", TELL], capture_output=True, check=True, timeout=60)
        prefix, bases, path = loads(told.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        raise ConfigError(f"--python {python}: no Python interpreter of 3.9 or newer") from exc
    return prefix, bases, path


def _threads_of_user() -> int:
    """Count the threads that the user runs now: before Linux 5.14 the limit counts them too."""
    total = 0
    for task in Path("/proc").glob("[0-9]*/task"):
        try:
            total += len(list(task.iterdir())) if task.stat().st_uid == os.geteuid() else 0
        except OSError:
            continue  # it has ended
    return total
