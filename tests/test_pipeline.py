"""The pipeline between plain lists: every row in one place, in order, whatever happens."""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth import pipeline
from codesynth.errors import EndpointError, OutputError, RunError
from codesynth.models import Answer, Failure, Question, Record, Request, Response, Stats, Usage
from codesynth.pipeline import Stop, make_requests
from codesynth.serving import LLMServing, ResponseStream
from codesynth.serving.stream import IteratorStream
from codesynth.storage import parse_record, read_text


class Copy:
    """Asks with column x, writes the answer to column y; " " is no answer."""

    def make_question(self, record: Record) -> Question | Failure:
        text = read_text(record, "x")
        body = text if isinstance(text, Failure) else text.encode("utf-8", "surrogatepass")
        return body if isinstance(body, Failure) else Question(body, body)

    def columns(self, response: Response) -> dict[str, Any] | Failure:
        text = response.answer.text if response.answer is not None else ""
        return {"y": text.strip()} if text.strip() else Failure("empty", "nothing")

    def subject(self, record: Record, columns: Mapping[str, Any]) -> str:
        return str(columns["y"])


@dataclass
class Lists:
    """A sink that keeps lines; ``full`` after so many."""

    full: float = float("inf")
    rows: list[bytes] = field(default_factory=list)
    failures: list[bytes] = field(default_factory=list)

    def write(self, line: bytes) -> None:
        if len(self.rows) >= self.full:
            raise OutputError("full")
        self.rows.append(line)

    def fail(self, line: bytes) -> None:
        self.failures.append(line)

    def flush(self) -> None:
        """Keep nothing back."""

    @property
    def texts(self) -> list[str]:
        return [json.loads(line)["x"] for line in self.rows]


class Stream(IteratorStream):
    """Notes what its caller does."""

    def __init__(self, responses: Generator[Response, None, None]) -> None:
        super().__init__(responses)
        self.grace: list[float | None] = []
        self.closed = False

    def drain(self, grace: float | None) -> None:
        self.grace.append(grace)
        self._responses = (response for response in [*self._responses][:1])

    def close(self) -> None:
        self.closed = True
        super().close()


class Echo:
    """Answers each request with its body, in the order that ``arrange`` makes."""

    def __init__(
        self, arrange: Callable[[list[Response]], Iterable[Response]] = lambda each: each
    ) -> None:
        self.arrange = arrange
        self.asked: list[Request] = []
        self.stream = Stream(iter(()))  # type: ignore[arg-type]  # replaced by the first one

    def _answer(self, item: Request | Response) -> Response:
        if isinstance(item, Response):
            return item
        self.asked.append(item)
        text = item.body.decode("utf-8", "surrogatepass")
        return Response(item, item.body, Answer(text, usage=Usage(2, 1)), attempts=1)

    def _answers(self, items: Iterable[Request | Response]) -> Generator[Response, None, None]:
        yield from self.arrange([self._answer(item) for item in items])

    def generate(self, requests: Iterable[Request | Response]) -> ResponseStream:
        self.stream = Stream(self._answers(requests))
        return self.stream


def records(*lines: bytes | str) -> Iterator[Record]:
    for index, line in enumerate(lines):
        raw = line if isinstance(line, bytes) else json.dumps({"x": line}).encode()
        yield parse_record(index, raw, index + 1, "rows")


def run(
    serving: LLMServing, *lines: bytes | str, sink: Lists | None = None, **options: Any
) -> tuple[Lists, Stats]:
    sink, stats = sink or Lists(), Stats()
    options = {"stop": Stop(), **options}
    pipeline.run(records(*lines), Copy(), serving, sink, stats=stats, **options)
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
    assert (stats.pending, stats.all_read, stats.answered) == (0, True, len(rows))
    numbers = [json.loads(line)["line"] for line in sink.failures]
    written = [line[: line.rindex(b',"y"')] + b"}" for line in sink.rows]
    others = [row for number, row in enumerate(rows, 1) if number not in numbers]
    assert len(set(numbers)) == len(numbers)
    if ordered:
        assert numbers == sorted(numbers)
        assert written == others
    else:
        assert sorted(written) == sorted(others)


def test_equal_requests_are_numbered_over_the_undivided_job() -> None:
    texts = ["a", "b", "a", "a", "b", b"{}", "a"]
    whole = list(make_requests(records(*texts), Copy(), Stats(), Stop()))
    parts = [
        list(make_requests(records(*texts), Copy(), Stats(), Stop(), lambda n, i=i: n % 3 == i))
        for i in range(3)
    ]
    dealt = [parts[i % 3][i // 3] for i in range(len(texts))]
    assert [isinstance(each, Request) and each.key for each in dealt] == [
        isinstance(each, Request) and each.key for each in whole
    ]
    asked = [each for each in whole if isinstance(each, Request)]
    assert len({each.key for each in asked}) == len(asked) == 6
    assert [each.position for each in asked] == [0, 1, 2, 3, 4, 6]


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
    assert serving.stream.closed


def test_a_stop_drains_what_is_in_flight_and_writes_what_comes() -> None:
    stop, sink = Stop(), Lists()

    def arrange(responses: list[Response]) -> list[Response]:
        stop.trigger(2.5)
        return responses

    serving = Echo(arrange)
    run(serving, "a", "b", "c", "d", sink=sink, stop=stop)
    assert sink.texts == ["a", "b"]
    assert (serving.stream.grace, serving.stream.closed) == ([2.5], True)


@pytest.mark.parametrize(("drain_grace", "grace"), [(3.0, [3.0]), (None, [])])
def test_a_full_output_lets_what_is_in_flight_arrive_where_it_is_kept(
    drain_grace: float | None, grace: list[float]
) -> None:
    stop, sink, serving = Stop(), Lists(full=1), Echo()
    with pytest.raises(OutputError):
        run(serving, "a", "b", "c", "d", sink=sink, stop=stop, drain_grace=drain_grace)
    assert (sink.texts, serving.stream.grace) == (["a"], grace)
    assert serving.stream.closed


def test_the_first_failure_of_the_input_is_told_whatever_came_first() -> None:
    sink, stats = run(Echo(lambda each: reversed(each)), "a", b"{}", b"[]", ordered=False)
    assert len(sink.failures) == 2
    assert stats.describe_first_failure().startswith("first failure: rows:2: missing_key: ")


def test_a_rejected_row_goes_to_the_failures_as_it_came_and_is_no_failure() -> None:
    seen: list[str] = []
    decided: list[bool] = []

    def reject(subject: str) -> Failure | None:
        seen.append(subject)
        return Failure("duplicate", "again") if subject in seen[:-1] else None

    more = {"filters": [reject], "decided": decided.append}
    sink, stats = run(Echo(), "a", b'{"n": 1.0, "x":"a"}', b"{}", "b", **more)
    assert (sink.texts, stats.rejected, stats.failed) == (["a", "b"], 1, 1)
    assert (decided, stats.first_rejection) == ([True, False, False, True], "line 2: again")
    assert sink.failures[0] == (
        b'{"input":{"n": 1.0, "x":"a"},"line":2,"error":{"kind":"duplicate","message":"again",'
        b'"attempts":0},"answer":"a"}'
    )
