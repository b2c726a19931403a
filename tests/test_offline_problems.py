from random import Random
from typing import Any

import pytest

from codesynth.serving.offline import problems
from codesynth.serving.offline.problems import draw, read

# What the less plain phrases say, worked out by hand: (phrase, before, after).
MEANINGS = [
    ("the values of the dictionary", {"b": 2, "a": 1}, [2, 1]),
    ("the integers from 1 up to n", 3, [1, 2, 3]),
    ("the positive divisors of n in ascending order (none of 0)", 6, [1, 2, 3, 6]),
    ("the decimal digits of the number", 1020, [1, 0, 2, 0]),
    ("the words of the text (cut at white space)", " b  a\n", ["b", "a"]),
    ("the parts of the line between commas (one more part than commas)", "b,,a", ["b", "", "a"]),
    ("keep only those that are divisible by 3", [-3, 0, 4, 9], [-3, 0, 9]),
    ("keep only those that are greater than 3", [2, 3, 4], [4]),
    ("keep only those that are prime", [-7, 0, 1, 2, 3, 4, 9, 11, 25], [2, 3, 11]),
    ("keep only those that exceed the mean of all of them", [1, 2, 3, 6], [6]),
    ("subtract each from 5", [-2, 3], [7, 2]),
    ("divide each by 2 and round down", [-3, 3], [-2, 1]),
    ("replace each by its non-negative remainder modulo 3", [-1, 5], [2, 2]),
    ("replace each above 3 by 3", [2, 3, 4], [2, 3, 3]),
    ("replace each by the sum of all up to and including it", [1, 2, 3], [1, 3, 6]),
    ("write each in decimal notation (after a minus sign if negative)", [-12], ["-12"]),
    ("write each in binary notation (after a minus sign if negative)", [-5, 0], ["-101", "0"]),
    ("keep only those that read the same backwards", ["noon", "Noon", "a"], ["noon", "a"]),
    ("keep only those that contain no digit", ["a1", "Ab", ""], ["Ab", ""]),
    ("cut each after its first 2 characters", ["abc", "a"], ["ab", "a"]),
    ("replace every 'a' in them by '*'", ["banana"], ["b*n*n*"]),
    ("sort them by length (equal lengths stay in order)", ["bb", "c", "aa"], ["c", "bb", "aa"]),
    ("replace each by how many 'a' it contains", ["banana", "A"], [3, 0]),
    ("drop each that equals an earlier one", [2, 1, 2, 1], [2, 1]),
    ("keep only those that occur more than once", [1, 2, 1, 3], [1, 1]),
    ("keep only the first 2 (or all if they are fewer)", [1, 2, 3], [1, 2]),
    ("the sum of the resulting numbers (0 if none)", [1, 2], 3),
    ("the longest resulting string (of equals the first, '' if none)", ["a", "bb", "cc"], "bb"),
    ("a dictionary from each resulting value to how often it occurs", [2, 1, 2], {2: 2, 1: 1}),
]

CLAUSES = {clause.phrase: clause for clause in problems.CLAUSES}
PROBLEMS = [draw(Random(seed)) for seed in range(300)]
STUBS = [problem.stub(Random(seed)) for seed, problem in enumerate(PROBLEMS)]
PLAIN = [problem.plain() for problem in PROBLEMS]


@pytest.mark.parametrize(("phrase", "before", "after"), MEANINGS)
def test_code_does_what_its_phrase_says(phrase: str, before: Any, after: Any) -> None:
    result = CLAUSES[phrase].apply(before)
    assert result == after
    assert type(result) is type(after)


def test_a_problem_is_read_from_its_words_wherever_they_stand() -> None:
    for problem, stub, plain in zip(PROBLEMS, STUBS, PLAIN, strict=True):
        assert [*read(stub)] == [*read(plain)] == [problem]
        prompt = (
            f"Take care. Write code.\n\n```python\n{stub}\n```\n\nGiven that, return it. Thanks."
        )
        assert [*read(prompt)] == [*read(prompt.replace("\n", "\n        "))] == [problem]
