"""The caps of a run, in simulated time."""

import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from simulation import always, lognormal, simulate, unlimited

from codesynth.serving.limiter import Outcome
from codesynth.serving.rates import Cap
from codesynth.serving.replicas import Replicas


class Run:
    """A run with one endpoint, of which all permits are asked for."""

    def __init__(self, *, estimate: int = 0, rpm: float | None = None, tpm: float | None = None):
        self._replicas = Replicas(1, rpm=rpm, tpm=tpm)
        self._estimate = estimate

    @property
    def limit(self) -> int:
        return self._replicas.limit

    def acquire(self, now: float) -> float:
        return self._replicas.choose(now, self._estimate)[1]

    def release(self, now: float, outcome: Outcome) -> None:
        self._replicas.release(0, now, outcome)


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


@pytest.mark.parametrize("rpm", [1, 7, 60, 600, 2500.5])
def test_rpm_is_nearly_reached_and_never_passed_in_any_minute(rpm: float) -> None:
    run = simulate(Run(rpm=rpm), unlimited(lognormal(0.5)), 300)
    assert _fullest_minute([(now, 1.0) for now in run.sent]) <= rpm
    assert len(run.sent) >= 0.98 * rpm * 5 - 1


def test_rpm_spreads_the_requests_from_the_first_second_on() -> None:
    run = simulate(Run(rpm=600), unlimited(always(0.1)), 60)
    assert max(sum(s <= now < s + 1 for now in run.sent) for s in range(60)) <= 13


def test_a_client_that_is_always_late_still_reaches_its_rpm() -> None:
    cap, chance, now, sent = Cap(6000.0), random.Random(1), 0.0, []
    while now < 120.0:
        wait = cap.wait(now, 1.0)
        if wait > 0.0:
            now += wait + chance.uniform(0.0, 0.02)
        else:
            cap.take(now, 1.0)
            sent.append((now, 1.0))
    assert _fullest_minute(sent) <= 6000
    assert len(sent) >= 0.98 * 12000


def test_a_cap_catches_up_after_a_pause_only_as_far_as_the_minute_allows() -> None:
    cap, sent, now = Cap(600.0), [], 0.0
    for pause in (0.0, 30.0, 1.0, 70.0, 0.3, 5.0):
        now += pause
        for _ in range(400):
            wait = cap.wait(now, 1.0)
            now += wait
            assert cap.wait(now, 1.0) < 1e-6
            cap.take(now, 1.0)
            sent.append((now, 1.0))
    assert _fullest_minute(sent) <= 600


@pytest.mark.parametrize("estimate", [0, 300, 5000], ids=["none", "of the prompt", "far too high"])
def test_tpm_is_kept_whatever_the_estimates_are(estimate: int) -> None:
    chance = random.Random(3)
    used: list[tuple[float, float]] = []

    def answer(now: float) -> Outcome:
        tokens = 300 + int(chance.lognormvariate(6.0, 0.6))
        used.append((now, tokens))
        return Outcome(tokens / 200, "ok", tokens=tokens)

    simulate(Run(estimate=estimate, tpm=200_000), answer, 300)
    late = [(now, tokens) for now, tokens in used if now > 60]
    assert _fullest_minute(late) <= 200_000
    assert sum(tokens for _, tokens in late) >= 0.94 * 200_000 * 4


def test_one_request_above_the_whole_tpm_goes_alone() -> None:
    replicas = Replicas(1, tpm=1000)
    assert replicas.choose(0.0, 5000) == (0, 0.0)
    index, wait = replicas.choose(0.0, 5000)
    assert index == -1
    assert 60.0 <= wait <= 400.0
    replicas.release(0, 1.0, Outcome(1.0, "ok", tokens=5000))
    assert replicas.choose(1.0 + wait, 5000) == (0, 0.0)


def test_tokens_of_a_refused_request_are_given_back() -> None:
    replicas = Replicas(1, tpm=60_000)
    replicas.choose(0.0, 30_000)
    assert replicas.choose(0.1, 1000)[1] > 10
    replicas.release(0, 0.2, Outcome(0.2, "overload"))
    assert replicas.choose(1.5, 1000) == (0, 0.0)


def test_a_cancelled_request_keeps_its_place_in_the_minute() -> None:
    replicas = Replicas(1, rpm=1, tpm=100)
    replicas.choose(0.0, 100)
    replicas.cancel(0, 1.0)
    assert 55 < replicas.choose(2.0, 100)[1] < 60


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.5, 5000.0),
    st.lists(st.tuples(st.floats(0.0, 100.0), st.floats(0.1, 3000.0)), min_size=1, max_size=100),
)
@example(2.00001, [(0.0, 0.25), (0.0, 0.5), (0.0, 1.0)])
def test_no_minute_is_over_its_cap(per_minute: float, wishes: list[tuple[float, float]]) -> None:
    cap, now, uses = Cap(per_minute), 12345.678, []
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
