"""Parts of a job: ``join`` puts them together, ``--also-journal`` deals them anew, ``status``."""

import random
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.command import bare, codesynth, instructions, started
from support.endpoint import Endpoint
from support.files import rows_of
from support.parts import Parts, fates, wait_for
from support.replies import echo, held

from codesynth.scale.status import read_status


@pytest.fixture
def job(tmp_path: Path, endpoint: Endpoint) -> Parts:
    return Parts(tmp_path, endpoint)


def refusal(job: Parts, *args: object) -> str:
    done = codesynth("join", *args, "-o", job.folder / "joined.jsonl")
    assert done.code in (1, 2)
    assert not (job.folder / "joined.jsonl").exists()
    return done.err


@pytest.mark.parametrize(("count", "limit"), [(1, 99), (2, 99), (5, 99), (7, 3)])
def test_parts_become_the_bytes_of_the_undivided_job(job: Parts, count: int, limit: int) -> None:
    options = ("--samples", 2, "--limit", limit)
    job.run("whole.jsonl", *options)
    parts = list(job.divide(count, *options))
    random.Random(count).shuffle(parts)
    assert codesynth("join", *parts, "-o", job.folder / "joined.jsonl").code == 0
    output, failures = job.bytes_of("joined.jsonl")
    assert (output, failures) == job.bytes_of("whole.jsonl")
    assert limit < 99 or failures.count(b'"contaminated"') == 4
    names = [*parts, *(part.with_suffix(".failures.jsonl") for part in parts)]  # as part.*.jsonl
    assert codesynth("join", *names).out == output


def test_gaps_and_overlaps_are_refused(job: Parts) -> None:
    first, second, third = job.divide(3)
    assert "missing: part 1/3" in refusal(job, first, third)
    assert "missing: part 0/3, part 2/3" in refusal(job, second)
    assert "are the same part" in refusal(job, first, second, third, second)
    assert "different number of parts" in refusal(job, first, job.divide(2)[1])


def test_parts_of_different_jobs_and_parts_without_order_are_refused(job: Parts) -> None:
    first, second = job.divide(2)
    job.run("hot.jsonl", "--shard", "1/2", "--temperature", 1)
    assert "different parameters" in refusal(job, first, job.folder / "hot.jsonl")
    job.run("loose.jsonl", "--shard", "1/2", "--unordered")
    assert "was made with --unordered" in refusal(job, first, job.folder / "loose.jsonl")
    with job.rows.open("ab") as file:
        file.write(instructions("one more"))
    job.run("longer.jsonl", "--shard", "1/2")
    assert "different INPUT" in refusal(job, first, job.folder / "longer.jsonl")
    assert codesynth("join", first, second).code == 0


def test_a_part_that_is_not_finished_or_has_no_journal_is_refused(job: Parts) -> None:
    first, second = job.divide(2)
    job.endpoint.plan = lambda request: replace(fates(request), delay=0.3)
    job.run("early.jsonl", "--shard", "1/2", "--max-time", 0, "-j", 1, code=5)
    assert "is not finished" in refusal(job, first, job.folder / "early.jsonl")
    second.with_suffix(".journal").unlink()
    assert "cannot be joined without its journal" in refusal(job, first, second)


def test_a_file_that_was_changed_is_refused_and_no_part_is_overwritten(job: Parts) -> None:
    first, second = job.divide(2)
    for changed in (second, second.with_suffix(".failures.jsonl")):
        before = changed.read_bytes()
        for after in (before + b"{}\n", before[: before.rindex(b"\n", 0, -1) + 1], b"", None):
            changed.unlink() if after is None else changed.write_bytes(after)
            assert "has other rows than before" in refusal(job, first, second, "--overwrite")
        changed.write_bytes(before)
    before = first.read_bytes()
    for options in ((first, second, "-o", first, "--overwrite"), (first, "-o", job.rows), ("-",)):
        assert codesynth("join", *options).code == 2
    assert first.read_bytes() == before


# A job that is divided anew: nothing is bought again.


def also(parts: Iterable[Path]) -> list[object]:
    return [word for part in parts for word in ("--also-journal", part.with_suffix(".journal"))]


def paid(job: Parts) -> int:
    """Count the requests that were answered: a refused one costs nothing and is asked again."""
    return sum(not each.prompt.endswith("refused") for each in job.endpoint.received)


def test_four_parts_become_six_and_then_one(job: Parts) -> None:
    four = job.divide(4, "--samples", 2)
    bought = paid(job)
    six = job.divide(6, "--samples", 2, *also(four))
    for part in four:  # what was used is in the journals of the six
        part.with_suffix(".journal").unlink()
    job.run("whole.jsonl", "--samples", 2, *also(six))
    assert paid(job) == bought
    assert codesynth("join", *six, "-o", job.folder / "joined.jsonl").code == 0
    assert job.bytes_of("joined.jsonl") == job.bytes_of("whole.jsonl")


def test_wrong_further_journals_are_refused(job: Parts) -> None:
    job.run("first.jsonl")
    nothing = ("--also-journal", job.folder / "nothing.journal")
    assert "cannot read" in job.run("second.jsonl", *nothing, code=1)
    assert "not a database" in job.run("second.jsonl", "--also-journal", job.rows, code=1)
    no_own = codesynth("gen-code", job.rows, "--offline", "--also-journal", job.rows)
    assert (no_own.code, "--also-journal needs --output or --journal" in no_own.err) == (2, True)


# How far parts are.


def status(*args: object) -> Any:
    done = codesynth("status", *args, "--json")
    assert done.code == 0, done.err
    return done.rows[0]


def test_finished_parts_are_counted_and_added_up(job: Parts) -> None:
    parts = job.divide(2)
    found = status(*parts, "--price", "1,2")
    rows = [part.read_bytes().count(b"\n") for part in parts]
    assert [each["done"] for each in found["parts"]] == rows
    total = found["total"]
    assert (total["done"], total["rejected"], total["pending"]) == (sum(rows), 2, 0)
    assert total["done"] + total["failed"] + total["rejected"] == 35
    answered = [each for each in job.endpoint.received if not each.prompt.endswith("refused")]
    assert total["tokens"] == 18 * len(answered)
    assert total["cost"] == pytest.approx(len(answered) * (11 * 1 + 7 * 2) / 1e6)
    assert {each["state"] for each in found["parts"]} == {"finished"}
    journals = status(*(part.with_suffix(".journal") for part in parts), "--price", "1,2")
    assert journals["total"] | {"last_change": 0} == total | {"last_change": 0}


def test_the_table_has_a_line_for_each_part_and_one_for_all(job: Parts) -> None:
    part, _ = job.divide(2)
    table = codesynth("status", part, "nothing.jsonl").out.decode().splitlines()
    assert table[0].split("  ")[0] == "PART"
    assert [line.split("  ")[0] for line in table[1:]] == [str(part), "nothing.jsonl", "total of 2"]
    assert "not begun" in table[2]
    assert len({len(line) for line in table}) == 1


def idle_seconds(log: Path) -> int:
    """Count the lines of a log since all but one of 41 rows were answered."""
    counts = [(each["rows"], each["answered"]) for each in rows_of(log)] if log.exists() else []
    return counts.count((41, 40))


def test_a_running_part_is_counted_and_not_disturbed(tmp_path: Path, endpoint: Endpoint) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(instructions(*(str(i) for i in range(40)), "slow"))
    log = tmp_path / "log.jsonl"
    command = ("gen-code", rows, "-t", bare(tmp_path), "-j", 8, "-o", out, "--log-json", log)
    looked = threading.Event()
    endpoint.plan = lambda request: held(
        echo(request), lambda: request.prompt != "slow" or looked.is_set()
    )
    with started(*command, endpoint=endpoint) as process:
        wait_for(lambda: idle_seconds(log) >= 1)
        found = read_status(str(out))
        wait_for(lambda: idle_seconds(log) >= 3)
        later = read_status(str(out))
        looked.set()
        assert (found["state"], found["pending"], found["failed"]) == ("running", 1, 0)
        assert later == found  # also the moment of the last change
        while process.poll() is None:
            assert read_status(str(out))["done"] in (40, 41)
        assert process.returncode == 0
    assert read_status(str(out))["state"] == "finished"


def test_what_has_no_status_is_told_in_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "out.journal"
    damaged.write_bytes(b"x" * 5000)
    for path, code, words in (
        (damaged, 1, "damaged"),
        (".", 2, '"." is not the name'),
        ("-", 2, ""),
    ):
        done = codesynth("status", path)
        assert (done.code, words in done.err, done.err.count("\n")) == (code, True, 1)


# The log.


def test_a_log_gets_a_line_a_second_and_the_counts_at_the_end(job: Parts) -> None:
    log = job.folder / "log.jsonl"
    log.write_text('{"of": "an earlier run"}\n')
    job.run("out.jsonl", "--log-json", log, "--price", "1,2")
    _, first, *_, last = rows_of(log)
    assert (first["rows"], first["complete"]) == (0, False)
    assert (last["rows"], last["total"], last["complete"]) == (35, 35, True)
    assert last["failed"] == {"invalid_json": 1, "missing_key": 1, "empty": 6, "rejected": 6}
    assert (last["rejected"], last["ok"]) == ({"contaminated": 2}, 35 - 14 - 2)
    assert (last["in_flight"], last["tokens"]["prompt_tokens"]) == (0, 11 * last["attempts"] - 66)
    assert last["cost"] == pytest.approx((last["attempts"] - 6) * (11 + 14) / 1e6)


def test_a_log_that_cannot_be_written_is_told_before_anything_is_asked(job: Parts) -> None:
    before = job.rows.read_bytes()
    for log, code in ((job.folder / "no" / "folder", 1), (job.rows, 2)):
        assert str(log) in job.run("out.jsonl", "--log-json", log, code=code)
    assert (job.rows.read_bytes(), job.endpoint.received) == (before, [])
