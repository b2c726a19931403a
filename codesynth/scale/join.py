"""``codesynth join``: the outputs of a job's parts, in the order of the undivided job."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from codesynth.codec import loads
from codesynth.errors import ConfigError, InputError
from codesynth.journal import Journal, open_to_read
from codesynth.notes import fates_note, job_note
from codesynth.settings import JoinSettings
from codesynth.storage import Files, check_inputs, open_text, read_fates, sibling_path

EXIT_OK = 0


@dataclass(frozen=True, slots=True)
class FinishedPart:
    """The output of one part of a job, with what its journal knows of it.

    Attributes:
        part, parts: it is part number ``part``, from 0, of ``parts``.
        job: what all requests have in common.
        requests: names all that the undivided job asks.
        checksums: CRC-32 of the lines of the failures file and of the output.
        fates: see ``storage.Fates``.
    """

    path: str
    part: int
    parts: int
    job: dict[str, Any]
    requests: str
    checksums: list[int]
    fates: str

    @property
    def name(self) -> str:
        """Name it for people: ``sft.3.jsonl (part 3/8)``."""
        return f"{self.path} (part {self.part}/{self.parts})"


def join(told: JoinSettings) -> int:
    """Write the parts as one output; return the exit code.

    Raises:
        ConfigError: they are not all parts of one job, or there is an output.
        InputError: a part cannot be read, or was changed.
        OutputError: the output cannot be written.
    """
    if "-" in told.inputs:
        raise ConfigError("join needs the outputs of all parts of a job: codesynth join PART...")
    check_inputs(told.inputs)
    parts = in_order(map(read_part, told.inputs))
    read = [path for part in told.inputs for path in (part, _failures_of(part))]
    with Files(told.output, told.failures) as files:
        files.reject_shared_paths(read)
        files.refuse_existing(overwrite=told.overwrite)
        files.start()
        merge(parts, files)
        files.commit()
    return EXIT_OK


def read_part(path: str) -> FinishedPart:
    """Read what the journal of an output knows of it.

    Raises:
        ConfigError: it has no journal, is not finished, or has no order.
    """
    journal_path = sibling_path(path, ".journal")
    if not Journal.exists(journal_path):
        raise ConfigError(f"{path} has no journal: {journal_path} is not there")
    with open_to_read(journal_path) as journal:
        job, rows = journal.note(job_note(path)), journal.note(fates_note(path))
    if job is None or rows is None:
        raise ConfigError(f"{path} is not finished. Run its command again")
    identity, about = loads(job), loads(rows)
    if about["disorder"] is not None:
        raise ConfigError(f"{path} was made with {about['disorder']}: its rows have no fixed place")
    part, parts = identity.pop("shard")
    return FinishedPart(
        path, part, parts, identity, about["requests"], about["checksums"], about["fates"]
    )


def in_order(found: Iterable[FinishedPart]) -> Sequence[FinishedPart]:
    """Sort parts by their number, once it is clear that they are all parts of one job.

    Raises:
        ConfigError: they are not.
    """
    parts = sorted(found, key=lambda each: each.part)
    for before, after in zip(parts, parts[1:], strict=False):
        if before.parts != after.parts:
            raise ConfigError(f"{before.name} and {after.name} come from different divisions")
        if changed := [name for name in before.job if before.job[name] != after.job.get(name)]:
            raise ConfigError(
                f"{before.name} and {after.name} are parts of different jobs: they have another "
                f"{' and another '.join(changed)}"
            )
        if before.requests != after.requests:
            raise ConfigError(
                f"{before.name} and {after.name} were made from different input rows. Run the "
                "command of each part again with the same INPUT"
            )
        if before.part == after.part:
            raise ConfigError(f"{before.name} and {after.name} are the same part")
    missing = sorted(set(range(parts[0].parts)) - {each.part for each in parts})
    if missing:
        names = ", ".join(f"{part}/{parts[0].parts}" for part in missing)
        raise ConfigError(f"parts are missing: {names}")
    return parts


def merge(parts: Sequence[FinishedPart], files: Files) -> None:
    """Write the rows of all parts in turn: number p of the job is in part p modulo their number.

    Raises:
        InputError: a part cannot be read, or was changed.
    """
    for row in chain.from_iterable(zip_longest(*map(_rows, parts))):
        if row is not None:
            ok, line = row
            (files.write if ok else files.fail)(line)


def _rows(part: FinishedPart) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a part in order, each with 1 for the output or 0 for the failures."""
    checksums = [0, 0]
    failures = _failures_of(part.path)
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(open_text(path)) if Path(path).exists() else io.BytesIO()
            for path in (failures, part.path)
        ]
        try:
            for ok in read_fates(part.fates):
                line = streams[ok].readline().removesuffix(b"\n")
                checksums[ok] = zlib.crc32(line, checksums[ok])
                yield ok, line
            left = any(stream.read(1) for stream in streams)
        except (OSError, EOFError, zlib.error) as exc:
            raise InputError(f"cannot read {part.path} or {failures}: {exc}") from exc
    if left or checksums != part.checksums:
        raise InputError(
            f"{part.path} or {failures} is not as it was written. Run the command of part "
            f"{part.part}/{part.parts} again: it asks nothing again"
        )


def _failures_of(output: str) -> str:
    return sibling_path(output, ".failures.jsonl")
