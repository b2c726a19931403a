"""How often a request was seen."""

import random
import tracemalloc

from codesynth.journal import Occurrences


def test_counts_stay_right_while_the_table_grows() -> None:
    seen = Occurrences()
    keys = [random.Random(i).randbytes(16) for i in range(5000)]
    assert {seen.count(key) for key in keys} == {0}
    assert {seen.count(key) for key in keys} == {1}
    assert seen.count(keys[0]) == 2


def test_a_request_takes_at_most_32_bytes() -> None:
    tracemalloc.start()
    seen = Occurrences()
    for i in range(6_000):
        seen.count(random.Random(i).randbytes(16))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used < 34 * 6_000
