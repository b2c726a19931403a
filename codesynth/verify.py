"""``codesynth verify``: rows -> their code run against the tests at hand -> kept, or failures."""

from __future__ import annotations

import itertools
import zlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from codesynth.codec import dumps
from codesynth.lines import record_failure_line
from codesynth.models import Failure, Record, Stats
from codesynth.progress import Progress
from codesynth.quality.verification import INSTRUCTION_KEYS, Verification, Verifier
from codesynth.storage import Files, read_records, splice
from codesynth.storage.output import Output

STATUSES = ("passed", "failed", "error", "timeout", "syntax_error", "no_tests")
_HEAD = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifySettings:
    """What ``verify`` is told, under the options' names.

    Attributes:
        keep: statuses whose rows go to the output; None keeps all.
        best: of rows in a row with the same instruction, keep the first that passed.
    """

    inputs: list[str]
    output: str | None = None
    failures: str | None = None
    input_key: str = "generated_code"
    output_key: str = "verification"
    instruction_key: str | None = None
    test_key: str | None = None
    keep: frozenset[str] | None = None
    best: bool = False
    timeout: float = 10.0
    memory: int = 512
    jobs: int | None = None
    unsafe: bool = False
    limit: int | None = None
    overwrite: bool = False
    quiet: bool = False


def execute(settings: VerifySettings) -> int:
    """Verify the rows; return the exit code.

    Raises:
        SandboxUnavailable: model-written code cannot be locked in here.
        CodesynthError: the input cannot be read, or the output not written.
    """
    stats = Stats()
    records = itertools.islice(read_records(settings.inputs), settings.limit)
    with (
        Files(settings.output, settings.failures) as files,
        Verifier(
            test_key=settings.test_key,
            instruction_key=settings.instruction_key,
            code_key=settings.input_key,
            timeout=settings.timeout,
            memory_bytes=settings.memory << 20,
            jobs=settings.jobs,
            unsafe=settings.unsafe,
        ) as verifier,
        Progress(
            stats,
            lambda: None,
            name="codesynth verify",
            bar=not (settings.quiet or files.output.is_terminal),  # rows would tear it
        ) as progress,
    ):
        files.keep_apart(settings.inputs)
        if not settings.overwrite and not _is_own_leftover(files.output, settings.output_key):
            files.refuse_existing()
        files.start()
        run = _Run(settings, files, stats, progress)
        for record, verdict in _verdicts(records, verifier, settings):
            run.take(record, verdict)
            files.flush()
        files.commit()
        for key in run.unseen if stats.rows else ():
            progress.say(f'no row has a column "{key}"')
    if not settings.quiet:
        seen = run.seen
        counts = ", ".join(f"{seen[status]} {status}" for status in STATUSES if seen[status])
        progress.say(progress.summary(*([counts] if counts else [])))
    return 3 if stats.failed else 0


class _Run:
    """Puts each row where it belongs, and counts.

    Attributes:
        seen: rows by status.
        unseen: columns that were named and that no row has had yet.
    """

    def __init__(
        self, settings: VerifySettings, files: Files, stats: Stats, progress: Progress
    ) -> None:
        self._files, self._stats, self._progress = files, stats, progress
        self._output_key = settings.output_key
        self._chooser = _Chooser(settings)
        self.seen: Counter[str] = Counter()
        self.unseen = {settings.test_key, settings.instruction_key} - {None}

    def take(self, record: Record, verdict: Verification | Failure) -> None:
        """Write a row or a failure line."""
        self._stats.rows += 1
        self._progress.tick()
        self.unseen.difference_update(record.fields)
        if isinstance(verdict, Failure):
            self._fail(verdict, record_failure_line(record, verdict))
            return
        self.seen[verdict.status] += 1
        row = splice(record.raw, self._output_key, dumps(verdict.as_dict()))
        reason = self._chooser.reason_against(record, verdict)
        if reason is None:
            self._stats.ok += 1
            self._files.write(row)
        else:
            self._fail(reason, record_failure_line(record, reason, row))

    def _fail(self, failure: Failure, line: bytes) -> None:
        self._stats.failures[failure.kind] += 1
        self._files.fail(line)


def _is_own_leftover(output: Output, key: str) -> bool:
    """Tell whether all there is of an output is what an interrupted ``verify`` left of it.

    That can be made again at no cost, so the same command need not be told to replace it.
    """
    if output.path is None or output.path.exists():
        return False
    with open(output.partial, "rb") as file:
        head = file.read(_HEAD)
    if output.path.suffix == ".gz":
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return False
    first = head.partition(b"\n")[0]
    return not first or dumps(key) + b':{"status":' in first


def _verdicts(
    records: Iterable[Record], verifier: Verifier, settings: VerifySettings
) -> Iterator[tuple[Record, Verification | Failure]]:
    """Pair each record with its verdict, or with why it has none, in order."""
    waiting: deque[tuple[Record, Failure | None]] = deque()

    def rows() -> Iterator[dict[str, Any]]:
        for record in records:
            failure = _unusable(record, settings)
            waiting.append((record, failure))
            if failure is None:
                yield dict(record.fields)

    for verdict in verifier.verify(rows()):
        record, failure = waiting.popleft()
        while failure is not None:
            yield record, failure
            record, failure = waiting.popleft()
        yield record, verdict
    for record, failure in waiting:
        if failure is not None:
            yield record, failure


def _unusable(record: Record, settings: VerifySettings) -> Failure | None:
    text = record.text(settings.input_key)
    if isinstance(text, Failure):
        return text
    if settings.output_key in record.fields:
        words = f'the row has "{settings.output_key}" already. Try another --output-key'
        return Failure("existing_key", words)
    return None


class _Chooser:
    """Says which rows are not kept, and why."""

    def __init__(self, settings: VerifySettings) -> None:
        self._settings = settings
        self._group: object = None
        self._found = False

    def reason_against(self, record: Record, verdict: Verification) -> Failure | None:
        """Look at the rows in their order; None keeps one."""
        settings = self._settings
        keep = settings.keep if not settings.best else frozenset({"passed"})
        if keep is not None and verdict.status not in keep:
            return Failure("not_kept", f"{verdict.status}: {verdict.message}".rstrip(": "))
        if not settings.best:
            return None
        keys = [settings.instruction_key] if settings.instruction_key else INSTRUCTION_KEYS
        group = next((record.fields[key] for key in keys if key in record.fields), record.index)
        if group == self._group and self._found:
            return Failure("not_kept", "an earlier answer to the same instruction passed")
        self._group, self._found = group, True
        return None
