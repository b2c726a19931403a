import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesynth.errors import ConfigError
from codesynth.filters import rouge_index
from codesynth.filters.novelty import NoveltyFilter
from codesynth.filters.rouge_index import RougeIndex, common_subsequence
from codesynth.filters.words import without_names, words
from codesynth.serving.offline.problems import draw

STUB = '''from typing import List


def keep_even(numbers: List[int]) -> List[int]:
    """ Keep the even numbers.
    >>> keep_even([1, 2])
    [2]
    """
'''


def table(a: Sequence[object], b: Sequence[object]) -> int:
    """Tell the length of the longest common subsequence, from the textbook's table."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(row[j], before[j + 1]))
    return row[-1]


def brute_force(texts: Sequence[str], threshold: float) -> list[tuple[float, int] | None]:
    """Judge as the filter does, comparing each text with each accepted one."""
    accepted: list[list[str]] = []
    closest: list[tuple[float, int] | None] = []
    for own in map(words, texts):
        scores = [2 * table(own, each) / ((len(own) + len(each)) or 1) for each in accepted]
        best = max(scores, default=0.0)
        if best >= threshold:
            closest.append((best, scores.index(best)))
        else:
            closest.append(None)
            accepted.append(own)
    return closest


def judge(texts: Sequence[str], threshold: float) -> list[tuple[float, int] | None]:
    """Find the closest accepted text for each, and accept it where there is none."""
    index, found = RougeIndex(threshold), []
    for text in texts:
        found.append(index.closest(words(text)))
        if found[-1] is None:
            index.add(words(text))
    return found


def reasons(novelty: NoveltyFilter, texts: Sequence[str]) -> list[str | None]:
    failures = [novelty.reject(text) for text in texts]
    assert all(failure.kind == "duplicate" for failure in failures if failure)
    return [failure.message if failure else None for failure in failures]


def scrambled(rng: random.Random, text: str) -> str:
    """Replace, drop and swap some words."""
    parts = text.split(" ")
    for _ in range(rng.randrange(len(parts) // 2)):
        i, j = rng.randrange(len(parts)), rng.randrange(len(parts))
        parts[i], parts[j] = rng.choice(((parts[j], parts[i]), ("other", parts[j]), ("", parts[i])))
    return " ".join(parts)


@pytest.mark.parametrize(
    ("threshold", "columns", "block"), [(0.4, 1, 5), (0.6, 7, 1), (0.7, None, None), (0.95, 1, 5)]
)
def test_all_and_only_what_brute_force_finds_is_rejected(
    threshold: float, columns: int | None, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where many words share a column of the index, and where it has many blocks."""
    if columns and block:
        monkeypatch.setattr(rouge_index, "_COLUMNS", columns)
        monkeypatch.setattr(rouge_index, "_TEXTS", block)
    rng = random.Random(1)
    stubs = [draw(rng).stub(rng) for _ in range(12)]
    texts = [stub.partition('"""')[2].partition(">>>")[0] for stub in stubs]
    texts += [scrambled(rng, rng.choice(texts)) for _ in range(24)]
    texts += [f"{text} again" for text in texts[:6]]
    expected = brute_force(texts, threshold)
    assert judge(texts, threshold) == expected
    assert 0 < expected.count(None) < len(texts)


@given(
    st.lists(st.lists(st.sampled_from("abcd"), max_size=9).map(" ".join), max_size=12, unique=True),
    st.sampled_from([0.1, 0.3, 0.5, 0.6, 2 / 3, 0.7, 0.8, 1.0]),
)
def test_short_texts_are_judged_as_by_brute_force(texts: list[str], threshold: float) -> None:
    assert judge(texts, threshold) == brute_force(texts, threshold)


def test_a_score_equal_to_the_threshold_is_never_missed() -> None:
    for common, more, other in itertools.product(range(1, 12, 2), range(9), range(9)):
        threshold = 2 * common / (2 * common + more + other)
        shared = " ".join(f"w{n}" for n in range(common))
        old = " ".join([shared, *(f"x{n}" for n in range(more))])
        new = " ".join([shared, *(f"y{n}" for n in range(other)), "."])
        assert judge([old, new], threshold) == [None, (threshold, 0)]


def test_the_closest_row_of_the_pool_or_of_the_accepted_is_named_and_of_equals_the_first() -> None:
    novelty = NoveltyFilter(0.7, ["pool one", "pool one", "pool three", "a b c x", "a b c y"])
    new = ["new one here", "another text", "ANOTHER  text", "pool\tthree", "Pool One", "a b c z"]
    assert reasons(novelty, new) == [
        *(None, None, "the same as accepted row 2: another text"),
        "the same as pool row 3: pool three",
        "the same as pool row 1: pool one",
        "ROUGE-L 0.75 with pool row 4: a b c x",
    ]
    [close] = reasons(NoveltyFilter(0.7, [STUB]), [STUB.replace("even", "odd")])
    begin = "from typing import List def keep_even(numbers: List[int])"
    assert str(close).startswith(f"ROUGE-L 0.86 with pool row 1: {begin}")
    assert len(str(close)) < 150


@pytest.mark.parametrize("threshold", [None, 1.0])
def test_equal_but_for_space_case_and_name_is_always_a_duplicate(threshold: float | None) -> None:
    for other in (
        STUB.replace("    ", "\t").replace("\n", "\r\n") + "\n\n",
        STUB.upper().replace("DEF ", "def "),
        STUB.replace("keep_even", "evens"),
        STUB.replace("List[int]) -> List[int]", "List[ int ] )->List[int]"),
    ):
        first, second = reasons(NoveltyFilter(threshold), [STUB, other])
        assert first is None
        assert str(second).startswith("the same as accepted row 1: ")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def f(x): return f(x - 1)", "def g(x): return g(x - 1)"),
        ("def flip(s):\n  '''Flip s. >>> flip(1)'''", "def turn(s):\n  '''Flip s. >>> turn(1)'''"),
        ("def to_flip(s):\n  map(to_flip, s)", "def to_turn(s):\n  map(to_turn, s)"),
        ("def a(x): ...\ndef b(x): a(x)", "def c(x): ...\ndef d(x): c(x)"),
        ("`is_odd` is it. def is_odd(n)", "`isOdd` is it. def isOdd(n)"),
        ("pub fn go<T>(x: T) {}", "pub fn run<T>(x: T) {}"),
        ("def größe(x): ...", "def width(x): ..."),
    ],
)
def test_the_names_of_functions_do_not_count(one: str, other: str) -> None:
    assert without_names(one) == without_names(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("def a(x): ...\ndef b(x): a(x)", "def a(x): ...\ndef b(x): b(x)"),
        ("Write a function add(a, b).", "Write a function multiply(a, b)."),
        ("def flip(s): 'Flip or turn?'", "def turn(s): 'Turn or flip?'"),
        ("x = first(y)", "x = last(y)"),
    ],
)
def test_other_names_and_words_count(one: str, other: str) -> None:
    assert without_names(one) != without_names(other)


@given(st.text(st.characters(max_codepoint=127)))
def test_words_are_those_of_rouge_score_for_ascii_also_beside_other_letters(text: str) -> None:
    assert words(f"{text} \u00e9") == [*words(text), "\u00e9"]
    sample = "def has_close_elements(xs: List[float]) -> bool:  # isn't it 2.5e-3?\n\t\x00'A1b2'"
    expected = "def has close elements xs list float bool isn t it 2 5e 3 a1b2"
    assert " ".join(words(sample)) == expected


def test_letters_of_other_scripts_are_compared_one_by_one_however_they_are_composed() -> None:
    one, other = "编写一个函数,返回列表中的最大值", "编写一个函数,返回列表中的最小值"
    assert judge([one, other], 0.7) == [None, (28 / 30, 0)]
    assert words("e\u0301tat") == words("\u00e9tat") == ["\u00e9tat"]


@given(st.text() | st.sampled_from(["", " \n", "+-*/", "\ud800", "\x00", "👍"]))
def test_any_text_repeats_its_equal(text: str) -> None:
    first, other, again = reasons(NoveltyFilter(1.0), [text, f"{text} other things", text])
    assert first is other is None
    assert str(again).startswith("the same as accepted row 1: ")


def test_long_texts_are_compared_by_their_beginning() -> None:
    rng = random.Random(3)
    long = " ".join(f"w{rng.randrange(500)}" for _ in range(rouge_index.MAX_WORDS))
    assert judge([long, f"{long} and more", "short"], 0.9) == [None, (1.0, 0), None]


@given(st.lists(st.integers(0, 5), max_size=80), st.lists(st.integers(0, 5), max_size=80))
def test_the_common_subsequence_is_as_long_as_in_the_table(a: list[int], b: list[int]) -> None:
    assert common_subsequence(a)(b) == table(a, b)


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        NoveltyFilter(threshold)
