"""The command and its endpoint: which model, which key, which host, and when it gives up."""

from pathlib import Path
from typing import Any

import pytest
from support.command import KEY, ONE, bare, codesynth, gen_code, instructions
from support.endpoint import Endpoint
from support.faults import FAULTS, always
from support.files import rows_of
from support.replies import Reply, code_for, completion, error, healing


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


DENIED = {
    "wrong key": (error(401, f"bad key {KEY}"), "endpoint refused the key (401): "),
    "no access": (error(403, "not for you"), "endpoint denies access (403): not for you"),
    "wrong model": (error(404, "no model m"), "does not know the model or the path (404): "),
    "wrong proxy password": (error(407, "who?"), "the proxy refuses (407): who?. Name user"),
    "no quota": (error(429, "pay", code="insufficient_quota"), "the quota is exhausted (429): pay"),
}


@pytest.mark.parametrize("name", DENIED)
def test_what_no_request_can_cure_stops_the_run_with_one_line(
    name: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    answer, words = DENIED[name]
    endpoint.plan = always(answer)
    failures = tmp_path / "failed.jsonl"
    options = ("--model", "m", "-j", 4, "--failures", failures)
    done = gen_code(endpoint, *options, stdin=instructions(*map(str, range(100))))
    assert (done.code, done.out, failures.exists()) == (1, b"", False)
    [line] = done.err.splitlines()
    assert words in line
    assert KEY not in line
    assert len(endpoint.received) <= 8


def test_openai_without_a_key_is_refused() -> None:
    done = gen_code(None)
    words = "no OPENAI_API_KEY for https://api.openai.com/v1"
    assert (done.code, words in done.err) == (2, True)


def test_a_dead_endpoint_ends_the_run_with_one_line(endpoint: Endpoint) -> None:
    url = endpoint.base_url
    endpoint.stop()
    options = ("--base-url", url, "--model", "m", "--max-retries", 1)
    done = gen_code(None, *options, stdin=instructions("a", "b"))
    assert (done.code, done.out, len(done.err.splitlines())) == (1, b"", 1)
    assert f"cannot connect to {url}: connection refused" in done.err


def test_the_key_is_never_sent_to_another_host(endpoint: Endpoint) -> None:
    with Endpoint() as other:
        for host in ("localhost", "127.0.0.1"):
            to = f"http://{host}:{other.port}/v1/chat/completions"
            endpoint.plan = always(Reply(307, headers={"location": to}))
            done = gen_code(endpoint)
            assert (done.code, done.out) == (1, b"")
            assert f"redirected to {to}" in done.err
        assert (other.received, other.authorizations) == ([], set())


def test_base_url_wins_over_the_environment(endpoint: Endpoint) -> None:
    env = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = codesynth("gen-code", "--base-url", f"{endpoint.base_url}/", stdin=ONE, env=env)
    assert done.code == 0
    assert endpoint.authorizations == set()
    assert {request.path for request in endpoint.received} == {"/v1/chat/completions"}


def test_retries_are_counted_after_the_first_attempt(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.plan = lambda request: error(500, "oops")
    for retries in (0, 1):
        failures = tmp_path / f"{retries}.jsonl"
        options = ("--max-retries", retries, "--failures", failures, "-t", bare(tmp_path))
        assert gen_code(endpoint, *options, stdin=instructions(f"{retries}")).code == 3
        expected = {"kind": "server_error", "message": "oops", "status": 500}
        assert rows_of(failures)[0]["error"] == {**expected, "attempts": retries + 1}
    assert endpoint.counts == {"0": 1, "1": 2}


def test_timeout_is_for_one_attempt(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.plan = healing(FAULTS["never_answer"].plan)
    done = gen_code(endpoint, "--timeout", 0.5, "-t", bare(tmp_path))
    assert (done.code, endpoint.counts["a"] >= 2) == (0, True)
    assert done.rows[0]["generated_code"] == code_for("a")


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
