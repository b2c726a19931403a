"""Preference pairs: a passing answer and a failing one, for trainers such as DPO's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from codesynth.codec import dumps, loads
from codesynth.filters.agreement import compare
from codesynth.filters.groups import VerifiedRow

_FAILING = frozenset({"failed", "error", "timeout", "syntax_error"})


class Pairs:
    """Writes ``{"prompt", "chosen", "rejected"}`` in place of the row of each passing answer.

    The first passing answer to an instruction is paired with the first failing one, the second
    with the second; each is used once. Failing answers and answers without a pair are rejected.

    Args:
        code_key: the column with the answers.
        instruction_keys: the columns looked in for the prompt, in this order.
        agree: answers of the best group count as passing, and answers that passed fewer tests as
            failing; see ``compare``.
    """

    def __init__(self, code_key: str, instruction_keys: Sequence[str], *, agree: bool) -> None:
        self._code_key, self._instruction_keys, self._agree = code_key, instruction_keys, agree

    def __call__(self, answers: Sequence[VerifiedRow]) -> None:
        """Decide about the answers to one instruction."""
        for answer in answers:
            verdict = answer.verdict
            answer.reject(f"no answer to pair with: {verdict['status']}: {verdict['message']}")
        for good, bad in zip(*self._divide(answers), strict=False):
            self._pair(good, bad)

    def _divide(
        self, answers: Sequence[VerifiedRow]
    ) -> tuple[list[VerifiedRow], list[VerifiedRow]]:
        """Return the passing answers and the failing ones."""
        if not self._agree:
            return (
                [each for each in answers if each.verdict["status"] == "passed"],
                [each for each in answers if each.verdict["status"] in _FAILING],
            )
        found = compare([answer.verdict for answer in answers])
        both, most = list(zip(answers, found.passed, strict=True)), len(found.best or ())
        return (
            [each for each, passed in both if passed == found.best],
            [each for each, passed in both if len(passed) < most],
        )

    def _pair(self, good: VerifiedRow, bad: VerifiedRow) -> None:
        row, other = loads(good.row.line), loads(bad.row.line)
        texts = (row.get(key) for key in self._instruction_keys)
        prompt = next((text for text in texts if isinstance(text, str)), None)
        if prompt is None:
            good.reject("the row has no instruction, which a pair needs as its prompt")
            return
        chosen, rejected = row[self._code_key], other[self._code_key]
        pair = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        good.row, good.rejection = replace(good.row, line=dumps(pair), raw_bytes=0), None
        bad.reject(f'it is the "rejected" answer of a pair with line {good.row.number}')
