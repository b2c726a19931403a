"""``codesynth show``: rows for reading in a terminal, or as plain text in a pipe."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import TextIO

from codesynth.report.rows import Part, View, describe, matches
from codesynth.settings import ShowSettings
from codesynth.storage import read_records

MOST_CHARACTERS = 20_000
_MOST_COLORED = 100_000  # characters; to highlight more takes seconds


def show(told: ShowSettings) -> int:
    """Show rows; return the exit code.

    Raises:
        InputError: a file cannot be read.
        BrokenPipeError: the reader of standard output went away.
    """
    most = None if told.full else MOST_CHARACTERS
    with contextlib.ExitStack() as stack:
        if os.isatty(1):
            write = _painter(stack.enter_context(_pager()))
        else:
            write = _printer(stack.enter_context(open(1, "w", encoding="utf-8", closefd=False)))
        for view in choose(told):
            for part in describe(view, told, most):
                if part.kind == "reasoning" and not told.full:
                    lines = part.text.count("\n") + 1
                    part = Part("note", part.title, f"[{lines:,} lines, shown with --full]")
                write(part)
    return 0


def choose(told: ShowSettings) -> Iterable[View]:
    """Choose the rows to show, in the order of the files."""
    rows: Iterator[View] = (
        View.of(record)
        for record in read_records(told.inputs)
        if all(matches(record.fields, condition) for condition in told.where)
    )
    rows = islice(rows, told.limit)
    if told.sample is None:
        return rows
    draw, kept = Random(told.seed), list(enumerate(islice(rows, told.sample)))
    for number, view in enumerate(rows, told.sample):
        if (place := draw.randrange(number + 1)) < told.sample:
            kept[place] = number, view
    return [view for _, view in sorted(kept, key=lambda each: each[0])]


def _printer(out: TextIO) -> Callable[[Part], None]:
    def write(part: Part) -> None:
        if part.kind == "head":
            out.write(f"===== {part.title}\n\n")
        else:
            out.write(f"--- {part.title}\n{part.text}\n\n")

    return write


def _painter(out: TextIO) -> Callable[[Part], None]:
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.text import Text

    console, python = (
        Console(file=out, force_terminal=True),
        Syntax("", "python", theme="ansi_dark"),
    )

    def write(part: Part) -> None:
        # soft_wrap: the pager breaks long lines itself
        if part.kind == "head":
            console.print(Text(f"===== {part.title}\n", "bold reverse"), soft_wrap=True)
            return
        console.print(Text(f"--- {part.title}", "bold cyan"), soft_wrap=True)
        text = Text(part.text, "dim" if part.kind == "note" else "")
        if part.kind == "code" and len(part.text) < _MOST_COLORED:
            text = python.highlight(part.text)
        console.print(text, soft_wrap=True, end="\n\n")

    return write


@contextlib.contextmanager
def _pager() -> Iterator[TextIO]:
    """Start $PAGER, else ``less -R``; where it cannot be started, use standard output itself."""
    command = shlex.split(os.environ.get("PAGER", "less")) or ["cat"]
    if Path(command[0]).name == "less":
        command.append("-R")
    env = {"LESS": "FRX", **os.environ}
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8", env=env)  # noqa: S603 - the user's own
    except OSError:
        with open(1, "w", encoding="utf-8", closefd=False) as out:
            yield out
        return
    try:
        with contextlib.suppress(BrokenPipeError):  # the reader has seen enough
            yield pager.stdin  # type: ignore[misc]  # it is a pipe
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # in the pager it means something else
        with contextlib.suppress(BrokenPipeError):
            pager.communicate()
