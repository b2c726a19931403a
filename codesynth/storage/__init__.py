"""JSONL lines <-> records: files, ``-``, gzip, partial + rename, lock."""

from codesynth.storage.files import Files, JSONLStorage, sibling_path
from codesynth.storage.lines import failure_line, rejection_line, row_line
from codesynth.storage.output import Output
from codesynth.storage.pool import Pool
from codesynth.storage.records import (
    check_inputs,
    count_lines,
    open_stream,
    parse_record,
    read_lines,
    read_records,
)
from codesynth.storage.reorder import Reorder

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
    "rejection_line",
    "row_line",
    "sibling_path",
]
