"""The batches that are on their way: what was intended is in the journal before it is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from codesynth.codec import dumps, loads
from codesynth.journal.store import Journal, StoredAnswer


class OpenBatch(NamedTuple):
    """A batch whose answers are not all in the journal.

    Attributes:
        uuid: chosen before the upload.
        requests: how many it was made of.
        file, id: those of the provider; empty while they are not known.
    """

    number: int
    uuid: str
    requests: int
    file: str = ""
    id: str = ""


class BatchLog:
    """The open batches of a journal.

    >>> import tempfile
    >>> with Journal(tempfile.mkdtemp() + "/out.journal") as journal:
    ...     log = BatchLog(journal)
    ...     batch = log.note_file(log.add("u-u-i-d", {b"key": 0}), "file-1")
    ...     [log.open() == [batch], log.keys(batch), log.close(batch), log.open()]
    [True, {b'key': 0}, None, []]
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def open(self) -> list[OpenBatch]:
        """List the open batches, the oldest first."""
        query = "SELECT number, uuid, requests, file, id FROM batch ORDER BY number"
        with self._journal.transaction() as db:
            return [OpenBatch(*row) for row in db.execute(query)]

    def add(self, uuid: str, keys: Mapping[bytes, int]) -> OpenBatch:
        """Note that a batch of requests is going to be made.

        Args:
            keys: of the requests, each with the number of batches that it was in before.
        """
        text = dumps({key.hex(): attempts for key, attempts in keys.items()})
        query = "INSERT INTO batch (uuid, requests, keys, file, id) VALUES (?, ?, ?, '', '')"
        with self._journal.transaction() as db:
            number = db.execute(query, (uuid, len(keys), text)).lastrowid
        return OpenBatch(number or 0, uuid, len(keys))

    def note_file(self, batch: OpenBatch, file: str) -> OpenBatch:
        """Note the id of the uploaded file."""
        with self._journal.transaction() as db:
            db.execute("UPDATE batch SET file = ? WHERE number = ?", (file, batch.number))
        return batch._replace(file=file)

    def note_id(self, batch: OpenBatch, batch_id: str) -> OpenBatch:
        """Note the id of the batch."""
        with self._journal.transaction() as db:
            db.execute("UPDATE batch SET id = ? WHERE number = ?", (batch_id, batch.number))
        return batch._replace(id=batch_id)

    def keys(self, batch: OpenBatch) -> dict[bytes, int]:
        """Return what was given to ``add``, but for the keys that ``Journal.get`` finds."""
        query = "SELECT keys FROM batch WHERE number = ?"
        with self._journal.transaction() as db:
            [(text,)] = db.execute(query, (batch.number,))
        keys = {bytes.fromhex(key): attempts for key, attempts in loads(text).items()}
        return {key: keys[key] for key in keys if self._journal.get(key) is None}

    def keep(self, answers: Iterable[StoredAnswer]) -> None:
        """Store answers; see ``Journal.put``."""
        self._journal.put(answers)

    def close(self, batch: OpenBatch) -> None:
        """Forget a batch: what it has brought is stored."""
        with self._journal.transaction() as db:
            db.execute("DELETE FROM batch WHERE number = ?", (batch.number,))
