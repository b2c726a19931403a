"""Every answer that was paid for, in SQLite; in front of any LLMServing.

An answer is committed before it is handed on, all that is waiting in one transaction. SQLite's
write-ahead log with ``synchronous=FULL`` syncs at each commit, so an answer that was handed on
survives a power cut; its exclusive lock keeps a second run out and goes with the process.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from codesynth.codec import dumps, loads
from codesynth.errors import BusyError, JournalError
from codesynth.models import UNUSABLE_ANSWERS, Failure, Request, Response, Usage
from codesynth.serving import LLMServing
from codesynth.serving.occurrences import Occurrences

_APPLICATION_ID = 0x63647379  # "cdsy"
_FORMAT = 1
_GROUP = 512  # answers in one transaction, at most
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Journal:
    """The file: answers by key, and what a run has to remember.

    A key is the hash of a request's body with the number of equal requests before it in the run:
    no position, URL, key or timeout, so a rerun finds its answers after lines were added,
    removed or moved. Usable from two threads.

    Raises:
        BusyError: another run holds it.
        JournalError: it is damaged, from a newer version, or no journal.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        is_new = not self.is_there(path)
        with self._translated():
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._open(is_new)
            except BaseException:
                self._db.close()
                raise
            [self.answers] = self._db.execute("SELECT count(*) FROM answer").fetchone()

    def _open(self, is_new: bool) -> None:
        db = self._db
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        if not is_new:
            [[application]] = db.execute("PRAGMA application_id")
            [[version]] = db.execute("PRAGMA user_version")
            if application != _APPLICATION_ID or version != _FORMAT:
                raise JournalError(f"{self.path} is no journal of this version of codesynth")
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("BEGIN EXCLUSIVE")
        if is_new:
            db.execute(f"PRAGMA application_id={_APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={_FORMAT}")
            db.execute("CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
            db.execute(
                "CREATE TABLE answer (key BLOB NOT NULL UNIQUE, answer BLOB NOT NULL,"
                " prompt_tokens INTEGER, completion_tokens INTEGER)"
            )
        db.execute("COMMIT")
        if not is_new and (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(found)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock, contextlib.suppress(sqlite3.Error):  # all that matters is committed
            self._db.close()

    @staticmethod
    def is_there(path: str) -> bool:
        """Tell whether a journal was begun at a path."""
        return Path(path).exists() and Path(path).stat().st_size > 0

    @staticmethod
    def remove(path: str) -> None:
        """Take a journal away, its write-ahead log too.

        Raises:
            BusyError: a run holds it.
        """
        with contextlib.suppress(JournalError):  # a damaged one may go
            Journal(path).__exit__()
        for name in (path, f"{path}-wal", f"{path}-shm"):
            Path(name).unlink(missing_ok=True)

    def note(self, name: str) -> str | None:
        """Recall a note."""
        with self._translated():
            row = self._db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def set_note(self, name: str, value: str) -> None:
        """Remember a note for the next run."""
        with self._translated():
            self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (name, value))

    def spent(self) -> Usage:
        """Sum the tokens of all answers."""
        with self._translated():
            row = self._db.execute(
                "SELECT total(prompt_tokens), total(completion_tokens) FROM answer"
            ).fetchone()
        return Usage(int(row[0]), int(row[1]))

    def get(self, key: bytes) -> list[Any] | None:
        """Find an answer.

        Raises:
            JournalError: it is there but damaged.
        """
        with self._translated():
            row = self._db.execute("SELECT answer FROM answer WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        data, check = row[0][:-4], row[0][-4:]
        if zlib.crc32(data).to_bytes(4, "big") != check:
            raise self._damaged("an answer's check sum is wrong")
        answer: list[Any] = loads(data)
        return answer

    def put(self, answers: Iterable[tuple[bytes, list[Any], Usage | None]]) -> None:
        """Store answers in one transaction; back when they are on the disk."""
        rows = []
        for key, answer, usage in answers:
            data = dumps(answer)
            tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (None, None)
            rows.append((key, data + zlib.crc32(data).to_bytes(4, "big"), *tokens))
        with self._translated():
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

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
            if code in _DAMAGED or type(exc) is sqlite3.DatabaseError:
                raise self._damaged(str(exc)) from exc
            raise JournalError(f"cannot use {self.path}: {exc}") from exc

    def _damaged(self, words: str) -> JournalError:
        return JournalError(
            f"{self.path} is damaged: {words}. Nothing was changed; restore it, or move it away "
            "and start afresh"
        )


class JournaledServing:
    """Answers from the journal what it knows; asks ``serving`` the rest and stores it.

    Args:
        body: a request's body in its canonical form, which is what its key is made of.
        before_asking: called once, before the first request that the journal cannot answer.
    """

    def __init__(
        self,
        journal: Journal,
        serving: LLMServing,
        body: Callable[[Request], bytes],
        *,
        before_asking: Callable[[], None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._serving = serving
        self._body = body
        self._before_asking = before_asking

    def count(self, requests: Iterable[Request]) -> tuple[int, int]:
        """Count the requests that the journal answers, and those it does not."""
        known = total = 0
        keys: dict[str, bytes] = {}
        for request in self._ask(requests, keys, lambda: None):
            keys.clear()
            total += 1
            known += request.known is not None
        return known, total - known

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        """Answer each request, in any order; see ``LLMServing``."""
        keys: dict[str, bytes] = {}
        asked = self._ask(requests, keys, self._before_asking)
        return _Stored(self._journal, self._serving.generate(asked), keys)

    def _ask(
        self, requests: Iterable[Request], keys: dict[str, bytes], before: Callable[[], None]
    ) -> Iterator[Request]:
        """Give known answers to requests; runs in the thread that pulls them."""
        occurrences = Occurrences()
        may_know = self._journal.answers > 0
        asked = False
        for request in requests:
            if request.known is not None:
                yield request
                continue
            digest = blake2b(self._body(request), digest_size=16).digest()
            number = occurrences.count(digest)
            key = digest + number.to_bytes(4, "big") if number else digest
            answer = self._journal.get(key) if may_know else None
            if answer is not None:
                yield replace(request, known=_response(request, answer))
                continue
            if not asked:
                asked = True
                before()
            keys[request.custom_id] = key
            yield request


class _Stored(Iterator[Response]):
    """Responses, each in the journal before it is handed on."""

    def __init__(
        self, journal: Journal, responses: Iterator[Response], keys: dict[str, bytes]
    ) -> None:
        self._journal = journal
        self._responses = responses
        self._wait = getattr(responses, "wait", None)
        self._keys = keys
        self._ready: deque[Response] = deque()
        self._error: BaseException | None = None

    def __next__(self) -> Response:
        if not self._ready and self._error is None:
            self._take_all()
        if not self._ready and self._error is not None:
            raise self._error
        return self._ready.popleft()

    def _take_all(self) -> None:
        """Take what is waiting and commit it in one transaction."""
        batch = []
        try:
            batch.append(next(self._responses))
            while self._wait is not None and len(batch) < _GROUP and self._wait(0):
                batch.append(next(self._responses))
        except BaseException as exc:  # what came before it is stored and handed on first
            self._error = exc
        new = [
            (key, _answer(response), response.usage)
            for response in batch
            if (key := self._keys.pop(response.request.custom_id, None)) and _is_answer(response)
        ]
        if new:
            self._journal.put(new)
        self._ready.extend(batch)

    def wait(self, timeout: float | None) -> bool:
        """Wait until ``next`` would return at once, or nearly; False after ``timeout`` seconds."""
        if self._ready or self._error is not None or self._wait is None:
            return True
        return bool(self._wait(timeout))

    def drain(self, grace: float | None) -> None:
        """Send nothing more; see ``Window``."""
        drain = getattr(self._responses, "drain", None) or (lambda _: self.close())
        drain(grace)

    def close(self) -> None:
        """Cancel what is in flight."""
        close = getattr(self._responses, "close", None)
        if close is not None:
            close()


def _is_answer(response: Response) -> bool:
    return response.error is None or response.error.kind in UNUSABLE_ANSWERS


def _answer(response: Response) -> list[Any]:
    usage, error = response.usage, response.error
    return [
        response.text,
        response.finish_reason,
        response.model,
        response.attempts,
        [usage.prompt_tokens, usage.completion_tokens] if usage else None,
        [error.kind, error.message, error.status] if error else None,
    ]  # read by _response


def _response(request: Request, answer: list[Any]) -> Response:
    text, finish_reason, model, attempts, usage, error = answer
    return Response(
        request=request,
        text=text,
        finish_reason=finish_reason,
        usage=Usage(*usage) if usage else None,
        model=model,
        attempts=attempts,
        error=Failure(error[0], error[1], error[2], attempts) if error else None,
        cached=True,
    )
