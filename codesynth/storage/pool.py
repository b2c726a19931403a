"""The few-shot pool: texts by number, read from the disk when they are needed."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from codesynth.models import Failure, Record
from codesynth.storage.columns import read_text
from codesynth.storage.records import read_records
from codesynth.storage.scratch import Scratch


class Pool(Sequence[str]):
    """The texts in one column of JSONL files, copied to a temporary file; 16 bytes of memory a row.

    Lines without a usable text are left out; ``bad_records`` yields them.

    Args:
        paths: the files.
        key: the column.
        generated_key: the column with a model's text, read if a row has no text in ``key``. Such
            rows are numbered after all others.

    Attributes:
        human: number of rows that people wrote.
        bad: number of lines that are no usable examples.

    Raises:
        InputError: a file cannot be read.
        OutputError: the temporary file cannot be written.
    """

    def __init__(self, paths: Sequence[str], key: str, generated_key: str | None = None) -> None:
        self._texts = Scratch()
        human, generated = array("Q"), array("Q")  # place and line number of each row
        self._bad = array("Q")  # places
        for record in read_records(paths):
            text, rows = read_text(record, key), human
            if isinstance(text, Failure) and generated_key is not None:
                found = read_text(record, generated_key)
                text, rows = (found, generated) if isinstance(found, str) else (text, human)
            if isinstance(text, str):
                rows.extend((self._texts.append(text), record.line or 0))
            else:  # its fields may be nested too deeply for pickle
                bad = replace(record, error=text, fields={})
                self._bad.append(self._texts.append(bad))
        self._rows = human + generated
        self.human, self.bad = len(human) // 2, len(self._bad)

    def __len__(self) -> int:
        return len(self._rows) // 2

    def __getitem__(self, i: Any) -> Any:
        """Read the text of row ``i``, from 0, good rows only."""
        return self._texts.read(self._rows[2 * range(len(self))[i]])

    def line(self, i: int) -> int:
        """Tell the line number of row ``i`` in its file, from 1."""
        return self._rows[2 * i + 1]

    def bad_records(self) -> Iterator[Record]:
        """Yield a Record with its error for each line that is not a usable example."""
        yield from map(self._texts.read, self._bad)
