"""Files that the command reads and writes: names, gzip, what is refused before it does harm."""

import gzip
from pathlib import Path

from support.command import ONE, codesynth, gen_code, instructions
from support.endpoint import Endpoint
from support.files import rows_of


def test_the_output_has_its_name_when_it_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = gen_code(None, "--offline", "-o", out, stdin=ONE + b"bad\n")
    assert (done.code, done.out) == (3, b"")
    names = {"out.jsonl", "out.failures.jsonl", "out.journal"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert rows_of(out)[0]["instruction"] == "a"


def test_gzip_goes_in_and_out(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(instructions("a", "b")))
    out = tmp_path / "out.jsonl.gz"
    options = ("gen-code", tmp_path / "in.jsonl.gz", "-o", out)
    assert codesynth(*options, endpoint=endpoint).code == 0
    assert [row["instruction"] for row in rows_of(out)] == ["a", "b"]
    before = out.read_bytes()
    assert codesynth(*options, endpoint=endpoint).code == 0
    assert out.read_bytes() == before
    assert len(endpoint.received) == 2


def test_no_file_is_used_for_two_things(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(ONE)
    (tmp_path / "link.jsonl").symlink_to(rows)
    for options in (
        ("-o", rows),
        ("-o", tmp_path / "link.jsonl"),
        ("-o", rows, "--overwrite"),
        ("--failures", rows),
        ("-o", out, "--failures", rows),
        ("-o", out, "--failures", out),
        ("-o", out, "--journal", rows),
        ("-o", out, "--journal", rows, "--overwrite"),
        ("-o", out, "--journal", out),
        ("-o", tmp_path / "out.journal"),
        ("--failures", "-"),
    ):
        done = codesynth("gen-code", rows, "--offline", *options)
        assert (options, done.code, done.out) == (options, 2, b"")
        assert len(done.err.splitlines()) == 1
        assert rows.read_bytes() == ONE
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "link.jsonl"}


def test_an_input_that_cannot_be_read_is_told_before_anything_is_begun(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(ONE)
    for path in (tmp_path / "none.jsonl", tmp_path):
        out = tmp_path / "out.jsonl"
        done = codesynth("gen-code", tmp_path / "rows.jsonl", path, "-o", out, endpoint=endpoint)
        assert (done.code, endpoint.received, endpoint.others) == (1, [], [])
        assert done.err.startswith(f"codesynth gen-code: cannot read {path}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_output_that_is_no_regular_file_has_no_journal(tmp_path: Path) -> None:
    out = tmp_path / "null"
    out.symlink_to("/dev/null")
    assert gen_code(None, "--offline", "-o", out).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["null"]
    done = gen_code(None, "--offline", "--batch", "-o", out)
    assert (done.code, "is no regular file. Name a --journal" in done.err) == (2, True)
