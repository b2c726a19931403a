"""Commands that ask a model: settings -> journal, endpoint, task -> a run -> an exit code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codesynth import pipeline, readers
from codesynth.codec import loads
from codesynth.commands import prepare
from codesynth.errors import ConfigError, one_line
from codesynth.estimate import Estimate, is_spread
from codesynth.journal import BatchLog, Journal, JournaledServing, open_to_read
from codesynth.models import Endpoint, Request, Stats
from codesynth.pipeline import Stop
from codesynth.process import EXIT_FAILED_ROWS, EXIT_OK
from codesynth.progress import Progress
from codesynth.run import Run, open_journal
from codesynth.serving import LLMServing
from codesynth.serving.client import APILLMServing
from codesynth.serving.limits import Budget
from codesynth.settings import AskSettings
from codesynth.storage import Files, check_inputs

if TYPE_CHECKING:
    from codesynth.serving.batch import BatchServing
    from codesynth.serving.offline import PracticeEndpoint

OPENAI_URL = "https://api.openai.com/v1"
OFFLINE_MODEL, OFFLINE_URL = "offline", "http://offline/v1"


def ask(settings: AskSettings) -> int:
    """Run a command that asks a model; return the exit code.

    Raises:
        CodesynthError: nothing could be done, or not to the end; see its ``exit_code``.
        BrokenPipeError: the reader of standard output went away.
    """
    if settings.dry_run:
        return _dry_run(settings)
    with open_run(settings) as (run, serving):
        if settings.estimate is not None:
            return _estimate(run, serving, settings)
        code = run.execute(serving)
        _say_open_batches(run)
        return code


@contextlib.contextmanager
def open_run(settings: AskSettings) -> Iterator[tuple[Run, LLMServing]]:
    """Open the files of a run; yield the run, and the serving for its requests.

    Raises:
        CodesynthError: the run cannot start; no request was sent for a row.
    """
    settings.check()
    check_inputs(settings.inputs)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Files(settings.output, settings.failures))
        journal = open_journal(settings, files, _journal_path(settings, files), stack)
        budget = _budget(settings, journal)
        online = make_online_serving(settings, budget)
        assumed = None if settings.model or settings.offline else _earlier_model(journal)
        if assumed is not None:
            online.assume_model(assumed)
        spec = prepare(settings, lambda: online.model, journal)
        batches = _make_batches(settings, journal, budget) if journal is not None else None
        run = Run(
            settings=settings,
            spec=spec,
            files=files,
            journal=journal,
            budget=budget,
            status=online.status if batches is None else batches.status,
            load=online.load,
            assumed_model=assumed,
        )
        if settings.offline:
            run.say("--offline: a built-in practice endpoint answers, not a model")
        serving: LLMServing = online
        if journal is not None:
            _note_job(run, journal)
            inner = _collect(settings, journal, online, batches) if batches is not None else online
            also = _open_also(settings, journal, stack)
            serving = JournaledServing(journal, inner, also=also, before_asking=online.check_model)
        yield run, serving


def _journal_path(settings: AskSettings, files: Files) -> str | None:
    if settings.journal is not None or settings.no_journal:
        return settings.journal
    needed = settings.batch or settings.cancel or settings.also_journal or settings.ray
    if files.journal_path is None and needed:
        raise ConfigError(f"{files.output.name} is no regular file. Name a --journal PATH")
    return files.journal_path


def _earlier_model(journal: Journal | None) -> str | None:
    """Read which model gave the journal's answers; None if that was the practice endpoint."""
    noted = journal.get_note("model") if journal is not None and journal.answers else None
    return noted if noted != OFFLINE_MODEL else None


def _budget(settings: AskSettings, journal: Journal | None) -> Budget | None:
    if settings.price is None:
        return None
    earlier = journal.spent if journal is not None else None
    most = settings.most_tokens
    return Budget(settings.price, settings.max_cost, earlier=earlier, max_tokens=most)


def _transport(settings: AskSettings) -> PracticeEndpoint | None:
    if not settings.offline:
        return None
    from codesynth.serving.offline import PracticeEndpoint, read_faults

    return PracticeEndpoint(read_faults(os.environ.get("CODESYNTH_OFFLINE", "")))


def _endpoints(settings: AskSettings) -> list[Endpoint]:
    """Make the endpoints, with the key and the headers of the environment."""
    if settings.offline:
        return [Endpoint(OFFLINE_URL)]
    key, urls = os.environ.get("OPENAI_API_KEY", ""), settings.base_urls or [OPENAI_URL]
    try:
        shared = loads(os.environ.get("CODESYNTH_HEADERS") or "{}")
        headers = dict(readers.header(f"{name}: {value}") for name, value in shared.items())
    except (ValueError, AttributeError) as exc:
        raise ConfigError(
            'CODESYNTH_HEADERS must be a JSON object of headers, such as {"X-Title": "my run"}'
        ) from exc
    headers |= dict(settings.headers)
    if urls == [OPENAI_URL] and not key and not headers:
        raise ConfigError(
            f"no OPENAI_API_KEY for {OPENAI_URL}. Set it, name another endpoint with --base-url, "
            "or practise with --offline"
        )
    return [Endpoint(url, key, headers) for url in urls]


def make_online_serving(settings: AskSettings, budget: Budget | None) -> APILLMServing:
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


def _open_also(
    settings: AskSettings, journal: Journal, stack: contextlib.ExitStack
) -> Sequence[Journal]:
    """Open the journals of ``--also-journal``."""
    check_inputs(settings.also_journal)
    for path in settings.also_journal:
        if Path(path).samefile(journal.path):
            raise ConfigError(f"--also-journal {path} is the journal of this run itself")
    return [stack.enter_context(open_to_read(path, answers=True)) for path in settings.also_journal]


def _note_job(run: Run, journal: Journal) -> None:
    """Store in the journal what is asked, for later runs; say if it has changed."""
    if journal.answers and journal.get_note("job") not in (None, run.job):
        words = f"the requests have changed since {journal.path} was written"
        run.say(f"{words}: its {journal.answers} answers are used where they fit")
    for name in ("model", "seed"):
        if name in run.spec.identity:
            journal.set_note(name, str(run.spec.identity[name]))
    journal.set_note("job", run.job)


def _make_batches(
    settings: AskSettings, journal: Journal, budget: Budget | None
) -> BatchServing | None:
    """Make the serving of the Batch API, if it is asked for or an earlier run left open batches."""
    log = BatchLog(journal)
    if not (settings.batch or settings.cancel or log.open()):
        return None
    from codesynth.serving.batch import BatchClient, BatchOptions, BatchServing

    client = BatchClient(
        _endpoints(settings)[0],
        timeout=settings.timeout,
        connect_timeout=settings.connect_timeout,
        transport=_transport(settings),
    )
    options = BatchOptions(
        size=settings.batch_size,
        max_retries=settings.max_retries,
        max_outage=settings.max_outage,
        wait=not settings.no_wait,
        budget=budget,
    )
    return BatchServing(client, log, options)


def _collect(
    settings: AskSettings, journal: Journal, online: APILLMServing, batches: BatchServing
) -> LLMServing:
    """Make the serving for rows that the journal does not know; collect open batches."""
    if settings.batch and not settings.cancel:
        return batches
    from codesynth.serving.batch import SkippingServing

    opened = len(BatchLog(journal).open())
    held, words = batches.collect(cancel=settings.cancel)
    if settings.cancel:
        done = f"batches cancelled: {opened}. Run without --cancel to ask for the rest"
        return SkippingServing(online, lambda _: True, words or done)
    return SkippingServing(online, held, words)


def _say_open_batches(run: Run) -> None:
    """Name the batches that still run at the endpoint."""
    opened = BatchLog(run.journal).open() if run.journal is not None else ()
    if ids := [batch.id for batch in opened if batch.id]:
        words = f"open batches: {one_line(', '.join(ids))}"
        run.say(f"{words}. Run again to collect them, or with --cancel to end them")


def _estimate(run: Run, serving: LLMServing, settings: AskSettings) -> int:
    """Ask for some of the rows and print what all of them would take."""
    total, stop = run.total(), run.stop
    if total is None:
        words = "name INPUT files that are not compressed"
        raise ConfigError(f"--estimate needs a known number of rows: {words}")
    estimate, count = Estimate(total, settings.price), min(settings.estimate or total, total)
    requests = pipeline.make_requests(
        run.spec.records,
        run.spec.task,
        run.stats,
        stop,
        lambda number: is_spread(number, count, total),
    )
    with run.running():
        answers = pipeline.responses(serving.generate(requests), stop, run.progress.tick)
        for response in filter(None, answers):
            estimate.note(response)
            run.stats.count(response)
    for line in estimate.lines():
        run.progress.say(line)
    return 128 + stop.signal if stop.signal is not None else EXIT_OK


def _dry_run(settings: AskSettings) -> int:
    """Print the requests as OpenAI batch lines to standard output instead of sending them."""
    settings.check()
    check_inputs(settings.inputs)
    spec, stats, failed = prepare(settings, partial(_find_model, settings)), Stats(), 0
    with Files(None, settings.failures) as files:
        files.reject_shared_paths(settings.inputs)
        files.start()
        chosen = settings.is_in_shard
        for item in pipeline.make_requests(spec.records, spec.task, stats, Stop(), chosen):
            if isinstance(item, Request):
                files.write(
                    b'{"custom_id":"%b","method":"POST","url":"/v1/chat/completions","body":%b}'
                    % (item.key.hex().encode(), item.body)
                )
            else:
                failed += 1
                files.fail(pipeline.make_row(item, spec.task).line)
        files.commit()
    if not settings.quiet or failed:
        words = [f"{stats.rows - failed} requests, {failed} failed", *spec.remarks()]
        name = f"codesynth {settings.command}"
        Progress(stats, spec.total, name=name, bar=False).say(", ".join(words))
    return EXIT_FAILED_ROWS if failed else EXIT_OK


def _find_model(settings: AskSettings) -> str:
    """Find the model for ``--dry-run``, which needs no key if it is named."""
    model = OFFLINE_MODEL if settings.offline else settings.model
    if model is None and not settings.base_urls:
        raise ConfigError("--dry-run needs --model NAME, or a --base-url that lists one")
    return model or make_online_serving(settings, None).model
