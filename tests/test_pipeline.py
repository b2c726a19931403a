"""The pipeline between plain lists: every row in one place, in order, whatever happens."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth import pipeline
from codesynth.errors import ConfigError, EndpointError, OutputError, RunError
from codesynth.models import Failure, Outcome, Record, Request, Response, Stats, Usage
from codesynth.pipeline import Job, Stop, make_requests, outcomes
from codesynth.serving import LLMServing
from codesynth.storage.records import parse_record

JOB = Job("demo", lambda record: record.text("x"), lambda text, _: text.strip(), "y")


@dataclass
class Lists:
    """A sink that keeps lines; ``full`` after so many."""

    full: float = float("inf")
    rows: list[bytes] = field(default_factory=list)
    failures: list[bytes] = field(default_factory=list)
    flushed: list[int] = field(default_factory=list)

    def write(self, line: bytes) -> None:
        if len(self.rows) >= self.full:
            raise OutputError("full")
        self.rows.append(line)

    def fail(self, line: bytes) -> None:
        self.failures.append(line)

    def flush(self) -> None:
        self.flushed.append(len(self.rows))

    @property
    def texts(self) -> list[str]:
        return [json.loads(line)["x"] for line in self.rows]


class Echo:
    """Answers each request with its prompt, in the order that ``arrange`` makes."""

    def __init__(
        self, arrange: Callable[[list[Response]], Iterable[Response]] = lambda each: each
    ) -> None:
        self.arrange = arrange
        self.asked: list[Request] = []
        self.closed = False

    def answer(self, request: Request) -> Response:
        self.asked.append(request)
        text = request.messages[-1]["content"]
        return Response(request, text, "stop", Usage(2, 1), attempts=1)

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        responses = [request.known or self.answer(request) for request in requests]
        try:
            yield from self.arrange(responses)
        finally:
            self.closed = True


def records(*lines: bytes | str) -> Iterator[Record]:
    for index, line in enumerate(lines):
        raw = line if isinstance(line, bytes) else json.dumps({"x": line}).encode()
        yield parse_record(index, raw, index + 1, "rows")


def run(
    serving: LLMServing, *lines: bytes | str, sink: Lists | None = None, **options: Any
) -> tuple[Lists, Stats]:
    sink, stats = sink or Lists(), Stats()
    given = {"stop": Stop(), **options}
    pipeline.run(records(*lines), JOB, serving, sink, stats=stats, **given)
    return sink, stats


LINE = st.binary(min_size=1, max_size=12) | st.sampled_from(
    [b'{"x":"a"}', b'{"x":" "}', b'{"x":1}', b"{}", b"[]", b'{"x":"\\ud800"}']
)


@given(lines=st.lists(LINE, max_size=12), data=st.data(), ordered=st.booleans())
def test_any_lines_answered_in_any_order_end_once_each(
    lines: list[bytes], data: st.DataObject, ordered: bool
) -> None:
    def arrange(responses: list[Response]) -> list[Response]:
        shuffled = data.draw(st.permutations(responses))
        failed = Failure("rejected", "no", 400, 1)
        return [
            r if r.error or data.draw(st.booleans()) else Response(r.request, error=failed)
            for r in shuffled
        ]

    rows = [line.strip() for line in lines if b"\n" not in line and line.strip()]
    sink, stats = run(Echo(arrange), *rows, ordered=ordered)
    assert (len(sink.rows), len(sink.failures)) == (stats.ok, stats.failed)
    assert stats.rows == len(rows) == stats.ok + stats.failed
    assert stats.pending == 0
    told = [json.loads(line) for line in sink.failures]
    numbers = [failure["line"] for failure in told]
    written = [line[: line.rindex(b',"y"')] + b"}" for line in sink.rows]
    others = [row for number, row in enumerate(rows, 1) if number not in numbers]
    assert len(set(numbers)) == len(numbers)
    if ordered:
        assert numbers == sorted(numbers)
        assert written == others
    else:
        assert sorted(written) == sorted(others)


def test_a_row_is_asked_with_its_place_and_a_bad_one_with_its_failure() -> None:
    stats = Stats()
    job = Job("demo", JOB.prompt, JOB.parse, "y", system_prompt="Be brief.")
    good, bad, worse = make_requests(records("a", b"{}", b"{"), job, stats, Stop())
    assert (good.custom_id, good.position, good.known) == ("demo-0", 0, None)
    assert good.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "a"},
    ]
    kinds = [r.known.error.kind for r in (bad, worse) if r.known and r.known.error]
    assert (kinds, stats.rows) == (["missing_key", "invalid_json"], 3)


def test_an_answer_without_anything_in_it_is_empty() -> None:
    sink, stats = run(Echo(), "a", " \n")
    assert (sink.texts, dict(stats.failures)) == (["a"], {"empty": 1})
    failure = json.loads(sink.failures[0])
    assert (failure["error"]["attempts"], failure["answer"]) == (1, " \n")


def test_what_the_journal_knew_costs_nothing_in_this_run() -> None:
    def arrange(responses: list[Response]) -> list[Response]:
        first, second = responses
        return [Response(first.request, "a", usage=Usage(9, 9), attempts=3, cached=True), second]

    _, stats = run(Echo(arrange), "a", "b")
    assert (stats.ok, stats.cached, stats.attempts) == (2, 1, 1)
    assert (stats.prompt_tokens, stats.completion_tokens) == (2, 1)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("lost", [lambda each: each[:-1], lambda each: [*each, each[0]]])
def test_a_row_lost_or_doubled_by_the_serving_is_a_bug_that_is_told(
    lost: Callable[[list[Response]], list[Response]], ordered: bool
) -> None:
    with pytest.raises(RunError, match="This is a bug"):
        run(Echo(lost), "a", "b", "c", ordered=ordered)


def test_an_endpoint_that_stops_the_run_loses_nothing_that_was_answered() -> None:
    def arrange(responses: list[Response]) -> Iterator[Response]:
        yield from (responses[3], responses[0], responses[2])
        raise EndpointError("no more")

    sink, serving = Lists(), Echo(arrange)
    with pytest.raises(EndpointError, match="no more"):
        run(serving, "a", "b", "c", "d", sink=sink)
    assert sink.texts == ["a", "c", "d"]


def test_what_goes_wrong_in_reading_goes_through() -> None:
    def broken() -> Iterator[Record]:
        yield from records("a")
        raise ConfigError("no such column")

    with pytest.raises(ConfigError, match="no such column"):
        pipeline.run(broken(), JOB, Echo(), Lists(), stats=Stats(), stop=Stop())


class Drained:
    """A stream that can be waited for and drained, like a window's."""

    def __init__(self, responses: Iterator[Response]) -> None:
        self.responses = responses
        self.grace: list[float | None] = []
        self.closed = False

    def __iter__(self) -> Iterator[Response]:
        return self

    def __next__(self) -> Response:
        return next(self.responses)

    def wait(self, timeout: float | None) -> bool:
        return True

    def drain(self, grace: float | None) -> None:
        self.grace.append(grace)
        self.responses = iter([*self.responses][:1])

    def close(self) -> None:
        self.closed = True


class Drainable(Echo):
    stream: Drained

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        self.stream = Drained(super().generate(requests))
        return self.stream


def test_a_stop_drains_what_is_in_flight_and_writes_what_lands() -> None:
    stop, sink, serving = Stop(), Lists(), Drainable()
    ticks = iter(range(10))

    def tick() -> None:
        if next(ticks) == 0:
            stop.ask(2.5)

    run(serving, "a", "b", "c", "d", sink=sink, stop=stop, tick=tick)
    assert sink.texts == ["a", "b"]
    assert (serving.stream.grace, serving.stream.closed) == ([2.5], True)


class Halting(Echo):
    """Answers come two at a time."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Response]:
        return Halts(super().generate(requests))


class Halts(Iterator[Response]):
    def __init__(self, responses: Iterator[Response]) -> None:
        self.responses = responses
        self.taken = 0

    def __next__(self) -> Response:
        self.taken += 1
        return next(self.responses)

    def wait(self, timeout: float) -> bool:
        return timeout > 0 or self.taken % 2 == 1


def test_lines_are_flushed_whenever_no_more_comes_just_now() -> None:
    sink = Lists()
    run(Halting(), "a", "b", "c", "d", "e", sink=sink)
    assert sink.texts == list("abcde")
    assert sink.flushed == [0, 2, 4]


def test_a_stop_ends_a_serving_that_cannot_drain_at_once() -> None:
    stop, sink, serving = Stop(), Lists(), Echo()
    run(serving, "a", "b", sink=sink, stop=stop, tick=lambda: stop.ask(None))
    assert sink.texts == ["a"]


@pytest.mark.parametrize(("landing", "grace"), [(3.0, [3.0]), (None, [])])
def test_a_full_output_lets_what_is_in_flight_land_where_it_is_kept(
    landing: float | None, grace: list[float]
) -> None:
    stop, sink, serving = Stop(), Lists(full=1), Drainable()
    with pytest.raises(OutputError):
        run(serving, "a", "b", "c", "d", sink=sink, stop=stop, landing=landing)
    assert (sink.texts, serving.stream.grace) == (["a"], grace)


def test_closing_the_outcomes_closes_the_serving() -> None:
    serving = Echo()
    stream = outcomes(records("a", "b"), JOB, serving, stats=Stats(), stop=Stop())
    assert next(stream).value == "a"
    assert isinstance(stream, Iterator)
    stream.close()  # type: ignore[attr-defined]  # it is a generator
    assert serving.closed


def test_each_failure_is_told_as_it_comes() -> None:
    told: list[Outcome] = []
    sink, _ = run(Echo(), "a", b"{}", b"[]", on_failure=told.append)
    assert [outcome.failure and outcome.failure.kind for outcome in told] == [
        *("missing_key", "not_an_object")
    ]
    assert len(sink.failures) == 2


def test_meta_is_the_last_member_and_keeps_an_earlier_one() -> None:
    rows = (b'{"_codesynth":{"n": 1.0},"x":"a"}', "b")
    sink, _ = run(Echo(), *rows, meta=lambda outcome: {"attempts": outcome.response.attempts})
    assert sink.rows == [
        b'{"x":"a","y":"a","_codesynth":{"attempts":1,"input":{"n": 1.0}}}',
        b'{"x": "b","y":"b","_codesynth":{"attempts":1}}',
    ]
