"""Refusals by luck are told from refusals by load."""

from collections.abc import Callable
from random import Random

import pytest
from simulation import concurrency_limit, flaky, lognormal, simulate, steady, unlimited

from codesynth.serving.limiter import Limiter
from codesynth.serving.luck import Luck


def judged(refuses: Callable[[float, float], bool], rates: tuple[float, ...]) -> bool:
    """Send 600 requests at each rate, requests a second; tell what is found at the end."""
    luck, now, found = Luck(), 0.0, False
    for rate in rates:
        for _ in range(600):
            now += 1 / rate
            luck.sent(now)
            luck.note(refused=refuses(now, rate))
            found = found or luck.decides
    return found


def test_a_share_that_does_not_fall_with_the_load_is_luck() -> None:
    for share in (0.05, 0.2, 0.4):
        rng = Random(f"luck {share}")
        assert judged(lambda now, rate, share=share, rng=rng: rng.random() < share, (500, 20))


def test_a_share_that_falls_with_the_load_is_none() -> None:
    rng = Random("load")
    assert not judged(lambda now, rate: rng.random() < (0.3 if rate > 100 else 0.02), (500, 20))


def test_an_outage_is_no_luck() -> None:
    assert not judged(lambda now, rate: True, (500, 20, 1))


def test_clusters_of_refusals_are_no_luck() -> None:
    assert not judged(lambda now, rate: now % 10 < 1, (500, 20))


def test_a_growing_share_is_looked_at_again() -> None:
    rng, luck, now = Random("grows"), Luck(), 0.0
    for rate, share in ((500, 0.1), (20, 0.1)):
        for _ in range(600):
            now += 1 / rate
            luck.sent(now)
            luck.note(refused=rng.random() < share)
    assert luck.decides
    for _ in range(200):
        now += 0.002
        luck.sent(now)
        luck.note(refused=rng.random() < 0.9)
    assert not luck.decides


@pytest.mark.parametrize("seed", range(6))
def test_one_refusal_in_a_hundred_costs_little(seed: int) -> None:
    luck = flaky(unlimited(lognormal(1.0)), 0.01, "overload", 89.0, seed)
    run = simulate(Limiter(maximum=256), luck, 60)
    assert run.ok >= 0.85 * 60 * 256


def test_random_refusals_do_not_hide_a_limit() -> None:
    endpoint = flaky(concurrency_limit(lognormal(1.0), steady(64)), 0.01, "overload", 0.0)
    run = simulate(Limiter(), endpoint, 60)
    assert run.ok >= 0.9 * 60 * 64
    assert run.refused_share < 0.03
