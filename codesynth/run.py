"""One run of a command: the pipeline, its progress and its end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from codesynth import pipeline
from codesynth.codec import dumps, loads
from codesynth.commands import CommandSpec
from codesynth.errors import CodesynthError, ConfigError
from codesynth.journal import Journal
from codesynth.models import Failure, Record, Stats
from codesynth.notes import RunNotes, fates_note, job_note
from codesynth.pipeline import Part, RowFilter, RowWindow, Shard, Stop, Task
from codesynth.process import DRAIN_SECONDS, signals
from codesynth.progress import Progress
from codesynth.serving import LLMServing
from codesynth.serving.answers import one_line
from codesynth.serving.limits import Budget
from codesynth.settings import RowSettings
from codesynth.storage import Files, pack_fates

if TYPE_CHECKING:
    pass

EXIT_OK, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 3, 5


class Job:
    """What a finished output was made of, so that it is only replaced by as much of the same.

    Args:
        identity: what decides the requests, as JSON; its keys are named to people.

    Raises:
        ConfigError: there is a finished output that this run would not equal.
    """

    def __init__(
        self,
        run: Run,
        journal: Journal,
        identity: dict[str, Any],
        spec: CommandSpec,
    ) -> None:
        self._run, self._output, self._journal = run, run.files.output, journal
        unordered = "--unordered" if run.settings.unordered else None
        self._disorder = "--accepted" if spec.quota is not None else unordered
        self.text = dumps(identity, sort_keys=True).decode()
        self._name = run.settings.output or ""
        if run.settings.overwrite or not self._output.exists():
            self._rows = 0
            return
        noted = journal.note(job_note(self._name))
        if noted is None:
            raise ConfigError(
                f"{self._output.path} exists, but {journal.path} does not know it. Choose another "
                "-o, or replace it with --overwrite"
            )
        before = loads(noted)
        changed = [name for name in before if loads(self.text).get(name) != before[name]]
        if changed:
            raise ConfigError(
                f"{self._output.path} was made with other {' and '.join(changed)}. Choose another "
                "-o, or replace it with --overwrite"
            )
        self._rows = self._output.count_rows()
        expected = run.total()
        if expected is not None and expected < self._rows:
            raise self._refusal(expected)

    def _refusal(self, rows: int) -> ConfigError:
        return ConfigError(
            f"{self._output.path} has {self._rows} rows, this run only {rows}. Replace it with "
            "--overwrite, or choose another -o"
        )

    def finish(self) -> None:
        """Take note of a finished output; called before its file is put in place.

        Raises:
            ConfigError: it has fewer rows than the one that is there.
        """
        stats, files = self._run.stats, self._run.files
        if stats.ok < self._rows:
            words = self._refusal(stats.ok)
            raise ConfigError(f"{words}. The new rows are in {self._output.partial}")
        about = {
            "disorder": self._disorder,
            "requests": stats.requests,
            "rows": stats.rows,
            "checksums": files.checksums,
            "fates": pack_fates(files.fates),
        }
        self._journal.set_note(fates_note(self._name), dumps(about).decode())
        self._journal.set_note(job_note(self._name), self.text)


class Run:
    """One run of the pipeline, its progress and its end.

    Attributes:
        remarks, tally: for the summary line.
        job: where there is a journal.
        stop: ends it from outside.
        total: counts the rows to come, where that is known; counted once.
    """

    def __init__(
        self,
        settings: RowSettings,
        name: str,
        files: Files,
        total: Callable[[], int | None],
        budget: Budget | None = None,
        log: str | None = None,
    ) -> None:
        self.settings, self.files, self.budget = settings, files, budget
        self.total = cache(total)
        self.remarks: tuple[str, ...] = ()
        self.tally: Counter[str] = Counter()
        self.job: Job | None = None
        self.fewest_rows = 0
        self.stats = Stats()
        self.notes = RunNotes(self.stats, self.total, log)
        self.notes.cost = lambda: None if budget is None else budget.spent
        self.part: Part = Shard(*settings.shard)
        self.stop = Stop()
        self._deadline = time.monotonic() + (
            float("inf") if settings.max_time is None else settings.max_time
        )
        self._first_failure: tuple[int, str] | None = None
        self._next_look = 0.0
        self._reader_is_gone = self._out_of_time = False
        self.progress = Progress(
            self.stats,
            self.total,
            name=f"codesynth {name}",
            bar=not (settings.quiet or files.output.is_terminal),  # rows would tear it
            gives_way=files.output.is_pipe,
        )

    def say(self, text: str) -> None:
        """Print a line for people, unless they asked for quiet."""
        if not self.settings.quiet:
            self.progress.say(text)

    def say_if(self, condition: bool, text: str) -> None:
        """Print a line for people where it applies."""
        if condition:
            self.say(text)

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
        if self.job is not None:
            self.total()  # noted once a second; counted before files run short
        grace = DRAIN_SECONDS if self.job is not None else None
        try:
            with self.progress, signals(self.stop):
                pipeline.run(
                    records,
                    task,
                    serving,
                    self.files,
                    stats=self.stats,
                    stop=self.stop,
                    part=self.part,
                    ordered=not self.settings.unordered,
                    window=window,
                    filters=filters,
                    drain_grace=grace,
                    tick=self.tick,
                    on_failure=self._note_failure,
                )
        except CodesynthError:
            if self.stats.answered:
                self._summarize()
            self.notes.tell(complete=False)
            raise
        if self._reader_is_gone:
            raise BrokenPipeError
        return self.finish()

    def tick(self) -> None:
        """Show how the run goes, and look after its limits."""
        self.progress.tick()
        self.notes.tick()
        now = time.monotonic()
        if now >= self._deadline:
            self._deadline = float("inf")
            self._out_of_time = True
            self.stop.ask(None)
        if now >= self._next_look:
            self._next_look = now + 1.0
            if not self._reader_is_gone and self.files.output.reader_is_gone():
                self._reader_is_gone = True
                self.stop.ask(DRAIN_SECONDS if self.job is not None else 0.0)

    def _note_failure(self, record: Record, failure: Failure) -> None:
        if self._first_failure is None or record.index < self._first_failure[0]:
            words = f"{record.where}: {failure.kind}: {one_line(failure.message)}"
            self._first_failure = record.index, words

    def finish(self) -> int:
        """Finish the output if all rows are there, and say so; return the exit code."""
        stats, stop = self.stats, self.stop
        complete = stats.all_read and not stats.pending
        if complete:
            if self.job is not None:
                self.job.finish()
            if stats.ok < self.fewest_rows:
                raise ConfigError(
                    f"{self.files.output.path} has {self.fewest_rows} rows, this run only "
                    f"{stats.ok}. Replace it with --overwrite, or choose another -o. The new rows "
                    f"are in {self.files.output.partial}"
                )
            self.files.commit()
        self.notes.tell(complete=complete)
        if not complete:
            resume = "run the same command again to resume"
            self.remarks += (resume if self.job is not None else "stopped before the end",)
        self._summarize()
        if stop.signal is not None:
            return 128 + stop.signal
        if not complete:
            return EXIT_LIMIT
        return EXIT_FAILED_ROWS if stats.failed else EXIT_OK

    def _summarize(self) -> None:
        """Print the one-line summary; with --quiet only where rows failed."""
        if not self.settings.quiet or self.stats.failed:
            self.progress.say(self.progress.summary(*self._remarks()))

    def _remarks(self) -> Sequence[str]:
        words: list[str] = []
        if self.stats.cached:
            words.append(f"{self.stats.cached} from the journal")
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
        if self._first_failure is not None:
            words.append(f"first failure: {self._first_failure[1]}")
        return words
