"""Rows through the command: what passes, what fails, and that each ends in one place."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.command import bare, codesynth, finished, instructions, lines
from support.endpoint import Endpoint
from support.faults import FAULTS, Mixed
from support.replies import code_for, completion, error


def outcome(endpoint: Endpoint, tmp_path: Path, stdin: bytes, *options: object) -> Any:
    """Run gen-code with a failures file; return (exit code, output, failures)."""
    failures = tmp_path / "failed.jsonl"
    done = codesynth(
        "gen-code",
        *("-t", bare(tmp_path), "--failures", failures, *options),
        stdin=stdin,
        endpoint=endpoint,
    )
    assert "Traceback" not in done.err
    return done.code, done.out, failures.read_bytes()


UNTOUCHED = {
    "big integer": '{"id":123456789012345678901234567890,"instruction":"a"}',
    "float": '{"x":1.10,"y":1E5,"z":-0.0,"w":1e400,"instruction":"a"}',
    "key order and spaces": '{ "z" : 1 ,\t"a":[ 1,2 ] , "instruction" : "a" }',
    "escapes": r'{"t":"\u00e9\/\ud83d\ude00\u0000","instruction":"a"}',
    "lone surrogate": r'{"t":"\ud800","instruction":"a"}',
    "line separators": '{"t":"\u2028\u2029\x85","instruction":"a"}',
    "doubled key": '{"t":1,"t":2,"instruction":"a"}',
    "empty key": '{"":null,"instruction":"a"}',
    "escaped key": r'{"\u0069nstruction":"a"}',
    "nested": '{"t":%s,"instruction":"a"}' % ("[" * 500 + "]" * 500),
    "astral": '{"\U0001f600":"\U0001f600","instruction":"a"}',
}


def test_a_row_passes_through_byte_for_byte(endpoint: Endpoint, tmp_path: Path) -> None:
    stdin = "".join(f"{line}\n" for line in UNTOUCHED.values()).encode()
    code, out, failed = outcome(endpoint, tmp_path, stdin)
    assert (code, failed) == (0, b"")
    added = f',"generated_code":{json.dumps(code_for("a"))}}}'
    for line, row in zip(UNTOUCHED.values(), out.decode().split("\n"), strict=False):
        assert row == line.removesuffix("}").rstrip() + added


def test_a_row_is_one_line_for_readers_that_end_lines_at_carriage_returns(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    stdin = b'{"n":\r1.0,\r"instruction":"a"\r}\r\n'
    _, out, _ = outcome(endpoint, tmp_path, stdin)
    assert out.startswith(b'{"n": 1.0, "instruction":"a","generated_code":')
    assert len(out.splitlines()) == 1


def test_a_line_of_20_mb_passes_whole(endpoint: Endpoint, tmp_path: Path) -> None:
    stdin = b'{"big":"%s","instruction":"a"}\n' % (b"\\n\xc3\xa9" * 5_000_000) + instructions("b")
    code, out, failed = outcome(endpoint, tmp_path, stdin)
    first, second = out.splitlines()
    assert first[: len(first) - 60].startswith(stdin[:20_000_000])
    assert (code, second.count(b"generated_code"), failed) == (0, 1, b"")


@pytest.mark.parametrize(
    ("stdin", "numbers"),
    [
        (b'{"instruction":"a"}', [1]),
        (b'\n \t\r\n{"instruction":"a"}\n\n{"instruction":"a"}', [3, 5]),
        (b'\xef\xbb\xbf{"instruction":"a"}\r\n{"instruction":"a"}\r\n', [1, 2]),
        (b'  {"instruction":"a"}\t \n', [1]),
        (b"", []),
        (b"\xef\xbb\xbf", []),
        (b"\n\n", []),
    ],
)
def test_lines_are_counted_and_blank_ones_are_no_rows(
    stdin: bytes, numbers: list[int], endpoint: Endpoint, tmp_path: Path
) -> None:
    code, out, _ = outcome(endpoint, tmp_path, stdin)
    assert (code, out.count(b"generated_code")) == (0, len(numbers))
    _, _, failed = outcome(endpoint, tmp_path, stdin.replace(b"instruction", b"other"))
    assert [json.loads(line)["line"] for line in failed.splitlines()] == numbers


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


def test_a_bad_line_is_a_failure_with_its_number_and_stops_nothing(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    stdin = instructions("a") + b"\n".join(BAD) + b"\n" + instructions("b")
    code, out, failed = outcome(endpoint, tmp_path, stdin)
    assert (code, len(out.splitlines())) == (3, 2)
    failures = [json.loads(line) for line in failed.splitlines()]
    assert [f["error"]["kind"] for f in failures] == list(BAD.values())
    assert [f["line"] for f in failures] == list(range(2, len(BAD) + 2))
    for raw, failure in zip(BAD, failures, strict=True):
        assert failure["error"]["attempts"] == 0
        if failure["error"]["kind"] in ("invalid_json", "not_an_object"):
            assert failure["input"] == raw.decode("utf-8", "backslashreplace")
        else:
            assert failure["input"] == json.loads(raw)
    assert endpoint.counts == {"a": 1, "b": 1}


def test_a_failure_line_keeps_the_rows_bytes_and_the_answer(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.plan = lambda request: (
        error(400, "too long") if request.prompt == "a" else completion("half", "length")
    )
    stdin = b'{"n":1.0,"instruction":"a"}\n{"n":1.0,"instruction":"b"}\n'
    code, out, failed = outcome(endpoint, tmp_path, stdin)
    assert (code, out) == (3, b"")
    first, second = failed.splitlines()
    assert first == (
        b'{"input":{"n":1.0,"instruction":"a"},"line":1,"error":'
        b'{"kind":"rejected","message":"too long","status":400,"attempts":1}}'
    )
    assert second.startswith(b'{"input":{"n":1.0,"instruction":"b"},"line":2,"error":')
    assert second.endswith(b'"status":200,"attempts":1},"answer":"half"}')
    assert json.loads(second)["error"]["kind"] == "truncated"


def test_a_generation_that_fails_is_told_with_its_examples(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.plan = FAULTS["refusal"].plan
    failures = tmp_path / "failed.jsonl"
    options = ("-n", 2, "-k", 2, "--seed", 1, "--failures", failures)
    stdin = lines({"prompt": "a"}, {"prompt": 1}, {"prompt": "c"})
    done = codesynth("gen-instructions", *options, stdin=stdin, endpoint=endpoint)
    bad, *refused = [json.loads(line) for line in failures.read_bytes().splitlines()]
    assert done.code == 3
    assert (bad["line"], bad["error"]["kind"], bad["input"]) == (2, "not_a_string", {"prompt": 1})
    assert [f["error"]["kind"] for f in refused] == ["refused"] * 2
    assert [f["input"]["generation"] for f in refused] == [0, 1]
    assert all(sorted(f["input"]["examples"]) == [1, 3] for f in refused)
    assert all(f["line"] is None for f in refused)


TEXTS = (
    *("lone_surrogate", "astral", "nul_in_text", "line_separators", "terminal_escapes"),
    *("content_parts_split", "reasoning_beside_text", "two_choices"),
)


def test_whatever_the_text_of_an_answer_the_row_is_one_line_of_json(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.plan = lambda request: FAULTS[request.prompt].plan(request)
    code, out, _ = outcome(endpoint, tmp_path, instructions(*TEXTS))
    assert code == 0
    for name, line in zip(TEXTS, out.decode().splitlines(), strict=True):
        text = FAULTS[name].text(name)
        code_of = text[text.index("python\n") + 7 : text.rindex("\n```")]
        assert json.loads(line) == {"instruction": name, "generated_code": code_of}


def test_thinking_without_an_answer_is_empty(endpoint: Endpoint, tmp_path: Path) -> None:
    names = ("think_only", "think_unclosed", "reasoning_only", "content_white")
    endpoint.plan = lambda request: FAULTS[request.prompt].plan(request)
    code, out, failed = outcome(endpoint, tmp_path, instructions(*names))
    kinds = [json.loads(line)["error"]["kind"] for line in failed.splitlines()]
    assert (code, out, kinds) == (3, b"", ["empty"] * len(names))
    assert set(endpoint.counts.values()) == {1}


def test_equal_rows_are_asked_each(endpoint: Endpoint, tmp_path: Path) -> None:
    code, out, _ = outcome(endpoint, tmp_path, instructions("a", "a", "a"))
    assert (code, len(out.splitlines()), endpoint.counts) == (0, 3, {"a": 3})


def test_several_inputs_follow_one_another(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_bytes(instructions("a", "b"))
    (tmp_path / "two.gz").write_bytes(gzip.compress(instructions("c")) * 2)
    (tmp_path / "three.jsonl").write_bytes(b'\xef\xbb\xbf{"x":1}')
    paths = [tmp_path / name for name in ("one.jsonl", "two.gz", "-", "three.jsonl")]
    paths[2] = Path("-")
    code, out, failed = outcome(endpoint, tmp_path, instructions("d"), *paths)
    assert [json.loads(line)["instruction"] for line in out.splitlines()] == list("abccd")
    assert (code, json.loads(failed)["line"]) == (3, 1)


def test_the_summary_counts_rows_failures_and_tokens(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.plan = lambda request: completion(None if request.prompt == "b" else "x = 1")
    stdin = instructions("a", "b", "c") + b"{\n"
    done = codesynth("gen-code", "-t", bare(tmp_path), stdin=stdin, endpoint=endpoint)
    [summary] = done.err.splitlines()
    assert summary.startswith("codesynth gen-code: 4 in: 2 ok, 2 failed, 54 tokens, ")
    assert "first failure: <stdin>:2: empty: " in summary
    assert done.code == 3


def test_2000_rows_on_a_bad_day_end_once_each_in_order_with_the_right_kinds(
    tmp_path: Path,
) -> None:
    day = Mixed(seed=7, latency=0.002, hanging=0)
    prompts = [f"row {i}" for i in range(2000)]
    out, failures = tmp_path / "out.jsonl", tmp_path / "out.failures.jsonl"
    options = ("-t", bare(tmp_path), "-o", out, "-j", 64, "--max-retries", 3)
    with Endpoint(day, keep=False) as endpoint:
        done = finished("gen-code", *options, stdin=instructions(*prompts), endpoint=endpoint)
    expected = [day.expected(prompt) for prompt in prompts]
    rows = [json.loads(line) for line in out.read_bytes().splitlines()]
    failed = [json.loads(line) for line in failures.read_bytes().splitlines()]
    good = [prompt for prompt, kind in zip(prompts, expected, strict=True) if kind == "ok"]
    bad = [(i + 1, kind) for i, kind in enumerate(expected) if kind != "ok"]
    assert [row["instruction"] for row in rows] == good
    assert all(row["generated_code"] == code_for(row["instruction"]) for row in rows)
    assert [(f["line"], f["error"]["kind"]) for f in failed] == bad
    assert done.code == 3
    assert f"2000 in: {len(good)} ok, {len(bad)} failed, " in done.err
    assert len(Counter(kind for _, kind in bad)) > 4
