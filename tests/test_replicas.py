"""Several endpoints, in simulated time."""

import heapq
import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from simulation import (
    Endpoint,
    always,
    concurrency_limit,
    lognormal,
    outage,
    queue,
    steady,
    unlimited,
)

from codesynth.serving.limiter import Outcome
from codesynth.serving.replicas import OutageGuard, Replicas


def down(now: float) -> Outcome:
    return Outcome(0.002, "down")


def hung(now: float) -> Outcome:
    return Outcome(600.0, "timeout")


class Result:
    """How many each replica was sent and answered, and when."""

    def __init__(self, count: int) -> None:
        self.sent: list[list[float]] = [[] for _ in range(count)]
        self.ok = [0] * count


def share(
    endpoints: Sequence[Endpoint],
    seconds: float,
    *,
    most: int | None = None,
    concurrency: int | None = None,
) -> Result:
    """Send as the client does: at most ``most`` at a time, what failed goes first and elsewhere."""
    replicas, result = Replicas(len(endpoints), concurrency=concurrency), Result(len(endpoints))
    landing: list[tuple[float, int, int, Outcome]] = []
    failed: list[int] = []
    now, number = 0.0, 0
    while now <= seconds:
        wait = math.inf
        while len(landing) < (most or 10_000):
            avoid = failed[-1] if failed else None
            index, wait = replicas.choose(now, 0, avoid)
            if wait > 0.0:
                break
            if failed:
                failed.pop()
            outcome = endpoints[index](now)
            number += 1
            result.sent[index].append(now)
            heapq.heappush(landing, (now + outcome.latency, number, index, outcome))
        now = min(now + wait, landing[0][0] if landing else math.inf)
        while landing and landing[0][0] <= now:
            _, _, index, outcome = heapq.heappop(landing)
            replicas.release(index, now, outcome)
            result.ok[index] += outcome.verdict == "ok"
            if outcome.verdict != "ok":
                failed.append(index)
    return result


def test_each_replica_gets_what_it_can_take() -> None:
    endpoints = [
        concurrency_limit(lognormal(1.0), steady(10)),
        concurrency_limit(lognormal(1.0), steady(50)),
        queue(lognormal(1.0), steady(20)),
    ]
    result = share(endpoints, 60)
    assert sum(result.ok) >= 0.95 * 80 * 60


def test_a_slow_replica_gets_its_share_and_holds_up_nobody() -> None:
    endpoints = [queue(lognormal(1.0), steady(16)), queue(lognormal(10.0), steady(16))]
    result = share(endpoints, 120)
    assert result.ok[0] >= 0.95 * 16 * 120
    assert result.ok[1] >= 0.7 * 1.6 * 120


def test_few_requests_are_spread_evenly() -> None:
    result = share([unlimited(always(1.0)), unlimited(always(1.0))], 30, most=6)
    assert result.ok[0] == pytest.approx(result.ok[1], rel=0.1)


def test_a_dead_replica_is_left_and_tried_again_ever_more_rarely() -> None:
    result = share([concurrency_limit(lognormal(1.0), steady(32)), down], 120)
    assert result.ok[0] >= 0.95 * 32 * 120
    trials = result.sent[1]
    assert len(trials) < 40
    gaps = [after - before for before, after in pairwise(trials)]
    assert 10.0 < max(gaps) <= 31.0


def test_what_failed_is_asked_elsewhere_even_where_more_is_going_on() -> None:
    replicas, now = Replicas(2), 0.0
    while replicas.choose(now)[1] <= 0.0 or now < 1.0:
        now += 0.1
    for _ in range(3):
        replicas.release(1, now, Outcome(1.0, "ok"))
    replicas.release(0, now, Outcome(1.0, "down"))
    assert replicas.choose(now, 0, avoid=1) == (0, 0.0)
    assert replicas.choose(now, 0) == (1, 0.0)


def test_a_hung_replica_keeps_few_and_holds_up_nobody() -> None:
    result = share([concurrency_limit(lognormal(1.0), steady(32)), hung], 120)
    assert result.ok[0] >= 0.95 * 32 * 120
    assert len(result.sent[1]) <= 16


def test_a_replica_that_comes_back_is_used_again() -> None:
    healthy = concurrency_limit(lognormal(0.5), steady(32))
    back = outage(concurrency_limit(lognormal(0.5), steady(32)), 20, 60, "down", 0.002)
    result = share([healthy, back], 120)
    late = sum(now > 90 for now in result.sent[1])
    assert late >= 0.9 * 64 * 30


def test_when_all_are_down_each_is_tried_and_nothing_is_hammered() -> None:
    result = share([down, down], 60)
    assert all(5 < len(sent) < 30 for sent in result.sent)


def test_the_concurrency_asked_for_is_that_of_the_whole_run() -> None:
    replicas = Replicas(3, concurrency=4)
    chosen = [replicas.choose(0.0) for _ in range(5)]
    assert sorted(index for index, _ in chosen[:4]) == [0, 0, 1, 2]
    assert chosen[4] == (-1, math.inf)
    assert replicas.limit == 4


def test_a_single_replica_is_asked_again_even_if_it_is_to_be_avoided() -> None:
    assert Replicas(1).choose(0.0, 0, avoid=0) == (0, 0.0)


def test_the_one_to_avoid_is_asked_where_no_other_has_room() -> None:
    replicas = Replicas(2)
    assert [replicas.choose(0.0, 0, avoid=1) for _ in range(2)] == [(0, 0.0), (1, 0.0)]


def test_everybody_rests_only_while_nobody_accepts_anything() -> None:
    replicas, now, rested = Replicas(1), 0.0, []
    for verdict in ("busy", "busy", "busy", "ok"):
        index, wait = replicas.choose(now)
        while wait > 0.0:
            now += wait
            index, wait = replicas.choose(now)
        now += 0.1
        replicas.release(index, now, Outcome(0.1, verdict))
        rested.append(replicas.resting)
    assert rested == [False, True, True, False]


def test_an_outage_is_over_with_the_first_answer() -> None:
    guard = OutageGuard(60)
    for second in range(0, 90, 10):
        guard.record(second, ok=False)
    assert guard.expired(80)
    guard.record(81, ok=True)
    assert not guard.expired(81)


def test_a_restart_of_a_minute_is_no_outage() -> None:
    guard = OutageGuard(300)
    for second in range(60):
        guard.record(second, ok=False)
        assert not guard.expired(second)


def test_slow_answers_are_no_outage() -> None:
    guard = OutageGuard(300)
    assert not guard.expired(10_000)
    guard.record(0, ok=True)
    assert not guard.expired(10_000)


def test_an_idle_input_between_two_failures_is_no_outage() -> None:
    guard = OutageGuard(300)
    for second in (0, 10_000, 20_000):
        guard.record(second, ok=False)
        assert not guard.expired(second + 5)


def test_an_endpoint_that_only_hangs_is_found_out_in_the_end() -> None:
    guard = OutageGuard(300)
    for attempt in range(5):
        guard.record(600.0 * attempt, ok=False)
    assert guard.expired(2400)
