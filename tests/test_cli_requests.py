"""What the command asks: examples, parameters, system prompts, templates."""

import gzip
import re
from pathlib import Path

import pytest
from support.command import bare, gen_code, gen_instructions, lines
from support.endpoint import Endpoint


def test_gen_instructions_asks_10_times_with_3_examples(endpoint: Endpoint) -> None:
    done = gen_instructions(endpoint)
    assert (done.code, len(done.rows), list(done.rows[0])) == (0, 10, ["generated_instruction"])
    assert all(request.prompt.count("### Example") == 3 for request in endpoint.received)


def test_examples_differ_and_are_a_function_of_seed_and_number(endpoint: Endpoint) -> None:
    def prompts(*options: object) -> list[str]:
        options = ("--dry-run", "--model", "m", "-n", 6, "-k", 4, *options)
        rows = gen_instructions(None, *options).rows
        return [row["body"]["messages"][0]["content"] for row in rows]

    first = prompts("--seed", 5)
    assert prompts("--seed", 5, "-n", 9)[:6] == first
    assert prompts("--seed", 6) != first
    assert len(set(first)) == 6
    for prompt in first:
        assert len(set(re.findall(r"prompt \d", prompt))) == 4


def test_a_pool_too_small_names_both_numbers(endpoint: Endpoint) -> None:
    done = gen_instructions(endpoint, "-k", 3, stdin=lines({"prompt": "a"}, {"prompt": 1}))
    assert (done.code, done.out, endpoint.received) == (2, b"", [])
    assert "the pool has 1 usable rows, but a prompt takes 3 examples" in done.err


@pytest.mark.parametrize("packed", [False, True])
def test_the_pool_is_read_from_files_in_order(packed: bool, tmp_path: Path) -> None:
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"pool{i}")
        data = b"\xef\xbb\xbf" + lines({"prompt": f"{i}a"}, {"prompt": f"{i}b"})
        paths[-1].write_bytes(gzip.compress(data) if packed else data)
    template = bare(tmp_path, "{examples}")
    options = ("-n", 1, "-k", 6, "--dry-run", "--model", "m", "-t", template)
    done = gen_instructions(None, *paths, *options)
    [row] = done.rows
    examples = re.findall(r"^\d[ab]$", row["body"]["messages"][0]["content"], re.MULTILINE)
    assert sorted(examples) == ["0a", "0b", "1a", "1b", "2a", "2b"]


def test_parameters_are_sent_under_openais_names_and_no_others_are(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    template = ("-t", bare(tmp_path))
    gen_code(endpoint, *template)
    options = ("--temperature", 0, "--top-p", 0.5, "--max-tokens", 7, "--model", "m")
    extra = ("--extra-body", '{"top_k": 4, "temperature": 1.5, "stop": ["\\u00e9"]}')
    gen_code(endpoint, *template, *options, *extra)
    messages = {"messages": [{"role": "user", "content": "a"}]}
    first, second = (request.json for request in endpoint.received)
    sampling = {"temperature": 1.5, "top_p": 0.5, "max_tokens": 7, "top_k": 4, "stop": ["\u00e9"]}
    assert first == {"model": "test-model", **messages}
    assert second == {"model": "m", **messages, **sampling}


def test_a_system_prompt_is_text_or_a_file(endpoint: Endpoint, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be\nbrief \u00e9.", "utf-8-sig")
    for prompt in ("Be kind.", f"@{tmp_path}/system.txt"):
        gen_code(endpoint, "--system-prompt", prompt)
    systems = [request.json["messages"][0] for request in endpoint.received]
    texts = "Be kind.", "Be\nbrief \u00e9."
    assert systems == [{"role": "system", "content": text} for text in texts]


def test_a_template_takes_any_column(endpoint: Endpoint, tmp_path: Path) -> None:
    template = bare(tmp_path, "{{{language}}} {instruction}! {tags}")
    stdin = b'{"instruction":"{x}","language":"Go","tags":["a",1.50]}\n'
    gen_code(endpoint, "-t", template, stdin=stdin)
    assert endpoint.received[0].prompt == '{Go} {x}! ["a",1.5]'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Do {instruction}\nin {language}.", ":2: unknown placeholder {language}; known: "),
        ("Do\n\n{ {instruction}", ':3: lone "{"'),
        ("{instruction.a}", ":1: placeholder {instruction.a} is not the name of a column"),
        ("Do it", ":1: missing placeholder {instruction}"),
    ],
)
def test_a_wrong_template_is_told_with_file_and_line_and_nothing_is_sent(
    text: str, words: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    template, out = bare(tmp_path, text), tmp_path / "out.jsonl"
    done = gen_code(endpoint, "-t", template, "-o", out)
    assert (done.code, done.out, endpoint.received) == (2, b"", [])
    assert f"codesynth gen-code: {template}{words}" in done.err
    assert not list(tmp_path.glob("*.partial"))
