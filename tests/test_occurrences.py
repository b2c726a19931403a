"""How often a request was seen."""

import random
import tracemalloc

from codesynth.journal import Occurrences


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
