"""What a whole job would take, by some of its rows."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.estimate import Estimate, is_spread
from codesynth.models import Answer, Price, Record, Request, Response, Usage

REQUEST = Request(Record(0, b"{}", {}), 0, b"{}")


def response(prompt: int, completion: int, reasoning: int = 0, seconds: float = 1.0) -> Response:
    usage = Usage(prompt, completion, reasoning)
    return Response(REQUEST, b"", Answer("x", usage=usage), attempts=1, seconds=seconds)


@given(total=st.integers(1, 500), data=st.data())
def test_the_rows_are_spread_evenly_and_are_as_many_as_asked_for(
    total: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, total))
    chosen = [number for number in range(total) if is_spread(number, count, total)]
    assert len(chosen) == count
    gaps = {b - a for a, b in itertools.pairwise(chosen)}
    assert max(gaps, default=0) - min(gaps, default=0) <= 1


def test_totals_ranges_and_money_are_told() -> None:
    now = iter([100.0, 110.0])
    estimate = Estimate(1000, Price(1.0, 2.0), clock=lambda: next(now))
    for completion in (90, 110, 100, 100):
        estimate.note(response(50, completion, reasoning=40))
    head, prompt, answers, reasoning, seconds, money = estimate.lines()
    assert head == "for 1,000 rows, estimated from 4 answers:"
    assert prompt.split() == ["prompt", "tokens", "50,000", "(50,000", "to", "50,000)"]
    assert answers.split()[2:] == ["100,000", "(91,835", "to", "108,165)"]
    assert "40,000" in reasoning
    assert "41m40s" in seconds  # 4 rows took 10 s
    assert money.split()[1] == "0.2500"


@pytest.mark.parametrize("usage", [None, Usage()])
def test_an_endpoint_that_tells_no_usage_gives_no_estimate(usage: Usage | None) -> None:
    estimate = Estimate(10)
    estimate.note(Response(REQUEST, b"", Answer("x", usage=usage)))
    assert ("nothing can be estimated" in estimate.lines()[0]) == (usage is None)
