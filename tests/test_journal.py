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
from codesynth.errors import EndpointError, JournalError
from codesynth.journal import Journal, JournaledServing, Occurrences, StoredAnswer, open_to_read
from codesynth.models import UNUSABLE_ANSWERS, Failure, Record, Request, Response, Usage
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


def completion(text: str | None, reason: str = "stop", **message: object) -> bytes:
    choice = {"message": {"content": text, **message}, "finish_reason": reason}
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


def run(
    path: Path, texts: Iterable[str], asked: Asked, also: Iterable[Path] = ()
) -> dict[int, Response]:
    others = [open_to_read(str(other), answers=True) for other in also]
    with Journal(str(path)) as journal:
        serving = JournaledServing(journal, asked, also=others)
        with serving.generate(requests(texts)) as stream:
            responses = list(stream)
    for other in others:
        other.__exit__()
    by_position = {response.request.position: response for response in responses}
    assert len(by_position) == len(responses)
    return by_position


def newly_asked(path: Path, texts: Iterable[str], also: Iterable[Path] = ()) -> list[str]:
    asked = Asked()
    run(path, texts, asked, also)
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


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (completion("half of it", "length"), "truncated"),
        (completion(None, refusal="no"), "refused"),
        (completion("", "content_filter"), "filtered"),
        (completion(None, reasoning_content="hm"), "empty"),
    ],
)
def test_an_unusable_answer_is_an_answer(path: Path, body: bytes, kind: str) -> None:
    [first] = run(path, "a", Asked(lambda request: answered(request, body))).values()
    asked = Asked()
    [again] = run(path, "a", asked).values()
    assert first.error is not None
    assert first.error.kind == kind in UNUSABLE_ANSWERS
    assert asked.texts == []
    assert replace(again, cached=False, stored=False, request=first.request) == first


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"", Failure("timeout", "no", None, 1)),
        (b"<html>", Failure("bad_response", "no", 200)),
        (b"{}", Failure("rejected", "no", 400)),
    ],
)
def test_what_was_not_answered_is_asked_again(path: Path, body: bytes, failure: Failure) -> None:
    run(path, "a", Asked(lambda request: Response(request, body, error=failure)))
    with Journal(str(path)) as journal:
        assert journal.answers == 0
    assert newly_asked(path, "a") == ["a"]


def test_a_body_that_is_no_answer_any_more_is_asked_again_and_the_new_one_counts(
    path: Path,
) -> None:
    [request] = requests("a")
    with Journal(str(path)) as journal:
        journal.put([StoredAnswer(request.key, b"what an earlier version took for an answer")])
    assert newly_asked(path, "a") == ["a"]
    assert newly_asked(path, "a") == []


def test_somebody_is_told_before_the_first_new_request_only(path: Path) -> None:
    told: list[int] = []
    asked = Asked()
    run(path, "ab", Asked())
    with Journal(str(path)) as journal:
        serving = JournaledServing(
            journal, asked, before_asking=lambda: told.append(len(asked.texts))
        )
        list(serving.generate(requests("ab")))
        assert told == []
        list(serving.generate(requests("abcd")))
        assert told == [0]


# Further journals.


def test_an_answer_of_another_journal_is_used_and_copied(tmp_path: Path, path: Path) -> None:
    parts = [tmp_path / "part0", tmp_path / "part1"]
    for part, texts in zip(parts, ("ac", "bd"), strict=True):
        run(part, texts, Asked())
    before = [part.read_bytes() for part in parts]
    assert newly_asked(path, "abcde", also=parts) == ["e"]
    assert [part.read_bytes() for part in parts] == before
    for part in parts:
        part.unlink()
    assert newly_asked(path, "abcde") == []
    with Journal(str(path)) as journal:
        assert (journal.spent, journal.answers) == (Usage(55, 35), 5)


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


def test_where_an_answer_cannot_be_stored_nothing_is_handed_on(path: Path) -> None:
    def full(answers: Iterable[StoredAnswer]) -> None:
        raise JournalError("database or disk is full")

    with Journal(str(path)) as journal:
        journal.put = full  # type: ignore[method-assign]  # as on a full disk
        stream = JournaledServing(journal, Asked()).generate(requests("abc"))
        with pytest.raises(JournalError, match="full"):
            next(stream)


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
