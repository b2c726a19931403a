"""What was paid for: the store, and the serving in front of another serving."""

from codesynth.journal.occurrences import Occurrences
from codesynth.journal.serving import JournaledServing
from codesynth.journal.store import Journal, journal_exists, open_to_read

__all__ = ["Journal", "JournaledServing", "Occurrences", "journal_exists", "open_to_read"]
