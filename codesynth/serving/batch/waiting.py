"""Requests that wait for a batch, or for the results of one, on the disk."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
import tempfile
import threading
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from codesynth.errors import OutputError
from codesynth.models import Request

UNSENT = 0
"""The number of no batch."""
_GROUP = 200
_SETUP = (
    "PRAGMA journal_mode=OFF",
    "PRAGMA synchronous=OFF",
    """CREATE TABLE row (number INTEGER PRIMARY KEY, key BLOB UNIQUE, batch INTEGER,
        attempts INTEGER, reserved REAL, request BLOB)""",
    "CREATE INDEX by_batch ON row (batch, number)",
    "BEGIN",  # without an end: nobody needs these rows after this process
)


class WaitingRow(NamedTuple):
    """A request, if this run has one for its key, and what was tried so far.

    Attributes:
        attempts: batches that it was in and that ended without an answer.
        reserved: money set aside for it.
    """

    number: int
    key: bytes
    request: Request | None
    attempts: int
    reserved: float | None


class Waiting:
    """Rows by the key of their request and by the number of their batch; for several threads.

    Attributes:
        unsent: rows that are in no batch.

    Raises:
        OutputError: the temporary file cannot be used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.unsent = 0
        with _translated():
            # A database without a name: SQLite keeps it in TMPDIR, where nobody sees it.
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for statement in _SETUP:
                self._db.execute(statement)

    def expect(self, batch: int, keys: Iterable[tuple[bytes, int]]) -> None:
        """Note the keys that are in a batch already, each with its attempts before that."""
        self._run(
            "INSERT OR IGNORE INTO row (key, batch, attempts) VALUES (?, ?, ?)",
            ((key, batch, attempts) for key, attempts in keys),
        )

    def add(self, request: Request, reserved: float | None) -> None:
        """Take a request: for the batch that has its key, or for one that is to be made.

        Raises:
            OutputError: a request with this key waits already.
        """
        data = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        expected = "UPDATE row SET request = ?, reserved = ? WHERE key = ? AND request IS NULL"
        if not self._run(expected, [(data, reserved, request.key)]):
            new = "INSERT INTO row (key, batch, attempts, request) VALUES (?, ?, 0, ?)"
            self._run(new, [(request.key, UNSENT, data)], unsent=1)

    def holds(self, key: bytes) -> bool:
        """Tell whether a key is in a batch, or waits for one."""
        return bool(self._fetch("SELECT 1 FROM row WHERE key = ?", key))

    def find(self, key: bytes, batch: int) -> WaitingRow | None:
        """Find what waits for a result of a batch."""
        found = self._fetch("SELECT * FROM row WHERE key = ? AND batch = ?", key, batch)
        return _read(found[0]) if found else None

    def rows(self, batch: int) -> Iterator[WaitingRow]:
        """Go through the rows of a batch in the order in which they came."""
        last = -1
        query = "SELECT * FROM row WHERE batch = ? AND number > ? ORDER BY number LIMIT ?"
        while found := self._fetch(query, batch, last, _GROUP):
            yield from map(_read, found)
            last = found[-1][0]

    def assign(self, batch: int, rows: Iterable[tuple[int, float | None]]) -> None:
        """Put unsent rows into a batch: their numbers, with the money set aside for each."""
        changes = ((batch, reserved, number) for number, reserved in rows)
        query = "UPDATE row SET batch = ?, reserved = ? WHERE number = ?"
        self._run(query, changes, unsent=-1)

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget rows."""
        self._run("DELETE FROM row WHERE number = ?", ((number,) for number in numbers))

    def give_back(self, batch: int, attempts: int) -> None:
        """Let the rows of a batch wait for another one; forget keys without a request."""
        self._run("DELETE FROM row WHERE batch = ? AND request IS NULL", [(batch,)])
        query = "UPDATE row SET batch = ?, attempts = attempts + ? WHERE batch = ?"
        self._run(query, [(UNSENT, attempts, batch)], unsent=1)

    def _run(self, query: str, values: Iterable[tuple[Any, ...]], *, unsent: int = 0) -> int:
        """Change rows, and ``unsent`` by so much for each of them; return their number."""
        with self._lock, _translated():
            changed = self._db.executemany(query, values).rowcount
            self.unsent += unsent * changed
            return changed

    def _fetch(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock, _translated():
            return self._db.execute(query, values).fetchall()


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """Open a temporary file that nobody else sees; OutputError where it cannot be used."""
    with _translated(), tempfile.TemporaryFile(prefix="codesynth-") as file:
        yield file


def _read(columns: tuple[Any, ...]) -> WaitingRow:
    number, key, _, attempts, reserved, data = columns
    request = data and pickle.loads(data)  # noqa: S301 - it was written by this process
    return WaitingRow(number, key, request, attempts, reserved)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as exc:
        fix = "Set TMPDIR to a folder with room"
        raise OutputError(f"cannot use a temporary file: {exc}. {fix}") from exc
