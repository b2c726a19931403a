"""``verify --keep``, ``--best``, ``--agree`` and ``--pairs``: which answers are kept, and why."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.command import codesynth, lines

from codesynth.codec import dumps
from codesynth.errors import ConfigError
from codesynth.filters.choice import (
    Agreement,
    GroupWindow,
    Pairs,
    VerifiedRow,
    best_group,
    keep_first,
    keep_only,
    passed_tests,
)
from codesynth.models import Failure, Row, RowFilter
from codesynth.verify import SandboxServing, SandboxSettings

INSTRUCTION = "Return the absolute value of a number."
RIGHT, ALSO_RIGHT = "def f(x):\n    return abs(x)", "def f(x):\n    return max(x, -x)"
WRONG, BROKEN = "def f(x):\n    return x", "def f(x"
TESTS = ["assert f(-1) == 1", "assert f(2) == 2", "assert f(-3) == -4", "assert f(0) == 0"]
"""The third is wrong."""


def row(group: str, letters: str, number: int = 0, status: str = "") -> Row:
    """Make a row as ``verify`` does."""
    status = status or ("failed" if letters.strip(".") else "passed")
    verdict = {"status": status, "message": "", "results": letters}
    raw = dumps({"instruction": group, "generated_code": f"code {number}"})[:-1]
    subject = dumps({"group": group, "tests": "t", **verdict}).decode()
    line = raw + b',"verification":' + dumps(verdict) + b"}"
    return Row(line, subject=subject, raw_bytes=len(raw), number=number)


def through(
    decide: Callable[[Sequence[VerifiedRow]], None], rows: Sequence[Row], **limits: int
) -> list[tuple[int, str | None, Any]]:
    """Send rows through a window; return number, reason and line of each in their order."""
    window = GroupWindow(decide)
    vars(window).update(limits)
    found = [each for one in rows for each in window.put(one)] + [*window.rest()]
    return [(r.number, why.message if why else None, json.loads(r.line)) for r, why in found]


def kept(found: Sequence[tuple[int, str | None, Any]]) -> list[int]:
    return [number for number, why, _ in found if why is None]


# Keeping statuses.


def reasons(reject: RowFilter, *rows: Row) -> list[str | None]:
    """Return None for each row that is kept, else why it is not."""
    failures = [reject(each.subject) for each in rows]
    assert all(failure is None or failure.kind == "not_kept" for failure in failures)
    return [failure and failure.message for failure in failures]


def test_keep_rejects_other_statuses_and_says_which() -> None:
    rows = [row("a", "."), row("a", "F"), row("a", "", status="timeout")]
    assert reasons(keep_only(frozenset({"passed", "failed"})), *rows) == [None, None, "timeout"]


def test_best_keeps_the_first_of_each_instruction() -> None:
    earlier = "an earlier answer to the same instruction passed"
    rows = [row("a", "."), row("b", "."), row("a", ".")]
    assert reasons(keep_first(), *rows) == [None, None, earlier]


# Comparing.


def best(*results: str) -> frozenset[int] | None:
    verdicts = [
        {"status": "" if each.strip(".") else "passed", "results": each} for each in results
    ]
    return best_group([*map(passed_tests, verdicts)], len(results[0]))


def test_an_answer_that_passes_all_tests_wins_against_any_number_of_others() -> None:
    assert best("E...", "E...", "E...") == {2, 3, 4}
    assert best("E...", "E...", "E...", "....") == {1, 2, 3, 4}


def test_a_test_that_every_answer_fails_counts_for_nothing_and_is_named() -> None:
    rows = [row("a", "..F."), row("a", "..F."), row("a", ".FF.")]
    [first, _, third] = through(Agreement("verification", best=False), rows)
    assert (first[2]["pass_rate"], first[2]["agreement"]) == (1.0, 0.6667)
    assert (third[2]["pass_rate"], third[2]["agreement"]) == (0.6667, 0.3333)
    words = "2 of 3 answers passed the same 3 of 4 tests; no answer passed test 3"
    assert first[2]["verification"]["reason"] == words


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([row("a", "..", 1, "error"), row("a", "..", 2, "error"), row("a", "..", 3)], [3]),
        ([row("a", "...F", 1), row("b", "....", 2), row("c", "", 3, "no_tests")], [2]),
        ([row("a", "FF", 1), row("a", "EE", 2), row("a", "", 3, "syntax_error")], []),
    ],
    ids=["interferes with its tests", "single", "none passed a test"],
)
def test_an_answer_is_kept_only_if_it_has_passed_tests(
    rows: list[Row], expected: list[int]
) -> None:
    assert kept(through(Agreement("verification", best=True), rows)) == expected


# The window.


def test_rows_keep_their_order_and_their_bytes_where_groups_are_mixed() -> None:
    rows = [row(group, "..", i) for i, group in enumerate("abcabcab")]
    rows.insert(3, Row(b'{"input":1}', Failure("missing_key", "no"), number=99))
    found = through(Agreement("verification", best=True), rows, most_rows=7)
    assert [number for number, _, _ in found] == [each.number for each in rows]
    assert kept(found) == [0, 1, 2, 99]
    assert found[3][2] == {"input": 1}
    window = GroupWindow(Agreement("verification", best=False))
    assert [*window.put(rows[0])] == []
    assert [each.line for each, _ in window.rest()] == [
        rows[0].line[: rows[0].raw_bytes]
        + b',"verification":{"status":"passed","message":"","results":"..",'
        b'"reason":"1 of 1 answers passed the same 2 of 2 tests"},"pass_rate":1.0,"agreement":1.0}'
    ]


@pytest.mark.parametrize("limits", [{"most_rows": 10}, {"most_bytes": 1_500}])
def test_the_window_holds_a_bounded_number_of_rows_and_bytes(limits: dict[str, int]) -> None:
    window = GroupWindow(Agreement("verification", best=True))
    vars(window).update(limits)
    held = 0
    for i in range(1_000):
        held += 1 - len([*window.put(row(f"{i % 500}", "..", i))])
        assert held <= 10
    assert len([*window.rest()]) == held


# Pairs.


def test_each_answer_is_in_one_pair_at_most() -> None:
    rows = [row("a", each, i) for i, each in enumerate(["F", ".", "F", ".", ".", "E"])]
    rows += [row("b", ".", 6), row("c", "F", 7), row("a", "", 8, "no_tests")]
    found = through(Pairs("generated_code", ["instruction"], agree=False), rows)
    pairs = {number: line for number, why, line in found if why is None}
    assert pairs == {
        1: {"prompt": "a", "chosen": "code 1", "rejected": "code 0"},
        3: {"prompt": "a", "chosen": "code 3", "rejected": "code 2"},
        4: {"prompt": "a", "chosen": "code 4", "rejected": "code 5"},
    }
    assert found[0][1] == 'it is the "rejected" answer of a pair with line 1'
    assert found[8][1] == "no answer is left to pair it with; result: no_tests"


def test_pairs_by_agreement_take_the_best_group_where_no_answer_passes_everything() -> None:
    rows = [row("a", each, i) for i, each in enumerate(["..F", "..F", ".FF"])]
    found = through(Pairs("generated_code", ["instruction"], agree=True), rows)
    assert [line for _, why, line in found if why is None] == [
        {"prompt": "a", "chosen": "code 0", "rejected": "code 2"}
    ]


# The command.


@pytest.fixture(scope="module")
def _sandboxed() -> None:
    """Skip where no sandbox can be made."""
    try:
        SandboxServing(SandboxSettings(), 1)
    except ConfigError as exc:
        pytest.skip(str(exc))


def answers(*codes: str, **more: Any) -> bytes:
    told = {"instruction": INSTRUCTION, "generated_tests": TESTS, **more}
    return lines(*(told | {"generated_code": code} for code in codes))


@pytest.mark.usefixtures("_sandboxed")
def test_the_best_of_four_answers_is_kept_though_a_test_is_wrong(tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    stdin = answers(WRONG, RIGHT, BROKEN, ALSO_RIGHT) + answers(RIGHT, pass_rate=0.5)
    done = codesynth("verify", "--agree", "--best", "--failures", failures, stdin=stdin)
    assert [one["generated_code"] for one in done.rows] == [RIGHT]
    assert (done.rows[0]["pass_rate"], done.rows[0]["agreement"]) == (1.0, 0.5)
    assert "5 in: 1 ok, 3 rejected, 1 failed" in done.err
    assert "1 tests were failed by every answer" in done.err
    rejected = [json.loads(line) for line in failures.read_bytes().splitlines()]
    assert [one["error"]["kind"] for one in rejected] == ["not_kept"] * 3 + ["existing_key"]
    assert [one["input"]["generated_code"] for one in rejected[:3]] == [WRONG, BROKEN, ALSO_RIGHT]


@pytest.mark.usefixtures("_sandboxed")
def test_pairs_are_written_and_every_row_is_counted() -> None:
    check = "def check(candidate):\n    assert candidate(-1) == 1"
    more = {"generated_tests": check, "signature": "def f(x: int) -> int:"}  # names the candidate
    codes = [f"{each}\ndef g(x):\n    return 7" for each in (WRONG, RIGHT, RIGHT)]
    done = codesynth("verify", "--pairs", stdin=answers(*codes, **more))
    assert done.rows == [{"prompt": INSTRUCTION, "chosen": codes[1], "rejected": codes[0]}]
    assert "3 in: 1 ok, 2 rejected, 0 failed" in done.err
    assert 'first rejected: line 1: it is the "rejected" answer of a pair with line 2' in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--pairs", "--best"], "--pairs and --best exclude each other"),
        (["--agree", "--unordered"], "--agree and --unordered exclude each other"),
        (["--agree", "--output-key", "agreement"], 'would have the name "agreement"'),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: list[str], words: str) -> None:
    done = codesynth("verify", *options)
    assert done.code == 2
    assert words in done.err
