from collections import Counter

import pytest

from codesynth.operators.sampling import mix, sample


def test_a_sample_takes_no_row_twice_and_depends_on_seed_and_number_alone() -> None:
    samples = [sample(3, i, 10, 4) for i in range(500)]
    assert all(len(set(chosen)) == 4 for chosen in samples)
    assert [sample(3, i, 10, 4) for i in reversed(range(500))] == samples[::-1]
    assert sample(4, 0, 10, 4) != samples[0]
    drawn = Counter(n for chosen in samples for n in chosen)
    assert all(150 < drawn[n] < 250 for n in range(10))


def test_examples_are_mixed_in_the_ratio_and_none_is_taken_twice() -> None:
    for i in range(50):
        chosen = mix(1, i, 20, 5, (6, 2))
        assert len(set(chosen)) == 8
        assert sum(n < 20 for n in chosen) == 6
        assert max(chosen) < 25


def test_a_mix_depends_on_seed_and_number_alone_and_draws_all_rows_evenly() -> None:
    choices = [mix(3, i, 10, 10, (3, 1)) for i in range(1000)]
    assert [mix(3, i, 10, 10, (3, 1)) for i in reversed(range(1000))] == choices[::-1]
    assert mix(4, 0, 10, 10, (3, 1)) != choices[0]
    drawn = Counter(n for chosen in choices for n in chosen)
    assert all(250 < drawn[n] < 350 for n in range(10))
    assert all(60 < drawn[n] < 140 for n in range(10, 20))
    generated_at = Counter(next(p for p, n in enumerate(chosen) if n >= 10) for chosen in choices)
    assert all(200 < generated_at[p] < 300 for p in range(4))


@pytest.mark.parametrize("ratio", [(4, 0), (0, 3)])
def test_a_pool_too_small_for_the_ratio_is_an_error(ratio: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="larger than population"):
        mix(1, 0, 3, 2, ratio)
