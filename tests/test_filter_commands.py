"""The filters of ``gen-instructions`` and ``gen-code`` as commands: what passes, what is said."""

import gzip
import re
from pathlib import Path

import pytest
from support.command import codesynth, lines, started
from support.files import rows_of
from support.parts import wait_for

SEEDS = Path(__file__).parents[1] / "samples" / "seeds.jsonl"
NEW = ("gen-instructions", SEEDS, "--seed", 3, "--offline")
STRICT = ("--novelty", 0.55)
"""Strict enough that the practice problems, which are alike, are rejected now and then."""


def test_rejected_rows_name_what_they_resemble_and_are_no_failures(tmp_path: Path) -> None:
    out, failures = tmp_path / "new.jsonl", tmp_path / "new.failures.jsonl"
    done = codesynth(*NEW, *STRICT, "-n", 60, "-o", out)
    rejected = rows_of(failures)
    assert (done.code, len(rows_of(out)) + len(rejected)) == (0, 60)
    assert f"{len(rejected)} rejected" in done.err
    assert rejected
    for error in (row["error"] for row in rejected):
        assert error["kind"] == "duplicate"
        assert re.match("(ROUGE-L 0\\.|the same as ).* row ", error["message"])


def test_the_same_are_accepted_whatever_j_is(tmp_path: Path) -> None:
    kept = []
    for jobs in (1, 64):
        out = tmp_path / f"{jobs}.jsonl"
        codesynth(*NEW, *STRICT, "--accepted", 40, "-j", jobs, "-o", out)
        kept.append((out.read_bytes(), out.with_suffix(".failures.jsonl").read_bytes()))
    assert kept[0] == kept[1]
    assert kept[0][0].count(b"\n") == 40


def test_after_a_kill_the_same_are_accepted(tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    command = (*NEW, *STRICT, "--accepted", 30)
    codesynth(*command, "-o", whole)
    partial = out.with_name("out.jsonl.partial")
    slow = {"CODESYNTH_OFFLINE": "latency=1"}
    with started(*command, "-j", 1, "-o", out, env=slow) as process:
        wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
        process.kill()
    assert not out.exists()
    assert codesynth(*command, "-o", out).code == 0
    assert out.read_bytes() == whole.read_bytes()
    failures = [path.with_suffix(".failures.jsonl").read_bytes() for path in (out, whole)]
    assert failures[0] == failures[1]


def test_an_exhausted_pool_ends_the_asking_with_a_clear_word() -> None:
    pool = lines(*[{"prompt": "Add two numbers."}] * 3)
    command = ("gen-instructions", "--offline", "--novelty", 0.05, "--accepted", 50)
    done = codesynth(*command, "--seed", 1, stdin=pool)
    assert len(done.rows) < 50
    assert "the pool is exhausted" in done.err


def test_each_shard_judges_its_own_rows() -> None:
    for i in range(2):
        shard = (*NEW, "--shard", f"{i}/2", "-n", 40)
        part, asked = (codesynth(*shard, *strict).rows for strict in (STRICT, ()))
        assert 0 < len(part) <= len(asked) == 20
        assert all(row in asked for row in part)


@pytest.mark.parametrize("option", [("--shard", "0/2"), ("--dry-run",), ("--unordered",)])
def test_an_open_number_of_rows_does_not_go_with_some_options(option: tuple[str, ...]) -> None:
    done = codesynth(*NEW, "--accepted", 3, *option)
    assert (done.code, f"--accepted and {option[0]} exclude each other" in done.err) == (2, True)


def test_examples_are_mixed_of_human_written_and_generated_rows(tmp_path: Path) -> None:
    made = tmp_path / "made.jsonl"
    codesynth(*NEW, "-n", 5, "-o", made)
    command = ("gen-instructions", SEEDS, made, "--seed", 1, "--offline", "-n", 4, "--meta")
    rows = codesynth(*command, "--mix", "3:2").rows
    assert len(rows) == 4
    assert all(len(row["_codesynth"]["examples"]) == 5 for row in rows)
    assert codesynth(*command, "--mix", "3:2").rows == rows
    short = codesynth("gen-instructions", SEEDS, "--offline", "--mix", "6:2")
    words = (
        'the pool has 0 usable rows with the column "generated_instruction", but a prompt takes 2'
    )
    assert (short.code, words in short.err) == (2, True)


def test_what_a_benchmark_says_is_neither_asked_for_nor_kept(tmp_path: Path) -> None:
    benchmark, failures = tmp_path / "benchmark.jsonl.gz", tmp_path / "failures.jsonl"
    new = codesynth(*NEW, "-n", 3).rows
    said = {"task_id": "Bench/7", "prompt": new[1]["generated_instruction"].upper()}
    with gzip.open(benchmark, "wb") as file:
        file.write(lines(said))
    options = ("--decontaminate", benchmark, "--failures", failures)
    kept = codesynth(*NEW, "-n", 3, *options)
    assert (kept.code, kept.rows) == (0, [new[0], new[2]])
    error = rows_of(failures)[0]["error"]
    assert (error["kind"], "Bench/7" in error["message"]) == ("contaminated", True)
    code = codesynth("gen-code", "--offline", *options, stdin=lines(*new))
    asked = [row["generated_instruction"] for row in code.rows]
    assert asked == [new[i]["generated_instruction"] for i in (0, 2)]
    assert rows_of(failures)[0]["error"]["attempts"] == 0
    benchmark.write_bytes(gzip.compress(lines({**said, "task_id": "\ud800"})))
    done = codesynth(*NEW, "-n", 3, *options, "-o", tmp_path / "out.jsonl")
    assert (done.code, "1 rejected" in done.err) == (0, True)
    done = codesynth(*NEW, "--decontaminate", "none.jsonl")
    assert (done.code, "cannot read none.jsonl" in done.err) == (1, True)
