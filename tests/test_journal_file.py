"""The journal's file: what is in it, who may use it, and that damage anywhere in it is told."""

import fcntl
import functools
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from asked import Asked, newly_asked, run
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesynth.errors import BusyError, JournalError
from codesynth.models import Response, Usage
from codesynth.serving.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.journal"


@given(st.text(st.characters()), st.integers(0, 2**64 - 1))
@example("\ud800 \x00 \u2028", 2**63)
@settings(deadline=None, max_examples=15)
def test_any_text_comes_back_as_it_was(text: str, tokens: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        run(path, "a", Asked(lambda request: Response(request, text, usage=Usage(tokens, 1))))
        [again] = run(path, "a", Asked()).values()
        assert (again.text, again.usage) == (text, Usage(tokens, 1))


def test_tokens_are_summed_over_all_runs(path: Path) -> None:
    usages = iter([Usage(10, 1), None, Usage(30, 3)])
    run(path, "abc", Asked(lambda request: Response(request, "x", usage=next(usages))))
    with Journal(str(path)) as journal:
        assert journal.spent() == Usage(40, 4)
        assert journal.answers == 3


def test_notes_are_remembered(path: Path) -> None:
    with Journal(str(path)) as journal:
        assert journal.note("seed") is None
        journal.set_note("seed", "1")
        journal.set_note("seed", "2")
    with Journal(str(path)) as journal:
        assert journal.note("seed") == "2"


def test_answers_of_any_size_share_their_pages(path: Path) -> None:
    texts = [str(i) for i in range(300)]
    answers = Asked(lambda request: Response(request, "x" * 2100))
    run(path, texts, answers)
    assert path.stat().st_size < 1.3 * 300 * 2100


def test_two_threads_may_read_and_write_at_once(path: Path) -> None:
    keys = [b"%016d" % i for i in range(120)]
    with Journal(str(path)) as journal:

        def write() -> None:
            for key in keys:
                journal.put([(key, [key.decode()], None)])

        writer = threading.Thread(target=write)
        writer.start()
        while writer.is_alive():
            found = journal.index()
            assert [journal.get(key) for key in keys[:found:7]] == [
                [key.decode()] for key in keys[:found:7]
            ]
        writer.join()
        assert journal.index() == 120
        assert all(journal.get(key) == [key.decode()] for key in reversed(keys))


def test_no_more_is_read_ahead_than_fits_into_some_megabytes(path: Path) -> None:
    keys = [b"%016d" % i for i in range(120)]
    with Journal(str(path)) as journal:
        for key in keys:
            journal.put([(key, ["x" * 500_000], None)])
        journal.index()
        tracemalloc.start()
        for key in keys[::2]:
            assert journal.get(key) == ["x" * 500_000]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 20 << 20


def test_a_second_run_is_told_that_there_is_a_first(path: Path) -> None:
    command = [sys.executable, "-c", "import sys; from codesynth.serving.journal import Journal\n"]
    command[-1] += "with Journal(sys.argv[1]): print(1, flush=True); sys.stdin.read()"
    first = subprocess.Popen(
        [*command, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with first:
        assert first.stdout is not None
        first.stdout.readline()
        before = path.read_bytes()
        with pytest.raises(BusyError, match="another run holds"):
            Journal(str(path))
        with pytest.raises(BusyError, match="another run holds"):
            Journal.remove(str(path))
        assert path.read_bytes() == before
        first.kill()
    assert newly_asked(path, "a") == ["a"]  # the lock went with its owner


def test_where_no_lock_can_be_had_that_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(JournalError, match=r"cannot open or lock .*: No locks available"):
        Journal(str(path))


def test_a_name_is_a_path_whatever_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:x?mode=memory", "a b?#%20"):
        run(Path(name), "a", Asked())
        assert newly_asked(Path(name), "a") == []
        assert Journal.is_there(name)


def test_the_log_of_a_linked_journal_is_found(tmp_path: Path, path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    with Journal(str(link)) as journal:
        journal.put([(b"key", ["x"], None)])
        assert Path(f"{path}-wal").stat().st_size > 0
    Journal.remove(str(link))
    assert not path.exists()


KILLED = """
import os, signal, sqlite3, sys
from codesynth.serving.journal import Journal

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
        assert newly_asked(path, "a") == ["a"]


KEYS = [b"%016d" % i for i in range(20)]
SIZES = (10, 500, 3000, 17_000)
ANSWERS = {key: ["x" * SIZES[i % 4] + str(i), "stop", "m", 1] for i, key in enumerate(KEYS)}
NOTES = {"seed": "123", "model": "m" * 40}


def state(path: Path) -> object:
    with Journal(str(path)) as journal:
        journal.index()
        answers = {key: journal.get(key) for key in KEYS}
        return answers, {name: journal.note(name) for name in NOTES}


@functools.cache
def written() -> dict[str, dict[str, bytes]]:
    """The files of a journal after a run, and after a kill."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        with Journal(str(path)) as journal:
            for name, value in NOTES.items():
                journal.set_note(name, value)
            for some in zip(KEYS[::2], KEYS[1::2], strict=True):
                journal.put((key, ANSWERS[key], None) for key in some)
            killed = {suffix: Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")}
        return {"finished": {"": path.read_bytes()}, "killed": killed}


def lay_out(folder: str, files: dict[str, bytes]) -> Path:
    path = Path(folder, "journal")
    for suffix, data in files.items():
        Path(f"{path}{suffix}").write_bytes(data)
    return path


def damaged(data: bytes, at: float, kind: str, seed: int) -> bytes:
    start = int(at * len(data))
    if kind == "cut":
        return data[:start]
    length = {"flip": 1, "garbage": 200, "zeros": 200, "page": 16384}[kind]
    end = min(start + length, len(data))
    if kind == "flip":
        middle = bytes([data[start] ^ 1 << seed % 8])
    else:
        middle = (
            bytes(end - start) if kind != "garbage" else random.Random(seed).randbytes(end - start)
        )
    return data[:start] + middle + data[end:]


KINDS = st.sampled_from(["flip", "garbage", "zeros", "page", "cut"])
PLACES = st.floats(0, 1, exclude_max=True) | st.floats(0, 0.001)
FUZZ = settings(deadline=None, max_examples=30)


@given(PLACES, KINDS, st.integers(0, 255))
@example(0.0, "flip", 0)
@example(68.1 / 16384, "flip", 0)
@FUZZ
def test_damage_to_a_journal_is_told_and_left_as_it_is(at: float, kind: str, seed: int) -> None:
    data = damaged(written()["finished"][""], at, kind, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = lay_out(folder, {"": data})
        if not Journal.is_there(str(path)):
            return  # cut to nothing: an output that belongs to it is refused then
        try:
            found = state(path)
        except JournalError:
            assert path.read_bytes() == data
        else:
            assert found == (ANSWERS, NOTES)


@given(PLACES, KINDS.filter(lambda kind: kind != "cut"), st.integers(0, 255), st.booleans())
@example(0.5, "flip", 0, False)
@FUZZ
def test_damage_after_a_kill_is_told_too(at: float, kind: str, seed: int, in_log: bool) -> None:
    files = dict(written()["killed"])
    suffix = "-wal" if in_log else ""
    # SQLite takes a broken last transaction for one that never was, as it is after a power cut.
    files[suffix] = damaged(files[suffix], at * (0.7 if in_log else 1.0), kind, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = lay_out(folder, files)
        try:
            found = state(path)
        except JournalError:
            assert not in_log or Path(f"{path}-wal").read_bytes() == files["-wal"]
        else:
            assert found == (ANSWERS, NOTES)


@pytest.mark.parametrize("tear", [lambda log: log[:-100], lambda log: log[:-1] + b"?"])
def test_a_torn_last_transaction_is_no_damage(
    tmp_path: Path, tear: Callable[[bytes], bytes]
) -> None:
    files = dict(written()["killed"])
    files["-wal"] = tear(files["-wal"])
    answers, notes = state(lay_out(str(tmp_path), files))  # type: ignore[misc]
    assert [key for key in KEYS if answers[key] is None] == KEYS[-2:]
    assert notes == NOTES


@pytest.mark.parametrize("what", [*KEYS[3:5], b"seed", b"xxx19"])
def test_an_entry_under_another_name_is_damage(tmp_path: Path, what: bytes) -> None:
    data = written()["finished"][""]
    assert data.count(what) == 1
    path = lay_out(str(tmp_path), {"": data.replace(what, what[:-1] + b"?")})
    with pytest.raises(JournalError, match="is damaged: check sums of 1 entries are wrong"):
        Journal(str(path))


def test_answers_that_are_cut_off_are_damage(tmp_path: Path) -> None:
    data = bytearray(written()["finished"][""])
    page = int.from_bytes(data[16:18], "big")
    [branch] = [at for at in range(0, len(data), page) if data[at] == 5]
    data[branch + 4] -= 1  # of the leaves it leads to
    with pytest.raises(JournalError, match="is damaged"):
        Journal(str(lay_out(str(tmp_path), {"": bytes(data)})))


@pytest.mark.parametrize("content", [None, b"", b"x"])
def test_a_log_without_its_journal_is_no_new_journal(tmp_path: Path, content: bytes | None) -> None:
    path = lay_out(str(tmp_path), written()["killed"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(JournalError, match="is damaged: a part is missing"):
        Journal(str(path))
    assert Path(f"{path}-wal").read_bytes() == written()["killed"]["-wal"]


def foreign_database(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE answer (key, answer)")
    db.close()


def newer_journal(path: Path) -> None:
    Journal(str(path)).__exit__()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text("dear diary\n" * 100), "is no journal"),
        (lambda path: path.write_text("hm"), "is no journal"),
        (foreign_database, "is no journal"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_a_file_that_is_no_journal_is_neither_used_nor_removed(
    path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(path)
    before = path.is_file() and path.read_bytes()
    for use in (Journal, Journal.remove):
        with pytest.raises(JournalError, match=says):
            use(str(path))
    assert before == (path.is_file() and path.read_bytes())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_journal_of_another_version_is_told_and_may_be_removed(path: Path) -> None:
    newer_journal(path)
    with pytest.raises(JournalError, match="written by another version"):
        Journal(str(path))
    Journal.remove(str(path))
    assert not path.exists()


def test_a_damaged_journal_may_be_removed(tmp_path: Path) -> None:
    data = written()["finished"][""]
    path = lay_out(str(tmp_path), {"": data[: len(data) // 2]})
    with pytest.raises(JournalError, match="is damaged"):
        Journal(str(path))
    Journal.remove(str(path))
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_remove_is_fine(path: Path) -> None:
    Journal.remove(str(path))
    assert not path.exists()
