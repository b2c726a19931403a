"""One run of a command: the pipeline, its progress and its end."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from codesynth import pipeline
from codesynth.codec import dumps, loads
from codesynth.errors import CodesynthError, ConfigError
from codesynth.journal import Journal
from codesynth.models import Record, Stats
from codesynth.notes import RunNotes, fates_note, job_note
from codesynth.pipeline import RowFilter, RowWindow, Stop, Task
from codesynth.process import (
    DRAIN_SECONDS,
    EXIT_FAILED_ROWS,
    EXIT_LIMIT,
    EXIT_OK,
    stop_on_signal,
)
from codesynth.progress import Progress
from codesynth.serving import LLMServing
from codesynth.serving.limits import Budget
from codesynth.settings import RowSettings
from codesynth.storage import Files, pack_fates

_LOOK_SECONDS = 1.0
_FIX = "Choose another -o, or replace it with --overwrite"


def open_journal(
    settings: RowSettings,
    files: Files,
    path: str | None,
    stack: contextlib.ExitStack,
    log: str | None = None,
) -> Journal | None:
    """Open the run's journal, if it has one. First make sure that the run destroys no file.

    Raises:
        ConfigError: a file has two uses, or an output exists without its journal.
    """
    files.reject_shared_paths(settings.inputs, path, log)
    if path is None or not Journal.exists(path):
        files.refuse_existing(overwrite=settings.overwrite)
    return stack.enter_context(Journal(path)) if path is not None else None


class Run:
    """One run of the pipeline, its progress and its end.

    Args:
        total: counts the rows to come; None where that is not known.
        journal: keeps the answers.
        log: the file of ``--log-json``.

    Attributes:
        remarks, tally: words and counts for the summary line.
        assumed_model: the model of the journal's answers, if the user named none.
        fewest_rows: rows of the finished output that the run replaces; it must have as many.
        stop: ends the run from outside.
    """

    def __init__(
        self,
        settings: RowSettings,
        files: Files,
        total: Callable[[], int | None],
        journal: Journal | None = None,
        budget: Budget | None = None,
        log: str | None = None,
    ) -> None:
        self.settings, self.files, self.journal, self.budget = settings, files, journal, budget
        self.total = cache(total)
        self.remarks: tuple[str, ...] = ()
        self.tally: Counter[str] = Counter()
        self.assumed_model: str | None = None
        self.fewest_rows = 0
        self.stop, self.stats = Stop(), Stats()
        self.notes = RunNotes(self.stats, self.total, journal, log)
        self.notes.cost = lambda: None if budget is None else budget.spent
        limit = float("inf") if settings.max_time is None else settings.max_time
        self._deadline = time.monotonic() + limit
        self._next_look = 0.0
        self._reader_is_gone = self._out_of_time = False
        self._job, self._not_joinable = "", "--unordered" if settings.unordered else None
        self.progress = Progress(
            self.stats,
            self.total,
            name=f"codesynth {settings.command}",
            bar=not (settings.quiet or files.output.is_terminal),  # rows would tear it
            gives_way=files.output.is_pipe,
        )

    def say(self, text: str, count: int | bool = True) -> None:
        """Print a line for people; nothing with ``--quiet`` or where ``count`` is 0."""
        if count and not self.settings.quiet:
            self.progress.say(text)

    def set_job(self, job: Mapping[str, Any], journal: Journal, not_joinable: str | None) -> str:
        """Set what the output is made of; refuse to replace a finished output of another job.

        Returns ``job`` as one text.

        Args:
            job: what decides the requests; its keys appear in messages.
            not_joinable: the option with which parts of a job cannot be joined, if one is given.

        Raises:
            ConfigError: a finished output is of another job, or has more rows.
        """
        self._job = dumps(job, sort_keys=True).decode()
        self._not_joinable = not_joinable or self._not_joinable
        output = self.files.output
        if self.settings.overwrite or not output.exists():
            return self._job
        noted = journal.get_note(job_note(self.settings.output or ""))
        if noted is None:
            raise ConfigError(f"{output.path} exists, but {journal.path} does not know it. {_FIX}")
        before, now = loads(noted), loads(self._job)
        if changed := [name for name in before if now.get(name) != before[name]]:
            words = f"{output.path} is of another job (different: {', '.join(changed)})"
            raise ConfigError(f"{words}. {_FIX}")
        self.fewest_rows = output.count_rows()
        expected = self.total()
        if expected is not None and expected < self.fewest_rows:
            raise self._refusal(expected)
        return self._job

    def _refusal(self, rows: int) -> ConfigError:
        words = f"{self.files.output.path} has {self.fewest_rows} rows, this run only {rows}"
        return ConfigError(f"{words}. {_FIX}")

    def execute(
        self,
        records: Iterable[Record],
        task: Task,
        serving: LLMServing,
        filters: Sequence[RowFilter] = (),
        window: RowWindow | None = None,
    ) -> int:
        """Send the records through and finish the output; return the exit code."""
        self.files.start()
        if self.journal is not None:
            self.total()  # counted now: later there may be too many open files to do it
        try:
            with self.progress, stop_on_signal(self.stop):
                pipeline.run(
                    records,
                    task,
                    serving,
                    self.files,
                    stats=self.stats,
                    stop=self.stop,
                    chosen=self.settings.is_mine,
                    ordered=not self.settings.unordered,
                    window=window,
                    filters=filters,
                    drain_grace=self._drain_grace,
                    tick=self.tick,
                )
        except CodesynthError:
            if self.stats.answered:
                self._summarize()
            self.notes.write(complete=False)
            raise
        if self._reader_is_gone:
            raise BrokenPipeError
        return self.finish()

    @property
    def _drain_grace(self) -> float | None:
        """Seconds to wait for answers if rows cannot be written: only a journal can keep them."""
        return DRAIN_SECONDS if self.journal is not None else None

    def tick(self) -> None:
        """Draw the bar, write the figures, and stop the run at its limits."""
        self.progress.tick()
        self.notes.tick()
        now = time.monotonic()
        if now >= self._deadline:
            self._deadline = float("inf")
            self._out_of_time = True
            self.stop.trigger(None)
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            if not self._reader_is_gone and self.files.output.reader_is_gone():
                self._reader_is_gone = True
                self.stop.trigger(self._drain_grace or 0.0)

    def finish(self) -> int:
        """Finish the output if all rows are there; print the summary; return the exit code."""
        stats, stop = self.stats, self.stop
        complete = stats.all_read and not stats.pending
        if complete:
            if stats.ok < self.fewest_rows:
                words = f"The new rows are in {self.files.output.partial}"
                raise ConfigError(f"{self._refusal(stats.ok)}. {words}")
            if self.journal is not None:
                self._note_job(self.journal)
            self.files.commit()
        self.notes.write(complete=complete)
        if not complete:
            resume = "run the same command again to resume"
            self.remarks += (resume if self.journal is not None else "stopped before the end",)
        self._summarize()
        if stop.signal is not None:
            return 128 + stop.signal
        if not complete:
            return EXIT_LIMIT
        return EXIT_FAILED_ROWS if stats.failed else EXIT_OK

    def _note_job(self, journal: Journal) -> None:
        """Store in the journal what the output is made of, before the file gets its name."""
        name, files = self.settings.output or "", self.files
        about = {
            "disorder": self._not_joinable,
            "requests": self.stats.requests,
            "rows": self.stats.rows,
            "checksums": files.checksums,
            "fates": pack_fates(files.fates),
        }
        journal.set_note(fates_note(name), dumps(about).decode())
        journal.set_note(job_note(name), self._job)

    def _summarize(self) -> None:
        """Print the one-line summary; with --quiet only where rows failed."""
        if not self.settings.quiet or self.stats.failed:
            self.progress.say(self.progress.summary(*self._remarks()))

    def _remarks(self) -> Sequence[str]:
        words: list[str] = []
        if self.stats.cached:
            model = f" (model {self.assumed_model})" if self.assumed_model is not None else ""
            words.append(f"{self.stats.cached} from the journal{model}")
        if (budget := self.budget) is not None:
            spent = self.notes.cost() or 0.0
            words.append(f"spent {spent:.4g}")
            words.append(f"saved {budget.price.of(self.stats.saved):.4g}")
            if budget.limit is not None:
                words.append(f"left {max(0.0, budget.limit - spent):.4g}")
        words += self.remarks
        words += [f"{count} {what}" for what, count in self.tally.items() if count]
        if self._out_of_time:
            words.append("stopped by --max-time")
        return [*words, *filter(None, [self.stats.describe_first_failure()])]
