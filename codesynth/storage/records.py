"""JSONL lines -> records: files, ``-`` and gzip, one line at a time; and their columns."""

from __future__ import annotations

import gzip
import io
import math
import re
import shlex
import zlib
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import partial
from json import JSONDecodeError
from pathlib import Path
from typing import BinaryIO, TypeAlias

from codesynth.codec import loads
from codesynth.errors import ConfigError, InputError
from codesynth.models import Failure, Record

STANDARD = "-"
BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_HEADER = re.compile(rb"[\w .\"-]+(?:,[\w .\"-]+)+")
MAX_LINE_BYTES = 256 << 20  # a longer line is a failure, because a whole line is held in memory
_LIKELY = ("instruction", "generated_instruction", "prompt", "question", "text", "generated_code")
"""Columns that hold what people mean, most likely first."""
_JSON_TYPES = {list: "an array", str: "a string", type(None): "null"}

Stream: TypeAlias = io.BufferedReader | gzip.GzipFile


def name_of(path: str) -> str:
    """Name an input for people."""
    return "<stdin>" if path == STANDARD else path


def check_inputs(paths: Sequence[str]) -> None:
    """Make sure that each file can be opened, before the run begins.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    for path in paths:
        try:
            # Opening a FIFO would wait for its writer, and can be done once only.
            if path != STANDARD and not Path(path).is_fifo():
                open(path, "rb").close()
        except OSError as exc:
            raise InputError(f"cannot read {path}: {exc.strerror}") from exc


def open_stream(path: str) -> Stream:
    """Open a file or standard input as bytes; gzip is recognised by its first bytes.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    try:
        raw = open(0, "rb", closefd=False) if path == STANDARD else open(path, "rb")
        if raw.peek(2)[:2] != _GZIP_MAGIC:
            return raw
        stream = gzip.GzipFile(fileobj=raw)
        stream.myfileobj = raw  # type: ignore[assignment]  # what it closes when it is closed
        return stream
    except OSError as exc:
        raise InputError(f"cannot read {name_of(path)}: {exc.strerror}") from exc


def count_lines(stream: BinaryIO | Stream, enough: float = math.inf) -> int:
    """Count the lines of a stream, or ``enough`` of them; the last one may lack its line end."""
    count, end = 0, b"\n"
    while count < enough and (block := stream.read(1 << 20)):
        count, end = count + block.count(b"\n"), block[-1:]
    return count + (end != b"\n")


def read_lines(stream: Stream, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each line, from 1, and the line without outer white space.

    Blank lines and a byte order mark at the start are left out. Of a line that is too long,
    ``MAX_LINE_BYTES + 1`` bytes are yielded.

    Raises:
        InputError: the stream cannot be read to its end (a cut gzip stream, a bad disk).
    """
    number, read = 0, partial(stream.readline, MAX_LINE_BYTES + 1)
    try:
        for number, line in enumerate(iter(read, b""), 1):
            rest = line if len(line) > MAX_LINE_BYTES else b"\n"
            while rest and not rest.endswith(b"\n"):
                rest = stream.readline(1 << 20)
            if row := (line.removeprefix(_BOM) if number == 1 else line).strip(BLANK):
                yield number, row
    except (OSError, EOFError, zlib.error) as exc:
        raise InputError(f"{name}:{number + 1}: cannot read further: {exc}") from exc


def read_records(paths: Sequence[str]) -> Iterator[Record]:
    """Yield a Record for each line of the files, in order; a bad line is a Record with an error.

    Raises:
        InputError: a file cannot be read.
        ConfigError: a file is a JSON array, CSV or parquet.
    """
    index = 0
    for path in paths:
        source, first = name_of(path), index
        with open_stream(path) as stream:
            for line, raw in read_lines(stream, source):
                record = parse_record(index, raw, line, source)
                if index == first and record.error is not None:
                    _refuse_other_formats(path, raw[:4096])
                yield record
                index += 1


def parse_record(index: int, raw: bytes, line: int, source: str) -> Record:
    """Make a Record of one line; a Record with an error if it is not a JSON object."""
    if len(raw) > MAX_LINE_BYTES:
        error = Failure("invalid_json", f"the line has more than {MAX_LINE_BYTES >> 20} MB")
        return Record(index, raw[:1000], {}, line, source, error=error)
    try:
        fields = loads(raw)
    except ValueError as exc:
        why = f"{exc.msg}, column {exc.colno}" if isinstance(exc, JSONDecodeError) else exc
        error = Failure("invalid_json", f"not JSON: {why}")
        return Record(index, raw, {}, line, source, error=error)
    if not isinstance(fields, dict):
        found = _JSON_TYPES.get(type(fields), "a scalar")
        error = Failure("not_an_object", f"expected a JSON object, found {found}")
        return Record(index, raw, {}, line, source, error=error)
    # Between values \r is white space, but many readers of the output would end a line there.
    return Record(index, raw.replace(b"\r", b" "), fields, line, source)


def _refuse_other_formats(path: str, first: bytes) -> None:
    """Refuse a JSON array, CSV or parquet file by its first line, with a command that converts it.

    Raises:
        ConfigError: it is one.
    """
    if first.startswith(b"{"):
        return
    tool = "zcat" if path.endswith(".gz") else "cat"
    feed = "" if path == STANDARD else f"{tool} {shlex.quote(path)} | "
    rows = "[print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]"
    command = f'{feed}python3 -c "import csv, json, sys; {rows}" > rows.jsonl'
    if first.startswith(b"PAR1"):
        kind, read = "a parquet file", f"read_parquet({shlex.quote(path)!r})"
        write = "to_json('rows.jsonl', orient='records', lines=True)"
        command = f'python3 -c "import pandas; pandas.{read}.{write}"'
    elif re.match(rb"\[\s*(\{|$)", first):
        kind, command = "a JSON array", f"{feed}jq -c '.[]' > rows.jsonl"
    elif path.endswith((".csv", ".csv.gz")) or _HEADER.fullmatch(first):
        kind = "a CSV file"
    else:
        return
    raise ConfigError(f"{name_of(path)} is {kind}, not JSONL. Convert it: {command}")


def read_text(record: Record, key: str) -> str | Failure:
    """Read a column that must hold a string, or say why it cannot be read.

    >>> read_text(Record(0, b"", {"instruction": "Sort a list."}), "instrction").message
    'missing key "instrction"; found "instruction". Try --input-key instruction'
    """
    if record.error is not None:
        return record.error
    value = record.fields.get(key)
    if isinstance(value, str):
        return value
    if key in record.fields:
        return Failure("not_a_string", f'"{key}" is not a string')
    return missing(record, key)


def missing(record: Record, key: str) -> Failure:
    """Say that a row has no such column, and which one may be meant."""
    if {"input", "error"} <= record.fields.keys():
        words = "this is a failures file. Take the rows out of it: jq -c .input FILE"
        return Failure("missing_key", f'missing key "{key}"; {words}')
    texts = [name for name, value in record.fields.items() if isinstance(value, str)]
    if not texts:
        return Failure("missing_key", f'missing key "{key}"; found no column with text')
    likely = [name for name in _LIKELY if name in texts]
    best = [*get_close_matches(key, texts, n=1), *likely, *texts][0]
    found = ", ".join(f'"{name}"' for name in dict.fromkeys([best, *texts][:4]))
    return Failure("missing_key", f'missing key "{key}"; found {found}. Try --input-key {best}')
