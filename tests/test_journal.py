"""The journal in front of a serving: what it asks again, and when it stores."""

import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from asked import Asked, body_of, newly_asked, requests, run, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from codesynth.errors import EndpointError
from codesynth.models import UNUSABLE_ANSWERS, Failure, Request, Response, Usage
from codesynth.serving.journal import Journal, JournaledServing
from codesynth.serving.occurrences import Occurrences


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.journal"


def test_a_rerun_asks_nothing(path: Path) -> None:
    first = run(path, ["a", "b", "a"], Asked())
    asked = Asked()
    again = run(path, ["a", "b", "a"], asked)
    assert asked.texts == []
    assert {i: r.text for i, r in again.items()} == {i: r.text for i, r in first.items()}
    assert all(r.cached and not first[i].cached for i, r in again.items())


@pytest.mark.parametrize(
    ("then", "new"),
    [
        ("abcd", "d"),
        ("bc", ""),
        ("dabc", "d"),
        ("cba", ""),
        ("aabc", "a"),
        ("abcabc", "abc"),
        ("", ""),
    ],
)
def test_lines_added_removed_moved_or_doubled_are_known_by_what_they_ask(
    path: Path, then: str, new: str
) -> None:
    run(path, "abc", Asked())
    assert "".join(newly_asked(path, then)) == new


@given(st.lists(st.text("ab", max_size=2)), st.lists(st.text("ab", max_size=2)))
@settings(deadline=None, max_examples=15)
def test_a_rerun_asks_just_what_there_is_more_of(first: list[str], then: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "journal")
        assert newly_asked(path, first) == sorted(first)
        assert newly_asked(path, then) == sorted((Counter(then) - Counter(first)).elements())
        assert newly_asked(path, then) == []


def test_two_equal_rows_have_an_answer_each(path: Path) -> None:
    count = iter(range(9))
    answers = Asked(lambda request: Response(request, f"answer {next(count)}"))
    first = run(path, ["a", "a", "a"], answers)
    assert len({r.text for r in first.values()}) == 3
    again = run(path, ["a", "a", "a"], Asked())
    assert [again[i].text for i in range(3)] == [first[i].text for i in range(3)]


def test_rows_that_cannot_be_asked_cost_no_answer_its_place(path: Path) -> None:
    texts = ["bad", "a", "bad", "b"]

    def same_name(request: Request) -> Request:
        known = request.known and replace(request.known, request=request)
        return replace(request, custom_id="row", known=known)

    with Journal(str(path)) as journal:
        serving = JournaledServing(journal, Asked(), body_of)
        assert len(list(serving.generate(map(same_name, requests(texts))))) == 4
    assert newly_asked(path, texts) == []


@pytest.mark.parametrize("kind", ["truncated", "refused", "filtered", "empty"])
def test_an_unusable_answer_is_an_answer(path: Path, kind: str) -> None:
    usage = Usage(11, 7)
    failure = Failure(kind, "no use", 200, 2)  # type: ignore[arg-type]

    def answer(request: Request) -> Response:
        return Response(request, "half of it", "length", usage, "m", 2, failure)

    [first] = run(path, "a", Asked(answer)).values()
    asked = Asked()
    [again] = run(path, "a", asked).values()
    assert kind in UNUSABLE_ANSWERS
    assert asked.texts == []
    assert replace(again, cached=False, request=first.request) == first


@pytest.mark.parametrize(
    "kind", ["rejected", "rate_limited", "server_error", "timeout", "connection", "bad_response"]
)
def test_what_was_not_answered_is_asked_again(path: Path, kind: str) -> None:
    def answer(request: Request) -> Response:
        return Response(request, error=Failure(kind, "no", 400, 1))  # type: ignore[arg-type]

    run(path, "a", Asked(answer))
    assert newly_asked(path, "a") == ["a"]


def test_the_answers_that_fit_are_counted_without_asking(path: Path) -> None:
    run(path, "abc", Asked())
    with Journal(str(path)) as journal:
        asked = Asked()
        serving = JournaledServing(journal, asked, body_of)
        assert serving.count(requests(["bad", "b", "c", "c", "d"])) == (2, 2)
        assert asked.texts == []


def test_somebody_is_told_before_the_first_new_request_only(path: Path) -> None:
    told: list[int] = []
    asked = Asked()
    run(path, "ab", Asked())
    with Journal(str(path)) as journal:
        serving = JournaledServing(
            journal, asked, body_of, before_asking=lambda: told.append(len(asked.texts))
        )
        list(serving.generate(requests("ab")))
        assert told == []
        list(serving.generate(requests("abcd")))
        assert told == [0]


def test_occurrences_stay_right_while_the_table_grows() -> None:
    seen = Occurrences()
    keys = [random.Random(i).randbytes(16) for i in range(5000)]
    assert {seen.count(key) for key in keys} == {0}
    assert {seen.count(key) for key in keys} == {1}
    assert seen.count(keys[0]) == 2


def copied(path: Path) -> Path:
    """Copy a journal as a crash at this moment would leave it."""
    copy = path.with_name("copy")
    for suffix in ("", "-wal"):
        shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
    return copy


def test_an_answer_is_stored_before_it_is_handed_on(path: Path) -> None:
    with Journal(str(path)) as journal:
        for response in JournaledServing(journal, Asked(), body_of).generate(requests("abcde")):
            assert text_of(response.request) not in newly_asked(copied(path), "abcde")


def test_what_came_before_the_end_of_the_run_is_stored_and_handed_on_first(path: Path) -> None:
    def answer(request: Request) -> Response:
        if text_of(request) == "c":
            raise EndpointError("dead")
        return Response(request, "fine")

    with Journal(str(path)) as journal:
        responses = JournaledServing(journal, Asked(answer), body_of).generate(requests("abdce"))
        assert [text_of(next(responses).request) for _ in range(2)] == ["b", "d"]
        with pytest.raises(EndpointError):
            next(responses)
        with pytest.raises(EndpointError):
            next(responses)
    assert newly_asked(path, "abdce") == ["a", "c", "e"]


class Waiting(Iterator[Response]):
    """Responses that are all there at once, as a window has them after a pause."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._responses = [Response(request, "x") for request in requests]

    def __next__(self) -> Response:
        if not self._responses:
            raise StopIteration
        return self._responses.pop()

    def wait(self, timeout: float | None) -> bool:
        return True


def test_all_that_is_waiting_goes_into_one_transaction(path: Path) -> None:
    class Serving:
        generate = Waiting

    with Journal(str(path)) as journal:
        groups: list[int] = []

        def put(answers: Iterable[object]) -> None:
            groups.append(len(list(answers)))

        journal.put = put  # type: ignore[method-assign]
        assert (
            len(list(JournaledServing(journal, Serving(), body_of).generate(requests("a" * 700))))
            == 700
        )
        assert groups == [512, 188]
