"""The client against an endpoint that misbehaves in every way it can."""

from collections.abc import Iterable

import pytest
from answers import FOREVER, Answer, Plan, Received, completion, echo, error, reply
from endpoint import Endpoint
from faults import FAULTS, Fault

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
    return APILLMServing(at, **({"timeout": 5.0, "concurrency": 8} | options))  # type: ignore[arg-type]


def ask(endpoint: Endpoint, *prompts: str, **options: object) -> dict[str, Response]:
    responses = list(serving(endpoint, **options).generate(requests(*prompts)))
    assert sorted(r.request.custom_id for r in responses) == sorted(
        f"row-{i}" for i in range(len(prompts))
    )
    return {r.request.messages[-1]["content"]: r for r in responses}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_becomes_what_the_contract_says(name: str, endpoint: Endpoint) -> None:
    fault = FAULTS[name]
    endpoint.plan = lambda request: (
        echo(request) if request.prompt == "good" else fault.plan(request)
    )
    timeout = 0.3 if fault.slow else 5.0
    answered = serving(endpoint, timeout=timeout, max_retries=1, concurrency=1)
    rows = requests("good", "bad")
    responses = {r.request.position: r for r in answered.generate(iter(rows))}
    assert responses[0].text == reply("good")
    response = responses[1]
    kind = response.error.kind if response.error else "ok"
    assert kind in fault.kinds
    if response.error is None:
        assert response.text == fault.text("bad")
    else:
        assert fault.says in response.error.message
        assert fault.status in (None, response.error.status)
    if fault.retried is not None:
        assert endpoint.counts["bad"] in ((2,) if fault.retried else (1,))
        assert response.attempts == 1 + fault.retried
