"""What people see on stderr: a bar on a terminal, one summary line everywhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self, TextIO

from codesynth.models import Stats, Usage

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

GIVE_WAY_SECONDS = 0.4
"""In a pipe, a command draws no bar for this time: the next command may still be starting."""


class Progress:
    """Shows how a run goes; a context manager.

    Args:
        stats: the run's counts, read again at each ``tick``.
        total: counts the rows to come; called only where a bar is drawn.
        name: the start of each line.
        bar: draw a bar if stderr is a terminal.
        gives_way: draw no bar if another command draws one on the same terminal. In a pipe of two
            commands the first gives way.
        status: returns words for the bar: how many requests are in flight, and what goes wrong.
    """

    def __init__(
        self,
        stats: Stats,
        total: Callable[[], int | None],
        *,
        name: str,
        bar: bool,
        gives_way: bool = False,
        status: Callable[[], str] = lambda: "",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stats = stats
        self._total = total
        self._name = name
        self._stream = stream or sys.stderr
        self._clock = clock
        self._started = clock()
        self._gives_way, self._status = gives_way, status
        self._terminal: int | None = None
        self._bar = self._make_bar() if bar and self._stream.isatty() else None

    def _make_bar(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            TextColumn(self._name),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[counts]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(file=self._stream),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        bar.add_task("", total=self._total(), counts="")
        return bar

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._terminal = _open_terminal(self._stream)
            if not self._gives_way and self._terminal is not None:
                self._show(partial(fcntl.flock, self._terminal, fcntl.LOCK_SH))
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._show(self._bar.stop)
        if self._terminal is not None:
            os.close(self._terminal)

    def tick(self) -> None:
        """Redraw the bar."""
        seconds = self._clock() - self._started
        if self._bar is None or (self._gives_way and seconds < GIVE_WAY_SECONDS):
            return
        if self._gives_way and not self._is_free():
            self._bar.stop()
            self._bar = None
            return
        stats, done = self._stats, self._stats.answered
        parts = [*_counts(stats), f"{done / max(seconds, 0.001):.1f} rows/s"]
        parts += [tokens(stats.used + stats.saved), self._status()]
        counts = ", ".join(part for part in parts if part)
        self._bar.update(self._bar.task_ids[0], completed=done, counts=counts)
        self._show(self._bar.start)
        self._show(self._bar.refresh)

    def _is_free(self) -> bool:
        """Tell whether no other command has locked the terminal for its bar."""
        if self._terminal is not None:
            try:
                fcntl.flock(self._terminal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            fcntl.flock(self._terminal, fcntl.LOCK_UN)
        return True

    def say(self, text: str) -> None:
        """Write one line for people."""
        line = f"{self._name}: {text}"
        if self._bar is not None:
            print_line = self._bar.console.print
            self._show(partial(print_line, line, markup=False, highlight=False, emoji=False))
        else:
            self._show(partial(print, line, file=self._stream, flush=True))

    def _show(self, draw: Callable[[], object]) -> None:
        """Draw; errors are ignored, because a closed terminal or a full disk must not end a run."""
        with contextlib.suppress(OSError):
            draw()

    def summary(self, *more: str) -> str:
        """Write the run's counts: ``100 in: 98 ok, 2 failed, 41k tokens, 1m12s``."""
        stats = self._stats
        parts = _counts(stats)
        if stats.pending:
            parts.append(f"{stats.pending} pending")
        if stats.attempts or stats.cached:
            parts.append(tokens(stats.used))
        parts.append(duration(self._clock() - self._started))
        return f"{stats.rows} in: " + ", ".join([*parts, *more])


def _open_terminal(stream: TextIO) -> int | None:
    """Open the terminal of a stream again, to lock it; None if the stream is not a terminal."""
    try:
        return os.open(os.ttyname(stream.fileno()), os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None


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
        if count >= 0.9995 * size:  # below, it rounds to less than one
            return f"{count / size:.{_digits(count / size)}f}{unit}"
    return str(count)


def duration(seconds: float) -> str:
    """Write a time for people.

    >>> [duration(s) for s in (0.25, 72, 7384)]
    ['0.2s', '1m12s', '2h03m']
    """
    if seconds < 59.5:
        return f"{seconds:.{_digits(seconds)}f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"


def _digits(value: float) -> int:
    """Count the digits to show after the point: 1 for a number of one digit, else none."""
    return 1 if value < 9.95 else 0
