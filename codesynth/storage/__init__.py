"""JSONL lines <-> records: files, ``-``, gzip, partial + rename, lock."""

from codesynth.storage.files import (
    Files,
    JSONLStorage,
    failure_line,
    rejection_line,
    row_line,
    sibling_path,
)
from codesynth.storage.output import Output
from codesynth.storage.records import (
    check_inputs,
    count_lines,
    open_stream,
    parse_record,
    read_lines,
    read_records,
    read_text,
)
from codesynth.storage.scratch import Pool, Reorder

__all__ = [
    "Files",
    "JSONLStorage",
    "Output",
    "Pool",
    "Reorder",
    "check_inputs",
    "count_lines",
    "failure_line",
    "open_stream",
    "parse_record",
    "read_lines",
    "read_records",
    "read_text",
    "rejection_line",
    "row_line",
    "sibling_path",
]
