"""Rows and files of the command: what passes, what fails, and that each row ends in one place."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from support.command import ONE, bare, codesynth, finished, gen_code, instructions, lines
from support.endpoint import Endpoint
from support.faults import FAULTS, Mixed
from support.files import rows_of
from support.replies import code_for, completion, error


class Rows:
    """Runs gen-code over lines."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        self.endpoint, self.failures = endpoint, folder / "failed.jsonl"
        self.options = ("-t", bare(folder), "--failures", self.failures)

    def run(self, stdin: bytes, *options: object, code: int = 0) -> tuple[bytes, list[Any]]:
        """Return the output and the failures."""
        args = ("gen-code", *self.options, *options)
        done = codesynth(*args, stdin=stdin, endpoint=self.endpoint)
        assert done.code == code, done.err
        return done.out, rows_of(self.failures)


@pytest.fixture
def rows(endpoint: Endpoint, tmp_path: Path) -> Rows:
    return Rows(endpoint, tmp_path)


def test_a_line_of_20_mb_passes_whole(rows: Rows) -> None:
    stdin = b'{"big":"%s","instruction":"a"}\n' % (b"\\n\xc3\xa9" * 5_000_000) + instructions("b")
    out, failed = rows.run(stdin)
    first, second = out.splitlines()
    assert first[: len(first) - 60].startswith(stdin[:20_000_000])
    assert (second.count(b"generated_code"), failed) == (1, [])


BAD = {
    b'{"instruction": "a"': "invalid_json",
    b'{"instruction": "a"} {}': "invalid_json",
    b'{"instruction": NaN}': "invalid_json",
    b'{"instruction": "\xff"}': "invalid_json",
    b'{"instruction": "\xed\xa0\x80"}': "invalid_json",
    b'{"instruction": "\x00"}': "invalid_json",
    b"\x00": "invalid_json",
    b"[" * 100_000: "invalid_json",
    b"\xef\xbb\xbf{}": "invalid_json",
    b'["instruction"]': "not_an_object",
    b'"instruction"': "not_an_object",
    b"null": "not_an_object",
    b"12": "not_an_object",
    b"{}": "missing_key",
    b'{"Instruction": "a"}': "missing_key",
    b'{"input": {"instruction": "a"}, "error": {"kind": "empty"}}': "missing_key",
    b'{"instruction": null}': "not_a_string",
    b'{"instruction": ["a"]}': "not_a_string",
    b'{"instruction": "a", "generated_code": null}': "existing_key",
}


def test_a_bad_line_is_a_failure_with_its_number_and_stops_nothing(rows: Rows) -> None:
    stdin = instructions("a") + b"\n".join(BAD) + b"\n" + instructions("b")
    out, failures = rows.run(stdin, code=3)
    assert len(out.splitlines()) == 2
    assert [f["error"]["kind"] for f in failures] == list(BAD.values())
    assert [f["line"] for f in failures] == list(range(2, len(BAD) + 2))
    for raw, failure in zip(BAD, failures, strict=True):
        assert failure["error"]["attempts"] == 0
        is_text = failure["error"]["kind"] in ("invalid_json", "not_an_object")
        given = raw.decode("utf-8", "backslashreplace") if is_text else json.loads(raw)
        assert failure["input"] == given
    assert rows.endpoint.counts == {"a": 1, "b": 1}


def test_a_failure_line_keeps_the_rows_bytes_and_the_answer(rows: Rows) -> None:
    rows.endpoint.plan = lambda request: (
        error(400, "too long") if request.prompt == "a" else completion("half", "length")
    )
    out, failed = rows.run(b'{"n":1.0,"instruction":"a"}\n{"n":1.0,"instruction":"b"}\n', code=3)
    first, second = rows.failures.read_bytes().splitlines()
    assert first == (
        b'{"input":{"n":1.0,"instruction":"a"},"line":1,"error":'
        b'{"kind":"rejected","message":"too long","status":400,"attempts":1}}'
    )
    assert second.startswith(b'{"input":{"n":1.0,"instruction":"b"},"line":2,"error":')
    assert second.endswith(b'"status":200,"attempts":1},"answer":"half"}')
    assert (out, failed[1]["error"]["kind"]) == (b"", "truncated")


def test_a_generation_that_fails_is_told_with_its_examples(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.plan = FAULTS["refusal"].plan
    failures = tmp_path / "failed.jsonl"
    options = ("-n", 2, "-k", 2, "--seed", 1, "--failures", failures)
    stdin = lines({"prompt": "a"}, {"prompt": 1}, {"prompt": "c"})
    done = codesynth("gen-instructions", *options, stdin=stdin, endpoint=endpoint)
    bad, *refused = rows_of(failures)
    assert done.code == 3
    assert (bad["line"], bad["error"]["kind"], bad["input"]) == (2, "not_a_string", {"prompt": 1})
    for number, failure in enumerate(refused):
        assert (failure["error"]["kind"], failure["line"]) == ("refused", None)
        assert failure["input"]["generation"] == number
        assert sorted(failure["input"]["examples"]) == [1, 3]


TEXTS = (
    *("lone_surrogate", "astral", "nul_in_text", "line_separators", "terminal_escapes"),
    *("content_parts_split", "reasoning_beside_text", "two_choices"),
)


def test_whatever_the_text_of_an_answer_the_row_is_one_line_of_json(rows: Rows) -> None:
    rows.endpoint.plan = lambda request: FAULTS[request.prompt].plan(request)
    out, _ = rows.run(instructions(*TEXTS))
    for name, line in zip(TEXTS, out.decode().splitlines(), strict=True):
        text = FAULTS[name].text(name)
        code_of = text[text.index("python\n") + 7 : text.rindex("\n```")]
        assert json.loads(line) == {"instruction": name, "generated_code": code_of}


def test_inputs_follow_one_another_and_equal_rows_are_asked_each(
    rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "one.jsonl").write_bytes(instructions("a", "b"))
    (tmp_path / "two.gz").write_bytes(gzip.compress(instructions("c")) * 2)
    (tmp_path / "three.jsonl").write_bytes(b'\xef\xbb\xbf{"x":1}')
    paths = tmp_path / "one.jsonl", tmp_path / "two.gz", "-", tmp_path / "three.jsonl"
    out, failed = rows.run(instructions("d"), *paths, code=3)
    assert [json.loads(line)["instruction"] for line in out.splitlines()] == list("abccd")
    assert (failed[0]["line"], rows.endpoint.counts["c"]) == (1, 2)


def test_600_rows_on_a_bad_day_end_once_each_in_order_with_the_right_kinds(tmp_path: Path) -> None:
    day = Mixed(seed=7, latency=0.002, hanging=0, stubborn=0.02)
    prompts = [f"row {i}" for i in range(600)]
    out = tmp_path / "out.jsonl"
    options = ("-t", bare(tmp_path), "-o", out, "-j", 64, "--max-retries", 2)
    with Endpoint(day, keep=False) as endpoint:
        done = finished("gen-code", *options, stdin=instructions(*prompts), endpoint=endpoint)
    expected = {prompt: day.expected(prompt) for prompt in prompts}
    rows, failed = rows_of(out), rows_of(tmp_path / "out.failures.jsonl")
    good = [prompt for prompt, kind in expected.items() if kind == "ok"]
    bad = [(i + 1, kind) for i, kind in enumerate(expected.values()) if kind != "ok"]
    assert [row["instruction"] for row in rows] == good
    assert all(row["generated_code"] == code_for(row["instruction"]) for row in rows)
    assert [(f["line"], f["error"]["kind"]) for f in failed] == bad
    assert done.code == 3
    assert f"600 in: {len(good)} ok, {len(bad)} failed, " in done.err
    assert len({kind for _, kind in bad}) > 5


# Files.


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
    out.write_bytes(before[:-5])
    damaged = codesynth(*options, endpoint=endpoint)
    assert (damaged.code, "is cut or damaged. Replace it with --overwrite" in damaged.err) == (
        1,
        True,
    )
    assert codesynth(*options, "--overwrite", endpoint=endpoint).code == 0
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
