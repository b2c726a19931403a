"""One sandbox: bubblewrap with a warm Python inside that runs one row at a time.

It has no network, no home, no environment, and a read-only system with little but Python in it.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError

INSIDE = Path(__file__).with_name("inside")
START = (
    "import sys; sys.path[0] = sys.argv[2]; "
    "sys.path.sort(key=lambda folder: 'packages' in folder); "  # after the standard library
    "from inside.server import main; main()"
)
DESCRIBE_PYTHON = (
    "import json, sys; from os.path import realpath; assert sys.version_info >= (3, 9); "
    "name = 'python%d.%d' % sys.version_info[:2]; "
    "print(json.dumps([name, *map(realpath, (sys.executable, sys.base_prefix)), sys.path]))"
)
HOME = "/opt/codesynth"
SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64")
ETC = ("ld.so.cache", "alternatives", "localtime", "hosts", "nsswitch.conf", "mime.types")
DEVICES = ("null", "zero", "full", "random", "urandom")
PYTHON_PARTS = ("bin", "lib", "lib64", "share")
"""What is mounted of a Python's folder, which may have other files of the user."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "rows", "PYTHONHASHSEED": "0"}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
GRACE = 10.0
"""Seconds that a sandbox may be late before it counts as broken."""
INSTALL = "Install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap)"
UNSAFE_FIX = "or pass --unsafe to run the code with your own rights"
SANDBOX_FIX = (
    "Switch user namespaces on (sysctl -w kernel.unprivileged_userns_clone=1, on Ubuntu "
    "kernel.apparmor_restrict_unprivileged_userns=0; in a container allow unshare and mount), "
    "install libseccomp if it is missing (apt-get install libseccomp2)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How rows are run; ``inside/server.py`` enforces the limits of time and memory.

    Attributes:
        python: the interpreter, 3.9 or newer.
        timeout: seconds of wall time for one row.
        memory_mb: memory for the processes of one row, and as much for its files.
        unsafe: run without bubblewrap, with the user's own rights.
    """

    python: str = sys.executable
    timeout: float = 10.0
    memory_mb: int = 512
    unsafe: bool = False


class Sandbox:
    """One sandbox. When the thread that made it ends, the kernel ends the sandbox.

    Raises:
        ConfigError: no sandbox can be made here; the message says what to install.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self._patience = settings.timeout + GRACE
        self._folder = tempfile.TemporaryDirectory() if settings.unsafe else None
        scratch = f"{self._folder.name}/row" if self._folder else "/tmp"
        Path(scratch).mkdir(exist_ok=True)
        with tempfile.TemporaryFile() as errors:
            self._process = subprocess.Popen(
                _command(settings, scratch),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**ENVIRONMENT, "HOME": scratch, "TMPDIR": scratch},
                cwd="/",
                start_new_session=True,
            )
            if self.run(dumps({"code": ""})):
                return
            self.close()
            errors.seek(0)
            reason = errors.read(1 << 16).decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ConfigError(f"no sandbox here: {reason}. {SANDBOX_FIX}, {UNSAFE_FIX}")

    def run(self, trial: bytes) -> bytes | None:
        """Run one trial (a row's code and tests) and return its verdict; None if it broke."""
        stdin, stdout = cast(IO[bytes], self._process.stdin), cast(IO[bytes], self._process.stdout)
        try:
            stdin.write(trial + b"\n")
            stdin.flush()
            ready, _, _ = select.select([stdout], [], [], self._patience)
            return stdout.readline() or None if ready else None
        except OSError:
            return None

    def kill(self) -> None:
        """End all that runs in the sandbox; from any thread, even during ``run``."""
        self._process.kill()

    def close(self) -> None:
        """End the sandbox and remove its files."""
        self.kill()
        self._process.communicate()
        if self._folder is not None:
            self._folder.cleanup()


def _command(settings: SandboxSettings, scratch: str) -> list[str]:
    """Build the command that starts a sandbox."""
    is_root = os.geteuid() == 0 and not settings.unsafe
    arguments = {
        "timeout": settings.timeout,
        "memory": settings.memory_mb << 20,
        "uid": 60_000 + secrets.randbelow(5_000) if is_root else None,
        "scratch": scratch,
        "confined": not settings.unsafe,
    }
    if settings.unsafe:
        return [settings.python, "-s", "-c", START, json.dumps(arguments), str(INSIDE.parent)]
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise ConfigError(f"bwrap not found. {INSTALL}, {UNSAFE_FIX}")
    powers = ["SYS_ADMIN", "SYS_PTRACE", *(("SETUID", "SETGID", "KILL") if is_root else ())]
    python, mounts = _mounts(settings.python)
    return [
        *(bubblewrap, "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1"),
        *("--hostname", "sandbox", "--cap-drop", "ALL", *(() if is_root else ("--unshare-user",))),
        *(option for power in powers for option in ("--cap-add", f"CAP_{power}")),
        *mounts,
        *("--remount-ro", "/", "--chdir", "/"),
        *("--", python, "-s", "-c", START, json.dumps(arguments), HOME),
    ]


def _mounts(python: str) -> tuple[str, list[str]]:
    """Return the path of Python in the sandbox, and the mounts of a read-only system with it.

    A virtual environment is its base Python and its packages, which PYTHONPATH names.
    """
    name, executable, base, path = _describe(python)
    if not Path(executable).is_relative_to(f"{base}/bin"):  # it is a copy, in a virtual environment
        executable = f"{base}/bin/{name}"
    if base.startswith(("/tmp/", "/dev/shm/")):  # there the sandbox has the folder of the row
        words = "cannot run in a sandbox from there. Install it outside /tmp and /dev/shm"
        raise ConfigError(f"--python {python}: a Python in {base} {words}")
    packages = [folder for folder in path if folder.endswith("-packages")]
    targets = [f"{HOME}/packages{number}" for number in range(len(packages))]
    sources = {folder: folder for folder in [*SYSTEM, *(f"/etc/{name}" for name in ETC)]}
    sources |= {f"{base}/{part}": f"{base}/{part}" for part in PYTHON_PARTS}
    sources |= dict(zip(targets, packages, strict=True)) | {f"{HOME}/inside": str(INSIDE)}
    parents = [str(folder) for folder in reversed(Path(base).parents)]
    options = ["--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev"]
    options += ["--symlink", "../tmp", "/dev/shm"]  # first: Python itself may be there
    for folder in (*parents, base, "/etc", "/opt", HOME):
        options += ["--dir", folder]  # without this, only root could open the folder
    for target, source in sources.items():
        options += ["--ro-bind-try", source, target]
    for name in DEVICES:
        options += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    options += ["--symlink", "/proc/self/fd", "/dev/fd", "--remount-ro", "/dev"]
    return executable, [*options, "--setenv", "PYTHONPATH", ":".join(targets)]


def _describe(python: str) -> tuple[str, str, str, list[str]]:
    """Ask a Python for the name of its version, its real executable, its base and its path."""
    try:
        command = [python, "-c", DESCRIBE_PYTHON]
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
        return cast(tuple[str, str, str, list[str]], loads(done.stdout))
    except (OSError, ValueError, subprocess.SubprocessError) as exc:
        raise ConfigError(f"--python {python}: no Python interpreter of 3.9 or newer") from exc
