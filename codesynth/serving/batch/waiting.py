"""Requests on the disk that wait to be put into a batch, or for the results of their batch."""

from __future__ import annotations

import contextlib
import pickle
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from codesynth.models import Request
from codesynth.storage.scratch import scratch_errors

UNSENT = 0
"""In place of a batch's number: the row is in no batch."""
_GROUP = 200
_TABLE = """PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;
    CREATE TABLE row (number INTEGER PRIMARY KEY, key BLOB UNIQUE, batch, attempts, request);
    CREATE INDEX by_batch ON row (batch, number);
    BEGIN"""  # never committed: nobody needs these rows after this process
_EXPECT = """INSERT INTO row (key, batch, attempts) VALUES (?, ?, ?)
    ON CONFLICT (key) DO UPDATE SET batch = excluded.batch, attempts = excluded.attempts"""


class WaitingRow(NamedTuple):
    """A waiting row.

    Attributes:
        request: None if this run has not made the request yet.
        attempts: batches that gave no answer to it.
    """

    number: int
    key: bytes
    request: Request | None
    attempts: int


class Waiting:
    """Rows by the key of their request and by the number of their batch; for one thread at a time.

    Raises:
        OutputError: the temporary file cannot be used.
    """

    def __init__(self) -> None:
        with scratch_errors(sqlite3.Error):
            # A database without a name: SQLite keeps it in TMPDIR, where nobody sees it.
            self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._db.executescript(_TABLE)

    def add(self, request: Request) -> None:
        """Take a request that is in no batch."""
        data = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        values = (request.key, UNSENT, 0, data)
        self._do("INSERT INTO row (key, batch, attempts, request) VALUES (?, ?, ?, ?)", *values)

    def expect(self, batch: int, keys: Mapping[bytes, int]) -> None:
        """Note the keys that are in a batch already, each with its attempts before that."""
        for key, attempts in keys.items():
            self._do(_EXPECT, key, batch, attempts)

    def holds(self, key: bytes) -> bool:
        """Tell whether a key is in a batch, or waits for one."""
        return bool(self._do("SELECT 1 FROM row WHERE key = ?", key))

    @property
    def unsent(self) -> int:
        """Count the rows that are in no batch."""
        return int(self._do("SELECT count(*) FROM row WHERE batch = ?", UNSENT)[0][0])

    def find(self, key: bytes, batch: int) -> WaitingRow | None:
        """Find the row of a batch by its key."""
        found = self._do("SELECT * FROM row WHERE key = ? AND batch = ?", key, batch)
        return _read(found[0]) if found else None

    def rows(self, batch: int) -> Iterator[WaitingRow]:
        """Go through the rows of a batch in the order in which they came."""
        last = -1
        query = "SELECT * FROM row WHERE batch = ? AND number > ? ORDER BY number LIMIT ?"
        while found := self._do(query, batch, last, _GROUP):
            yield from map(_read, found)
            last = found[-1][0]

    def assign(self, batch: int, last: int) -> None:
        """Put the unsent rows up to a number into a batch."""
        query = "UPDATE row SET batch = ? WHERE batch = ? AND number <= ?"
        self._do(query, batch, UNSENT, last)

    def drop(self, rows: Iterable[WaitingRow]) -> None:
        """Forget rows."""
        for row in rows:
            self._do("DELETE FROM row WHERE number = ?", row.number)

    def give_back(self, batch: int, attempts: int) -> None:
        """Let the rows of a batch wait for another one; forget keys without a request."""
        self._do("DELETE FROM row WHERE batch = ? AND request IS NULL", batch)
        query = "UPDATE row SET batch = ?, attempts = attempts + ? WHERE batch = ?"
        self._do(query, UNSENT, attempts, batch)

    def _do(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with scratch_errors(sqlite3.Error):
            return self._db.execute(statement, values).fetchall()


@contextlib.contextmanager
def scratch_file() -> Iterator[BinaryIO]:
    """Open a temporary file that nobody else sees; OutputError where it cannot be used."""
    with scratch_errors(), tempfile.TemporaryFile(prefix="codesynth-") as file:
        yield file


def _read(columns: tuple[Any, ...]) -> WaitingRow:
    number, key, _, attempts, data = columns
    # S301: it was written by this process
    return WaitingRow(number, key, data and pickle.loads(data), attempts)  # noqa: S301
