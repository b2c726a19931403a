"""The gate: what waits there is let through, called off, or sent away."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from codesynth.serving.gate import Drained, Gate
from codesynth.serving.limiter import Outcome
from codesynth.serving.replicas import Replicas


def with_gate(concurrency: int, use: Callable[[Gate], Awaitable[object]]) -> None:
    async def run() -> None:
        replicas = Replicas(1, concurrency=concurrency, rpm=None, tpm=None)
        await use(Gate(replicas, time.monotonic, None, lambda: None))

    asyncio.run(asyncio.wait_for(run(), 5))


def test_the_end_of_an_outage_ends_the_pauses_that_wait_for_it() -> None:
    async def use(gate: Gate) -> None:
        waiting = asyncio.create_task(gate.pause(3600, outage=True))
        told_to = asyncio.create_task(gate.pause(3600, outage=False))
        await asyncio.sleep(0)
        assert gate.paused == 2
        gate.end_outage()
        await waiting
        assert (gate.paused, told_to.done()) == (1, False)
        gate.drain()
        with pytest.raises(Drained):
            await told_to

    with_gate(1, use)


def test_a_drain_sends_away_all_who_wait_now_and_later() -> None:
    async def use(gate: Gate) -> None:
        assert await gate.enter(1) == 0
        waiting = [
            asyncio.create_task(gate.enter(1)),
            asyncio.create_task(gate.enter(1, avoid=0)),
            asyncio.create_task(gate.pause(3600, outage=True)),
        ]
        await asyncio.sleep(0)
        gate.drain()
        for task in waiting:
            with pytest.raises(Drained):
                await task
        for late in (gate.enter(1), gate.pause(0, outage=False)):
            with pytest.raises(Drained):
                await late

    with_gate(1, use)


def test_retries_go_before_new_requests() -> None:
    async def use(gate: Gate) -> None:
        await gate.enter(1)
        order: list[str] = []

        async def enter(name: str, avoid: int | None) -> None:
            await gate.enter(1, avoid)
            order.append(name)
            gate.leave(0, None)

        tasks = [
            asyncio.create_task(enter(name, avoid))
            for name, avoid in (("new", None), ("newer", None), ("retry", 0))
        ]
        await asyncio.sleep(0)
        gate.leave(0, None)
        await asyncio.gather(*tasks)
        assert order == ["retry", "new", "newer"]

    with_gate(1, use)


def test_while_all_is_refused_retries_wait_behind_the_others() -> None:
    async def run() -> list[str]:
        now, order = 0.0, list[str]()
        gate = Gate(Replicas(1), lambda: now, None, lambda: None)

        async def enter(name: str, avoid: int | None) -> None:
            await gate.enter(1, avoid)
            order.append(name)

        for _ in range(3):
            gate.leave(await gate.enter(1), Outcome(0.0, "busy"))
            now += 10.0
        trial = await gate.enter(1)
        tasks = [asyncio.create_task(enter(*each)) for each in (("new", None), ("retry", 0))]
        await asyncio.sleep(0)
        gate.leave(trial, Outcome(0.0, "busy"))
        now += 10.0
        tasks.append(asyncio.create_task(enter("newest", None)))  # asks again
        await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        return order

    assert asyncio.run(run())[0] == "new"


def test_a_permit_that_nobody_waits_for_any_more_goes_to_the_next() -> None:
    async def use(gate: Gate) -> None:
        await gate.enter(1)
        first = asyncio.create_task(gate.enter(1))
        second = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        first.cancel()
        gate.leave(0, None)
        assert await second == 0
        assert first.cancelled()

    with_gate(1, use)


def test_a_permit_that_came_too_late_goes_to_the_next() -> None:
    async def use(gate: Gate) -> None:
        await gate.enter(1)
        first = asyncio.create_task(gate.enter(1))
        second = asyncio.create_task(gate.enter(1))
        await asyncio.sleep(0)
        gate.leave(0, None)
        first.cancel()
        assert await second == 0

    with_gate(1, use)
