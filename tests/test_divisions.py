"""``--also-journal``: a job is divided anew, and nothing is bought again."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from support.command import bare, codesynth, instructions, started
from support.endpoint import Endpoint
from support.parts import Parts, wait_for
from support.replies import FOREVER, completion, echo

from codesynth.scale.status import read_status


@pytest.fixture
def job(tmp_path: Path, endpoint: Endpoint) -> Parts:
    return Parts(tmp_path, endpoint)


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


def test_an_answer_that_is_used_is_copied(job: Parts) -> None:
    job.run("first.jsonl")
    bought = paid(job)
    assert " from the journal" in job.run("second.jsonl", *also([job.folder / "first.jsonl"]))
    (job.folder / "first.journal").unlink()
    job.run("second.jsonl")
    assert paid(job) == bought


def test_a_killed_run_has_stopped_and_gives_its_answers(tmp_path: Path, endpoint: Endpoint) -> None:
    """The last of them are in the log beside its journal."""
    rows, first = tmp_path / "rows.jsonl", tmp_path / "first.jsonl"
    rows.write_bytes(instructions(*(str(i) for i in range(50)), "slow"))
    command = ("gen-code", rows, "-t", bare(tmp_path), "-j", 8, "-o")
    hold = completion("late", delay=FOREVER)
    endpoint.plan = lambda request: hold if request.prompt == "slow" else echo(request)
    with started(*command, first, endpoint=endpoint) as process:
        endpoint.wait_until(lambda e: len(e.counts) == 51)
        wait_for(lambda: first.with_suffix(".jsonl.partial").read_bytes().count(b"\n") == 50)
        assert read_status(str(first))["state"] == "running"
        process.kill()
    assert read_status(str(first))["state"] == "stopped"
    endpoint.plan = echo
    done = codesynth(*command, tmp_path / "second.jsonl", *also([first]), endpoint=endpoint)
    assert "50 from the journal" in done.err
    assert endpoint.counts.total() == 52


def test_wrong_further_journals_are_refused(job: Parts) -> None:
    job.run("first.jsonl")
    itself = also([job.folder / "first.jsonl"])
    assert "is the journal of this run itself" in job.run("first.jsonl", *itself, code=2)
    nothing = ("--also-journal", job.folder / "nothing.journal")
    assert "cannot read" in job.run("second.jsonl", *nothing, code=1)
    assert "not a database" in job.run("second.jsonl", "--also-journal", job.rows, code=1)
    no_own = codesynth("gen-code", job.rows, "--offline", *itself)
    assert (no_own.code, "--also-journal needs --output or --journal" in no_own.err) == (2, True)
