"""What a report tells: counted in one pass over the files, in bounded memory."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from itertools import accumulate, zip_longest
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from codesynth.filters.rouge_index import RougeIndex
from codesynth.filters.words import words
from codesynth.models import META_KEY, Record, Usage
from codesynth.report.rows import clean, find, first_text, headline, outcome, parts
from codesynth.settings import ReportSettings
from codesynth.storage import read_records

LEAST_SIMILARITY = 0.4
"""To look for less takes several times as long: nearly all texts share so many words."""
_MOST_TEXTS, _MOST_QUERIES, _MOST_NAMES, _MOST_CHARACTERS = 10_000, 500, 200, 4000
_TITLES = {
    "ok": "Verification",
    "rejected": "Rejected rows, by reason",
    "failed": "Failed rows, by kind",
    "unreadable": "Lines that are no rows",
}


class Numbers(Counter[int]):
    """Counts of numbers; they are rounded to three digits, so there are few different ones."""

    def add(self, value: float) -> None:
        """Count a number from 0."""
        self[round(value if value < 1000 else float(f"{value:.3g}"))] += 1

    def quantile(self, share: float) -> int:
        """Tell the number that ``share`` of all numbers do not exceed."""
        sums = accumulate(self[number] for number in sorted(self))
        found = (
            n for n, seen in zip(sorted(self), sums, strict=True) if seen >= share * self.total()
        )
        return next(found)


class Texts:
    """Counts of equal texts, in a sample by digest: of equal texts all are in it, or none.

    Attributes:
        every: one of so many different texts is in the sample; it grows with the texts.
        kept: how many are equal, and how they begin, by digest.
    """

    def __init__(self) -> None:
        self.every = 1
        self.kept: dict[int, tuple[int, str]] = {}

    def add(self, text: str) -> None:
        """Count a text."""
        data = text.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(blake2b(data, digest_size=8).digest())
        if digest % self.every == 0:
            count, head = self.kept.get(digest) or (0, text[:2000])
            self.kept[digest] = count + 1, head
        if len(self.kept) > _MOST_TEXTS:
            self.every *= 2
            self.kept = {d: kept for d, kept in self.kept.items() if d % self.every == 0}

    def similarity(self) -> Numbers:
        """Compare up to 500 texts with all others: ROUGE-L with the closest one, in percent."""
        texts, numbers = [head for _, head in self.kept.values()], Numbers()
        asked, index = min(_MOST_QUERIES, len(texts) // 2), RougeIndex(LEAST_SIMILARITY)
        for text in texts[asked:]:
            index.add(words(text))
        for text in texts[:asked]:
            found = index.closest(words(text))
            numbers.add(100 * found[0] if found is not None else 0)
        return numbers


class Shown(NamedTuple):
    """A row for the page; its texts are harmless in a terminal, not yet in HTML."""

    headline: str
    begin: str
    parts: list[tuple[str, str, str]]


class Figures:
    """The figures of a report.

    Attributes:
        counts: of names, by title.
        numbers: by title and unit.
        usage: tokens of the rows in the outputs; of all answers, where journals are given.
        history: of the journals; see ``Journal.history``.
    """

    def __init__(self, told: ReportSettings) -> None:
        self.told = told
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.numbers: defaultdict[tuple[str, str], Numbers] = defaultdict(Numbers)
        self.instructions, self.codes, self.usage = Texts(), Texts(), Usage()
        self.journals = [path for path in told.inputs if _is_journal(path)]
        self._samples: defaultdict[tuple[str, str], list[Shown]] = defaultdict(list)
        self._random = Random(0)  # noqa: S311
        for record in read_records([path for path in told.inputs if path not in self.journals]):
            self._add(record)

    def sample(self) -> list[Shown]:
        """Return some rows, as many as possible of each outcome."""
        turns = zip_longest(*self._samples.values())
        return [row for turn in turns for row in turn if row is not None][: self.told.rows]

    def _add(self, record: Record) -> None:
        fate, label = outcome(record)
        self._count("Rows", fate)
        label = self._count(_TITLES[fate], label)
        kept, place = (
            self._samples[fate, label],
            self._random.randrange(self.counts[_TITLES[fate]][label]),
        )
        if len(kept) < self.told.rows:
            kept.append(self._show(record))
        elif place < len(kept):
            kept[place] = self._show(record)
        if fate == "ok":
            self._measure(record.fields)

    def _show(self, record: Record) -> Shown:
        begin = (first_text(record.fields, self.told.instruction_keys) or "")[:150]
        return Shown(
            headline(record), clean(begin), list(parts(record, self.told, _MOST_CHARACTERS))
        )

    def _count(self, title: str, name: str) -> str:
        """Count a name, as "other" where there are too many different ones already."""
        counter = self.counts[title]
        name = name if name in counter or len(counter) < _MOST_NAMES else "other"
        counter[name] += 1
        return name

    def _measure(self, row: Mapping[str, Any]) -> None:
        if (instruction := first_text(row, self.told.instruction_keys)) is not None:
            self.instructions.add(instruction)
            self.numbers["Length of the instructions", "characters"].add(len(instruction))
        if (code := first_text(row, self.told.code_keys)) is not None:
            self.codes.add(code)
            self.numbers["Length of the code", "lines"].add(code.count("\n") + 1)
        if language := row.get("language") or find(row, f"{META_KEY}.language"):
            self._count("Language", str(language)[:40])
        run, passed = (
            _number(row, "verification.tests_run"),
            _number(row, "verification.tests_passed"),
        )
        names = ("prompt_tokens", "completion_tokens", "reasoning_tokens")
        used = [_number(row, f"{META_KEY}.usage.{name}") for name in names]
        self.usage += Usage(*(0 if math.isnan(n) else int(n) for n in used))
        for title, unit, value in (
            ("Tests run", "tests per row", run),
            ("Tests passed", "% of the tests of a row", 100 * passed / (run or math.nan)),
            ("Agreement", "% of the answers to one instruction", 100 * _number(row, "agreement")),
            ("Length of the answers", "tokens", used[1]),
            ("Reasoning", "% of an answer's tokens", 100 * (used[2] or math.nan) / (used[1] or 1)),
        ):
            if not math.isnan(value):
                self.numbers[title, unit].add(value)


def _number(row: Mapping[str, Any], path: str) -> float:
    value = find(row, path)
    return value if isinstance(value, int | float) and 0 <= value < 2**53 else math.nan


def _is_journal(path: str) -> bool:
    if not Path(path).is_file():  # standard input, or a FIFO
        return False
    with open(path, "rb") as file:
        return file.read(15) == b"SQLite format 3"
