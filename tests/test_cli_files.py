"""Files that the command reads and writes: names, gzip, what is refused before it does harm."""

import gzip
import json
from pathlib import Path

from support.command import codesynth, instructions
from support.endpoint import Endpoint


def test_the_output_has_its_name_when_it_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    done = codesynth("gen-code", "--offline", "-o", out, stdin=instructions("a") + b"bad\n")
    assert (done.code, done.out) == (3, b"")
    names = {"out.jsonl", "out.failures.jsonl", "out.journal"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert json.loads(out.read_bytes())["instruction"] == "a"


def test_gzip_goes_in_and_out(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(instructions("a", "b")))
    out = tmp_path / "out.jsonl.gz"
    options = ("gen-code", tmp_path / "in.jsonl.gz", "-o", out)
    assert codesynth(*options, endpoint=endpoint).code == 0
    rows = [json.loads(line) for line in gzip.decompress(out.read_bytes()).splitlines()]
    assert [row["instruction"] for row in rows] == ["a", "b"]
    before = out.read_bytes()
    assert codesynth(*options, endpoint=endpoint).code == 0
    assert out.read_bytes() == before
    assert len(endpoint.received) == 2


def test_no_failures_no_failures_file_unless_it_is_named(tmp_path: Path) -> None:
    for options in ((), ("--failures", tmp_path / "named.jsonl")):
        out = tmp_path / f"out{len(options)}.jsonl"
        codesynth("gen-code", "--offline", "-o", out, *options, stdin=instructions("a"))
    assert not list(tmp_path.glob("*.failures.jsonl"))
    assert (tmp_path / "named.jsonl").read_bytes() == b""


def test_no_file_is_used_for_two_things(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_bytes(instructions("a"))
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
        assert rows.read_bytes() == instructions("a")
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "link.jsonl"}


def test_an_input_that_cannot_be_read_is_told_before_anything_is_begun(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(instructions("a"))
    for path in (tmp_path / "none.jsonl", tmp_path):
        out = tmp_path / "out.jsonl"
        done = codesynth("gen-code", tmp_path / "rows.jsonl", path, "-o", out, endpoint=endpoint)
        assert (done.code, endpoint.received, endpoint.others) == (1, [], [])
        assert done.err.startswith(f"codesynth: cannot read {path}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_cut_gzip_stream_stops_the_run_after_its_rows(endpoint: Endpoint) -> None:
    stdin = gzip.compress(instructions(*"abcdefgh"), mtime=0)[:-9]
    done = codesynth("gen-code", stdin=stdin, endpoint=endpoint)
    assert (done.code, done.out.count(b"\n") == len(done.rows)) == (1, True)
    assert "cannot read further: " in done.err


def test_an_output_that_is_no_regular_file_has_no_journal(tmp_path: Path) -> None:
    out = tmp_path / "null"
    out.symlink_to("/dev/null")
    assert codesynth("gen-code", "--offline", "-o", out, stdin=instructions("a")).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["null"]
    done = codesynth("gen-code", "--offline", "--batch", "-o", out, stdin=instructions("a"))
    assert (done.code, "is no regular file. Name a --journal" in done.err) == (2, True)


def test_a_run_that_cannot_ask_for_its_first_row_leaves_no_empty_file(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("{instruction} {none}")
    options = ("gen-code", "--offline", "-t", tmp_path / "t.txt", "-o", tmp_path / "out.jsonl")
    assert codesynth(*options, stdin=instructions("a")).code == 2
    assert not list(tmp_path.glob("*.partial"))
