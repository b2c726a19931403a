"""What the novelty gate finds beside brute force, and what it and decontamination cost.

    pip install rapidfuzz
    python tests/benchmarks/novelty.py [TEXTS [ACCEPTED [BENCHMARK.jsonl]]]

Brute force is rapidfuzz's LCS of each text with each accepted one: other code by other people.
The texts are practice problems, so alike that most reach 0.6 with some other; every third one is
an earlier one with words changed. CPU time is the figure to read on a busy machine.
"""

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rapidfuzz.distance import LCSseq

from codesynth.quality.decontamination import Decontaminator
from codesynth.quality.novelty import NoveltyGate
from codesynth.quality.novelty_words import words
from codesynth.serving.grammar import write_stub

SEEDS = Path(__file__).parents[2] / "samples" / "seeds.jsonl"


def texts(count: int) -> Iterator[str]:
    """Yield stubs of the practice grammar, every third one made from an earlier one."""
    rng = random.Random(1)
    recent: list[str] = []
    for number in range(count):
        text = changed(rng, rng.choice(recent)) if number % 3 == 2 else write_stub(rng)
        recent = [*recent[-500:], text]
        yield text


def changed(rng: random.Random, text: str) -> str:
    """Put other words in places, up to a half of them."""
    parts = text.split(" ")
    share = rng.random() / 2
    return " ".join(str(rng.randrange(1000)) if rng.random() < share else part for part in parts)


class BruteForce:
    """The gate by comparison with all."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.accepted: list[str] = []
        self.letters: dict[str, str] = {}

    def judge(self, text: str) -> float | None:
        """Return the score with the closest accepted text, where it reaches the threshold."""
        letters = self.letters
        mine = "".join(letters.setdefault(w, chr(len(letters) + 1)) for w in words(text))
        best = 0.0
        for other in self.accepted:
            total = len(mine) + len(other)
            enough = int(max(best, self.threshold) * total / 2 - 1e-9)
            best = max(best, 2 * LCSseq.similarity(mine, other, score_cutoff=enough) / total)
        if best >= self.threshold:
            return best
        self.accepted.append(mine)
        return None


def compare(count: int, threshold: float) -> None:
    """Judge the same texts both ways and count where they agree."""
    gate, brute = NoveltyGate(threshold), BruteForce(threshold)
    both = only_gate = only_brute = other_score = equal = 0
    spent = [0.0, 0.0]
    for text in texts(count):
        started = time.process_time()
        found = gate.judge(text)
        between = time.process_time()
        spent[0] += between - started
        if found is not None and found.exact:
            equal += 1
            continue
        score = brute.judge(text)
        spent[1] += time.process_time() - between
        both += found is not None and score is not None
        only_gate += found is not None and score is None
        only_brute += found is None and score is not None
        other_score += found is not None and score is not None and found.score != score
    print(
        f"{count} texts at {threshold}: {len(brute.accepted)} accepted, {equal} equal,"
        f" {both} close; recall {both / (both + only_brute):.6f},"
        f" precision {both / (both + only_gate):.6f},"
        f" {other_score} other scores; {spent[0] / count * 1e6:.0f} us a text,"
        f" brute force {spent[1] / count * 1e6:.0f}",
        flush=True,
    )


def resident() -> int:
    """Return the bytes of memory in use."""
    fields = Path("/proc/self/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


def grow(most: int, threshold: float | None) -> None:
    """Time a judgement, and weigh the gate, as it grows."""
    rng = random.Random(2)
    gate = NoveltyGate(threshold)
    before = resident()
    size = 0
    for goal in (1_000, 10_000, 100_000, 1_000_000):
        if goal > most:
            return
        gate.seed(write_stub(rng) for _ in range(goal - size))
        weight = resident() - before
        probes = [write_stub(rng) for _ in range(200)]
        started = time.process_time()
        accepted = sum(gate.judge(probe) is None for probe in probes)
        cost = (time.process_time() - started) / len(probes)
        size = goal + accepted
        print(
            f"threshold {threshold}, {goal:>7} texts: {cost * 1e6:5.0f} us a text,"
            f" {weight / 1e6:.0f} MB, {weight / goal:.0f} bytes a text, {accepted} of 200 accepted",
            flush=True,
        )


def decontaminate(path: str) -> None:
    """Time the loading of a benchmark, and the judgement of texts of 1 KB that it does not hold."""
    rng = random.Random(3)
    started = time.process_time()
    bench = Decontaminator([path])
    loaded = time.process_time()
    probes = [f"{write_stub(rng)}\n{write_stub(rng)}"[:1024] for _ in range(500)]
    judged = time.process_time()
    found = sum(bench.judge(probe) is not None for probe in probes)
    cost = (time.process_time() - judged) / len(probes)
    print(
        f"{path}: {loaded - started:.2f} s to load; {cost * 1e6:.0f} us a text of 1 KB,"
        f" {found} of 500 rejected"
    )


def main(arguments: Sequence[str]) -> None:
    """Print all figures."""
    count, most = (int(arguments[n]) if n < len(arguments) else 20_000 * 5**n for n in range(2))
    for limit in (None, 0.7, 0.9):
        grow(most, limit)
    decontaminate(arguments[2] if len(arguments) > 2 else str(SEEDS))
    for threshold in (0.7, 0.85):
        compare(count, threshold)


if __name__ == "__main__":
    main(sys.argv[1:])
