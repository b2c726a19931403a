"""Requests per time: what refusals and headers tell, in simulated time."""

import pytest
from simulation import (
    Endpoint,
    always,
    in_turn,
    lognormal,
    rate_limit,
    simulate,
    token_bucket,
    unlimited,
)

from codesynth.serving.limiter import Limiter, Outcome
from codesynth.serving.pace import Limits, read_limits


def test_a_pace_is_raised_soon_where_a_rate_has_risen() -> None:
    def make(after: int) -> Endpoint:
        low = token_bucket(lognormal(0.2), 2400, 40, 0.001)
        return in_turn(60, low, token_bucket(lognormal(0.2), after, 100, 0.001))

    low, high = simulate(Limiter(), make(2400), 120), simulate(Limiter(), make(6000), 120)
    assert high.ok >= low.ok + 0.5 * 3600
    assert high.refused_share < 0.02


def test_a_promise_to_accept_again_is_believed_when_it_is_repeated() -> None:
    endpoint = rate_limit(always(1.0), 600, aligned=True, retry_after=True)
    run = simulate(Limiter(), endpoint, 60)
    told = simulate(Limiter(), rate_limit(always(1.0), 600, aligned=True), 60)
    assert run.refused < told.refused


def test_headers_keep_a_minutes_rate_without_any_refusal() -> None:
    run = simulate(Limiter(), rate_limit(lognormal(1.0), 600, aligned=True, hints=True), 120)
    assert run.refused == 0
    assert run.ok >= 0.95 * 1200


def test_headers_that_promise_nothing_for_a_day_are_not_waited_for() -> None:
    limits = Limits(requests=5, requests_reset=86400.0)
    endpoint = unlimited(always(0.2))

    def answer(now: float) -> Outcome:
        return Outcome(endpoint(now).latency, "ok", limits=limits)

    assert simulate(Limiter(maximum=128), answer, 10).limits[-1] == 128


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        ({}, None),
        ({"x-ratelimit-remaining-requests": "nonsense"}, None),
        (
            {
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6m0s",
            },
            Limits(59, 1, 149984, 360),
        ),
        (
            {"x-ratelimit-remaining-tokens": "7", "x-ratelimit-reset-tokens": "1h2m3.5s"},
            Limits(tokens=7, tokens_reset=3723.5),
        ),
        (
            {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "20ms"},
            Limits(1, 0.02),
        ),
        ({"ratelimit-remaining": "10", "ratelimit-reset": "30"}, Limits(10, 30)),
        ({"x-ratelimit-remaining": "10", "x-ratelimit-reset": "tomorrow"}, Limits(10)),
        ({"x-ratelimit-remaining": "10", "x-ratelimit-reset": "1.2.3s"}, Limits(10)),
        ({"x-ratelimit-remaining": "-1"}, None),
        ({"x-ratelimit-remaining": "nan"}, None),
    ],
)
def test_rate_limit_headers_are_read(headers: dict[str, str], limits: Limits | None) -> None:
    assert read_limits(headers) == limits
