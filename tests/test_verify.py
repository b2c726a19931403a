"""``codesynth verify`` as a command: what it keeps, where the rest goes, how it ends."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from support.command import Finished, codesynth, lines, started
from support.files import rows_of
from support.parts import wait_for
from support.verify import commands_with

from codesynth.errors import ConfigError
from codesynth.verify import SandboxServing, SandboxSettings

STUB = 'def one() -> int:\n    """Return one.\n\n    >>> one()\n    1\n    """'
GOOD = {"instruction": STUB, "generated_code": "def one():\n    return 1"}
BAD = {"instruction": STUB, "generated_code": "def one():\n    return 2"}
BROKEN = {"instruction": STUB, "generated_code": "def one(:"}
SLEEPY = {"generated_code": "import time\ntime.sleep(3600)"}


@pytest.fixture(scope="module", autouse=True)
def _sandboxed() -> None:
    """Skip where no sandbox can be made."""
    try:
        SandboxServing(SandboxSettings(), 1)
    except ConfigError as exc:
        pytest.skip(str(exc))


def verify(*args: object, **more: Any) -> Finished:
    """Verify with one sandbox, which starts soonest."""
    return codesynth("verify", "-j", 1, *args, **more)


def test_the_column_is_added_and_the_row_passes_byte_for_byte() -> None:
    row = b'{"big": 123456789012345678901234567890, "generated_code":"x = 1" , "f": 1e400}'
    done = verify(stdin=row + b"\n")
    assert done.code == 0
    assert done.out.startswith(row[:-1] + b',"verification":{"status":"no_tests"')
    assert "1 rows have no tests" in done.err
    assert "--test-key" in done.err


def test_rows_that_are_not_kept_are_rejected_and_not_failed(tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    stdin = lines(GOOD, BAD, BROKEN)
    done = verify("--keep", "passed", "--failures", failures, stdin=stdin)
    assert done.code == 0
    assert [row["verification"]["status"] for row in done.rows] == ["passed"]
    wrong, torn = rows_of(failures)
    assert (wrong["line"], wrong["error"]["kind"], wrong["input"]) == (2, "not_kept", BAD)
    words = "failed: AssertionError: >>> one() expected 1, got 2"
    assert wrong["error"]["message"] == words
    assert json.loads(torn["answer"])["status"] == "syntax_error"
    assert "3 in: 1 ok, 2 rejected, 0 failed" in done.err
    assert "1 passed, 1 failed, 1 syntax_error" in done.err
    assert f"first rejected: line 2: {words}" in done.err


def test_best_keeps_the_first_of_each_instruction_that_passed(tmp_path: Path) -> None:
    other = {column: text.replace("one", "uno") for column, text in GOOD.items()}
    alone = {"generated_code": "x = 1", "generated_tests": "assert x"}  # has no instruction
    rows = [{**row, "n": n} for n, row in enumerate([BAD, GOOD, GOOD, other, other, alone, alone])]
    failures = tmp_path / "failures.jsonl"
    done = verify("--best", "--failures", failures, stdin=lines(*rows))
    assert [row["n"] for row in done.rows] == [1, 3, 5, 6]
    assert [row["line"] for row in rows_of(failures)] == [1, 3, 5]


def test_bad_lines_are_failures_in_their_place(tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    bad = {"code": 1}, {**GOOD, "verification": 1}, {"generated_code": ["x"]}
    done = verify("--failures", failures, stdin=b"no json\n" + lines(*bad, GOOD))
    assert (done.code, len(done.rows)) == (3, 1)
    kinds = [row["error"]["kind"] for row in rows_of(failures)]
    assert kinds == ["invalid_json", "missing_key", "existing_key", "not_a_string"]
    assert "first failure: <stdin>:1: invalid_json" in done.err
    done = verify("--input-key", "generated_cod", stdin=lines(GOOD))
    assert (done.code, 'missing key "generated_cod"; found "' in done.err) == (3, True)


def test_rows_in_another_language_and_a_column_that_no_row_has_are_told_once() -> None:
    row = {"generated_code": "function one() {\n  return 1;\n}"}
    done = verify("--test-key", "tst", stdin=lines(row, row))
    assert [each["verification"]["status"] for each in done.rows] == ["unsupported"] * 2
    assert done.err.count("2 rows are not Python") == 1
    assert '2 rows have no column "tst". Is --test-key right?' in done.err


def test_the_first_instruction_column_is_taken_unless_one_is_named() -> None:
    wrong = STUB.replace("    1\n", "    2\n")
    row = {"code": "def one():\n    return 1", "prompt": wrong, "question": wrong}
    stdin = lines({**row, "generated_instruction": STUB})
    command = ("--input-key", "code", "--output-key")
    first = verify(*command, "checked", stdin=stdin).rows[0]["checked"]
    named = verify(*command, "v", "--instruction-key", "question", stdin=stdin).rows[0]["v"]
    assert (first["status"], named["status"]) == ("passed", "failed")


def test_a_rerun_repeats_quietly_but_not_with_fewer_rows(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    for _ in range(2):
        assert verify("-o", out, stdin=lines(GOOD, BAD)).code == 0
    done = verify("--pairs", "-o", out, stdin=lines(GOOD, BAD))
    assert (done.code, "these differ: choice of rows." in done.err) == (2, True)
    done = verify("-o", out, stdin=lines(GOOD))
    assert (done.code, "has 2 rows, but this run would write only 1" in done.err) == (2, True)
    assert (len(rows_of(out)), len(rows_of(tmp_path / "out.jsonl.partial"))) == (2, 1)
    assert verify("-o", out, "--overwrite", stdin=lines(GOOD)).code == 0
    assert len(rows_of(out)) == 1


def test_a_kill_ends_the_sandboxes_and_the_same_command_starts_afresh(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(lines(GOOD, GOOD, SLEEPY))
    partial = out.with_name("out.jsonl.partial")
    with started("verify", source, "-o", out, "-j", 1, "--timeout", 671.25) as process:
        wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
        assert commands_with('"timeout": 671.25')
        process.kill()
    wait_for(lambda: not commands_with('"timeout": 671.25'))
    assert partial.stat().st_size
    source.write_bytes(lines(GOOD))
    assert verify(source, "-o", out).code == 0
    assert (len(rows_of(out)), partial.exists()) == (1, False)


def test_an_interrupt_ends_the_rows_that_run(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(lines(GOOD, *[SLEEPY] * 4))
    partial = out.with_name("out.jsonl.partial")
    with started("verify", source, "-o", out, "-j", 2, "--timeout", 3000) as process:
        wait_for(lambda: partial.exists() and partial.stat().st_size > 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130
    assert (out.exists(), len(rows_of(partial))) == (False, 1)


def test_without_bubblewrap_it_exits_2_and_says_what_to_install(tmp_path: Path) -> None:
    done = verify(stdin=lines(GOOD), env={"PATH": str(tmp_path)})
    assert (done.code, done.out) == (2, b"")
    assert "Install bubblewrap" in done.err
    assert verify("--unsafe", stdin=lines(GOOD), env={"PATH": str(tmp_path)}).code == 0


def test_the_offline_pipe_yields_only_rows_whose_doctests_pass() -> None:
    seeds = Path(__file__).parents[1] / "samples" / "seeds.jsonl"
    new = codesynth("gen-instructions", seeds, "-n", 20, "--seed", 1, "--offline")
    code = codesynth("gen-code", "--offline", "--samples", 2, stdin=new.out)
    kept = codesynth("verify", "--best", stdin=code.out)
    assert len(kept.rows) > 10
    assert all(row["verification"]["tests_passed"] > 1 for row in kept.rows)
