"""What a run tells while it runs: ``--log-json``, and the journal's note for ``status``."""

import json
from collections import Counter
from pathlib import Path

import pytest
from support.asking import Clock
from support.command import codesynth
from support.endpoint import Endpoint
from support.parts import Parts

from codesynth.errors import OutputError
from codesynth.journal import Journal
from codesynth.models import Price, Stats, Usage
from codesynth.notes import FIGURES, RunNotes
from codesynth.serving.limits import Budget


def test_one_line_a_second(tmp_path: Path) -> None:
    log, clock, stats = tmp_path / "log.jsonl", Clock(1000.0), Stats()
    log.write_text('{"of": "an earlier run"}\n')
    notes = RunNotes(stats, lambda: 9, path=str(log), clock=clock)
    for tenth in range(31):
        clock.now, stats.rows = 1000.0 + tenth / 10, tenth
        notes.tick()
    notes.write(complete=True)
    lines = [json.loads(line) for line in log.read_text().splitlines()][1:]
    assert [each["rows"] for each in lines] == [10, 20, 30, 30]
    assert [each["complete"] for each in lines] == [False, False, False, True]
    assert lines[0]["seconds"] == 1.0


def test_the_journal_is_left_alone_while_nothing_happens(tmp_path: Path) -> None:
    clock, stats = Clock(1000.0), Stats(rows=1)
    with Journal(str(tmp_path / "out.journal")) as journal:
        notes = RunNotes(stats, lambda: None, journal, clock=clock)
        told = []
        for second in range(1, 7):
            clock.now, stats.answered = 1000.0 + second, second // 3
            notes.tick()
            told.append(json.loads(journal.get_note(FIGURES) or "{}").get("seconds"))
    assert told == [1.0, 1.0, 3.0, 3.0, 3.0, 6.0]


def test_figures_of_several_runs_are_added_up() -> None:
    def figures(failed: Counter[str], *, load: tuple[int, int] | None) -> dict[str, object]:
        stats = Stats(5, answered=4, ok=3, failures=failed, used=Usage(10, 20), cached=1)
        budget = Budget(Price(0, 25_000), None, earlier=stats.used)
        notes = RunNotes(stats, lambda: 5, budget=budget, load=lambda: load)
        return notes.figures(complete=False)

    whole, budget = Stats(), Budget(Price(0, 25_000), None)
    notes = RunNotes(whole, lambda: 10, budget=budget)
    some = figures(Counter(empty=1, refused=1), load=(3, 8)), figures(Counter(empty=2), load=None)
    notes.add_up(some)
    assert (whole.rows, whole.answered, whole.ok, whole.cached) == (10, 8, 6, 2)
    assert whole.failures == Counter(empty=3, refused=1)
    assert whole.used == Usage(20, 40)
    sums = notes.figures(complete=False)
    assert (sums["in_flight"], sums["limit"], sums["cost"], budget.spent) == (3, 8, 1.0, 1.0)
    notes.add_up([])
    assert whole == Stats()


def test_a_log_that_cannot_be_written_is_told_before_anything_is_asked(
    tmp_path: Path, endpoint: Endpoint
) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        RunNotes(Stats(), lambda: None, path=str(tmp_path))
    job = Parts(tmp_path, endpoint)
    for log in (tmp_path / "no" / "folder", job.rows, tmp_path / "out.jsonl"):
        before = job.rows.read_bytes()
        args = ("gen-code", job.rows, "-o", tmp_path / "out.jsonl", "--log-json", log)
        assert codesynth(*args, endpoint=endpoint).code in (1, 2)
        assert job.rows.read_bytes() == before
    assert endpoint.received == []


def test_the_command_logs_what_became_of_its_rows(tmp_path: Path, endpoint: Endpoint) -> None:
    job = Parts(tmp_path, endpoint)
    job.run("out.jsonl", "--log-json", tmp_path / "log.jsonl", "--price", "1,2")
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (last["rows"], last["total"], last["complete"]) == (35, 35, True)
    assert last["failed"] == {"invalid_json": 1, "missing_key": 1, "empty": 6, "rejected": 6}
    assert last["rejected"] == {"contaminated": 2}
    assert last["ok"] == 35 - 14 - 2
    assert (last["in_flight"], last["tokens"]["prompt_tokens"]) == (0, 11 * last["attempts"] - 66)
    assert last["cost"] == pytest.approx((last["attempts"] - 6) * (11 + 14) / 1e6)
