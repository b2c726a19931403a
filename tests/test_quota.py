import threading
from collections.abc import Iterator
from itertools import islice

import pytest
from support.parts import wait_for

from codesynth.filters import NoveltyFilter, Quota
from codesynth.models import Row


def row(text: str) -> Row:
    return Row(b"{}", subject=text)


class Puller:
    """Pulls numbers in a thread of its own, as a serving's feeder does."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self.pulled: list[int] = []
        self._thread = threading.Thread(target=self._pull, args=(numbers,), daemon=True)
        self._thread.start()

    def _pull(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            self.pulled.append(number)

    def ends(self) -> bool:
        self._thread.join(timeout=300)
        return not self._thread.is_alive()

    def waits(self, count: int) -> bool:
        """Wait until so many are pulled; tell whether it waits then."""
        wait_for(lambda: len(self.pulled) >= count)
        self._thread.join(timeout=0.05)
        return self._thread.is_alive()


def test_no_more_rows_are_under_way_than_are_wanted() -> None:
    quota = Quota(3)
    puller = Puller(quota.numbers())
    assert puller.waits(3)
    assert puller.pulled == [0, 1, 2]
    quota.reject(row("a"))
    assert puller.waits(3)
    quota.note_failed()
    assert puller.waits(4)
    assert puller.pulled == [0, 1, 2, 3]
    quota.reject(row("b"))
    quota.reject(row("c"))
    assert puller.ends()
    assert puller.pulled == [0, 1, 2, 3]
    assert (quota.accepted, quota.exhausted) == (3, False)


def test_it_counts_what_the_other_filters_accept() -> None:
    quota = Quota(2)
    quota.filters = [NoveltyFilter(None, ["a"]), NoveltyFilter(None)]
    numbers = quota.numbers()
    assert [next(numbers), next(numbers)] == [0, 1]
    rejected = quota.reject(row("A"))
    assert rejected is not None
    assert rejected.message == "the same as pool row 1: a"
    assert quota.reject(row("b")) is None
    assert next(numbers) == 2
    assert quota.reject(row("c")) is None
    assert quota.accepted == 2
    assert [*numbers] == []


def test_after_200_rows_with_hardly_one_accepted_it_gives_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    quota = Quota(10)
    numbers = quota.numbers()
    for n in range(200):
        next(numbers)
        if n == 0:
            quota.reject(row("a"))
        else:
            quota.note_failed()
    assert quota.exhausted
    assert [*numbers] == []
    assert "1 of 10 rows accepted, and fewer than 2 of the last 200" in caplog.text


def test_unusable_rows_of_the_pool_are_not_counted() -> None:
    quota = Quota(1, bad=2)
    quota.note_failed()
    quota.note_failed()
    puller = Puller(quota.numbers())
    assert puller.waits(1)
    assert puller.pulled == [0]
    assert quota.reject(row("a")) is None
    assert puller.ends()


def test_only_the_rows_of_the_own_shard_are_waited_for() -> None:
    quota = Quota(2, bad=1, shard=(0, 3))
    numbers = quota.numbers()  # rows 0, 3, 6, ...: row 0 is the bad one
    assert [*islice(numbers, 6)] == [0, 1, 2, 3, 4, 5]  # of their rows 1 to 6, 3 and 6 are its own
    puller = Puller(numbers)
    assert puller.waits(0)
    quota.note_failed()
    quota.reject(row("a"))
    quota.reject(row("b"))
    assert puller.ends()


def test_a_number_may_stand_for_several_rows() -> None:
    quota = Quota(4, samples=3)
    puller = Puller(quota.numbers())
    assert puller.waits(2)
    assert puller.pulled == [0, 1]
    for _ in range(6):
        quota.reject(row("a"))
    assert puller.ends()
    assert quota.accepted == 6
