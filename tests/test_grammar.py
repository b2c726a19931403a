import ast
import doctest
import itertools
import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.serving.grammar import solve, write_stub
from codesynth.serving.phrases import FOLDS, PARAMETERS, SOURCES, STEPS

# What each phrase says, worked out by hand: (phrase, before, after). One row for each group.
MEANINGS = [
    ("the numbers in the list", [3, 1], [3, 1]),
    ("the sum of each row of the grid", [[1, 2], [], [5]], [3, 0, 5]),
    ("the numbers of the grid row by row", [[1, 2], [], [5]], [1, 2, 5]),
    ("the product of each pair", [(2, 3), (-1, 4)], [6, -4]),
    ("the sum of each pair", [(2, 3), (-1, 4)], [5, 3]),
    ("the dictionary's values in insertion order", {"b": 2, "a": 1}, [2, 1]),
    ("the dictionary's keys in insertion order", {"b": 2, "a": 1}, ["b", "a"]),
    ("the integers from 1 up to n", 3, [1, 2, 3]),
    ("the integers from n down to 1", 3, [3, 2, 1]),
    ("the positive divisors of n in ascending order (none if n is not positive)", 6, [1, 2, 3, 6]),
    (
        "the decimal digits of the number from left to right (ignoring any minus sign)",
        -102,
        [1, 0, 2],
    ),
    ("the strings in the list", ["b", "a"], ["b", "a"]),
    ("the words of the text (cut at white space)", " b  a\n", ["b", "a"]),
    ("the parts of the line between commas (one more part than commas)", "b,,a", ["b", "", "a"]),
    ("the characters of the text", "b a", ["b", " ", "a"]),
    ("keep only those that are even", [-2, -1, 0, 3], [-2, 0]),
    ("keep only those that are odd", [-2, -1, 0, 3], [-1, 3]),
    ("keep only those that are positive", [-1, 0, 2], [2]),
    ("keep only those that are not 0", [-1, 0, 2], [-1, 2]),
    ("keep only those that are divisible by 3", [-3, 0, 4, 9], [-3, 0, 9]),
    ("keep only those that are not divisible by 3", [-3, 0, 4, 9], [4]),
    ("keep only those that are greater than 3", [2, 3, 4], [4]),
    ("keep only those that are less than 4", [3, 4, 5], [3]),
    ("keep only those that are prime", [-7, 0, 1, 2, 3, 4, 9, 11, 25], [2, 3, 11]),
    ("keep only those that are perfect squares", [-4, 0, 1, 2, 9, 15], [0, 1, 9]),
    ("keep only those that have only one decimal digit", [-10, -9, 0, 9, 10], [-9, 0, 9]),
    ("keep only those that exceed the mean of all of them", [1, 2, 3, 6], [6]),
    ("keep only those that have more than 2 characters", ["", "ab", "abc"], ["abc"]),
    ("keep only those that have fewer than 3 characters", ["", "ab", "abc"], ["", "ab"]),
    ("keep only those that have an even number of characters", ["", "a", "ab"], ["", "ab"]),
    ("keep only those that contain 'a'", ["", "bar", "A"], ["bar"]),
    ("keep only those that do not contain 'a'", ["", "bar", "A"], ["", "A"]),
    ("keep only those that end with 'a'", ["", "ab", "ba"], ["ba"]),
    ("keep only those that read the same backwards", ["noon", "Noon", "a"], ["noon", "a"]),
    ("keep only those that contain no upper-case letter", ["a1", "Ab", ""], ["a1", ""]),
    ("keep only those that contain no digit", ["a1", "Ab", ""], ["Ab", ""]),
    ("keep only those that contain no character twice", ["aba", "Aab", ""], ["Aab", ""]),
    ("keep only those that are vowels (a e i o u in either case)", [*"aBU y"], [*"aU"]),
    ("keep only those that are not vowels (a e i o u in either case)", [*"aBU y"], [*"B y"]),
    ("keep only those that are letters", [*"aB1 -"], [*"aB"]),
    ("keep only those that are lower-case letters", [*"aB1 -c"], [*"ac"]),
    ("keep only those that are not white space", [*"a \tb"], [*"ab"]),
    ("keep only those that come after 'a' in code point order", [*"Aab"], ["b"]),
    ("keep only those that come before 'e' in code point order", [*"Zdef"], [*"Zd"]),
    ("keep only those that differ from 'a'", [*"abA"], [*"bA"]),
    ("keep only those that occur more than once", [1, 2, 1, 3], [1, 1]),
    ("keep only those that occur exactly once", [1, 2, 1, 3], [2, 3]),
    ("square each of them", [-2, 3], [4, 9]),
    ("raise each to the third power", [-2, 3], [-8, 27]),
    ("replace each by its absolute value", [-2, 3], [2, 3]),
    ("negate each of them", [-2, 3], [2, -3]),
    ("multiply each by 2", [-2, 3], [-4, 6]),
    ("add 1 to each", [-2, 3], [-1, 4]),
    ("subtract 1 from each", [-2, 3], [-3, 2]),
    ("subtract each from 5", [-2, 3], [7, 2]),
    ("divide each by 2 and round down", [-3, 3], [-2, 1]),
    ("replace each by its non-negative remainder modulo 3", [-1, 5], [2, 2]),
    ("replace each above 3 by 3", [2, 3, 4], [2, 3, 3]),
    ("replace each below 2 by 2", [1, 2, 3], [2, 2, 3]),
    ("negate each odd one", [-3, 2, 3], [3, 2, -3]),
    ("halve each even one", [-4, 3, 6], [-2, 3, 3]),
    ("replace each by the sum of its decimal digits (ignoring any minus sign)", [-12, 304], [3, 7]),
    ("write each in decimal notation (after a minus sign if negative)", [-12], ["-12"]),
    ("write each in binary notation (after a minus sign if negative)", [-5, 0], ["-101", "0"]),
    ("write each in lower-case hexadecimal (after a minus sign if negative)", [255], ["ff"]),
    ("reverse each of them", ["abc", ""], ["cba", ""]),
    ("turn each into upper case", ["aB1"], ["AB1"]),
    ("turn each into lower case", ["aB1"], ["ab1"]),
    ("swap the case of each letter", ["aB1"], ["Ab1"]),
    ("cut each after its first 2 characters", ["abc", "a"], ["ab", "a"]),
    ("remove the first 2 characters of each", ["abc", "a"], ["c", ""]),
    ("replace each by 2 copies of it in one string", ["ab"], ["abab"]),
    ("append '!' to each", ["ab"], ["ab!"]),
    ("put '@' in front of each", ["ab"], ["@ab"]),
    ("replace every 'a' in them by '*'", ["banana"], ["b*n*n*"]),
    ("remove every 'a' from them", ["banana"], ["bnn"]),
    ("sort the characters of each by code point", ["bAab"], ["Aabb"]),
    ("replace each by its number of characters", ["", "abc"], [0, 3]),
    ("replace each by its number of vowels (a e i o u in either case)", ["Apple", "y"], [2, 0]),
    ("replace each by its number of different characters", ["noon", ""], [2, 0]),
    ("replace each by how many 'a' it contains", ["banana", "A"], [3, 0]),
    ("replace every 'a' by '*'", [*"abA"], [*"*bA"]),
    (
        "move each of 'a' to 'z' 2 places on in the alphabet (after 'z' comes 'a')",
        [*"azZ "],
        [*"cbZ "],
    ),
    ("replace each by its code point", [*"aA"], [97, 65]),
    ("replace each by the running total up to and including it", [1, 2, 3], [1, 3, 6]),
    (
        "replace them by the differences of neighbours (each minus the one before it)",
        [1, 5, 3],
        [4, -2],
    ),
    (
        "keep only those that exceed the one directly before them (never the first)",
        [1, 5, 3, 4],
        [5, 4],
    ),
    ("sort them by length (equal lengths stay in order)", ["bb", "c", "aa"], ["c", "bb", "aa"]),
    ("sort them as sorted() does", [3, 1, 2], [1, 2, 3]),
    ("reverse their order", [3, 1, 2], [2, 1, 3]),
    ("drop each that equals an earlier one", [2, 1, 2, 1], [2, 1]),
    ("keep only the first 2 (or all if they are fewer)", [1, 2, 3], [1, 2]),
    ("keep only the last 2 (or all if they are fewer)", [1, 2, 3], [2, 3]),
    ("drop the first 2 (or all if they are fewer)", [1, 2, 3], [3]),
    ("drop the last 2 (or all if they are fewer)", [1, 2, 3], [1]),
    ("keep every second one starting with the first", [1, 2, 3], [1, 3]),
    ("move the first 2 to the end", [1, 2, 3], [3, 1, 2]),
    ("the sum of the resulting numbers (0 if none)", [1, 2], 3),
    ("the product of the resulting numbers (1 if none)", [2, 3], 6),
    ("the largest resulting number (0 if none)", [1, 3, 2], 3),
    ("the smallest resulting number (0 if none)", [2, 1, 3], 1),
    ("the largest minus the smallest resulting number (0 if none)", [2, 1, 4], 3),
    (
        "the first resulting number minus the second plus the third and so on (0 if none)",
        [5, 1, 2],
        6,
    ),
    ("the arithmetic mean of the resulting numbers as a float (0.0 if none)", [1, 2], 1.5),
    (
        "whether the resulting numbers are strictly ascending (True if they are fewer than 2)",
        [1, 1],
        False,
    ),
    ("the resulting strings joined with '/' between them", ["a", "b"], "a/b"),
    ("the longest resulting string (of equals the first, '' if none)", ["a", "bb", "cc"], "bb"),
    ("the shortest resulting string (of equals the first, '' if none)", ["aa", "b", "c"], "b"),
    ("the number of characters in all the resulting strings together", ["a", "bb"], 3),
    ("the resulting characters as text", [*"ab"], "ab"),
    ("the list of the resulting numbers", [2, 1], [2, 1]),
    ("the list that sorted() makes of the resulting numbers", [2, 1], [1, 2]),
    ("the number of the resulting numbers", [2, 2], 2),
    ("the number of different values among the resulting numbers", [2, 2], 1),
    (
        "a dictionary from the resulting numbers in order of appearance to their counts",
        [2, 1, 2],
        {2: 2, 1: 1},
    ),
]

CLAUSES = {
    clause.phrase: clause for group in (*SOURCES, *STEPS, *FOLDS) for clause in reversed(group)
}
STUBS = [write_stub(Random(seed)) for seed in range(300)]
STUB = """\
def sum_of_squared_even_numbers(numbers: list[int]) -> int:
    \"""Take the numbers in the list, keep only those that are even, square each of them, and
    return the sum of the resulting numbers (0 if none).
    >>> sum_of_squared_even_numbers([1, 2, 4])
    20
    \"""
"""


def run_doctests(code: str, stub: str) -> doctest.TestResults:
    """Run the examples of a stub's docstring against code."""
    names: dict[str, Any] = {}
    exec(code, names)
    docstring = stub.split('"""')[1]
    test = doctest.DocTestParser().get_doctest(docstring, names, "stub", None, None)
    return doctest.DocTestRunner().run(test, out=lambda text: None)


@pytest.mark.parametrize(("phrase", "before", "after"), MEANINGS)
def test_code_does_what_its_phrase_says(phrase: str, before: Any, after: Any) -> None:
    clause = CLAUSES[phrase]
    parameter = clause.takes if clause in itertools.chain(*SOURCES) else "values"
    result = eval(clause.code, {parameter: before, "math": math, "itertools": itertools})
    assert result == after
    assert type(result) is type(after)


def test_every_group_of_phrases_has_its_meaning_checked() -> None:
    checked = {phrase for phrase, _, _ in MEANINGS}
    codes = {CLAUSES[phrase].code for phrase in checked}
    for group in (*SOURCES, *STEPS, *FOLDS):
        assert any(clause.phrase in checked or clause.code in codes for clause in group), group


def test_doctests_of_a_stub_hold_under_its_code() -> None:
    for stub in STUBS:
        code = solve(stub)
        assert code is not None
        failed, attempted = run_doctests(code, stub)
        assert not failed, code
        assert 3 <= attempted <= 4


def test_doctests_of_a_stub_fail_under_other_code() -> None:
    assert run_doctests("def sum_of_squared_even_numbers(numbers): return 0", STUB).failed


def test_a_stub_is_python_and_shows_an_edge_case() -> None:
    edges = {repr(edge) for _, _, edge in PARAMETERS.values()}
    for stub in STUBS:
        ast.parse(f"{stub}\n    pass")
        last_call = stub.splitlines()[-3]
        assert last_call[last_call.index("(") + 1 : -1] in edges


def test_stubs_differ_nearly_always() -> None:
    assert len({write_stub(Random(f"n{seed}")) for seed in range(1_000)}) >= 998


def test_the_same_randomness_gives_the_same_stub() -> None:
    assert write_stub(Random(7)) == write_stub(Random(7))


def test_a_stub_is_solved_wherever_it_stands() -> None:
    for stub in STUBS[:20]:
        prompt = f"Write code.\n\n```python\n{stub}\n```\n\ndef is never enough."
        assert solve(prompt) == solve(stub)
        indented = prompt.replace("\n", "\n        ")
        failed, attempted = run_doctests(solve(indented) or "", stub)
        assert attempted
        assert not failed


def test_the_last_of_several_stubs_is_solved() -> None:
    assert solve(f"{STUBS[0]}\n\n{STUBS[1]}\n") == solve(STUBS[1])
    assert solve(f"{STUBS[0]}\n\ndef other(x: int) -> int:\n    pass\n") == solve(STUBS[0])


def test_a_renamed_function_is_solved() -> None:
    stub = STUB.replace("sum_of_squared_even_numbers", "energy")
    assert run_doctests(solve(stub) or "", stub) == (0, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("are even", "are nice"),
        ("the sum of", "the total of"),
        ("keep only", "perhaps keep only"),
        ("Take", "Do not take"),
        ("(0 if none).", "(0 if none). Ignore the first."),
        ("-> int", "-> float"),
        ("numbers: list[int]", "numbers: list[float]"),
        ("numbers: list[int]", "numbers: list[int], start: int"),
        ("def sum_of_squared_even_numbers", "def sum"),
    ],
)
def test_a_stub_in_other_words_is_not_solved(old: str, new: str) -> None:
    assert old in STUB
    assert solve(STUB) is not None
    assert solve(STUB.replace(old, new, 1)) is None


def test_clauses_hold_nothing_that_parts_clauses() -> None:
    for clause in itertools.chain(*SOURCES, *STEPS):
        assert not any(joint in clause.phrase for joint in (", ", "; ", ". ", ": ", " - "))


def test_phrases_are_unambiguous() -> None:
    for table in (SOURCES, STEPS, FOLDS):
        clauses = list(itertools.chain(*table))
        assert len({(clause.takes, clause.phrase) for clause in clauses}) == len(clauses)


@given(
    st.text() | st.lists(st.sampled_from([*STUB.split(), "def f(x: int) -> int:"])).map(" ".join)
)
def test_any_text_is_read_without_harm(text: str) -> None:
    code = solve(text)
    assert code is None or ast.parse(code)
