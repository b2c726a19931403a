"""Rows -> requests -> responses -> rows in order; every row is accounted for.

The way of a row: ``make_requests`` runs in the serving's feeder thread and makes the request with
its body and its journal key. The serving answers. ``run``, in the caller's thread, makes a line of
the response, waits for its turn, asks the filters, and writes it to the output or the failures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from time import monotonic
from typing import Any, Protocol

from codesynth.errors import OutputError, RunError, one_line
from codesynth.journal.occurrences import Occurrences
from codesynth.models import (
    REJECTIONS,
    Failure,
    Question,
    Record,
    Request,
    Response,
    Row,
    RowFilter,
    Stats,
)
from codesynth.serving import LLMServing, ResponseStream
from codesynth.storage import Files, Reorder, failure_line, rejection_line, row_line

TICK_SECONDS = 0.1
"""Time between two looks at signals, limits and the bar."""


class Task(Protocol):
    """What a command asks about a row, and how it reads the response. It does no I/O."""

    def make_question(self, record: Record) -> Question | Failure:
        """Say what to ask for a row, or why it cannot be asked."""

    def columns(self, response: Response) -> dict[str, Any] | Failure:
        """Read the new columns from a response that has no error, or say why there are none."""

    def subject(self, record: Record, columns: dict[str, Any]) -> str:
        """Choose the text that the filters look at."""


class RowWindow(Protocol):
    """Decides about rows by comparing them with their neighbours; used before the filters."""

    def put(self, row: Row) -> Iterable[tuple[Row, Failure | None]]:
        """Take a row in its turn; return the decided rows, each with the reason of a rejection."""

    def rest(self) -> Iterable[tuple[Row, Failure | None]]:
        """Return the rows that are left, at the end of the run."""


@dataclass
class Stop:
    """Ends a run from outside, after a signal or at a time limit."""

    triggered: int = 0  # how often
    grace: float | None = None  # seconds to wait for requests in flight; None waits for all
    signal: int | None = None  # its number, if a signal ended the run

    def trigger(self, grace: float | None) -> None:
        """Send nothing more, and wait for requests in flight."""
        self.grace = grace
        self.triggered += 1


def make_requests(
    records: Iterable[Record],
    task: Task,
    stats: Stats,
    stop: Stop,
    chosen: Callable[[int], bool] = lambda _: True,
) -> Iterator[Request | Response]:
    """Turn rows into requests; a row that cannot be asked becomes a Response with its failure.

    The journal key is a hash of what is asked, and how many equal requests the undivided job has
    before this one: so the answer is found again even if the job is divided into other parts.

    Args:
        chosen: tells whether request ``number``, from 0, of the whole job belongs to the run.
    """
    seen, all_keys = Occurrences(), blake2b(digest_size=16)
    for number, record in enumerate(records):
        if stop.triggered:
            return
        question = record.error or task.make_question(record)
        key = b""
        if isinstance(question, Question):
            key = blake2b(question.identity, digest_size=16).digest()
            if before := seen.count(key):
                key += before.to_bytes(4, "big")
        all_keys.update(key or b"bad row")
        if not chosen(number):
            continue
        position = stats.rows
        stats.rows += 1
        if isinstance(question, Question):
            yield Request(record, position, question.body, key, question.messages)
        else:
            yield Response(Request(record, position, b""), error=question)
    stats.requests = all_keys.hexdigest()
    stats.all_read = True


def responses(
    stream: ResponseStream, stop: Stop, tick: Callable[[], None]
) -> Generator[Response | None, None, None]:
    """Yield responses as they come, and None while none is ready.

    When ``stop`` is triggered, the stream is drained.

    Args:
        tick: called ten times a second.
    """
    drained, next_tick = 0, 0.0
    with stream:
        while True:
            if (now := monotonic()) >= next_tick:
                next_tick = now + TICK_SECONDS
                tick()
            if stop.triggered > drained:
                drained = stop.triggered
                stream.drain(stop.grace)
            if not stream.wait(0):
                yield None
                if not stream.wait(TICK_SECONDS):
                    continue
            try:
                yield next(stream)
            except StopIteration:
                return


def read_response(response: Response, task: Task) -> dict[str, Any] | Failure:
    """Read the new columns of a row, or why it has none."""
    if response.error is not None:
        return response.error
    columns = task.columns(response)
    if isinstance(columns, Failure):
        return replace(columns, attempts=response.attempts)
    return columns


def make_row(response: Response, task: Task, *, filtered: bool = False) -> Row:
    """Make a row's line: the input row's own bytes and the new columns, or a failure line.

    Args:
        filtered: filters will look at the row.
    """
    record = response.request.record
    columns = read_response(response, task)
    text = response.answer.text if response.answer is not None else None
    if isinstance(columns, Failure):
        return Row(failure_line(record, columns, text), columns, number=record.line or 0)
    line, raw_bytes = row_line(record, columns)
    if not filtered:
        return Row(line)
    subject = task.subject(record, columns)
    return Row(line, None, subject, subject if text is None else text, raw_bytes, record.line or 0)


def run(
    records: Iterable[Record],
    task: Task,
    serving: LLMServing,
    files: Files,
    *,
    stats: Stats,
    stop: Stop,
    chosen: Callable[[int], bool] = lambda _: True,
    ordered: bool = True,
    window: RowWindow | None = None,
    filters: Sequence[RowFilter] = (),
    decided: Callable[[bool], None] = lambda _: None,
    drain_grace: float | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Ask for every record, and write it to exactly one place, the output or the failures.

    Args:
        records: pulled in the serving's feeder thread, as fast as requests can be sent.
        chosen: see ``make_requests``.
        ordered: write rows in the order of the records; early rows wait, if many then on disk.
        decided: called for each row in its turn: whether it is written to the output.
        drain_grace: if a row cannot be written, seconds to wait for requests in flight, so that
            a journal in ``serving`` keeps their answers; None does not wait.
        tick: see ``responses``.

    Raises:
        EndpointError: no request can succeed; what was answered is written first.
        RunError: a row was lost or written twice.
    """
    writer = _RowWriter(files, stats, Reorder() if ordered else None, window, filters, decided)
    filtered = bool(filters) or window is not None
    requests = make_requests(records, task, stats, stop, chosen)
    stream = responses(serving.generate(requests), stop, tick)
    try:
        for response in stream:
            if response is None:
                files.flush()
                continue
            stats.count(response)
            row = make_row(response, task, filtered=filtered)
            if row.failure is not None:
                stats.note_failure(response.request.record, row.failure)
            writer.put(response.request.position, row)
    except (OutputError, BrokenPipeError):
        if drain_grace is not None:
            stop.trigger(drain_grace)
            deque(stream, maxlen=0)
        raise
    except RunError:
        writer.put_rest()
        raise
    finally:
        stream.close()
    writer.put_rest()
    if stats.pending and not stop.triggered:
        raise RunError(
            f"{stats.rows} rows in, but {stats.ok} ok, {stats.rejected} rejected and "
            f"{stats.failed} failed. This is a bug"
        )


@dataclass(slots=True)
class _RowWriter:
    """Puts rows in order, asks the window and the filters, and writes the rows to the files."""

    files: Files
    stats: Stats
    reorder: Reorder | None
    window: RowWindow | None
    filters: Sequence[RowFilter]
    decided: Callable[[bool], None]

    def put(self, position: int, row: Row) -> None:
        self._decide((row,) if self.reorder is None else self.reorder.put(position, row))

    def put_rest(self) -> None:
        """Write the rows that still wait, also those behind a row that will not come."""
        if self.reorder is not None:
            self._decide(self.reorder.rest())
        for row, reason in self.window.rest() if self.window is not None else ():
            self._write(row, reason)

    def _decide(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if self.window is None:
                self._write(row, None)
                continue
            for each, reason in self.window.put(row):
                self._write(each, reason)

    def _write(self, row: Row, reason: Failure | None) -> None:
        for reject in self.filters if row.failure is None else ():
            reason = reason or reject(row.subject)
        self.decided(row.failure is None and reason is None)
        if row.failure is not None:
            self._fail(row.line, row.failure)
        elif reason is not None:
            first = self.stats.first_rejection
            self.stats.first_rejection = first or one_line(f"line {row.number}: {reason.message}")
            self._fail(rejection_line(row, reason), reason)
        else:
            self.stats.ok += 1
            self.files.write(row.line)

    def _fail(self, line: bytes, failure: Failure) -> None:
        rejected = failure.kind in REJECTIONS
        (self.stats.rejections if rejected else self.stats.failures)[failure.kind] += 1
        self.files.fail(line)
