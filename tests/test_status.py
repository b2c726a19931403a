"""``codesynth status``: how far parts are, while they run and afterwards."""

import threading
from pathlib import Path
from typing import Any

import pytest
from support.command import bare, codesynth, instructions, started
from support.endpoint import Endpoint
from support.parts import Parts, wait_for
from support.replies import echo, held

from codesynth.scale.status import read_status


@pytest.fixture
def job(tmp_path: Path, endpoint: Endpoint) -> Parts:
    return Parts(tmp_path, endpoint)


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


def test_a_running_part_is_counted_and_not_disturbed(tmp_path: Path, endpoint: Endpoint) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(instructions(*(str(i) for i in range(40)), "slow"))
    command = ("gen-code", rows, "-t", bare(tmp_path), "-j", 8, "-o", out)
    looked = threading.Event()
    endpoint.plan = lambda request: held(
        echo(request), lambda: request.prompt != "slow" or looked.is_set()
    )
    with started(*command, endpoint=endpoint) as process:
        wait_for(lambda: read_status(str(out))["pending"] == 1)
        found = read_status(str(out))
        assert (found["state"], found["pending"], found["failed"]) == ("running", 1, 0)
        looked.set()
        while process.poll() is None:
            assert read_status(str(out))["done"] in (40, 41)
        assert process.returncode == 0
    assert read_status(str(out))["state"] == "finished"


def test_an_output_without_journal_is_counted_by_its_lines(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert read_status(str(out))["state"] == "not begun"
    (tmp_path / "out.jsonl.partial").write_bytes(b"{}\n{}\n")
    assert read_status(str(out)) | {"last_change": 0} == {
        "part": str(out),
        "state": "unfinished",
        "done": 2,
        **dict.fromkeys(("failed", "rejected", "pending", "tokens", "cost", "rows_per_second")),
        "last_change": 0,
    }
    out.write_bytes(b"{}\n" * 3)
    assert (read_status(str(out))["state"], read_status(str(out))["done"]) == ("finished", 3)


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
