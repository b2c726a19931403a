"""What a run may cost."""

import random

from codesynth.models import Price, Usage
from codesynth.serving.limits.budget import Budget

PRICE = Price(1.0, 4.0)
BODY = b"x" * 400


def test_until_an_answer_is_there_one_request_is_let_through() -> None:
    budget = Budget(PRICE, 1.0)
    assert budget.reserve(BODY) is not None
    assert budget.reserve(BODY) is None


def test_the_limit_is_nearly_spent_and_not_passed() -> None:
    budget, chance = Budget(PRICE, 0.1), random.Random(2)
    while (reserved := budget.reserve(BODY)) is not None:
        usage = Usage(100, int(chance.uniform(100, 300)))
        budget.settle(reserved, BODY, usage, billed=True)
    assert 0.095 <= budget.spent <= 0.1


def test_what_is_in_flight_counts() -> None:
    budget = Budget(PRICE, 0.01, max_tokens=1000)
    reserved = [budget.reserve(BODY), budget.reserve(BODY)]
    assert budget.reserve(BODY) is None
    assert reserved[0] is not None
    budget.settle(reserved[0], BODY, Usage(100, 10), billed=True)
    assert budget.reserve(BODY) is not None


def test_a_refused_request_costs_nothing_and_one_of_unknown_cost_what_was_set_aside() -> None:
    budget = Budget(PRICE, 1.0, max_tokens=1000)
    for billed in (False, True):
        reserved = budget.reserve(BODY)
        assert reserved is not None
        budget.settle(reserved, BODY, None, billed=billed)
        assert budget.spent == (reserved if billed else 0.0)
        assert budget.is_idle
    assert budget.spent > 0.004


def test_earlier_runs_of_the_job_count() -> None:
    budget = Budget(PRICE, 0.5, earlier=Usage(0, 125_000), max_tokens=10)
    assert budget.spent == 0.5
    assert budget.reserve(BODY) is None
