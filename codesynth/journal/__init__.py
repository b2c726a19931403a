"""The journal: answers that were paid for, found again by a key.

``pipeline.make_requests`` makes the keys. Answers are stored by ``JournaledServing`` before they
are handed on, batches by ``BatchLog`` before each step; a run's notes by ``asking`` and ``Run``.
"""

from codesynth.journal.batches import BatchLog, OpenBatch
from codesynth.journal.occurrences import Occurrences
from codesynth.journal.serving import JournaledServing
from codesynth.journal.store import Journal, StoredAnswer, open_to_read

__all__ = [
    "BatchLog",
    "Journal",
    "JournaledServing",
    "Occurrences",
    "OpenBatch",
    "StoredAnswer",
    "open_to_read",
]
