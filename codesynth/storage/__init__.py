"""JSONL lines <-> records: files, ``-``, gzip, partial + rename, lock."""

from codesynth.storage.files import Files, JSONLStorage, beside
from codesynth.storage.output import Output
from codesynth.storage.pool import Pool
from codesynth.storage.records import check_inputs, read_records, splice, take_member
from codesynth.storage.reorder import Reorder

__all__ = [
    "Files",
    "JSONLStorage",
    "Output",
    "Pool",
    "Reorder",
    "beside",
    "check_inputs",
    "read_records",
    "splice",
    "take_member",
]
