"""Permission to send: replicas, outages, the order of those who wait."""

import asyncio

import pytest
from support.asking import Clock, in_loop

from codesynth.errors import LimitReached
from codesynth.models import Price, Usage
from codesynth.serving.limits import Admission, Advice, AttemptResult, Budget

OK = AttemptResult("answered", usage=Usage(10, 20))
DENIED = AttemptResult("denied", "wrong key")
DOWN = AttemptResult("down", "status 500")
UNREACHABLE = AttemptResult("unreachable", "connection refused", billed=False)


async def send(
    admission: Admission, result: AttemptResult | None, avoid: int | None = None
) -> tuple[int, Advice]:
    permit = await admission.admit(b"{}", avoid)
    return permit.replica, admission.settle(permit, result)


@in_loop
async def test_the_concurrency_asked_for_is_that_of_all_replicas_together() -> None:
    admission = Admission(["a", "b", "c"], concurrency=4)
    permits = [await admission.admit(b"{}") for _ in range(4)]
    assert sorted(permit.replica for permit in permits) == [0, 0, 1, 2]
    late = asyncio.create_task(admission.admit(b"{}"))
    await asyncio.sleep(0)
    assert not late.done()
    admission.settle(permits[2], OK)
    await late


@in_loop
async def test_a_key_revoked_at_one_replica_is_found_out_while_the_other_answers() -> None:
    admission = Admission(["a", "b"], concurrency=8)
    advice = []
    for number in range(40):
        result = OK if number < 2 else DENIED
        permits = [await admission.admit(b"{}") for _ in range(2)]
        for permit in permits:
            given = admission.settle(permit, result if permit.replica == 0 else OK)
            advice.append(given)
    assert Advice(elsewhere=True) in advice
    assert not any(each.stop for each in advice)


@in_loop
async def test_a_dead_replica_is_left_out_and_probed_by_fresh_rows_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    admission = Admission(["a", "b"], concurrency=8, clock=clock)
    assert await send(admission, UNREACHABLE) == (0, Advice())
    assert (await send(admission, OK))[0] == 1
    clock.now = 31.0
    assert (await send(admission, OK, avoid=1))[0] == 1
    assert (await send(admission, OK))[0] == 0
    assert "a is down and left out for now: connection refused" in caplog.text
    assert "a answers again" in caplog.text


@in_loop
async def test_one_server_error_does_not_make_a_replica_rest() -> None:
    admission = Admission(["a", "b"], concurrency=8)
    assert (await send(admission, DOWN))[0] == 0
    assert (await send(admission, OK))[0] == 0
    for _ in range(3):
        await send(admission, DOWN)
    assert (await send(admission, OK))[0] == 1


@in_loop
async def test_an_unknown_host_stops_at_once_but_is_an_outage_after_an_answer() -> None:
    hopeless = AttemptResult("hopeless", "unknown host", billed=False)
    assert (await send(Admission(["a"]), hopeless))[1].stop
    admission = Admission(["a"])
    await send(admission, OK)
    assert (await send(admission, hopeless))[1] == Advice(is_outage=True)


@in_loop
async def test_an_outage_longer_than_allowed_stops() -> None:
    clock = Clock()
    admission = Admission(["a"], concurrency=8, max_outage=60, clock=clock)
    await send(admission, OK)
    stops = []
    for second in range(0, 80, 10):
        clock.now = second
        stops.append((await send(admission, UNREACHABLE))[1].stop)
    assert stops == [False] * 6 + [True] * 2


@in_loop
async def test_retries_go_before_fresh_rows() -> None:
    admission, order = Admission(["a"], concurrency=1), list[str]()
    first = await admission.admit(b"{}")

    async def enter(name: str, avoid: int | None) -> None:
        permit = await admission.admit(b"{}", avoid)
        order.append(name)
        admission.settle(permit, OK)

    rows = [("new", None), ("newer", None), ("retry", 0)]
    tasks = [asyncio.create_task(enter(*row)) for row in rows]
    await asyncio.sleep(0)
    admission.settle(first, OK)
    await asyncio.gather(*tasks)
    assert order == ["retry", "new", "newer"]


@in_loop
async def test_a_permit_that_came_too_late_goes_to_the_next() -> None:
    admission = Admission(["a"], concurrency=1)
    permit = await admission.admit(b"{}")
    first = asyncio.create_task(admission.admit(b"{}"))
    second = asyncio.create_task(admission.admit(b"{}"))
    await asyncio.sleep(0)
    admission.settle(permit, OK)
    first.cancel()
    assert (await second).replica == 0


@in_loop
async def test_the_end_of_an_outage_ends_the_pauses_that_wait_for_it() -> None:
    admission = Admission(["a"])
    waiting = asyncio.create_task(admission.pause(3600, outage=True))
    other = asyncio.create_task(admission.pause(3600))
    await asyncio.sleep(0)
    await send(admission, OK)
    await waiting
    assert not other.done()
    other.cancel()


@pytest.mark.parametrize("usage", [None, Usage(), Usage(prompt_tokens=100)])
@in_loop
async def test_usage_without_numbers_is_estimated_from_bytes(usage: Usage | None) -> None:
    budget = Budget(Price(1.0, 4.0), 0.01)
    admission = Admission(["a"], budget=budget)
    result = AttemptResult("answered", usage=usage, answer_bytes=800)

    async def spend() -> None:
        for _ in range(5000):
            await send(admission, result)

    with pytest.raises(LimitReached):
        await spend()
    assert 0.008 < budget.spent <= 0.01


@in_loop
async def test_a_permit_that_was_never_used_costs_nothing() -> None:
    budget = Budget(Price(1.0, 4.0), 1.0, max_tokens=1000)
    admission = Admission(["a"], concurrency=1, budget=budget)
    permit = await admission.admit(b"{}")
    late = asyncio.create_task(admission.admit(b"{}"))
    await asyncio.sleep(0)
    admission.settle(permit, AttemptResult("overload", billed=False))
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (budget.spent, budget.is_idle) == (0.0, True)


@in_loop
async def test_an_idle_input_and_slow_answers_are_no_outage() -> None:
    clock = Clock()
    admission = Admission(["a"], max_outage=300, clock=clock)
    for clock.now in (0.0, 10_000.0, 20_000.0):
        assert not (await send(admission, UNREACHABLE))[1].stop
