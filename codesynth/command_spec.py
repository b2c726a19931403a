"""What a command brings into its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesynth.errors import ConfigError
from codesynth.models import Record, RowFilter
from codesynth.pipeline import RowWindow, Task


@dataclass(kw_only=True, eq=False, repr=False)
class CommandSpec:
    """The task, the rows and the filters of a run, and how it is told from other jobs.

    The identity is what all requests have in common, as JSON. A finished output is replaced only
    by a run with the same identity; its keys appear in messages.
    """

    task: Task
    columns: Sequence[str]  # names of the new ones, as far as they are known before the answers
    records: Iterator[Record]
    identity: Mapping[str, Any]
    total: int | None = None  # number of rows to come, if it is known
    window: RowWindow | None = None
    filters: Sequence[RowFilter] = ()
    decided: Callable[[bool], None] = lambda _: None  # called for each row: was it written?
    remarks: Callable[[], Iterable[str]] = tuple  # words for the summary line
    not_joinable: str | None = None  # an option that was given, with which parts cannot be joined


def check_names(columns: Sequence[str]) -> None:
    """Make sure that no two new columns have the same name; else ConfigError."""
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise ConfigError(f'two new columns would have the name "{twice[0]}". Rename one')


def in_words(counts: Mapping[str, int]) -> list[str]:
    """Write counts for the summary line: ``3 passed``; none that is 0."""
    return [f"{count} {what}" for what, count in counts.items() if count]
