"""The client against an endpoint that misbehaves in every way it can."""

import pytest
from answers import completion, echo, error, reply
from endpoint import Endpoint
from faults import FAULTS

from codesynth import models
from codesynth.errors import ConfigError, EndpointError
from codesynth.models import Record, Request, Response
from codesynth.serving.client import APILLMServing


def requests(*prompts: str) -> list[Request]:
    return [
        Request(
            f"row-{i}",
            [{"role": "user", "content": prompt}],
            Record(i, b"{}", {}),
            i,
        )
        for i, prompt in enumerate(prompts)
    ]


def serving(endpoint: Endpoint, **options: object) -> APILLMServing:
    at = models.Endpoint(endpoint.base_url, "sk-test")
    return APILLMServing(at, **({"timeout": 5.0, "concurrency": 8} | options))


def ask(endpoint: Endpoint, *prompts: str, **options: object) -> dict[str, Response]:
    responses = list(serving(endpoint, **options).generate(requests(*prompts)))
    assert sorted(r.request.custom_id for r in responses) == sorted(
        f"row-{i}" for i in range(len(prompts))
    )
    return {r.request.messages[-1]["content"]: r for r in responses}


@pytest.mark.parametrize("name", [name for name in FAULTS if not FAULTS[name].in_text])
def test_each_fault_becomes_what_the_contract_says(name: str, endpoint: Endpoint) -> None:
    fault = FAULTS[name]
    endpoint.plan = lambda request: (
        echo(request) if request.prompt == "good" else fault.plan(request)
    )
    timeout = 0.3 if fault.slow else 5.0
    answered = serving(endpoint, timeout=timeout, max_retries=1, concurrency=1)
    if name.startswith("insufficient_quota"):
        with pytest.raises(EndpointError, match="quota is exhausted"):
            list(answered.generate(requests("good", "bad")))
        return
    responses = {r.request.position: r for r in answered.generate(requests("good", "bad"))}
    assert responses[0].text == reply("good")
    response = responses[1]
    kind = response.error.kind if response.error else "ok"
    assert kind in fault.kinds
    if response.error is None:
        assert response.text == fault.text("bad")
    else:
        assert fault.says in response.error.message
        assert fault.status in (None, response.error.status)
    if name.startswith("stale_keep_alive"):
        assert endpoint.counts["bad"] == response.attempts == 2  # again at once, on a new one
    elif fault.retried is not None:
        assert endpoint.counts["bad"] in ((2,) if fault.retried else (1,))
        assert response.attempts == 1 + fault.retried


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("status_401", "OPENAI_API_KEY"),
        ("status_403", "OPENAI_API_KEY"),
        ("status_404", "--model"),
        ("insufficient_quota", "quota"),
        ("redirect_other_host", "--base-url"),
    ],
)
def test_what_no_row_can_help_stops_the_run(name: str, words: str, endpoint: Endpoint) -> None:
    endpoint.plan = FAULTS[name].plan
    with pytest.raises(EndpointError, match=words):
        list(serving(endpoint).generate(requests(*map(str, range(100)))))
    assert len(endpoint.received) <= 8


def test_ten_denials_in_a_row_after_an_answer_stop_the_run(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: echo(request) if request.prompt == "0" else error(401, "no")
    responses = serving(endpoint, concurrency=1).generate(requests(*map(str, range(100))))
    answered = [next(responses) for _ in range(10)]
    with pytest.raises(EndpointError, match="refused the key"):
        next(responses)
    assert len(endpoint.received) == 11
    assert [r.error.kind if r.error else "ok" for r in answered] == ["ok"] + 9 * ["rejected"]


def test_a_denial_among_answers_is_the_rows_own(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: (
        error(403, "blocked") if request.prompt == "7" else echo(request)
    )
    answers = ask(endpoint, *map(str, range(20)), concurrency=1)
    assert [k for k, r in answers.items() if r.error is not None] == ["7"]


def test_a_400_for_a_model_that_is_not_listed_stops_the_run(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: error(400, "Invalid model name")
    with pytest.raises(EndpointError, match="does not list the model other, but test-model"):
        list(serving(endpoint, model="other").generate(requests(*map(str, range(50)))))
    assert len(endpoint.received) <= 8


def test_a_400_for_a_listed_model_is_the_rows_own(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: error(400, "too long")
    answers = ask(endpoint, "a", "b", model="test-model")
    assert {r.error.kind for r in answers.values() if r.error} == {"rejected"}
    assert len(endpoint.others) == 1


def test_a_400_where_the_list_of_models_is_broken_is_the_rows_own(endpoint: Endpoint) -> None:
    endpoint.models = None
    endpoint.plan = lambda request: (
        error(500, "no cache") if request.path.endswith("/models") else error(400, "too long")
    )
    answers = ask(endpoint, "a", "b", model="test-model")
    assert {r.error.kind for r in answers.values() if r.error} == {"rejected"}


def test_the_only_listed_model_is_used(endpoint: Endpoint) -> None:
    ask(endpoint, "a")
    assert endpoint.received[0].json["model"] == "test-model"


@pytest.mark.parametrize("models", [[], ["a", "b"]])
def test_none_or_several_listed_models_ask_for_a_choice(
    models: list[str], endpoint: Endpoint
) -> None:
    endpoint.models = models
    with pytest.raises(ConfigError, match="--model"):
        serving(endpoint).model  # noqa: B018
    assert not endpoint.received


def test_the_key_is_sent_and_taken_out_of_messages(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: error(422, "no luck with sk-test")
    answers = ask(endpoint, "a", model="test-model")
    assert endpoint.authorizations == {"Bearer sk-test"}
    assert answers["a"].error is not None
    assert answers["a"].error.message == "no luck with [key]"


def test_a_request_waits_as_long_as_the_server_says(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: (
        error(429, "later", retry_after=1) if request.attempt == 1 else echo(request)
    )
    answers = ask(endpoint, "a")
    assert answers["a"].attempts == 2
    first, second = endpoint.times
    assert 1.0 <= second - first < 2.0


def test_a_pause_frees_its_place(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: (
        error(429, "later", retry_after=1)
        if request.prompt == "0" and request.attempt == 1
        else echo(request)
    )
    responses = serving(endpoint, concurrency=1).generate(requests(*map(str, range(5))))
    order = [r.request.messages[-1]["content"] for r in responses]
    assert order == ["1", "2", "3", "4", "0"]


def test_no_more_requests_are_in_flight_than_allowed(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: completion("x", delay=0.01)
    ask(endpoint, *map(str, range(60)), concurrency=7)
    assert 2 <= endpoint.max_in_flight <= 7


def test_a_dead_endpoint_ends_the_run_before_rows_fail() -> None:
    nobody = APILLMServing(models.Endpoint("http://127.0.0.1:9/v1"), "m", max_retries=1)
    with pytest.raises(EndpointError, match="connection refused"):
        list(nobody.generate(requests("a", "b")))


def test_a_restart_of_the_endpoint_costs_no_row(endpoint: Endpoint) -> None:
    responses = serving(endpoint, concurrency=2, max_retries=0).generate(
        requests(*map(str, range(400)))
    )
    done = [next(responses)]
    endpoint.stop()
    endpoint.start()
    done += list(responses)
    unanswered = [r for r in done if r.error is not None]
    assert len(done) == 400
    assert len(unanswered) <= 2  # those that were in flight when it died


def test_generate_from_input_keeps_the_order_and_tells_failures_apart(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: error(422, "no") if request.prompt == "b" else echo(request)
    answers = serving(endpoint, model="test-model").generate_from_input(
        ["a", "b", "c"], system_prompt="Be brief."
    )
    assert answers == [reply("a"), None, reply("c")]
    assert {request.json["messages"][0]["content"] for request in endpoint.received} == {
        "Be brief."
    }


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/v1", "http://", "http://[::1"])
def test_a_url_that_cannot_be_used_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError):
        APILLMServing(models.Endpoint(url))


def test_a_key_that_no_header_can_carry_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        APILLMServing(models.Endpoint("http://localhost/v1", "sk-\n1"))
