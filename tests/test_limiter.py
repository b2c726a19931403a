"""The limiter against endpoints in simulated time; figures are ratios, never wall time."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation import (
    Endpoint,
    Run,
    always,
    batching,
    best_fixed,
    changing,
    cold,
    concurrency_limit,
    flaky,
    in_turn,
    lognormal,
    outage,
    queue,
    rate_limit,
    simulate,
    steady,
    token_bucket,
    unlimited,
)

from codesynth.serving.limiter import Limiter, Outcome
from codesynth.serving.pace import Limits


@dataclass(frozen=True)
class Case:
    """An endpoint, how long it is asked, and the fixed limits worth searching."""

    name: str
    endpoint: Callable[[], Endpoint]
    seconds: float
    fixed: tuple[int, ...]
    maximum: int = 1024


def _rate(service: float, **kinds: bool) -> Callable[[], Endpoint]:
    return lambda: rate_limit(lognormal(service), 600, **kinds)


CASES = [
    Case("unlimited", lambda: unlimited(always(0.5)), 60, (128, 256), maximum=256),
    Case("unlimited, wild", lambda: unlimited(lognormal(1.0, 1.0)), 60, (128, 256), maximum=256),
    Case("one at a time", lambda: concurrency_limit(always(1.0), steady(1)), 60, (1, 2)),
    Case("ten at a time", lambda: concurrency_limit(lognormal(0.5), steady(10)), 60, (8, 10, 16)),
    Case(
        "64 at a time, wild latencies",
        lambda: concurrency_limit(lognormal(1.0, 1.0), steady(64)),
        60,
        (48, 64, 96),
    ),
    Case("256 at a time, in step", lambda: concurrency_limit(always(0.5), steady(256)), 60, (256,)),
    Case(
        "retry-after of 89 s",
        lambda: concurrency_limit(lognormal(1.0), steady(50), retry_after=89),
        60,
        (50, 64),
    ),
    Case(
        "slow refusals",
        lambda: concurrency_limit(lognormal(1.0), steady(50), refusal=0.3),
        120,
        (50, 64),
    ),
    Case(
        "limit falls",
        lambda: concurrency_limit(lognormal(0.5), changing(60, 128, 32)),
        120,
        (32, 128),
    ),
    Case(
        "limit rises",
        lambda: concurrency_limit(lognormal(0.5), changing(60, 32, 128)),
        120,
        (32, 128),
    ),
    Case("queue, one server", lambda: queue(lognormal(1.0), steady(1)), 120, (1, 2, 8)),
    Case("queue, 16 servers", lambda: queue(always(1.0), steady(16)), 60, (12, 16, 32)),
    Case("queue, wild", lambda: queue(lognormal(2.0, 1.0), steady(16)), 120, (16, 32, 64)),
    Case("queue grows", lambda: queue(lognormal(1.0), changing(60, 16, 64)), 120, (64, 128)),
    Case("queue shrinks", lambda: queue(lognormal(1.0), changing(60, 64, 16)), 120, (64, 128)),
    Case("batching", lambda: batching(lognormal(1.0), 64, 256), 120, (128, 256, 512)),
    Case(
        "cold start, then 32 at a time",
        lambda: cold(concurrency_limit(lognormal(1.0), steady(32)), 30),
        120,
        (32, 48),
    ),
    Case(
        "cold start, then a queue",
        lambda: cold(queue(lognormal(1.0), steady(16)), 30),
        60,
        (16, 32),
    ),
    Case(
        "outage of 503s",
        lambda: outage(concurrency_limit(lognormal(0.5), steady(64)), 60, 90, "busy"),
        180,
        (64,),
    ),
    Case(
        "outage, nobody listens",
        lambda: outage(queue(lognormal(1.0), steady(32)), 60, 90, "down", 0.002),
        180,
        (32, 64),
    ),
    Case(
        "outage, it hangs",
        lambda: outage(queue(lognormal(1.0), steady(32)), 60, 90, "timeout", 30.0),
        180,
        (32, 64),
    ),
    Case(
        "shut at first",
        lambda: outage(queue(lognormal(1.0), steady(32)), 0, 30, "busy"),
        120,
        (32,),
    ),
    Case(
        "random failures",
        lambda: flaky(concurrency_limit(lognormal(1.0), steady(64)), 0.02, "down", 0.0),
        60,
        (64,),
    ),
    Case("rate of a sliding minute", _rate(1.0), 300, (8, 10, 13)),
    Case("rate of a clock's minute", _rate(1.0, aligned=True), 300, (8, 10, 13)),
    Case("rate with retry-after", _rate(1.0, retry_after=True), 300, (8, 10, 13)),
    Case("rate with headers", _rate(1.0, aligned=True, hints=True), 300, (8, 10, 13)),
    Case("rate of a bucket", lambda: token_bucket(lognormal(1.0), 600, 60), 300, (8, 10, 13)),
    Case("rate without burst", lambda: token_bucket(lognormal(0.2), 600, 10), 180, (2, 3)),
    Case("fast rate", lambda: token_bucket(always(0.2), 6000, 100, 0.001), 60, (16, 20)),
    Case("fast rate, no burst", lambda: token_bucket(lognormal(0.2), 6000, 10, 0.001), 60, (20,)),
    Case("very fast rate", lambda: token_bucket(lognormal(0.02), 30_000, 500), 30, (10, 12)),
    Case("slow answers at a rate", lambda: token_bucket(lognormal(1.0), 6000, 100), 60, (100,)),
    Case(
        "rate falls",
        lambda: in_turn(
            60,
            token_bucket(lognormal(0.2), 6000, 100, 0.001),
            token_bucket(lognormal(0.2), 2400, 40, 0.001),
        ),
        120,
        (8, 20),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_auto_does_as_well_as_the_best_fixed_concurrency(case: Case) -> None:
    best, _ = best_fixed(case.endpoint, case.seconds, *case.fixed)
    run = simulate(Limiter(maximum=case.maximum), case.endpoint(), case.seconds)
    assert run.ok >= 0.95 * best
    assert run.refused_share < 0.02


def _limits_late(run: Run) -> list[int]:
    return run.limits[len(run.limits) // 2 :]


def test_a_concurrency_limit_is_settled_under_without_oscillation() -> None:
    used: list[int] = []

    def watch(now: float) -> Outcome:
        used.append(limiter.in_flight)
        return endpoint(now)

    limiter, endpoint = Limiter(), concurrency_limit(lognormal(1.0), steady(64))
    simulate(limiter, watch, 60)
    late = used[len(used) // 2 :]
    assert min(late) >= 0.9 * 64
    assert max(late) <= 1.1 * 64


@pytest.mark.parametrize(("servers", "mean"), [(1, 1.0), (4, 30.0), (16, 1.0), (16, 0.2)])
def test_a_queue_is_not_filled_for_more_than_a_minute_or_sixteen(servers: int, mean: float) -> None:
    run = simulate(Limiter(), queue(lognormal(mean), steady(servers)), 120)
    assert max(_limits_late(run)) <= 1.25 * max(16 * servers, 60 * servers / mean)


def test_full_use_of_a_fast_endpoint_takes_a_few_seconds() -> None:
    run = simulate(Limiter(), unlimited(always(0.2)), 5)
    assert run.limits[-1] == 1024


def test_it_is_back_after_an_outage_within_some_tens_of_round_trips() -> None:
    healthy = concurrency_limit(lognormal(1.0), steady(64))
    run = Run()
    done: list[float] = []

    def watch(now: float) -> Outcome:
        outcome = outage(healthy, 60, 120, "busy")(now)
        if outcome.verdict == "ok":
            done.append(now + outcome.latency)
        return outcome

    run = simulate(Limiter(), watch, 180)
    assert sum(60 <= sent < 120 for sent in run.sent) < 100
    assert sum(140 < end <= 180 for end in done) >= 0.95 * 64 * 40


@pytest.mark.parametrize(
    ("rows", "latency", "seconds"), [(10, 2.0, 5), (100, 2.0, 8), (100, 0.2, 2)]
)
def test_a_few_rows_do_not_take_for_ever(rows: int, latency: float, seconds: float) -> None:
    assert simulate(Limiter(), unlimited(lognormal(latency)), seconds).ok >= rows


def test_a_mere_error_is_no_reason_to_send_less() -> None:
    endpoint = flaky(unlimited(always(0.5)), 0.3, "error", 0.0)
    assert simulate(Limiter(maximum=64), endpoint, 60).limits[-1] == 64


def _settled(level: int) -> tuple[Limiter, float]:
    """A limiter that has found a concurrency limit, all permits out."""
    limiter = Limiter()
    simulate(limiter, concurrency_limit(always(1.0), steady(level)), 30)
    now = 31.0
    while limiter.acquire(now) <= 0:
        pass
    return limiter, now


def test_a_burst_of_refusals_cuts_once() -> None:
    limiter, now = _settled(40)
    held = limiter.in_flight
    for _ in range(5):
        limiter.release(now + 0.1, Outcome(0.1, "timeout"))
    assert limiter.limit >= 0.7 * held - 6


def test_retry_after_does_not_hold_back_the_others() -> None:
    limiter, now = _settled(40)
    limiter.release(now, Outcome(0.02, "overload", retry_after=89.0))
    limiter.release(now, Outcome(1.0, "ok"))
    limiter.release(now, Outcome(1.0, "ok"))
    assert limiter.acquire(now) == 0.0


def test_while_everything_is_refused_the_pauses_grow_and_stay_bounded() -> None:
    run = simulate(Limiter(), outage(unlimited(always(1.0)), 0, 600, "overload"), 600)
    gaps = [after - before for before, after in pairwise(run.sent)]
    assert len(run.sent) < 90
    assert 7.0 < max(gaps) < 10.0


def test_an_idle_client_does_not_raise_the_limit() -> None:
    limiter = Limiter()
    for second in range(500):
        assert limiter.acquire(float(second)) == 0.0
        limiter.release(second + 0.5, Outcome(0.5, "ok"))
    assert limiter.limit <= 16


def test_a_fixed_concurrency_is_kept() -> None:
    limiter = Limiter(concurrency=7)
    run = simulate(limiter, concurrency_limit(lognormal(0.5), steady(100)), 30)
    assert set(run.limits) == {7}
    assert run.ok == pytest.approx(7 * 30 / 0.5, rel=0.1)


def test_a_cancelled_permit_can_be_taken_again() -> None:
    limiter = Limiter(concurrency=1)
    assert limiter.acquire(0.0) == 0.0
    assert limiter.acquire(0.0) == math.inf
    limiter.cancel(1.0)
    assert (limiter.in_flight, limiter.acquire(1.0)) == (0, 0.0)


_OUTCOMES = st.tuples(
    st.sampled_from(["ok", "ok", "ok", "overload", "busy", "timeout", "down", "error"]),
    st.floats(0.0, 100.0),
    st.one_of(st.none(), st.floats(0.0, 1e4)),
    st.one_of(st.none(), st.integers(0, 100_000)),
    st.one_of(
        st.none(),
        st.builds(Limits, st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, 1e9), st.just(9.0)),
    ),
)


@settings(deadline=None, max_examples=30)
@given(st.lists(_OUTCOMES, min_size=1, max_size=200), st.one_of(st.none(), st.integers(1, 9)))
def test_whatever_comes_it_goes_on(outcomes: list, fixed: int | None) -> None:
    outcomes = outcomes * 3
    limiter = Limiter(concurrency=fixed, maximum=50)
    now, held = 1000.0, 0
    for verdict, latency, retry_after, tokens, limits in outcomes:
        while (wait := limiter.acquire(now)) <= 0.0:
            held += 1
            assert held <= (fixed or 50)
        if held:
            now += latency
            limiter.release(now, Outcome(latency, verdict, retry_after, tokens, limits))
            held -= 1
        else:
            assert wait <= 60.0
            now += wait
        assert limiter.in_flight == held
        assert 1 <= limiter.limit <= (fixed or 50)
