"""``verify``: settings -> a run over a pool of sandboxes -> an exit code."""

from __future__ import annotations

import itertools
import zlib

from codesynth.codec import dumps
from codesynth.filters import Agreement, GroupWindow, Pairs, Selection
from codesynth.pipeline import RowWindow
from codesynth.run import Run
from codesynth.settings import VerifySettings
from codesynth.storage import Files, Output, check_inputs, read_records
from codesynth.verify import INSTRUCTION_KEYS, SandboxServing, SandboxSettings, VerifyTask

_LONGEST_LOOK = 1 << 20


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
            more_columns=settings.new_columns[1:],
        )
        run = Run(settings, files, lambda: None)
        run.say("--unsafe: the code runs without a sandbox, with your rights", settings.unsafe)
        run.tally = task.statuses
        run.fewest_rows = 0 if settings.overwrite else files.output.count_rows()
        records = itertools.islice(read_records(settings.inputs), settings.limit)
        selection = Selection(settings.keep, best=settings.best and not settings.agree)
        agreement = Agreement(settings.output_key, best=settings.best)
        window = _window(settings, agreement)
        code = run.execute(records, task, serving, [selection], window)
        first = agreement.first or selection.first
        run.say(f"first rejected: {first}", bool(first))
        count = agreement.useless
        run.say(f"{count} tests were failed by every answer, so they do not count", count)
        count = task.statuses["no_tests"]
        run.say(f"{count} rows have no tests. Name their column with --test-key", count)
        count = task.statuses["unsupported"]
        run.say(f"{count} rows are not Python: verify runs only Python", count)
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
