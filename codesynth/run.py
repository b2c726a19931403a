"""Settings -> a run -> an exit code: wires files, journal, serving, task, filters and progress."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from codesynth import pipeline
from codesynth.codec import dumps, loads
from codesynth.commands import CommandSpec, Notes
from codesynth.errors import CodesynthError, ConfigError
from codesynth.estimate import Estimate, Spread
from codesynth.filters import AGREEMENT_COLUMNS, Agreement, GroupWindow, Pairs, Selection
from codesynth.journal import BatchLog, Journal, JournaledServing, open_to_read
from codesynth.models import Endpoint, Failure, Record, Request, Stats
from codesynth.notes import RunNotes, fates_note, job_note
from codesynth.pipeline import Part, RowFilter, RowWindow, Shard, Stop, Task
from codesynth.process import DRAIN_SECONDS, signals
from codesynth.progress import Progress
from codesynth.serving import LLMServing
from codesynth.serving.answers import one_line
from codesynth.serving.client import APILLMServing
from codesynth.serving.limits import Budget, Price
from codesynth.settings import AskSettings, RowSettings, VerifySettings
from codesynth.storage import Files, Output, check_inputs, read_records, sibling_path
from codesynth.verify import INSTRUCTION_KEYS, SandboxServing, SandboxSettings, VerifyTask

if TYPE_CHECKING:
    from codesynth.serving.offline import PracticeEndpoint

EXIT_OK, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 3, 5
OFFLINE_MODEL, OFFLINE_URL = "offline", "http://offline/v1"
_LONGEST_LOOK = 1 << 20


Divide: TypeAlias = Callable[["Run", AskSettings, CommandSpec], int]
"""Runs a command as parts of a divided job, and finishes the run; returns the exit code."""


def ask(
    settings: AskSettings,
    name: str,
    prepare: Callable[[Notes], CommandSpec],
    divide: Divide | None = None,
) -> int:
    """Run a command that asks a model; return the exit code.

    Args:
        name: of the command.
        prepare: makes its spec from what an earlier run has noted.
        divide: asks in place of this process.

    Raises:
        CodesynthError: nothing could be done, or not to the end; see its ``exit_code``.
        BrokenPipeError: the reader of standard output went away.
    """
    settings.check()
    check_inputs(settings.inputs)
    if settings.dry_run:
        return _dry_run(settings, name, prepare(lambda _: None))
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Files(settings.output, settings.failures))
        path = _journal_path(settings)
        files.reject_shared_paths(settings.inputs, path, settings.log_json)
        if path is None or not Journal.exists(path):
            files.refuse_existing(overwrite=settings.overwrite)
        journal = stack.enter_context(Journal(path)) if path is not None else None
        spec = prepare(journal.note if journal is not None else lambda _: None)
        run = Run(settings, name, files, spec.total, _budget(settings, journal), settings.log_json)
        endpoint = make_endpoint(settings, run.budget)
        run.say_if(settings.offline, "--offline: a practice endpoint answers, no model")
        model = _model(settings, endpoint, journal)
        task = spec.task(settings, model)
        serving: LLMServing = endpoint
        if journal is not None:
            also = _also(settings, journal, stack) if divide is None else ()
            serving = _journaled(run, settings, spec, task, journal, endpoint, also)
        run.notes.load = lambda: endpoint.load
        run.remarks, run.tally = spec.remarks, spec.tally
        if divide is not None:
            return divide(run, replace(settings, model=model), spec)
        if settings.estimate is not None:
            return _estimate(run, settings, spec, task, serving)
        code = run.execute(spec.records(), task, serving, spec.filters())
        if journal is not None:
            _tell_open(run, journal)
        if spec.quota is not None and spec.quota.exhausted:
            run.say(spec.quota.explanation())
        return code


def verify(settings: VerifySettings) -> int:
    """Run ``verify``; return the exit code.

    Raises:
        CodesynthError: nothing could be done, or not to the end; see its ``exit_code``.
        BrokenPipeError: the reader of standard output went away.
    """
    settings.check()
    check_inputs(settings.inputs)
    with Files(settings.output, settings.failures) as files:
        files.reject_shared_paths(settings.inputs, None)
        if not _is_verified(files.output, settings.output_key):
            files.refuse_existing(overwrite=settings.overwrite)
        sandbox = SandboxSettings(
            python=settings.python,
            timeout=settings.timeout,
            memory_mb=settings.memory,
            unsafe=settings.unsafe,
        )
        serving = SandboxServing(sandbox, settings.jobs)
        task = VerifyTask(
            test_key=settings.test_key,
            code_key=settings.input_key,
            instruction_key=settings.instruction_key,
            output_key=settings.output_key,
            more_columns=AGREEMENT_COLUMNS if settings.agree else (),
        )
        run = Run(settings, "verify", files, lambda: None)
        run.say_if(settings.unsafe, "--unsafe: the code runs without a sandbox, with your rights")
        run.tally = task.statuses
        run.fewest_rows = 0 if settings.overwrite else files.output.count_rows()
        records = itertools.islice(read_records(settings.inputs), settings.limit)
        selection = Selection(settings.keep, best=settings.best and not settings.agree)
        agreement = Agreement(settings.output_key, best=settings.best)
        window = _window(settings, agreement)
        code = run.execute(records, task, serving, [selection], window)
        first = agreement.first or selection.first
        run.say_if(bool(first), f"first rejected: {first}")
        run.say_if(
            bool(agreement.useless),
            f"{agreement.useless} tests were failed by every answer to their instruction: they do "
            "not count",
        )
        run.say_if(
            bool(count := task.statuses["no_tests"]),
            f"{count} rows have no tests. Name their column with --test-key, or make tests with "
            "codesynth gen-tests",
        )
        run.say_if(
            bool(count := task.statuses["unsupported"]),
            f"{count} rows are not Python: verify runs only Python",
        )
        return code


def _window(settings: VerifySettings, agreement: Agreement) -> RowWindow | None:
    """Make the window for ``--agree`` and ``--pairs``, which look at answers side by side."""
    if settings.pairs:
        keys = (settings.instruction_key,) if settings.instruction_key else INSTRUCTION_KEYS
        return GroupWindow(Pairs(settings.input_key, keys, agree=settings.agree))
    return GroupWindow(agreement) if settings.agree else None


def _is_verified(output: Output, key: str) -> bool:
    """Tell whether what is there was written by ``verify``, which can write it again at no cost."""
    if output.path is None or not (output.exists() or output.has_leftover):
        return False
    with open(output.path if output.exists() else output.partial, "rb") as file:
        head = file.read(_LONGEST_LOOK)
    if output.path.suffix == ".gz":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return False
    return dumps(key) + b':{"status":' in head.partition(b"\n")[0]


def _journal_path(settings: AskSettings) -> str | None:
    if settings.journal is not None or settings.output is None or settings.no_journal:
        return settings.journal
    return sibling_path(settings.output, ".journal")


def _budget(settings: AskSettings, journal: Journal | None) -> Budget | None:
    if settings.price is None:
        return None
    return Budget(
        Price(*settings.price),
        settings.max_cost,
        earlier=journal.spent() if journal is not None else None,
        max_tokens=settings.most_tokens,
    )


def _transport(settings: AskSettings) -> PracticeEndpoint | None:
    if not settings.offline:
        return None
    from codesynth.serving.offline import PracticeEndpoint, read_faults

    return PracticeEndpoint(read_faults(os.environ.get("CODESYNTH_OFFLINE", "")))


def _endpoints(settings: AskSettings) -> list[Endpoint]:
    return [Endpoint(OFFLINE_URL)] if settings.offline else settings.endpoints(os.environ)


def make_endpoint(settings: AskSettings, budget: Budget | None) -> APILLMServing:
    """Make the serving that asks the endpoints, or the practice endpoint."""
    return APILLMServing(
        _endpoints(settings),
        OFFLINE_MODEL if settings.offline else settings.model,
        params=settings.params,
        concurrency=settings.concurrency or None,
        rpm=settings.rpm,
        tpm=settings.tpm,
        timeout=settings.timeout,
        connect_timeout=settings.connect_timeout,
        max_retries=settings.max_retries,
        max_outage=settings.max_outage,
        budget=budget,
        transport=_transport(settings),
    )


def _model(settings: AskSettings, endpoint: APILLMServing, journal: Journal | None) -> str:
    """Choose the model: the one named, else the journal's, else the only one that is listed."""
    noted = journal.note("model") if journal is not None else None
    if noted is not None and settings.model is None:
        endpoint.assume_model(noted)
    return endpoint.model


def _also(
    settings: AskSettings, journal: Journal, stack: contextlib.ExitStack
) -> Sequence[Journal]:
    """Open the further journals."""
    check_inputs(settings.also_journal)
    for path in settings.also_journal:
        if Path(path).samefile(journal.path):
            raise ConfigError(f"--also-journal {path} is the journal of this run itself")
    return [stack.enter_context(open_to_read(path, answers=True)) for path in settings.also_journal]


def _behind_journal(
    run: Run, settings: AskSettings, journal: Journal, endpoint: APILLMServing
) -> LLMServing:
    """Choose what answers the rows that the journal does not know; collect open batches."""
    log = BatchLog(journal)
    if not (settings.batch or settings.cancel or log.open()):
        return endpoint
    from codesynth.serving.batch import BatchClient, BatchOptions, BatchServing, Withholding

    client = BatchClient(
        _endpoints(settings)[0],
        timeout=settings.timeout,
        connect_timeout=settings.connect_timeout,
        max_outage=settings.max_outage,
        transport=_transport(settings),
    )
    options = BatchOptions(
        size=settings.batch_size,
        max_retries=settings.max_retries,
        wait=not settings.no_wait,
        budget=run.budget,
    )
    batches = BatchServing(client, log, options)
    run.progress.status = batches.status
    if settings.batch and not settings.cancel:
        return batches
    opened = len(log.open())
    held, words = batches.collect(cancel=settings.cancel)
    if settings.cancel:
        done = f"{opened} batches were cancelled. Run without --cancel to ask for the rest"
        return Withholding(endpoint, lambda _: True, words or done)
    return Withholding(endpoint, held, words)


def _tell_open(run: Run, journal: Journal) -> None:
    """Say after a stop that batches go on."""
    if ids := [batch.id for batch in BatchLog(journal).open() if batch.id]:
        words = f"{len(ids)} batches go on: {one_line(', '.join(ids))}"
        run.say(f"{words}. Run again to collect them, or with --cancel to end them")


def _journaled(
    run: Run,
    settings: AskSettings,
    spec: CommandSpec,
    task: Task,
    journal: Journal,
    endpoint: APILLMServing,
    also: Sequence[Journal],
) -> LLMServing:
    """Put the journal in front of the endpoint; refuse to replace another job's output."""
    run.job = Job(run, journal, {**spec.identity, "model": endpoint.model}, spec)
    run.notes.journal = journal
    job = run.job.text
    if journal.answers and journal.note("job") not in (None, job):
        _tell_change(run, spec, task, journal)
    for name, value in {**spec.notes, "model": endpoint.model, "job": job}.items():
        journal.set_note(name, value)
    behind = _behind_journal(run, settings, journal, endpoint)
    return JournaledServing(journal, behind, also=also, before_asking=endpoint.check_model)


def _tell_change(run: Run, spec: CommandSpec, task: Task, journal: Journal) -> None:
    """Say what a changed model, template or parameter will cost, before it does."""
    words = f"the requests have changed since {journal.path} was written"
    if spec.quota is not None or not all(Path(name).is_file() for name in run.settings.inputs):
        run.say(f"{words}: its {journal.answers} answers are used where they fit")
        return
    journal.refresh()
    requests = pipeline.make_requests(spec.records(), task, Stats(), Stop(), run.part)
    asked = [journal.get(each.key) is not None for each in requests if isinstance(each, Request)]
    fit = sum(asked)
    run.say(
        f"{words}: {fit} of its {journal.answers} answers fit, {len(asked) - fit} requests are new"
    )


def _estimate(
    run: Run, settings: AskSettings, spec: CommandSpec, task: Task, serving: LLMServing
) -> int:
    """Ask for some rows and print what all would take."""
    total = spec.total()
    if total is None or spec.quota is not None:
        raise ConfigError(
            "--estimate needs a known number of rows: name INPUT files that are not compressed, "
            "and drop --accepted"
        )
    estimate, stop = Estimate(total, settings.price), Stop()
    part = Spread(min(settings.estimate or total, total), max(total, 1))
    requests = pipeline.make_requests(spec.records(), task, run.stats, stop, part)
    with run.progress, signals(stop):
        for response in pipeline.responses(serving.generate(requests), stop):
            run.progress.tick()
            if response is not None:
                estimate.note(response)
                pipeline.count_tokens(run.stats, response)
    for line in estimate.lines():
        run.progress.say(line)
    return 128 + stop.signal if stop.signal is not None else EXIT_OK


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
        stats, fates = self._run.stats, self._run.files.fates
        if stats.ok < self._rows:
            words = self._refusal(stats.ok)
            raise ConfigError(f"{words}. The new rows are in {self._output.partial}")
        about = {
            "disorder": self._disorder,
            "requests": stats.requests,
            "rows": stats.rows,
            "checksums": fates.checksums,
            "fates": fates.pack(),
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
            bar=not (settings.quiet or files.output.is_terminal or files.output.is_pipe),
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
        self._summarize()
        if not complete:
            resume = "run the same command again to resume"
            self.say(resume if self.job is not None else "stopped before the end of the input")
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


def _dry_run(settings: AskSettings, name: str, spec: CommandSpec) -> int:
    """Print the requests as OpenAI batch lines to standard output instead of sending them."""
    stats, failed = Stats(), 0
    model = OFFLINE_MODEL if settings.offline else settings.model
    if model is None:
        if not settings.base_urls:
            raise ConfigError("--dry-run needs --model NAME, or a --base-url that lists one")
        model = make_endpoint(settings, None).model
    task = spec.task(settings, model)
    with Files(None, settings.failures) as files:
        files.reject_shared_paths(settings.inputs, None)
        files.start()
        shard = Shard(*settings.shard)
        for item in pipeline.make_requests(spec.records(), task, stats, Stop(), shard):
            if isinstance(item, Request):
                files.write(
                    b'{"custom_id":"%b","method":"POST","url":"/v1/chat/completions","body":%b}'
                    % (item.key.hex().encode(), item.body)
                )
            else:
                failed += 1
                files.fail(pipeline.make_row(item, task).line)
        files.commit()
    if not settings.quiet or failed:
        words = [f"{stats.rows - failed} requests, {failed} failed", *spec.remarks]
        Progress(stats, spec.total, name=f"codesynth {name}", bar=False).say(", ".join(words))
    return EXIT_FAILED_ROWS if failed else EXIT_OK
