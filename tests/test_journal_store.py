"""The journal's file: what is in it, who may use it, and that damage anywhere in it is told."""

import contextlib
import functools
import itertools
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesynth.errors import JournalError
from codesynth.journal import Journal, StoredAnswer, open_to_read
from codesynth.models import Usage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.journal"


def key_of(number: int) -> bytes:
    return b"%016d" % number


def store(path: Path, *bodies: bytes) -> None:
    with Journal(str(path)) as journal:
        start = journal.answers
        journal.put(StoredAnswer(key_of(start + i), body) for i, body in enumerate(bodies))


def bodies(path: Path, count: int) -> list[bytes | None]:
    with Journal(str(path)) as journal:
        found = [journal.get(key_of(i)) for i in range(count)]
    return [answer and answer.body for answer in found]


@contextlib.contextmanager
def other_process(script: str, *args: object) -> Iterator["subprocess.Popen[str]"]:
    """Run a script that has a Journal, until it prints a line; it is killed at the end."""
    start = (
        "import itertools, os, sys; from codesynth.journal import Journal, StoredAnswer\n"
        "def key_of(number): return b'%016d' % number\n"
    )
    command = [sys.executable, "-c", start + script, *map(str, args)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


PUT_AND_HOLD = """
with Journal(sys.argv[1]) as journal:
    for i in range(int(sys.argv[2])):
        journal.put([StoredAnswer(key_of(i), b'%d' % i)])
        if not i:
            journal.set_note('seed', '1')
    print(1, flush=True)
    sys.stdin.read()
"""


# What is in it.


@given(st.binary(), st.integers(0, 2**31), st.floats(0, 1e6), st.floats(1, 1e10))
@settings(max_examples=8)
def test_an_answer_comes_back_as_it_was(
    body: bytes, attempts: int, seconds: float, when: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        answer = StoredAnswer(b"key", body, attempts, seconds)
        with Journal(f"{folder}/journal", clock=lambda: when) as journal:
            journal.put([answer])
        with Journal(f"{folder}/journal") as journal:
            assert journal.get(b"key") == answer
            assert journal.get(b"yek") is None
            assert list(journal.times()) == [(when, seconds)]


def test_the_later_answer_and_note_count_and_tokens_are_summed_over_all_runs(path: Path) -> None:
    with Journal(str(path)) as journal:
        assert journal.get_note("seed") is None
    for number, used in enumerate((Usage(10, 1), Usage(30, 3, 99, 99))):
        with Journal(str(path)) as journal:
            for i, body in itertools.product(range(10), (b"old", b"new")):
                journal.put([StoredAnswer(key_of(i), body, used=used)])
            journal.set_note("seed", f"{number} \u2028")
    with Journal(str(path)) as journal:
        assert (journal.spent, journal.answers) == (Usage(800, 80), 40)
        assert journal.get_note("seed") == "1 \u2028"
    assert bodies(path, 10) == [b"new"] * 10


def test_two_threads_may_read_and_write_at_once(path: Path) -> None:
    def write() -> None:
        for i in range(120):
            journal.put([StoredAnswer(key_of(i), key_of(i))])

    with Journal(str(path)) as journal:
        writer = threading.Thread(target=write)
        writer.start()
        is_over = False
        while not is_over:
            is_over = not writer.is_alive()
            keys = [key_of(i) for i in range(0, journal.answers, 7)]
            journal.refresh()
            assert [answer and answer.body for answer in map(journal.get, keys)] == keys
    assert len(keys) == 18


def test_answers_are_found_in_any_order_also_where_some_were_replaced(path: Path) -> None:
    newest = [b"new" if i % 3 == 0 else b"%d" % i for i in range(1500)]
    order = list(range(1500))
    random.Random(1).shuffle(order)
    with Journal(str(path)) as journal:
        journal.put(StoredAnswer(key_of(i), b"%d" % i) for i in range(1500))
        journal.put(StoredAnswer(key_of(i), b"new") for i in range(0, 1500, 3))
        journal.refresh()
        for i in [*order, *range(1500), *reversed(range(1500))]:
            assert journal.get(key_of(i)) == StoredAnswer(key_of(i), newest[i])


def test_no_more_is_read_ahead_than_fits_into_some_megabytes(path: Path) -> None:
    store(path, *[b"x" * 500_000] * 60)
    with Journal(str(path)) as journal:
        tracemalloc.start()
        for i in range(0, 60, 2):
            assert journal.get(key_of(i))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 20 << 20


# Who may use it.


def test_a_running_journal_is_read_without_a_lock_and_goes_on(path: Path) -> None:
    """Read it again and again while each commit goes into the file at once."""
    script = """
with Journal(sys.argv[1]) as journal:
    print(1, flush=True)
    for i in itertools.count():
        journal.put([StoredAnswer(key_of(i), b'%d ' % i * 100)])
        journal.set_note('figures', str(i))
        if os.path.exists(sys.argv[2]):
            break
    print(i + 1, flush=True)
"""
    stop = path.with_name("stop")
    with other_process(script, path, stop) as run:
        seen = look = 0
        while look < 15 or not seen:
            look += 1
            with open_to_read(str(path), answers=look % 5 == 0) as journal:
                assert journal.answers >= seen
                seen = journal.answers
                last = range(max(0, seen - 50), seen) if look % 5 == 0 else []
                found = [journal.get(key_of(i)) for i in last]
                assert [each and each.body.split()[0] for each in found] == [
                    b"%d" % i for i in last
                ]
                with pytest.raises(JournalError, match="readonly"):
                    journal.set_note("seed", "1")
        stop.touch()
        assert run.stdout is not None
        count = int(run.stdout.readline())
        assert run.wait(300) == 0
    assert bodies(path, count) == [b"%d " % i * 100 for i in range(count)]


def test_what_a_killed_run_left_in_its_log_is_read_by_other_runs(path: Path) -> None:
    link = path.with_name("link")
    link.symlink_to(path)
    with other_process(PUT_AND_HOLD, link, 5), open_to_read(str(path)) as journal:
        assert journal.answers == 1  # the others wait for the next note
    with open_to_read(str(link), answers=True) as journal:
        assert [journal.get(key_of(i)) is not None for i in range(6)] == [True] * 5 + [False]
    assert not Path(f"{path}-wal").exists()


def test_a_finished_journal_is_read_from_a_folder_that_cannot_be_written(path: Path) -> None:
    store(path, b"x")
    path.parent.chmod(0o555)
    path.chmod(0o444)
    try:
        before = list(path.parent.iterdir())
        with open_to_read(str(path), answers=True) as journal:
            assert journal.get(key_of(0)) is not None
        assert list(path.parent.iterdir()) == before
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a b?#%20"])
def test_a_name_is_a_path_whatever_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store(Path(name), b"x")
    assert bodies(Path(name), 1) == [b"x"]
    with open_to_read(name) as journal:
        assert journal.answers == 1
    with pytest.raises(JournalError, match="unable to open"):
        open_to_read("none")
    assert (Journal.exists(name), Journal.exists("none")) == (True, False)


KILLED = """
import os, signal, sqlite3, sys
from codesynth.journal import Journal

class Connection(sqlite3.Connection):
    left = 0

    def execute(self, *args):
        if Connection.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        Connection.left -= 1
        return super().execute(*args)

connect = sqlite3.connect
sqlite3.connect = lambda *args, **more: connect(*args, factory=Connection, **more)
while True:
    Connection.left += 1
    if (child := os.fork()) == 0:
        Journal(f"{sys.argv[1]}/{Connection.left}")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_kill_while_it_is_made_leaves_no_ruin(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=True)
    made = sorted(path for path in tmp_path.iterdir() if path.name.isdigit())
    assert len(made) > 10
    for path in made:
        store(path, b"x")
        assert bodies(path, 1) == [b"x"]


# Damage.

SIZES = (10, 500, 3000, 17_000)
ANSWERS = [b"x" * SIZES[i % 4] + b"%d" % i for i in range(20)]
NOTES = {"seed": "123", "model": "m" * 40}
WHOLE = (ANSWERS, NOTES)


def state(path: Path) -> tuple[list[bytes | None], dict[str, str | None]]:
    found = bodies(path, 20)
    with Journal(str(path)) as journal:
        return found, {name: journal.get_note(name) for name in NOTES}


@functools.cache
def written() -> dict[str, dict[str, bytes]]:
    """The files of a journal after a run; and after a kill, when most of it is in the log."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        with Journal(str(path)) as journal:
            for name, value in NOTES.items():
                journal.set_note(name, value)
            for i in range(0, 20, 2):
                journal.put(StoredAnswer(key_of(n), ANSWERS[n], 3) for n in (i, i + 1))
            killed = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}
        return {"finished": {"": path.read_bytes()}, "killed": killed}


def lay_out(folder: str | Path, files: dict[str, bytes]) -> Path:
    path = Path(folder, "journal")
    for suffix, data in files.items():
        Path(f"{path}{suffix}").write_bytes(data)
    return path


def damaged(data: bytes, at: float, kind: str, seed: int) -> bytes:
    start = int(at * len(data))
    if kind == "cut":
        return data[:start]
    middle = bytes([data[start] ^ 1 << seed % 8])
    if kind != "flip":
        length = min(200 if kind == "garbage" else 32768, len(data) - start)
        middle = random.Random(seed).randbytes(length) if kind == "garbage" else bytes(length)
    return data[:start] + middle + data[start + len(middle) :]


KINDS = st.sampled_from(["flip", "garbage", "zeros", "cut"])
PLACES = st.floats(0, 1, exclude_max=True) | st.floats(0, 0.001)


@given(PLACES, KINDS, st.integers(0, 255))
@example(0.0, "flip", 0)
@example(68.1 / 32768, "flip", 0)
def test_damage_to_a_journal_is_told_and_left_as_it_is(at: float, kind: str, seed: int) -> None:
    data = damaged(written()["finished"][""], at, kind, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = lay_out(folder, {"": data})
        if not Journal.exists(str(path)):
            return  # cut to nothing: an output that belongs to it is refused then
        try:
            found = state(path)
        except JournalError:
            assert path.read_bytes() == data
        else:
            assert found == WHOLE


@pytest.mark.parametrize("tear", [lambda log: log[:-100], lambda log: log[:-1] + b"?"])
def test_a_torn_last_transaction_is_no_damage(
    tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    files = dict(written()["killed"])
    files["-wal"] = tear(files["-wal"])
    assert state(lay_out(tmp_path, files)) == (WHOLE[0][:18] + [None] * 2, NOTES)


@pytest.mark.parametrize("what", [key_of(3), b"seed123", ANSWERS[19]])
def test_an_entry_that_was_changed_is_damage(tmp_path: Path, what: bytes) -> None:
    data = written()["finished"][""]
    assert data.count(what) == 1
    path = lay_out(tmp_path, {"": data.replace(what, what[:-1] + b"?")})
    with pytest.raises(
        JournalError, match=r"is damaged: (an answer was changed|its note \"seed\")"
    ):
        state(path)


@pytest.mark.parametrize("content", [None, b"", b"x"])
def test_a_log_without_its_journal_is_forgotten(tmp_path: Path, content: bytes | None) -> None:
    """Who deletes the journal of a killed run wants to buy its answers again."""
    path = lay_out(tmp_path, written()["killed"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert state(path) == ([None] * 20, dict.fromkeys(NOTES))


# Other files.


def database(path: Path, *statements: str) -> None:
    db = sqlite3.connect(path)
    for statement in ("CREATE TABLE answer (key, answer)", *statements):
        db.execute(statement)
    db.close()


def journal_of_format_1(path: Path) -> None:
    database(path, "PRAGMA application_id=0x63647379", "PRAGMA user_version=1")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("dear diary\n" * 100), "is not a database"),
        (lambda path: path.write_text("hm"), "is not a database"),
        (database, "is not a journal"),
        (journal_of_format_1, "or is from another version of codesynth"),
        (lambda path: path.mkdir(), "Is a directory|disk I/O"),
    ],
)
def test_a_file_that_is_no_journal_is_left_as_it_is(
    path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(path)
    before = path.is_file() and path.read_bytes()
    for opened in (Journal, open_to_read):
        with pytest.raises(JournalError, match=says):
            opened(str(path))
    assert before == (path.is_file() and path.read_bytes())
    assert [each.name for each in path.parent.iterdir()] == [path.name]
