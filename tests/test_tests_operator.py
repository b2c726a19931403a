"""Tests that a model writes: what is kept of an answer."""

from collections import Counter

import pytest

from codesynth.models import Failure, Question, Record
from codesynth.operators import tests as made
from codesynth.operators.chat import ChatTask, Parsed
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
    assert mean([Fraction(1, 2)]) == Fraction(1, 2)

def test_nothing():
    mean([1])
```
"""


def task(num_tests: int = 8, dropped: Counter[str] | None = None) -> ChatTask:
    counter = Counter() if dropped is None else dropped
    template = load_template("instruction_to_tests")
    return made.tests_task(template, "instruction", "tests", num_tests, counter)


def parse(instruction: str = ASKED, answer: str = ANSWER, num_tests: int = 8) -> Parsed:
    parsed = task(num_tests).parse(answer, instruction)
    assert isinstance(parsed, Parsed), parsed
    return parsed


def test_each_test_stands_by_itself_with_the_imports_it_needs() -> None:
    whole = ANSWER.replace("assert mean([1, 2 == 3\n", "").replace(
        "def test_a", "@slow\ndef test_a"
    )
    tests = [
        "assert mean([1, 3]) == 2",
        "import math\nassert math.isclose(mean([0.1, 0.2]), 0.15)",
        """from fractions import Fraction
@slow
def test_a_fraction_is_kept():
    assert mean([Fraction(1, 2)]) == Fraction(1, 2)""",
    ]
    signature = "def mean(values: list[float]) -> float:"
    assert parse(answer=whole).columns == {"tests": tests, "signature": signature}
    assert parse(answer=whole, num_tests=2).columns["tests"] == tests[:2]


def test_what_is_dropped_is_counted_by_reason() -> None:
    dropped: Counter[str] = Counter()
    parsed = task(dropped=dropped).parse(ANSWER, ASKED)
    assert isinstance(parsed, Parsed)
    assert parsed.about == {"tests_dropped": sum(dropped.values())}
    assert dropped == {
        "tests that do not compile": 1,
        "tests without the function's name": 2,
        "tests without an assertion": 1,
    }


def test_the_instruction_s_own_signature_comes_first() -> None:
    signature = "def mean(\n    xs: list[float],\n) -> float:"
    instruction = f'Complete this:\n\n{signature}\n    """Mean."""\n'
    assert parse(instruction).columns["signature"] == signature
    question = task().make_question(Record(0, b"{}", {"instruction": instruction}))
    assert isinstance(question, Question)
    assert f"It is: {signature}" in question.messages[0]["content"]


@pytest.mark.parametrize(
    "code",
    [
        *("def f(x): ...\nassert True", "x = 1", "def f(x): ..."),
        "def f(x): ...\nassert f(1) == 1" + " + 1" * 2_000,
    ],
)
def test_an_answer_without_a_usable_test_is_a_failure(code: str) -> None:
    failure = task().parse(f"```python\n{code}\n```", ASKED)
    assert isinstance(failure, Failure), failure
    assert failure.kind == "no_code"


@pytest.mark.parametrize(
    "rest",
    [
        "\n    return a\n\ndef helper(b):\n    ...",
        '\n    """Do.\n\n    Examples:\n    1\n    """\n',
    ],
)
def test_a_signature_ends_before_the_body(rest: str) -> None:
    assert made.find_signature(f"Write it:\n\ndef f(a):{rest}") == "def f(a):"
    answer = f"```python\n@cache\ndef f(a):{rest}\nassert f(1) == 1\n```"
    expected = {"tests": ["assert f(1) == 1"], "signature": "def f(a):"}
    assert parse("Write f.", answer).columns == expected


def test_a_class_has_a_signature_too() -> None:
    assert made.find_signature("Write it:\nclass Stack(list):\n    ...") == "class Stack(list):"
    assert made.find_signature("In class: write a function that sorts.") is None
