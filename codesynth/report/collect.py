"""What a report tells: counted in one pass over the files, in bounded memory."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate
from random import Random

from codesynth.filters.novelty_index import RougeIndex
from codesynth.filters.novelty_words import words
from codesynth.models import META_KEY, Record, Usage
from codesynth.report.rows import VERIFICATION, View, find
from codesynth.settings import ReportSettings

MOST_TEXTS, MOST_DIGESTS, QUERIES = 10_000, 200_000, 500
LEAST_SIMILARITY = 0.4
"""Looking for less takes much longer: nearly all texts share so many words."""
_MOST_NAMES, _MOST_BUCKETS = 200, 600


class Numbers:
    """Counts of numbers, kept to three significant digits so that there are few different ones."""

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()

    def add(self, value: float) -> None:
        """Count a number."""
        self.counts[value if value in range(1000) else float(f"{value:.3g}")] += 1

    def quantile(self, share: float) -> float:
        """Tell the number that ``share`` of all numbers do not exceed."""
        numbers = sorted(self.counts)
        sums = list(accumulate(self.counts[number] for number in numbers))
        return next(n for n, total in zip(numbers, sums, strict=True) if total >= share * sums[-1])


class HashSample:
    """A sample of different texts, by their digests: of equal ones all are counted, or none.

    Args:
        most: different texts to keep; where there are more, every second digest is left out, and
            again every second one of those left.
        characters: of each text to keep.

    Attributes:
        every: one in so many digests is kept.
        kept: number of equal texts, and the text, by digest.
    """

    def __init__(self, most: int, characters: int = 0) -> None:
        self._most, self._characters = most, characters
        self.every = 1
        self.kept: dict[int, tuple[int, str]] = {}

    def add(self, text: str) -> None:
        """Count a text."""
        data = text.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(blake2b(data, digest_size=8).digest())
        if digest % self.every:
            return
        count, head = self.kept.get(digest) or (0, text[: self._characters])
        self.kept[digest] = count + 1, head
        if len(self.kept) > self._most:
            self.every *= 2
            self.kept = {d: each for d, each in self.kept.items() if d % self.every == 0}

    @property
    def different(self) -> int:
        """Estimate the number of different texts; exact while ``every`` is 1."""
        return len(self.kept) * self.every

    @property
    def repeated(self) -> float:
        """Tell the share of texts that repeat another one."""
        return 1 - len(self.kept) / max(1, sum(count for count, _ in self.kept.values()))


class Timeline:
    """Answers over time, in at most 600 buckets; their width doubles as needed."""

    def __init__(self) -> None:
        self.width = 1  # seconds
        self.ends: Counter[int] = Counter()
        self.starts: Counter[int] = Counter()
        self._first, self._last = math.inf, 0.0

    def add(self, end: float, seconds: float) -> None:
        """Count an answer by the time it came and the time it took."""
        self._first, self._last = min(self._first, end - seconds), max(self._last, end)
        while self._last - self._first > _MOST_BUCKETS * self.width:
            self.width *= 2
            self.ends, self.starts = _halve(self.ends), _halve(self.starts)
        self.ends[int(end // self.width)] += 1
        self.starts[int((end - seconds) // self.width)] += 1

    def steps(self) -> Iterator[tuple[int, float, int]]:
        """Yield (seconds since the epoch, answers per second, requests in flight) of each bucket."""
        in_flight = 0
        for bucket in range(min(self.starts, default=0), max(self.ends, default=-1) + 1):
            in_flight += self.starts[bucket] - self.ends[bucket]
            yield bucket * self.width, self.ends[bucket] / self.width, in_flight


def _halve(counts: Counter[int]) -> Counter[int]:
    halved: Counter[int] = Counter()
    for bucket, count in counts.items():
        halved[bucket // 2] += count
    return halved


class Figures:
    """The counts of a report.

    Attributes:
        rows: by fate.
        labels: rows by (fate, status of the verification or kind of the failure).
        numbers: by what they count.
        models, languages: rows by name, of the rows that name them.
        usage: tokens of the rows in the output, or of all answers where journals were given.
        instructions, codes, pairs: for counting those that are repeated.
        texts: instructions to compare with each other.
        samples: some rows of each outcome.
    """

    def __init__(self, told: ReportSettings) -> None:
        self.told = told
        self.rows: Counter[str] = Counter()
        self.labels: Counter[tuple[str, str]] = Counter()
        self.numbers: defaultdict[str, Numbers] = defaultdict(Numbers)
        self.models: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.usage = Usage()
        self.instructions, self.codes = HashSample(MOST_DIGESTS), HashSample(MOST_DIGESTS)
        self.pairs = HashSample(MOST_DIGESTS)
        self.texts = HashSample(MOST_TEXTS, 4000)
        self.samples: dict[tuple[str, str], list[View]] = {}
        self.answers = Timeline()
        self._random = Random(0)

    def add(self, view: View) -> None:
        """Count a row, and keep it if it is drawn for the page."""
        outcome = view.fate, view.label
        if outcome not in self.labels and len(self.labels) > _MOST_NAMES:
            outcome = view.fate, "other"
        self.rows[view.fate] += 1
        self.labels[outcome] += 1
        kept = self.samples.setdefault(outcome, [])
        if len(kept) < self.told.rows:
            kept.append(view)
        elif (place := self._random.randrange(self.labels[outcome])) < self.told.rows:
            kept[place] = view
        if view.fate == "ok":
            self._add_texts(view)
            self._add_tests(view)
            self._add_meta(view)

    def _add_texts(self, view: View) -> None:
        instruction, code = view.text(self.told.instruction_keys), view.text(self.told.code_keys)
        if instruction is not None:
            self.instructions.add(instruction)
            self.texts.add(instruction)
            self.numbers["instruction"].add(len(instruction))
        if code is not None:
            self.codes.add(code)
            self.numbers["code"].add(code.count("\n") + 1)
            self.pairs.add(f"{instruction}\0{code}")

    def _add_tests(self, view: View) -> None:
        passed = find(view.row, f"{VERIFICATION}.tests_passed")
        run = find(view.row, f"{VERIFICATION}.tests_run")
        if isinstance(passed, int) and isinstance(run, int):
            self.numbers["tests"].add(run)
            if run:
                self.numbers["pass_rate"].add(round(passed / run, 2))
        agreement = view.row.get("agreement")
        if isinstance(agreement, (int, float)):
            self.numbers["agreement"].add(round(agreement, 2))

    def _add_meta(self, view: View) -> None:
        meta = view.row.get(META_KEY)
        meta = meta if isinstance(meta, dict) else {}
        for counter, name in (self.models, "model"), (self.languages, "language"):
            value = meta.get(name) or view.row.get(name)
            if isinstance(value, str):
                counter[value if value in counter or len(counter) < _MOST_NAMES else "other"] += 1
        usage = meta.get("usage")
        if isinstance(usage, dict):
            known = {name: usage.get(name) for name in Usage.__dataclass_fields__}
            used = Usage(**{name: n for name, n in known.items() if isinstance(n, int)})
            self.usage += used
            self.numbers["tokens"].add(used.completion_tokens)
            if used.completion_tokens and used.reasoning_tokens:
                self.numbers["reasoning"].add(
                    round(used.reasoning_tokens / used.completion_tokens, 2)
                )


def nearest(texts: Sequence[str], queries: int = QUERIES) -> Numbers:
    """Tell how much each of the first texts resembles the one closest to it, by ROUGE-L F1.

    Those below ``LEAST_SIMILARITY`` count as 0.
    """
    asked, others = texts[:queries], texts[queries:]
    best = [0.0] * len(asked)
    # forwards each is compared with all others and those before it, backwards with those behind it
    for order, base in ((range(len(asked)), others), (reversed(range(len(asked))), ())):
        index = RougeIndex(LEAST_SIMILARITY)
        for text in base:
            index.add(index.code(words(text)))
        for i in order:
            coded = index.code(words(asked[i]))
            found = index.closest(coded)
            best[i] = max(best[i], found[0] if found else 0.0)
            index.add(coded)
    numbers = Numbers()
    for score in best:
        numbers.add(round(score, 2))
    return numbers
