"""``verify``: settings -> a run over a pool of sandboxes -> an exit code."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

from codesynth.filters import Agreement, GroupWindow, Pairs, Selection
from codesynth.local_settings import VerifySettings
from codesynth.models import INSTRUCTION_KEYS
from codesynth.run import Run, open_journal
from codesynth.storage import Files, check_inputs, read_records
from codesynth.verify import SandboxServing, SandboxSettings, VerifyTask


def verify(settings: VerifySettings) -> int:
    """Run ``verify``; return the exit code.

    Raises:
        CodesynthError: nothing could be done, or not to the end; see its ``exit_code``.
        BrokenPipeError: the reader of standard output went away.
    """
    settings.check()
    check_inputs(settings.inputs)
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Files(settings.output, settings.failures))
        journal = open_journal(settings, files, files.journal_path, stack)
        serving, task = _make_serving(settings), _make_task(settings)
        run = Run(settings, files, lambda: None, journal)
        run.say("--unsafe: the code runs without a sandbox, with your rights", settings.unsafe)
        run.tally = task.statuses
        if journal is not None:  # it keeps no verdicts: they cost nothing
            run.set_job(_job(settings), journal, _not_joinable(settings))
        records = itertools.islice(read_records(settings.inputs), settings.limit)
        selection = Selection(settings.keep, best=settings.best and not settings.agree)
        agreement = Agreement(settings.output_key, best=settings.best)
        pairs = _pairs(settings)
        decide = pairs or (agreement if settings.agree else None)
        window = GroupWindow(decide) if decide is not None else None
        code = run.execute(records, task, serving, [selection], window)
        first = (pairs.first if pairs is not None else agreement.first) or selection.first
        _say_findings(run, task, first, agreement.useless)
        return code


def _make_serving(settings: VerifySettings) -> SandboxServing:
    sandbox = SandboxSettings(
        python=settings.python,
        timeout=settings.timeout,
        memory_mb=settings.memory,
        unsafe=settings.unsafe,
    )
    return SandboxServing(sandbox, settings.concurrency)


def _make_task(settings: VerifySettings) -> VerifyTask:
    return VerifyTask(
        test_key=settings.test_key,
        code_key=settings.input_key,
        instruction_key=settings.instruction_key,
        output_key=settings.output_key,
        more_columns=settings.new_columns[1:],
    )


def _say_findings(run: Run, task: VerifyTask, first_rejected: str, useless_tests: int) -> None:
    """Say what a user may want to change before the next run."""
    run.say(f"first rejected: {first_rejected}", bool(first_rejected))
    words = "tests were failed by every answer, so they do not count"
    run.say(f"{useless_tests} {words}", useless_tests)
    for key, count in task.absent.items():
        run.say(f'{count} rows have no column "{key}". Is --test-key right?')
    count = task.statuses["no_tests"]
    run.say(f"{count} rows have no tests. Name their column with --test-key", count)
    count = task.statuses["unsupported"]
    run.say(f"{count} rows are not Python: verify runs only Python", count)


def _job(settings: VerifySettings) -> dict[str, Any]:
    """Return the options that decide the rows of the output."""
    keys = (settings.input_key, settings.test_key, settings.instruction_key, settings.output_key)
    keep = sorted(settings.keep) if settings.keep is not None else None
    choice = [keep, settings.best, settings.agree, settings.pairs]
    return {"columns": keys, "choice of rows": choice, "shard": settings.shard}


def _not_joinable(settings: VerifySettings) -> str | None:
    """Find an option with which a row depends on other rows, so that parts cannot be joined."""
    chosen = {"--best": settings.best, "--agree": settings.agree, "--pairs": settings.pairs}
    return next((name for name, is_chosen in chosen.items() if is_chosen), None)


def _pairs(settings: VerifySettings) -> Pairs | None:
    if not settings.pairs:
        return None
    keys = (settings.instruction_key,) if settings.instruction_key else INSTRUCTION_KEYS
    return Pairs(settings.input_key, keys, agree=settings.agree)
