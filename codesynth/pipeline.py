"""Records -> requests -> responses -> rows in order; counts, and sees that no row is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from codesynth.errors import OutputError, RunError
from codesynth.lines import failure_line, rejection_line, row_line
from codesynth.models import Failure, Message, Outcome, Record, Request, Response, Stats, Usage
from codesynth.serving import LLMServing
from codesynth.storage import Reorder


class Sink(Protocol):
    """Where lines go; each is one JSON text without its newline."""

    def write(self, line: bytes) -> None:
        """Take a row of the output."""
        ...

    def fail(self, line: bytes) -> None:
        """Take a failure line."""
        ...

    def flush(self) -> None:
        """Write what it has taken: nothing more comes just now."""
        ...


class Gate(Protocol):
    """Judges rows in the order in which they are written."""

    def decide(self, ok: bool, line: bytes) -> Failure | None:
        """Say why a row is not written after all; also told of rows that have failed."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """What an operator does with a row, as plain functions.

    Attributes:
        name: first part of each ``custom_id``.
        prompt: a row's prompt, or why it has none.
        parse: the answer's text and its prompt to the value of the new column, or why there is
            none; empty where nothing is left.
        output_key: the new column.
        system_prompt: sent before each prompt.
    """

    name: str
    prompt: Callable[[Record], str | Failure]
    parse: Callable[[str, str], str | Failure]
    output_key: str
    system_prompt: str | None = None


class Stop:
    """Ends a run from outside: a signal, a limit in time.

    Attributes:
        asked: how often; 0 while the run may go on.
        grace: seconds to wait for what is in flight; None waits for all of it.
        signal: the number of the signal that asked, if one did.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.grace: float | None = None
        self.signal: int | None = None

    def ask(self, grace: float | None) -> None:
        """Send nothing more."""
        self.grace = grace
        self.asked += 1


def make_requests(
    records: Iterable[Record], job: Job, stats: Stats, stop: Stop
) -> Iterator[Request]:
    """Turn rows into requests; one that cannot be asked carries its failure with it."""
    system = [{"role": "system", "content": job.system_prompt}] if job.system_prompt else []
    for position, record in enumerate(records):
        if stop.asked:
            return
        stats.rows += 1
        prompt = record.error or job.prompt(record)
        custom_id = f"{job.name}-{record.index}"
        if isinstance(prompt, str):
            messages: list[Message] = [*system, {"role": "user", "content": prompt}]
            yield Request(custom_id, messages, record, position)
        else:
            known = Response(Request(custom_id, [], record, position), error=prompt)
            yield Request(custom_id, [], record, position, known)


def outcomes(
    records: Iterable[Record],
    job: Job,
    serving: LLMServing,
    *,
    stats: Stats,
    stop: Stop,
) -> Iterator[Outcome | None]:
    """Send every record through; yield what becomes of each, as it comes.

    While nothing comes, None is yielded, at once and then ten times a second.

    Args:
        records: pulled from a thread of the serving's, as fast as requests can be sent.
        stats: kept up to date.
        stop: looked at ten times a second.
    """
    for response in _responses(serving, make_requests(records, job, stats, stop), stop):
        if response is None:
            yield None
            continue
        outcome = _parse(response, job)
        _count(stats, outcome)
        yield outcome


def _responses(
    serving: LLMServing, requests: Iterable[Request], stop: Stop
) -> Iterator[Response | None]:
    """Take responses as they come, and end early when asked to; None while nothing comes."""
    responses = serving.generate(requests)
    wait = getattr(responses, "wait", None)
    drain = getattr(responses, "drain", None)
    heard = 0
    try:
        while True:
            if stop.asked > heard:
                heard = stop.asked
                if drain is None:
                    return
                drain(stop.grace)
            if wait is not None and not wait(0):
                yield None
                if not wait(0.1):
                    continue
            try:
                yield next(responses)
            except StopIteration:
                return
    finally:
        close = getattr(responses, "close", None)
        if close is not None:
            close()


def _parse(response: Response, job: Job) -> Outcome:
    if response.error is not None:
        return Outcome(response, failure=response.error)
    value = job.parse(response.text or "", response.request.messages[-1]["content"])
    if not value:
        value = Failure("empty", "nothing but thoughts or an empty block")
    if isinstance(value, Failure):
        return Outcome(response, failure=replace(value, attempts=response.attempts))
    return Outcome(response, value)


def _count(stats: Stats, outcome: Outcome) -> None:
    response = outcome.response
    if outcome.failure is None:
        stats.ok += 1
    else:
        stats.failures[outcome.failure.kind] += 1
    used = response.usage or Usage()
    if response.cached:
        stats.cached += 1
        stats.saved = Usage(
            stats.saved.prompt_tokens + used.prompt_tokens,
            stats.saved.completion_tokens + used.completion_tokens,
        )
        return
    stats.attempts += response.attempts
    stats.prompt_tokens += used.prompt_tokens
    stats.completion_tokens += used.completion_tokens


def run(
    records: Iterable[Record],
    job: Job,
    serving: LLMServing,
    sink: Sink,
    *,
    stats: Stats,
    stop: Stop,
    ordered: bool = True,
    landing: float | None = None,
    gate: Gate | None = None,
    meta: Callable[[Outcome], dict[str, Any]] | None = None,
    tick: Callable[[], None] = lambda: None,
    on_failure: Callable[[Outcome], None] = lambda _: None,
) -> None:
    """Write what becomes of every record to one place, the output or the failures.

    Args:
        ordered: in the order of the records; what is early waits, on disk if it is much.
        landing: where a row cannot be written, seconds to wait for what is in flight all the
            same: a journal in ``serving`` keeps it.
        gate: judges each row in its turn; what it rejects goes to the failures.
        meta: makes the ``_codesynth`` object of a row.
        tick: called for each row, and ten times a second while nothing comes.
        on_failure: called for each row that failed.
        others: see ``outcomes``.

    Raises:
        EndpointError: no request can succeed; what was answered is written first.
        RunError: a row was lost or doubled.
    """
    lines = _Lines(sink, stats, gate, ordered=ordered)
    stream = outcomes(records, job, serving, stats=stats, stop=stop)
    try:
        for outcome in stream:
            tick()
            if outcome is None:
                sink.flush()
                continue
            position = outcome.response.request.position
            if outcome.failure is None:
                lines.put(position, True, row_line(outcome, job.output_key, meta))
            else:
                on_failure(outcome)
                lines.put(position, False, failure_line(outcome))
    except (OutputError, BrokenPipeError):
        if landing is not None:
            stop.ask(landing)
            deque(stream, maxlen=0)
        raise
    except RunError:
        lines.put_rest()
        raise
    lines.put_rest()
    if not stop.asked and stats.pending:
        raise RunError(
            f"{stats.rows} rows in, but {stats.ok} ok and {stats.failed} failed. This is a bug"
        )


class _Lines:
    """Lines on their way to the sink, in order where that is asked for, past the gate."""

    def __init__(self, sink: Sink, stats: Stats, gate: Gate | None, *, ordered: bool) -> None:
        self._sink = sink
        self._stats = stats
        self._gate = gate
        self._reorder = Reorder() if ordered else None

    def put(self, position: int, ok: bool, line: bytes) -> None:
        if self._reorder is None:
            self._write(ok, line)
        else:
            for each in self._reorder.put(position, ok, line):
                self._write(*each)

    def put_rest(self) -> None:
        """Write what waits behind a row that will not come."""
        for each in self._reorder.rest() if self._reorder is not None else ():
            self._write(*each)

    def _write(self, ok: bool, line: bytes) -> None:
        rejected = self._gate.decide(ok, line) if self._gate is not None else None
        if rejected is not None:
            self._stats.ok -= 1
            self._stats.failures[rejected.kind] += 1
            self._sink.fail(rejection_line(line, rejected))
        elif ok:
            self._sink.write(line)
        else:
            self._sink.fail(line)
