"""``codesynth status``: how far the parts of a job are. It takes no lock and disturbs no run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from codesynth.codec import dumps, loads
from codesynth.errors import ConfigError
from codesynth.journal import Journal, open_to_read
from codesynth.local_settings import StatusSettings
from codesynth.models import Price, Usage
from codesynth.progress import duration, tokens
from codesynth.run import FIGURES
from codesynth.storage import sibling_path

PartStatus: TypeAlias = dict[str, Any]
"""The state of a part; the keys are ``_COLUMNS``, and None means not known.

``state`` is running, finished, stopped, not begun, or no journal: then nothing else is known.
``done`` is the number of rows with a usable answer, some of them not written yet. ``last_change``
is in seconds since the epoch.
"""
_SUMS = ("done", "failed", "rejected", "pending", "tokens", "cost", "rows_per_second")
_COLUMNS = ("part", "state", *_SUMS, "last_change")


def status(settings: StatusSettings) -> int:
    """Print the state of each part and the totals; return the exit code."""
    if "-" in settings.inputs:
        raise ConfigError("status needs outputs or journals: codesynth status PART...")
    outputs = [path for path in settings.inputs if not path.endswith(".failures.jsonl")]
    parts = [read_status(path, settings.price) for path in outputs]
    running = [each for each in parts if each["state"] == "running"]
    total: PartStatus = {"part": f"total of {len(parts)}", "state": f"{len(running)} running"}
    for name in _SUMS:
        counted = running if name == "rows_per_second" else parts
        known = [each[name] for each in counted if each[name] is not None]
        total[name] = sum(known) if known else None
    total["last_change"] = max((each["last_change"] or 0 for each in parts), default=0) or None
    if settings.json:
        print(dumps({"parts": parts, "total": total}).decode())
        return 0
    headings = [name.upper().replace("_", " ") for name in _COLUMNS]
    table = [headings, *(_cells(each) for each in [*parts, total])]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = enumerate(zip(row, widths, strict=True))
        print("  ".join(f"{cell:{'<' if i < 2 else '>'}{width}}" for i, (cell, width) in cells))
    return 0


def read_status(path: str, price: Price | None = None) -> PartStatus:
    """Read the state of the part whose output or journal is at ``path``.

    Raises:
        JournalError: its journal is damaged.
    """
    found: PartStatus = dict.fromkeys(_COLUMNS) | {"part": path}
    journal = path if path.endswith(".journal") else sibling_path(path, ".journal")
    if not Journal.exists(journal):
        begun = Path(path).exists() or Path(f"{path}.partial").exists()
        return found | {"state": "no journal" if begun else "not begun"}
    with open_to_read(journal) as opened:
        figures, used = loads(opened.get_note(FIGURES) or "{}"), opened.spent
        found |= {"done": opened.answers, "tokens": used.prompt_tokens + used.completion_tokens}
    if price is not None:
        found["cost"] = price.of(used)
    if figures:
        found |= _read_figures(figures)
    state = "finished" if figures.get("complete") else "stopped"
    return found | {"state": "running" if Journal.is_held(journal) else state}


def _read_figures(figures: dict[str, Any]) -> PartStatus:
    """Take the counts from the figures of a run; see ``Run.figures``."""
    failed, rejected = (sum(figures[name].values()) for name in ("failed", "rejected"))
    answered, total = figures["answered"], figures["total"]
    asked, seconds = answered - figures["from_journal"], figures["seconds"]
    return {
        "done": answered - failed - rejected,
        "failed": failed,
        "rejected": rejected,
        "pending": None if total is None else max(0, total - answered),
        "rows_per_second": round(asked / max(seconds, 0.001), 2),
        "last_change": figures["time"],
    }


def _cells(each: PartStatus) -> list[str]:
    words: dict[str, Callable[[Any], str]] = {
        "tokens": lambda count: tokens(Usage(count)).split()[0],
        "cost": lambda cost: f"{cost:.4g}",
        "last_change": lambda then: f"{duration(max(0.0, time.time() - then))} ago",
    }
    return ["-" if each[n] is None else words.get(n, str)(each[n]) for n in _COLUMNS]
