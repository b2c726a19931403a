"""Settings -> a run -> an exit code: what the command line does, without its options."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from codesynth import pipeline
from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.models import Endpoint, Record, SamplingParams, Stats
from codesynth.operators import CodeInstructionGenerator, CodeInstructionToCodeGenerator
from codesynth.pipeline import Job, Outcome, Stop
from codesynth.progress import Progress
from codesynth.serving.client import APILLMServing
from codesynth.serving.offline import Faults, OfflineEndpoint
from codesynth.storage import Files, Pool, read_records

OPENAI_URL = "https://api.openai.com/v1"
LANDING_SECONDS = 3.0
"""After a signal, what is in flight gets this long to land: it is paid for."""
EXIT_SECONDS = 4.5
"""After a signal, the process ends whatever happens."""
EXIT_OK, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What both commands are told, under the options' names."""

    command: str
    inputs: list[str]
    output: str | None = None
    output_key: str
    prompt_template: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    base_urls: list[str] = field(default_factory=list)
    api_key: str | None = field(default=None, repr=False)
    params: SamplingParams = field(default_factory=SamplingParams)
    concurrency: int | None = None
    rpm: float | None = None
    tpm: float | None = None
    timeout: float = 600.0
    connect_timeout: float = 10.0
    max_retries: int = 5
    max_outage: float = 300.0
    failures: str | None = None
    overwrite: bool = False
    limit: int | None = None
    shard: tuple[int, int] = (0, 1)
    ordered: bool = True
    meta: bool = False
    dry_run: bool = False
    offline: bool = False
    max_time: float | None = None
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What one of the commands brings of its own.

    Attributes:
        records: makes the stream of rows; called once everything else is ready.
        total: rows to come, where that is known.
        task: what the practice endpoint is to play.
        remarks: for the summary line.
        meta: for the ``_codesynth`` object.
    """

    job: Job
    records: Callable[[], Iterator[Record]]
    total: Callable[[], int | None]
    task: str
    remarks: tuple[str, ...] = ()
    meta: dict[str, Any] = field(default_factory=dict)


def instruction_work(
    settings: Settings, *, input_key: str, num_generate: int, num_few_shot: int, seed: int | None
) -> Work:
    """Prepare ``gen-instructions``."""
    if seed is None:
        seed = secrets.randbelow(2**32)
    number = min(num_generate, settings.limit or num_generate)
    operator = CodeInstructionGenerator(
        None, settings.prompt_template, num_few_shot, number, seed=seed
    )

    def records() -> Iterator[Record]:
        pool = Pool(settings.inputs, input_key)
        return itertools.chain(pool.bad_records(), _shard(operator.records(pool), settings.shard))

    return Work(
        job=operator.job(settings.output_key, settings.system_prompt),
        records=records,
        total=lambda: len(range(settings.shard[0], number, settings.shard[1])),
        task="instruction",
        remarks=(f"seed {seed}",),
        meta={"seed": seed},
    )


def code_work(settings: Settings, *, input_key: str | None) -> Work:
    """Prepare ``gen-code``."""
    operator = CodeInstructionToCodeGenerator(None, settings.prompt_template)

    def records() -> Iterator[Record]:
        return _shard(
            itertools.islice(read_records(settings.inputs), settings.limit), settings.shard
        )

    return Work(
        job=operator.job(input_key, settings.output_key, settings.system_prompt),
        records=records,
        total=partial(_count_lines, settings),
        task="code",
    )


def _shard(records: Iterator[Record], shard: tuple[int, int]) -> Iterator[Record]:
    return itertools.islice(records, shard[0], None, shard[1])


def _count_lines(settings: Settings) -> int | None:
    """Count the rows to come, where the inputs are plain files; a bar wants to know."""
    count = 0
    for path in settings.inputs:
        if path.endswith(".gz") or not Path(path).is_file():
            return None
        with open(path, "rb") as file:
            count += sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    count = min(count, settings.limit or count)
    return len(range(settings.shard[0], count, settings.shard[1]))


def execute(settings: Settings, work: Work) -> int:
    """Do what is asked; return the exit code.

    Raises:
        CodesynthError: nothing could be done, or not to the end; see its ``exit_code``.
        BrokenPipeError: the reader of standard output went away.
    """
    serving = _serving(settings, work)
    with Files(settings.output, settings.failures) as files:
        _refuse_to_spoil(settings, files)
        if settings.dry_run:
            return _dry_run(settings, work, files)
        return _Run(settings, work, serving, files).execute()


def _serving(settings: Settings, work: Work) -> APILLMServing:
    endpoints = [Endpoint(url, settings.api_key) for url in settings.base_urls or [OPENAI_URL]]
    app = None
    if settings.offline:
        endpoints = [Endpoint("http://offline/v1")]
        app = OfflineEndpoint(work.task, Faults.from_env(os.environ))
    elif endpoints[0].base_url == OPENAI_URL and not settings.api_key and not settings.dry_run:
        raise ConfigError(
            f"no OPENAI_API_KEY for {OPENAI_URL}. Set it, name another endpoint with --base-url, "
            "or practise with --offline"
        )
    return APILLMServing(
        endpoints,
        "offline" if settings.offline else settings.model,
        params=settings.params,
        concurrency=settings.concurrency,
        rpm=settings.rpm,
        tpm=settings.tpm,
        timeout=settings.timeout,
        connect_timeout=settings.connect_timeout,
        max_retries=settings.max_retries,
        max_outage=settings.max_outage,
        app=app,
    )


def _refuse_to_spoil(settings: Settings, files: Files) -> None:
    """See that no finished work and no input is overwritten unasked."""
    path = files.output.path
    if path is None:
        return
    if any(name != "-" and Path(name).resolve() == path for name in settings.inputs):
        raise ConfigError(f"{settings.output} is an input too. Choose another --output")
    if settings.overwrite or settings.dry_run:
        return
    if path.exists():
        raise ConfigError(
            f"{settings.output} exists and has no journal to go on from. "
            "Move it away, or replace it with --overwrite"
        )
    if files.output.has_leftover:
        raise ConfigError(
            f"{files.output.partial} holds rows of an interrupted run and has no journal. "
            "Move it away, or replace it with --overwrite"
        )


def _dry_run(settings: Settings, work: Work, files: Files) -> int:
    """Write the requests as OpenAI batch lines instead of sending them."""
    stats, model = Stats(), "offline" if settings.offline else settings.model
    files.start()
    for request in pipeline.make_requests(work.records(), work.job, stats, Stop()):
        if request.known is not None:
            files.fail(pipeline.failure_line(Outcome(request.known, failure=request.known.error)))
            continue
        body = settings.params.body(model or "", request.messages)
        if not model:
            del body["model"]
        line = {"custom_id": request.custom_id, "method": "POST", "url": "/v1/chat/completions"}
        files.write(dumps(line | {"body": body}))
    files.commit()
    return EXIT_FAILED_ROWS if files.failed else EXIT_OK


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Turn a signal into a stop; a second one ends the process at once.

    What was ignored from the start (SIGHUP under nohup, SIGINT in the background) stays ignored.
    """

    def on_signal(number: int, _: FrameType | None) -> None:
        if stop.signal is not None:
            os._exit(128 + number)
        stop.signal = number
        stop.ask(LANDING_SECONDS)
        watchdog = threading.Timer(EXIT_SECONDS, os._exit, (128 + number,))
        watchdog.daemon = True
        watchdog.start()

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


class _Run:
    """One run of the pipeline, its progress and its end."""

    def __init__(
        self, settings: Settings, work: Work, serving: APILLMServing, files: Files
    ) -> None:
        self._settings = settings
        self._work = work
        self._serving = serving
        self._files = files
        self._stats = Stats()
        self._stop = Stop()
        self._deadline = time.monotonic() + (settings.max_time or float("inf"))
        self._first_failure: Outcome | None = None
        self._looked_at_reader = 0.0

    def execute(self) -> int:
        settings, stats, work = self._settings, self._stats, self._work
        progress = Progress(
            stats,
            work.total,
            name=f"codesynth {settings.command}",
            bar=not settings.quiet,
        )
        if settings.offline and not settings.quiet:
            progress.say("--offline: a small grammar answers, no model")
        records = work.records()
        self._serving.model  # noqa: B018 - asked for now, so that a dead endpoint leaves no files
        self._files.start()
        try:
            with progress, _signals(self._stop):
                self._progress = progress
                pipeline.run(
                    records,
                    work.job,
                    self._serving,
                    self._files,
                    stats=stats,
                    stop=self._stop,
                    ordered=settings.ordered,
                    meta=self._meta if settings.meta else None,
                    tick=self._tick,
                    on_failure=self._note_failure,
                )
        finally:
            if not settings.quiet and (stats.ok or stats.failed or not stats.pending):
                progress.say(progress.summary(*self._remarks()))
        return self._finish()

    def _tick(self) -> None:
        self._progress.tick()
        now = time.monotonic()
        if now >= self._deadline:
            self._stop.ask(None)
            self._deadline = float("inf")
        if now - self._looked_at_reader > 1:
            self._looked_at_reader = now
            if self._files.output.reader_is_gone():
                raise BrokenPipeError

    def _note_failure(self, outcome: Outcome) -> None:
        self._first_failure = self._first_failure or outcome

    def _meta(self, outcome: Outcome) -> dict[str, Any]:
        response = outcome.response
        record = response.request.record
        about: dict[str, Any] = {"model": response.model or self._serving.model, **self._work.meta}
        if record.examples:
            about["examples"] = list(record.examples)
        about["finish_reason"] = response.finish_reason
        about["usage"] = asdict(response.usage) if response.usage else None
        about["attempts"] = response.attempts
        about["prompt_sha256"] = sha256(dumps(response.request.messages)).hexdigest()
        return about

    def _remarks(self) -> Iterator[str]:
        yield from self._work.remarks
        if self._first_failure is not None and self._first_failure.failure is not None:
            record = self._first_failure.response.request.record
            where = f"{record.source}:{record.line}" if record.line else f"#{record.index}"
            failure = self._first_failure.failure
            yield f"first failure: {where}: {failure.kind}: {failure.message}"

    def _finish(self) -> int:
        if self._stop.signal is not None:
            return 128 + self._stop.signal
        if self._stop.asked:
            return EXIT_LIMIT
        self._files.commit()
        return EXIT_FAILED_ROWS if self._stats.failed else EXIT_OK
