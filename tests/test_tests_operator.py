"""Tests that a model writes: what is kept of an answer."""

from collections import Counter

import pytest

from codesynth.models import Failure, Record
from codesynth.operators import tests as made
from codesynth.operators.chat import Operator, Parsed
from codesynth.operators.templates import load_template

ASKED = "Return the mean of a list of numbers."
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
    assert mean([Fraction(1, 2)]) == Fraction(1, 2)  # not 0.5

def test_nothing():
    mean([1])
```
"""


def operator(num_tests: int = 8, dropped: Counter[str] | None = None) -> Operator:
    counter = Counter() if dropped is None else dropped
    template = load_template("instruction_to_tests")
    return made.tests_operator(template, "instruction", "tests", num_tests, counter)


def parse(instruction: str = ASKED, num_tests: int = 8) -> Parsed:
    parsed = operator(num_tests).parse(ANSWER, instruction)
    assert isinstance(parsed, Parsed), parsed
    return parsed


def test_each_test_stands_by_itself_with_the_imports_it_needs() -> None:
    assert parse().columns == {
        "tests": [
            "assert mean([1, 3]) == 2",
            "import math\nassert math.isclose(mean([0.1, 0.2]), 0.15)",
            (
                "from fractions import Fraction\ndef test_a_fraction_is_kept():\n"
                "    assert mean([Fraction(1, 2)]) == Fraction(1, 2)  # not 0.5"
            ),
        ],
        "signature": "def mean(values: list[float]) -> float:",
    }
    assert len(parse(num_tests=2).columns["tests"]) == 2


def test_a_test_keeps_its_decorators() -> None:
    test = "@slow\ndef test_it():\n    assert f() == 1"
    parsed = operator().parse(f"```python\ndef f(): ...\n\n{test}\n```", ASKED)
    assert isinstance(parsed, Parsed)
    assert parsed.columns["tests"] == [test]


def test_what_is_dropped_is_counted_by_reason() -> None:
    dropped: Counter[str] = Counter()
    parsed = operator(dropped=dropped).parse(ANSWER, ASKED)
    assert isinstance(parsed, Parsed)
    assert parsed.about == {"tests_dropped": 4}
    assert dropped == {
        "tests that do not compile": 1,
        "tests without the function's name": 2,
        "tests without an assertion": 1,
    }


def test_the_instruction_s_own_signature_comes_first() -> None:
    signature = "def mean(\n    xs: list[float],\n) -> float:"
    instruction = f'Complete this:\n\n{signature}\n    """Mean."""\n'
    assert parse(instruction).columns["signature"] == signature
    prompt = operator().prompt(Record(0, b"{}", {"instruction": instruction}))
    assert isinstance(prompt, str)
    assert f"It is: {signature}" in prompt


@pytest.mark.parametrize("code", ["def f(x): ...\nassert True", "x = 1", "def f(x): ..."])
def test_an_answer_without_a_usable_test_is_a_failure(code: str) -> None:
    failure = operator().parse(f"```python\n{code}\n```", ASKED)
    assert isinstance(failure, Failure), failure
    assert failure.kind == "no_code"


def test_a_class_has_a_signature_too() -> None:
    assert made.find_signature("Write it:\nclass Stack(list):\n    ...") == "class Stack(list):"
    assert made.find_signature("In class: write a function that sorts.") is None
