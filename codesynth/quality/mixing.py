"""Few-shot examples from two pools: written by people, and made by a model."""

import random


def mix(seed: int, i: int, human: int, machine: int, ratio: tuple[int, int]) -> list[int]:
    """Choose the few-shot examples of prompt ``i``: so many of each pool, none twice, shuffled.

    Numbers below ``human``, the size of the pool of people's rows, are its rows; the ``machine``
    numbers from there on are the rows of the other pool, so both may be chained to one.
    Self-instruct (https://arxiv.org/abs/2212.10560) takes 6 and 2.

    A function of its arguments alone. So the machine-made pool has to be whole before the first
    prompt: the output of an earlier run, not what this run makes as it goes, which would make a
    prompt depend on which answers came before it. A loop over runs, each with the rows of those
    before it, is self-instruct's loop in batches.

    Raises:
        ValueError: a pool is smaller than what is to be taken from it.

    >>> chosen = mix(1, 0, human=164, machine=1000, ratio=(6, 2))
    >>> sum(n < 164 for n in chosen), len(set(chosen)), chosen == mix(1, 0, 164, 1000, (6, 2))
    (6, 8, True)
    """
    rng = random.Random(f"{seed}:{i}")  # noqa: S311 - not for secrets
    chosen = rng.sample(range(human), ratio[0])
    chosen += rng.sample(range(human, human + machine), ratio[1])
    rng.shuffle(chosen)
    return chosen
