"""Compare answers to one instruction by the tests that each passed, and choose the best.

Where a model wrote the tests, some of them are wrong. Right answers pass the same tests, wrong
answers mostly differ: "dual execution agreement" of CodeT, arXiv 2207.10397.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from codesynth.codec import dumps, loads
from codesynth.filters.groups import VerifiedRow
from codesynth.models import Row


@dataclass(frozen=True, slots=True)
class Comparison:
    """The tests that the answers to one instruction passed.

    Attributes:
        passed: for each answer, the numbers (from 1) of the tests that it passed.
        tests: number of tests.
        useless: numbers of the tests that every answer fails; they are not counted. Empty if there
            is only one answer, because nothing then shows which tests are wrong.
        best: the tests that the answers of the best group passed; None if no answer is good.
    """

    passed: Sequence[frozenset[int]]
    tests: int
    useless: frozenset[int]
    best: frozenset[int] | None

    def columns(self, index: int) -> dict[str, float | None]:
        """Make the columns of an answer; None where there are no tests.

        ``pass_rate`` is the share of the tests that count which it passed, ``agreement`` the share
        of the answers that passed the same tests.
        """
        count, passed = self.tests - len(self.useless), self.passed[index]
        agreement = round(self.passed.count(passed) / len(self.passed), 4)
        return {
            "pass_rate": round(len(passed) / count, 4) if count else None,
            "agreement": agreement if self.tests else None,
        }

    def describe(self, index: int) -> str:
        """Say how many answers passed the same tests."""
        passed, answers = self.passed[index], len(self.passed)
        same = self.passed.count(passed)
        text = f"{same} of {answers} answers passed the same {len(passed)} of {self.tests} tests"
        if 0 < len(self.useless) < self.tests:
            numbers = sorted(self.useless)
            shown = ", ".join(map(str, numbers[:20])) + ", ..." * (len(numbers) > 20)
            text += f"; no answer passed test{'s' * (len(numbers) > 1)} {shown}"
        return text


def passed_tests(verdict: Mapping[str, Any]) -> frozenset[int]:
    """Return the numbers of the tests that an answer passed; none if it interfered with them."""
    letters = verdict["results"]
    if verdict["status"] != "passed" and not letters.strip("."):
        return frozenset()
    return frozenset(i for i, letter in enumerate(letters, 1) if letter == ".")


def compare(verdicts: Sequence[Mapping[str, Any]]) -> Comparison:
    """Compare the verdicts of the answers to one instruction.

    Answers that passed the same tests are a group. The best group is the one that passed all
    tests, else the one with the largest product of answers and passed tests;
    tests/benchmarks/agree.py compares this with other rules.

    >>> texts = ["..F.", "..F.", ".FFF", ""]
    >>> found = compare([{"status": "failed", "results": text} for text in texts])
    >>> sorted(found.best), sorted(found.useless), found.columns(1)
    ([1, 2, 4], [3], {'pass_rate': 1.0, 'agreement': 0.5})
    """
    passed = [passed_tests(verdict) for verdict in verdicts]
    tests = max(len(verdict["results"]) for verdict in verdicts)
    everything = frozenset(range(1, tests + 1))
    if len(passed) == 1:
        best = everything if tests and passed[0] == everything else None
        return Comparison(passed, tests, frozenset(), best)
    groups = Counter(passed)
    best = max(groups, key=lambda each: (each == everything, groups[each] * len(each), len(each)))
    return Comparison(passed, tests, everything.difference(*passed), best or None)


class Agreement:
    """Adds ``pass_rate`` and ``agreement`` to the answers of a group, and keeps the best.

    Args:
        output_key: the column with the verdict; it gets the ``reason``.
        best: keep one answer: the first of the best group, see ``compare``.

    Attributes:
        useless: number of tests, of all instructions, that no answer passed.
        first: the first row that was rejected, and why; empty if none was.
    """

    def __init__(self, output_key: str, *, best: bool) -> None:
        self._output_key, self._best = output_key, best
        self.useless = 0
        self.first = ""

    def __call__(self, answers: Sequence[VerifiedRow]) -> None:
        """Decide about the answers to one instruction."""
        found = compare([answer.verdict for answer in answers])
        self.useless += len(found.useless)
        winner = found.passed.index(found.best) if found.best is not None else None
        for i, answer in enumerate(answers):
            answer.row = self._with_columns(answer.row, found, i)
            if self._best and i != winner:
                reason = _why_not(found, i, winner)
                answer.reject(reason)
                self.first = self.first or f"line {answer.row.number}: {reason}"

    def _with_columns(self, row: Row, found: Comparison, index: int) -> Row:
        """Add the columns to those of ``verify``; the input row keeps its bytes."""
        raw, added = row.line[: row.raw_bytes], row.line[row.raw_bytes :].removeprefix(b",")
        columns = loads(b"{" + added) | found.columns(index)
        columns[self._output_key]["reason"] = found.describe(index)
        comma = b"" if raw == b"{" else b","
        return replace(row, line=raw + comma + dumps(columns)[1:])


def _why_not(found: Comparison, index: int, winner: int | None) -> str:
    if not found.tests:
        return "no tests were run"
    described = found.describe(index)
    if winner is None and len(found.passed) == 1:
        return f"no other answer to compare with, and it failed: {described}"
    if winner is None:
        return "no answer passed a test"
    if found.passed[index] == found.best:
        return f"another answer with the same results was kept: {described}"
    return f"{described}; of the answer that was kept: {found.describe(winner)}"
