"""Hostile programs in the sandbox: none passes, outlives its limit or reaches the outside."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from codesynth.errors import ConfigError
from codesynth.quality.sandbox import Sandbox, SandboxUnavailable
from codesynth.quality.verification import Verification, Verifier

MARKER = f"hostile-marker-{os.getpid()}"
TIMEOUT = 0.6
SLACK = 2.0
"""Seconds that ending 64 busy processes may take on a busy machine."""
INSTRUCTION = '''\
def add(a, b):
    """Add two numbers, or join two lists or texts.

    >>> add(2, 3)
    5
    >>> add(2, 3) == 5
    True
    >>> abs(add(0.5, 0.25) - 0.75) < 1e-9
    True
    """
'''
CHECK = """\
def check(candidate):
    assert candidate(2, 3) == 5
    assert candidate(-1, 1) in (0,)
    assert 4 in [candidate(1, 3)]
    assert abs(candidate(0.5, 0.25) - 0.75) < 1e-9
    assert not candidate(0, 0)
    assert candidate([1], [2]) == [1, 2]
    assert 2 in candidate([1], [2])
    assert candidate("a", "b").startswith("ab")
"""
UNITTEST = """\
import unittest

class TestAdd(unittest.TestCase):
    def test_numbers(self):
        self.assertEqual(add(2, 3), 5)
        self.assertAlmostEqual(add(0.5, 0.25), 0.75)

    def test_lists(self):
        self.assertIn(2, add([1], [2]))
"""
MAPPED = """\
pairs, sums = [(2, 3), (-1, 1)], [5, 0]
assert all(a == b for a, b in zip(map(lambda pair: add(*pair), pairs), sums))
"""
HONEST = "def add(a, b):\n    return a + b\n"


def programs(pattern: str) -> dict[str, str]:
    """Read hostile programs by name. They are no .py files, so that nothing imports them."""
    found: dict[str, str] = {}
    for path in sorted((Path(__file__).parent / "hostile").glob(pattern)):
        parts = re.split(r"(?m)^### (\w+)\n", path.read_text(encoding="utf-8"))
        found.update(zip(parts[1::2], parts[2::2], strict=True))
    return found


PROGRAMS = programs("*.txt")
FORGERS = programs("verdict.txt") | programs("channel.txt")
"""Those that are after the verdict: they meet every kind of test."""


@dataclass
class Outside:
    """The world around the sandbox while the programs ran."""

    folder: Path
    received: list[object]
    pauses: list[float]
    verdicts: dict[str, list[Verification]]


@contextmanager
def listening(received: list[object]) -> Iterator[int]:
    """Listen on a TCP and a UDP port of one number and on a Unix socket; note who came."""
    with (
        socket.create_server(("127.0.0.1", 0)) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as local,
    ):
        port = stream.getsockname()[1]
        datagrams.bind(("127.0.0.1", port))
        local.bind(f"\0{MARKER}")
        local.listen()
        yield port
        for server in (stream, datagrams, local):
            server.setblocking(False)
        for receive in (stream.accept, local.accept, lambda: datagrams.recv(64)):
            with suppress(BlockingIOError):
                received.append(receive())


@contextmanager
def watching_the_host(pauses: list[float]) -> Iterator[None]:
    """Start a process again and again, and note how long that takes."""
    stopped = threading.Event()

    def watch() -> None:
        while not stopped.wait(0.2):
            started = time.monotonic()
            subprocess.run(["/bin/true"], check=True)
            pauses.append(time.monotonic() - started)

    watcher = threading.Thread(target=watch)
    watcher.start()
    yield
    stopped.set()
    watcher.join()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory, sandboxed: None) -> Outside:
    """Run every program against every kind of test, an honest row after each."""
    seen = Outside(tmp_path_factory.mktemp("outside"), [], [], {})
    (seen.folder / "secret").write_text(MARKER, encoding="ascii")
    names, rows = [], []
    with listening(seen.received) as port, watching_the_host(seen.pauses):
        for name, program in PROGRAMS.items():
            code = program.replace("{port}", str(port)).replace("{marker}", MARKER)
            code = code.replace("{folder}", str(seen.folder))
            given = {"instruction": INSTRUCTION, "entry_point": "add"}
            kinds = (CHECK, UNITTEST, MAPPED, None) if name in FORGERS else (CHECK,)
            rows += [{"code": code, "test": kind, **given} for kind in kinds]
            rows.append({"code": HONEST, "test": CHECK, **given})
            names += [name] * len(kinds) + ["honest"]
        with Verifier(
            test_key="test", code_key="code", timeout=TIMEOUT, memory_bytes=160 << 20
        ) as verifier:
            for name, verdict in zip(names, verifier.verify(rows), strict=True):
                seen.verdicts.setdefault(name, []).append(verdict)
    return seen


def test_there_are_at_least_forty_hostile_programs() -> None:
    assert len(PROGRAMS) >= 40


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_neither_passes_nor_outlives_its_limit(
    outside: Outside, name: str
) -> None:
    for verdict in outside.verdicts[name]:
        assert verdict.status in ("failed", "error", "timeout", "syntax_error"), verdict
        assert verdict.tests_passed < 2
        assert verdict.seconds < TIMEOUT + SLACK
        assert "FOUND" not in verdict.message
        assert "LEAKED" not in verdict.message


def test_an_honest_row_after_a_hostile_one_passes(outside: Outside) -> None:
    bad = [verdict for verdict in outside.verdicts["honest"] if verdict.status != "passed"]
    assert bad == []


ASTRAY = """\
import os
import pickle
line = '{"status": "passed", "tests_run": 1, "tests_passed": 1, "message": ""}\\n'
forge = f'''
import os
for n in range(3, 12):
    try:
        os.write(n, {line.encode()})
    except OSError:
        pass
'''
class Forge:
    def __reduce__(self):
        return exec, (forge,)
for fd in range(3, 12):
    os.symlink(f"/proc/self/fd/{fd}", f"/tmp/{fd}")
with open("/tmp/pickle", "wb") as file:
    pickle.dump(Forge(), file)
"""
UNWARY = (
    """\
for n in range(3, 12):
    try:
        with open(f"/tmp/{n}", "w") as file:
            file.write(line)
    except OSError:
        pass
assert False
""",
    """\
import pickle
with open("/tmp/pickle", "rb") as file:
    pickle.load(file)
assert False
""",
)


@pytest.mark.parametrize("test", UNWARY)
def test_what_the_code_leaves_in_the_folder_it_shares_does_not_lead_the_test_astray(
    sandboxed: None, test: str
) -> None:
    with Verifier(test_key="test", code_key="code", jobs=1) as verifier:
        (verdict,) = verifier.verify([{"code": ASTRAY, "test": test}])
    assert verdict.status in ("error", "failed")


def test_hostile_programs_leave_no_file(outside: Outside) -> None:
    places = [outside.folder, Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"), Path.home()]
    left = [path for place in places for path in place.glob(f"*{MARKER}*")]
    assert left == []
    assert [path.name for path in outside.folder.iterdir()] == ["secret"]
    assert (outside.folder / "secret").read_text(encoding="ascii") == MARKER


def test_hostile_programs_send_nothing_outside(outside: Outside) -> None:
    assert outside.received == []


def test_hostile_programs_leave_no_process(outside: Outside) -> None:
    assert processes_with(MARKER) == []
    assert processes_with("sandboxed.runner", of=os.getpid()) == []


def test_the_host_stays_usable(outside: Outside) -> None:
    assert max(outside.pauses) < 5


def processes_with(text: str, of: int | None = None) -> list[str]:
    """List the command lines that hold a text; ``of`` one parent's children only."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().decode("utf-8", "replace")
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if text in command and of in (None, parent):
                found.append(command)
    return found


def test_killing_codesynth_ends_its_sandboxes(sandboxed: None) -> None:
    script = f"""
from codesynth.quality.verification import Verifier
row = {{"code": "import time; time.sleep(600)  # {MARKER}"}}
with Verifier(test_key=None, code_key="code", timeout=671.25, jobs=1) as verifier:
    print("started", flush=True)
    list(verifier.verify([row]))
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"started\n"
        assert processes_with("671.25")
        run.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes_with("671.25") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_with("671.25") == []


def test_a_sandbox_that_was_killed_starts_again(sandboxed: None) -> None:
    sandbox = Sandbox(timeout=5, memory_bytes=256 << 20)
    row = {"code": "x = 1", "instruction": None, "test": None, "entry_point": None}
    assert sandbox.judge(row)["status"] == "no_tests"
    killed = sandbox._process
    assert killed is not None
    killed.kill()
    deadline = time.monotonic() + 5
    while sandbox._process is killed and time.monotonic() < deadline:  # its child may answer yet
        assert sandbox.judge(row)["status"] in ("no_tests", "error")
    assert sandbox.judge(row)["status"] == "no_tests"
    sandbox.close()


def test_without_bubblewrap_nothing_runs_and_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"apt-get install bubblewrap.*--unsafe") as info:
        Verifier(test_key=None, jobs=1).__enter__()
    assert isinstance(info.value, ConfigError)
    assert info.value.exit_code == 2


def test_where_namespaces_are_off_the_message_quotes_bubblewrap_and_says_what_to_switch_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bubblewrap = tmp_path / "bwrap"
    bubblewrap.write_text("#!/bin/sh\necho 'bwrap: no permission to make one' >&2\nexit 1\n")
    bubblewrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match=r"no permission.*userns.*--unsafe"):
        Verifier(test_key=None, jobs=1).__enter__()


def test_a_bubblewrap_that_builds_no_walls_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bubblewrap = tmp_path / "bwrap"
    bubblewrap.write_text('#!/bin/sh\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    bubblewrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable):
        Verifier(test_key=None, jobs=1).__enter__()
