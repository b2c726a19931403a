"""``codesynth show``: rows for reading in a terminal, or as plain text in a pipe."""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest
from itertools import islice
from random import Random
from typing import Any, TextIO

from codesynth.errors import ConfigError
from codesynth.local_settings import ShowSettings
from codesynth.models import Record
from codesynth.report.rows import as_text, find, headline, parts
from codesynth.storage import read_records

_MOST_CHARACTERS, _MOST_COLORED = 20_000, 100_000  # of a text; to color more takes seconds


def show(settings: ShowSettings) -> int:
    """Show rows; return the exit code.

    Raises:
        ConfigError: an input is a journal.
    """
    if journals := [path for path in settings.inputs if path.endswith(".journal")]:
        words = "is a journal, not rows. Try codesynth status, or codesynth report"
        raise ConfigError(f"{journals[0]} {words}")
    most = None if settings.full else _MOST_CHARACTERS
    with _pager() if os.isatty(1) else open(1, "w", encoding="utf-8", closefd=False) as out:
        write = _painter(out) if os.isatty(1) else lambda text, _: print(text, file=out)
        record = None
        for record in _choose(settings):
            write(f"===== {headline(record)}\n", "head")
            for kind, title, text in parts(record, settings, most):
                write(f"--- {title}", "title")
                folded = kind == "reasoning" and not settings.full
                write("[--full shows it]\n" if folded else f"{text.rstrip()}\n", kind)
    if record is None:
        words = "no row matches --where" if settings.where else "no rows"
        print(f"codesynth show: {words}", file=sys.stderr)
    return 0


def _choose(settings: ShowSettings) -> Iterable[Record]:
    """Choose the rows to show, in the order of the files."""
    records = read_records(settings.inputs)
    rows = (r for r in records if all(_holds(r.fields, *each) for each in settings.where))
    first = islice(rows, settings.limit)
    if settings.sample is None:
        return first
    random = Random(settings.seed)  # noqa: S311 - not for secrets
    drawn = nlargest(settings.sample, first, key=lambda _: random.random())
    return sorted(drawn, key=lambda record: record.index)


def _holds(fields: Mapping[str, Any], path: str, operator: str, wanted: str) -> bool:
    """Tell whether a condition of ``--where`` holds; see ``readers.condition``."""
    value = find(fields, path)
    if operator in ("=", "!="):
        return (as_text(value) == wanted) == (operator == "=")
    return (value is None) == (operator == "!")


def _painter(out: TextIO) -> Callable[[str, str], None]:
    from rich.console import Console
    from rich.syntax import Syntax
    from rich.text import Text

    console = Console(file=out, force_terminal=True)
    python = Syntax("", "python", theme="ansi_dark")
    styles = {"head": "bold reverse", "title": "bold cyan", "note": "dim"}

    def write(text: str, kind: str) -> None:
        is_code = kind == "code" and len(text) < _MOST_COLORED
        painted = python.highlight(text) if is_code else Text(text, styles.get(kind, ""))
        console.print(painted, soft_wrap=True)  # the pager breaks long lines itself

    return write


@contextlib.contextmanager
def _pager() -> Iterator[TextIO]:
    """Start $PAGER, else ``less -R``; without them the terminal gets the text directly."""
    command = shlex.split(os.environ.get("PAGER") or "less")
    command = command if shutil.which(command[0]) else ["cat"]
    env = {"LESS": "FRX", **os.environ}
    pager = subprocess.Popen(  # noqa: S603 - the user's own pager
        command, stdin=subprocess.PIPE, encoding="utf-8", env=env
    )
    with contextlib.suppress(BrokenPipeError), pager:  # the reader may have seen enough
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is for the pager
        yield pager.stdin  # type: ignore[misc]  # it is a pipe
