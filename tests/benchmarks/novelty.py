"""What the novelty filter finds beside brute force, and what the filters cost and find.

    pip install rapidfuzz
    python tests/benchmarks/novelty.py [TEXTS [ACCEPTED [BENCHMARK.jsonl]]]

Brute force is rapidfuzz's LCS of each text with each accepted one: other code by other people.
The texts are practice problems, so similar that most reach 0.6 with some other; every third one is
an earlier one with words changed. The benchmark is one of HumanEval's shape ("prompt",
"entry_point", "canonical_solution"); of it is counted what is found in disguise.
"""

import json
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from rapidfuzz.distance import LCSseq

from codesynth.filters import ContaminationFilter
from codesynth.filters.rouge_index import RougeIndex
from codesynth.filters.words import words
from codesynth.serving.offline.problems import draw

SEEDS = Path(__file__).parents[2] / "samples" / "seeds.jsonl"


def write_stub(rng: random.Random) -> str:
    """Write a practice problem."""
    return draw(rng).stub(rng)


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
    index, brute = RougeIndex(threshold), BruteForce(threshold)
    both = only_index = only_brute = other_score = 0
    spent = [0.0, 0.0]
    for text in texts(count):
        started = time.process_time()
        found = index.closest(words(text))
        if found is None:
            index.add(words(text))
        between = time.process_time()
        spent[0] += between - started
        score = brute.judge(text)
        spent[1] += time.process_time() - between
        both += found is not None and score is not None
        only_index += found is not None and score is None
        only_brute += found is None and score is not None
        other_score += found is not None and score is not None and found[0] != score
    print(
        f"{count} texts at {threshold}: {len(brute.accepted)} accepted,"
        f" {both} close; recall {both / (both + only_brute):.6f},"
        f" precision {both / (both + only_index):.6f},"
        f" {other_score} other scores; {spent[0] / count * 1e6:.0f} us a text,"
        f" brute force {spent[1] / count * 1e6:.0f}",
        flush=True,
    )


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
    """Time a benchmark, count what is found of it in disguise, and what of other texts."""
    rng = random.Random(3)
    lines = Path(path).read_bytes().splitlines()
    started = time.process_time()
    bench = ContaminationFilter({path: enumerate(lines, 1)})
    loaded = time.process_time()
    probes = [f"{write_stub(rng)}\n{write_stub(rng)}"[:1024] for _ in range(500)]
    judged = time.process_time()
    found = sum(bench.reject_text(probe) is not None for probe in probes)
    cost = (time.process_time() - judged) / len(probes)
    print(
        f"{path}: {loaded - started:.2f} s to load; {cost * 1e6:.0f} us a text of 1 KB,"
        f" {found} of 500 practice problems rejected"
    )
    for name, disguised in disguises([json.loads(line) for line in lines]).items():
        found = sum(bench.reject_text(text) is not None for text in disguised)
        print(f"  {name}: {found} of {len(disguised)} found")


def disguises(items: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Change the items of a benchmark of HumanEval's shape."""
    prompts = [item["prompt"] for item in items]
    changed = {"prompts": prompts}
    if all("entry_point" in item for item in items):
        names = [rf"\b{item['entry_point']}\b" for item in items]
        renamed = [
            re.sub(*each) for each in zip(names, ["other"] * len(items), prompts, strict=True)
        ]
        changed["prompts with another name"] = renamed
        changed["solutions alone"] = [item["canonical_solution"] for item in items]
    docstrings = [re.split("\"\"\"|'''", prompt)[-2].partition(">>>")[0] for prompt in prompts]
    changed["docstrings alone"] = docstrings
    return changed


def main(arguments: Sequence[str]) -> None:
    """Print all figures."""
    count, most = (int(arguments[n]) if n < len(arguments) else 20_000 * 5**n for n in range(2))
    for limit in (0.3, 0.7, 0.9):
        grow(most if limit > 0.5 else 10_000, limit)
    contamination(arguments[2] if len(arguments) > 2 else str(SEEDS))
    for threshold in (0.7, 0.85):
        compare(count, threshold)


if __name__ == "__main__":
    main(sys.argv[1:])
