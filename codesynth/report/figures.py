"""The figures of a report, counted in one pass over the files, in bounded memory."""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from hashlib import blake2b
from itertools import zip_longest
from operator import sub
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from codesynth.filters.rouge_index import RougeIndex
from codesynth.filters.words import words
from codesynth.journal import open_to_read
from codesynth.models import META_KEY, Record, Usage
from codesynth.report.rows import classify, clean, first_text, headline, parts
from codesynth.settings import ReportSettings
from codesynth.storage import read_records

LEAST_SIMILARITY = 0.4
"""A lower value would take several times as long, because nearly all texts are as similar."""
_MOST_TEXTS, _MOST_QUERIES, _MOST_NAMES, _STEPS = 10_000, 500, 200, 120
_MOST_CHARACTERS = 4000  # of each text on the page
_NAN = math.nan

Shown: TypeAlias = tuple[str, str, list[tuple[str, str, str]]]
"""A row for the page: its headline, how its instruction begins, its parts."""


class Texts:
    """Counts equal texts. If there are many, only a sample; equal texts are all in it, or none.

    Attributes:
        total: texts counted.
        every: one of ``every`` different texts is in the sample; it grows with the texts.
        kept: for each text of the sample, by its hash: how often it came, and its beginning.
    """

    def __init__(self) -> None:
        self.total, self.every = 0, 1
        self.kept: dict[int, tuple[int, str]] = {}

    def add(self, text: str) -> None:
        """Count a text."""
        self.total += 1
        data = text.encode("utf-8", "surrogatepass")
        digest = int.from_bytes(blake2b(data, digest_size=8).digest())
        if digest % self.every == 0:
            count, head = self.kept.get(digest) or (0, text[:2000])
            self.kept[digest] = count + 1, head
        if len(self.kept) > _MOST_TEXTS:
            self.every *= 2
            self.kept = {d: kept for d, kept in self.kept.items() if d % self.every == 0}

    @property
    def different(self) -> int:
        """The number of different texts; an estimate if ``every`` is above 1."""
        return round(self.total * len(self.kept) / sum(count for count, _ in self.kept.values()))

    def similarity(self) -> Counter[int]:
        """Compare up to 500 texts with all others: ROUGE-L with the closest one, in percent."""
        heads = (self.kept[digest][1] for digest in sorted(self.kept))  # in random order
        texts = [found for head in heads if (found := words(head))]
        asked, index = min(_MOST_QUERIES, len(texts) // 2), RougeIndex(LEAST_SIMILARITY)
        for text in texts[asked:]:
            index.add(text)
        closest = map(index.closest, texts[:asked])
        return Counter(0 if found is None else round(100 * found[0]) for found in closest)


class Figures:
    """The figures of a report.

    Attributes:
        counts: tables: for each title, how often each name came.
        numbers: histograms: for each title and unit, how many rows have a number, which is rounded
            to three digits.
        tokens: tokens of the rows in the outputs: prompt, completion, reasoning.
        spent: tokens of all answers in the journals; None without a journal.
        history: from the journals: (seconds since the epoch, answers per second, in flight).
    """

    def __init__(self, settings: ReportSettings) -> None:
        self.settings, self._random = settings, Random(0)  # noqa: S311 - not for secrets
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.numbers: defaultdict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        self.instructions, self.codes = Texts(), Texts()
        self.tokens = dict.fromkeys(("prompt", "completion", "reasoning"), 0)
        self.spent: Usage | None = None
        self.history: list[tuple[float, float, float]] = []
        self._samples: defaultdict[tuple[str, str], list[Shown]] = defaultdict(list)
        journals = [path for path in settings.inputs if _is_journal(path)]
        for record in read_records([path for path in settings.inputs if path not in journals]):
            self._add(record)
        if journals:
            self._read(journals)

    def sample(self) -> list[Shown]:
        """Choose the rows to show, so that each outcome has nearly the same number of rows."""
        turns = zip_longest(*self._samples.values())
        return [row for turn in turns for row in turn if row is not None][: self.settings.rows]

    def _add(self, record: Record) -> None:
        outcome, label = classify(record)
        self._count("Rows", outcome)
        title = f"Rows {outcome}, by {'verification' if outcome == 'ok' else 'kind'}"
        label = self._count(title, label)
        kept, most = self._samples[outcome, label], self.settings.rows
        place = self._random.randrange(self.counts[title][label])
        if place < most:
            replaced = 1 if len(kept) == most else 0
            kept[place : place + replaced] = [self._show(record)]
        if outcome == "ok":
            self._measure(record.fields)

    def _count(self, title: str, name: str) -> str:
        """Count a name; as "other" if there are too many different names already."""
        counter = self.counts[title]
        name = name[:100] if name in counter or len(counter) < _MOST_NAMES else "other"
        counter[name] += 1
        return name

    def _show(self, record: Record) -> Shown:
        keys, row = self.settings.instruction_keys, record.fields
        begin = first_text(row, keys) or first_text(_inner(row, "input"), keys) or ""
        texts = list(parts(record, self.settings, _MOST_CHARACTERS))
        return headline(record), clean(begin[:150]), texts

    def _measure(self, row: Mapping[str, Any]) -> None:
        instruction = first_text(row, self.settings.instruction_keys)
        code = first_text(row, self.settings.code_keys)
        for text, texts in (instruction, self.instructions), (code, self.codes):
            if text is not None:
                texts.add(text)
        about, tests = _inner(row, META_KEY), _inner(row, "verification")
        if language := row.get("language") or about.get("language"):
            self._count("Languages", str(language))
        usage = {name: _number(_inner(about, "usage"), f"{name}_tokens") for name in self.tokens}
        for name, number in usage.items():
            self.tokens[name] += 0 if math.isnan(number) else int(number)
        run, passed = _number(tests, "tests_run"), _number(tests, "tests_passed")
        reasoning = (usage["reasoning"] or _NAN) / (usage["completion"] or _NAN)
        characters = _NAN if instruction is None else len(instruction)
        lines = _NAN if code is None else code.count("\n") + 1
        for title, unit, number in (
            ("Length of the instructions", "characters", characters),
            ("Length of the code", "lines", lines),
            ("Length of the answers", "tokens", usage["completion"]),
            ("Reasoning", "% of an answer's tokens", 100 * reasoning),
            ("Tests run", "tests per row", run),
            ("Tests passed", "% of the tests of a row", 100 * passed / (run or _NAN)),
            ("Agreement", "% of the answers to one instruction", 100 * _number(row, "agreement")),
        ):
            if not math.isnan(number):
                rounded = round(number if number < 1000 else float(f"{number:.3g}"))
                self.numbers[title, unit][rounded] += 1

    def _read(self, paths: list[str]) -> None:
        """Read tokens and speed over time from journals, whose runs may still be going on."""
        self.spent, ends, spans = Usage(), array("d"), array("d")  # seconds; 16 bytes an answer
        for path in paths:
            with open_to_read(path) as journal:
                self.spent += journal.spent()
                for end, took in journal.times():
                    ends.append(end)
                    spans.append(took)
        first = min(map(sub, ends, spans), default=0)
        width = max(1, math.ceil((max(ends, default=0) - first) / _STEPS))
        answers, busy = Counter[int](), defaultdict[int, float](float)
        for end, took in zip(ends, spans, strict=True):
            answers[int((end - first) // width)] += 1
            busy[int((end - first) // width)] += took
        for i in range(max(answers, default=-1) + 1):
            self.history.append((first + i * width, answers[i] / width, busy[i] / width))


def _inner(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    return value if isinstance(value, (int, float)) and 0 <= value < 2**53 else _NAN


def _is_journal(path: str) -> bool:
    if not Path(path).is_file():  # standard input, or a FIFO
        return False
    with open(path, "rb") as file:
        return file.read(15) == b"SQLite format 3"
