"""What people see on stderr: a bar on a terminal, one summary line everywhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Self, TextIO

from codesynth.models import Stats, Usage

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

GIVE_WAY_SECONDS = 0.4
"""In a pipe, a command draws no bar for this time: the next command may still be starting."""
_IGNORED = contextlib.suppress(OSError)
"""A terminal that is closed, or a disk that is full, must not end a run."""


@dataclass(eq=False, repr=False)
class Progress:
    """Shows how a run goes; a context manager.

    With ``gives_way`` it draws no bar if another command draws one on the same terminal: in a pipe
    of two commands the first gives way.
    """

    stats: Stats  # read again at each ``tick``
    total: int | None  # number of rows to come, if it is known
    _: KW_ONLY
    name: str  # the start of each line
    bar: bool  # draw one if stderr is a terminal
    gives_way: bool = False
    status: Callable[[], str] = lambda: ""  # requests in flight, and what goes wrong
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._terminal: int | None = None
        self._bar = self._make_bar() if self.bar and self.stream.isatty() else None

    def _make_bar(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn(self.name),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[counts]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(file=self.stream),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        bar.add_task("", total=self.total, counts="")
        return bar

    def __enter__(self) -> Self:
        if self._bar is not None:
            with _IGNORED:  # opened again, because a lock belongs to what was opened
                name = os.ttyname(self.stream.fileno())
                self._terminal = os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
                if not self.gives_way:
                    fcntl.flock(self._terminal, fcntl.LOCK_SH)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            with _IGNORED:
                self._bar.stop()
        if self._terminal is not None:
            os.close(self._terminal)

    def tick(self) -> None:
        """Redraw the bar."""
        seconds = self.clock() - self._started
        if self._bar is None or (self.gives_way and seconds < GIVE_WAY_SECONDS):
            return
        if self.gives_way and self._is_taken():
            self._bar.stop()
            self._bar = None
            return
        stats, done = self.stats, self.stats.answered
        parts = [*_counts(stats), f"{done / max(seconds, 0.001):.1f} rows/s"]
        parts += [tokens(stats.tokens + stats.tokens_from_journal), self.status()]
        counts = ", ".join(part for part in parts if part)
        self._bar.update(self._bar.task_ids[0], completed=done, counts=counts)
        with _IGNORED:
            self._bar.start()
            self._bar.refresh()

    def _is_taken(self) -> bool:
        """Tell whether another command has locked the terminal for its bar."""
        if self._terminal is None:
            return False
        try:
            fcntl.flock(self._terminal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(self._terminal, fcntl.LOCK_UN)
        return False

    def say(self, text: str) -> None:
        """Write one line for people."""
        line = f"{self.name}: {text}"
        with _IGNORED:
            if self._bar is not None:
                self._bar.console.print(line, markup=False, highlight=False, emoji=False)
            else:
                print(line, file=self.stream, flush=True)

    def summary(self, *more: str) -> str:
        """Write the run's counts: ``100 in: 98 ok, 2 failed, 41k tokens, 1m12s``."""
        stats = self.stats
        parts = _counts(stats)
        if stats.pending:
            parts.append(f"{stats.pending} pending")
        if stats.attempts or stats.from_journal:
            parts.append(tokens(stats.tokens))
        parts.append(duration(self.clock() - self._started))
        return f"{stats.rows} in: " + ", ".join([*parts, *more])


def _counts(stats: Stats) -> list[str]:
    rejected = [f"{stats.rejected} rejected"] if stats.rejected else []
    return [f"{stats.ok} ok", *rejected, f"{stats.failed} failed"]


def tokens(used: Usage) -> str:
    """Write the number of tokens for people.

    >>> tokens(Usage(40_000, 1_400)), tokens(Usage(100, 900, reasoning_tokens=800))
    ('41k tokens', '1.0k tokens (89 % of the answers reasoning)')
    """
    words = f"{_short(used.prompt_tokens + used.completion_tokens)} tokens"
    shares = (
        (used.reasoning_tokens, used.completion_tokens, "answers reasoning"),
        (used.cached_tokens, used.prompt_tokens, "prompts cached"),
    )
    about = [
        f"{100 * part / whole:.0f} % of the {what}"
        for part, whole, what in shares
        if part and whole
    ]
    return f"{words} ({', '.join(about)})" if about else words


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{_round(count / size)}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> [duration(s) for s in (0.25, 72, 7384)]
    ['0.2s', '1m12s', '2h03m']
    """
    if seconds < 59.5:
        return f"{_round(seconds)}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _round(value: float) -> str:
    """Write a number with one digit after the point if it has one digit before it, else none."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
