"""The journal's file: every answer that was paid for, in an SQLite database.

The write-ahead log with ``synchronous=FULL`` syncs at each commit, so what was stored survives a
power cut. SQLite's exclusive lock keeps a second run out and ends with the process. It needs no
shared memory, so a journal may lie on a network file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from codesynth.errors import BusyError, JournalError
from codesynth.models import Usage

_APPLICATION_ID = 0x63647379  # "cdsy"
_FORMAT = 2
_BLOCK, _BLOCK_BYTES, _KEPT_BLOCKS = 64, 256 << 10, 64
_NEAR = 1024  # between the answers to neighbouring requests there are seldom more answers
_TRIES, _TRY_SECONDS = 4, 0.1
_SETTINGS = (
    "PRAGMA locking_mode=EXCLUSIVE",
    "PRAGMA synchronous=FULL",
    "PRAGMA page_size=32768",  # of a new file: answers share a page, so little of it stays empty
)
_TABLES = (
    f"PRAGMA application_id={_APPLICATION_ID}",
    f"PRAGMA user_version={_FORMAT}",
    "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT, check_sum INTEGER) WITHOUT ROWID",
    # Numbered from 1 without a gap. The sums are of all answers so far: the last one has the total.
    """CREATE TABLE answer (number INTEGER PRIMARY KEY, prompt_sum INTEGER, completion_sum INTEGER,
        time REAL, seconds REAL, key BLOB, attempts INTEGER, check_sum INTEGER, body BLOB)""",
    """CREATE TABLE batch (number INTEGER PRIMARY KEY, uuid TEXT, requests INTEGER, keys BLOB,
        file TEXT, id TEXT)""",
)
_TOTAL = "SELECT number, prompt_sum, completion_sum FROM answer ORDER BY number DESC LIMIT 1"
# An index in the file would be rewritten in many places for each group of answers.
_PLACE = "CREATE TEMP TABLE IF NOT EXISTS place (key PRIMARY KEY, number) WITHOUT ROWID"
# Here and below LIMIT ends the reading before the pages that a run may just be writing.
_INDEX = """INSERT OR REPLACE INTO place SELECT key, number
    FROM (SELECT key, number FROM answer WHERE number > ? LIMIT ?) ORDER BY key, number"""
_READ = """SELECT key, body, attempts, seconds, check_sum
    FROM (SELECT * FROM answer WHERE number >= ? LIMIT ?) AS answer"""
_NEWEST = "NATURAL JOIN place"  # doubles the time: used only if a key is stored twice


class StoredAnswer(NamedTuple):
    """One answer.

    Attributes:
        seconds: duration of its last attempt; 0 if not known.
        used: its tokens. They are stored as a sum over all answers, so ``get`` leaves them 0.
    """

    key: bytes
    body: bytes
    attempts: int = 1
    seconds: float = 0.0
    used: Usage = Usage()


class Journal:
    """Answers by key, and notes for the next run; usable from several threads.

    Open a journal only once in a process: closing any descriptor of the file releases the lock.

    Args:
        path: the file; it is made if it does not exist.
        read_only: see ``open_to_read``.
        find_answers: call ``refresh`` at once.
        clock: seconds since the epoch.

    Attributes:
        answers: how many it holds.
        spent: the tokens of all of them.

    Raises:
        BusyError: another run holds it.
        JournalError: it is damaged, of another format, or no journal.

    >>> import tempfile
    >>> with Journal(tempfile.mkdtemp() + "/out.journal") as journal:
    ...     journal.put([StoredAnswer(b"key", b"{}")])
    ...     journal.get(b"key").body
    b'{}'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        find_answers: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, self._clock = os.fspath(path), clock
        self._file = Path(path).resolve()  # SQLite's log is next to the file, not next to a link
        self._lock = threading.RLock()
        self._read, self._indexed, self._last = _READ, 0, 0
        self._block = 0  # so many answers are read at once; 0 before the first ``refresh``
        self._ahead: dict[bytes, StoredAnswer] = {}
        with self._translated():
            if not read_only:
                self._file.open("ab").close()  # SQLite would not say why it cannot write
            self._db = sqlite3.connect(
                f"{self._file.as_uri()}?mode=ro&immutable=1" if read_only else self._file,
                timeout=0.3,  # another process may be recovering what a killed run left
                isolation_level=None,
                check_same_thread=False,
                uri=read_only,
            )
            try:
                self._check_format() if read_only else self._lock_and_recover()
                self.answers, *spent = (self.execute(_TOTAL) or [(0, 0, 0)])[0]
                self.spent = Usage(*spent)
                if find_answers:
                    self.refresh()
            except BaseException:
                self._db.close()
                raise

    def _lock_and_recover(self) -> None:
        """Lock the file, make the tables of a new one, and recover what a killed run left."""
        for statement in (*_SETTINGS, "BEGIN EXCLUSIVE"):
            self.execute(statement)
        if self.execute("PRAGMA schema_version") == [(0,)]:
            for statement in _TABLES:  # in one transaction: a killed run leaves all tables or none
                self.execute(statement)
        self.execute("COMMIT")
        self._check_format()
        self.execute("PRAGMA journal_mode=WAL")
        [(found,), *_] = self.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise self._damaged(found)
        self.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _check_format(self) -> None:
        pragmas = ("PRAGMA application_id", "PRAGMA user_version")
        if [self.execute(each) for each in pragmas] != [[(_APPLICATION_ID,)], [(_FORMAT,)]]:
            raise JournalError(
                f"{self.path} is not a journal, or is from another version of codesynth. Choose "
                "another --journal, or move it away: its answers are then bought again"
            )

    @staticmethod
    def exists(path: str) -> bool:
        """Tell whether a journal was begun at a path."""
        return Path(path).is_file() and Path(path).stat().st_size > 0

    @staticmethod
    def is_held(path: str) -> bool:
        """Tell whether another process holds a journal, without locking it.

        Never call it for a journal that this process holds: that would release its lock.
        """
        question = struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0)  # Linux's struct flock
        with open(path, "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, question)
        return bool(struct.unpack("hhqqi", answer)[0] != fcntl.F_UNLCK)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):  # all that matters is committed
            self._db.close()

    def execute(self, statement: str, *values: object) -> list[Any]:
        """Run one statement; what it changes is on the disk when it returns."""
        with self._translated():
            return self._db.execute(statement, values).fetchall()

    def get_note(self, name: str) -> str | None:
        """Read a note of this or an earlier run; None if there is none."""
        rows = self.execute("SELECT value, check_sum FROM note WHERE name = ?", name)
        for value, check_sum in rows:
            if check_sum != _crc(name.encode(), str(value).encode()):
                raise self._damaged(f'its note "{name}" was changed')
            return str(value)
        return None

    def set_note(self, name: str, value: str) -> None:
        """Store a note for later runs, and let ``open_to_read`` see all that is stored."""
        if value != self.get_note(name):
            check_sum = _crc(name.encode(), value.encode())
            self.execute("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", name, value, check_sum)
            self.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def times(self) -> Iterator[tuple[float, float]]:
        """Yield when each answer was stored, and how many seconds its last attempt took."""
        query = "SELECT time, seconds FROM answer ORDER BY number LIMIT ?"
        with self._translated():
            yield from self._db.execute(query, (self.answers,))

    def put(self, answers: Iterable[StoredAnswer]) -> None:
        """Store answers in one transaction; return when they are on the disk."""
        with self._lock:
            now, rows, number = self._clock(), [], self.answers
            prompt, completion = self.spent.prompt_tokens, self.spent.completion_tokens
            for key, body, attempts, seconds, used in answers:
                number += 1
                prompt += used.prompt_tokens
                completion += used.completion_tokens
                about = (key, attempts, _crc(key, body, attempts), body)
                rows.append((number, prompt, completion, now, seconds, *about))
            with self._translated(), self._db:  # it commits, or rolls back after an error
                self._db.execute("BEGIN")
                self._db.executemany("INSERT INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            self.answers, self.spent = number, Usage(prompt, completion)

    def refresh(self) -> None:
        """Let ``get`` find all answers stored so far; takes about a microsecond per answer."""
        with self._translated():
            self.execute(_PLACE)
            self.execute(_INDEX, self._indexed, self.answers - self._indexed)
            self._indexed = self.answers
            is_unique = self.execute("SELECT count(*) FROM place") == [(self.answers,)]
            self._read = _READ if is_unique else f"{_READ} {_NEWEST}"
            average = self._file.stat().st_size // max(1, self.answers)
            self._block = max(1, min(_BLOCK, _BLOCK_BYTES // (average + 1)))

    def get(self, key: bytes) -> StoredAnswer | None:
        """Find an answer that was stored before the last ``refresh``; the first call refreshes.

        Raises:
            JournalError: the answer, or one stored near it, is damaged.
        """
        if not self._block:
            self.refresh()
        return self._ahead.pop(key, None) or (self._read_ahead(key) if self._indexed else None)

    def _read_ahead(self, key: bytes) -> StoredAnswer | None:
        """Read a block of answers: a rerun needs them in nearly the order they were stored in."""
        with self._translated():
            rows = self.execute("SELECT number FROM place WHERE key = ?", key)
            if not rows:
                return None
            before, self._last = self._last, rows[0][0]
            first, count = self._last, 1
            if abs(first - before) < _NEAR:  # else the rows were shuffled
                first -= first % self._block
                count = min(self._block, self._indexed + 1 - first)
            if len(self._ahead) > _KEPT_BLOCKS * self._block:
                self._ahead.clear()
            for row in self.execute(self._read, first, count):
                its_key, body, attempts, seconds, check_sum = row
                if check_sum != _crc(its_key, body, attempts):
                    raise self._damaged("an answer was changed")
                self._ahead[its_key] = StoredAnswer(its_key, body, attempts, seconds)
            return self._ahead.pop(key, None)  # another run may have moved it meanwhile

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Hold the lock between threads; turn errors of SQLite and the system into ours."""
        try:
            with self._lock:
                yield
        except OSError as exc:
            raise JournalError(f"cannot open {self.path}: {exc.strerror}") from exc
        except sqlite3.Error as exc:
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # not all of them have one
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise BusyError(f"another run holds {self.path}") from exc
            if code == sqlite3.SQLITE_NOTADB:
                words = f"{self.path} is not a journal, or it is damaged: {exc}"
                raise JournalError(f"{words}. Choose another --journal, or restore it") from exc
            if code == sqlite3.SQLITE_CORRUPT:
                raise self._damaged(str(exc)) from exc
            raise JournalError(f"cannot use {self.path}: {exc}") from exc

    def _damaged(self, words: str) -> JournalError:
        return JournalError(
            f"{self.path} is damaged: {words}. Restore it, or move it away and start afresh"
        )


def open_to_read(path: str, *, answers: bool = False) -> Journal:
    """Open a journal without a lock; a run may go on writing to it.

    Answers that the run stored after its latest note may be missing.

    Args:
        answers: ``get`` will be called. What a killed run left in SQLite's log is then recovered
            first, so the file must be writable.

    Raises:
        JournalError: see ``Journal``.
    """
    if answers and Path(f"{Path(path).resolve()}-wal").exists():
        with contextlib.suppress(BusyError), Journal(path):
            pass  # if another run is using the journal, that run has recovered it
    for _ in range(_TRIES):
        with contextlib.suppress(JournalError):  # while a run is writing, it may look damaged
            return Journal(path, read_only=True, find_answers=answers)
        time.sleep(_TRY_SECONDS)
    return Journal(path, read_only=True, find_answers=answers)


def _crc(key: bytes, body: bytes, attempts: int = 1) -> int:
    return zlib.crc32(body, zlib.crc32(key, attempts))
