"""``--accepted``: how many prompts are asked for until enough rows are accepted."""

import threading
from collections.abc import Iterator

import pytest
from support.parts import wait_for

from codesynth.filters.quota import Quota


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
        return self._thread.is_alive() and self.pulled == [*range(count)]


def test_no_more_rows_are_under_way_than_are_wanted() -> None:
    quota = Quota(3)
    puller = Puller(quota.numbers())
    assert puller.waits(3)
    quota.count(accepted=True)
    assert puller.waits(3)
    quota.count(accepted=False)
    assert puller.waits(4)
    quota.count(accepted=True)
    quota.count(accepted=True)
    assert puller.ends()
    assert (quota.accepted, quota.exhausted) == (3, False)


def test_after_200_rows_with_hardly_one_accepted_it_gives_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    quota = Quota(10)
    numbers = quota.numbers()
    for n in range(200):
        next(numbers)
        quota.count(accepted=n == 0)
    assert quota.exhausted
    assert [*numbers] == []
    assert "1 of 10 rows accepted, and fewer than 2 of the last 200" in caplog.text


def test_unusable_rows_of_the_pool_are_not_counted() -> None:
    quota = Quota(1, bad=2)
    puller = Puller(quota.numbers())
    for accepted in (False, False):
        quota.count(accepted=accepted)
        assert puller.waits(1)
    quota.count(accepted=True)
    assert puller.ends()


def test_a_number_may_stand_for_several_rows() -> None:
    quota = Quota(4, samples=3)
    puller = Puller(quota.numbers())
    assert puller.waits(2)
    for _ in range(6):
        quota.count(accepted=True)
    assert puller.ends()
    assert quota.accepted == 6
