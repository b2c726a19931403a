"""The command that starts a sandbox: bubblewrap, the little it lets in, and Python."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from codesynth.errors import ConfigError
from codesynth.quality.sandboxed.settings import Settings

INSIDE = Path(__file__).with_name("sandboxed")
START = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.path += sys.argv[3:]; "
    "from sandboxed.runner import main; main(sys.argv[2])"
)
ROOT_FOLDERS = ("/bin", "/lib", "/lib32", "/lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
INSTALL = "Install bubblewrap (apt-get install bubblewrap, dnf install bubblewrap)"
UNSAFE = "or pass --unsafe to run model-written code with your own rights"


class SandboxUnavailable(ConfigError):  # noqa: N818  it says what is the case, not what went wrong
    """No sandbox can be made here; the message says what to install or to switch on."""


def command(settings: Settings) -> list[str]:
    """Build the command.

    Raises:
        SandboxUnavailable: bubblewrap is not installed, or Python is where it cannot be let in.
    """
    told = json.dumps(asdict(settings))
    if not settings.confined:
        paths = [str(INSIDE.parent), told, *_package_folders()]
        return [sys.executable, "-I", "-S", "-c", START, *paths]
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        raise SandboxUnavailable(f"bwrap not found. {INSTALL}, {UNSAFE}")
    powers = ["SYS_ADMIN", "SYS_PTRACE"]
    if settings.uid is not None:
        powers += ["SETUID", "SETGID", "KILL"]
    packages = {f"/opt/packages{n}": path for n, path in enumerate(_package_folders())}
    inside = ["/opt/codesynth", told, *packages]
    return [
        bubblewrap,
        *("--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--die-with-parent", "--new-session"),
        *("--hostname", "sandbox", "--cap-drop", "ALL"),
        *(option for power in powers for option in ("--cap-add", f"CAP_{power}")),
        *(() if settings.uid is not None else ("--unshare-user",)),
        *_system_mounts(),
        *("--dir", "/opt"),  # made by itself, it would be root's alone
        *(option for to, path in packages.items() for option in ("--ro-bind", path, to)),
        *("--ro-bind", str(INSIDE), "/opt/codesynth/sandboxed", "--remount-ro", "/"),
        *("--chdir", "/", "--", str(_interpreter()), "-I", "-S", "-c", START, *inside),
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
    yield from ("--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/dev")
    for name in DEVICES:
        yield from ("--dev-bind", name, name)
    yield from ("--symlink", "/tmp", "/dev/shm", "--symlink", "/proc/self/fd", "/dev/fd")
    yield from ("--remount-ro", "/dev")
    yield from _python_mounts()


def _python_mounts() -> Iterator[str]:
    """Yield the options for a Python that is not in /usr."""
    for prefix in {Path(sys.base_prefix).resolve(), Path(sys.base_exec_prefix).resolve()}:
        if prefix.is_relative_to("/tmp"):
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
