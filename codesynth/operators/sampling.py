"""Which rows of a pool are the examples of a prompt."""

import random


def sample(seed: int, i: int, size: int, k: int) -> list[int]:
    """Choose the examples of prompt ``i``: ``k`` of ``size``, none twice.

    A function of its arguments alone, so neither concurrency nor restarts nor shards change it.

    >>> sample(1, 0, 164, 3) == sample(1, 0, 164, 3)
    True
    """
    return random.Random(f"{seed}:{i}").sample(range(size), k)  # noqa: S311 - not for secrets


def mix(seed: int, i: int, human: int, generated: int, ratio: tuple[int, int]) -> list[int]:
    """Choose the examples of prompt ``i`` from two pools, none twice, in mixed order.

    Self-instruct (https://arxiv.org/abs/2212.10560) takes 6 human-written ones and 2 generated.
    It is a function of its arguments alone, so the generated pool must be complete before the
    first prompt: the output of an earlier run.

    Args:
        human: size of the first pool, whose rows have the numbers below it.
        generated: size of the second pool, whose rows have the numbers from there on.
        ratio: how many to take from each.

    Raises:
        ValueError: a pool is smaller than what is to be taken from it.

    >>> chosen = mix(1, 0, human=164, generated=1000, ratio=(6, 2))
    >>> sum(n < 164 for n in chosen), len(set(chosen))
    (6, 8)
    """
    rng = random.Random(f"{seed}:{i}")  # noqa: S311 - not for secrets
    chosen = rng.sample(range(human), ratio[0])
    chosen += rng.sample(range(human, human + generated), ratio[1])
    rng.shuffle(chosen)
    return chosen
