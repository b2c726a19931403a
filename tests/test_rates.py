"""The caps of a run, in virtual time."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesynth.serving.limits.rates import Cap, TokenCap


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
    cap, chance, now, sent = Cap(rpm), random.Random(1), 0.0, list[tuple[float, float]]()
    while now < 300.0:
        wait = cap.wait(now, 1.0)
        if wait > 0.0:
            now += wait + chance.uniform(0.0, late)
        else:
            cap.take(now, 1.0)
            sent.append((now, 1.0))
    assert _fullest_minute(sent) <= rpm
    assert len(sent) >= 0.98 * rpm * 5 - 1


def test_rpm_spreads_the_requests_from_the_first_second_on() -> None:
    cap, now, sent = Cap(600.0), 0.0, list[float]()
    while now < 60.0:
        now += cap.wait(now, 1.0)
        cap.take(now, 1.0)
        sent.append(now)
    assert max(sum(s <= now < s + 1 for now in sent) for s in range(60)) <= 13


@pytest.mark.parametrize("estimate", [0, 300, 5000], ids=["none", "of the prompt", "far too high"])
def test_tpm_is_kept_whatever_the_estimates_are(estimate: int) -> None:
    cap, chance, now = TokenCap(200_000), random.Random(3), 0.0
    used: list[tuple[float, float]] = []
    landing: list[tuple[float, float, int]] = []
    while now < 300.0:
        wait = cap.wait(now, estimate) if len(landing) < 24 else 60.0
        if wait <= 0.0:
            tokens = 300 + int(chance.lognormvariate(6.0, 0.6))
            cap.take(now, estimate)
            used.append((now, tokens))
            landing = sorted([*landing, (now + tokens / 200, now, tokens)])
        elif landing and landing[0][0] <= now + wait:
            now, sent, tokens = landing.pop(0)
            cap.settle(sent, tokens)
        else:
            now += wait
    late = [(now, tokens) for now, tokens in used if now > 60]
    assert _fullest_minute(late) <= 200_000
    assert sum(tokens for _, tokens in late) >= 0.94 * 200_000 * 4


def test_one_request_above_the_whole_tpm_goes_alone() -> None:
    cap = TokenCap(1000)
    assert cap.wait(0.0, 5000) == 0.0
    cap.take(0.0, 5000)
    assert 60.0 <= cap.wait(0.0, 5000) <= 400.0


def test_tokens_of_a_refused_request_are_given_back() -> None:
    cap = TokenCap(60_000)
    cap.take(0.0, 30_000)
    assert cap.wait(0.1, 1000) > 10
    cap.settle(0.0, 0)
    assert cap.wait(1.5, 1000) == 0.0


def test_a_cancelled_request_keeps_its_tokens() -> None:
    cap = TokenCap(100)
    cap.take(0.0, 98)
    cap.settle(0.0, None)
    assert 55 < cap.wait(2.0, 98) < 60


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.5, 5000.0),
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.1, 3000.0)), min_size=1, max_size=100),
)
@example(2.00001, [(0.0, 0.25), (0.0, 0.5), (0.0, 1.0)])
def test_no_minute_is_over_its_cap(per_minute: float, wishes: list[tuple[float, float]]) -> None:
    cap, now, uses = Cap(per_minute), 12345.678, list[tuple[float, float]]()
    for pause, share in wishes:
        amount = min(share, 1.0) * per_minute
        now += pause
        for _ in range(100):
            wait = cap.wait(now, amount)
            if wait <= 0.0:
                break
            now += wait
        assert wait <= 0.0, "the wait it told was too short, again and again"
        cap.take(now, amount)
        uses.append((now, amount))
    assert _fullest_minute(uses) <= per_minute * (1 + 1e-9)
