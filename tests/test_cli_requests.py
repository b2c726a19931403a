"""What the command asks, and of whom: examples, parameters, templates, models, hosts."""

import gzip
import re
from pathlib import Path
from typing import Any

import pytest
from support.command import ONE, bare, codesynth, gen_code, gen_instructions, lines
from support.endpoint import Endpoint
from support.faults import always
from support.replies import completion, error


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
    words = 'the pool has 1 usable rows with the column "prompt", but a prompt takes 3 of them'
    assert words in done.err


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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Do {instruction}\nin {language}.", ":2: unknown placeholder {language}; known: "),
        ("Do\n\n{ {instruction}", ":3: { is no placeholder"),
        ("{instruction.a}", ":1: {instruction.a} is no placeholder"),
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


# Of whom.


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ((), "lists no model. Choose one with --model or CODESYNTH_MODEL"),
        (("one", "two"), "lists 2 models: one, two. Choose one with --model or CODESYNTH_MODEL"),
        (None, "lists no model"),
    ],
)
def test_a_model_is_asked_for_where_the_endpoint_lists_not_one(
    models: Any, words: str, endpoint: Endpoint
) -> None:
    endpoint.models = models
    endpoint.plan = lambda request: (
        error(404) if request.method == "GET" else completion(request.json["model"])
    )
    done = gen_code(endpoint)
    assert (done.code, done.out, endpoint.received) == (2, b"", [])
    assert words in done.err
    others = len(endpoint.others)
    for options, model in ((("--model", "m"), "e"), ((), "m")):
        env = {"CODESYNTH_MODEL": model}
        named = codesynth("gen-code", *options, stdin=ONE, endpoint=endpoint, env=env)
        assert named.rows[0]["generated_code"] == "m"
    assert len(endpoint.others) == others


@pytest.mark.parametrize("options", [(), ("--model", "m")])
def test_a_base_url_without_a_path_is_told_what_most_have(
    options: tuple[str, ...], endpoint: Endpoint
) -> None:
    endpoint.plan = always(error(404))
    hint = "Most base URLs end in /v1"
    for url, is_told in ((endpoint.base_url.removesuffix("/v1"), True), (endpoint.base_url, False)):
        done = gen_code(endpoint, "--base-url", url, *options)
        assert (done.code in (1, 2), hint in done.err) == (True, is_told), done.err


def test_openai_without_a_key_is_refused() -> None:
    done = gen_code(None)
    words = "no OPENAI_API_KEY for https://api.openai.com/v1"
    assert (done.code, words in done.err) == (2, True)


def test_base_url_wins_over_the_environment(endpoint: Endpoint) -> None:
    env = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = codesynth("gen-code", "--base-url", f"{endpoint.base_url}/", stdin=ONE, env=env)
    assert done.code == 0
    assert endpoint.authorizations == set()
    assert {request.path for request in endpoint.received} == {"/v1/chat/completions"}


def test_a_complete_rerun_names_the_model_of_its_answers_and_asks_nothing(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    out = ("-o", tmp_path / "out.jsonl")
    first = gen_code(endpoint, *out)
    connections, endpoint.models = endpoint.connections, ["swapped"]
    again = gen_code(endpoint, *out)
    assert (again.code, endpoint.connections) == (0, connections)
    assert "1 from the journal (model test-model)" in again.err
    named = gen_code(endpoint, *out, "--model", "test-model")
    assert "(model" not in first.err + named.err
