"""The client against an endpoint that misbehaves in every way it can."""

import json
import logging
from collections.abc import Awaitable, Iterator

import httpx
import pytest
from support.endpoint import Endpoint, Reply, echo, error, healing, in_order, text_for
from support.faults import ENDLESS, FAULTS
from support.replies import Plan, held

from codesynth import models
from codesynth.errors import EndpointError
from codesynth.models import Failure, Record, Request, Response
from codesynth.serving.client import APILLMServing
from codesynth.serving.http.transport import Transport
from codesynth.serving.limits import Admission
from codesynth.serving.limits.concurrency import START

PAUSE = Admission.pause


def request(position: int, prompt: str, model: str = "test-model") -> Request:
    messages = [{"role": "user", "content": prompt}]
    body = json.dumps({"model": model, "messages": messages}).encode()
    return Request(Record(position, b"{}", {}), position, body, b"%d" % position, messages)


def requests(*prompts: str, model: str = "test-model") -> list[Request]:
    return [request(i, prompt, model) for i, prompt in enumerate(prompts)]


def many(count: int) -> Iterator[Request]:
    return (request(i, str(i)) for i in range(count))


def text_of(response: Response) -> str | None:
    return response.answer.text if response.answer else None


def serving(endpoint: Endpoint, **options: object) -> APILLMServing:
    at = models.Endpoint(endpoint.base_url, "sk-test")
    return APILLMServing(at, **({"timeout": 60.0, "concurrency": 8} | options))


def ask(endpoint: Endpoint, *prompts: str, **options: object) -> dict[str, Response]:
    responses = list(serving(endpoint, **options).generate(requests(*prompts)))
    assert sorted(r.request.position for r in responses) == list(range(len(prompts)))
    return {r.request.messages[-1]["content"]: r for r in responses}


def failure_of(response: Response) -> Failure:
    assert response.error is not None
    return response.error


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def good_or(plan: Plan) -> Plan:
    """Answer the prompt "good", and follow ``plan`` for the others."""
    return lambda request: (echo if request.prompt == "good" else plan)(request)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Note the pauses before retries in place of waiting."""
    noted: list[float] = []

    async def pause(self: Admission, seconds: float, *, outage: bool = False) -> None:
        noted.append(seconds)

    monkeypatch.setattr(Admission, "pause", pause)
    return noted


SLOW = [name for name, fault in FAULTS.items() if fault.slow]


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in SLOW])
def test_each_fault_becomes_what_the_contract_says(name: str, endpoint: Endpoint) -> None:
    fault = FAULTS[name]
    endpoint.plan = good_or(fault.plan)
    answers = ask(endpoint, "good", "bad", max_retries=1, concurrency=1)
    assert text_of(answers["good"]) == text_for("good")
    response = answers["bad"]
    if response.error is None:
        assert ("ok", text_of(response)) == (fault.kinds[0], fault.text("bad"))
    else:
        assert response.error.kind in fault.kinds
        assert fault.says in response.error.message
        assert fault.status in (None, response.error.status)
    attempts = 2 if fault.retried or name.startswith("stale_keep_alive") else 1
    assert endpoint.counts["bad"] == response.attempts == attempts


def test_an_attempt_that_takes_too_long_is_a_timeout_and_is_retried(endpoint: Endpoint) -> None:
    endpoint.plan = good_or(lambda request: FAULTS[request.prompt].plan(request))
    answers = ask(endpoint, "good", *SLOW, timeout=1.5, max_retries=1, concurrency=20)
    assert text_of(answers.pop("good")) == text_for("good")
    for name, response in answers.items():
        assert failure_of(response).kind in FAULTS[name].kinds
        assert response.attempts == 2


def test_an_answer_without_end_is_a_bad_response_once_it_is_too_large(endpoint: Endpoint) -> None:
    endpoint.plan = good_or(ENDLESS)
    transport = Transport(max_response_bytes=1 << 20)
    answers = ask(endpoint, "good", "bad", max_retries=0, concurrency=1, transport=transport)
    assert failure_of(answers["bad"]).kind == "bad_response"


def test_pauses_grow_exponentially_with_full_jitter(
    endpoint: Endpoint, pauses: list[float]
) -> None:
    endpoint.plan = good_or(FAULTS["status_500"].plan)
    ask(endpoint, "good", "bad", max_retries=40, concurrency=1)
    assert len(set(pauses)) == 40
    assert all(0 <= pause <= min(0.5 * 2**n, 30) for n, pause in enumerate(pauses))
    assert min(pauses[8:]) < 15 < max(pauses[8:])


def test_a_dead_endpoint_stops_the_run_after_the_retries_of_one_row_of_many(
    endpoint: Endpoint, pauses: list[float]
) -> None:
    endpoint.plan = FAULTS["status_503"].plan
    with pytest.raises(EndpointError, match="answers 503: words of the server"):
        list(serving(endpoint, concurrency=None).generate(many(164)))
    assert max(endpoint.counts.values()) == 6
    assert len(endpoint.counts) <= START  # those that were in flight
    endpoint.stop()
    pauses.clear()
    with pytest.raises(EndpointError, match="connection refused"):
        list(serving(endpoint, concurrency=None).generate(many(164)))
    assert len(pauses) <= 5 * START


@pytest.mark.parametrize("where", [{"code": "insufficient_quota"}, {"kind": "insufficient_quota"}])
def test_an_exhausted_quota_stops_the_run_also_after_answers(
    where: dict[str, str], endpoint: Endpoint
) -> None:
    endpoint.plan = good_or(lambda request: error(429, "no more", **where))
    with pytest.raises(EndpointError, match="quota is exhausted"):
        list(serving(endpoint, concurrency=1).generate(requests("good", "bad", "worse")))
    assert len(endpoint.received) == 2


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
        list(serving(endpoint).generate(requests(*map(str, range(50)), model="other")))
    assert len(endpoint.received) <= 8


def test_a_400_for_a_listed_model_is_the_rows_own(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: error(400, "too long")
    answers = ask(endpoint, "a", "b")
    assert [failure_of(answers[name]).kind for name in "ab"] == ["rejected"] * 2
    assert len(endpoint.others) == 1


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_a_400_is_the_rows_own_where_models_are_not_listed(endpoint: Endpoint, status: int) -> None:
    endpoint.models = None
    endpoint.plan = lambda request: error(400 if request.method == "POST" else status, "no")
    assert failure_of(ask(endpoint, "a")["a"]).kind == "rejected"


def test_the_key_is_sent_and_taken_out_of_messages(endpoint: Endpoint) -> None:
    endpoint.plan = lambda request: error(422, "no luck with sk-test")
    failure = failure_of(ask(endpoint, "a")["a"])
    assert endpoint.authorizations == {"Bearer sk-test"}
    assert failure.message == "no luck with [secret]"


def test_a_request_waits_as_long_as_the_server_says(
    endpoint: Endpoint, pauses: list[float]
) -> None:
    endpoint.plan = in_order(error(429, "later", retry_after=1), error(503, retry_after=119.5))
    assert ask(endpoint, "a")["a"].attempts == 3
    assert pauses == [1.0, 119.5]


def test_a_pause_frees_its_place(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def until_the_next_answer(self: Admission, seconds: float, outage: bool) -> Awaitable[None]:
        return PAUSE(self, 300.0, outage=True)

    monkeypatch.setattr(Admission, "pause", until_the_next_answer)
    endpoint.plan = in_order(error(429, "later"))
    ask(endpoint, "0", "1", concurrency=1)
    assert [request.prompt for request in endpoint.received] == ["0", "1", "0"]


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


@pytest.mark.parametrize("padding", range(19_900, 20_010, 7))
def test_no_part_of_a_key_is_shown_where_a_long_page_is_cut(padding: int) -> None:
    page = b"<p>" + b" " * padding + b"sk-abcdefghijklmnopqrstuvwxyz</p>" + b"x" * 300
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200 if request.method == "GET" else 422, content=page)
    )
    at = models.Endpoint("http://host/v1", "sk-abcdefghijklmnopqrstuvwxyz")
    [response] = APILLMServing(at, "m", transport=transport).generate(requests("a"))
    assert "sk-abc" not in failure_of(response).message


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_x_should_retry_wins_before_the_first_answer(status: int, endpoint: Endpoint) -> None:
    again = Reply(status, body=b"not yet", headers={"x-should-retry": "true"})
    endpoint.plan = in_order(again, again)
    answers = ask(endpoint, "a")
    assert (text_of(answers["a"]), answers["a"].attempts) == (text_for("a"), 3)


def test_a_denial_that_never_ends_stops_the_run_though_it_asks_for_retries(
    endpoint: Endpoint,
) -> None:
    endpoint.plan = lambda request: Reply(401, body=b"no", headers={"x-should-retry": "true"})
    with pytest.raises(EndpointError, match="refused the key"):
        list(serving(endpoint, max_retries=1).generate(requests("a")))
    assert len(endpoint.received) == 2


def test_retries_are_numbered_by_those_that_count(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.plan = healing(lambda request: Reply(503, headers={"retry-after": "0"}), 2)
    with caplog.at_level(logging.INFO, "codesynth.serving.attempts"):
        ask(endpoint, "a", max_retries=2)
    numbers = [each.partition("; ")[2][:14] for each in messages_of(caplog)]
    assert numbers == ["attempt 2 of 3", "attempt 3 of 3"]


def test_a_429_for_the_list_of_models_is_retried(endpoint: Endpoint) -> None:
    endpoint.models = None
    listed = Reply(200, json.dumps({"data": [{"id": "served"}]}).encode())
    plans = iter([Reply(429), listed])
    endpoint.plan = lambda request: next(plans)
    assert serving(endpoint).model == "served"


def test_a_pause_that_would_outlast_max_outage_ends_the_asking_for_the_model(
    endpoint: Endpoint,
) -> None:
    endpoint.models = None
    endpoint.plan = lambda request: Reply(503, headers={"retry-after": "100"})
    with pytest.raises(EndpointError, match=r"/models answers 503\. With --model"):
        serving(endpoint, max_outage=60.0).model  # noqa: B018 - reading it asks the endpoint
    assert len(endpoint.others) == 1


def test_a_model_is_asked_of_the_first_endpoint_that_can_be_asked(
    endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    dead = models.Endpoint("http://127.0.0.1:9/v1", "")
    with caplog.at_level(logging.INFO):
        assert APILLMServing([dead, endpoint.base_url]).model == "test-model"
    assert not caplog.records  # the dead one was asked once


def test_an_unknown_host_stops_the_run_at_once(caplog: pytest.LogCaptureFixture) -> None:
    nobody = APILLMServing(models.Endpoint("http://a..b/v1", ""), "m")
    with caplog.at_level(logging.INFO), pytest.raises(EndpointError, match="cannot connect to"):
        list(nobody.generate(requests("a", "b")))
    assert not [each for each in messages_of(caplog) if "attempt" in each]


# Replicas.


def both(one: str, other: str, **options: object) -> APILLMServing:
    ends = [models.Endpoint(url, "sk-test") for url in (one, other)]
    return APILLMServing(ends, "test-model", **({"concurrency": 8, "timeout": 60.0} | options))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_replica_that_refuses_the_key_is_left_out_with_a_warning(
    status: int, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    with Endpoint(lambda request: error(status, "not for you")) as refusing:
        responses = list(both(refusing.base_url, endpoint.base_url).generate(many(60)))
    assert [r.error for r in responses] == 60 * [None]
    assert len(refusing.received) <= 8
    told = [each for each in messages_of(caplog) if refusing.base_url in each]
    assert "not for you" in told[0]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://a..b/v1", "https://127.0.0.1:9"])
def test_a_replica_that_cannot_be_reached_is_left_out_with_a_warning(
    url: str, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    responses = list(both(url, endpoint.base_url).generate(many(60)))
    assert [r.error for r in responses] == 60 * [None]
    assert [each for each in messages_of(caplog) if url in each]


def test_a_replica_that_dies_costs_no_row(endpoint: Endpoint) -> None:
    with Endpoint() as dying:
        responses = both(dying.base_url, endpoint.base_url).generate(many(400))
        done = [next(responses) for _ in range(20)]
        dying.stop()
        done += list(responses)
    assert [r.error for r in done] == 400 * [None]


def test_replicas_share_the_load(endpoint: Endpoint) -> None:
    with Endpoint() as other:

        def is_shared() -> bool:
            return min(len(endpoint.times), len(other.times)) >= 4

        endpoint.plan = other.plan = lambda request: held(echo(request), is_shared)
        list(both(endpoint.base_url, other.base_url).generate(many(100)))
        assert is_shared()
        assert len(endpoint.times) + len(other.times) == 100
