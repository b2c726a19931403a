"""The rate limits of a run, in virtual time."""

import random

import pytest

from codesynth.serving.limits.rates import RateLimit, TokenRateLimit


def _fullest_minute(uses: list[tuple[float, float]]) -> float:
    """The most that was used in any sixty seconds, both ends included."""
    fullest = total = 0.0
    first = 0
    for now, amount in uses:
        total += amount
        while uses[first][0] < now - 60.0:
            total -= uses[first][1]
            first += 1
        fullest = max(fullest, total)
    return fullest


@pytest.mark.parametrize("late", [0.0, 0.02], ids=["on time", "always late"])
@pytest.mark.parametrize("rpm", [1, 7, 600, 2500.5])
def test_rpm_is_nearly_reached_and_never_passed_in_any_minute(rpm: float, late: float) -> None:
    limit, chance, now, sent = RateLimit(rpm), random.Random(1), 0.0, list[tuple[float, float]]()
    while now < 300.0:
        wait = limit.wait(now)
        if wait > 0.0:
            now += wait + chance.uniform(0.0, late)
        else:
            limit.take(now, 1.0)
            sent.append((now, 1.0))
    assert _fullest_minute(sent) <= rpm
    assert len(sent) >= 0.98 * rpm * 5 - 1


def test_rpm_spreads_the_requests_from_the_first_second_on() -> None:
    limit, now, sent = RateLimit(600.0), 0.0, list[float]()
    while now < 60.0:
        now += limit.wait(now)
        limit.take(now, 1.0)
        sent.append(now)
    assert max(sum(s <= now < s + 1 for now in sent) for s in range(60)) <= 13


@pytest.mark.parametrize("estimate", [0, 300, 5000], ids=["none", "of the prompt", "far too high"])
def test_tpm_is_kept_whatever_the_estimates_are(estimate: int) -> None:
    limit, chance, now = TokenRateLimit(200_000), random.Random(3), 0.0
    used: list[tuple[float, float]] = []
    landing: list[tuple[float, float, int]] = []  # end, reserved, tokens
    while now < 300.0:
        wait = limit.wait(now) if len(landing) < 24 else 60.0
        if wait <= 0.0:
            tokens = 300 + int(chance.lognormvariate(6.0, 0.6))
            reserved = limit.take(now, estimate)
            used.append((now, tokens))
            landing = sorted([*landing, (now + tokens / 200, reserved, tokens)])
        elif landing and landing[0][0] <= now + wait:
            now, reserved, tokens = landing.pop(0)
            limit.settle(reserved, tokens)
        else:
            now += wait
    late = [(now, tokens) for now, tokens in used if now > 60]
    assert _fullest_minute(late) <= 200_000
    assert sum(tokens for _, tokens in late) >= 0.94 * 200_000 * 4


def test_one_request_above_the_whole_tpm_goes_alone() -> None:
    limit = TokenRateLimit(1000)
    assert limit.wait(0.0) == 0.0
    limit.take(0.0, 5000)
    assert 60.0 <= limit.wait(0.0) <= 400.0


def test_tokens_of_a_refused_request_are_given_back() -> None:
    limit = TokenRateLimit(60_000)
    reserved = limit.take(0.0, 30_000)
    assert limit.wait(0.1) > 10
    limit.settle(reserved, 0)
    assert limit.wait(1.5) == 0.0


def test_a_cancelled_request_keeps_its_tokens() -> None:
    limit = TokenRateLimit(100)
    limit.settle(limit.take(0.0, 98), None)
    assert 55 < limit.wait(2.0) < 60
