"""The two places a row can end in, the output and the failures, and the line of a row in each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, TypeAlias

from codesynth.codec import dumps, loads_exactly
from codesynth.errors import ConfigError
from codesynth.models import META_KEY, Failure, Record, Row
from codesynth.storage.output import Output
from codesynth.storage.records import BLANK, STANDARD, read_records
from codesynth.storage.scratch import Pool

StrPath: TypeAlias = str | os.PathLike[str]


def sibling_path(out: str, suffix: str) -> str:
    """Name a file that belongs to an output: ``suffix`` in place of the output's own.

    >>> sibling_path("data/sft.jsonl", ".journal"), sibling_path("data/sft.jsonl.gz", ".journal")
    ('data/sft.journal', 'data/sft.jsonl.journal')
    """
    if not Path(out).name:
        raise ConfigError(f'"{out}" is not the name of a file')
    return str(Path(out).with_suffix(suffix))


class Files:
    """The output file and the failures file of one run; a context manager that closes both.

    Args:
        out: a path, or None for standard output.
        failures: a path. None takes the name of ``out`` with the suffix ``.failures.jsonl``, or
            with standard output writes no failure lines.

    Attributes:
        destinations: one byte for each row so far, in order: 1 if it is in the output, 0 if in the
            failures. ``join`` needs it to put the rows of several runs in order.

    Raises:
        BusyError: another run holds one of the files.
        ConfigError: both are the same file.
        OutputError: one cannot be written.
    """

    def __init__(self, out: str | None, failures: str | None = None) -> None:
        self.output = Output(out)
        self.destinations = bytearray()
        self._named = failures is not None
        try:
            self.failures = self._open_failures(failures)
        except BaseException:
            self.output.close()
            raise

    def _open_failures(self, path: str | None) -> Output:
        out = self.output.path
        if path is None:
            return Output(sibling_path(str(out), ".failures.jsonl") if out else os.devnull)
        to_stdout = path == STANDARD and self.output.name == "<stdout>"
        if to_stdout or (path != STANDARD and out == Path(os.path.realpath(path))):
            raise ConfigError(f"{self.output.name} is the output. Choose another --failures")
        return Output(path)

    @property
    def journal_path(self) -> str | None:
        """The usual name of the output's journal; None if the output is not a regular file."""
        return sibling_path(self.output.name, ".journal") if self.output.path else None

    def reject_shared_paths(
        self, inputs: Sequence[str], journal: str | None = None, log: str | None = None
    ) -> None:
        """Make sure that no file has two uses, such as input and output.

        Raises:
            ConfigError: one has two.
        """
        named: list[tuple[object, str]] = [(name, "an input") for name in inputs]
        for output, use in ((self.output, "the output"), (self.failures, "the failures")):
            if output.path is not None:
                named += [(output.path, use), (output.partial, use)]
        named += [(journal, "the journal"), (log, "the log")]
        uses: dict[str, str] = {}
        for name, use in named:
            if name in (None, STANDARD):
                continue
            if (other := uses.setdefault(os.path.realpath(str(name)), use)) != use:
                words = f"{name} would be both {other} and {use}"
                raise ConfigError(f"{words}. Choose another name for one of them")

    def refuse_existing(self, *, overwrite: bool) -> None:
        """Make sure that no output of an earlier run is lost whose journal is missing.

        Raises:
            ConfigError: there is one, and ``overwrite`` is False.
        """
        if not overwrite and (self.output.exists() or self.output.has_leftover):
            there = self.output.path if self.output.exists() else self.output.partial
            words = "Move it away, or replace it with --overwrite"
            raise ConfigError(f"{there} exists, but this run has no journal of it. {words}")

    def start(self) -> None:
        """Begin empty partial files; finished files of an earlier run stay until ``commit``."""
        self.output.start()
        self.failures.start()

    def write(self, line: bytes) -> None:
        """Write a row, given as a line without its newline."""
        self.destinations.append(1)
        self.output.write(line)

    def fail(self, line: bytes) -> None:
        """Write a failure line."""
        self.destinations.append(0)
        self.failures.write(line)

    def flush(self) -> None:
        """Write what waits to be written."""
        self.output.flush()
        self.failures.flush()

    def commit(self) -> None:
        """Give the finished files their names, the output last. No failures make no file."""
        if 0 in self.destinations or self._named:
            self.failures.commit()
        else:
            self.failures.discard()
        self.output.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.output.close()
        finally:
            self.failures.close()


class JSONLStorage:
    """JSONL files for the operators' ``run``, which streams through them.

    Args:
        source: one path or several; ``-`` is standard input.
        out: where ``run`` writes; replaced.
        failures: where failed rows go; None as in ``Files``.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> storage = JSONLStorage("samples/seeds.jsonl", folder + "/out.jsonl")
    >>> storage.write([{"instruction": "Add."}]).endswith("out.jsonl")
    True
    """

    def __init__(
        self,
        source: StrPath | Sequence[StrPath],
        out: StrPath,
        failures: StrPath | None = None,
    ) -> None:
        several = [source] if isinstance(source, (str, os.PathLike)) else source
        self.paths = [os.fspath(path) for path in several]
        self._out = os.fspath(out)
        self._failures = os.fspath(failures) if failures is not None else None

    def read(self, output_type: str = "dict") -> list[dict[str, Any]]:
        """Read all rows, as DataFlow's storages do.

        Raises:
            ConfigError: another type than ``dict`` is wanted, or a line is not a JSON object.
        """
        if output_type != "dict":
            raise ConfigError(f'output_type "{output_type}" is not known; known: dict')
        rows = []
        for record in self.records():
            if record.error is not None:
                raise ConfigError(f"{record.where}: {record.error.message}")
            rows.append(dict(record.fields))
        return rows

    def records(self) -> Iterator[Record]:
        """Stream the rows."""
        return read_records(self.paths)

    def pool(self, key: str) -> Pool:
        """Read the rows as a few-shot pool."""
        return Pool(self.paths, key)

    def open(self) -> Files:
        """Open the files that ``run`` writes."""
        return Files(self._out, self._failures)

    def write(self, rows: Sequence[dict[str, Any]]) -> str:
        """Write all rows; return the path."""
        with self.open() as files:
            files.start()
            for row in rows:
                files.write(dumps(row))
            files.commit()
        return self._out


def row_line(record: Record, columns: Mapping[str, Any]) -> tuple[bytes, int]:
    """Write the output row: the input row's own bytes and the new columns.

    A row that has been through another step with ``--meta`` keeps that step's object as
    ``input`` of the new one.

    Returns:
        The line, and how many of its first bytes are the input row without its closing brace.

    >>> row_line(Record(0, b'{"id": 12345678901234567890}', {}), {"code": "x = 1"})
    (b'{"id": 12345678901234567890,"code":"x = 1"}', 27)
    """
    raw = record.raw
    if META_KEY in columns and META_KEY in record.fields:
        raw, earlier = _take_meta(record)
        columns = {**columns, META_KEY: {**columns[META_KEY], "input": earlier}}
    body = raw[:-1].rstrip(BLANK)
    comma = b"" if body == b"{" or not columns else b","
    return body + comma + dumps(columns)[1:], len(body)


def _take_meta(record: Record) -> tuple[bytes, Any]:
    """Take the ``--meta`` object of an earlier step out of a row.

    The rest of the row keeps its bytes if codesynth wrote the object and it is not the first
    column.
    """
    meta = record.fields[META_KEY]
    before, found, after = record.raw.rpartition(b",%b" % dumps({META_KEY: meta})[1:-1])
    if found and after[:1] in (b",", b"}"):
        return before + after, meta
    fields = loads_exactly(record.raw.decode())
    meta = fields.pop(META_KEY)
    return dumps(fields), meta


def failure_line(record: Record, failure: Failure, answer: str | None = None) -> bytes:
    """Write a failure line: the row, or its text if it is not a JSON object; and why it failed."""
    if record.line is None:  # a generation has no input row
        raw = dumps({"generation": record.index, "examples": record.examples})
    elif failure.kind in ("invalid_json", "not_an_object"):
        raw = dumps(record.raw.decode("utf-8", "backslashreplace"))
    else:
        raw = record.raw
    return _failure_line(raw, record.line, failure, answer)


def rejection_line(row: Row, reason: Failure) -> bytes:
    """Write the failure line of a row that a filter has rejected."""
    raw = row.line[: row.raw_bytes] + b"}"
    return _failure_line(raw, row.number or None, reason, row.answer or None)


def _failure_line(raw: bytes, number: int | None, failure: Failure, answer: str | None) -> bytes:
    error = {key: value for key, value in asdict(failure).items() if value is not None}
    rest = {"line": number, "error": error} | ({} if answer is None else {"answer": answer})
    return b'{"input":%b,%b' % (raw, dumps(rest)[1:])
