"""``codesynth status``: how far the parts of a job are. It takes no lock and disturbs no run."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError
from codesynth.journal import Journal, open_to_read
from codesynth.models import REJECTIONS, Usage
from codesynth.notes import FIGURES
from codesynth.progress import duration, tokens
from codesynth.settings import StatusSettings
from codesynth.storage import open_text, read_lines, sibling_path

EXIT_OK = 0
_LOCK = "hhqqi" if sys.platform == "linux" else "qqihh"
"""``struct flock``: type, whence, start, length, process; elsewhere the first two come last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """How one part stands; None is not known.

    Attributes:
        state: ``running``, ``finished``, ``stopped`` or ``not begun``.
        shard: number of the part, and of all parts.
        done: rows with a usable answer; some may wait for their turn to be written.
        last_change: of one of its files, in seconds since the epoch.
    """

    part: str
    state: str
    shard: list[int] | None = None
    done: int = 0
    failed: int | None = None
    rejected: int | None = None
    pending: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    rows_per_second: float | None = None
    last_change: float | None = None


def status(told: StatusSettings) -> int:
    """Print how the parts stand; return the exit code.

    Raises:
        ConfigError: no part is named.
        JournalError: a journal is damaged.
    """
    if "-" in told.inputs:
        raise ConfigError("status needs outputs or journals: codesynth status PART...")
    parts = [read_status(path, told.price) for path in told.inputs]
    total = _total(parts)
    if told.json:
        both = {"parts": [asdict(each) for each in parts], "total": asdict(total)}
        print(dumps(both).decode())
    else:
        _print_table([*parts, total], with_cost=told.price is not None)
        if unlisted := _unlisted(parts):
            print(f"not listed: {', '.join(unlisted)}")
    return EXIT_OK


def read_status(path: str, price: tuple[float, float] | None = None) -> PartStatus:
    """Read how the part stands whose output or journal is at ``path``.

    Raises:
        JournalError: its journal is damaged.
    """
    is_journal = path.endswith(".journal")
    journal_path = path if is_journal else sibling_path(path, ".journal")
    files = [journal_path, f"{journal_path}-wal"]
    files += [] if is_journal else [path, f"{path}.partial"]
    times = [Path(file).stat().st_mtime for file in files if Path(file).exists()]
    if not Journal.exists(journal_path):
        return _count_lines(path, max(times, default=None))
    with open_to_read(journal_path) as journal:
        figures, job = loads(journal.note(FIGURES) or "{}"), loads(journal.note("job") or "{}")
        used, answers = journal.spent(), journal.answers
    state = "finished" if figures.get("complete") else "stopped"
    cost = None
    if price is not None:
        cost = (used.prompt_tokens * price[0] + used.completion_tokens * price[1]) / 1e6
    return PartStatus(
        part=path,
        state="running" if is_locked(journal_path) else state,
        shard=job.get("shard"),
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cost=cost,
        last_change=max(times),
        **(_counts(figures) if figures else {"done": answers}),
    )


def _counts(figures: dict[str, Any]) -> dict[str, Any]:
    """Take the counts from what the run has noted; see ``notes.RunNotes.figures``."""
    failed, rejected = sum(figures["failed"].values()), sum(figures["rejected"].values())
    answered, total, seconds = figures["answered"], figures["total"], figures["seconds"]
    asked = answered - figures["from_journal"]
    return {
        "done": answered - failed - rejected,
        "failed": failed,
        "rejected": rejected,
        "pending": None if total is None else max(0, total - answered),
        "rows_per_second": round(asked / seconds, 2) if seconds else None,
    }


def _count_lines(path: str, last_change: float | None) -> PartStatus:
    """Count the lines of an output that has no journal, such as one of ``verify``."""
    done = failed = rejected = 0
    finished = Path(path).exists()
    suffix = "" if finished else ".partial"
    for _ in _lines(path + suffix):
        done += 1
    for line in _lines(sibling_path(path, ".failures.jsonl") + suffix):
        kind = loads(line)["error"]["kind"]
        rejected += kind in REJECTIONS
        failed += kind not in REJECTIONS
    state = "not begun" if last_change is None else "finished" if finished else "unfinished"
    return PartStatus(
        part=path,
        state=state,
        done=done,
        failed=failed,
        rejected=rejected,
        pending=0 if finished else None,
        last_change=last_change,
    )


def _lines(path: str) -> Iterator[bytes]:
    if Path(path).exists():
        with open_text(path) as stream:
            for _, _, line in read_lines(stream, path):
                yield line


def is_locked(path: str) -> bool:
    """Tell whether a process holds a lock on a file, here or on another machine; takes none."""
    fields = [fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0]
    turn = 0 if _LOCK.startswith("h") else 2
    asked = struct.pack(_LOCK, *fields[turn:], *fields[:turn])
    with open(path, "rb") as file:
        found = struct.unpack(_LOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
    return bool(found[-turn] != fcntl.F_UNLCK)


def _total(parts: Sequence[PartStatus]) -> PartStatus:
    """Add the parts up; what is not known of one is not known of all."""

    def add(values: Iterable[float | None]) -> Any:
        known = list(values)
        return None if None in known else sum(each for each in known if each is not None)

    running = [each for each in parts if each.state == "running"]
    return PartStatus(
        part=f"total of {len(parts)}",
        state=f"{len(running)} running",
        done=add(each.done for each in parts),
        failed=add(each.failed for each in parts),
        rejected=add(each.rejected for each in parts),
        pending=add(each.pending for each in parts),
        prompt_tokens=add(each.prompt_tokens for each in parts),
        completion_tokens=add(each.completion_tokens for each in parts),
        cost=add(each.cost for each in parts),
        rows_per_second=add(each.rows_per_second for each in running),
        last_change=max((each.last_change or 0 for each in parts), default=0) or None,
    )


def _unlisted(parts: Sequence[PartStatus]) -> list[str]:
    """Name the parts of the same division that were not asked for."""
    shards = [each.shard for each in parts if each.shard is not None]
    divisions = {of for _, of in shards}
    if len(divisions) != 1 or len(shards) != len(parts):
        return []
    of = divisions.pop()
    return [f"part {i}/{of}" for i in sorted(set(range(of)) - {part for part, _ in shards})]


def _print_table(parts: Sequence[PartStatus], *, with_cost: bool) -> None:
    names = ["PART", "STATE", "DONE", "FAILED", "REJECTED", "PENDING", "TOKENS", "COST"]
    table = [[*names, "ROWS/S", "LAST CHANGE"], *map(_cells, parts)]
    if not with_cost:
        for row in table:
            del row[names.index("COST")]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        first = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        rest = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        print("  ".join(first + rest))


def _cells(each: PartStatus) -> list[str]:
    numbers = [each.done, each.failed, each.rejected, each.pending]
    used = None
    if each.prompt_tokens is not None and each.completion_tokens is not None:
        used = tokens(Usage(each.prompt_tokens, each.completion_tokens)).split()[0]
    changed = None
    if each.last_change is not None:
        changed = f"{duration(max(0.0, time.time() - each.last_change))} ago"
    cost = None if each.cost is None else f"{each.cost:.4g}"
    cells = [each.part, each.state, *numbers, used, cost, each.rows_per_second, changed]
    return ["-" if cell is None else str(cell) for cell in cells]
