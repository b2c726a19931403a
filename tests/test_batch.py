"""Batches behind a journal, against a loopback server that goes wrong in every known way."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from support.batches import BatchServer, Fault
from support.replies import text_for

from codesynth.codec import dumps
from codesynth.errors import EndpointError, InputError, LimitReached
from codesynth.journal import BatchLog, Journal, JournaledServing
from codesynth.models import Failure, Record, Request, Response
from codesynth.serving.batch import BatchClient, BatchOptions, BatchServing
from codesynth.serving.batch.shapes import OPENAI

PROMPTS = [f"task {i}" for i in range(10)]


class Clock:
    """Time that passes only where it is slept through."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def request(position: int, prompt: str) -> Request:
    body = dumps({"model": "test-model", "messages": [{"role": "user", "content": prompt}]})
    record = Record(position, dumps({"instruction": prompt}), {"instruction": prompt})
    return Request(record, position, body, blake2b(body, digest_size=16).digest())


def requests(prompts: Iterable[str] = PROMPTS) -> Iterator[Request]:
    return (request(i, prompt) for i, prompt in enumerate(prompts))


class Bench:
    """A journal in a folder, and runs over it."""

    def __init__(self, folder: Path, server: BatchServer) -> None:
        self.path, self.server, self.clock = str(folder / "out.journal"), server, Clock()

    @contextmanager
    def opened(self, **options: Any) -> Iterator[tuple[Journal, BatchServing]]:
        client = BatchClient(self.server.base_url, timeout=60.0)
        time = {"sleep": self.clock.sleep, "clock": lambda: self.clock.now}
        with Journal(self.path) as journal:
            yield journal, BatchServing(client, BatchLog(journal), BatchOptions(**time, **options))

    def run(self, prompts: list[str] = PROMPTS, **options: Any) -> list[Response]:
        """Run to the end; each request has its response."""
        with self.opened(**options) as (journal, serving):
            journaled = JournaledServing(journal, serving)
            stream = journaled.generate(requests(prompts))
            responses = sorted(stream, key=lambda r: r.request.position)
            assert [each.request.position for each in responses] == list(range(len(prompts)))
            assert not BatchLog(journal).open()
            return responses

    def texts(self, prompts: list[str] = PROMPTS, **options: Any) -> None:
        """Run to the end and see that each answer is that of its prompt."""
        for response, prompt in zip(self.run(prompts, **options), prompts, strict=True):
            assert response.error is None
            assert response.answer is not None
            assert response.answer.text == text_for(prompt)

    def submit(self, prompts: list[str] = PROMPTS, **options: Any) -> None:
        """Run without waiting for the batches."""
        with pytest.raises(LimitReached):
            self.run(prompts, wait=False, **options)

    def sizes(self) -> list[int]:
        return [len(batch.requests) for batch in self.server.batches]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with BatchServer() as server:
        yield Bench(tmp_path, server)


FAULTS = {
    "any_order_and_twice": Fault(shuffled=True),
    "unknown_right_after_it_was_made": Fault(missing=3),
    "files_named_after_the_end": Fault(late=2),
    "files_that_come_after_their_names": Fault(unwritten=2),
    "expired_in_part": Fault(status="expired", answered=0.3, shuffled=True),
    "cancelled_by_somebody": Fault(status="cancelled", answered=0.7, code="batch_cancelled"),
    "completed_without_an_output_file": Fault(answered=0.0, code="server_error"),
    "late_error_file": Fault(answered=0.5, status_code=500, late=3),
    "torn_download": Fault(torn=1),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_every_row_is_answered_and_none_twice_after(bench: Bench, fault: Fault) -> None:
    bench.server.faults = [fault]
    bench.texts(size=8)
    assert set(bench.server.finished().values()) == {1}
    assert len(bench.server.finished()) == len(PROMPTS)
    bench.texts()
    assert bench.server.finished().total() == len(PROMPTS)


def test_ids_may_be_long_and_hold_any_character(bench: Bench) -> None:
    bench.server.id_of = lambda n: f"projects/a b/batches/{n}?x=%2F&ü" + "y" * 500
    bench.texts(size=4)


def failure_of_last(bench: Bench, **options: Any) -> Failure:
    """Run to the end; only the last row fails."""
    *answered, last = bench.run(**options)
    assert all(each.error is None for each in answered)
    assert last.error is not None
    return last.error


UNANSWERED = "batch_2 is expired without an answer to this row"
EXPIRED = Fault(status="expired", answered=0.9, code=None)


def refusing(status: int) -> Fault:
    return Fault(answered=0.9, status_code=status)


@pytest.mark.parametrize(
    ("fault", "failure", "sizes"),
    [
        (refusing(500), Failure("server_error", "refused by the test", 500, 3), [10, 1, 1]),
        (EXPIRED, Failure("server_error", UNANSWERED, None, 3), [10, 1, 1]),
        (refusing(400), Failure("rejected", "refused by the test", 400, 1), [10]),
    ],
)
def test_a_row_is_sent_again_max_retries_times_unless_it_is_refused(
    bench: Bench, fault: Fault, failure: Failure, sizes: list[int]
) -> None:
    bench.server.faults = [fault, Fault(status="expired", answered=0), fault, Fault()]
    assert failure_of_last(bench, max_retries=2) == failure
    assert bench.sizes() == sizes


BILLING = Fault(status="failed", errors=(("billing", "limit reached"),))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (BILLING, "batch_0 has failed: billing: limit reached"),
        (Fault(answered=0.0, status_code=401), "batch_0: requests are refused: refused by th"),
    ],
)
def test_a_batch_that_is_refused_as_a_whole_stops_the_run(
    bench: Bench, fault: Fault, words: str
) -> None:
    bench.server.faults = [fault]
    with pytest.raises(EndpointError, match=words):
        bench.run()
    bench.texts()


ENQUEUED = ("token_limit_exceeded", "Enqueued token limit reached for gpt in organization")
TOO_LARGE = Fault(status="failed", errors=(ENQUEUED,))


def test_too_many_tokens_are_tried_again_in_smaller_batches_after_a_pause(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "token")  # hiding it changes the endpoint's words
    bench.server.faults = [TOO_LARGE] * 2
    bench.texts(max_retries=0)
    assert bench.sizes() == [10, 5, 2, 2, 2, 2, 2]
    assert bench.clock.pauses.count(60.0) == 2


def test_too_many_tokens_beside_another_batch_wait_for_its_end(bench: Bench) -> None:
    bench.server.faults = [Fault(polls=9), TOO_LARGE]
    bench.texts(size=5)
    assert bench.sizes() == [5, 5, 5]
    first, _, third = bench.server.batches
    assert first.polls == 10
    assert third.status == "completed"
    assert bench.clock.pauses == [0.5, 1, 2, 4, 8, 16, 32, 60]


@pytest.mark.parametrize("status", [400, 413])
def test_a_file_that_is_too_large_is_halved(bench: Bench, status: int) -> None:
    bench.server.refuse = refuse("POST /files", status, status)
    bench.texts()
    assert bench.sizes() == [2, 2, 2, 2, 2]


def refuse(call: str, *statuses: int | None) -> Callable[[str, str, int], int | None]:
    """Refuse the first calls of a kind with these statuses."""

    def refusal(method: str, path: str, n: int) -> int | None:
        return statuses[n - 1] if f"{method} {path}" == call and n <= len(statuses) else None

    return refusal


CALLS = ["POST /files", "POST /batches", "GET /batches/*", "GET /files/*/content"]


@pytest.mark.parametrize("call", CALLS)
def test_a_call_is_repeated_until_it_succeeds(bench: Bench, call: str) -> None:
    bench.server.refuse = refuse(call, 500, 429, 503)
    bench.texts()
    assert bench.server.calls[call] == 4
    assert bench.sizes() == [10]


def test_what_can_be_read_of_a_damaged_file_is_kept(bench: Bench) -> None:
    bench.server.faults = [Fault(torn=99)]
    bench.texts()
    assert bench.sizes() == [10, 4]


@pytest.mark.parametrize("status", [-500, 404])
def test_a_batch_is_made_once_whatever_the_reply(bench: Bench, status: int) -> None:
    bench.server.refuse = refuse("POST /batches", status)
    bench.texts(size=4)
    assert bench.sizes() == [4, 4, 2]
    assert bench.server.calls["POST /files"] == 3


@pytest.mark.parametrize("call", CALLS)
def test_an_outage_ends_the_run_and_the_next_one_goes_on(bench: Bench, call: str) -> None:
    bench.server.refuse = refuse(call, *[500] * 99)
    with pytest.raises(EndpointError, match="refused by the test"):
        bench.run()
    is_first = call == CALLS[0]  # the endpoint is dead from the start
    assert (15 if is_first else 300) <= bench.clock.now < (16 if is_first else 400)
    bench.server.refuse = refuse("")
    bench.texts()
    assert set(bench.server.finished().values()) == {1}
    assert len(bench.server.batches) == 1


@pytest.mark.parametrize(
    ("call", "status", "words"),
    [
        ("POST /files", 404, r"\(404\).* Has it a Batch API\?"),
        ("POST /files", 401, r"\(401\).*Set OPENAI_API_KEY"),
        ("POST /batches", 400, r"\(400\): refused"),
    ],
)
def test_a_refusal_ends_the_run_at_once(bench: Bench, call: str, status: int, words: str) -> None:
    bench.server.refuse = refuse(call, status)
    with pytest.raises(EndpointError, match=words):
        bench.run()
    assert bench.clock.pauses == []
    bench.texts()


def test_without_waiting_a_run_sends_all_and_a_later_one_collects(bench: Bench) -> None:
    with pytest.raises(LimitReached, match=r"10 requests are in open batches: batch_0, batch_1, b"):
        bench.run(size=4, wait=False)
    assert bench.sizes() == [4, 4, 2]
    assert bench.server.calls["GET /batches/*"] == 0
    bench.server.batches[1].fault = Fault(polls=1)
    with pytest.raises(LimitReached, match=r"4 requests are in open batches: batch_1\. Run"):
        bench.run(size=4, wait=False)
    bench.texts(size=4, wait=False)
    assert bench.sizes() == [4, 4, 2]


def test_rows_that_always_fail_fail_in_the_end_where_nobody_waits(bench: Bench) -> None:
    bench.server.faults = [refusing(500)] * 9
    for _ in range(3):
        bench.submit(max_retries=2)
    assert failure_of_last(bench, wait=False, max_retries=2).attempts == 3
    assert bench.sizes() == [10, 1, 1]


def test_rows_may_be_added_and_left_out_while_a_batch_is_open(bench: Bench) -> None:
    bench.submit(PROMPTS[:7])
    bench.texts(PROMPTS[:2])
    bench.texts(PROMPTS[::-1])
    assert bench.sizes() == [7, 3]


def test_a_batch_that_nobody_knows_any_more_is_given_up_by_cancelling(bench: Bench) -> None:
    bench.submit()
    bench.server.batches.clear()
    with pytest.raises(EndpointError, match=r"no such batch: batch_0\. Run with --cancel"):
        bench.run()
    with bench.opened() as (_, serving):
        serving.collect(cancel=True)
    bench.texts()


def make_intent(bench: Bench, *, is_made: bool, is_uploaded: bool = True) -> None:
    """Leave a journal as a kill leaves it just before the id of a batch is noted."""
    with bench.opened() as (journal, _):
        log = BatchLog(journal)
        batch = log.add("the-uuid", {each.key: 0 for each in requests()})
        if is_uploaded:
            lines = [OPENAI.line(each.key, each.body) for each in requests()]
            bench.server.files["file-a"] = b"".join(lines)
            log.note(batch, file="file-a")
    if is_made:
        bench.server.create(OPENAI.create("file-a", "the-uuid"))
        for number in range(3):  # of other people; the list has two on a page
            bench.server.files[f"file-{number}"] = b""
            bench.server.create(OPENAI.create(f"file-{number}", "another"))


@pytest.mark.parametrize("lost", ["metadata", "input_file"])
def test_a_batch_that_was_made_just_before_a_kill_is_found_again(bench: Bench, lost: str) -> None:
    make_intent(bench, is_made=True)
    setattr(bench.server.batches[0], lost, "")
    bench.texts()
    assert bench.server.calls["POST /batches"] == 0
    assert bench.server.calls["GET /batches"] == 2


@pytest.mark.parametrize("is_uploaded", [True, False])
def test_a_batch_that_was_not_made_before_a_kill_is_made_now(
    bench: Bench, is_uploaded: bool
) -> None:
    make_intent(bench, is_made=False, is_uploaded=is_uploaded)
    bench.texts()
    assert bench.sizes() == [10]
    assert bench.clock.pauses == [3] * is_uploaded  # it may come into the list late
    assert bench.server.calls["POST /files"] == 1 - is_uploaded


def test_a_run_that_ends_amid_the_results_takes_the_others_later(bench: Bench) -> None:
    prompts = [f"task {i}" for i in range(3000)]
    with bench.opened() as (journal, serving):
        with JournaledServing(journal, serving).generate(requests(prompts)) as stream:
            taken = [next(stream) for _ in range(700)]
        assert journal.answers == 3000
    assert all(each.error is None for each in taken)
    bench.texts(prompts)
    assert bench.sizes() == [3000]
    with bench.opened() as (journal, _):
        assert journal.answers == 3000


def test_a_stop_does_not_wait_for_batches_and_the_bar_shows_them(bench: Bench) -> None:
    bench.server.faults = [Fault(polls=10**9)] * 2
    with bench.opened(size=6) as (journal, serving):
        assert serving.status() == ""
        stream = JournaledServing(journal, serving).generate(requests())
        while not serving.status().startswith("2 batches for "):
            stream.wait(0.01)
        assert serving.status().endswith(" min: 0 of 10 requests done")
        stream.drain(None)
        assert list(stream) == []
    for batch in bench.server.batches:
        batch.fault = Fault()
    bench.texts()
    assert bench.sizes() == [6, 4]


def test_a_second_stream_works_after_the_first(bench: Bench) -> None:
    with bench.opened(size=4) as (journal, serving):
        journaled = JournaledServing(journal, serving)
        streams = [journaled.generate(requests(prompts)) for prompts in (PROMPTS, ["another"])]
        assert [len(list(stream)) for stream in streams] == [10, 1]


def test_a_failing_source_of_rows_ends_the_stream_with_its_error(bench: Bench) -> None:
    def torn() -> Iterator[Request]:
        yield request(0, "task")
        raise InputError("the input ends in the middle of a line")

    with bench.opened() as (journal, serving), pytest.raises(InputError, match="in the middle"):
        list(JournaledServing(journal, serving).generate(torn()))
    assert bench.server.batches == []
