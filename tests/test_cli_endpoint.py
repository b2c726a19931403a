"""The command and its endpoint: which model, which key, which host, and when it gives up."""

from pathlib import Path
from typing import Any

import pytest
from support.command import ONE, codesynth, gen_code
from support.endpoint import Endpoint
from support.faults import always
from support.replies import completion, error


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
