"""Settings -> a run -> an exit code: what the command line does, without its options."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from codesynth import pipeline
from codesynth.codec import dumps
from codesynth.errors import CodesynthError, ConfigError
from codesynth.lines import META_KEY, failure_line
from codesynth.models import Endpoint, Outcome, Stats
from codesynth.pipeline import Stop
from codesynth.progress import Progress
from codesynth.quality.gate import PATIENCE
from codesynth.serving import LLMServing
from codesynth.serving.answers import clean
from codesynth.serving.budget import Budget
from codesynth.serving.client import APILLMServing
from codesynth.serving.journal import Journal, JournaledServing
from codesynth.signals import LANDING_SECONDS, signals
from codesynth.storage import Files, beside, check_inputs
from codesynth.work import Settings, Work

OPENAI_URL = "https://api.openai.com/v1"
EXIT_OK, EXIT_FAILED_ROWS, EXIT_LIMIT = 0, 3, 5


def execute(settings: Settings, prepare: Callable[[Settings, Journal | None], Work]) -> int:
    """Do what is asked; return the exit code.

    Raises:
        CodesynthError: nothing could be done, or not to the end; see its ``exit_code``.
        BrokenPipeError: the reader of standard output went away.
    """
    check_inputs(settings.inputs)
    if settings.meta and settings.output_key == META_KEY:
        raise ConfigError(f"--meta writes {META_KEY}. Choose another --output-key")
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Files(settings.output, settings.failures))
        if settings.dry_run:
            files.keep_apart(settings.inputs)
            return _dry_run(settings, prepare(settings, None), files)
        if settings.overwrite:  # a mistake in what follows must not cost the journal
            _serving(settings, prepare(settings, None), None)
        journal = _open_journal(settings, files)
        if journal is not None:
            stack.enter_context(journal)
        work = prepare(settings, journal)
        budget = _budget(settings, journal)
        serving = _serving(settings, work, budget)
        return _Run(settings, work, serving, files, journal, budget).execute()


def _open_journal(settings: Settings, files: Files) -> Journal | None:
    """Open the journal, having seen that no finished work and no input is overwritten unasked."""
    path, out = settings.journal, files.output.path
    if path is None and out is not None and settings.keep_journal:
        path = beside(str(out), ".journal")
    files.keep_apart(settings.inputs, path)
    if settings.overwrite:
        if path is not None:
            Journal.remove(path)
    elif path is None or not Journal.is_there(path):
        files.refuse_existing(f", but not its journal{f' {path}' if path else ''}")
    return Journal(path) if path is not None else None


def _budget(settings: Settings, journal: Journal | None) -> Budget | None:
    if settings.price is None:
        if settings.max_cost is not None:
            raise ConfigError("--max-cost needs --price IN,OUT, a million tokens each")
        return None
    body = settings.params.body("", [])
    return Budget(
        settings.price,
        settings.max_cost,
        earlier=journal.spent() if journal is not None else None,
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
    )


def _serving(settings: Settings, work: Work, budget: Budget | None) -> APILLMServing:
    endpoints = [Endpoint(url, settings.api_key) for url in settings.base_urls or [OPENAI_URL]]
    app = None
    if settings.offline:
        from codesynth.serving.offline import Faults, OfflineEndpoint

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
        budget=budget,
        app=app,
    )


def _dry_run(settings: Settings, work: Work, files: Files) -> int:
    """Write the requests as OpenAI batch lines instead of sending them."""
    stats, model = Stats(), "offline" if settings.offline else settings.model
    if not settings.overwrite:
        files.refuse_existing()
    records = work.records()
    files.start()
    for request in pipeline.make_requests(records, work.job, stats, Stop()):
        if request.known is not None:
            files.fail(failure_line(Outcome(request.known, failure=request.known.error)))
            continue
        body = settings.params.body(model or "", request.messages)
        if not model:
            del body["model"]
        line = {"custom_id": request.custom_id, "method": "POST", "url": "/v1/chat/completions"}
        files.write(dumps(line | {"body": body}))
    files.commit()
    if not settings.quiet:
        words = [f"{stats.rows - files.failed} requests, {files.failed} failed", *work.remarks]
        name = f"codesynth {settings.command}"
        Progress(stats, work.total, name=name, bar=False).say(", ".join(words))
    return EXIT_FAILED_ROWS if files.failed else EXIT_OK


class _Run:
    """One run of the pipeline, its progress and its end."""

    def __init__(
        self,
        settings: Settings,
        work: Work,
        serving: APILLMServing,
        files: Files,
        journal: Journal | None,
        budget: Budget | None,
    ) -> None:
        self._settings = settings
        self._work = work
        self._endpoint = serving
        self._files = files
        self._journal = journal
        self._budget = budget
        self._stats = Stats()
        self._stop = Stop()
        self._landing = 0.0 if journal is None else LANDING_SECONDS
        self._deadline = time.monotonic() + (settings.max_time or float("inf"))
        self._first_failure: Outcome | None = None
        self._next_look = 0.0
        self._reader_is_gone = self._out_of_time = False
        self._progress = Progress(
            self._stats,
            work.total,
            name=f"codesynth {settings.command}",
            bar=not (settings.quiet or files.output.is_terminal),  # rows would tear it
        )

    def execute(self) -> int:
        settings, stats = self._settings, self._stats
        if settings.offline:
            self._say("--offline: a small grammar answers, no model")
        records = self._work.records()
        gate = self._work.gate()
        serving = self._serving()
        self._files.start()
        try:
            with self._progress, signals(self._stop):
                pipeline.run(
                    records,
                    self._work.job,
                    serving,
                    self._files,
                    stats=stats,
                    stop=self._stop,
                    ordered=settings.ordered,
                    landing=self._landing or None,
                    gate=gate,
                    meta=self._meta if settings.meta else None,
                    tick=self._tick,
                    on_failure=self._note_failure,
                )
        except CodesynthError:
            if stats.ok or stats.failed:
                self._say(self._progress.summary(*self._remarks()))
            raise
        if self._reader_is_gone:
            raise BrokenPipeError
        self._say(self._progress.summary(*self._remarks()))
        if gate is not None and gate.quota is not None and gate.quota.exhausted:
            self._say(
                f"the pool is exhausted: {gate.quota.accepted} of {gate.quota.wanted} accepted, "
                f"and hardly one of the last {PATIENCE}. Try other seeds, a higher --temperature, "
                "or a higher --novelty"
            )
        return self._finish()

    def _say(self, text: str) -> None:
        if not self._settings.quiet:
            self._progress.say(text)

    def _serving(self) -> LLMServing:
        """Put the journal in front of the endpoint, and tell what it is worth."""
        endpoint, journal = self._endpoint, self._journal
        if journal is None:
            endpoint.model  # noqa: B018 - asked for now, so that a dead endpoint is told at once
            return endpoint
        if (model := journal.note("model")) is not None:
            endpoint.assume_model(model)
        notes = {
            "model": endpoint.model,
            "request": dumps([endpoint.model, *self._work.request], sort_keys=True).decode(),
            **self._work.notes,
        }
        serving = JournaledServing(
            journal, endpoint, endpoint.body, before_asking=endpoint.check_model
        )
        if journal.answers and journal.note("request") != notes["request"]:
            self._tell_change(journal, serving)
        for name, value in notes.items():
            journal.set_note(name, value)
        return serving

    def _tell_change(self, journal: Journal, serving: JournaledServing) -> None:
        """Say what a changed model, template or parameter will cost, before it does."""
        words = f"the requests have changed since {journal.path} was written"
        countable = all(Path(name).is_file() for name in self._settings.inputs)
        if not countable or self._work.open_ended:
            self._say(f"{words}: its {journal.answers} answers are used where they fit")
            return
        requests = pipeline.make_requests(self._work.records(), self._work.job, Stats(), Stop())
        fit, new = serving.count(requests)
        self._say(f"{words}: {fit} of its {journal.answers} answers fit, {new} requests are new")

    def _tick(self) -> None:
        self._progress.tick()
        now = time.monotonic()
        if now >= self._deadline:
            self._deadline = float("inf")
            self._out_of_time = True
            self._stop.ask(None)
        if now >= self._next_look:
            self._next_look = now + 1.0
            if not self._reader_is_gone and self._files.output.reader_is_gone():
                self._reader_is_gone = True
                self._stop.ask(self._landing)

    def _note_failure(self, outcome: Outcome) -> None:
        first, position = self._first_failure, outcome.response.request.position
        if first is None or position < first.response.request.position:
            self._first_failure = outcome

    def _meta(self, outcome: Outcome) -> dict[str, Any]:
        response = outcome.response
        record = response.request.record
        about: dict[str, Any] = {"model": response.model or self._endpoint.model}
        about |= self._work.meta
        if record.examples:
            about["examples"] = list(record.examples)
        about["finish_reason"] = response.finish_reason
        about["usage"] = asdict(response.usage) if response.usage else None
        about["attempts"] = response.attempts
        about["prompt_sha256"] = sha256(dumps(response.request.messages)).hexdigest()
        return about

    def _remarks(self) -> Iterator[str]:
        if self._stats.cached:
            yield f"{self._stats.cached} from the journal"
        if self._budget is not None:
            budget = self._budget
            yield f"spent {budget.spent:.4g}"
            yield f"saved {budget.price.of(self._stats.saved):.4g}"
            if budget.limit is not None:
                yield f"left {max(0.0, budget.limit - budget.spent):.4g}"
        yield from self._work.remarks
        if self._out_of_time:
            yield "stopped by --max-time"
        if self._first_failure is not None and self._first_failure.failure is not None:
            record, failure = (
                self._first_failure.response.request.record,
                self._first_failure.failure,
            )
            where = f"{record.source}:{record.line}" if record.line else f"#{record.index}"
            yield f"first failure: {where}: {failure.kind}: {clean(failure.message)}"

    def _finish(self) -> int:
        if self._stop.signal is not None:
            return 128 + self._stop.signal
        if self._stop.asked:
            return EXIT_LIMIT
        self._files.commit()
        return EXIT_FAILED_ROWS if self._stats.failed else EXIT_OK
