"""The journal's file: SQLite, held by one run at a time.

SQLite's write-ahead log with ``synchronous=FULL`` syncs at each commit, so what was stored
survives a power cut; its exclusive lock keeps a second run out and goes with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from codesynth.codec import dumps, loads
from codesynth.errors import BusyError, JournalError
from codesynth.models import Usage
from codesynth.serving import wal

_APPLICATION_ID = 0x63647379  # "cdsy"
_FORMAT = 1
_PAGE_BYTES = 32 << 10  # an answer shares its page with others, so little of it is empty
_LOG_PAGES = 256
_READ_AHEAD, _READ_AHEAD_BYTES, _KEPT_BYTES = 256, 1 << 20, 8 << 20
_NEAR = 1024  # how far apart answers may have come that were asked for one after the other
_RACE_SECONDS = 0.1  # two runs that start at once look twice, or both would find it taken
_LOCKED_BYTES = (510, 0x40000002)  # number and place of those that stand for SQLite's lock
_MOST = 2**63 - 1  # the largest integer that SQLite holds
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})

Answer = tuple[bytes, list[Any], Usage | None]
"""Key, answer and what it used."""


class _BrokenJournalError(JournalError):
    """It is a journal, but cannot be used."""


class Journal:
    """Answers by key, and what a run has to remember.

    Answers are appended; where to find which is worked out once, before they are asked for: an
    index that is kept on disk is written all over for each group of answers, and can be damaged.

    Usable from two threads, but to be opened once in a process: POSIX locks go with any
    descriptor of the file that is closed.

    Attributes:
        answers: how many it had when it was opened.

    Raises:
        BusyError: another run holds it.
        JournalError: it is damaged, from another version, no journal, or cannot be locked.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = Path(path).resolve()  # SQLite puts its log beside the file, not beside a link
        self._lock = threading.Lock()
        self._indexed = 0  # number of the last answer that can be found
        self._ahead: dict[bytes, bytes] = {}  # answers by key; used by the thread that asks
        self._ahead_bytes = self._found = 0
        self._look()
        with self._translated():
            options: dict[str, Any] = {"isolation_level": None, "check_same_thread": False}
            self._db = sqlite3.connect(self._file, timeout=_RACE_SECONDS, **options)
            try:
                self._open()
            except BaseException:
                self._db.close()
                raise

    def _look(self) -> None:
        """See what SQLite does not tell: whether there are locks here, whether its log is whole."""
        log = f"{self._file}-wal"
        try:
            with open(self.path, "ab") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, *_LOCKED_BYTES)
                except BlockingIOError as exc:
                    raise BusyError(f"another run holds {self.path}") from exc
                is_empty = not self.is_there(self.path)
                is_broken = wal.is_damaged(log) or (is_empty and self.is_there(log))
        except OSError as exc:
            raise JournalError(f"cannot open or lock {self.path}: {exc.strerror}") from exc
        if is_broken:
            raise self._broken("a part is missing")

    def _open(self) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA page_size={_PAGE_BYTES}")  # of a new one
        db.execute("BEGIN EXCLUSIVE")
        [[tables]] = db.execute("SELECT count(*) FROM sqlite_master")
        [[application]] = db.execute("PRAGMA application_id")
        [[version]] = db.execute("PRAGMA user_version")
        if tables == application == version == 0:
            self._create()
        elif application != _APPLICATION_ID:
            raise JournalError(f"{self.path} is no journal. Choose another --journal")
        elif version != _FORMAT:
            raise _BrokenJournalError(
                f"{self.path} was written by another version of codesynth. Use that one, or "
                "start afresh with --overwrite"
            )
        else:
            self._check()
        [[self.answers]] = db.execute("SELECT count(*) FROM answer")
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
        db.execute("CREATE TEMP TABLE place (key BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")

    def _create(self) -> None:
        """Make the tables before there is a log: a journal is there as a whole, or empty."""
        for statement in (
            f"PRAGMA application_id={_APPLICATION_ID}",
            f"PRAGMA user_version={_FORMAT}",
            "CREATE TABLE note (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
            """CREATE TABLE answer (number INTEGER PRIMARY KEY, key BLOB NOT NULL,
                answer BLOB NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER)""",
        ):
            self._db.execute(statement)

    def _check(self) -> None:
        [[found]] = self._db.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise self._broken(found)
        self._db.create_function("is_whole", 2, _is_whole, deterministic=True)
        for select in (
            "SELECT count(*) FROM answer WHERE NOT is_whole(key, answer)",
            "SELECT count(*) FROM note WHERE NOT is_whole(CAST(name AS BLOB), value)",
        ):
            [[broken]] = self._db.execute(select)
            if broken:
                raise self._broken(f"check sums of {broken} entries are wrong")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):  # all that matters is committed
            self._db.close()

    @staticmethod
    def is_there(path: str) -> bool:
        """Tell whether a journal was begun at a path.

        Raises:
            JournalError: nobody can tell.
        """
        try:
            return Path(path).stat().st_size > 1  # SQLite takes a single byte for nothing
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as exc:
            raise JournalError(f"cannot read {path}: {exc.strerror}") from exc

    @staticmethod
    def remove(path: str) -> None:
        """Take a journal away, a damaged one too, with its log.

        Raises:
            BusyError: a run holds it.
            JournalError: it is no journal, or cannot be removed.
        """
        with contextlib.suppress(_BrokenJournalError):
            Journal(path).__exit__()
        file = Path(path).resolve()
        try:
            for name in (file, f"{file}-wal", f"{file}-shm"):
                Path(name).unlink(missing_ok=True)
        except OSError as exc:
            raise JournalError(f"cannot remove {path}: {exc.strerror}") from exc

    def note(self, name: str) -> str | None:
        """Recall a note.

        Raises:
            JournalError: it is there but damaged.
        """
        with self._translated():
            row = self._db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return self._unseal(name.encode(), row[0]).decode() if row else None

    def set_note(self, name: str, value: str) -> None:
        """Remember a note for the next run."""
        sealed = _seal(name.encode(), value.encode())
        with self._translated():
            self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, sealed))

    def spent(self) -> Usage:
        """Sum the tokens of all answers."""
        with self._translated():
            [[prompt, completion]] = self._db.execute(
                "SELECT total(prompt_tokens), total(completion_tokens) FROM answer"
            )
        return Usage(int(prompt), int(completion))

    def index(self) -> int:
        """Make what has been stored so far findable; return how many answers that are."""
        with self._translated():
            self._db.execute(
                "INSERT OR REPLACE INTO place"
                " SELECT key, number FROM answer WHERE number > ? ORDER BY key, number",
                (self._indexed,),
            )
            [[self._indexed]] = self._db.execute("SELECT coalesce(max(number), 0) FROM answer")
            [[count]] = self._db.execute("SELECT count(*) FROM place")
        return int(count)

    def get(self, key: bytes) -> list[Any] | None:
        """Find an answer that was stored before ``index`` was called.

        A rerun asks for answers much as they were stored, so those behind one are read with it,
        unless it lies far from the one before.

        Raises:
            JournalError: it is there but damaged.
        """
        sealed = self._ahead.pop(key, None)
        if sealed is None:
            with self._translated():
                sealed = self._read_ahead(key)
        if sealed is None:
            return None
        self._ahead_bytes -= len(sealed)
        answer: list[Any] = loads(self._unseal(key, sealed))
        return answer

    def _read_ahead(self, key: bytes) -> bytes | None:
        place = self._db.execute("SELECT number FROM place WHERE key = ?", (key,)).fetchone()
        if place is None:
            return None
        before, self._found = self._found, place[0]
        if self._ahead_bytes > _KEPT_BYTES:
            self._ahead.clear()
            self._ahead_bytes = 0
        size, most = 0, _READ_AHEAD if abs(self._found - before) < _NEAR else 1
        rows = self._db.execute("SELECT key, answer FROM answer WHERE number >= ?", place)
        for other, sealed in itertools.islice(rows, most):
            self._ahead[other] = sealed
            size += len(sealed)
            if size > _READ_AHEAD_BYTES:
                break
        self._ahead_bytes += size
        return self._ahead.pop(key)

    def put(self, answers: Iterable[Answer]) -> None:
        """Store answers in one transaction; back when they are on the disk."""
        rows = [_row(*answer) for answer in answers]
        with self._translated():
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT INTO answer VALUES (NULL, ?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def _unseal(self, key: bytes, sealed: bytes) -> bytes:
        if not _is_whole(key, sealed):
            raise self._broken("a check sum is wrong")
        return sealed[:-4]

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Hold the lock between threads; word SQLite's errors."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as exc:
            code = (getattr(exc, "sqlite_errorcode", None) or 0) & 0xFF
            if code in _BUSY:
                raise BusyError(f"another run holds {self.path}") from exc
            if code == sqlite3.SQLITE_NOTADB:
                words = f"{self.path} is no journal, or its beginning is damaged. Move it away"
                raise JournalError(f"{words}, or choose another --journal") from exc
            if code == sqlite3.SQLITE_CORRUPT:
                raise self._broken(str(exc)) from exc
            raise JournalError(f"cannot use {self.path}: {exc}") from exc

    def _broken(self, words: str) -> JournalError:
        return _BrokenJournalError(
            f"{self.path} is damaged: {words}. Restore it, or move it away and start afresh"
        )


def _row(key: bytes, answer: list[Any], usage: Usage | None) -> tuple[bytes, bytes, int, int]:
    used = usage or Usage()
    tokens = min(used.prompt_tokens, _MOST), min(used.completion_tokens, _MOST)
    return key, _seal(key, dumps(answer)), *tokens


def _seal(key: bytes, data: bytes) -> bytes:
    """Append a check sum of data and the key it belongs to."""
    return data + zlib.crc32(data, zlib.crc32(key)).to_bytes(4, "big")


def _is_whole(key: bytes, sealed: bytes) -> bool:
    return _seal(key, sealed[:-4]) == sealed
