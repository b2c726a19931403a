"""Which rows ``verify --keep`` and ``--best`` keep."""

from typing import Any

from codesynth.codec import dumps
from codesynth.filters import Selection
from codesynth.models import Row


def reasons(selection: Selection, *rows: tuple[str, str]) -> list[Any]:
    """Show rows of (group, status); return None for each that is kept, else why it is not."""
    found = []
    for number, (group, status) in enumerate(rows, 1):
        subject = dumps({"group": group, "status": status, "message": "why"}).decode()
        failure = selection.reject(Row(b"", subject=subject, number=number))
        assert failure is None or failure.kind == "not_kept"
        found.append(failure and failure.message)
    return found


def test_all_rows_are_kept_where_nothing_is_asked_for() -> None:
    assert reasons(Selection(None, best=False), ("a", "failed"), ("a", "error")) == [None, None]


def test_keep_rejects_other_statuses_and_says_which() -> None:
    selection = Selection(frozenset({"passed", "failed"}), best=False)
    rows = [("a", "passed"), ("a", "failed"), ("a", "timeout")]
    assert reasons(selection, *rows) == [None, None, "timeout: why"]
    assert selection.first == "line 3: timeout: why"


def test_best_keeps_the_first_of_each_instruction_that_passed() -> None:
    rows = [("a", "failed"), ("a", "passed"), ("b", "passed"), ("a", "passed")]
    earlier = "an earlier answer to the same instruction passed"
    assert reasons(Selection(None, best=True), *rows) == ["failed: why", None, None, earlier]
