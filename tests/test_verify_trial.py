"""What verify says about rows: each form of tests, honest code, and code that plays tricks."""

import json
from typing import Any

import pytest
from support.verify import programs, verify

ADD = "def add(a, b):\n    return a + b\n"
SUM = "a, b = map(int, input().split())\nprint(a + b)\n"
METHOD = "class Solution:\n    def add(self, a, b):\n        return a + b\n"
CHECK = """\
def check(candidate):
    assert candidate(1, 2) == 3
    assert candidate(1, 1) == 3
    for i in range(9):
        assert candidate(i, i) == 2 * i
"""
UNITTEST = """\
import unittest

class TestAdd(unittest.TestCase):
    def test_a(self):
        add(1, None)
    def test_b(self):
        self.assertEqual(add(1, 1), 3)
    def test_c(self):
        self.assertEqual(add(1, 1), 2)
"""
PYTEST = """\
import pytest

@pytest.mark.parametrize("a", [1, 2, None])
def test_add(a):
    assert add(a, 1) == 2
"""
BACKWARDS = """\
import os, sys
open("backwards.py", "w").write("def pytest_collection_modifyitems(items): items.reverse()")
sys.path.append(os.getcwd())
os.environ["PYTEST_PLUGINS"] = "backwards"
"""
TWO_OF_ONE_NAME = [f"def test_a():\n    assert add(1, 2) == {n}" for n in (3, 4)]
ASSERTS = ["assert add(1, 2) == 3", "assert add(1, 1) == 3", "assert add(0, 0) == 0"]
PAIRS = {"inputs": ["1 2\n", "3 4"], "outputs": ["3\n", "8"]}
LINES = {"inputs": [["1 2"]], "outputs": [["3"]]}
GUARDED = SUM + "import sys\nif __name__ == '__main__':\n    sys.exit(0)\n"
LATE = """\
import atexit, io, os, sys
sys.stdout = io.StringIO()
atexit.register(lambda: os.write(1, sys.stdout.getvalue().encode()))
print(sum(map(int, open(0).read().split())))
"""
EXITS = "import os\ndef f(x):\n    return x if x < 2 else os._exit(0)\n"
LIVE = [{"input": "1 2", "output": "3", "testtype": "stdin"}, {"input": "1 1", "output": "2.0"}]
CALLS = {"fn_name": "add", "inputs": [[1, 2], [1, 1]], "outputs": [3, 3]}
METHODS = {"fn_name": "add", "inputs": [[[1], [2]]], "outputs": [[1, 2]]}
LIVE_CALLS = [{"input": "[1]\n[2]", "output": "[1, 2]", "testtype": "functional"}]
FORMS: dict[str, tuple[str, str, object, dict[str, Any]]] = {
    # name: (results, code, tests, other columns)
    "asserts": (".F.", ADD, "\n".join(ASSERTS), {}),
    "list of asserts": (".F.", ADD, ASSERTS, {}),
    "set-up code (MBPP)": (".", ADD, ["assert add(*x) == 3"], {"test_setup_code": "x = 1, 2"}),
    "two tests of one name": (".F", ADD, TWO_OF_ONE_NAME, {}),
    "check of HumanEval": (".F.", ADD, CHECK, {"entry_point": "add"}),
    "unittest": ("EF.", ADD, UNITTEST, {}),
    "pytest": (".FE", ADD, PYTEST, {}),
    "pytest with a plugin that changes the order": (".FE", ADD + BACKWARDS, PYTEST, {}),
    "input and output (APPS)": (".F", SUM, PAIRS, {}),
    "the same as JSON": (".F", SUM, json.dumps(PAIRS), {}),
    "lists of lines": (".", SUM, LINES, {}),
    "input and output (LiveCodeBench)": ("..", GUARDED, LIVE, {}),
    "output that is written at the exit": (".F", LATE, PAIRS, {}),
    "calls of a function": (".F", ADD, CALLS, {}),
    "calls of what is missing": ("EE", "x = 1", CALLS, {}),
    "calls of a method": (".", METHOD, METHODS, {}),
    "calls by LiveCodeBench": (".", METHOD, LIVE_CALLS, {"metadata": '{"func_name": "add"}'}),
    "an end in the middle": (".E", EXITS, [f"assert f({n}) == {n}" for n in (1, 2, 3)], {}),
    "pairs that raise": ("EE", "print(1 / 0)", PAIRS, {}),
}
HONEST = programs("honest.txt")
CODES = ("x = '\0'", "x = '\ud800'", "(" * 5000)
STATUSES = programs("statuses.txt")
STATUSES |= {f"syntax_error: {code[:9]!a}": {"generated_code": code} for code in CODES}
ESCAPES = {"generated_code": r"raise ValueError('\x1b[2J\u202epassed\x9b31m\u2028\ud800')"}
FORMLESS = [{"a": 1}, [1], 7, {"inputs": ["1"], "outputs": []}, [{"input": "1"}]]


@pytest.fixture(scope="module")
def verdicts() -> dict[str, dict[str, Any]]:
    rows: dict[str, Any] = {
        name: {"generated_code": c, "test": t, **more} for name, (_, c, t, more) in FORMS.items()
    }
    rows |= HONEST | STATUSES | {"escapes": ESCAPES}
    rows |= {str(test): {"generated_code": ADD, "test": test} for test in FORMLESS}
    return dict(zip(rows, verify(rows.values()), strict=True))


@pytest.mark.parametrize("name", FORMS)
def test_each_test_has_a_letter_in_every_form(verdicts: dict[str, Any], name: str) -> None:
    verdict, letters = verdicts[name], FORMS[name][0]
    assert verdict["results"] == letters, verdict
    assert verdict["tests_run"] == len(letters)
    assert verdict["tests_passed"] == letters.count(".")
    first = letters.strip(".")[:1]
    assert verdict["status"] == {"": "passed", "F": "failed", "E": "error"}[first]


@pytest.mark.parametrize("name", HONEST)
def test_right_code_passes_whatever_its_tests_do_with_it(
    verdicts: dict[str, Any], name: str
) -> None:
    verdict = verdicts[name]
    assert (verdict["status"], verdict["message"]) == ("passed", "")
    assert verdict["tests_run"] == verdict["tests_passed"] > 0


@pytest.mark.parametrize("name", STATUSES)
def test_status_of(verdicts: dict[str, Any], name: str) -> None:
    assert verdicts[name]["status"] == name.partition(": ")[0], verdicts[name]


def test_the_message_quotes_what_failed(verdicts: dict[str, Any]) -> None:
    assert verdicts["asserts"]["message"] == "assert add(1, 1) == 3: AssertionError"
    assert verdicts["calls of what is missing"]["message"].endswith("has no attribute 'add'")
    assert verdicts["unittest"]["message"].startswith("add(1, None): TypeError: unsupported")
    name = "failed: doctest_of_a_stub_that_does_not_hold"
    assert verdicts[name]["message"] == "AssertionError: >>> double(2) expected 4, got 6"
    words = "AssertionError: input '3 4': expected '8', got '7\\n'"
    assert verdicts["input and output (APPS)"]["message"] == words


def test_a_message_shows_what_a_terminal_would_obey(verdicts: dict[str, Any]) -> None:
    words = r"ValueError: \x1b[2J\u202epassed\x9b31m \ud800"
    assert verdicts["escapes"]["message"] == words


def test_tests_of_no_known_form_are_a_failure_of_the_row(verdicts: dict[str, Any]) -> None:
    assert {verdicts[str(test)]["kind"] for test in FORMLESS} == {"not_a_string"}
