"""``verify``: settings -> a run over a pool of sandboxes -> an exit code."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from functools import partial

from codesynth.command_spec import CommandSpec, check_names, in_words
from codesynth.filters.choice import Agreement, GroupWindow, Pairs, keep_first, keep_only
from codesynth.local_settings import VerifySettings
from codesynth.models import INSTRUCTION_KEYS, Stats
from codesynth.run import Run, open_journal
from codesynth.storage import Files, check_inputs, read_records
from codesynth.verify import SandboxServing, SandboxSettings, VerifyTask


def verify(settings: VerifySettings) -> int:
    """Run ``verify``; return the exit code. A CodesynthError has its own."""
    settings.check()
    check_inputs(settings.inputs)
    sandbox = SandboxSettings(
        python=settings.python,
        timeout=settings.timeout,
        memory_mb=settings.memory,
        unsafe=settings.unsafe,
    )
    with contextlib.ExitStack() as stack:
        files = stack.enter_context(Files(settings.output, settings.failures))
        # The journal keeps no verdicts, because they cost nothing: only what the output is made of.
        journal = open_journal(settings, files, files.journal_path, stack)
        serving = SandboxServing(sandbox, settings.concurrency)
        spec, findings = _prepare(settings)
        run = Run(settings=settings, spec=spec, files=files, journal=journal)
        if settings.unsafe:
            run.say("--unsafe: the code runs without a sandbox, with your rights")
        code = run.execute(serving)
        for line in findings(run.stats):
            run.say(line)
        return code


def _prepare(settings: VerifySettings) -> tuple[CommandSpec, Callable[[Stats], Iterator[str]]]:
    """Prepare the run, and a function that says what was found in it."""
    added = ("pass_rate", "agreement") if settings.agree else ()
    new = [settings.output_key, *added]
    check_names(new)
    task = VerifyTask(
        test_key=settings.test_key,
        code_key=settings.input_key,
        instruction_key=settings.instruction_key,
        output_key=settings.output_key,
        more_columns=added,
    )
    filters = [keep_only(settings.keep)] if settings.keep is not None else []
    if settings.best and not settings.agree:
        filters = [keep_only(frozenset({"passed"})), keep_first()]
    judge: Agreement | Pairs | None = None
    if settings.pairs:
        keys = (settings.instruction_key,) if settings.instruction_key else INSTRUCTION_KEYS
        judge = Pairs(settings.input_key, keys, agree=settings.agree)
    elif settings.agree:
        judge = Agreement(settings.output_key, best=settings.best)
    # With these options a row depends on other rows, so parts cannot be joined.
    chosen = {"--best": settings.best, "--agree": settings.agree, "--pairs": settings.pairs}
    keep = sorted(settings.keep) if settings.keep is not None else None
    columns = (settings.input_key, settings.test_key, settings.instruction_key, settings.output_key)
    spec = CommandSpec(
        task=task,
        columns=new,
        records=itertools.islice(read_records(settings.inputs), settings.limit),
        identity={
            "columns": columns,
            "choice of rows": [keep, *chosen.values()],
            "shard": settings.shard,
        },
        window=GroupWindow(judge) if judge is not None else None,
        filters=filters,
        remarks=partial(in_words, task.statuses),
        not_joinable=next((name for name, is_chosen in chosen.items() if is_chosen), None),
    )
    return spec, partial(_findings, task, judge)


def _findings(task: VerifyTask, judge: Agreement | Pairs | None, stats: Stats) -> Iterator[str]:
    """Say what a user may want to change before the next run."""
    if stats.first_rejection:
        yield f"first rejected: {stats.first_rejection}"
    if isinstance(judge, Agreement) and judge.useless:
        yield f"{judge.useless} tests were failed by every answer, so they do not count"
    for key, count in task.absent.items():
        yield f'{count} rows have no column "{key}". Is --test-key right?'
    if count := task.statuses["no_tests"]:
        yield f"{count} rows have no tests. Name their column with --test-key"
    if count := task.statuses["unsupported"]:
        yield f"{count} rows are not Python: verify runs only Python"
