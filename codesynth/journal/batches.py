"""The batches that are not finished. Each step is written to the journal before it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from codesynth.codec import dumps, loads
from codesynth.journal.store import Journal


@dataclass(slots=True)
class OpenBatch:
    """A batch whose answers are not all in the journal.

    Attributes:
        uuid: our own name of the batch, chosen before the upload.
        file, id: the provider's names of the file and the batch; empty while they are not known.
        done: requests that the provider has finished.
        looks: how often we looked for its results and some were missing.
        reserved: money set aside for its rows.
    """

    number: int
    uuid: str
    requests: int
    file: str = ""
    id: str = ""
    done: int = 0
    looks: int = 0
    reserved: list[float] = field(default_factory=list)


class BatchLog:
    """The open batches of a journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def open(self) -> list[OpenBatch]:
        """List the open batches, the oldest first."""
        query = "SELECT number, uuid, requests, file, id FROM batch ORDER BY number"
        return [OpenBatch(*row) for row in self.journal.execute(query)]

    def add(self, uuid: str, keys: Mapping[bytes, int]) -> OpenBatch:
        """Note that a batch of requests is going to be made.

        Args:
            keys: the keys of the requests, each with the number of batches it was in before.
        """
        text = dumps({key.hex(): attempts for key, attempts in keys.items()})
        query = "INSERT INTO batch (uuid, requests, keys, file, id) VALUES (?, ?, ?, '', '')"
        self.journal.execute(query, uuid, len(keys), text)
        return self.open()[-1]

    def note(self, batch: OpenBatch, *, file: str = "", batch_id: str = "") -> None:
        """Note the id of the uploaded file, or that of the batch."""
        batch.file, batch.id = file or batch.file, batch_id or batch.id
        query = "UPDATE batch SET file = ?, id = ? WHERE number = ?"
        self.journal.execute(query, batch.file, batch.id, batch.number)

    def keys(self, batch: OpenBatch) -> dict[bytes, int]:
        """Return the keys given to ``add`` that have no answer in the journal yet."""
        query = "SELECT keys FROM batch WHERE number = ?"
        [(text,)] = self.journal.execute(query, batch.number)
        keys = {bytes.fromhex(key): attempts for key, attempts in loads(text).items()}
        return {key: keys[key] for key in keys if self.journal.get(key) is None}

    def close(self, batch: OpenBatch) -> None:
        """Forget a batch whose answers are stored."""
        self.journal.execute("DELETE FROM batch WHERE number = ?", batch.number)
