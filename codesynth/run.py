"""One run of a command: its files and journal, its figures, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesynth import pipeline
from codesynth.codec import dumps, loads
from codesynth.command_spec import CommandSpec
from codesynth.errors import CodesynthError, ConfigError, OutputError
from codesynth.journal import Journal
from codesynth.models import Stats
from codesynth.pipeline import Stop
from codesynth.process import EXIT_FAILED_ROWS, EXIT_LIMIT, EXIT_OK
from codesynth.progress import Progress
from codesynth.serving import LLMServing
from codesynth.serving.limits import Budget
from codesynth.settings import RowSettings
from codesynth.storage import Files

FIGURES = "figures"
"""The journal's note with the figures of its latest run; see ``Run.figures``."""
_FIGURES_SECONDS = 1.0
"""Time between two writings of the figures."""
_DRAIN_SECONDS = 3.0
"""After a signal, requests in flight have this time to be answered, because they are paid for."""
_EXIT_SECONDS = 4.5
"""After a signal, a run ends after this time in any case."""
_FIX = "Choose another -o, or replace it with --overwrite"


def output_note(output: str) -> str:
    """Name the journal's note of what a finished output was made of, and where its rows are."""
    return f"output {Path(output).name}"


def open_journal(
    settings: RowSettings, files: Files, path: str | None, stack: contextlib.ExitStack
) -> Journal | None:
    """Open the run's journal, if it has one. First make sure that the run destroys no file.

    Raises:
        ConfigError: a file has two uses, or an output exists without its journal.
    """
    files.reject_shared_paths(settings.inputs, path, settings.log_json)
    if path is None or not Journal.exists(path):
        files.refuse_existing(overwrite=settings.overwrite)
    return stack.enter_context(Journal(path)) if path is not None else None


@dataclass(kw_only=True, eq=False, repr=False)
class Run:
    """One run of a command: the pipeline, its progress and its end.

    Raises:
        ConfigError: a finished output is of another job, or has more rows.
    """

    settings: RowSettings
    spec: CommandSpec
    files: Files
    journal: Journal | None
    budget: Budget | None = None
    status: Callable[[], str] = lambda: ""  # words for the bar
    load: Callable[[], tuple[int, int] | None] = lambda: None  # requests in flight, and their limit
    assumed_model: str | None = None  # of the journal's answers, if the user named none

    def __post_init__(self) -> None:
        self.stop, self.stats = Stop(), Stats()
        self.job = dumps(self.spec.identity, sort_keys=True).decode()
        self.progress = Progress(
            self.stats,
            self.spec.total,
            name=f"codesynth {self.settings.command}",
            bar=not (self.settings.quiet or self.files.output.is_terminal),  # rows would tear it
            gives_way=self.files.output.is_pipe,
            status=self.status,
        )
        self._started = time.monotonic()
        self._next_figures = self._started + _FIGURES_SECONDS
        self._noted: tuple[int, ...] = ()
        self._out_of_time = False
        self._fewest_rows = self._count_finished()

    def _count_finished(self) -> int:
        """Count the rows of the finished output that the run replaces: it must have as many."""
        journal, output = self.journal, self.files.output
        if journal is None or self.settings.overwrite or not output.exists():
            return 0
        noted = journal.get_note(output_note(self.settings.output or ""))
        if noted is None:
            raise ConfigError(f"{output.path} exists, but {journal.path} does not know it. {_FIX}")
        before, now = loads(noted)["job"], loads(self.job)
        if changed := [name for name in before if now.get(name) != before[name]]:
            words = f"{output.path} was made by another job; these differ: {', '.join(changed)}"
            raise ConfigError(f"{words}. {_FIX}")
        rows, expected = output.count_rows(), self.spec.total
        if expected is not None and expected < rows:
            raise self._refusal(rows, expected)
        return rows

    def _refusal(self, before: int, now: int) -> ConfigError:
        words = f"{self.files.output.path} has {before} rows, but this run would write only {now}"
        return ConfigError(f"{words}. {_FIX}")

    def say(self, text: str) -> None:
        """Print a line for people; nothing with ``--quiet``."""
        if not self.settings.quiet:
            self.progress.say(text)

    @contextlib.contextmanager
    def running(self, exit_after: float = _EXIT_SECONDS) -> Iterator[None]:
        """Draw the bar, and stop the run when a signal comes; ``pipeline.responses`` sees that.

        A second signal ends the process at once; it ends in any case ``exit_after`` seconds after
        the first one. A signal that was ignored from the start (SIGHUP under nohup, SIGINT in the
        background) stays ignored.
        """

        def on_signal(number: int, _: object) -> None:
            if self.stop.signal is not None:
                os._exit(128 + number)
            self.stop.signal = number
            self.stop.trigger(_DRAIN_SECONDS)
            watchdog = threading.Timer(exit_after, os._exit, (128 + number,))
            watchdog.daemon = True
            watchdog.start()

        with self.progress:
            before = {
                number: signal.signal(number, on_signal)
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
                if signal.getsignal(number) is not signal.SIG_IGN
            }
            try:
                yield
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)

    def execute(self, serving: LLMServing) -> int:
        """Send the rows through ``serving`` and finish the output; return the exit code."""
        spec, settings = self.spec, self.settings
        self.write_figures()  # if that fails, nothing was asked
        self.files.start()
        try:
            with self.running():
                pipeline.run(
                    spec.records,
                    spec.task,
                    serving,
                    self.files,
                    stats=self.stats,
                    stop=self.stop,
                    chosen=settings.is_in_shard,
                    ordered=not settings.unordered,
                    window=spec.window,
                    filters=spec.filters,
                    decided=spec.decided,
                    # only a journal can keep the answers in flight if rows cannot be written
                    drain_grace=_DRAIN_SECONDS if self.journal is not None else None,
                    tick=self.tick,
                )
        except CodesynthError:
            if self.stats.answered:
                self._summarize()
            self.write_figures()
            raise
        return self.finish()

    def tick(self) -> None:
        """Draw the bar, write the figures, and stop the run at its limits."""
        self.progress.tick()
        now, most = time.monotonic(), self.settings.max_time
        if most is not None and now >= self._started + most and not self._out_of_time:
            self._out_of_time = True
            self.stop.trigger(None)
        if now >= self._next_figures:
            self._next_figures = now + _FIGURES_SECONDS
            self.write_figures()

    def write_figures(self, *, complete: bool = False) -> None:
        """Add the figures of this moment to ``--log-json``; note them in the journal if new."""
        if self.journal is None and self.settings.log_json is None:
            return
        line = dumps(self.figures(complete=complete))
        counts = (complete, self.stats.rows, self.stats.answered, self.stats.pending)
        if self.journal is not None and counts != self._noted:
            self._noted = counts
            self.journal.set_note(FIGURES, line.decode())
        if (path := self.settings.log_json) is not None:
            try:
                with open(path, "ab") as file:
                    file.write(line + b"\n")
            except OSError as exc:
                raise OutputError(f"cannot write {path}: {exc.strerror}") from exc

    def figures(self, *, complete: bool) -> dict[str, Any]:
        """Return the figures of this moment; the keys are those of ``--log-json``."""
        stats = self.stats
        in_flight, limit = self.load() or (None, None)
        return {
            "time": round(time.time(), 3),
            "seconds": round(time.monotonic() - self._started, 3),
            "complete": complete,
            "total": self.spec.total,
            "rows": stats.rows,
            "ok": stats.ok,
            "failed": stats.failures,
            "rejected": stats.rejections,
            "answered": stats.answered,
            "from_journal": stats.from_journal,
            "attempts": stats.attempts,
            "tokens": stats.tokens,
            "tokens_from_journal": stats.tokens_from_journal,
            "in_flight": in_flight,
            "limit": limit,
            "cost": None if self.budget is None else self.budget.spent,
        }

    def finish(self) -> int:
        """Finish the output if all rows are there; print the summary; return the exit code."""
        stats, stop = self.stats, self.stop
        complete = stats.all_read and not stats.pending
        if complete:
            if stats.ok < self._fewest_rows:
                words = f"The new rows are in {self.files.output.partial}"
                raise ConfigError(f"{self._refusal(self._fewest_rows, stats.ok)}. {words}")
            if self.journal is not None:
                self._note_output(self.journal)
            self.files.commit()
        self.write_figures(complete=complete)
        self._summarize(complete=complete)
        if stop.signal is not None:
            return 128 + stop.signal
        if not complete:
            return EXIT_LIMIT
        return EXIT_FAILED_ROWS if stats.failed else EXIT_OK

    def _note_output(self, journal: Journal) -> None:
        """Store in the journal what the output is made of, before the file gets its name."""
        unordered = "--unordered" if self.settings.unordered else None
        about = {
            "job": loads(self.job),
            "requests": self.stats.requests,
            "not_joinable": self.spec.not_joinable or unordered,
            "destinations": b64encode(zlib.compress(self.files.destinations)).decode(),
        }
        journal.set_note(output_note(self.settings.output or ""), dumps(about).decode())

    def _summarize(self, *, complete: bool = True) -> None:
        """Print the one-line summary; with --quiet only where rows failed."""
        if self.settings.quiet and not self.stats.failed:
            return
        words = [*self._remarks(), *self.spec.remarks()]
        if not complete:
            resume = "run the same command again to resume"
            words.append(resume if self.journal is not None else "stopped before the end")
        words += filter(None, [self.stats.describe_first_failure()])
        self.progress.say(self.progress.summary(*words))

    def _remarks(self) -> Iterator[str]:
        if self.stats.from_journal:
            model = f" (model {self.assumed_model})" if self.assumed_model is not None else ""
            yield f"{self.stats.from_journal} from the journal{model}"
        if (budget := self.budget) is not None:
            saved = budget.price.of(self.stats.tokens_from_journal)
            yield f"spent {budget.spent:.4g}, saved {saved:.4g}"
        if self._out_of_time:
            yield "stopped by --max-time"
