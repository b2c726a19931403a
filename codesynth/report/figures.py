"""The figures of a report, counted in one pass over the files, in bounded memory."""

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import zip_longest
from random import Random
from typing import Any
from zlib import crc32

from codesynth.filters.rouge_index import RougeIndex
from codesynth.filters.words import words
from codesynth.journal import open_to_read
from codesynth.local_settings import ReportSettings
from codesynth.models import META_KEY, Record
from codesynth.report.rows import Part, as_text, classify, find, first_text, headline, parts
from codesynth.storage import read_records

_MOST_TEXTS, _MOST_QUERIES = 10_000, 500
_MOST_SHOWN, _MOST_COMPARED = 4000, 2000  # characters of each text
_SIMILARITY = (
    "Similarity of some instructions to the closest other, % ROUGE-L (less than 40 counts as 0)"
)
_LEAST_SIMILARITY = 0.4  # less takes several times as long: nearly all texts are as similar
_TOKENS = [f"{META_KEY}.usage.{name}_tokens" for name in ("prompt", "completion", "reasoning")]
_NUMBERS = {
    "Tokens of an answer": (_TOKENS[1], None),
    "Tests run": ("verification.tests_run", None),
    "Tests passed, % of a row's tests": ("verification.tests_passed", "verification.tests_run"),
    "Agreement, % of the answers to an instruction": ("agreement", None),
}
"""Histograms: the column that holds the number, and the column by which it is divided."""
_PERCENTS = [*range(0, 101, 10), 101]
_STARTS = [0, *(digit * 10**power for power in range(17) for digit in (1, 2, 5))]


class Texts:
    """Counts texts that have the same first 2,000 characters.

    Of many texts only a sample is kept: one of ``every`` different texts, as often as it came.
    """

    def __init__(self) -> None:
        self.total, self.every, self.kept = 0, 1, Counter[str]()

    def add(self, text: str) -> None:
        """Count a text."""
        self.total += 1
        if self._is_in_sample(text[:_MOST_COMPARED]):
            self.kept[text[:_MOST_COMPARED]] += 1
        if len(self.kept) > _MOST_TEXTS:
            self.every *= 2
            self.kept = Counter({t: n for t, n in self.kept.items() if self._is_in_sample(t)})

    def _is_in_sample(self, text: str) -> bool:
        return crc32(text.encode("utf-8", "surrogatepass")) % self.every == 0

    def repeats(self) -> Counter[str]:
        """Count the texts that are different, and those that repeat another."""
        different = round(self.total * len(self.kept) / max(1, self.kept.total()))
        return Counter(different=different, repeated=self.total - different)

    def similarity(self) -> list[int]:
        """Compare about 500 texts with all others: ROUGE-L with the closest one, in percent."""
        texts = [found for text in self.kept if (found := words(text))]
        step, index = max(2, len(texts) // _MOST_QUERIES), RougeIndex(_LEAST_SIMILARITY)
        asked = texts[::step]
        del texts[::step]
        for text in texts:
            index.add(text)
        return [round(100 * found[0]) if found else 0 for found in map(index.closest, asked)]


class Figures:
    """The figures of a report.

    Attributes:
        counts: for each table, how often each name came.
        numbers: for each histogram, how many numbers are in each interval (first, last).
        answers, busy: for each second: the answers that came, and the seconds they had taken.
    """

    def __init__(self, settings: ReportSettings) -> None:
        self.settings, self._random = settings, Random(0)  # noqa: S311 - not for secrets
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.numbers: defaultdict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
        self.answers, self.busy = defaultdict[int, float](float), defaultdict[int, float](float)
        self._instructions, self._code = Texts(), Texts()
        self._samples: defaultdict[str, list[tuple[str, list[Part]]]] = defaultdict(list)
        journals = [path for path in settings.inputs if path.endswith(".journal")]
        for record in read_records([path for path in settings.inputs if path not in journals]):
            self._add(record)
        for path in journals:
            self._read(path)
        for name, texts in ("Instructions", self._instructions), ("Code", self._code):
            title = f"{name}, estimated from a sample" if texts.every > 1 else name
            self.counts[title] = texts.repeats()
        for similarity in self._instructions.similarity():
            self._note(_SIMILARITY, similarity)

    def sample(self) -> list[tuple[str, list[Part]]]:
        """Choose rows to show, nearly as many of each outcome: their headlines and columns."""
        turns = zip_longest(*self._samples.values())
        return [row for turn in turns for row in turn if row is not None][: self.settings.rows]

    def _add(self, record: Record) -> None:
        outcome, label = classify(record)
        self.counts["Rows"][outcome] += 1
        self.counts[f"Rows {outcome}"][label] += 1
        kept, most = self._samples[outcome], self.settings.rows
        place = self._random.randrange(self.counts["Rows"][outcome])
        if len(kept) < most or place < most:
            shown = headline(record), list(parts(record, self.settings, _MOST_SHOWN))
            # A random sample: insert while there is room, then replace.
            kept[place : place + (len(kept) == most)] = [shown]
        if outcome == "ok":
            self._measure(record.fields)

    def _measure(self, row: Mapping[str, Any]) -> None:
        if (instruction := first_text(row, self.settings.instruction_keys)) is not None:
            self._instructions.add(instruction)
            self._note("Characters of an instruction", len(instruction))
        if (code := first_text(row, self.settings.code_keys)) is not None:
            self._code.add(code)
            self._note("Lines of the code", code.count("\n") + 1)
        if language := row.get("language") or find(row, f"{META_KEY}.language"):
            self.counts["Languages"][as_text(language)] += 1
        prompt, answer, reasoning = (int(_number(row, name) or 0) for name in _TOKENS)
        tokens = {"prompt": prompt, "answer": answer - reasoning, "reasoning": reasoning}
        self.counts["Tokens of the rows"].update(tokens)
        for title, (column, whole) in _NUMBERS.items():
            number, divisor = _number(row, column), (_number(row, whole) or 0) if whole else 1
            if number is not None and divisor >= 1:
                self._note(title, 100 * number / divisor if "%" in title else number)

    def _note(self, title: str, number: float) -> None:
        starts = _PERCENTS if "%" in title else _STARTS
        place = min(bisect(starts, number), len(starts) - 1)
        self.numbers[title][starts[place - 1], starts[place] - 1] += 1

    def _read(self, path: str) -> None:
        """Read tokens and times from a journal, whose run may still be going on."""
        with open_to_read(path) as journal:
            used = journal.spent
            tokens = {"prompt": used.prompt_tokens, "answer": used.completion_tokens}
            self.counts["Tokens of the journals"].update(tokens)
            for end, took in journal.times():
                self.answers[int(end)] += 1
                self.busy[int(end)] += took


def _number(row: Mapping[str, Any], path: str) -> float | None:
    value = find(row, path)
    return value if isinstance(value, (int, float)) and 0 <= value < 2**53 else None
