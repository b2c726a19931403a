"""Compare answers to one instruction by the tests that each passed, and choose the best.

Where a model wrote the tests, some of them are wrong. Right answers pass the same tests, wrong
answers mostly differ: "dual execution agreement" of CodeT, arXiv 2207.10397.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesynth.filters.groups import Answer

AGREEMENT_COLUMNS = ("pass_rate", "agreement")
_INSTRUCTIONS = 100_000
"""So many instructions with a kept answer are remembered, for answers that come much later."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the answers to one instruction have in common.

    Attributes:
        passed: the numbers of the tests that each answer passed, from 1.
        tests: how many there are.
        useless: numbers of the tests that every answer fails: they count for nothing. A lone
            answer has none, since no other shows which tests are wrong.
        best: the tests that the answers of the best group passed; None where no answer is good.
    """

    passed: Sequence[frozenset[int]]
    tests: int
    useless: frozenset[int]
    best: frozenset[int] | None

    def pass_rate(self, index: int) -> float | None:
        """Compute the share of the tests that count which an answer passed; None without any."""
        count = self.tests - len(self.useless)
        return round(len(self.passed[index]) / count, 4) if count else None

    def agreement(self, index: int) -> float | None:
        """Compute the share of the answers that passed the same tests; None without tests."""
        same = self.passed.count(self.passed[index])
        return round(same / len(self.passed), 4) if self.tests else None

    def describe(self, passed: frozenset[int]) -> str:
        """Say how many answers passed the same tests."""
        same, answers = self.passed.count(passed), len(self.passed)
        text = f"{same} of {answers} answers passed the same {len(passed)} of {self.tests} tests"
        if self.useless and self.useless != frozenset(range(1, self.tests + 1)):
            text += f"; no answer passed {name_tests(self.useless)}"
        return text


def name_tests(numbers: frozenset[int]) -> str:
    """Name tests by their numbers."""
    shown = ", ".join(map(str, sorted(numbers)[:20])) + ", ..." * (len(numbers) > 20)
    return f"test{'s' * (len(numbers) > 1)} {shown}"


def passed_tests(verdict: Mapping[str, Any]) -> frozenset[int]:
    """Number the tests that an answer passed; none where its code interfered with them."""
    letters = verdict["results"]
    if verdict["status"] != "passed" and not letters.strip("."):
        return frozenset()
    return frozenset(i for i, letter in enumerate(letters, 1) if letter == ".")


def rank(answers: int, passed: int, tests: int) -> tuple[bool, int, int]:
    """Rank a group of answers that passed the same tests; the highest is the best.

    Of 68 questions with a right answer of a real model, three answers each, a right one is kept
    for (one test per assert; a third of the tests wrong, 200 draws), and of 500 problems of the
    practice endpoint with 20 % wrong answers and tests, four answers each, the kept one is right
    for:

    ======================================  =====  ======  ======
    answers x tests                         67     96.8 %  96.2 %
    sqrt(answers) x tests                   67     96.8 %  95.8 %
    answers, then tests                     63     91.0 %  95.2 %
    tests, then answers                     68     97.6 %  95.6 %
    all tests passed, then answers x tests  68     96.8 %  96.2 %
    ======================================  =====  ======  ======

    See tests/benchmarks/agree.py.
    """
    return passed == tests, answers * passed, passed


def compare(verdicts: Sequence[Mapping[str, Any]]) -> Comparison:
    """Compare the verdicts of the answers to one instruction.

    >>> texts = ["..F.", "..F.", ".FFF", ""]
    >>> found = compare([{"status": "failed", "results": text} for text in texts])
    >>> sorted(found.best), sorted(found.useless), found.pass_rate(2), found.agreement(1)
    ([1, 2, 4], [3], 0.3333, 0.5)
    """
    passed = [passed_tests(verdict) for verdict in verdicts]
    tests = max(len(verdict["results"]) for verdict in verdicts)
    everything = frozenset(range(1, tests + 1))
    if len(passed) == 1:
        best = everything if tests and passed[0] == everything else None
        return Comparison(passed, tests, frozenset(), best)
    groups = Counter(passed)
    best = max(groups, key=lambda each: rank(groups[each], len(each), tests))
    return Comparison(passed, tests, everything.difference(*passed), best or None)


class Agreement:
    """Adds ``pass_rate`` and ``agreement`` to the answers of a group, and keeps the best.

    Args:
        output_key: the column with the verdict; it gets the ``reason``.
        best: keep one answer: the first of the largest group, see ``rank``.

    Attributes:
        useless: how many tests no answer passed, over all groups.
        first: the first row that was rejected, and why; empty if none was.
    """

    def __init__(self, output_key: str, *, best: bool) -> None:
        self._output_key, self._best = output_key, best
        self._kept: dict[Any, None] = {}
        self.useless = 0
        self.first = ""

    def __call__(self, answers: Sequence[Answer]) -> None:
        """Decide about the answers to one instruction."""
        found = compare([answer.told for answer in answers])
        self.useless += len(found.useless)
        is_new = answers[0].key not in self._kept
        winner = None
        if self._best and is_new and found.best is not None:
            winner = found.passed.index(found.best)
            self._remember(answers[0].key)
        for i, answer in enumerate(answers):
            columns = answer.columns()
            columns[self._output_key]["reason"] = found.describe(found.passed[i])
            columns |= dict(
                zip(AGREEMENT_COLUMNS, (found.pass_rate(i), found.agreement(i)), strict=True)
            )
            answer.write_columns(columns)
            if not self._best or i == winner:
                answer.keep()
            elif not is_new:
                self._reject(answer, "an earlier answer to the same instruction was kept")
            else:
                self._reject(answer, _why_not(found, i, winner))

    def _reject(self, answer: Answer, reason: str) -> None:
        answer.reject(reason)
        self.first = self.first or f"line {answer.row.number}: {reason}"

    def _remember(self, key: Any) -> None:
        self._kept[key] = None
        if len(self._kept) > _INSTRUCTIONS:
            del self._kept[next(iter(self._kept))]


def _why_not(found: Comparison, index: int, winner: int | None) -> str:
    if not found.tests:
        return "no tests were run"
    told = found.describe(found.passed[index])
    if winner is None and len(found.passed) == 1:
        return f"no other answer to compare with, and it failed: {told}"
    if winner is None:
        return "no answer passed a test"
    if found.passed[index] == found.best:
        return f"another answer with the same results was kept: {told}"
    return f"{told}; of the answer that was kept: {found.describe(found.passed[winner])}"
