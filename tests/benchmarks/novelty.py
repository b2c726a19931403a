"""What the novelty filter and the contamination filter cost.

    python tests/benchmarks/novelty.py [ACCEPTED [BENCHMARK.jsonl]]

The texts are practice problems, so similar that most reach 0.6 with some other. What the filters
find is tested beside brute force, and with disguises, by test_novelty and test_contamination.
"""

import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from codesynth.filters.contamination import ContaminationFilter
from codesynth.filters.rouge_index import RougeIndex
from codesynth.filters.words import words
from codesynth.serving.offline.problems import draw

SEEDS = Path(__file__).parents[2] / "samples" / "seeds.jsonl"


def write_stub(rng: random.Random) -> str:
    """Write a practice problem."""
    return draw(rng).stub(rng)


def resident() -> int:
    """Return the bytes of memory in use."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def grow(most: int, threshold: float) -> None:
    """Time a search, and weigh the index, as it grows."""
    rng = random.Random(2)
    index = RougeIndex(threshold)
    before = resident()
    size = 0
    for goal in (1_000, 10_000, 100_000, 1_000_000):
        if goal > most:
            return
        for _ in range(goal - size):
            index.add(words(write_stub(rng)))
        size = goal
        weight = resident() - before
        probes = [words(write_stub(rng)) for _ in range(200)]
        started = time.process_time()
        close = sum(index.closest(probe) is not None for probe in probes)
        cost = (time.process_time() - started) / len(probes)
        print(
            f"threshold {threshold}, {goal:>7} texts: {cost * 1e6:5.0f} us a text,"
            f" {weight / 1e6:.0f} MB, {weight / goal:.0f} bytes a text, {close} of 200 close",
            flush=True,
        )


def contamination(path: str) -> None:
    """Time a benchmark, and count what is found of it in other texts."""
    rng = random.Random(3)
    lines = Path(path).read_bytes().splitlines()
    started = time.process_time()
    bench = ContaminationFilter({path: enumerate(lines, 1)})
    loaded = time.process_time()
    probes = [f"{write_stub(rng)}\n{write_stub(rng)}"[:1024] for _ in range(500)]
    judged = time.process_time()
    found = sum(bench.reject(probe) is not None for probe in probes)
    cost = (time.process_time() - judged) / len(probes)
    print(
        f"{path}: {loaded - started:.2f} s to load; {cost * 1e6:.0f} us a text of 1 KB,"
        f" {found} of 500 practice problems rejected"
    )


def main(arguments: Sequence[str]) -> None:
    """Print all figures."""
    most = int(arguments[0]) if arguments else 100_000
    for limit in (0.3, 0.7, 0.9):
        grow(most if limit > 0.5 else 10_000, limit)
    contamination(arguments[1] if len(arguments) > 1 else str(SEEDS))


if __name__ == "__main__":
    main(sys.argv[1:])
