"""Hostile programs in the sandbox: none passes, stays or reaches the outside."""

import os
import socket
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from support.parts import wait_for
from support.verify import commands_with, programs, verify

from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.models import Record, Request
from codesynth.verify import SandboxServing, SandboxSettings

MARKER = f"hostile-marker-{os.getpid()}"
TIMEOUT = 0.5
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
PYTEST = """\
import pytest

@pytest.mark.parametrize("a, b, sum", [(2, 3, 5), ([1], [2], [1, 2])])
def test_add(a, b, sum):
    assert add(a, b) == sum
"""
HONEST = "def add(a, b):\n    return a + b\n"
FORGERS = programs("hostile_verdict.txt")
"""Those that are after the verdict: they meet every kind of test."""
NAMES = ("files", "memory", "network", "processes")
PROGRAMS = {k: v for name in NAMES for k, v in programs(f"hostile_{name}.txt").items()} | FORGERS
MEET_PYTEST = (
    *("exits_with_zero_when_called", "raises_skip_test"),
    *("redefines_check", "equals_everything"),
)
"""A row with pytest takes half a second, so not all of them meet it."""
HONEST_ROW = {"generated_code": HONEST, "test": CHECK, "entry_point": "add"}
SANDBOXES = 4


@dataclass
class Outside:
    """The world around the sandbox while the programs ran; each group ends with an honest row."""

    folder: Path
    received: list[object]
    groups: dict[str, list[dict[str, Any]]]
    verdicts: dict[str, list[dict[str, Any]]]


@contextmanager
def listening(received: list[object]) -> Iterator[tuple[int, int]]:
    """Listen on a TCP port, a UDP port and a Unix socket; yield the ports and note who came."""
    with (
        socket.create_server(("127.0.0.1", 0)) as stream,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        socket.socket(socket.AF_UNIX) as local,
    ):
        datagrams.bind(("127.0.0.1", 0))
        local.bind(f"\0{MARKER}")
        local.listen()
        yield stream.getsockname()[1], datagrams.getsockname()[1]
        for server in (stream, datagrams, local):
            server.setblocking(False)
        for receive in (stream.accept, local.accept, lambda: datagrams.recv(64)):
            with suppress(BlockingIOError):
                received.append(receive())


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    """Run every program, and an honest row after it in the same sandbox."""
    seen = Outside(tmp_path_factory.mktemp("outside"), [], {}, {})
    (seen.folder / "secret").write_text(MARKER, encoding="ascii")

    def run(names: Sequence[str]) -> Iterator[dict[str, Any]]:
        rows = [row for name in names for row in seen.groups[name]]
        return iter(verify(rows, SandboxSettings(timeout=TIMEOUT, memory_mb=160), jobs=1))

    with listening(seen.received) as (tcp, udp), ThreadPoolExecutor(SANDBOXES) as threads:
        for name, program in PROGRAMS.items():
            code = program["generated_code"]
            words = {"port": tcp, "udp_port": udp, "marker": MARKER, "folder": seen.folder}
            for word, value in words.items():
                code = code.replace(f"{{{word}}}", str(value))
            given = {"generated_code": code, "instruction": INSTRUCTION, "entry_point": "add"}
            kinds = (CHECK, UNITTEST, None) if name in FORGERS else (CHECK,)
            seen.groups[name] = [*({**given, "test": kind} for kind in kinds), HONEST_ROW]
        shares = [list(PROGRAMS)[number::SANDBOXES] for number in range(SANDBOXES)]
        for names, verdicts in zip(shares, threads.map(run, shares), strict=True):
            for name in names:
                seen.verdicts[name] = list(islice(verdicts, len(seen.groups[name])))
    return seen


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_hostile_program_does_not_pass(outside: Outside, name: str) -> None:
    for verdict in outside.verdicts[name][:-1]:
        assert verdict["status"] in ("failed", "error", "timeout", "syntax_error"), verdict
        assert "FOUND" not in verdict["message"]
        assert "LEAKED" not in verdict["message"]


def test_no_verdict_of_pytest_is_forged() -> None:
    rows = [{**FORGERS[name], "test": PYTEST} for name in MEET_PYTEST]
    for verdict in verify(rows, SandboxSettings(timeout=60)):
        assert verdict["status"] in ("failed", "error"), verdict


def test_an_honest_row_after_a_hostile_one_passes(outside: Outside) -> None:
    """On a slow machine it may take too long, and is tried again with more time."""
    patient = SandboxSettings(timeout=20, memory_mb=160)
    for name, (*_, verdict) in outside.verdicts.items():
        is_late = verdict["status"] == "timeout"
        again = verify(outside.groups[name], patient, jobs=1)[-1] if is_late else verdict
        assert again["status"] == "passed", (name, again)


def test_hostile_programs_leave_no_file(outside: Outside) -> None:
    places = [outside.folder, Path("/tmp"), Path("/dev/shm"), Path("/var/tmp"), Path.home()]
    assert [path for place in places for path in place.glob(f"*{MARKER}*")] == []
    assert [path.name for path in outside.folder.iterdir()] == ["secret"]
    assert (outside.folder / "secret").read_text(encoding="ascii") == MARKER


def test_hostile_programs_send_nothing_outside_and_leave_no_process(outside: Outside) -> None:
    assert outside.received == []
    wait_for(lambda: commands_with(MARKER) == [])  # the kernel ends those that were killed


def test_memory_counts_what_is_used_and_not_what_is_reserved() -> None:
    reserve = "import mmap\nspace = mmap.mmap(-1, 1 << 28, flags=mmap.MAP_PRIVATE)\nspace[0] = 1\n"
    use = "space = bytearray(b'x') * (1 << 28)\nimport time\ntime.sleep(60)\n"
    settings = SandboxSettings(memory_mb=200, timeout=60)
    verdicts = verify([{"generated_code": code} for code in (reserve, use)], settings)
    assert [verdict["status"] for verdict in verdicts] == ["no_tests", "error"]
    assert verdicts[1]["message"] == "the code used more than 200 MB of memory"


BOMB = """\
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(10_000):
    try:
        if os.fork() == 0:
            os.setsid()
            signal.pause()
    except OSError:
        pass
"""


def test_ten_thousand_forks_between_two_honest_rows_disturb_neither() -> None:
    rows = [HONEST_ROW, {"generated_code": BOMB, "test": "assert True"}, HONEST_ROW]
    before, _, after = verify(rows, SandboxSettings(timeout=20), jobs=1)
    assert (before["status"], after["status"]) == ("passed", "passed")


def test_unsafe_gives_the_same_verdicts() -> None:
    rows = [
        HONEST_ROW,
        {"generated_code": HONEST, "test": "assert add(1, 2) == 4"},
        {"generated_code": "open('left', 'w').close()\nimport os\nos._exit(0)"},
        {"generated_code": "import os\nassert os.listdir() == []"},
    ]
    verdicts = verify(rows, SandboxSettings(unsafe=True, timeout=60), jobs=1)
    statuses = [verdict["status"] for verdict in verdicts]
    assert statuses == ["passed", "failed", "error", "no_tests"]
    endless = {"generated_code": "while True:\n    pass"}
    [verdict] = verify([endless], SandboxSettings(unsafe=True, timeout=0.5), jobs=1)
    assert (verdict["status"], verdict["results"]) == ("timeout", "T")


def test_a_bubblewrap_that_may_not_work_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bubblewrap = tmp_path / "bwrap"
    bubblewrap.write_text("#!/bin/sh\necho 'bwrap: no permission to make one' >&2\nexit 1\n")
    bubblewrap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no permission.*userns.*--unsafe"):
        SandboxServing(SandboxSettings(), 1)


def test_python_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--python .*none: no Python interpreter of 3\.9"):
        SandboxServing(SandboxSettings(python=str(tmp_path / "none")), 1)


def test_python_whose_library_is_where_rows_have_their_folder_is_refused(tmp_path: Path) -> None:
    verify([])  # skips where no sandbox can be made
    python = tmp_path / "python"
    python.write_text("""#!/bin/sh\necho '["python3", "/tmp/x/bin/python3", "/tmp/x", []]'\n""")
    python.chmod(0o755)
    with pytest.raises(ConfigError, match=r"Python in /tmp/x cannot run .* outside /tmp"):
        SandboxServing(SandboxSettings(python=str(python)), 1)


def test_python_may_be_a_link_in_a_folder_that_the_sandbox_lacks(tmp_path: Path) -> None:
    verify([])  # skips where no sandbox can be made
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        for folder in (tmp_path, Path(shared)):
            link = folder / "python3"
            link.symlink_to(Path(sys.executable).resolve())
            SandboxServing(SandboxSettings(python=str(link)), 1)


def test_a_virtual_environment_may_copy_its_python_and_have_packages_named_like_standard_ones(
    tmp_path: Path,
) -> None:
    verify([])  # skips where no sandbox can be made
    base = tmp_path / "base"
    base.symlink_to(sys.base_prefix)
    SandboxServing(SandboxSettings(python=f"{base}/bin/python3.{sys.version_info.minor}"), 1)
    venv.create(tmp_path / "copy", symlinks=False)
    [packages] = (tmp_path / "copy" / "lib").glob("python*/site-packages")
    (packages / "json.py").write_text("raise ImportError")
    (packages / "only_here.py").write_text("answer = 42")
    row = {"generated_code": "import json, only_here", "test": "assert only_here.answer == 42"}
    settings = SandboxSettings(python=str(tmp_path / "copy" / "bin" / "python"), timeout=60)
    SandboxServing(settings, 1)
    [verdict] = verify([row], settings)
    assert verdict["status"] == "passed", verdict


def test_a_drain_at_the_end_of_the_rows_closes_each_sandbox_once() -> None:
    serving = SandboxServing(SandboxSettings(unsafe=True), 2)
    for _ in range(5):  # without care, two threads close the same sandbox in most rounds
        rows = (Request(Record(i, b"{}", {}), i, dumps({"code": "x = 1"})) for i in range(4))
        with serving.generate(rows) as stream:
            next(stream)
            stream.drain(None)
            assert len(list(stream)) <= 3
