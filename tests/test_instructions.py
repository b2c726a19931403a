"""Which rows of a pool are the examples of a prompt."""

from collections import Counter

import pytest

from codesynth.errors import ConfigError
from codesynth.operators.instructions import fill_examples, sample
from codesynth.operators.templates import Template


def test_examples_depend_on_seed_and_number_alone_and_are_drawn_evenly() -> None:
    parts = [(range(10), 4)]
    samples = [sample(3, i, parts) for i in range(500)]
    assert all(len(set(chosen)) == 4 for chosen in samples)
    assert [sample(3, i, parts) for i in reversed(range(500))] == samples[::-1]
    assert sample(4, 0, parts) != samples[0]
    drawn = Counter(n for chosen in samples for n in chosen)
    assert all(150 < drawn[n] < 250 for n in range(10))


def test_from_several_parts_they_come_in_mixed_order() -> None:
    choices = [sample(3, i, [(range(10), 3), (range(10, 20), 1)]) for i in range(1000)]
    assert all(len(set(chosen)) == 4 and sum(n < 10 for n in chosen) == 3 for chosen in choices)
    drawn = Counter(n for chosen in choices for n in chosen)
    assert all(250 < drawn[n] < 350 for n in range(10))
    assert all(60 < drawn[n] < 140 for n in range(10, 20))
    generated_at = Counter(next(p for p, n in enumerate(chosen) if n >= 10) for chosen in choices)
    assert all(200 < generated_at[p] < 300 for p in range(4))


def test_the_choice_is_the_same_in_each_version() -> None:
    """Else the answers in a journal would no longer fit."""
    assert sample(3, 0, [(range(10), 4)]) == [9, 8, 1, 2]
    assert sample(3, 0, [(range(10), 3), (range(10, 20), 1)]) == [1, 15, 8, 9]


def test_a_template_may_have_no_placeholder_but_examples() -> None:
    template = Template.parse("\n{examples} {task}", "t.txt")
    words = r"t\.txt:2: unknown placeholder \{task\}; known: \{examples\}"
    with pytest.raises(ConfigError, match=words):
        fill_examples(template)
