"""``codesynth show``: rows for reading in a terminal, or as plain text in a pipe."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import TextIO

from codesynth.models import Record
from codesynth.report.rows import headline, matches, parts
from codesynth.settings import ShowSettings
from codesynth.storage import read_records

_MOST_CHARACTERS, _MOST_COLORED = 20_000, 100_000  # of a text; to color more takes seconds
_STYLES = {"head": "bold reverse", "title": "bold cyan", "note": "dim"}


def show(told: ShowSettings) -> int:
    """Show rows; return the exit code.

    Raises:
        InputError: a file cannot be read.
        BrokenPipeError: the reader of standard output went away.
    """
    most = None if told.full else _MOST_CHARACTERS
    with _pager() if os.isatty(1) else open(1, "w", encoding="utf-8", closefd=False) as out:
        write = _painter(out) if os.isatty(1) else lambda text, _: print(text, file=out)
        for record in choose(told):
            write(f"===== {headline(record)}\n", "head")
            for kind, title, text in parts(record, told, most):
                write(f"--- {title}", "title")
                if kind == "reasoning" and not told.full:
                    text = f"[{len(text.splitlines()):,} lines; --full shows them]"
                write(f"{text.rstrip()}\n", kind)
    return 0


def choose(told: ShowSettings) -> Iterable[Record]:
    """Choose the rows to show, in the order of the files."""
    rows: Iterator[Record] = (
        record
        for record in read_records(told.inputs)
        if all(matches(record.fields, condition) for condition in told.where)
    )
    rows = islice(rows, told.limit)
    if told.sample is None:
        return rows
    draw, kept = Random(told.seed), list(islice(rows, told.sample))  # noqa: S311
    for number, record in enumerate(rows, told.sample):
        if (place := draw.randrange(number + 1)) < told.sample:
            kept[place] = record
    return sorted(kept, key=lambda record: record.index)


def _painter(out: TextIO) -> Callable[[str, str], None]:
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.text import Text

    console, python = (
        Console(file=out, force_terminal=True),
        Syntax("", "python", theme="ansi_dark"),
    )

    def write(text: str, kind: str) -> None:
        painted = Text(text, _STYLES.get(kind, ""))
        if kind == "code" and len(text) < _MOST_COLORED:
            painted = python.highlight(text)
        console.print(painted, soft_wrap=True)  # the pager breaks long lines itself

    return write


@contextlib.contextmanager
def _pager() -> Iterator[TextIO]:
    """Start $PAGER, else ``less -R``; without them the terminal gets the text directly."""
    command = shlex.split(os.environ.get("PAGER") or "less")
    command = command if shutil.which(command[0]) else ["cat"]
    env = {"LESS": "FRX", **os.environ}
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # in the pager it means something else
    with (
        contextlib.suppress(BrokenPipeError),  # the reader has seen enough
        subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8", env=env) as pager,  # noqa: S603
    ):
        yield pager.stdin  # type: ignore[misc]  # it is a pipe
