"""Options of the command: what each changes in the requests, the rows and the exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import ONE, bare, codesynth, gen_code, gen_instructions, instructions, lines
from support.endpoint import Endpoint
from support.faults import FAULTS
from support.replies import completion, healing, held
from update_help import help_texts

from codesynth import __version__
from codesynth.cli import COMMANDS

ROOT = Path(__file__).parents[1]
TEXTS = help_texts()
ONE_BAD = ONE + b"bad\n"

# Columns.


def test_columns_are_named_by_the_options(endpoint: Endpoint, tmp_path: Path) -> None:
    options = ("-t", bare(tmp_path), "--input-key", "task", "--output-key", "solution")
    stdin = lines({"task": "a", "instruction": "x", "generated_code": "old"})
    [row] = gen_code(endpoint, *options, stdin=stdin).rows
    assert list(row) == ["task", "instruction", "generated_code", "solution"]
    stdin = lines(
        {"generated_instruction": "b"}, {"generated_instruction": "x", "instruction": "c"}
    )
    assert gen_code(endpoint, *options[:2], stdin=stdin).code == 0
    assert endpoint.counts == {"a": 1, "b": 1, "c": 1}


def test_a_missing_column_is_told_with_the_one_to_try(endpoint: Endpoint) -> None:
    done = gen_code(endpoint, stdin=lines({"id": 1, "prompt": "a"}))
    words = '<stdin>:1: missing_key: missing key "instruction"; found "prompt". '
    assert words + "Try --input-key prompt" in done.err


# Which rows, and in which order.


def test_the_output_is_in_input_order_and_unordered_as_rows_finish(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    texts = [f"{i:02}" for i in range(12)]

    def is_its_turn(text: str) -> bool:
        """The last row is answered first; all must have come before one can be."""
        finished = sum(each.finished is not None for each in endpoint.received)
        return finished % 12 == 11 - int(text)

    endpoint.plan = lambda request: held(
        completion("x"), lambda: endpoint.max_in_flight == 12 and is_its_turn(request.prompt)
    )
    plain = ("-t", bare(tmp_path), "-j", 12)
    done = gen_code(endpoint, *plain, stdin=instructions(*texts))
    assert [row["instruction"] for row in done.rows] == texts
    loose = gen_code(endpoint, *plain, "--unordered", stdin=instructions(*texts))
    came = [row["instruction"] for row in loose.rows]
    assert came != texts
    assert sorted(came) == texts
    assert endpoint.max_in_flight == 12


def test_limit_takes_the_first_rows(endpoint: Endpoint) -> None:
    stdin = ONE_BAD + instructions("c", "d")
    done = gen_code(endpoint, "--limit", 3, stdin=stdin)
    assert [row["instruction"] for row in done.rows] == ["a", "c"]
    assert "3 in: 2 ok, 1 failed" in done.err
    assert len(gen_instructions(endpoint, "--limit", 2).rows) == 2


def test_meta_tells_how_a_row_was_made_through_both_commands(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.plan = healing(FAULTS["status_503"].plan)
    seed = 123456789012345678901234567890
    first = gen_instructions(endpoint, "-n", 1, "--meta", "--seed", seed)
    [made], [row] = first.rows, gen_code(endpoint, "--meta", stdin=first.out).rows
    counted = {"prompt_tokens": 11, "completion_tokens": 7}
    usage = {**counted, "reasoning_tokens": 0, "cached_tokens": 0}
    about = {"model": "test-model", "finish_reason": "stop", "usage": usage, "attempts": 2}
    assert {name: made["_codesynth"][name] for name in about} == about
    assert made["_codesynth"]["seed"] == seed
    assert len(made["_codesynth"]["examples"]) == 3
    assert re.fullmatch("[0-9a-f]{64}", made["_codesynth"]["prompt_sha256"])
    assert {name: row["_codesynth"][name] for name in about} == about
    assert row["_codesynth"]["input"] == made["_codesynth"]
    assert list(row) == ["generated_instruction", "generated_code", "_codesynth"]


# Dry run.


def test_a_dry_run_prints_openai_batch_lines_and_sends_nothing(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    options = ("-t", bare(tmp_path), "--model", "m", "--dry-run", "--max-tokens", 5)
    done = gen_code(endpoint, *options, stdin=ONE_BAD + instructions("b"))
    assert (done.code, endpoint.received, endpoint.others) == (3, [], [])
    assert "2 requests, 1 failed" in done.err
    first, second = done.rows
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "max_tokens": 5}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    assert first == {"custom_id": first["custom_id"], **line}
    assert re.fullmatch("[0-9a-f]{32}", first["custom_id"])
    assert second["custom_id"] != first["custom_id"]


def test_a_dry_run_asks_the_bodies_that_a_run_sends_with_the_model_named(
    endpoint: Endpoint,
) -> None:
    options = ("-n", 5, "--seed", 3, "--temperature", 0.5)
    plan = gen_instructions(endpoint, *options, "--dry-run")
    assert (endpoint.received, "seed 3" in plan.err) == ([], True)
    gen_instructions(endpoint, *options, "-j", 1)
    assert [row["body"] for row in plan.rows] == [request.json for request in endpoint.received]
    assert plan.rows[0]["body"]["model"] == "test-model"
    assert gen_instructions(endpoint, *options, "--dry-run", "-q").err == ""
    lost = gen_instructions(None, "--dry-run")
    assert (lost.code, lost.out, "OPENAI_API_KEY" in lost.err) == (2, b"", True)


def test_a_dry_run_prints_to_stdout_whatever_o_says(tmp_path: Path) -> None:
    options = ("--offline", "-o", tmp_path / "out.jsonl")
    assert gen_code(None, *options).code == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = gen_code(None, *options, "--dry-run", "--overwrite")
    assert (done.code, len(done.rows)) == (0, 1)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


# Words.


def test_q_prints_only_what_is_wrong(endpoint: Endpoint) -> None:
    assert gen_code(endpoint, "-q").err == ""
    done = gen_code(endpoint, "-q", stdin=ONE_BAD)
    assert (done.code, done.err.count("\n"), "1 failed" in done.err) == (3, 1, True)
    endpoint.plan = FAULTS["status_401"].plan
    assert "refused the key" in gen_code(endpoint, "-q").err


WRONG = {
    ("-j", "0"): "it must be a number from 1, or auto",
    ("--shard", "3/3"): "it must be I/N with I from 0 to N - 1",
    ("--limit", "0"): "it must be at least 1",
    ("--timeout", "nan"): "it must be a number",
    ("--max-tokens", "1.5"): "it must be a whole number",
    ("--extra-body", "[]"): "it is not a JSON object",
    ("--extra-body", "{"): "it is not JSON",
    ("--extra-body", '{"stream": true}'): 'must not change "stream"',
    ("--header", "X"): "it must be NAME: VALUE",
    ("--header", "X: a\nb"): "header",
    ("--language", "pyton"): "python",
    ("-n", "5"): "Did you mean --limit or --samples?",
    ("--max-cost", "1"): "--max-cost needs --price",
    ("--wrong",): "No such option: --wrong",
    ("-t", "none"): 'no template "none". Known: code_instruction_generate, ',
    ("-t", "./none.txt"): "cannot read template ./none.txt: No such file",
    ("--system-prompt", "@none"): "it cannot be read from none: No such file",
    ("--base-url", "localhost:8000"): "localhost:8000 is not an http or https URL",
    ("--meta", "--output-key", "_codesynth"): 'two new columns would have the name "_codesynth"',
}


@pytest.mark.parametrize("options", WRONG, ids=" ".join)
def test_a_wrong_option_exits_2_and_sends_nothing(
    options: tuple[str, ...], endpoint: Endpoint
) -> None:
    done = gen_code(endpoint, *options)
    assert (done.code, done.out, endpoint.received, endpoint.others) == (2, b"", [], [])
    assert WRONG[options] in done.err


@pytest.mark.parametrize("command", COMMANDS)
def test_options_need_and_exclude_options_of_their_own_command(command: str) -> None:
    options = COMMANDS[command].options().values()
    named = {name for each in options for name in f"{each.needs} {each.excludes}".split()}
    assert named <= {name for each in options for name in each.names}


@pytest.mark.parametrize("name", TEXTS)
def test_help_is_what_the_options_say_and_fits_80_columns(name: str) -> None:
    command = () if name == "codesynth" else (name, "rows.jsonl")
    for option in ("-h", "--help"):
        done = codesynth(*command, option)
        assert (done.code, done.err) == (0, "")
        assert done.out.decode() == TEXTS[name], "run tests/update_help.py"
    assert max(map(len, TEXTS[name].splitlines())) <= 80
    assert 0 < TEXTS[name].index("Examples:") < TEXTS[name].index("--help")
    titles = re.findall(r"(?m)^(\S.*):$", TEXTS[name])
    assert all(len(title.split()) <= 4 for title in titles), "a line of a help text became a title"


def test_without_a_command_the_help_is_a_usage_error() -> None:
    done = codesynth()
    assert (done.code, done.out, done.err) == (2, b"", TEXTS["codesynth"])


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("codesynth gen-i", "gen-instructions"),
        ("codesynth gen-code --ti", "--timeout"),
        ("codesynth gen-code -t judge_", "judge_difficulty judge_quality"),
        ("codesynth gen-code --language ru", "ruby rust"),
        ("codesynth verify --keep pa", "passed"),
    ],
)
def test_a_shell_is_offered_commands_options_and_values(words: str, offered: str) -> None:
    where = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = codesynth(env={"_CODESYNTH_COMPLETE": "complete_bash", **where})
    assert done.out.decode().split() == offered.split()


def test_version_is_one_line() -> None:
    done = codesynth("--version")
    assert (done.code, done.out.decode()) == (0, f"codesynth {__version__}\n")
    assert codesynth("--version", "gen-code").out == done.out


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_neither_version_nor_help_loads_the_parser(option: str) -> None:
    code = f"import sys; from codesynth.__main__ import main; sys.argv[1:] = ['{option}']; main()"
    loaded = "print(*{'typer', 'typing', 'inspect', 'codesynth.cli'}.intersection(sys.modules))"
    python = [sys.executable, "-S", "-c", f"{code}; {loaded}"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(python, check=True, capture_output=True, text=True, env=env).stdout
    assert out.endswith("\n\n")
