"""JSONL lines -> records: files, ``-`` and gzip, one line at a time."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from codesynth.codec import dumps, loads
from codesynth.errors import InputError
from codesynth.models import Failure, Record

STANDARD = "-"
BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_TOKEN = re.compile(_STRING.pattern + rb"|[][{},]", re.DOTALL)
_DEPTH = {b"{": 1, b"[": 1, b"}": -1, b"]": -1}


def name_of(path: str) -> str:
    """Name an input for people."""
    return "<stdin>" if path == STANDARD else path


def check_inputs(paths: Sequence[str]) -> None:
    """See that each file can be opened, before anything is begun; nothing is read.

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


def open_input(path: str) -> io.BufferedReader | gzip.GzipFile:
    """Open a file or standard input for reading lines; gzip is known by its first bytes.

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


def read_lines(
    stream: io.BufferedReader | gzip.GzipFile, name: str
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number from 1, offset of the row, the line without outer white space).

    Offsets count from where the stream was. Blank lines are no rows. A byte order mark at the
    start is no part of the first row.

    Raises:
        InputError: the stream cannot be read to its end (a cut gzip stream, a bad disk).
    """
    number = offset = 0
    try:
        for line in iter(stream.readline, b""):
            number += 1
            start = len(_BOM) if number == 1 and line.startswith(_BOM) else 0
            if row := line[start:].strip(BLANK):
                yield number, offset + start, row
            offset += len(line)
    except (OSError, EOFError, zlib.error) as exc:
        raise InputError(f"{name}:{number + 1}: cannot read on: {exc}") from exc


def read_records(paths: Sequence[str]) -> Iterator[Record]:
    """Yield a Record for each line of the files, in order; a bad line is a Record with an error."""
    index = 0
    for path in paths:
        source = name_of(path)
        with open_input(path) as stream:
            for line, _, raw in read_lines(stream, source):
                yield parse_record(index, raw, line, source)
                index += 1


def parse_record(index: int, raw: bytes, line: int, source: str) -> Record:
    """Make a Record of one line; a Record with an error where it is no JSON object."""
    try:
        fields = loads(raw)
    except ValueError as exc:
        error = Failure("invalid_json", f"not JSON: {exc}")
        return Record(index, raw, {}, line, source, error=error)
    if not isinstance(fields, dict):
        found = {list: "an array", str: "a string", type(None): "null"}.get(
            type(fields), "a scalar"
        )
        error = Failure("not_an_object", f"expected a JSON object, found {found}")
        return Record(index, raw, {}, line, source, error=error)
    # Outside of strings it is white space, but many readers of the output end a line there.
    return Record(index, raw.replace(b"\r", b" "), fields, line, source)


def splice(raw: bytes, key: str, value: bytes) -> bytes:
    """Append a member to a JSON object's text; all that was there keeps its bytes.

    Args:
        raw: without outer white space.
        value: a JSON text.

    >>> splice(b'{"id": 12345678901234567890}', "code", b'"x = 1"')
    b'{"id": 12345678901234567890,"code":"x = 1"}'
    """
    body = raw[:-1].rstrip(BLANK)
    comma = b"" if body == b"{" else b","
    return b"%b%b%b:%b}" % (body, comma, dumps(key), value)


def take_member(raw: bytes, key: str) -> tuple[bytes, bytes]:
    """Take a member out of a JSON object's text; return what is left, and the member's value.

    All else keeps its bytes. Of several members of that name, the last one's value counts.

    Raises:
        KeyError: there is no such member.

    >>> take_member(b'{"a": 1.0, "b": {"c": [1e2]}, "d": 10e2}', "b")
    (b'{"a": 1.0,"d": 10e2}', b'{"c": [1e2]}')
    """
    others, value = [], None
    for member in _members(raw):
        name = _STRING.match(member)
        if name is not None and loads(name[0]) == key:
            value = member[name.end() :].lstrip(b": \t\r\n")
        else:
            others.append(member)
    if value is None:
        raise KeyError(key)
    return b"{%b}" % b",".join(others), value


def _members(raw: bytes) -> Iterator[bytes]:
    """Yield the text of each member of a JSON object's text, such as ``"a": 1``."""
    depth, start = 0, 1
    for token in _TOKEN.finditer(raw):
        sign = token[0]
        if depth == 1 and sign in (b",", b"}"):
            if member := raw[start : token.start()].strip(BLANK):
                yield member
            start = token.end()
        depth += _DEPTH.get(sign, 0)
