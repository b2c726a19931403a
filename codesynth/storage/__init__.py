"""JSONL lines <-> records: files, ``-``, gzip, partial + rename, lock."""

from codesynth.storage.output import Output
from codesynth.storage.pool import Pool
from codesynth.storage.records import read_records, splice

__all__ = ["Output", "Pool", "read_records", "splice"]
