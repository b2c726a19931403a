"""The journal in front of a serving: what it asks again, when it stores, and how it ends."""

import gc
import random
import shutil
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesynth.codec import dumps
from codesynth.errors import EndpointError
from codesynth.journal import Journal, JournaledServing, Occurrences, StoredAnswer
from codesynth.models import Failure, Record, Request, Response
from codesynth.serving.answers import read_completion
from codesynth.serving.stream import IteratorStream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.journal"


def requests(texts: Iterable[str]) -> Iterator[Request | Response]:
    """Make a request of each text, with the key that the pipeline gives it; "bad" has none."""
    seen = Occurrences()
    for i, text in enumerate(texts):
        body = text.encode("utf-8", "surrogatepass")
        digest = blake2b(body, digest_size=16).digest()
        request = Request(Record(i, b"{}", {}), i, body, digest)
        if text == "bad":
            yield Response(request, error=Failure("invalid_json", "not JSON"))
        else:
            number = seen.count(digest)
            yield replace(request, key=digest + number.to_bytes(4, "big") if number else digest)


def completion(text: str) -> bytes:
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7}
    return dumps({"model": "m", "choices": [choice], "usage": usage})


def answered(request: Request, body: bytes) -> Response:
    """Make the response that a serving makes of a body."""
    answer, failure = read_completion(body)
    failure = failure and replace(failure, attempts=2)
    return Response(request, body, answer, failure, attempts=2, seconds=0.5)


def echo(request: Request) -> Response:
    return answered(request, completion(request.body.decode("utf-8", "surrogatepass") + "!"))


class Asked:
    """A serving that answers from a function."""

    def __init__(self, answer: Callable[[Request], Response] = echo) -> None:
        self.answer = answer
        self.texts: list[str] = []
        self.closed = False

    def generate(self, requests: Iterable[Request | Response]) -> IteratorStream:
        return IteratorStream(self.answers(requests))

    def answers(self, requests: Iterable[Request | Response]) -> Generator[Response, None, None]:
        try:
            for item in requests:
                if isinstance(item, Request):
                    self.texts.append(item.body.decode("utf-8", "surrogatepass"))
                yield self.answer(item) if isinstance(item, Request) else item
        finally:
            self.closed = True


def run(path: Path, texts: Iterable[str], asked: Asked) -> dict[int, Response]:
    with Journal(str(path)) as journal:
        responses = list(JournaledServing(journal, asked).generate(requests(texts)))
    by_position = {response.request.position: response for response in responses}
    assert len(by_position) == len(responses)
    return by_position


def newly_asked(path: Path, texts: Iterable[str]) -> list[str]:
    asked = Asked()
    run(path, texts, asked)
    return sorted(asked.texts)


def test_a_rerun_asks_nothing_and_reads_the_same_from_the_stored_bodies(path: Path) -> None:
    first = run(path, ["a", "bad", "b", "a"], Asked())
    asked = Asked()
    again = run(path, ["a", "bad", "b", "a"], asked)
    assert asked.texts == []
    assert [again[i].cached for i in range(4)] == [True, False, True, True]
    assert {i: replace(r, cached=False, stored=False) for i, r in again.items()} == first


@given(st.lists(st.text("ab", max_size=2)), st.lists(st.text("ab", max_size=2)))
@settings(max_examples=15)
def test_lines_added_removed_moved_or_doubled_are_known_by_what_they_ask(
    first: list[str], then: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        assert newly_asked(path, first) == sorted(first)
        assert newly_asked(path, then) == sorted((Counter(then) - Counter(first)).elements())
        assert newly_asked(path, then) == []


def test_two_equal_rows_have_an_answer_each(path: Path) -> None:
    count = iter(range(9))
    first = run(path, "aaa", Asked(lambda request: answered(request, completion(f"{next(count)}"))))
    assert len({r.body for r in first.values()}) == 3
    again = run(path, "aaa", Asked())
    assert [again[i].body for i in range(3)] == [first[i].body for i in range(3)]


def test_a_body_that_is_no_answer_any_more_is_asked_again_and_the_new_one_counts(
    path: Path,
) -> None:
    [request] = requests("a")
    with Journal(str(path)) as journal:
        journal.put([StoredAnswer(request.key, b"what an earlier version took for an answer")])
    assert newly_asked(path, "a") == ["a"]
    assert newly_asked(path, "a") == []


# When it stores.


def copied(path: Path) -> Path:
    """Copy a journal as a crash at this moment would leave it."""
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def test_an_answer_is_stored_before_it_is_handed_on(path: Path) -> None:
    with Journal(str(path)) as journal:
        for response in JournaledServing(journal, Asked()).generate(requests("abcde")):
            assert response.request.body.decode() not in newly_asked(copied(path), "abcde")


def test_what_came_before_the_end_of_the_run_is_stored_and_handed_on_first(path: Path) -> None:
    def broken() -> Iterator[Request | Response]:
        yield from requests("ab")
        raise EndpointError("dead")

    with Journal(str(path)) as journal:
        stream = JournaledServing(journal, Asked()).generate(broken())
        assert [next(stream).request.body for _ in range(2)] == [b"a", b"b"]
        for _ in range(2):
            with pytest.raises(EndpointError, match="dead"):
                next(stream)
    assert newly_asked(path, "abc") == ["c"]


def test_all_that_is_waiting_goes_into_one_transaction(path: Path) -> None:
    with Journal(str(path)) as journal:
        groups: list[int] = []
        put = journal.put

        def counted(answers: Iterable[StoredAnswer]) -> None:
            groups.append(len(stored := list(answers)))
            put(stored)

        journal.put = counted  # type: ignore[method-assign]  # counts, then stores
        stream = JournaledServing(journal, Asked()).generate(requests("a" * 700))
        assert len(list(stream)) == 700
        assert groups == [512, 188]


# The stream's contract.


def test_a_stream_that_is_left_dropped_or_drained_ends_the_one_behind_it(path: Path) -> None:
    asked = Asked()
    with Journal(str(path)) as journal:
        serving = JournaledServing(journal, asked)
        with serving.generate(requests("a" * 600)) as stream:
            next(stream)
        assert asked.closed
        asked.closed = False
        for _ in serving.generate(requests("b" * 600)):
            break
        gc.collect()
        assert asked.closed
        drained = serving.generate(requests("c" * 600))
        assert drained.wait(0)
        next(drained)
        drained.drain(None)
        assert len(list(drained)) == 511
    assert sorted(Counter(asked.texts).values()) == [512, 512, 512]


# How often a request was seen.


def test_counts_stay_right_while_the_table_grows_and_a_request_takes_32_bytes() -> None:
    keys = [random.Random(i).randbytes(16) for i in range(6000)]
    tracemalloc.start()
    seen = Occurrences()
    assert {seen.count(key) for key in keys} == {0}
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {seen.count(key) for key in keys} == {1}
    assert seen.count(keys[0]) == 2
    assert used < 34 * len(keys)
