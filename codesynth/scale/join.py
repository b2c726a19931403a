"""``codesynth join``: the outputs of a job's parts, in the order of the undivided job."""

from __future__ import annotations

import contextlib
import io
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from codesynth.codec import loads
from codesynth.errors import ConfigError, InputError
from codesynth.journal import Journal, open_to_read
from codesynth.local_settings import JoinSettings
from codesynth.run import output_note
from codesynth.storage import Files, open_stream, sibling_path

_FAILURES = ".failures.jsonl"


class FinishedPart(NamedTuple):
    """The output of one part of a job, with what its journal knows of it."""

    path: str
    number: int  # as in ``--shard``
    job: dict[str, Any]  # what all parts of a job have in common
    rows: dict[str, Any]  # what the run has stored about its rows; see ``Run._note_output``


def join(settings: JoinSettings) -> int:
    """Write the parts as one output; return the exit code.

    Raises:
        ConfigError: they are not all parts of one job, or the output exists.
        InputError: a part cannot be read, or was changed.
    """
    inputs = [path for path in settings.inputs if not path.endswith(_FAILURES)]  # of part.*.jsonl
    if not inputs or "-" in inputs:
        raise ConfigError("join needs the outputs of all parts of a job: codesynth join PART...")
    parts = in_order(map(read_part, inputs))
    with Files(settings.output, settings.failures) as files:
        files.reject_shared_paths([*inputs, *(sibling_path(path, _FAILURES) for path in inputs)])
        files.refuse_existing(overwrite=settings.overwrite)
        files.start()
        merge(parts, files)
        files.commit()
    return 0


def read_part(path: str) -> FinishedPart:
    """Read what the journal of an output knows of it.

    Raises:
        ConfigError: it has no journal, is not finished, or cannot be joined because of an option.
    """
    journal_path = sibling_path(path, ".journal")
    if not Journal.exists(journal_path):
        raise ConfigError(f"{path} cannot be joined without its journal, {journal_path}")
    with open_to_read(journal_path) as journal:
        rows = loads(journal.get_note(output_note(path)) or "{}")
    if not rows:
        raise ConfigError(f"{path} is not finished. Run its command again")
    if (name := rows["not_joinable"]) is not None:
        words = "its rows depend on other rows, or have no fixed order"
        raise ConfigError(f"{path} was made with {name} and cannot be joined: {words}")
    number, of = rows["job"].pop("shard")
    job = {**rows["job"], "number of parts": of, "INPUT": rows["requests"]}
    return FinishedPart(path, number, job, rows)


def in_order(found: Iterable[FinishedPart]) -> Sequence[FinishedPart]:
    """Sort parts by their numbers, once it is clear that they are all parts of one job.

    Raises:
        ConfigError: they are not.
    """
    parts = sorted(found, key=lambda each: each.number)
    for a, b in pairwise(parts):
        names = f"{a.path} (part {a.number}) and {b.path} (part {b.number})"
        if changed := [name for name in a.job if a.job[name] != b.job.get(name)]:
            raise ConfigError(f"{names} are of different jobs: different {' and '.join(changed)}")
        if a.number == b.number:
            raise ConfigError(f"{names} are the same part")
    of = parts[0].job["number of parts"]
    if missing := sorted(set(range(of)) - {each.number for each in parts}):
        words = ", ".join(f"part {i}/{of}" for i in missing)
        raise ConfigError(f"missing: {words}. Finish them, and give the outputs of all parts")
    return parts


def merge(parts: Sequence[FinishedPart], files: Files) -> None:
    """Write the rows of all parts in turn: row p of the job is in part p modulo their number."""
    for ok, line in filter(None, chain.from_iterable(zip_longest(*map(_read_rows, parts)))):
        (files.write if ok else files.fail)(line)


def _read_rows(part: FinishedPart) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a part in order, each with 1 for the output or 0 for the failures."""
    paths = (sibling_path(part.path, _FAILURES), part.path)
    is_whole = True
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(open_stream(path)) if Path(path).exists() else io.BytesIO()
            for path in paths
        ]
        try:
            for ok in zlib.decompress(b64decode(part.rows["destinations"])):
                line = streams[ok].readline()
                is_whole = is_whole and line.endswith(b"\n")
                yield ok, line.removesuffix(b"\n")
            is_whole = is_whole and not any(stream.read(1) for stream in streams)
        except (OSError, EOFError, zlib.error) as exc:
            raise InputError(f"cannot read {' or '.join(paths)}: {exc}") from exc
    if not is_whole:
        words = "has other rows than before, or is missing"
        raise InputError(f"{' or '.join(paths)} {words}. Run its command again")
