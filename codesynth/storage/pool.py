"""The few-shot pool: texts by number, read when asked for."""

from __future__ import annotations

import contextlib
import io
import os
import stat
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast, overload

from codesynth.errors import InputError
from codesynth.models import Failure, Record
from codesynth.storage.columns import read_text
from codesynth.storage.records import BLANK, name_of, open_input, parse_record, read_lines
from codesynth.storage.scratch import Scratch

_OFFSET_BITS = 48


class Pool(Sequence[str]):
    """The texts in one column of JSONL files, at 16 bytes a row.

    Plain files are read again where a text is asked for; standard input and gzip are copied to a
    temporary file first. Lines without a usable text are left out and told by ``bad_records``.

    Args:
        paths: the files.
        key: the column.
        generated_key: where a row has no text in ``key``, the column in which a model's stands;
            such rows are numbered after all others.

    Raises:
        InputError: a file cannot be read.
    """

    def __init__(self, paths: Sequence[str], key: str, generated_key: str | None = None) -> None:
        self._key, self._generated_key = key, generated_key
        self._files: list[io.BufferedReader | Scratch] = []
        self._sources: list[str] = []
        self._good = array("Q")  # two items a row: file number << 48 | offset, line number
        self._generated, self._bad = array("Q"), array("Q")
        for path in paths:
            self._add(path)

    def __del__(self) -> None:
        for file in self._files:
            if not isinstance(file, Scratch):
                file.close()

    def _add(self, path: str) -> None:
        stream, source = open_input(path), name_of(path)
        plain = isinstance(stream, io.BufferedReader) and _is_regular(stream.fileno())
        scratch = None if plain else Scratch()
        number = len(self._files) << _OFFSET_BITS
        self._files.append(scratch or cast("io.BufferedReader", stream))
        self._sources.append(source)
        start = stream.tell() if plain else 0  # standard input may have been read before
        with contextlib.nullcontext() if plain else stream:
            for line, offset, raw in read_lines(stream, source):
                place = start + offset if scratch is None else scratch.append(raw)
                rows = self._rows_for(parse_record(0, raw, line, source))
                rows.extend((number | place, line))

    def _rows_for(self, record: Record) -> array[int]:
        if isinstance(read_text(record, self._key), str):
            return self._good
        if self._generated_key is not None and isinstance(
            read_text(record, self._generated_key), str
        ):
            return self._generated
        return self._bad

    def _read(self, rows: array[int], i: int) -> Record:
        place, line = rows[2 * i], rows[2 * i + 1]
        file, source = self._files[place >> _OFFSET_BITS], self._sources[place >> _OFFSET_BITS]
        place &= (1 << _OFFSET_BITS) - 1
        if isinstance(file, Scratch):
            return parse_record(i, file.line(place), line, source)
        try:
            file.seek(place)
            raw = file.readline().strip(BLANK)
        except OSError as exc:
            raise InputError(f"{source}:{line}: cannot read it again: {exc.strerror}") from exc
        return parse_record(i, raw, line, source)

    def __len__(self) -> int:
        return (len(self._good) + len(self._generated)) // 2

    @property
    def human(self) -> int:
        """Count the rows that are no model's."""
        return len(self._good) // 2

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[str]: ...
    def __getitem__(self, i: int | slice) -> str | Sequence[str]:
        """Read the text of row ``i``, from 0, good rows only."""
        if isinstance(i, slice):
            return [self[n] for n in range(len(self))[i]]
        i = range(len(self))[i]
        if i < self.human:
            record, key = self._read(self._good, i), self._key
        else:
            record, key = self._read(self._generated, i - self.human), self._generated_key or ""
        text = read_text(record, key)
        if isinstance(text, Failure):
            raise InputError(f"{record.source}:{record.line}: changed while it was being read")
        return text

    def line(self, i: int) -> int:
        """Tell the line number of row ``i`` in its file, from 1."""
        if i < self.human:
            return self._good[2 * i + 1]
        return self._generated[2 * (i - self.human) + 1]

    @property
    def bad(self) -> int:
        """Count the lines that are no usable examples."""
        return len(self._bad) // 2

    def bad_records(self) -> Iterator[Record]:
        """Yield a Record with its error for each line that is no usable example."""
        for i in range(self.bad):
            record = self._read(self._bad, i)
            error = read_text(record, self._key)
            if isinstance(error, Failure):
                yield replace(record, error=error)


def _is_regular(fd: int) -> bool:
    return stat.S_ISREG(os.fstat(fd).st_mode)
