"""``codesynth verify`` as a command: what it keeps, where the rest goes, how it ends."""

import gzip
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from command import codesynth, lines, started

pytestmark = pytest.mark.usefixtures("sandboxed")

STUB = 'def one() -> int:\n    """Return one.\n\n    >>> one()\n    1\n    """'
GOOD = {"instruction": STUB, "generated_code": "def one():\n    return 1"}
BAD = {"instruction": STUB, "generated_code": "def one():\n    return 2"}
BROKEN = {"instruction": STUB, "generated_code": "def one(:"}
SLEEPY = {"generated_code": "import time\ntime.sleep(60)"}


def rows_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_the_column_is_added_and_the_row_passes_byte_for_byte() -> None:
    row = b'{"big": 123456789012345678901234567890, "generated_code":"x = 1" , "f": 1e400}'
    done = codesynth("verify", stdin=row + b"\n")
    assert done.code == 0
    assert done.out.startswith(row[:-1] + b',"verification":{"status":"no_tests"')


def test_keep_filters_and_the_rest_goes_to_the_failures(tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    stdin = lines(GOOD, BAD, BROKEN)
    done = codesynth("verify", "--keep", "passed", "--failures", failures, stdin=stdin)
    assert done.code == 3
    assert [row["verification"]["status"] for row in done.rows] == ["passed"]
    wrong, torn = rows_of(failures)
    assert (wrong["line"], wrong["error"]["kind"]) == (2, "not_kept")
    assert wrong["error"]["message"] == "failed: >>> one() expected 1, got 2"
    assert torn["input"]["verification"]["status"] == "syntax_error"
    assert "3 in: 1 ok, 2 failed" in done.err
    assert "1 passed, 1 failed, 1 syntax_error" in done.err


def test_all_rows_are_kept_where_nothing_else_is_said() -> None:
    done = codesynth("verify", stdin=lines(BAD, BROKEN, GOOD))
    statuses = [row["verification"]["status"] for row in done.rows]
    assert (done.code, statuses) == (0, ["failed", "syntax_error", "passed"])


def test_best_keeps_the_first_of_each_instruction_that_passed(tmp_path: Path) -> None:
    other = {
        "instruction": STUB.replace("one", "uno"),
        "generated_code": "def uno():\n    return 1",
    }
    stdin = lines(BAD, {**GOOD, "n": 1}, {**GOOD, "n": 2}, {**other, "n": 3}, {**other, "n": 4})
    failures = tmp_path / "failures.jsonl"
    done = codesynth("verify", "--best", "--failures", failures, stdin=stdin)
    assert [row["n"] for row in done.rows] == [1, 3]
    assert [row["line"] for row in rows_of(failures)] == [1, 3, 5]


def test_bad_lines_are_failures_in_their_place(tmp_path: Path) -> None:
    failures = tmp_path / "failures.jsonl"
    stdin = b"no json\n" + lines({"code": 1}, {**GOOD, "verification": 1}, GOOD)
    done = codesynth("verify", "--failures", failures, stdin=stdin)
    assert (done.code, len(done.rows)) == (3, 1)
    kinds = [row["error"]["kind"] for row in rows_of(failures)]
    assert kinds == ["invalid_json", "missing_key", "existing_key"]


def test_the_same_bytes_come_whatever_j_is() -> None:
    stdin = lines(*[GOOD, BAD, BROKEN] * 5)
    verdicts = []
    for jobs in (1, 3):
        rows = codesynth("verify", "-j", jobs, stdin=stdin).rows
        for row in rows:
            del row["verification"]["seconds"]
        verdicts.append(rows)
    assert verdicts[0] == verdicts[1]


def test_a_column_that_no_row_has_is_told() -> None:
    done = codesynth("verify", "--test-key", "tests", stdin=lines(GOOD))
    assert 'no row has a column "tests"' in done.err
    assert "no row" not in codesynth("verify", "--test-key", "instruction", stdin=b"").err


def test_after_a_kill_the_same_command_starts_afresh(tmp_path: Path) -> None:
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_bytes(lines(GOOD, GOOD, SLEEPY))
    partial = out.with_name("out.jsonl.partial")
    with started("verify", source, "-o", out, "-j", 1) as process:
        deadline = time.monotonic() + 20
        while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert partial.stat().st_size
    source.write_bytes(lines(GOOD))
    assert codesynth("verify", source, "-o", out).code == 0
    assert (len(rows_of(out)), partial.exists()) == (1, False)


@pytest.mark.parametrize("cut", [slice(10), slice(-9)])
def test_a_torn_gzip_file_of_its_own_is_replaced_too(tmp_path: Path, cut: slice) -> None:
    out = tmp_path / "out.jsonl.gz"
    row = {**GOOD, "verification": {"status": "passed"}}
    whole = gzip.compress(json.dumps(row, separators=(",", ":")).encode() * 50)
    out.with_name("out.jsonl.gz.partial").write_bytes(whole[cut])
    assert codesynth("verify", "-o", out, stdin=lines(GOOD)).code == 0
    assert gzip.decompress(out.read_bytes()).count(b'"passed"') == 1


def test_what_another_command_left_or_a_finished_output_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    partial = out.with_name("out.jsonl.partial")
    partial.write_bytes(lines({"generated_code": "an answer that was paid for"}))
    done = codesynth("verify", "-o", out, stdin=lines(GOOD))
    assert (done.code, "--overwrite" in done.err) == (2, True)
    assert b"paid for" in partial.read_bytes()
    partial.unlink()
    out.write_bytes(lines({"verification": {"status": "passed"}}))
    assert codesynth("verify", "-o", out, stdin=lines(GOOD)).code == 2
    assert codesynth("verify", "-o", out, "--overwrite", stdin=lines(GOOD)).code == 0
    assert len(rows_of(out)) == 1


def test_without_bubblewrap_it_exits_2_and_says_what_to_install(tmp_path: Path) -> None:
    done = codesynth("verify", stdin=lines(GOOD), env={"PATH": str(tmp_path)})
    assert (done.code, done.out) == (2, b"")
    assert "Install bubblewrap" in done.err
    assert codesynth("verify", "--unsafe", stdin=lines(GOOD), env={"PATH": str(tmp_path)}).code == 0


def test_the_offline_pipe_yields_only_rows_whose_doctests_pass() -> None:
    seeds = Path(__file__).parents[1] / "samples" / "seeds.jsonl"
    options = ("-n", 30, "--seed", 1, "--offline", "--novelty", 0.7, "--decontaminate", seeds)
    new = codesynth("gen-instructions", seeds, *options)
    code = codesynth("gen-code", "--offline", stdin=new.out)
    kept = codesynth("verify", "--keep", "passed", stdin=code.out)
    assert len(kept.rows) == len(new.rows) > 20
    assert all(row["verification"]["tests_passed"] > 1 for row in kept.rows)
