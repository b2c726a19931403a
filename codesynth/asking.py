"""Commands that ask a model: settings -> journal, endpoint, task -> a run -> an exit code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from codesynth import pipeline, readers
from codesynth.codec import dumps, loads
from codesynth.commands import prepare
from codesynth.errors import ConfigError, one_line
from codesynth.estimate import Estimate, is_spread
from codesynth.journal import BatchLog, Journal, JournaledServing, open_to_read
from codesynth.models import Endpoint, Request, Stats
from codesynth.pipeline import Stop
from codesynth.process import EXIT_FAILED_ROWS, EXIT_OK, print_error
from codesynth.run import Run, open_journal
from codesynth.serving import LLMServing
from codesynth.serving.client import APILLMServing
from codesynth.serving.limits import Budget
from codesynth.settings import AskSettings
from codesynth.storage import Files, Output, check_inputs

if TYPE_CHECKING:
    from codesynth.serving.offline import PracticeEndpoint

OPENAI_URL = "https://api.openai.com/v1"
OFFLINE_MODEL, OFFLINE_URL = "offline", "http://offline/v1"


def ask(settings: AskSettings) -> int:
    """Run a command that asks a model; return the exit code. A CodesynthError has its own."""
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
    """Open the files of a run; yield the run, and the serving for its requests."""
    settings.check()
    check_inputs([*settings.inputs, *settings.also_journal])
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Files(settings.output, settings.failures))
        journal = open_journal(settings, files, _journal_path(settings, files), stack)
        earlier = loads(journal.get_note("job") or "{}") if journal is not None else {}
        budget = _budget(settings, journal)
        online = make_online_serving(settings, budget)
        assumed = earlier.get("model") if journal is not None and journal.answers else None
        if settings.model or settings.offline or assumed == OFFLINE_MODEL:
            assumed = None
        if assumed is not None:
            online.assume_model(assumed)
        spec = prepare(settings, lambda: online.model, earlier)
        inner, status = _make_inner_serving(settings, journal, online, budget)
        run = Run(
            settings=settings,
            spec=spec,
            files=files,
            journal=journal,
            budget=budget,
            status=status,
            load=online.load,
            assumed_model=assumed,
        )
        if settings.offline:
            run.say("--offline: a built-in practice endpoint answers, not a model")
        if journal is None:
            yield run, inner
            return
        job = earlier | loads(run.job)  # other commands with this journal keep their seed
        if journal.answers and earlier and earlier != job:
            words = f"the requests have changed since {journal.path} was written"
            run.say(f"{words}: its {journal.answers} answers are used where they fit")
        journal.set_note("job", dumps(job, sort_keys=True).decode())
        also = [
            stack.enter_context(open_to_read(path, answers=True))
            for path in settings.also_journal
            if not Path(path).samefile(journal.path)
        ]
        yield run, JournaledServing(journal, inner, also=also, before_asking=online.check_model)


def _budget(settings: AskSettings, journal: Journal | None) -> Budget | None:
    if settings.price is None:
        return None
    spent, most = journal.spent if journal is not None else None, settings.most_tokens
    return Budget(settings.price, settings.max_cost, earlier=spent, max_tokens=most)


def _journal_path(settings: AskSettings, files: Files) -> str | None:
    if settings.journal is not None or settings.no_journal:
        return settings.journal
    needed = settings.batch or settings.cancel or settings.also_journal or settings.ray
    if files.journal_path is None and needed:
        raise ConfigError(f"{files.output.name} is no regular file. Name a --journal PATH")
    return files.journal_path


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


def _make_inner_serving(
    settings: AskSettings, journal: Journal | None, online: APILLMServing, budget: Budget | None
) -> tuple[LLMServing, Callable[[], str]]:
    """Make the serving for rows that the journal does not know, and the words for the bar.

    If the Batch API is not asked for, but an earlier run left open batches, they are collected.
    """
    log = BatchLog(journal) if journal is not None else None
    opened = len(log.open()) if log is not None else 0
    if log is None or not (settings.batch or settings.cancel or opened):
        return online, online.status
    from codesynth.serving.batch import BatchClient, BatchOptions, BatchServing, SkippingServing

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
    batches = BatchServing(client, log, options)
    if settings.batch and not settings.cancel:
        return batches, batches.status
    held, words = batches.collect(cancel=settings.cancel)
    if settings.cancel:
        done = f"batches cancelled: {opened}. Run without --cancel to ask for the rest"
        return SkippingServing(online, lambda _: True, words or done), online.status
    return SkippingServing(online, held, words), online.status


def _say_open_batches(run: Run) -> None:
    """Name the batches that still run at the endpoint."""
    opened = BatchLog(run.journal).open() if run.journal is not None else ()
    if ids := [batch.id for batch in opened if batch.id]:
        words = f"open batches: {one_line(', '.join(ids))}"
        run.say(f"{words}. Run again to collect them, or with --cancel to end them")


def _estimate(run: Run, serving: LLMServing, settings: AskSettings) -> int:
    """Ask for some of the rows and print what all of them would take."""
    total, stop, spec = run.spec.total, run.stop, run.spec
    if total is None:
        words = "name INPUT files that are not compressed"
        raise ConfigError(f"--estimate needs a known number of rows: {words}")
    estimate, count = Estimate(total, settings.price), min(settings.estimate or total, total)
    chosen = partial(is_spread, count=count, total=total)
    requests = pipeline.make_requests(spec.records, spec.task, run.stats, stop, chosen)
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
    named = None if settings.offline else settings.model  # then no key is needed
    spec = prepare(settings, lambda: named or make_online_serving(settings, None).model)
    stats, failed = Stats(), 0
    output, chosen = Output(None), settings.is_in_shard
    for item in pipeline.make_requests(spec.records, spec.task, stats, Stop(), chosen):
        if isinstance(item, Request):
            output.write(
                b'{"custom_id":"%b","method":"POST","url":"/v1/chat/completions","body":%b}'
                % (item.key.hex().encode(), item.body)
            )
        elif item.error is not None:
            failed += 1
            stats.note_failure(item.request.record, item.error)
    if not settings.quiet or failed:
        counts = f"{stats.rows - failed} requests, {failed} failed"
        words = filter(None, [counts, *spec.remarks(), stats.describe_first_failure()])
        print_error(f"codesynth {settings.command}: {', '.join(words)}")
    return EXIT_FAILED_ROWS if failed else EXIT_OK
