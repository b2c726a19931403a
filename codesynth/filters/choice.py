"""Choose among verified rows: ``verify --keep``, ``--best``, ``--agree`` and ``--pairs``.

Where a model wrote the tests, some of them are wrong. Right answers pass the same tests, wrong
answers mostly differ: "dual execution agreement" of CodeT, arXiv 2207.10397.

The filters and the window read a row's verdict from its subject; see ``VerifyTask.subject``.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, TypeAlias

from codesynth.codec import dumps, loads
from codesynth.models import Failure, Row

_INSTRUCTIONS = 100_000  # so many with a kept answer are remembered, the latest ones
_FAILING = frozenset({"failed", "error", "timeout", "syntax_error"})


def keep_only(statuses: frozenset[str]) -> Callable[[str], Failure | None]:
    """Make the filter of ``verify --keep``."""

    def reject(subject: str) -> Failure | None:
        verdict = loads(subject)
        return None if verdict["status"] in statuses else Failure("not_kept", _result(verdict))

    return reject


def keep_first() -> Callable[[str], Failure | None]:
    """Make the filter of ``verify --best``: it keeps the first answer to each instruction."""
    answered: dict[Any, None] = {}

    def reject(subject: str) -> Failure | None:
        group = loads(subject)["group"]
        if group in answered:
            return Failure("not_kept", "an earlier answer to the same instruction passed")
        answered[group] = None
        if len(answered) > _INSTRUCTIONS:
            del answered[next(iter(answered))]
        return None

    return reject


def _result(verdict: Mapping[str, Any]) -> str:
    return f"{verdict['status']}: {verdict['message']}".removesuffix(": ")


@dataclass(slots=True, eq=False)
class VerifiedRow:
    """A row in the window, with its verdict."""

    row: Row
    verdict: dict[str, Any]
    size: int
    rejection: Failure | None = None

    @property
    def group(self) -> tuple[Any, Any]:
        """What it has in common with the answers that it is compared with."""
        return self.verdict.get("group"), self.verdict.get("tests")

    def reject(self, reason: str) -> None:
        """Send the row to the failures."""
        self.rejection = Failure("not_kept", reason)


class GroupWindow:
    """Holds rows back until all rows with the same instruction and tests can be decided together.

    It is a ``pipeline.RowWindow``. Rows leave it in the order in which they came. The group of the
    oldest row is decided when there are too many rows or bytes, or at the end.

    Args:
        decide: called with the answers of a group; it may reject them or change their rows.
    """

    most_rows, most_bytes = 1_000, 64 << 20  # an answer that comes later is not compared

    def __init__(self, decide: Callable[[Sequence[VerifiedRow]], None]) -> None:
        self._decide = decide
        self._waiting: deque[VerifiedRow] = deque()
        self._groups: dict[Any, list[VerifiedRow]] = {}
        self._bytes = 0

    def put(self, row: Row) -> Iterator[tuple[Row, Failure | None]]:
        """Take a row; yield those that must leave. A row that failed belongs to no group."""
        verdict = loads(row.subject) if row.failure is None else {}
        answer = VerifiedRow(row, verdict, len(row.line) + len(row.subject))
        if verdict:
            self._groups.setdefault(answer.group, []).append(answer)
        self._waiting.append(answer)
        self._bytes += answer.size
        while len(self._waiting) > self.most_rows or self._bytes > self.most_bytes:
            yield self._take_first()

    def rest(self) -> Iterator[tuple[Row, Failure | None]]:
        """Yield the rows that are left."""
        while self._waiting:
            yield self._take_first()

    def _take_first(self) -> tuple[Row, Failure | None]:
        answer = self._waiting.popleft()
        self._bytes -= answer.size
        group = self._groups.get(answer.group)
        if group and group[0] is answer:  # the other rows of a group leave after it was decided
            del self._groups[answer.group]
            self._decide(group)
        return answer.row, answer.rejection


Passed: TypeAlias = frozenset[int]
"""The tests that an answer passed, by their numbers from 1."""


def passed_tests(verdict: Mapping[str, Any]) -> Passed:
    """Return the tests that an answer passed; none if it interfered with them."""
    letters = verdict["results"]
    if verdict["status"] != "passed" and not letters.strip("."):
        return frozenset()
    return frozenset(i for i, letter in enumerate(letters, 1) if letter == ".")


def best_group(passed: Sequence[Passed], tests: int) -> Passed | None:
    """Choose a group; answers that passed the same tests are a group.

    It is the group that passed all tests, else the one with the largest product of answers and
    passed tests; tests/benchmarks/agree.py compares this with other rules. None if no test was
    passed, and for a single answer that failed a test.

    >>> sorted(best_group([frozenset({1, 2, 4}), frozenset({1, 2, 4}), frozenset({1})], 4))
    [1, 2, 4]
    """
    groups = Counter(passed)
    best = max(groups, key=lambda each: (len(each) == tests, groups[each] * len(each), len(each)))
    is_good = len(passed) > 1 or len(best) == tests
    return best if best and is_good else None


def _results(answers: Sequence[VerifiedRow]) -> tuple[list[Passed], int]:
    """Return what each answer passed, and the number of tests."""
    verdicts = [answer.verdict for answer in answers]
    return [*map(passed_tests, verdicts)], max(len(each["results"]) for each in verdicts)


class Agreement:
    """Adds ``pass_rate`` and ``agreement`` to the answers of a group, and keeps the best.

    Args:
        output_key: the column with the verdict; it gets the ``reason``.
        best: keep one answer: the first of the best group, see ``best_group``.

    Attributes:
        useless: number of tests, of all instructions, that every answer failed.
    """

    def __init__(self, output_key: str, *, best: bool) -> None:
        self._output_key, self._best = output_key, best
        self.useless = 0

    def __call__(self, answers: Sequence[VerifiedRow]) -> None:
        """Decide about the answers to one instruction."""
        passed, tests = _results(answers)
        useless: Passed = frozenset()
        if len(passed) > 1:  # a single answer does not show which tests are wrong
            useless = frozenset(range(1, tests + 1)).difference(*passed)
        self.useless += len(useless)
        count, sizes = tests - len(useless), Counter(passed)
        reasons = []
        for answer, own in zip(answers, passed, strict=True):
            same = f"{sizes[own]} of {len(passed)} answers passed the same"
            reasons.append(f"{same} {len(own)} of {tests} tests{_name(useless, tests)}")
            columns = {
                "pass_rate": round(len(own) / count, 4) if count else None,
                "agreement": round(sizes[own] / len(passed), 4) if tests else None,
            }
            answer.row = self._with_columns(answer.row, columns, reasons[-1])
        if self._best:
            best = best_group(passed, tests)
            winner = None if best is None else answers[passed.index(best)]
            why = "no answer passed enough tests" if best is None else "another answer was kept"
            for answer, reason in zip(answers, reasons, strict=True):
                if answer is not winner:
                    answer.reject(f"{why}; this one: {reason}")

    def _with_columns(self, row: Row, new: dict[str, float | None], reason: str) -> Row:
        """Add the columns to those of ``verify``; the input row keeps its bytes."""
        raw, added = row.line[: row.raw_bytes], row.line[row.raw_bytes :].removeprefix(b",")
        columns = loads(b"{" + added) | new
        columns[self._output_key]["reason"] = reason
        comma = b"" if raw == b"{" else b","
        return replace(row, line=raw + comma + dumps(columns)[1:])


def _name(useless: Passed, tests: int) -> str:
    if not 0 < len(useless) < tests:
        return ""
    return "; no answer passed " + ", ".join(f"test {number}" for number in sorted(useless))


class Pairs:
    """Writes ``{"prompt", "chosen", "rejected"}`` in place of the row of each passing answer.

    The first passing answer to an instruction is paired with the first failing one, the second
    with the second; each is used once. Failing answers and answers without a pair are rejected.

    Args:
        code_key: the column with the answers.
        instruction_keys: the columns looked in for the prompt, in this order.
        agree: answers of the best group count as passing, and answers that passed fewer tests as
            failing; see ``best_group``.
    """

    def __init__(self, code_key: str, instruction_keys: Sequence[str], *, agree: bool) -> None:
        self._code_key, self._instruction_keys, self._agree = code_key, instruction_keys, agree

    def __call__(self, answers: Sequence[VerifiedRow]) -> None:
        """Decide about the answers to one instruction."""
        statuses = [answer.verdict["status"] for answer in answers]
        passing = [status == "passed" for status in statuses]
        failing = [status in _FAILING for status in statuses]
        if self._agree:
            passed, tests = _results(answers)
            best = best_group(passed, tests)
            passing = [own == best for own in passed]
            failing = [len(own) < len(best or ()) for own in passed]
        for answer in answers:
            result = _result(answer.verdict)
            answer.reject(f"no answer is left to pair it with; result: {result}")
        for good, bad in zip(compress(answers, passing), compress(answers, failing), strict=False):
            row, other = loads(good.row.line), loads(bad.row.line)
            texts = (row.get(key) for key in self._instruction_keys)
            pair = {
                "prompt": next(text for text in texts if isinstance(text, str)),
                "chosen": row[self._code_key],
                "rejected": other[self._code_key],
            }
            good.row, good.rejection = replace(good.row, line=dumps(pair), raw_bytes=0), None
            bad.reject(f'it is the "rejected" answer of a pair with line {good.row.number}')
