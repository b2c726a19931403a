"""Tests that a model writes: what is kept of an answer."""

from collections import Counter

from codesynth.models import Failure, Record
from codesynth.operators import tests as made
from codesynth.operators.chat import Parsed

ANSWER = """Here are the tests:

```python
import math
from fractions import Fraction

def mean(values: list[float]) -> float: ...

assert mean([1, 3]) == 2
assert mean([1, 3]) == 2
assert math.isclose(mean([0.1, 0.2]), 0.15)
assert mean([1, 2 == 3
assert True
assert average([1]) == 1

def test_a_fraction_is_kept():
    assert mean([Fraction(1, 2)]) == Fraction(1, 2)

def test_nothing():
    mean([1])
```
"""


def operator(num_tests: int = 8) -> made.TestsOperator:
    return made.TestsOperator(made.tests_template(None, ""), num_tests=num_tests, dropped=Counter())


def row(instruction: str = "Return the mean of a list of numbers.") -> Record:
    return Record(0, b"{}", {"instruction": instruction})


def parse(answer: str, record: Record, num_tests: int = 8) -> Parsed:
    parsed = operator(num_tests).parse(answer, record)
    assert isinstance(parsed, Parsed), parsed
    return parsed


def test_each_test_stands_by_itself_with_the_imports_it_needs() -> None:
    parsed = parse(ANSWER, row())
    assert parsed.columns == {
        "generated_tests": [
            "assert mean([1, 3]) == 2",
            "import math\nassert math.isclose(mean([0.1, 0.2]), 0.15)",
            (
                "from fractions import Fraction\ndef test_a_fraction_is_kept():\n"
                "    assert mean([Fraction(1, 2)]) == Fraction(1, 2)"
            ),
        ],
        "signature": "def mean(values: list[float]) -> float:",
    }


def test_what_is_dropped_is_counted_by_reason() -> None:
    asked = operator()
    parsed = asked.parse(ANSWER, row())
    assert isinstance(parsed, Parsed)
    assert parsed.about == {"tests_dropped": 4}
    assert asked.dropped == {
        "tests that do not compile": 1,
        "tests without the function's name": 2,
        "tests without an assertion": 1,
    }


def test_no_more_tests_are_kept_than_were_asked_for() -> None:
    assert len(parse(ANSWER, row(), num_tests=2).columns["generated_tests"]) == 2


def test_the_instruction_s_own_signature_comes_first() -> None:
    record = row(
        'Complete this:\n\ndef mean(\n    xs: list[float],\n) -> float:\n    """Mean."""\n'
    )
    assert (
        parse(ANSWER, record).columns["signature"] == "def mean(\n    xs: list[float],\n) -> float:"
    )
    prompt = operator().prompt(record)
    assert isinstance(prompt, str)
    assert "It is: def mean(" in prompt


def test_an_answer_without_a_usable_test_is_a_failure() -> None:
    for answer in (
        "I cannot.",
        "```python\ndef f(x): ...\nassert True\n```",
        "```python\nx = 1\n```",
    ):
        failure = operator().parse(answer, row())
        assert isinstance(failure, Failure), failure
        assert failure.kind == "no_code"


def test_a_class_has_a_signature_too() -> None:
    assert made.find_signature("Write it:\nclass Stack(list):\n    ...") == "class Stack(list):"
    assert made.find_signature("In class: write a function that sorts.") is None
