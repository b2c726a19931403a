"""``codesynth show``: what people read of rows, and what their terminal gets."""

import re
from pathlib import Path

import pytest
from support import hostile
from support.command import codesynth
from support.files import written
from support.terminal import on_a_terminal

ROWS = [
    {"id": 1, "verification": {"status": "passed"}, "level": "easy"},
    {"id": 2, "verification": {"status": "failed"}, "level": None},
    {"id": 3, "verification": {"status": "failed"}, "a.b": "x", "level": "hard"},
    {"id": "4", "ok": True, "list": [1, 2]},
]


def shown(text: bytes) -> list[int]:
    """Number the lines of the file that are shown."""
    return [int(number) for number in re.findall(rb"^===== \S+?:(\d+)", text, re.MULTILINE)]


@pytest.mark.parametrize(
    ("conditions", "lines"),
    [
        ([], [1, 2, 3, 4]),
        (["verification.status=failed"], [2, 3]),
        (["verification.status!=failed"], [1, 4]),
        (["verification.status=failed", "level"], [3]),
        (["level"], [1, 3]),
        (["!level"], [2, 4]),
        (["a.b=x"], [3]),
        (["id=1"], [1]),
        (["id=4"], [4]),
        (["ok=true"], [4]),
        (["list=[1,2]"], [4]),
        (["verification.status.x=1"], []),
    ],
)
def test_where_chooses_rows(tmp_path: Path, conditions: list[str], lines: list[int]) -> None:
    path = written(tmp_path / "a.jsonl", ROWS)
    options = [word for condition in conditions for word in ("--where", condition)]
    done = codesynth("show", path, *options)
    assert shown(done.out) == lines
    assert done.err == ("" if lines else "codesynth show: no row matches --where\n")


@pytest.mark.parametrize("condition", ["", "=x", "!", "!a=x"])
def test_a_condition_that_cannot_be_read_is_refused(condition: str) -> None:
    done = codesynth("show", "--where", condition)
    assert (done.code, "error.kind=truncated" in done.err) == (2, True)


def test_a_journal_is_refused_with_the_commands_that_read_it() -> None:
    done = codesynth("show", "out.journal")
    assert (done.code, done.out) == (2, b"")
    assert "Try codesynth status, or codesynth report" in done.err


def test_a_sample_depends_on_the_seed_alone_and_keeps_the_order(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"id": i} for i in range(1000)])
    one = shown(codesynth("show", path, "--sample", 10, "--seed", 5).out)
    assert one == shown(codesynth("show", path, "--sample", 10, "--seed", 5).out) == sorted(one)
    assert len(one) == 10
    assert max(one) > 100
    assert one != shown(codesynth("show", path, "--sample", 10, "--seed", 6).out)
    assert max(shown(codesynth("show", path, "--limit", 20, "--sample", 10).out)) <= 20


def test_a_failure_is_shown_with_its_reason_its_answer_and_its_input_row(tmp_path: Path) -> None:
    error = {"kind": "truncated", "message": "the answer was cut", "attempts": 1}
    row = {"instruction": "Add\ntwo.", "input": "mine"}
    path = written(
        tmp_path / "f.jsonl", [{"input": row, "line": 812, "error": error, "answer": "def\na"}]
    )
    text = codesynth("show", path).out.decode()
    assert f"===== {path}:1: failed: truncated: the answer was cut\n" in text
    assert "--- instruction (2 lines)\nAdd\ntwo.\n" in text
    assert "--- failure: answer (2 lines)\ndef\na\n" in text
    assert "input: mine\nfailure: line: 812\n" in text


def test_reasoning_and_long_texts_are_folded_until_they_are_asked_for(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl", [{"reasoning": "Hm.\nSo.", "generated_code": "x" * 30_000}]
    )
    brief, full = codesynth("show", path).out, codesynth("show", path, "--full").out
    assert b"--- reasoning (2 lines)\n[--full shows it]\n" in brief
    assert b"[... 10,000 more characters]" in brief
    assert b"--- reasoning (2 lines)\nHm.\nSo.\n" in full
    assert b"x" * 30_000 in full
    named = codesynth("show", path, "--reasoning-key", "generated_code", "--code-key", "reasoning")
    assert b"--- generated_code\n[--full shows it]\n" in named.out


@pytest.fixture
def hostile_rows(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(hostile.rows()))
    return path


def test_a_pipe_gets_nothing_that_a_terminal_would_obey(hostile_rows: Path) -> None:
    done = codesynth("show", hostile_rows, "--full")
    assert (done.code, done.err) == (0, "")
    assert len(shown(done.out)) == len(hostile.rows())
    odd = {c for c in done.out.decode() if not c.isprintable()}
    assert odd == {"\n"}
    assert "\\x1b[2J\\x1b]0;ran\\x07\\x9b31m\\x08\\r\\u202egnp.exe" in done.out.decode()


def on_screen(*args: object, pager: str) -> tuple[int, bytes]:
    """Show rows on a terminal; return the exit code and what the terminal received."""
    env = {"PAGER": pager, "TERM": "xterm-256color"}
    done, received = on_a_terminal("show", *args, streams=("stdout",), env=env)
    return done.code, received


def test_a_terminal_gets_colors_and_nothing_else_to_obey(hostile_rows: Path) -> None:
    code, received = on_screen(hostile_rows, "--full", pager="cat")
    assert (code, len(shown(re.sub(rb"\x1b\[[\d;]*m", b"", received)))) == (0, len(hostile.rows()))
    assert b"\x1b[1;36m--- generated_code" in received
    rest = re.sub(r"\x1b\[[\d;]*m|\r\n", "", received.decode())
    assert rest.isprintable()


def test_leaving_the_pager_ends_the_command(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", [{"code": "x\n" * 100}] * 3000)
    code, received = on_screen(path, pager="head -n 1")
    assert (code, received.count(b"\n"), b"Traceback" in received) == (0, 1, False)
